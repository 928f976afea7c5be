#include "udpgate/redis/internal/session_calls.h"

#include <algorithm>
#include <iterator>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "udpgate/internal/util/unshared_status.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

constexpr char kFirstCursor[] = "0";
// Longer than the text of a client and than an escaped gateway id.
constexpr size_t kMemberBytesMax = 256;
// A page may be empty, so the number of members limits nothing.
constexpr size_t kPagesMin = 10'000;

class SetWalk : public std::enable_shared_from_this<SetWalk> {
 public:
  SetWalk(SessionPipe* pipe, SetWalkOptions options, OnSetPage on_page,
          CommandGroup::Done done)
      : options_(std::move(options)),
        pages_left_(std::max(kPagesMin, options_.members_max)),
        on_page_(std::move(on_page)),
        group_(std::make_shared<CommandGroup>(pipe, std::move(done))) {}

  void Begin() {
    std::vector<SessionCommand> commands;
    commands.push_back(Page(kFirstCursor));
    group_->Submit(std::move(commands));
  }

 private:
  SessionCommand Page(const std::string& cursor) {
    return SetPageCommand(
        options_, cursor,
        [self = shared_from_this()](SetPage page) { self->Take(&page); });
  }

  // The next page is read together with what this one makes necessary.
  void Take(SetPage* page) {
    if (group_->has_failed()) return;
    members_ += page->members.size();
    --pages_left_;
    const bool is_last = page->cursor == kFirstCursor;
    if (members_ > options_.members_max || (pages_left_ == 0 && !is_last)) {
      group_->Fail(absl::ResourceExhaustedError(absl::StrCat(
          "more than ", options_.members_max, " members to: ", options_.what)));
      return;
    }
    std::vector<SessionCommand> commands = on_page_(std::move(page->members));
    if (!is_last) commands.push_back(Page(page->cursor));
    if (!commands.empty()) group_->Submit(std::move(commands));
  }

  const SetWalkOptions options_;
  size_t pages_left_;
  size_t members_ = 0;
  OnSetPage on_page_;
  const std::shared_ptr<CommandGroup> group_;
};

}  // namespace

SessionCommand ScriptCommand(absl::string_view what, const char* script,
                             std::vector<std::string> keys,
                             std::vector<std::string> arguments,
                             size_t records) {
  SessionCommand command;
  command.what = what;
  command.records = records;
  command.arguments.reserve(3 + keys.size() + arguments.size());
  command.arguments.emplace_back("EVAL");
  command.arguments.emplace_back(script);
  command.arguments.push_back(absl::StrCat(keys.size()));
  for (std::vector<std::string>* part : {&keys, &arguments}) {
    std::move(part->begin(), part->end(),
              std::back_inserter(command.arguments));
  }
  return command;
}

void CommandGroup::Submit(std::vector<SessionCommand> commands) {
  const size_t count = commands.size();
  pending_ += count;
  for (SessionCommand& command : commands) {
    command.done = [self = shared_from_this(), read = std::move(command.done)](
                       absl::StatusOr<const redisReply*> reply) mutable {
      absl::Status status = reply.status();
      const bool is_valid = read(std::move(reply));
      if (!is_valid) {
        status = absl::UnavailableError("Redis sent an unexpected reply");
      }
      self->End(std::move(status));
      return is_valid;
    };
  }
  absl::Status status = pipe_->Submit(std::move(commands));
  if (status.ok()) return;
  pending_ -= count - 1;
  End(std::move(status));
}

void CommandGroup::End(absl::Status status) {
  if (status_.ok()) status_ = std::move(status);
  if (--pending_ == 0) done_(std::move(status_));
}

SessionCommand SetPageCommand(const SetWalkOptions& options,
                              const std::string& cursor,
                              absl::AnyInvocable<void(SetPage)> on_page) {
  SessionCommand command;
  command.what = options.what;
  command.arguments = {"SSCAN", options.key, cursor, "COUNT",
                       absl::StrCat(options.page_members)};
  command.done = [on_page = std::move(on_page)](
                     absl::StatusOr<const redisReply*> reply) mutable {
    if (!reply.ok()) return true;
    SetPage page;
    if (!ReadSetPage(**reply, kMemberBytesMax, &page)) return false;
    on_page(std::move(page));
    return true;
  };
  return command;
}

void WalkSet(SessionPipe* pipe, SetWalkOptions options, OnSetPage on_page,
             CommandGroup::Done done) {
  std::make_shared<SetWalk>(pipe, std::move(options), std::move(on_page),
                            std::move(done))
      ->Begin();
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
