// Many seeds of the simulation of two gateways. A seed that breaks a rule is
// named, and can be repeated with UDPGATE_SIMULATION_FIRST_SEED and
// UDPGATE_SIMULATION_SEEDS=1.
#include "testing/internal/simulation/forward_simulation.h"

#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/numbers.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace internal {
namespace simulation {
namespace {

uint64_t NumberFrom(const char* variable, uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  uint64_t number = otherwise;
  if (text != nullptr && !absl::SimpleAtoi(text, &number)) {
    ADD_FAILURE() << variable << "=" << text << ": not a number";
  }
  return number;
}

TEST(ForwardSimulationTest, NoSeedBreaksARule) {
#ifdef UDPGATE_SANITIZED
  constexpr uint64_t kSeedCount = 500;
#else
  constexpr uint64_t kSeedCount = 5000;
#endif
  const uint64_t first = NumberFrom("UDPGATE_SIMULATION_FIRST_SEED", 1);
  const uint64_t count = NumberFrom("UDPGATE_SIMULATION_SEEDS", kSeedCount);
  ForwardCoverage coverage;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    const std::string broken = ForwardSimulation(seed, &coverage).Run();
    ASSERT_EQ(broken, "") << "seed " << seed;
  }
  if (count < 500) return;
  const ProxyStats& stats = coverage.stats;
  for (const DropReason reason :
       {DropReason::kHopInvalid, DropReason::kHopReplayed,
        DropReason::kHopNoSession, DropReason::kHopLimit, DropReason::kStandby,
        DropReason::kQueueFull}) {
    EXPECT_GT(stats.dropped(reason), 0u) << DropReasonName(reason);
  }
  EXPECT_GT(stats.ended(EndReason::kForwarded), 0u);
  EXPECT_GT(stats.hop_client_datagrams_received, 0u);
  EXPECT_GT(stats.hop_replies_received, 0u);
  EXPECT_GT(stats.hop_refusals, 0u);
  EXPECT_GT(stats.hop_silences, 0u);
  EXPECT_GT(coverage.replies_by_hop, 0);
  EXPECT_GT(coverage.wrong_owners, 0);
  EXPECT_GT(coverage.repeated, 0);
}

}  // namespace
}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
