// What 50,000 sessions cost the store.
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "udpgate/store/internal/core_fixture.h"

namespace udpgate {
namespace store {
namespace internal {
namespace {

constexpr int kSessions = 50'000;

SocketAddress Client(int number) {
  return SocketAddress::FromIpAndPort(
             absl::StrCat("203.0.", number / 1000, ".7"),
             static_cast<uint16_t>(1000 + number % 1000))
      .value();
}

class CommandCountTest : public ::testing::Test {
 protected:
  static SessionKeeperOptions Options() {
    SessionKeeperOptions options;
    options.gateway_id = "a";
    options.log_sink = nullptr;
    // Comparisons with the sessions need no calls, and much time here.
    options.sweep_interval = absl::Minutes(3);
    return options;
  }
  void Start() {
    host_ = fleet_.NewHost(Options(), SocketAddress::Ipv4Loopback(19132));
    host_->Start();
  }
  void Advance(absl::Duration time) { fleet_.Advance(time, {host_.get()}); }
  void ConfirmAll() {
    for (int i = 0; i < kSessions; ++i) {
      host_->Confirm(Client(i), SocketAddress::Ipv4Loopback(9));
    }
  }

  CoreFleet fleet_;
  std::unique_ptr<CoreHost> host_;
};

TEST_F(CommandCountTest, TheSteadyStateStaysFarBelowTheLimit) {
  Start();
  ConfirmAll();
  Advance(absl::Seconds(5));
  ASSERT_EQ(host_->stats().written, uint64_t{kSessions});
  uint64_t calls_max = 0;
  uint64_t items_max = 0;
  for (int second = 0; second < 60; ++second) {
    const uint64_t calls = fleet_.store.call_count();
    const uint64_t items = fleet_.store.item_count();
    Advance(absl::Seconds(1));
    calls_max = std::max(calls_max, fleet_.store.call_count() - calls);
    items_max = std::max(items_max, fleet_.store.item_count() - items);
  }
  // Also if each record of a call is a command of its own, or a few.
  EXPECT_LE(calls_max, 10u);
  EXPECT_LE(items_max, 400u);
  RecordProperty("calls_per_second", static_cast<int>(calls_max));
  RecordProperty("records_per_second", static_cast<int>(items_max));
  // All of them in time.
  Advance(Options().record_lifetime / 2 - absl::Minutes(1));
  EXPECT_GE(host_->stats().refreshed, uint64_t{kSessions});
  EXPECT_EQ(fleet_.store.sessions().size(), size_t{kSessions});
}

TEST_F(CommandCountTest, PlayersWhoComeAndGoShareCalls) {
  Start();
  const uint64_t calls = fleet_.store.call_count();
  for (int i = 0; i < 5000; ++i) {
    host_->Confirm(Client(i), SocketAddress::Ipv4Loopback(9));
    if (i >= 500) host_->End(Client(i - 500), EndReason::kIdle);
    Advance(absl::Milliseconds(1));
  }
  // 1000 come and 900 go in each of 5 seconds.
  EXPECT_LE((fleet_.store.call_count() - calls) / 5, 120u);
}

TEST_F(CommandCountTest, NewcomersShareSearches) {
  Start();
  Advance(absl::Seconds(1));
  fleet_.last_connection().SetLink(
      {absl::Microseconds(100), absl::Microseconds(100)});
  const uint64_t calls = fleet_.store.call_count();
  constexpr int kNewcomers = 5000;
  absl::Duration longest = absl::ZeroDuration();
  int answered = 0;
  const auto ask = [&](int i) {
    host_->SetTime();
    const int64_t begin = fleet_.clock.NowNanoseconds();
    host_->core()->Ask(Client(i), absl::Seconds(1), [&, begin](Verdict) {
      ++answered;
      longest = std::max(
          longest, absl::Nanoseconds(fleet_.clock.NowNanoseconds() - begin));
    });
  };
  for (int i = 0; i < kNewcomers; ++i) {
    ask(i);
    Advance(absl::Microseconds(100));
  }
  Advance(absl::Milliseconds(2));
  EXPECT_EQ(answered, kNewcomers);
  // A search a millisecond, and the lease.
  EXPECT_LE(fleet_.store.call_count() - calls, 510u);
  EXPECT_LE(longest, absl::Microseconds(1300));
  // Who comes alone does not wait.
  longest = absl::ZeroDuration();
  ask(0);
  Advance(absl::Microseconds(200));
  EXPECT_EQ(answered, kNewcomers + 1);
}

TEST_F(CommandCountTest, ARestartContinuesAllWithinItsLimits) {
  Start();
  ConfirmAll();
  Advance(absl::Seconds(5));
  host_.reset();
  const uint64_t calls = fleet_.store.call_count();
  Start();
  fleet_.last_connection().SetLink(
      {absl::Milliseconds(1), absl::Milliseconds(1)});
  Advance(absl::Seconds(3));
  EXPECT_EQ(host_->stats().recovered, uint64_t{kSessions});
  EXPECT_EQ(host_->stats().adopted, uint64_t{kSessions});
  EXPECT_LE(fleet_.store.call_count() - calls, 450u);
}

}  // namespace
}  // namespace internal
}  // namespace store
}  // namespace udpgate
