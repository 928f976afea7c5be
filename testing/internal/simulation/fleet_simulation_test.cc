// Many seeds of the simulation of a fleet. A seed that breaks a rule is printed
// with its last events, and can be repeated with UDPGATE_SIMULATION_FIRST_SEED
// and UDPGATE_SIMULATION_SEEDS.
#include "testing/internal/simulation/fleet_simulation.h"

#include <cstdint>
#include <string>

#include "gtest/gtest.h"
#include "testing/internal/simulation/seeds.h"

namespace udpgate {
namespace internal {
namespace simulation {
namespace {

// Bazel shares the slices among its shards.
constexpr uint64_t kSlices = 4;

class FleetSimulationTest : public ::testing::TestWithParam<uint64_t> {};

INSTANTIATE_TEST_SUITE_P(Slices, FleetSimulationTest,
                         ::testing::Range(uint64_t{0}, kSlices));

TEST_P(FleetSimulationTest, NoSeedBreaksARule) {
  constexpr uint64_t kSeedCount = 5000;
  const Seeds seeds = SeedsToRun(kSeedCount);
  FleetModel::Coverage coverage;
  for (uint64_t seed = seeds.first; seed < seeds.end(); ++seed) {
    if (seed % kSlices != GetParam()) continue;
    FleetSimulation simulation(seed, &coverage);
    const std::string broken = simulation.Run();
    ASSERT_TRUE(broken.empty())
        << "seed " << seed << ": " << broken << "\nafter:\n"
        << simulation.History();
  }
  if (seeds.count < kSeedCount) return;
  for (const char* const what : {"moved",
                                 "event dropped",
                                 "disconnect",
                                 "link cut",
                                 "link without replies",
                                 "link late",
                                 "link slow",
                                 "lie",
                                 "store emptied",
                                 "store restored",
                                 "crash",
                                 "stop",
                                 "takeover",
                                 "promoted",
                                 "demoted",
                                 "clock jumped",
                                 "adopted newcomer",
                                 "newcomer of a live owner",
                                 "forwarded",
                                 "recovered",
                                 "lost",
                                 "rewritten",
                                 "invalid",
                                 "not used after a disconnect",
                                 "change dropped",
                                 "from the future"}) {
    EXPECT_GT(coverage.counts[what], 0) << what;
  }
}

}  // namespace
}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
