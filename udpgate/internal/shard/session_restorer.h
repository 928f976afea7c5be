// Continues sessions of another process or gateway, from their data alone.
#ifndef UDPGATE_INTERNAL_SHARD_SESSION_RESTORER_H_
#define UDPGATE_INTERNAL_SHARD_SESSION_RESTORER_H_

#include <cstddef>
#include <cstdint>

#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/session/upstream.h"
#include "udpgate/internal/shard/endings.h"
#include "udpgate/internal/shard/evictions.h"
#include "udpgate/internal/shard/inbox.h"
#include "udpgate/internal/shard/lifecycle.h"
#include "udpgate/internal/shard/newcomers.h"
#include "udpgate/internal/shard/restore_order.h"
#include "udpgate/internal/shard/shard_context.h"
#include "udpgate/internal/shard/upstream_sockets.h"
#include "udpgate/session_restore.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// Unlike in a takeover (ShardHandover) there is no socket, and ids are new.
//
// Threads: the owner of the shard only.
class SessionRestorer {
 public:
  // Sessions that one iteration restores. Each opens a socket, which costs some
  // ten times what a datagram costs.
  static constexpr size_t kSessionsPerIteration = 3;

  // All must outlive it.
  SessionRestorer(ShardContext* shard, UpstreamSockets* upstreams,
                  Lifecycle* lifecycle, Evictions* evictions,
                  Newcomers* newcomers, Endings* endings)
      : shard_(shard),
        upstreams_(upstreams),
        lifecycle_(lifecycle),
        evictions_(evictions),
        newcomers_(newcomers),
        endings_(endings) {}
  SessionRestorer(const SessionRestorer&) = delete;
  SessionRestorer& operator=(const SessionRestorer&) = delete;

  // kRestore: one slice. The message is queued again if there is more.
  void HandleMessage(ShardMessage* message);
  // The same at once.
  void RestoreAll(RestoreOrder* order);

 private:
  using Outcome = RestoredSession::Outcome;

  void RestoreSome(size_t count_max, RestoreOrder* order);
  void RestoreOne(bool takes_other_relays, RestoreTask* task);
  bool IsAcceptable(const RestorableSession& session) const;
  bool MakeWay(const SocketAddress& client, uint32_t hash);
  void Begin(const RestoreTask& task, const UpstreamOpener::Result& opened,
             Session* session);

  ShardContext* const shard_;
  UpstreamSockets* const upstreams_;
  Lifecycle* const lifecycle_;
  Evictions* const evictions_;
  Newcomers* const newcomers_;
  Endings* const endings_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_SESSION_RESTORER_H_
