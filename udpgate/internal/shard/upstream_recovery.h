// Errors of upstream sockets, and new sockets after the route has changed.
#ifndef UDPGATE_INTERNAL_SHARD_UPSTREAM_RECOVERY_H_
#define UDPGATE_INTERNAL_SHARD_UPSTREAM_RECOVERY_H_

#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/shard/lifecycle.h"
#include "udpgate/internal/shard/shard_context.h"
#include "udpgate/internal/shard/upstream_sockets.h"
#include "udpgate/proxy_stats.h"

namespace udpgate {
namespace internal {

// Threads: the owner of the shard only.
class UpstreamRecovery {
 public:
  // While the backend is silent its route is looked up so often.
  static constexpr int64_t kSourceCheckNanoseconds = 2'000'000'000;

  // What an error of a send has led to.
  enum class Outcome { kSameSocket, kNewSocket, kSessionEnded };

  // All must outlive it.
  UpstreamRecovery(ShardContext* shard, UpstreamSockets* upstreams,
                   Lifecycle* lifecycle)
      : shard_(shard), upstreams_(upstreams), lifecycle_(lifecycle) {}
  UpstreamRecovery(const UpstreamRecovery&) = delete;
  UpstreamRecovery& operator=(const UpstreamRecovery&) = delete;

  // Before a send: opens a new socket if the session's source address has left
  // the host, or if the backend is silent and the route now has another one.
  void CheckSource(Session* session);

  // A send has failed with an error that says that the backend cannot be
  // reached. `is_counted`: an error of the same run has been counted already.
  [[nodiscard]] Outcome HandleSendError(int error, bool is_counted,
                                        Session** session);
  // A read has failed with `error`; or `error` is 0, and there may be some in
  // the socket's error queue. May end the session.
  void HandleReceiveError(int error, Session** session);

  // The path to the backend carries smaller packets than was assumed.
  void NotePacketSize(const Session& session);

 private:
  bool MoveToNewSource(ReopenReason reason, Session* session);
  int TakeRefusals(const Session& session);
  void NoteRefusal(int error, Session** session);

  ShardContext* const shard_;
  UpstreamSockets* const upstreams_;
  Lifecycle* const lifecycle_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_UPSTREAM_RECOVERY_H_
