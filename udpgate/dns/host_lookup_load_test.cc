// The cache, shared queries, limits, time-outs and threads of lookups.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "udpgate/dns/host_lookup_fixture.h"

namespace udpgate {
namespace {

using test::HostLookupTest;
using test::kLong;
using test::LookupResult;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(HostLookupTest, QueriesAgainAfterTheCacheTime) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  const auto lookup = Make();
  EXPECT_THAT(Find(lookup.get(), "lobby.test"), ElementsAre("10.0.0.5"));
  dns_.Set("lobby.test", {"10.0.0.6"});
  clock_.Advance(options_.success_cache_time - absl::Nanoseconds(1));
  LookupResult cached;
  lookup->Lookup("LOBBY.test", kLong, cached.Catch());
  EXPECT_EQ(cached.count(), 1);  // inline
  EXPECT_THAT(cached.ips(), ElementsAre("10.0.0.5"));
  clock_.Advance(absl::Nanoseconds(1));
  EXPECT_THAT(Find(lookup.get(), "lobby.test"), ElementsAre("10.0.0.6"));
  EXPECT_EQ(dns_.query_count("lobby.test"), 2);
}

TEST_F(HostLookupTest, CachesAFailureForAShorterTime) {
  const auto lookup = Make();
  EXPECT_EQ(FindError(lookup.get(), "late.test"), absl::StatusCode::kNotFound);
  const int queries = dns_.query_count("late.test");
  dns_.Set("late.test", {"10.0.0.5"});
  EXPECT_EQ(FindError(lookup.get(), "late.test"), absl::StatusCode::kNotFound);
  EXPECT_EQ(dns_.query_count("late.test"), queries);
  clock_.Advance(options_.failure_cache_time);
  EXPECT_THAT(Find(lookup.get(), "late.test"), ElementsAre("10.0.0.5"));
}

TEST_F(HostLookupTest, CachesNothingIfTheTimeIsZero) {
  options_.success_cache_time = absl::ZeroDuration();
  dns_.Set("lobby.test", {"10.0.0.5"});
  const auto lookup = Make();
  Find(lookup.get(), "lobby.test");
  Find(lookup.get(), "lobby.test");
  EXPECT_EQ(dns_.query_count("lobby.test"), 2);
}

TEST_F(HostLookupTest, LimitsTheCache) {
  options_.cache_entries_max = 2;
  const auto lookup = Make();
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 3; ++i) {
      const std::string name = absl::StrCat("lobby", i, ".test");
      dns_.Set(name, {"10.0.0.5"});
      EXPECT_THAT(Find(lookup.get(), name), ElementsAre("10.0.0.5"));
    }
  }
  int queries = 0;
  for (int i = 0; i < 3; ++i) {
    queries += dns_.query_count(absl::StrCat("lobby", i, ".test"));
  }
  EXPECT_GT(queries, 3);
}

TEST_F(HostLookupTest, SharesTheQueryOfOneName) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  dns_.Hold();
  const auto lookup = Make();
  std::vector<LookupResult> results(50);
  for (LookupResult& result : results) {
    lookup->Lookup("lobby.test", kLong, result.Catch());
  }
  ASSERT_TRUE(
      test::AwaitTrue([&] { return dns_.query_count("lobby.test") == 1; }));
  dns_.Release();
  for (LookupResult& result : results) {
    ASSERT_TRUE(result.Await());
    EXPECT_THAT(result.ips(), ElementsAre("10.0.0.5"));
  }
  EXPECT_EQ(dns_.query_count("lobby.test"), 1);
}

TEST_F(HostLookupTest, OneTimeoutDoesNotEndTheOtherLookup) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  dns_.Hold();
  const auto lookup = Make();
  LookupResult long_lived, short_lived;
  lookup->Lookup("lobby.test", kLong, long_lived.Catch());
  lookup->Lookup("lobby.test", absl::Milliseconds(20), short_lived.Catch());
  ASSERT_TRUE(short_lived.Await());
  EXPECT_EQ(short_lived.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(long_lived.is_done());
  dns_.Release();
  ASSERT_TRUE(long_lived.Await());
  EXPECT_THAT(long_lived.ips(), ElementsAre("10.0.0.5"));
  EXPECT_EQ(short_lived.count(), 1);
}

TEST_F(HostLookupTest, ATimeoutOfZeroExpiresImmediately) {
  dns_.Hold();
  const auto lookup = Make();
  for (const absl::Duration timeout :
       {absl::ZeroDuration(), -absl::InfiniteDuration()}) {
    LookupResult result;
    lookup->Lookup("lobby.test", timeout, result.Catch());
    ASSERT_TRUE(result.Await());
    EXPECT_EQ(result.code(), absl::StatusCode::kDeadlineExceeded);
  }
}

