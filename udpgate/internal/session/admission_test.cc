#include "udpgate/internal/session/admission.h"

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace udpgate {
namespace internal {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

SocketAddress Address(const std::string& text) {
  return *SocketAddress::Parse(text);
}

class AdmissionTest : public ::testing::Test {
 protected:
  // What refuses `client`; nothing where it may begin.
  absl::optional<DropReason> Begin(Admission* admission,
                                   const std::string& client,
                                   int64_t now_nanoseconds = 0) {
    const absl::optional<DropReason> refusal = admission->Begin(
        Address(client), 0, now_nanoseconds, [] { return false; });
    if (!refusal.has_value()) admission->EndPending();
    return refusal;
  }

  ProxyLimits limits_;
};

TEST_F(AdmissionTest, AFullGateAsksForAPlace) {
  Admission admission(limits_, 1);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:1"), absl::nullopt);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:2"), DropReason::kSessionLimit);
  EXPECT_EQ(admission.session_count(), 1);
  const auto evict = [&] {
    admission.End(Address("1.0.0.1:1"), SessionState::kPending);
    return true;
  };
  EXPECT_EQ(admission.Begin(Address("1.0.0.1:3"), 0, 0, evict), absl::nullopt);
  EXPECT_EQ(admission.session_count(), 1);
}

TEST_F(AdmissionTest, PendingClientsAndTheirBytesAreBounded) {
  limits_.pending_clients_max = 2;
  limits_.pending_bytes_max = 65536;
  Admission admission(limits_, 10);
  const auto begin = [&](const char* client) {
    return admission.Begin(Address(client), 0, 0, [] { return false; });
  };
  EXPECT_EQ(begin("1.0.0.1:1"), absl::nullopt);
  EXPECT_EQ(begin("1.0.0.1:2"), absl::nullopt);
  EXPECT_EQ(begin("1.0.0.1:3"), DropReason::kPendingLimit);
  admission.EndPending();
  EXPECT_EQ(begin("1.0.0.1:3"), absl::nullopt);

  EXPECT_TRUE(admission.TakeHeldBytes(65000));
  EXPECT_FALSE(admission.TakeHeldBytes(537));
  EXPECT_TRUE(admission.TakeHeldBytes(536));
  // Full of bytes: nobody begins, and nothing is taken by the attempt.
  admission.EndPending();
  EXPECT_EQ(admission.Begin(Address("1.0.0.1:4"), 1, 0, [] { return false; }),
            DropReason::kPendingLimit);
  EXPECT_EQ(begin("1.0.0.1:4"), absl::nullopt);
  admission.GiveBackHeldBytes(65536);
  EXPECT_TRUE(admission.TakeHeldBytes(65536));
}

TEST_F(AdmissionTest, NewLimitsHoldForWhoComes) {
  limits_.max_sessions_per_ip = 1;
  limits_.new_sessions_per_second = 0;
  Admission admission(limits_, 1);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:1"), absl::nullopt);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:2"), DropReason::kSessionLimitPerIp);
  EXPECT_EQ(Begin(&admission, "2.0.0.1:1"), DropReason::kSessionLimit);

  ProxyLimits limits = limits_;
  limits.max_sessions_per_ip = 2;
  limits.new_sessions_per_second = 1;
  limits.deny_cidrs = *ParseCidrList("3.0.0.0/8");
  admission.SetLimits(limits, 5);
  EXPECT_EQ(admission.sessions_max(), 5);
  EXPECT_EQ(Begin(&admission, "3.0.0.1:1"), DropReason::kDenied);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:2"), absl::nullopt);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:3"), DropReason::kSessionLimitPerIp);
  EXPECT_EQ(Begin(&admission, "2.0.0.1:1"), DropReason::kNewSessionRate);

  admission.SetLimits(limits_, 1);
  EXPECT_EQ(Begin(&admission, "3.0.0.1:1"), DropReason::kSessionLimit);
  EXPECT_EQ(admission.session_count(), 2);  // nobody was ended
}

