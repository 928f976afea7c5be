// Remembers disconnect events, so that no record is used which one of them
// names.
#ifndef UDPGATE_STORE_INTERNAL_DISCONNECT_MEMORY_H_
#define UDPGATE_STORE_INTERNAL_DISCONNECT_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/session_store.h"
#include "udpgate/store/internal/keeper_context.h"

namespace udpgate {
namespace store {
namespace internal {

// An event is forgotten when every record has run out that an owner has not
// refreshed since: a live owner has ended the session itself.
//
// Clocks: an event counts by the monotonic clock, and is compared with the time
// of day in a record by the clock's difference now. The clock of the record's
// owner may differ by `clock_difference_max`. A record whose session began at
// least twice that after an event is never named by it, see `SinceAfter`.
//
// Threads: one.
class DisconnectMemory {
 public:
  explicit DisconnectMemory(KeeperContext* context) : context_(context) {}
  DisconnectMemory(const DisconnectMemory&) = delete;
  DisconnectMemory& operator=(const DisconnectMemory&) = delete;

  // The event happened `target.age()` ago.
  void Add(const DisconnectTarget& target);

  // Whether an event names the record that may have come after it.
  bool Names(const StoredSession& record) const;

  // The begin that a record of this gateway says: `since`, or later, so that no
  // other gateway takes the session for one that was there before an event.
  absl::Time SinceAfter(const StoredSession& record, absl::Time since) const;

  void Tick();
  size_t size() const { return times_.size(); }

  // One line each, the latest ones; at most `count_max`.
  std::string Export(size_t count_max) const;
  // InvalidArgument if a line is none of Export's.
  absl::Status Import(absl::string_view lines);

 private:
  struct Key {
    DisconnectTarget::Kind kind;
    SocketAddress address;
    uint16_t port = 0;
    std::string text;  // lower case

    friend bool operator==(const Key& a, const Key& b) {
      return a.kind == b.kind && a.address == b.address && a.port == b.port &&
             a.text == b.text;
    }
    template <typename H>
    friend H AbslHashValue(H state, const Key& key) {
      return H::combine(std::move(state), key.kind, key.address, key.port,
                        key.text);
    }
  };
  struct Noted {
    Key key;
    int64_t nanoseconds;
  };
  using Order = std::deque<Noted>;

  static Key KeyOf(const DisconnectTarget& target);
  void AddAt(Key key, int64_t nanoseconds);
  void ForgetFirst(Order* order);
  // When the latest event came that names the record.
  absl::optional<int64_t> LatestNaming(const StoredSession& record) const;
  // Whether it is known that a session began after now.
  bool IsFromFuture(absl::Time since) const;

  KeeperContext* const context_;
  // The latest event of each target.
  absl::flat_hash_map<Key, int64_t> times_;
  // In the order of their arrival: of single clients, and others.
  Order clients_;
  Order others_;
};

}  // namespace internal
}  // namespace store
}  // namespace udpgate

#endif  // UDPGATE_STORE_INTERNAL_DISCONNECT_MEMORY_H_
