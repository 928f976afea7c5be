// Puts calls of a SessionStore together from commands.
#ifndef UDPGATE_REDIS_INTERNAL_SESSION_CALLS_H_
#define UDPGATE_REDIS_INTERNAL_SESSION_CALLS_H_

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "udpgate/redis/internal/session_pipe.h"
#include "udpgate/redis/internal/session_replies.h"

namespace udpgate {
namespace redis {
namespace internal {

// A command that runs a script.
SessionCommand ScriptCommand(absl::string_view what, const char* script,
                             std::vector<std::string> keys,
                             std::vector<std::string> arguments,
                             size_t records);

// A call that is made of several commands. Threads: one at a time.
class CommandGroup : public std::enable_shared_from_this<CommandGroup> {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;

  // `done` is called once, after the last command, with the first error. `pipe`
  // must outlive the commands.
  CommandGroup(SessionPipe* pipe, Done done)
      : pipe_(pipe), done_(std::move(done)) {}

  // Sends the commands. If they are refused, the group has failed. May be
  // called again before the last `done` of a command has returned.
  void Submit(std::vector<SessionCommand> commands);

  // The group has failed; the commands that are under way are awaited.
  void Fail(absl::Status why) {
    if (status_.ok()) status_ = std::move(why);
  }
  bool has_failed() const { return !status_.ok(); }

 private:
  // `done` of a command has returned.
  void End(absl::Status status);

  SessionPipe* const pipe_;
  Done done_;
  size_t pending_ = 0;
  absl::Status status_;
};

struct SetWalkOptions {
  std::string key;
  absl::string_view what;     // a literal
  size_t members_max = 1;     // more are an error
  size_t page_members = 512;  // about
};

// Called with each page; returns the commands that it makes necessary. A member
// may come twice.
using OnSetPage =
    absl::AnyInvocable<std::vector<SessionCommand>(std::vector<std::string>)>;

// Reads a set in pages.
void WalkSet(SessionPipe* pipe, SetWalkOptions options, OnSetPage on_page,
             CommandGroup::Done done);

// One page of a walk.
SessionCommand SetPageCommand(const SetWalkOptions& options,
                              const std::string& cursor,
                              absl::AnyInvocable<void(SetPage)> on_page);

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_SESSION_CALLS_H_