// They are counted from the first session on, whatever the limits say.
TEST_F(AdmissionTest, ALimitPerAddressThatComesLateHolds) {
  limits_.max_unconfirmed_sessions_per_ip = 0;
  Admission admission(limits_, 10);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:1"), absl::nullopt);
  ProxyLimits limits = limits_;
  limits.max_sessions_per_ip = 1;
  admission.SetLimits(limits, 10);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:2"), DropReason::kSessionLimitPerIp);
  EXPECT_EQ(Begin(&admission, "1.0.0.2:2"), absl::nullopt);
  limits.max_sessions_per_ip = 0;
  limits.max_unconfirmed_sessions_per_ip = 1;
  admission.SetLimits(limits, 10);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:2"), DropReason::kUnconfirmedLimitPerIp);
  admission.SetLimits(limits_, 10);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:2"), absl::nullopt);
}

TEST_F(AdmissionTest, UnconfirmedSessionsOfAnAddressAreLimited) {
  limits_.max_unconfirmed_sessions_per_ip = 2;
  Admission admission(limits_, 1000);
  // Pending ones count.
  const auto begin = [&](const char* client) {
    return admission.Begin(Address(client), 0, 0, [] { return false; });
  };
  EXPECT_EQ(begin("1.0.0.1:1"), absl::nullopt);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:2"), absl::nullopt);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:3"), DropReason::kUnconfirmedLimitPerIp);
  EXPECT_EQ(Begin(&admission, "1.0.0.2:3"), absl::nullopt);
  // Confirmed ones do not, however many there are.
  for (int i = 3; i < 20; ++i) {
    admission.Confirm(Address("1.0.0.1:2"));
    EXPECT_EQ(Begin(&admission, "1.0.0.1:3"), absl::nullopt);
    EXPECT_EQ(Begin(&admission, "1.0.0.1:4"),
              DropReason::kUnconfirmedLimitPerIp);
  }
  // The end of a confirmed one makes no room, that of another one does.
  admission.End(Address("1.0.0.1:2"), SessionState::kConfirmed);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:4"), DropReason::kUnconfirmedLimitPerIp);
  admission.EndPending();
  admission.End(Address("1.0.0.1:1"), SessionState::kPending);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:4"), absl::nullopt);

  EXPECT_EQ(Begin(&admission, "[2001:db8:0:1::1]:1"), absl::nullopt);
  EXPECT_EQ(Begin(&admission, "[2001:db8:0:1:ffff::]:1"), absl::nullopt);
  EXPECT_EQ(Begin(&admission, "[2001:db8:0:1::3]:1"),
            DropReason::kUnconfirmedLimitPerIp);
  EXPECT_EQ(Begin(&admission, "[2001:db8:0:2::1]:1"), absl::nullopt);
}

TEST_F(AdmissionTest, WhatIsAdoptedCountsAsUnconfirmedUntilItIsNot) {
  limits_.max_unconfirmed_sessions_per_ip = 1;
  Admission admission(limits_, 10);
  admission.Adopt(Address("1.0.0.1:1"), SessionState::kConfirmed, 0);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:2"), absl::nullopt);
  admission.Adopt(Address("1.0.0.2:1"), SessionState::kUnconfirmed, 0);
  EXPECT_EQ(Begin(&admission, "1.0.0.2:2"), DropReason::kUnconfirmedLimitPerIp);
  admission.Confirm(Address("1.0.0.2:1"));
  EXPECT_EQ(Begin(&admission, "1.0.0.2:2"), absl::nullopt);
}

// An address at its limit must not keep the shards busy.
TEST_F(AdmissionTest, SilentSessionsAreLookedForTenTimesASecond) {
  Admission admission(limits_, 10);
  EXPECT_FALSE(admission.MayLookForSilent(Address("1.0.0.1:1"), 0));
  EXPECT_EQ(Begin(&admission, "1.0.0.1:1"), absl::nullopt);
  int look_count = 0;
  for (int64_t now = 0; now < kSecond; now += kSecond / 1000) {
    if (admission.MayLookForSilent(Address("1.0.0.1:2"), now)) ++look_count;
  }
  EXPECT_EQ(look_count, 10);
}

