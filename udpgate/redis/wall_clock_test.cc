// Jumps of the system clock, by years and in both directions, must have no
// effect. This binary replaces the clock functions of libc, so that all linked
// code, including c-ares, sees the jumps.
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/types/optional.h"
#include "testing/await.h"
#include "udpgate/dns/fake_dns_server.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/redis/internal/scripted_peer.h"
#include "udpgate/redis/redis_backend_resolver.h"

namespace {

constexpr int64_t kTenYearsSeconds = int64_t{10} * 365 * 86400;

std::atomic<int64_t> jump_seconds{0};
// The thread of the test, whose waits have deadlines, sees no jumps.
thread_local bool is_test_thread = false;

int64_t Jump() { return is_test_thread ? 0 : jump_seconds.load(); }

}  // namespace

extern "C" {

// NOLINTBEGIN(readability-identifier-naming): those of libc.
int clock_gettime(clockid_t id, timespec* now) noexcept {
  const int result = static_cast<int>(syscall(SYS_clock_gettime, id, now));
  if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) {
    now->tv_sec += Jump();
  }
  return result;
}

int gettimeofday(timeval* now, void*) noexcept {
  timespec precise;
  clock_gettime(CLOCK_REALTIME, &precise);
  *now = {precise.tv_sec, precise.tv_nsec / 1000};
  return 0;
}

time_t time(time_t* now) noexcept {
  timespec precise;
  clock_gettime(CLOCK_REALTIME, &precise);
  if (now != nullptr) *now = precise.tv_sec;
  return precise.tv_sec;
}
// NOLINTEND(readability-identifier-naming)

}  // extern "C"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::ScriptedPeer;

constexpr absl::Duration kLongTimeout = absl::Minutes(10);

template <typename T>
class Answer {
 public:
  auto Catch() {
    return [state = state_](absl::StatusOr<T> result) {
      internal::MutexLock lock(&state->mutex);
      state->result = std::move(result);
    };
  }
  bool is_done() const {
    internal::MutexLock lock(&state_->mutex);
    return state_->result.has_value();
  }
  absl::StatusOr<T> Await() const {
    if (!AwaitTrue([this] { return is_done(); })) {
      return absl::UnknownError("no result");
    }
    internal::MutexLock lock(&state_->mutex);
    return *state_->result;
  }
  absl::StatusCode AwaitCode() const { return Await().status().code(); }

 private:
  struct State {
    internal::Mutex mutex;
    absl::optional<absl::StatusOr<T>> result ABSL_GUARDED_BY(mutex);
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

// The parameter is the jump in seconds.
class WallClockTest : public ::testing::TestWithParam<int64_t> {
 protected:
  WallClockTest() {
    is_test_thread = true;
    jump_seconds.store(0);
    lookup_options_.dns_servers = dns_.address();
    lookup_options_.attempt_timeout = absl::Minutes(1);
    lookup_options_.attempts_max = 1;
    lookup_options_.success_cache_time = absl::Hours(1);
    redis_options_.command_timeout = absl::Minutes(1);
    redis_options_.stale_backend_age_max = absl::Hours(1);
    redis_options_.log_sink = nullptr;
  }
  ~WallClockTest() override { jump_seconds.store(0); }

  static void JumpNow() { jump_seconds.store(GetParam()); }

  std::shared_ptr<HostLookup> MakeLookup() {
    return *HostLookup::Create(lookup_options_);
  }
  static Answer<std::vector<SocketAddress>> Lookup(
      HostLookup* lookup, absl::Duration timeout = kLongTimeout) {
    Answer<std::vector<SocketAddress>> answer;
    lookup->Lookup("lobby.test", timeout, answer.Catch());
    return answer;
  }
  std::shared_ptr<RedisBackendResolver> MakeConnected(
      const ScriptedPeer& peer) {
    redis_options_.address = peer.address();
    auto resolver = *RedisBackendResolver::Create(redis_options_, MakeLookup());
    EXPECT_TRUE(AwaitTrue([&] { return resolver->Health().ok(); }));
    return resolver;
  }
  static Answer<ResolveResult> Ask(RedisBackendResolver* resolver,
                                   absl::Duration timeout = kLongTimeout) {
    ResolveRequest request;
    request.timeout = timeout;
    Answer<ResolveResult> answer;
    resolver->Resolve(request, answer.Catch());
    return answer;
  }

