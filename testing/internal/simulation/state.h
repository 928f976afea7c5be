// What the parts of the simulation share: the gateway under test, its simulated
// surroundings, and the model.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_STATE_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_STATE_H_

#include <array>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "testing/internal/simulation/model.h"
#include "testing/internal/simulation/random.h"
#include "testing/internal/simulation/session_tally.h"
#include "testing/internal/support/simulated_sys_calls.h"
#include "testing/simulated_clock.h"
#include "udpgate/internal/net/network_watcher.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/internal/shard/reader.h"
#include "udpgate/internal/shard/worker.h"
#include "udpgate/proxy_options.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {
namespace simulation {

int64_t Nanoseconds(absl::Duration time);

struct SimulationState {
  // Both pointers must outlive it.
  SimulationState(uint64_t seed, Coverage* all_coverage,
                  test::SimulatedWorld* world);

  int64_t now() const { return clock.NowNanoseconds(); }
  const ProxyLimits& limits() const { return context->options.limits; }
  ProxyStats Stats() const;
  // The timeouts of silence, 0 if there is none; and how long the idle sweep
  // takes to visit all sessions.
  int64_t BackendSilentNanoseconds() const;
  int64_t ClientSilentNanoseconds() const;
  int64_t SweepNanoseconds() const;
  bool IsListener(int fd) const;
  // One at random, or kNone: a session with a backend; a resolution without a
  // result.
  int LiveSession();
  int OpenResolution();

  // Keeps the first broken rule only: what follows it means little.
  template <typename... Texts>
  void Require(bool holds, const Texts&... texts) {
    if (!holds && broken.empty()) broken = absl::StrCat(texts...);
  }
  // An event, for the history.
  template <typename... Texts>
  void Note(const Texts&... texts) {
    ++event;
    if (!must_trace) return;
    history.push_back(
        absl::StrCat((now() - start_nanoseconds) / 1000, " us: ", texts...));
    if (history.size() > 80) history.pop_front();
  }

  Random random;
  Coverage* const coverage;

  // The gateway under test.
  test::SimulatedClock clock;
  const int64_t start_nanoseconds = clock.NowNanoseconds();
  test::SimulatedSysCalls sys_calls;
  const std::shared_ptr<SessionTally> observer =
      std::make_shared<SessionTally>();
  std::unique_ptr<GateContext> context;
  std::unique_ptr<NetworkWatcher> network_watcher;
  std::unique_ptr<Worker> worker;
  std::vector<std::unique_ptr<Reader>> readers;
  std::vector<int> listener_fds;
  int64_t sessions_max = 0;
  int64_t port_count = 0;
  bool worker_reads = false;

  // Its surroundings.
  int64_t fault_interval = 0;      // one call in so many; 0: none
  int64_t interrupt_interval = 0;  // likewise
  int64_t inline_result_interval = 0;
  bool is_calm = true;  // no interruptions, and no results within Resolve
  bool was_draining = false;
  bool was_standby = false;
  bool supersedes_all = false;  // since standby, and it may not have yet
  bool had_faults = false;
  bool had_call_faults = false;
  bool had_network_changes = false;
  std::vector<SocketAddress> lost_addresses;  // at any time
  bool has_unread = false;                    // the socket that is being closed
  int injected_error = 0;                     // of the call under way

  // The model.
  std::vector<ModelClient> clients;
  std::map<SocketAddress, int,
           bool (*)(const SocketAddress&, const SocketAddress&)>
      client_by_address{[](const SocketAddress& a, const SocketAddress& b) {
        return std::memcmp(&a, &b, sizeof(a)) < 0;
      }};
  std::vector<Resolution> resolutions;
  std::vector<int> open_resolutions;
  std::vector<ModelSession> sessions;
  std::map<int, int> session_by_fd;
  int64_t replies_owed = 0;
  uint64_t disconnects_posted = 0;
  uint64_t sessions_restored = 0;
  uint64_t client_received = 0, client_forwarded = 0;
  uint64_t backend_received = 0, backend_forwarded = 0;
  // How many of the ends that were seen could have had this reason.
  std::array<uint64_t, kEndReasonCount> ends_explained{};
  // Errors of one episode are met together: one iteration, or one batch.
  uint64_t episode = 1;
  bool is_stopping = false;
  bool has_stalled = false;
  uint64_t pending_peak = 0;  // since the last CheckAlways
  // What the reader has just read, and of which clients.
  std::vector<uint32_t> batch;
  std::vector<int> batch_clients;

  // The result.
  uint64_t event = 0;  // the number of the last one
  std::string broken;  // the first broken rule; empty if there is none
  bool must_trace = false;
  std::deque<std::string> history;
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_STATE_H_