TEST_F(HostLookupTest, ASilentServerTimesOut) {
  options_.attempt_timeout = absl::Milliseconds(20);
  options_.attempts_max = 2;
  dns_.Hold();
  LookupResult result;
  const auto lookup = Make();
  lookup->Lookup("lobby.test", absl::InfiniteDuration(), result.Catch());
  ASSERT_TRUE(result.Await());
  EXPECT_EQ(result.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("lobby.test"));
}

TEST_F(HostLookupTest, LimitsPendingLookups) {
  options_.lookups_waiting_max = 4;
  dns_.Hold();
  const auto lookup = Make();
  std::vector<LookupResult> results(10);
  for (size_t i = 0; i < results.size(); ++i) {
    lookup->Lookup(absl::StrCat("lobby", i, ".test"), kLong,
                   results[i].Catch());
  }
  int refused = 0;
  for (LookupResult& result : results) {
    if (!result.is_done()) continue;
    EXPECT_EQ(result.code(), absl::StatusCode::kResourceExhausted);
    ++refused;
  }
  EXPECT_GE(refused, 6);
  // Completed lookups free their places.
  dns_.Release();
  ASSERT_TRUE(test::AwaitTrue([&] {
    for (LookupResult& result : results) {
      if (!result.is_done()) return false;
    }
    return true;
  }));
  dns_.Set("after.test", {"10.0.0.5"});
  EXPECT_THAT(Find(lookup.get(), "after.test"), ElementsAre("10.0.0.5"));
}

TEST_F(HostLookupTest, LimitsAbandonedQueries) {
  options_.lookups_waiting_max = 3;
  options_.success_cache_time = absl::ZeroDuration();
  dns_.Set("lobby.test", {"10.0.0.5"});
  dns_.Swallow(AF_INET6);
  const auto lookup = Make();
  EXPECT_TRUE(test::AwaitTrue([&] {
    LookupResult result;
    lookup->Lookup("lobby.test", kLong, result.Catch());
    return result.Await() &&
           result.code() == absl::StatusCode::kResourceExhausted;
  }));
  EXPECT_LE(dns_.query_count("lobby.test"), 3);
}

TEST_F(HostLookupTest, StopsImmediatelyWhileAServerHangs) {
  dns_.Hold();
  auto lookup = Make();
  std::vector<LookupResult> results(3);
  for (LookupResult& result : results) {
    lookup->Lookup("lobby.test", kLong, result.Catch());
  }
  ASSERT_TRUE(
      test::AwaitTrue([&] { return dns_.query_count("lobby.test") == 1; }));
  const absl::Time before = absl::Now();
  lookup.reset();
  // Some 10 ms; the rest is for a machine that is busy with other tests.
  EXPECT_LT(absl::Now() - before, absl::Seconds(1));
  for (LookupResult& result : results) {
    EXPECT_EQ(result.count(), 1);
    EXPECT_EQ(result.code(), absl::StatusCode::kCancelled);
  }
}

TEST_F(HostLookupTest, MayBeCalledInACallback) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  options_.success_cache_time = absl::ZeroDuration();
  const auto lookup = Make();
  LookupResult second;
  lookup->Lookup("lobby.test", kLong,
                 [&](absl::StatusOr<std::vector<SocketAddress>>) {
                   lookup->Lookup("lobby.test", kLong, second.Catch());
                 });
  ASSERT_TRUE(second.Await());
  EXPECT_THAT(second.ips(), ElementsAre("10.0.0.5"));
}

TEST_F(HostLookupTest, ServesManyThreads) {
  options_.success_cache_time = absl::ZeroDuration();
  for (int i = 0; i < 4; ++i) {
    dns_.Set(absl::StrCat("lobby", i, ".test"), {"10.0.0.5"});
  }
  const auto lookup = Make();
  constexpr int kThreads = 4;
  constexpr int kLookups = 100;
  std::atomic<int> found{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kLookups; ++i) {
        lookup->Lookup(absl::StrCat("lobby", (thread + i) % 4, ".test"), kLong,
                       [&](absl::StatusOr<std::vector<SocketAddress>> result) {
                         if (result.ok()) found.fetch_add(1);
                       });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(
      test::AwaitTrue([&] { return found.load() == kThreads * kLookups; }));
}

}  // namespace
}  // namespace udpgate
