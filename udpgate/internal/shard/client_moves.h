// Ends the old session of a client whose network has given it another address.
#ifndef UDPGATE_INTERNAL_SHARD_CLIENT_MOVES_H_
#define UDPGATE_INTERNAL_SHARD_CLIENT_MOVES_H_

#include "udpgate/backend_resolver.h"
#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/shard/inbox.h"
#include "udpgate/internal/shard/lifecycle.h"
#include "udpgate/internal/shard/shard_context.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// The old session ends before the new one opens its socket, which can then get
// the same source port. It may be of another shard: the new client stays
// pending until that shard has replied, within its deadline. There is at most
// one such message for each pending client, so they need no limit of their own.
//
// Threads: the owner of the shard only.
class ClientMoves {
 public:
  // Both must outlive it.
  ClientMoves(ShardContext* shard, Lifecycle* lifecycle)
      : shard_(shard), lifecycle_(lifecycle) {}
  ClientMoves(const ClientMoves&) = delete;
  ClientMoves& operator=(const ClientMoves&) = delete;

  // `session` is pending and has got `result`. Ends the session that its client
  // had until now, if `result` names one. False if another shard has that one:
  // it was asked, has taken `*result`, and will return it in a message kMoved.
  [[nodiscard]] bool EndOldSession(ResolveResult* result, Session* session);

  // kEndMoved of another shard.
  void HandleMessage(ShardMessage* message);

 private:
  void End(const SocketAddress& client, const SessionTag* tag);

  ShardContext* const shard_;
  Lifecycle* const lifecycle_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_CLIENT_MOVES_H_
