// One seed: a random but repeatable life of a fleet that shares a store of
// sessions, in memory only.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_FLEET_SIMULATION_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_FLEET_SIMULATION_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "testing/fake_session_store.h"
#include "testing/internal/simulation/fleet_gate.h"
#include "testing/internal/simulation/fleet_model.h"
#include "testing/internal/simulation/random.h"
#include "testing/simulated_clock.h"

namespace udpgate {
namespace internal {
namespace simulation {

// Several gateways at one address (ECMP), or two of which one has the address
// (VRRP). They crash, restart, stop, are taken over, promoted and demoted; the
// store is slow, late, cut off, restored from a snapshot, emptied, and lies;
// clients move between gateways, which in some seeds forward them to the owners
// of their sessions; disconnect events reach each gateway at
// another time; clocks differ, and in some seeds jump. Checked:
//
// - No datagram goes to a backend that no resolver has named for its client
//   since the last disconnect event of the two that the gateway knows of.
// - A gateway that reaches the store keeps no session that another one owns by
//   its token, and has a record of each that it keeps, but for a short time.
// - No record outlives the end of its session by more than its lifetime.
// - A standby serves nobody, and every queue keeps its bound.
//
// One thread; nothing waits.
class FleetSimulation {
 public:
  // `coverage` must outlive it.
  FleetSimulation(uint64_t seed, FleetModel::Coverage* coverage);
  ~FleetSimulation();

  // The first rule that was broken; empty if there is none.
  std::string Run();
  // The last events, one in each line.
  std::string History() const;

 private:
  // A gateway, whichever process it has.
  struct Slot {
    std::string id;
    std::unique_ptr<FleetGate> gate;  // null: it is down
    absl::Duration clock_offset;
    bool has_address = true;
    bool is_faulty = false;  // its link to the store
    // Since when nothing keeps it from being right.
    int64_t healthy_since = 0;
    std::vector<size_t> delivered;  // events that this process knows
    std::deque<std::pair<int64_t, size_t>> due;
    int64_t demote_at = 0;  // 0: not
  };
  class Inner;

  template <typename... Texts>
  void Note(const Texts&... texts) {
    history_.push_back(absl::StrCat(now() / 1'000'000, " ms: ", texts...));
    if (history_.size() > 80) history_.pop_front();
  }
  int64_t now() const { return clock_.NowNanoseconds(); }

  void Step();
  void ActOnClient();
  void ActOnFleet();
  void ActOnStore();
  void Send(int client);
  void ConfirmOne();
  void EndOne();
  void Publish();
  void Deliver(Slot* slot);
  void ChangeLink();
  void Lie();
  void DisturbStore();
  void StartGate(Slot* slot);
  void Crash(Slot* slot);
  void StopGracefully(Slot* slot);
  void TakeOver(Slot* slot);
  void MoveAddress();
  void JumpClock();
  void Advance(absl::Duration time);
  void SettleAll();
  void Finish();

  void CheckForward(const FleetGate* gate, int client,
                    const FleetGate::Session& session);
  void CheckAlways();
  void CheckOwners(Slot* slot);
  void CheckRecords();
  void Unhealthy(Slot* slot) { slot->healthy_since = now(); }

  Slot& AnySlot() { return slots_[random_.Below(slots_.size())]; }
  int AnyClient() { return static_cast<int>(random_.Below(kClients)); }
  std::unique_ptr<FleetGate> NewGate(const Slot& slot);
  static SocketAddress ClientAddress(int client) {
    return *SocketAddress::FromIpAndPort("203.0.113.7",
                                         static_cast<uint16_t>(1000 + client));
  }
  static SocketAddress BackendAddress(int backend) {
    return SocketAddress::Ipv4Loopback(static_cast<uint16_t>(10 + backend));
  }
  static int BackendOf(const SocketAddress& address) {
    return address.port() - 10;
  }

  static constexpr int kClients = 6;
  static constexpr int kBackends = 4;

  Random random_;
  test::SimulatedClock clock_;
  test::FakeSessionStore store_{&clock_};
  FleetModel model_;
  SessionKeeperOptions options_;
  bool is_vrrp_ = false;
  bool clocks_jump_ = false;
  bool forwards_ = false;  // SESSION_FORWARD
  std::shared_ptr<Inner> inner_;
  std::vector<Slot> slots_;
  std::vector<int> assigned_;        // the backend of each client
  std::vector<size_t> routes_;       // the gateway that each one reaches
  std::vector<int64_t> last_event_;  // of each client
  uint64_t next_run_ = 1;
  bool has_snapshot_ = false;
  test::FakeSessionStore::Snapshot snapshot_;
  int64_t disturbed_at_ = 0;
  // By run and session: since when the gateway has it without owning it.
  std::map<std::pair<uint64_t, uint64_t>, int64_t> not_owned_since_;
  // By the token: since when its session is not there any more.
  std::map<std::pair<uint64_t, uint64_t>, int64_t> ended_since_;
  std::deque<std::string> history_;
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_FLEET_SIMULATION_H_
