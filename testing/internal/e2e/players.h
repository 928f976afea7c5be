// Clients that measure loss and stalls.
#ifndef UDPGATE_TESTING_INTERNAL_E2E_PLAYERS_H_
#define UDPGATE_TESTING_INTERNAL_E2E_PLAYERS_H_

#include <algorithm>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "testing/internal/e2e/e2e.h"

namespace udpgate {
namespace test {

// Clients that ask and wait for the answer, over and over. Each loss and each
// stall is seen.
class Players {
 public:
  Players(const SocketAddress& gate, absl::string_view backend, int count)
      : gate_(gate), backend_(backend), peers_(static_cast<size_t>(count)) {}

  // Gives each its session.
  bool Join() {
    return std::all_of(peers_.begin(), peers_.end(), [&](LoopbackPeer& peer) {
      return IsServedBy(&peer, gate_, backend_);
    });
  }

  // Plays until `end` and at least once.
  void PlayUntil(absl::Time end) {
    do {
      for (LoopbackPeer& peer : peers_) Round(&peer);
    } while (absl::Now() < end && lost_ == 0);
  }

  int lost() const { return lost_; }
  int rounds() const { return rounds_; }
  absl::Duration longest_wait() const { return longest_wait_; }

 private:
  void Round(LoopbackPeer* peer) {
    const std::string payload = absl::StrCat("round ", ++rounds_);
    const absl::Time begin = absl::Now();
    absl::StatusOr<std::string> reply = peer->Ask(gate_, payload);
    longest_wait_ = std::max(longest_wait_, absl::Now() - begin);
    if (!reply.ok() || *reply != absl::StrCat(backend_, ":", payload)) ++lost_;
  }

  const SocketAddress gate_;
  const std::string backend_;
  std::vector<LoopbackPeer> peers_;
  int lost_ = 0;
  int rounds_ = 0;
  absl::Duration longest_wait_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_E2E_PLAYERS_H_
