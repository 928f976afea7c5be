// The upstream sockets of a shard: opened, watched, paused and closed.
#ifndef UDPGATE_INTERNAL_SHARD_UPSTREAM_SOCKETS_H_
#define UDPGATE_INTERNAL_SHARD_UPSTREAM_SOCKETS_H_

#include <cstdint>

#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/session/upstream.h"
#include "udpgate/internal/shard/inbox.h"
#include "udpgate/internal/shard/shard_context.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// The epoll event data of a session's upstream socket: the slot, and the low
// half of the id. This names a session among all that its slot has ever held,
// closely enough for the life of one event.
inline uint64_t EventTag(const SessionRef& session) {
  return (uint64_t{session.slot} << 32) | static_cast<uint32_t>(session.id);
}

// Each session has one upstream socket, which is in the shard's epoll set. The
// sockets of paused sessions stay in the set, but report no replies.
//
// Threads: the owner of the shard only.
class UpstreamSockets {
 public:
  // `shard` must outlive it.
  explicit UpstreamSockets(ShardContext* shard);
  UpstreamSockets(const UpstreamSockets&) = delete;
  UpstreamSockets& operator=(const UpstreamSockets&) = delete;

  // Chooses source addresses and ports. Sockets are opened by `Open` only.
  UpstreamOpener& opener() { return opener_; }
  const UpstreamOpener& opener() const { return opener_; }

  // The state of the host's addresses (GateContext::network_epoch) that the
  // opener knows; and makes it forget what it knows of older ones.
  uint32_t network_epoch() const { return network_epoch_; }
  void SetNetworkEpoch(uint32_t epoch);

  // Opens a socket for `session`, which does not change, and watches it. See
  // UpstreamOpener::Open.
  UpstreamOpener::Result Open(const Session& session,
                              const SocketAddress& source,
                              const SocketAddress& backend,
                              bool takes_busy = true, int attempt_count = 0);
  // The same on one source address and port; see UpstreamOpener::OpenExactly.
  UpstreamOpener::Result OpenExactly(const Session& session,
                                     const SocketAddress& relay,
                                     const SocketAddress& source,
                                     const SocketAddress& backend);
  // Watches a socket to `backend` that another process has opened for
  // `session`, and sets its options. If it fails, `fd` stays the caller's.
  SysCallResult Adopt(const Session& session, const SocketAddress& backend,
                      int fd);
  // Closes the session's socket. Its pause ends.
  void Close(Session* session);
  // Closes a socket that was adopted, while its port stays in use.
  void CloseAdopted(Session* session);

  // Lets the session's replies wait in its socket until `Resume`. False if that
  // is not possible, since too many sessions are paused.
  bool Pause(Session* session);
  // If it fails the session stays paused.
  void Resume(Session* session);

 private:
  UpstreamOpener::Result WatchOpened(const Session& session,
                                     UpstreamOpener::Result opened);
  SysCallResult Watch(const Session& session, int fd);
  void RequestReceiveTimes(int fd);
  void EndPause(Session* session);

  ShardContext* const shard_;
  UpstreamOpener opener_;
  uint32_t network_epoch_ = 0;
  int64_t paused_count_ = 0;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_UPSTREAM_SOCKETS_H_