// Raising MAX_SESSIONS must not leave too little room to count addresses.
TEST_F(AdmissionTest, TheRoomForAddressesGrowsWithTheSessions) {
  limits_.new_sessions_per_second = 0;
  Admission admission(limits_, 10);
  admission.SetLimits(limits_, 100'000);
  for (uint32_t i = 0; i < 90'000; ++i) {
    ASSERT_EQ(Begin(&admission, std::to_string(1 + i / 65536) + "." +
                                    std::to_string(i / 256 % 256) + "." +
                                    std::to_string(i % 256) + ".1:1"),
              absl::nullopt)
        << i;
  }
}

TEST_F(AdmissionTest, ARateAllowsABurstAndThenItsPace) {
  limits_.new_sessions_per_second = 10;
  Admission admission(limits_, 1000);
  const int64_t start = 5 * kSecond;
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Begin(&admission, "1.0.0.1:1", start), absl::nullopt) << i;
  }
  EXPECT_EQ(Begin(&admission, "1.0.0.1:1", start), DropReason::kNewSessionRate);
  const int64_t later = start + kSecond / 10;
  EXPECT_EQ(Begin(&admission, "1.0.0.1:1", later - 1),
            DropReason::kNewSessionRate);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:1", later), absl::nullopt);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:1", later), DropReason::kNewSessionRate);
  // A long rest saves up one burst, not more.
  int admitted = 0;
  while (Begin(&admission, "1.0.0.1:1", 100 * kSecond) == absl::nullopt) {
    ++admitted;
  }
  EXPECT_EQ(admitted, 10);
}

TEST_F(AdmissionTest, AnAddressHasItsOwnRateAndTakesNoShareBeyondIt) {
  limits_.new_sessions_per_second = 10;
  limits_.new_sessions_per_second_per_ip = 2;
  Admission admission(limits_, 1000);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:1"), absl::nullopt);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:2"), absl::nullopt);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(Begin(&admission, "1.0.0.1:3"), DropReason::kNewSessionRatePerIp);
  }
  for (int i = 2; i < 10; ++i) {
    EXPECT_EQ(Begin(&admission, "1.0.1." + std::to_string(i) + ":1"),
              absl::nullopt);
  }
  EXPECT_EQ(Begin(&admission, "1.0.2.1:1"), DropReason::kNewSessionRate);
}

TEST_F(AdmissionTest, SessionsOfAnAddressAreCountedByNetwork) {
  limits_.max_sessions_per_ip = 2;
  Admission admission(limits_, 1000);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:1"), absl::nullopt);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:2"), absl::nullopt);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:3"), DropReason::kSessionLimitPerIp);
  EXPECT_EQ(Begin(&admission, "1.0.0.2:3"), absl::nullopt);
  admission.End(Address("1.0.0.1:1"), SessionState::kPending);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:3"), absl::nullopt);

  EXPECT_EQ(Begin(&admission, "[2001:db8:0:1::1]:1"), absl::nullopt);
  EXPECT_EQ(Begin(&admission, "[2001:db8:0:1:ffff::]:1"), absl::nullopt);
  EXPECT_EQ(Begin(&admission, "[2001:db8:0:1::3]:1"),
            DropReason::kSessionLimitPerIp);
  EXPECT_EQ(Begin(&admission, "[2001:db8:0:2::1]:1"), absl::nullopt);
}

