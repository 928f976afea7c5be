// One join, as the sessions of its player refer to it.
#ifndef UDPGATE_NETHERNET_INTERNAL_JOIN_TAG_H_
#define UDPGATE_NETHERNET_INTERNAL_JOIN_TAG_H_

#include <cstdint>
#include <list>
#include <memory>
#include <utility>

#include "udpgate/backend_resolver.h"
#include "udpgate/nethernet/internal/join_clients.h"
#include "udpgate/nethernet/join.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {
namespace internal {

class JoinTag;

// Hears of the sessions of joins: the table.
class JoinSessions {
 public:
  virtual ~JoinSessions() = default;
  virtual void OnBegin(JoinTag* tag, const SocketAddress& client,
                       const SocketAddress& relay) = 0;
  virtual void OnEnd(JoinTag* tag, const SocketAddress& client,
                     EndReason reason) = 0;
};

// In which list of the table a join is.
enum class JoinList : uint8_t {
  kWaiting,
  kSharedWaiting,
  kLive,
  kLingering,
  kNone,  // it has ended
};

// Owned by a shared_ptr: a session may bring it back into the table.
class JoinTag final : public SessionTag,
                      public std::enable_shared_from_this<JoinTag> {
 public:
  // `sessions` must outlive all sessions with this tag.
  JoinTag(Join join, JoinSessions* sessions)
      : SessionTag(join.id, join.network_id),
        join_(std::move(join)),
        sessions_(sessions) {}

  const Join& join() const { return join_; }

  void OnBegin(const SocketAddress& client,
               const SocketAddress& relay) override {
    sessions_->OnBegin(this, client, relay);
  }
  void OnEnd(const SocketAddress& client, const SocketAddress& /*relay*/,
             EndReason reason) override {
    sessions_->OnEnd(this, client, reason);
  }

  // What follows belongs to the table, and is guarded by its lock.
  struct State {
    JoinClients clients;
    JoinList list = JoinList::kNone;
    std::list<JoinTag*>::iterator place;  // in that list
    uint64_t number = 0;                  // in the order of arrival
    int64_t created_nanoseconds = 0;
    int64_t listed_nanoseconds = 0;  // since when it is in that list
    // How many the table had had when a session was promised for the last time.
    uint64_t disconnects_at_claim = 0;
    bool has_begun = false;  // it has or had sessions
    bool is_shared = false;
    bool is_imported = false;  // the process before had it
    bool is_changed = true;    // since the last export
  };
  State state;

 private:
  const Join join_;
  JoinSessions* const sessions_;
};

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_JOIN_TAG_H_
