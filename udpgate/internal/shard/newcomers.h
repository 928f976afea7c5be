// New clients, from their first datagram to an open upstream socket.
#ifndef UDPGATE_INTERNAL_SHARD_NEWCOMERS_H_
#define UDPGATE_INTERNAL_SHARD_NEWCOMERS_H_

#include <cstdint>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/internal/net/datagram_batch.h"
#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/session/upstream.h"
#include "udpgate/internal/shard/client_moves.h"
#include "udpgate/internal/shard/evictions.h"
#include "udpgate/internal/shard/forwarding.h"
#include "udpgate/internal/shard/inbox.h"
#include "udpgate/internal/shard/lifecycle.h"
#include "udpgate/internal/shard/relay.h"
#include "udpgate/internal/shard/shard_context.h"
#include "udpgate/internal/shard/upstream_sockets.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// A new client is admitted, its backend is resolved while its datagrams are
// held, its upstream socket is opened, and the held datagrams are sent.
//
// Threads: the owner of the shard only. The resolver's callback, on any thread,
// posts its result to the inbox.
class Newcomers {
 public:
  // All must outlive it.
  Newcomers(ShardContext* shard, UpstreamSockets* upstreams,
            Lifecycle* lifecycle, Relay* relay, Evictions* evictions,
            ClientMoves* moves, Forwarding* forwarding)
      : shard_(shard),
        upstreams_(upstreams),
        lifecycle_(lifecycle),
        relay_(relay),
        evictions_(evictions),
        moves_(moves),
        forwarding_(forwarding) {}
  Newcomers(const Newcomers&) = delete;
  Newcomers& operator=(const Newcomers&) = delete;

  // Creates a pending session that holds `datagram`. If the client is refused
  // the datagram is counted as dropped, and nothing was allocated for it.
  void Begin(const ClientDatagram& datagram);
  // Holds one more datagram of a pending session, or drops and counts it.
  void Hold(const ClientDatagram& datagram, Session* session);

  // Asks the resolver for the session's backend. `first_datagram` is the oldest
  // that is held.
  void StartResolution(absl::Span<const char> first_datagram, Session* session);
  // kResolved.
  void HandleResult(ShardMessage* message);
  // kMoved: the old session of a client with a new address has ended, if it was
  // there.
  void HandleMoved(ShardMessage* message);

  // Finds the source address towards `backend`; `failure` says why there is
  // none. Returns why datagrams cannot be sent to `backend` at all, or null.
  const char* FindSource(const SocketAddress& backend, SocketAddress* source,
                         UpstreamOpener::Result* failure);
  // A socket for a new session, on `preferred` if that is valid and possible.
  // If ports, descriptors or memory run out, unconfirmed sessions of this shard
  // are evicted.
  UpstreamOpener::Result OpenSocket(const Session& session,
                                    const SocketAddress& preferred,
                                    const SocketAddress& source,
                                    const SocketAddress& backend);

  // Ends sessions whose backend was not resolved in time.
  void ExpirePending();
  // When the next one expires; INT64_MAX if there is none.
  int64_t NextDeadline() const;

 private:
  absl::optional<DropReason> Screen(const ClientDatagram& datagram) const;
  void Keep(const ClientDatagram& datagram, Session* session);
  // The session ends if there is no socket, or if the backend refuses what it
  // has held.
  Session* FindWaiting(const ShardMessage& message);
  bool MustResolveAgain(const Session& session) const;
  bool Forward(const ResolveResult& result, Session** session);
  void OpenUpstream(ResolveResult result, Session** session);
  void Connect(const UpstreamOpener::Result& opened,
               const SocketAddress& backend, ResolveResult* result,
               Session* session);
  void SendHeld(Session** session);
  void Refuse(EndReason end, DropReason drop,
              absl::FunctionRef<std::string()> why, Session** session);

  ShardContext* const shard_;
  UpstreamSockets* const upstreams_;
  Lifecycle* const lifecycle_;
  Relay* const relay_;
  Evictions* const evictions_;
  ClientMoves* const moves_;
  Forwarding* const forwarding_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_NEWCOMERS_H_
