// Many seeds of the simulation. A seed that breaks a rule is printed with its
// last events, and can be repeated:
//
//   tools/simulate.sh --seeds 100000               many
//   tools/simulate.sh --first-seed 123 --seeds 1   that one
#include "testing/internal/simulation/simulation.h"

#include <unistd.h>
#ifdef UDPGATE_SANITIZED
#include <sanitizer/common_interface_defs.h>
#endif

#include <csignal>
#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/str_format.h"
#include "gtest/gtest.h"
#include "testing/internal/simulation/seeds.h"

namespace udpgate {
namespace internal {
namespace simulation {
namespace {

void ExpectToHaveMet(const Coverage& coverage) {
  const ProxyStats& stats = coverage.stats;
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    // There is only one gateway.
    if (static_cast<EndReason>(i) == EndReason::kForwarded) continue;
    EXPECT_GT(stats.sessions_ended[i], 0u)
        << EndReasonName(static_cast<EndReason>(i));
  }
  for (const DropReason reason :
       {DropReason::kInvalidSource,         DropReason::kQueueFull,
        DropReason::kPendingFull,           DropReason::kNoBackend,
        DropReason::kInvalidBackend,        DropReason::kResolveFailed,
        DropReason::kResolveTimedOut,       DropReason::kDenied,
        DropReason::kSessionLimit,          DropReason::kSessionLimitPerIp,
        DropReason::kUnconfirmedLimitPerIp, DropReason::kNewSessionRate,
        DropReason::kPendingLimit,          DropReason::kStunUnknownUfrag,
        DropReason::kNoUpstreamSocket,      DropReason::kDraining,
        DropReason::kSessionEnded,          DropReason::kBackendRefused,
        DropReason::kBackendSendFailed,     DropReason::kUnconfirmedReplyLimit,
        DropReason::kReplySendFailed,       DropReason::kStandby}) {
    EXPECT_GT(stats.dropped(reason), 0u) << DropReasonName(reason);
  }
  for (size_t i = 0; i < kReopenReasonCount; ++i) {
    EXPECT_GT(stats.sessions_reopened[i], 0u)
        << ReopenReasonName(static_cast<ReopenReason>(i));
  }
  EXPECT_GT(coverage.replies_beyond_limit, 0);
  EXPECT_GT(coverage.sessions_settled_paused, 0);
  EXPECT_GT(stats.client_datagrams_forwarded, 0u);
  EXPECT_GT(stats.backend_datagrams_forwarded, 0u);
  EXPECT_GT(coverage.resolutions_repeated, 0);
  EXPECT_GT(coverage.results_repeated, 0);
  EXPECT_GT(coverage.results_late, 0);
  EXPECT_GT(coverage.sends_failed, 0);
  EXPECT_GT(coverage.sessions_confirmed, 0);
  for (const int64_t count : coverage.restore_outcomes) EXPECT_GT(count, 0);
}

// A seed that crashes is named too.
char running_seed[64];

void PrintRunningSeed() {
  const ssize_t written =
      ::write(STDERR_FILENO, running_seed, std::strlen(running_seed));
  static_cast<void>(written);
}

void PrintRunningSeedOnCrash() {
#ifdef UDPGATE_SANITIZED
  __sanitizer_set_death_callback(PrintRunningSeed);
#else
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGABRT}) {
    std::signal(signal, [](int received) {
      PrintRunningSeed();
      std::signal(received, SIG_DFL);
      std::raise(received);
    });
  }
#endif
}

TEST(SimulationTest, NoSeedBreaksARule) {
#ifdef UDPGATE_SANITIZED
  constexpr uint64_t kSeedCount = 1000;
#else
  constexpr uint64_t kSeedCount = 5000;
#endif
  const Seeds seeds = SeedsToRun(kSeedCount);
  PrintRunningSeedOnCrash();
  Coverage coverage;
  for (uint64_t seed = seeds.first; seed < seeds.end(); ++seed) {
    absl::SNPrintF(running_seed, sizeof(running_seed),
                   "died at seed %d of the simulation\n", seed);
    const std::string broken = Simulation(seed, &coverage).Run();
    if (broken.empty()) continue;
    Coverage unused;
    Simulation again(seed, &unused);
    again.Trace();
    const std::string broken_again = again.Run();
    FAIL() << "seed " << seed << ": " << broken << "\nafter:\n"
           << again.History() << "\nreplays as: " << broken_again
           << "\nreplay: tools/simulate.sh --first-seed " << seed
           << " --seeds 1";
  }
  if (seeds.count >= 1000) ExpectToHaveMet(coverage);
}

}  // namespace
}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
