#include "udpgate/redis/internal/session_cleaner.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "udpgate/redis/internal/session_scripts.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

constexpr int64_t kIntervalNanoseconds = 1'000'000'000;
// 50,000 clients take three to four minutes.
constexpr size_t kPageMembers = 256;

}  // namespace

std::vector<SessionCommand> CleanIndexCommands(
    const SessionKeys& keys, const std::string& gateway_id,
    const std::vector<std::string>& clients, std::atomic<uint64_t>* removed) {
  std::vector<SessionCommand> commands;
  for (size_t begin = 0; begin < clients.size(); begin += kRecordsPerScript) {
    const size_t end = std::min(begin + kRecordsPerScript, clients.size());
    std::vector<std::string> names = {keys.Index(gateway_id)};
    for (size_t i = begin; i < end; ++i) {
      names.push_back(keys.Record(clients[i]));
    }
    commands.push_back(ScriptCommand(
        "clean an index", kListScript, std::move(names),
        {keys.prefix(), EscapeGatewayId(gateway_id), "0"}, end - begin));
    commands.back().done =
        [removed](const absl::StatusOr<const redisReply*>& reply) {
          if (!reply.ok()) return true;
          if ((*reply)->type != REDIS_REPLY_INTEGER) return false;
          removed->fetch_add(static_cast<uint64_t>((*reply)->integer));
          return true;
        };
  }
  return commands;
}

SessionCommand GatewaysCommand(const SessionKeys& keys,
                               const std::vector<std::string>& escaped_ids) {
  std::vector<std::string> arguments = {keys.prefix()};
  arguments.insert(arguments.end(), escaped_ids.begin(), escaped_ids.end());
  return ScriptCommand("list gateways", kGatewaysScript, {keys.Gateways()},
                       std::move(arguments), escaped_ids.size());
}

void SessionCleaner::Step(const std::string& gateway_id,
                          int64_t now_nanoseconds) {
  if (now_nanoseconds < next_nanoseconds_) return;
  next_nanoseconds_ = now_nanoseconds + kIntervalNanoseconds;
  if (gateway_id_ != gateway_id) cursor_ = "0";
  gateway_id_ = gateway_id;
  SetWalkOptions options;
  options.what = "clean an index";
  options.page_members = kPageMembers;
  std::vector<SessionCommand> commands;
  if (is_gateways_turn_) {
    options.key = keys_->Gateways();
    commands.push_back(SetPageCommand(
        options, gateways_cursor_,
        [this](SetPage page) { TakeGateways(std::move(page)); }));
  } else {
    options.key = keys_->Index(gateway_id_);
    commands.push_back(SetPageCommand(options, cursor_, [this](SetPage page) {
      TakeClients(std::move(page));
    }));
  }
  Submit(std::move(commands));
}

void SessionCleaner::TakeClients(SetPage page) {
  cursor_ = std::move(page.cursor);
  is_gateways_turn_ = cursor_ == "0";
  Submit(CleanIndexCommands(*keys_, gateway_id_, page.members, &removed_));
}

void SessionCleaner::TakeGateways(SetPage page) {
  gateways_cursor_ = std::move(page.cursor);
  is_gateways_turn_ = false;
  std::vector<SessionCommand> commands;
  for (size_t begin = 0; begin < page.members.size();
       begin += kRecordsPerScript) {
    const size_t end = std::min(begin + kRecordsPerScript, page.members.size());
    commands.push_back(GatewaysCommand(
        *keys_, std::vector<std::string>(page.members.begin() + begin,
                                         page.members.begin() + end)));
    commands.back().done = [](const absl::StatusOr<const redisReply*>& reply) {
      return !reply.ok() || (*reply)->type == REDIS_REPLY_ARRAY;
    };
  }
  Submit(std::move(commands));
}

// If it is refused, the next step comes in a second.
void SessionCleaner::Submit(std::vector<SessionCommand> commands) {
  if (!commands.empty()) pipe_->Submit(std::move(commands)).IgnoreError();
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
