// Which session ends so that a new client gets its place.
#ifndef UDPGATE_INTERNAL_SHARD_EVICTIONS_H_
#define UDPGATE_INTERNAL_SHARD_EVICTIONS_H_

#include <cstddef>

#include "absl/functional/function_ref.h"
#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/session/upstream.h"
#include "udpgate/internal/shard/inbox.h"
#include "udpgate/internal/shard/lifecycle.h"
#include "udpgate/internal/shard/shard_context.h"
#include "udpgate/internal/shard/upstream_sockets.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// Only unconfirmed sessions are evicted. A silent session may be replaced by a
// client of the same address if MAX_SESSIONS_PER_IP is reached.
//
// Threads: the owner of the shard only.
class Evictions {
 public:
  // A session may be replaced by another client of its address
  // (MAX_SESSIONS_PER_IP) if its own has sent nothing for so long. A client
  // that plays sends more often than that, so a forged address cannot end its
  // session.
  static constexpr int64_t kSilentNanoseconds = 10'000'000'000;
  static constexpr int64_t kUnconfirmedSilentNanoseconds = 2'000'000'000;

  // The order of evictions, see LeastValidated.
  static constexpr int64_t kFirstChanceNanoseconds = 1'000'000'000;
  static constexpr int64_t kLongSilentNanoseconds = 5'000'000'000;

  // All must outlive it.
  Evictions(ShardContext* shard, const UpstreamSockets* upstreams,
            Lifecycle* lifecycle)
      : shard_(shard), upstreams_(upstreams), lifecycle_(lifecycle) {}
  Evictions(const Evictions&) = delete;
  Evictions& operator=(const Evictions&) = delete;

  // Ends an unconfirmed session of this shard. False if there is none.
  bool EvictOne();
  // Likewise, after an upstream socket could not be opened: one that has what
  // `failed` lacked.
  bool EvictForUpstream(const UpstreamOpener::Result& failed,
                        const SocketAddress& source);
  // Asks another shard, each in turn, to end one. The client's next datagram
  // finds the place then.
  void AskOtherShards();
  // Ends the session of the client's address whose own client is silent
  // longest, if one is silent for long enough. False if none has ended yet.
  bool ReplaceSilent(const SocketAddress& client);

  // kEvict, kFindSilent or kEndSilent of another shard.
  void HandleMessage(ShardMessage* message);

 private:
  Session* LeastValidated(
      absl::FunctionRef<bool(const Session& session)> fits) const;
  bool Evict(Session* session);
  bool MayAskOthers();
  void FindSilent(ShardMessage* message);
  bool IsSilent(const Session& session) const;
  void PassOn(ShardMessage message);
  bool EndSilent(const ShardMessage& message);

  ShardContext* const shard_;
  const UpstreamSockets* const upstreams_;
  Lifecycle* const lifecycle_;
  size_t next_shard_ = 0;  // the one that was asked last
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_EVICTIONS_H_