TEST_F(AdmissionTest, WhatIsAdoptedTakesItsPlaceWhateverTheLimits) {
  limits_.max_sessions_per_ip = 1;
  limits_.pending_clients_max = 1;
  limits_.pending_bytes_max = 10;
  Admission admission(limits_, /*sessions_max=*/2);
  admission.Adopt(Address("1.0.0.1:1"), SessionState::kPending, 6);
  admission.Adopt(Address("1.0.0.1:2"), SessionState::kPending, 6);
  admission.Adopt(Address("1.0.0.1:3"), SessionState::kConfirmed, 0);
  EXPECT_EQ(admission.session_count(), 3);
  EXPECT_EQ(Begin(&admission, "1.0.0.2:1"), DropReason::kPendingLimit);
  admission.EndPending();
  admission.EndPending();
  EXPECT_FALSE(admission.TakeHeldBytes(1));
  admission.GiveBackHeldBytes(12);
  EXPECT_EQ(Begin(&admission, "1.0.0.2:1"), DropReason::kSessionLimit);
  for (const char* client : {"1.0.0.1:1", "1.0.0.1:2"}) {
    admission.End(Address(client), SessionState::kPending);
    EXPECT_EQ(Begin(&admission, "1.0.0.1:4"), DropReason::kSessionLimitPerIp);
  }
  admission.End(Address("1.0.0.1:3"), SessionState::kConfirmed);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:4"), absl::nullopt);
}

TEST_F(AdmissionTest, ARefusedSessionLeavesNoTrace) {
  limits_.max_sessions_per_ip = 1;
  Admission admission(limits_, 1);
  EXPECT_EQ(Begin(&admission, "1.0.0.1:1"), absl::nullopt);
  EXPECT_EQ(Begin(&admission, "1.0.0.2:1"), DropReason::kSessionLimit);
  admission.End(Address("1.0.0.1:1"), SessionState::kPending);
  EXPECT_EQ(Begin(&admission, "1.0.0.2:1"), absl::nullopt);
}

TEST_F(AdmissionTest, DenyWinsAndAnAllowListRefusesTheRest) {
  limits_.deny_cidrs = *ParseCidrList("10.1.0.0/16");
  {
    Admission admission(limits_, 10);
    EXPECT_EQ(Begin(&admission, "10.1.0.1:1"), DropReason::kDenied);
    EXPECT_EQ(Begin(&admission, "10.2.0.1:1"), absl::nullopt);
  }
  limits_.allow_cidrs = *ParseCidrList("10.0.0.0/8, 2001:db8::/32");
  Admission admission(limits_, 10);
  EXPECT_EQ(Begin(&admission, "10.1.0.1:1"), DropReason::kDenied);
  EXPECT_EQ(Begin(&admission, "10.2.0.1:1"), absl::nullopt);
  EXPECT_EQ(Begin(&admission, "[2001:db8::1]:1"), absl::nullopt);
  EXPECT_EQ(Begin(&admission, "11.0.0.1:1"), DropReason::kDenied);
}

// A flood of addresses must not fill the memory, nor lock newcomers out for
// longer than it lasts.
TEST_F(AdmissionTest, WatchedAddressesAreBounded) {
  limits_.new_sessions_per_second = 0;
  limits_.new_sessions_per_second_per_ip = 1;
  Admission admission(limits_, 1000);
  int refused = 0;
  for (uint32_t i = 0; i < 100'000; ++i) {
    const std::string client = std::to_string(1 + i / 65536) + "." +
                               std::to_string(i / 256 % 256) + "." +
                               std::to_string(i % 256) + ".1:1";
    if (Begin(&admission, client, 0) == absl::nullopt) {
      admission.End(Address(client), SessionState::kPending);
    } else {
      ++refused;
    }
  }
  EXPECT_GT(refused, 0);
  EXPECT_EQ(Begin(&admission, "99.0.0.1:1", 2 * kSecond), absl::nullopt);
}

TEST_F(AdmissionTest, ManyThreadsNeverExceedTheLimits) {
  limits_.new_sessions_per_second = 100;
  Admission admission(limits_, 1000);
  std::vector<std::thread> threads;
  std::atomic<int> admitted{0};
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 1000; ++n) {
        if (Begin(&admission, "1.0.0.1:1") == absl::nullopt) ++admitted;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(admitted, 100);
  EXPECT_EQ(admission.session_count(), 100);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
