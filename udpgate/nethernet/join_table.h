// The joins that a gateway has under way: whom the answer to a player's offer
// came from, and how the player's datagrams are recognized.
//
//   auto joins = std::make_shared<JoinTable>(JoinTableOptions(),
//                                            Clock::Monotonic());
//   absl::StatusOr<JoinTable::Reservation> reservation =
//       joins->Reserve(player, backend, label);
//   ...                                     // ask the backend
//   absl::Status status = joins->Commit(*std::move(reservation), join);
//   ...                                     // give the player the answer
//
// `NetherNetResolver` asks the table for the first datagram of each client.
//
// A join waits until the first session of the player begins, lives as long as a
// session does, and lingers for a while after the last one. A disconnect ends
// it at once: the player must ask over TCP again.
#ifndef UDPGATE_NETHERNET_JOIN_TABLE_H_
#define UDPGATE_NETHERNET_JOIN_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/base/export.h"
#include "udpgate/clock.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/nethernet/join.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {

// Ownership: it must outlive the Proxy whose resolver uses it, and all
// reservations.
//
// Threads: any. `Screen` and `Resolve` are called on data-plane threads; one
// lock is held for less than a microsecond there, and no longer elsewhere than
// it takes to visit 64 joins.
class UDPGATE_EXPORT JoinTable {
 public:
  // `options` must be valid. `clock` must outlive the table.
  JoinTable(const JoinTableOptions& options, const Clock* clock);
  ~JoinTable();
  JoinTable(const JoinTable&) = delete;
  JoinTable& operator=(const JoinTable&) = delete;

  // Room for a join whose answer is under way. Gives it back when destroyed.
  class Reservation {
   public:
    Reservation(Reservation&& other) noexcept
        : table_(std::exchange(other.table_, nullptr)),
          number_(other.number_) {}
    Reservation& operator=(Reservation&& other) noexcept;
    ~Reservation() { Release(); }

   private:
    friend class JoinTable;
    Reservation(JoinTable* table, uint64_t number)
        : table_(table), number_(number) {}
    void Release();

    JoinTable* table_;
    uint64_t number_;
  };

  // Of `player` the IP address counts. ResourceExhausted at `joins_max`.
  absl::StatusOr<Reservation> Reserve(const SocketAddress& player,
                                      const SocketAddress& backend,
                                      absl::string_view backend_label);
  // The same for a join whose backend is not known yet: before the resolution.
  absl::StatusOr<Reservation> Reserve(const SocketAddress& player);
  // Names the backend, once. Aborted, and no change, if a disconnect of the
  // player or of any backend came since `Reserve` or the last call: the
  // resolution may be outdated.
  absl::Status SetBackend(const Reservation& reservation,
                          const SocketAddress& backend,
                          absl::string_view backend_label);
  // From now on the join's datagrams are known. Aborted if a disconnect named
  // the player or the backend since `Reserve`; AlreadyExists if too many joins
  // have this ufrag. The password, not the ufrag alone, tells joins apart.
  absl::Status Commit(Reservation reservation, Join join);

  // What to do with the first datagram of a client; nullopt if it is neither of
  // ICE nor of DTLS. Does not allocate memory.
  //
  // Of ICE is a Binding request that has a user name with a colon, or that is
  // malformed. Counts the datagram.
  absl::optional<Screening> Screen(const SocketAddress& client,
                                   absl::Span<const char> datagram);
  // Where the client is sent; nullopt as above. NotFound if the join has ended
  // meanwhile, ResourceExhausted if it has too many addresses.
  absl::optional<absl::StatusOr<ResolveResult>> Resolve(
      const SocketAddress& client, absl::Span<const char> datagram);

  // Ends the joins that `target` names, and cancels such reservations. Returns
  // the client addresses of all sessions that these joins have: they must end
  // as well, whether `target` names them or not.
  std::vector<SocketAddress> HandleDisconnect(const DisconnectTarget& target);

  // The tag with this key (`Join::id`), or null.
  std::shared_ptr<SessionTag> FindTag(absl::string_view key);

  // Joins that are under way, the oldest first.
  std::vector<JoinInfo> List();
  JoinTableStats stats();

  // Replaces the options. InvalidArgument from `Validate`.
  absl::Status SetOptions(const JoinTableOptions& options);

  // Null: none.
  void SetObserver(std::shared_ptr<JoinObserver> observer);
  // A join that another gateway has answered, that long ago. Ignored if it is
  // known already or too old.
  void AddShared(Join join, absl::Duration age);
  // A disconnect at another gateway has ended the join. Returns the client
  // addresses of its sessions here, which must end as well.
  std::vector<SocketAddress> EndShared(absl::string_view id);

  // For a takeover: the joins, with their passwords, so it must go to the new
  // process alone. If `is_late`, only what has changed since the call before.
  std::string Export(bool is_late);
  // Adds and ends what another table has exported. Before `Proxy::TakeOver`.
  // InvalidArgument if the text is malformed.
  absl::Status Import(absl::string_view exported);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_JOIN_TABLE_H_
