// One seed: a random but repeatable life of a gateway's joins, in memory only.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_NETHERNET_SIMULATION_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_NETHERNET_SIMULATION_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "testing/internal/simulation/nethernet_gate.h"
#include "testing/internal/simulation/nethernet_model.h"
#include "testing/internal/simulation/random.h"
#include "testing/simulated_clock.h"
#include "udpgate/nethernet/join_table.h"

namespace udpgate {
namespace internal {
namespace simulation {

// Runs the real JoinTable and NetherNetResolver against a model of what must be
// known and where each datagram must go. The seed decides everything: the
// limits, who joins and when the answer comes, who sends what, which sessions
// end, disconnects, reloads and takeovers.
//
// One thread; nothing waits.
class NetherNetSimulation {
 public:
  // `coverage` must outlive it.
  NetherNetSimulation(uint64_t seed, NetherNetModel::Coverage* coverage);
  ~NetherNetSimulation();

  // The first rule that was broken; empty if there is none.
  std::string Run();
  // The last events, one in each line.
  std::string History() const;

 private:
  struct Waiting {  // for the answer of its backend
    absl::optional<nethernet::JoinTable::Reservation> reservation;
    PlayedReservation played;
    nethernet::Join join;
  };
  class Observer;

  template <typename... Texts>
  void Note(const Texts&... texts) {
    history_.push_back(
        absl::StrCat(clock_.NowNanoseconds() / 1'000'000, " ms: ", texts...));
    if (history_.size() > 60) history_.pop_front();
  }

  void Step();
  void Reserve();
  void Answer();
  void NameBackend();
  void AnswerNever();
  void AddShared();
  void EndShared();
  void PlayerSends();
  void StrangerSends();
  void CheckSpares();
  void Send(const SocketAddress& client, const std::string& ufrag,
            const std::string& password);
  void SendChecked(const SocketAddress& client, const std::string& datagram,
                   absl::optional<DropReason> expected, bool is_ours);
  void OpenAll();
  void EndSome();
  void Disconnect();
  void Reload();
  void TakeOver();
  void Sleep(int64_t milliseconds_max);
  void CheckAlways();
  void Finish();

  nethernet::Join NewJoin();
  DisconnectTarget AnyTarget();
  SocketAddress AnyClient();
  SocketAddress AnyPlayer();
  SocketAddress AnyBackend();
  // The latest ones more often; null if there is none.
  PlayedJoin* AnyJoin();
  void RandomizeOptions();
  std::unique_ptr<NetherNetGate> NewGate();
  nethernet::JoinTable* joins() { return gate_->joins(); }

  Random random_;
  test::SimulatedClock clock_;
  nethernet::JoinTableOptions options_;
  NetherNetModel model_;
  bool is_crowded_ = false;  // limits are low, and nobody takes over
  int next_port_ = 20000;
  int next_join_ = 0;
  std::shared_ptr<Observer> observer_;
  std::shared_ptr<BackendResolver> inner_;
  std::unique_ptr<NetherNetGate> gate_;
  std::vector<Waiting> waiting_;
  std::deque<std::string> history_;
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_NETHERNET_SIMULATION_H_
