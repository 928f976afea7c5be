// Many seeds of the simulation of two gateways. A seed that breaks a rule is
// named, and can be repeated with UDPGATE_SIMULATION_FIRST_SEED and
// UDPGATE_SIMULATION_SEEDS=1.
#include "testing/internal/simulation/forward_simulation.h"

#include <cstdint>
#include <string>

#include "gtest/gtest.h"
#include "testing/internal/simulation/seeds.h"

namespace udpgate {
namespace internal {
namespace simulation {
namespace {

TEST(ForwardSimulationTest, NoSeedBreaksARule) {
#ifdef UDPGATE_SANITIZED
  constexpr uint64_t kSeedCount = 500;
#else
  constexpr uint64_t kSeedCount = 5000;
#endif
  const Seeds seeds = SeedsToRun(kSeedCount);
  ForwardCoverage coverage;
  for (uint64_t seed = seeds.first; seed < seeds.end(); ++seed) {
    const std::string broken = ForwardSimulation(seed, &coverage).Run();
    ASSERT_EQ(broken, "") << "seed " << seed;
  }
  if (seeds.count < 500) return;
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
