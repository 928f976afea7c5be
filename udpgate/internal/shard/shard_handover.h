// A shard's part of a takeover: gives its sessions to another process, or takes
// them from one.
#ifndef UDPGATE_INTERNAL_SHARD_SHARD_HANDOVER_H_
#define UDPGATE_INTERNAL_SHARD_SHARD_HANDOVER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "udpgate/internal/session/handover.h"
#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/shard/lifecycle.h"
#include "udpgate/internal/shard/newcomers.h"
#include "udpgate/internal/shard/shard_context.h"
#include "udpgate/internal/shard/upstream_sockets.h"

namespace udpgate {
namespace internal {

// See Worker for what each function does.
//
// Threads: the owner of the shard only, while neither workers nor readers run.
class ShardHandover {
 public:
  // All must outlive it.
  ShardHandover(ShardContext* shard, UpstreamSockets* upstreams,
                Lifecycle* lifecycle, Newcomers* newcomers)
      : shard_(shard),
        upstreams_(upstreams),
        lifecycle_(lifecycle),
        newcomers_(newcomers) {}
  ShardHandover(const ShardHandover&) = delete;
  ShardHandover& operator=(const ShardHandover&) = delete;

  // The old process. No datagram and no message waits any more.
  void HandOverSessions(bool keeps_flows, std::vector<HandedSession>* sessions);
  void ForgetSessions();

  // The new process.
  absl::Status Prepare(HandedSession* handed);
  void DropAllBut(const std::vector<HandedSession*>& sessions);
  absl::Status TakeOver(std::vector<HandedSession*> sessions,
                        uint64_t session_number);

 private:
  absl::StatusOr<Session*> Adopt(HandedSession* handed);
  absl::StatusOr<Session*> Place(const HandedSession& handed);
  Session* FindPrepared(const HandedSession& handed);
  absl::Status TakeOverOne(HandedSession* handed);
  absl::Status TakeOverPending(HandedSession* handed);
  void Drop(Session** dropped);

  ShardContext* const shard_;
  UpstreamSockets* const upstreams_;
  Lifecycle* const lifecycle_;
  Newcomers* const newcomers_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_SHARD_HANDOVER_H_
