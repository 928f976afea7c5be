// Many seeds of the simulation of joins. A seed that breaks a rule is printed
// with its last events, and can be repeated with UDPGATE_SIMULATION_FIRST_SEED
// and UDPGATE_SIMULATION_SEEDS.
#include "testing/internal/simulation/nethernet_simulation.h"

#include <cstdint>
#include <string>

#include "gtest/gtest.h"
#include "testing/internal/simulation/seeds.h"

namespace udpgate {
namespace internal {
namespace simulation {
namespace {

TEST(NetherNetSimulationTest, NoSeedBreaksARule) {
  constexpr uint64_t kSeedCount = 400;
  const Seeds seeds = SeedsToRun(kSeedCount);
  NetherNetModel::Coverage coverage;
  for (uint64_t seed = seeds.first; seed < seeds.end(); ++seed) {
    NetherNetSimulation simulation(seed, &coverage);
    const std::string broken = simulation.Run();
    ASSERT_TRUE(broken.empty())
        << "seed " << seed << ": " << broken << "\nafter:\n"
        << simulation.History();
  }
  if (seeds.count < kSeedCount) return;
  for (const char* const what :
       {"expired", "left", "displaced", "came back", "brought back",
        "relay kept", "moved", "table full", "cancelled", "asked again",
        "same ufrag refused", "ended elsewhere", "address limit",
        "stun_unknown_ufrag", "stun_wrong_integrity", "dtls_without_session",
        "disconnected", "takeover"}) {
    EXPECT_GT(coverage.counts[what], 0) << what;
  }
}

}  // namespace
}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
