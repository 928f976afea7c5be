// Removes from the index of a gateway what has run out, and from the set of
// gateways those that are gone, so that neither grows for ever.
#ifndef UDPGATE_REDIS_INTERNAL_SESSION_CLEANER_H_
#define UDPGATE_REDIS_INTERNAL_SESSION_CLEANER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "udpgate/redis/internal/session_calls.h"
#include "udpgate/redis/internal/session_keys.h"
#include "udpgate/redis/internal/session_pipe.h"

namespace udpgate {
namespace redis {
namespace internal {

// Commands that look at the clients of one page of an index, and remove those
// without a record of the gateway. `removed` must outlive them.
std::vector<SessionCommand> CleanIndexCommands(
    const SessionKeys& keys, const std::string& gateway_id,
    const std::vector<std::string>& clients, std::atomic<uint64_t>* removed);

// Threads: that of the pipe.
class SessionCleaner {
 public:
  // Both must outlive the cleaner; it must outlive the pipe's commands.
  SessionCleaner(SessionPipe* pipe, const SessionKeys* keys)
      : pipe_(pipe), keys_(keys) {}

  // Cleans one page, if the last one was cleaned a second ago or more.
  void Step(const std::string& gateway_id, int64_t now_nanoseconds);

  uint64_t removed() const { return removed_.load(); }
  std::atomic<uint64_t>* removed_counter() { return &removed_; }

 private:
  void TakeClients(SetPage page);
  void TakeGateways(SetPage page);
  void Submit(std::vector<SessionCommand> commands);

  SessionPipe* const pipe_;
  const SessionKeys* const keys_;
  std::string gateway_id_;
  std::string cursor_ = "0";
  std::string gateways_cursor_ = "0";
  // The next page is one of gateways.
  bool is_gateways_turn_ = true;
  int64_t next_nanoseconds_ = INT64_MIN;
  std::atomic<uint64_t> removed_{0};
};

// The command of the script of gateways, whose `done` is missing.
SessionCommand GatewaysCommand(const SessionKeys& keys,
                               const std::vector<std::string>& escaped_ids);

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_SESSION_CLEANER_H_
