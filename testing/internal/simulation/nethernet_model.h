// What must hold of joins: a model of what is known, of whom, and how long.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_NETHERNET_MODEL_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_NETHERNET_MODEL_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "testing/internal/simulation/nethernet_gate.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/clock.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/nethernet/join.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {
namespace simulation {

struct PlayedJoin {
  enum class State {
    kWaiting,
    kSharedWaiting,
    kLive,
    kLingering,
    kGone,   // its time is over, or others took its place
    kEnded,  // by a disconnect
  };
  nethernet::Join join;
  State state = State::kWaiting;
  int64_t listed_nanoseconds = 0;  // since when it is in that state
  uint64_t listed_number = 0;      // the order of those of the same time
  // Client addresses as text.
  std::set<std::string> sessions;
  std::set<std::string> openings;
  std::set<std::string> had_sessions;
  std::map<std::string, SocketAddress> relays;  // the latest of each
  std::map<std::string, SocketAddress> seen;
  std::set<std::string> moved_interfaces;
  // Several sessions of it were about to open at once.
  bool had_parallel_openings = false;
  bool was_displaced_while_opening = false;
  // Those of all joins, at its last resolution.
  int64_t disconnects_at_claim = 0;
};

struct PlayedReservation {
  SocketAddress player, backend;
  std::string label;
  bool is_cancelled = false;
};

// Follows the simulation; keeps the first broken rule.
class NetherNetModel {
 public:
  using State = PlayedJoin::State;

  // Both must outlive it.
  NetherNetModel(const nethernet::JoinTableOptions* options, const Clock* clock)
      : options_(options), clock_(clock) {}

  template <typename... Texts>
  void Require(bool holds, const Texts&... texts) {
    if (!holds && broken.empty()) broken = absl::StrCat(texts...);
  }

  // The priority of the checks of a client: of its network interface.
  static uint32_t PriorityOf(const SocketAddress& client) {
    return client.port() % 2 == 0 ? 1000 : 900;
  }

  // What has passed its time is gone.
  void Expire();
  // The oldest joins of lists that are too long are gone.
  void Trim();
  void Add(nethernet::Join join, State state, int64_t listed_nanoseconds);

  // The join of a check; null if none is known.
  PlayedJoin* Match(const std::string& ufrag, const std::string& password,
                    bool* is_ufrag_known);
  PlayedJoin* FindId(absl::string_view id);
  int64_t Count(State state) const;
  int64_t CountUfrag(const std::string& ufrag) const;

  void OnClaimed(const SessionTag& tag);
  void OnOpened(const SocketAddress& client, const GateSession& session,
                const ResolveResult& result);
  void OnEnded(const SocketAddress& client, const GateSession& session);
  // Whether the disconnect names the join, or at least a former address.
  bool MustEnd(const PlayedJoin& played, const DisconnectTarget& target) const;
  bool MayEnd(const PlayedJoin& played, const DisconnectTarget& target) const;
  bool MustCancel(const PlayedReservation& reservation,
                  const DisconnectTarget& target) const;

  // What the table shows of itself.
  void CheckStats(const nethernet::JoinTableStats& stats,
                  int64_t reservation_count);
  void CheckList(const std::vector<nethernet::JoinInfo>& infos);

  std::vector<PlayedJoin> joins;
  std::string broken;
  // All so far, whatever they named.
  int64_t disconnects = 0;
  // Of the table in use.
  std::map<DropReason, uint64_t> drops;
  uint64_t known = 0;
  // The lowest number of addresses that a join could have so far.
  int addresses_min = 1024;

  // What all seeds have met.
  struct Coverage {
    std::map<std::string, int64_t> counts;
  };
  Coverage* coverage = nullptr;
  void Meet(const std::string& what) { ++coverage->counts[what]; }

 private:
  int64_t now() const { return clock_->NowNanoseconds(); }
  void TrimState(State state, int64_t size_max);
  void CheckRelay(const SocketAddress& client, const GateSession& session,
                  const ResolveResult& result, PlayedJoin* played);

  const nethernet::JoinTableOptions* const options_;
  const Clock* const clock_;
  uint64_t listed_count_ = 0;
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_NETHERNET_MODEL_H_
