// What a `JoinTable` remembers, shows and counts.
#ifndef UDPGATE_NETHERNET_JOIN_H_
#define UDPGATE_NETHERNET_JOIN_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {

struct UDPGATE_EXPORT Join {
  // Names the join among those of all gateways; `Commit` chooses it.
  std::string id;
  std::string network_id;  // of the player
  std::string ufrag;       // of the backend's answer
  std::string password;    // likewise; must never be shown
  SocketAddress player;    // of the TCP connection
  SocketAddress backend;   // as resolved
  std::string backend_label;
  SocketAddress media;  // where the player's datagrams are sent
};

// A join as lists show it.
struct UDPGATE_EXPORT JoinInfo {
  enum class State : uint8_t {
    kWaiting,    // no session yet
    kLive,       // has sessions
    kLingering,  // had sessions
  };
  std::string id;
  std::string network_id;
  std::string player;  // the IP address
  std::string backend;
  std::string backend_label;
  std::string media;
  State state = State::kWaiting;
  int session_count = 0;
  absl::Duration age;
  bool is_shared = false;  // another gateway answered it
};
// "waiting", "live", "lingering".
UDPGATE_EXPORT absl::string_view JoinStateName(JoinInfo::State state);

struct UDPGATE_EXPORT JoinTableOptions {
  // Joins without a session so far, with those whose answer is under way. 1 to
  // 1,000,000. As many may linger; then the oldest one ends.
  int64_t joins_max = 10000;
  // How long a join waits for its first session. 1 s to 1 h.
  absl::Duration join_timeout = absl::Seconds(60);
  // How long it stays after its last session. 0 to 1 h.
  absl::Duration linger = absl::Seconds(60);
  // Client addresses of a join. 1 to 1024.
  int addresses_per_join_max = 32;
  // Waiting joins of other gateways; the oldest one ends if there are more. 0
  // to 1,000,000.
  int64_t shared_joins_max = 50000;

  // OK, or an error of option_error.h.
  absl::Status Validate() const;
};

// Totals since the table was made, except the gauges. A join whose time was
// over comes back if its session was about to begin; its end then counts once
// more.
struct UDPGATE_EXPORT JoinTableStats {
  uint64_t joins_added = 0;         // without those of other gateways
  uint64_t joins_shared = 0;        // of other gateways
  uint64_t joins_begun = 0;         // had their first session
  uint64_t joins_expired = 0;       // had none in time
  uint64_t joins_left = 0;          // ended after their last session
  uint64_t joins_disconnected = 0;  // ended by a disconnect
  uint64_t joins_refused = 0;       // at `joins_max`
  uint64_t joins_displaced = 0;     // lingering or shared ones at their limit
  uint64_t ufrags_refused = 0;      // too many joins with the same ufrag
  uint64_t clients_moved = 0;       // address of a player replaced by another

  // First datagrams of clients, by result.
  uint64_t stun_known = 0;
  uint64_t stun_unknown_ufrag = 0;
  uint64_t stun_wrong_integrity = 0;
  uint64_t stun_malformed = 0;
  uint64_t stun_address_limit = 0;  // at `addresses_per_join_max`
  uint64_t dtls_without_session = 0;

  // Gauges. Waiting ones contain those whose answer is under way.
  int64_t joins_waiting = 0;
  int64_t joins_live = 0;
  int64_t joins_lingering = 0;
  int64_t joins_shared_waiting = 0;
};

// Hears of joins, to tell other gateways. Threads: any, data-plane threads
// among them: it must return within microseconds, and call no method of the
// table.
class UDPGATE_EXPORT JoinObserver {
 public:
  virtual ~JoinObserver() = default;
  // An answer was remembered, and is about to be given to the player. Not
  // called for joins of other gateways.
  virtual void OnAdded(const Join& join) = 0;
  // A disconnect has ended the join.
  virtual void OnDisconnected(const Join& join) = 0;
};

}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_JOIN_H_