  test::FakeDnsServer dns_;
  HostLookupOptions lookup_options_;
  RedisOptions redis_options_;
};

INSTANTIATE_TEST_SUITE_P(Jumps, WallClockTest,
                         ::testing::Values(kTenYearsSeconds,
                                           -kTenYearsSeconds));

// Without this, the other tests would show nothing.
TEST_P(WallClockTest, TheSystemClockJumps) {
  EXPECT_EQ(dlsym(RTLD_DEFAULT, "clock_gettime"),
            reinterpret_cast<void*>(&clock_gettime));
  EXPECT_EQ(dlsym(RTLD_DEFAULT, "gettimeofday"),
            reinterpret_cast<void*>(&gettimeofday));
  EXPECT_EQ(dlsym(RTLD_DEFAULT, "time"), reinterpret_cast<void*>(&time));
  const time_t before = time(nullptr);
  JumpNow();
  std::thread([before] {
    EXPECT_NEAR(static_cast<double>(time(nullptr) - before),
                static_cast<double>(GetParam()), 3600);
  }).join();
}

TEST_P(WallClockTest, ALookupKeepsItsTimeout) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  dns_.Hold();
  const auto lookup = MakeLookup();
  const auto long_lived = Lookup(lookup.get());
  ASSERT_TRUE(AwaitTrue([&] { return dns_.query_count("lobby.test") == 1; }));
  JumpNow();
  EXPECT_EQ(Lookup(lookup.get(), absl::Milliseconds(5)).AwaitCode(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(long_lived.is_done());
  EXPECT_EQ(dns_.query_count("lobby.test"), 1);
  dns_.Release();
  EXPECT_TRUE(long_lived.Await().ok());
}

TEST_P(WallClockTest, ASilentNameServerTimesOut) {
  lookup_options_.attempt_timeout = absl::Milliseconds(20);
  dns_.Hold();
  const auto lookup = MakeLookup();
  const auto long_lived = Lookup(lookup.get());
  JumpNow();
  EXPECT_EQ(long_lived.AwaitCode(), absl::StatusCode::kDeadlineExceeded);
}

TEST_P(WallClockTest, AResultIsCached) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  const auto lookup = MakeLookup();
  EXPECT_TRUE(Lookup(lookup.get()).Await().ok());
  JumpNow();
  std::thread([&] {
    EXPECT_TRUE(Lookup(lookup.get()).is_done());  // inline
  }).join();
  EXPECT_EQ(dns_.query_count("lobby.test"), 1);
}

TEST_P(WallClockTest, AResolutionKeepsItsTimeout) {
  redis_options_.gets_in_flight_max = 1;
  redis_options_.stale_backend_age_max = absl::ZeroDuration();
  ScriptedPeer peer(ScriptedPeer::Healthy);
  const auto resolver = MakeConnected(peer);
  const auto long_lived = Ask(resolver.get());
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("GET") == 1; }));
  JumpNow();
  EXPECT_EQ(Ask(resolver.get(), absl::Milliseconds(5)).AwaitCode(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(long_lived.is_done());
  peer.SayToAll(ScriptedPeer::Bulk("1.2.3.4:5"));
  EXPECT_TRUE(long_lived.Await().ok());
  EXPECT_EQ(peer.accepted_count(), 1);
}

TEST_P(WallClockTest, ASilentRedisTimesOutAndIsRetried) {
  redis_options_.command_timeout = absl::Milliseconds(50);
  ScriptedPeer peer(ScriptedPeer::Healthy);
  const auto resolver = MakeConnected(peer);
  JumpNow();
  EXPECT_EQ(Ask(resolver.get()).AwaitCode(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(AwaitTrue([&] { return peer.accepted_count() >= 2; }));
}

TEST_P(WallClockTest, TheLastBackendDoesNotAge) {
  std::atomic<bool> is_away{false};
  ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (is_away.load()) return ScriptedPeer::SayAndClose("");
    if (command[0] != "GET") return ScriptedPeer::Healthy(command);
    return ScriptedPeer::Say(ScriptedPeer::Bulk("1.2.3.4:5"));
  });
  const auto resolver = MakeConnected(peer);
  EXPECT_TRUE(Ask(resolver.get()).Await().ok());
  JumpNow();
  is_away.store(true);
  peer.CloseAll();
  ASSERT_TRUE(AwaitTrue([&] { return !resolver->Health().ok(); }));
  EXPECT_TRUE(Ask(resolver.get()).Await().ok());
  EXPECT_EQ(resolver->GetStats().stale_answers, 1u);
}

}  // namespace
}  // namespace udpgate
