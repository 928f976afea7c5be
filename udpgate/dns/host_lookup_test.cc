#include "udpgate/dns/host_lookup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/socket.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "testing/await.h"
#include "testing/simulated_clock.h"
#include "testing/temporary_directory.h"
#include "udpgate/dns/fake_dns_server.h"
#include "udpgate/internal/mutex.h"

namespace udpgate {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr absl::Duration kLong = absl::Minutes(1);

// A port of 127.0.0.1 that nobody listens on.
uint16_t FreeUdpPort() { return test::FakeDnsServer().port(); }

// One look-up; `code` and `ips` once it `is_done`.
class Answer {
 public:
  HostLookup::Callback Catch() {
    return [this](absl::StatusOr<std::vector<SocketAddress>> found) {
      internal::MutexLock lock(&mutex_);
      ++count_;
      found_ = std::move(found);
    };
  }
  int count() {
    internal::MutexLock lock(&mutex_);
    return count_;
  }
  bool is_done() { return count() > 0; }
  bool Await() {
    return test::AwaitTrue([this] { return is_done(); });
  }
  absl::Status status() {
    internal::MutexLock lock(&mutex_);
    return found_.status();
  }
  absl::StatusCode code() { return status().code(); }
  std::vector<std::string> ips() {
    internal::MutexLock lock(&mutex_);
    std::vector<std::string> ips;
    if (!found_.ok()) return {found_.status().ToString()};
    for (const SocketAddress& address : *found_) {
      EXPECT_EQ(address.port(), 0);
      ips.push_back(address.IpToString());
    }
    return ips;
  }

 private:
  internal::Mutex mutex_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::StatusOr<std::vector<SocketAddress>> found_ ABSL_GUARDED_BY(mutex_);
};

class HostLookupTest : public ::testing::Test {
 protected:
  HostLookupTest() {
    options_.dns_servers = dns_.address();
    // No query is repeated on a slow machine.
    options_.attempt_timeout = absl::Minutes(1);
    options_.attempts_max = 1;
    options_.clock = &clock_;
    // Independent of the routes of the machine.
    options_.has_route = [](const SocketAddress&) { return true; };
  }

  std::shared_ptr<HostLookup> Make() {
    absl::StatusOr<std::shared_ptr<HostLookup>> lookup =
        HostLookup::Create(options_);
    EXPECT_TRUE(lookup.ok()) << lookup.status();
    return *std::move(lookup);
  }

  static std::vector<std::string> Find(HostLookup* lookup,
                                       absl::string_view host) {
    Answer answer;
    lookup->Lookup(host, kLong, answer.Catch());
    EXPECT_TRUE(answer.Await());
    return answer.ips();
  }
  static absl::StatusCode FindError(HostLookup* lookup,
                                    absl::string_view host) {
    Answer answer;
    lookup->Lookup(host, kLong, answer.Catch());
    EXPECT_TRUE(answer.Await());
    return answer.code();
  }

  test::FakeDnsServer dns_;
  test::SimulatedClock clock_;
  HostLookupOptions options_;
};

TEST_F(HostLookupTest, AnswersAnIpAddressInline) {
  dns_.Hold();
  const auto lookup = Make();
  for (const char* ip : {"10.0.0.5", "::1", "fe80::1%lo"}) {
    Answer answer;
    lookup->Lookup(ip, kLong, answer.Catch());
    EXPECT_EQ(answer.count(), 1);
    EXPECT_THAT(answer.ips(), ElementsAre(ip));
  }
}

TEST_F(HostLookupTest, RefusesInlineWhatIsNoName) {
  const auto lookup = Make();
  for (const absl::string_view host :
       {absl::string_view(""), absl::string_view("a..b"),
        absl::string_view("a b"), absl::string_view("1.2.3"),
        absl::string_view("a\0b", 3)}) {
    Answer answer;
    lookup->Lookup(host, kLong, answer.Catch());
    EXPECT_EQ(answer.count(), 1);
    EXPECT_EQ(answer.code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(HostLookupTest, FindsBothFamiliesIpv4First) {
  dns_.Set("lobby.test", {"fd00::5", "10.0.0.5", "fd00::6", "10.0.0.6"});
  EXPECT_THAT(Find(Make().get(), "Lobby.Test"),
              ElementsAre("10.0.0.5", "10.0.0.6", "fd00::5", "fd00::6"));
}

TEST_F(HostLookupTest, PutsLastWhatTheHostHasNoRouteTo) {
  dns_.Set("lobby.test", {"10.0.0.5", "10.0.0.6", "fd00::5", "fd00::6"});
  options_.has_route = [](const SocketAddress& ip) { return ip.is_ipv6(); };
  EXPECT_THAT(Find(Make().get(), "lobby.test"),
              ElementsAre("fd00::5", "fd00::6", "10.0.0.5", "10.0.0.6"));
  options_.has_route = [](const SocketAddress& ip) {
    return ip.IpToString().back() == '6';
  };
  EXPECT_THAT(Find(Make().get(), "lobby.test"),
              ElementsAre("10.0.0.6", "fd00::6", "10.0.0.5", "fd00::5"));
  options_.has_route = [](const SocketAddress&) { return false; };
  EXPECT_THAT(Find(Make().get(), "lobby.test"),
              ElementsAre("10.0.0.5", "10.0.0.6", "fd00::5", "fd00::6"));
}

// Every kernel refuses broadcast, and a link-local address without interface.
TEST_F(HostLookupTest, AsksTheKernelForTheRoute) {
  dns_.Set("lobby.test", {"255.255.255.255", "127.0.0.5", "fe80::5"});
  options_.has_route = nullptr;
  EXPECT_THAT(Find(Make().get(), "lobby.test"),
              ElementsAre("127.0.0.5", "255.255.255.255", "fe80::5"));
}

// One family's response never comes. Queries would time out after a minute.
class SwallowedFamilyTest : public HostLookupTest,
                            public ::testing::WithParamInterface<int> {};

INSTANTIATE_TEST_SUITE_P(Both, SwallowedFamilyTest,
                         ::testing::Values(AF_INET, AF_INET6),
                         [](const ::testing::TestParamInfo<int>& family) {
                           return std::string(family.param == AF_INET ? "A"
                                                                      : "AAAA");
                         });

TEST_P(SwallowedFamilyTest, WhatHasComeIsUsedAfterAShortGrace) {
  dns_.Set("lobby.test", {"10.0.0.5", "fd00::5"});
  dns_.Swallow(GetParam());
  const auto lookup = Make();
  const std::string other = GetParam() == AF_INET ? "fd00::5" : "10.0.0.5";
  const absl::Time before = absl::Now();
  EXPECT_THAT(Find(lookup.get(), "lobby.test"), ElementsAre(other));
  EXPECT_GE(absl::Now() - before, options_.family_grace);
}

TEST_P(SwallowedFamilyTest, IsWaitedForWhereThereIsNoRouteToTheOther) {
  dns_.Set("lobby.test", {"10.0.0.5", "fd00::5"});
  dns_.Swallow(GetParam());
  options_.has_route = [](const SocketAddress& ip) {
    return ip.family() == GetParam();
  };
  options_.attempt_timeout = absl::Milliseconds(300);
  options_.attempts_max = 2;
  const auto lookup = Make();
  Answer answer;
  lookup->Lookup("lobby.test", kLong, answer.Catch());
  ASSERT_TRUE(
      test::AwaitTrue([&] { return dns_.answer_count("lobby.test") == 1; }));
  dns_.Swallow(0);  // the second attempt is answered
  ASSERT_TRUE(answer.Await());
  EXPECT_THAT(answer.ips(), SizeIs(2));
}

TEST_P(SwallowedFamilyTest, ANameThatThereIsNotIsNotWaitedForForLong) {
  dns_.Swallow(GetParam());
  options_.attempts_max = 1;
  if (GetParam() == AF_INET) options_.attempt_timeout = absl::Seconds(1);
  EXPECT_EQ(FindError(Make().get(), "missing.test"),
            absl::StatusCode::kNotFound);
}

// RFC 4074, section 4.2: some servers report no such name if it has no IPv6
// address.
TEST_F(HostLookupTest, BelievesAnAddressRatherThanThatThereIsNoName) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  dns_.FailFamilyWith(AF_INET6, 3);
  EXPECT_THAT(Find(Make().get(), "lobby.test"), ElementsAre("10.0.0.5"));
}

TEST_F(HostLookupTest, LimitsTheAnswersThatAreStillOwed) {
  options_.lookups_waiting_max = 3;
  options_.success_cache_time = absl::ZeroDuration();
  dns_.Set("lobby.test", {"10.0.0.5"});
  dns_.Swallow(AF_INET6);
  const auto lookup = Make();
  EXPECT_TRUE(test::AwaitTrue([&] {
    Answer answer;
    lookup->Lookup("lobby.test", kLong, answer.Catch());
    return answer.Await() &&
           answer.code() == absl::StatusCode::kResourceExhausted;
  }));
  EXPECT_LE(dns_.query_count("lobby.test"), 3);
}

// With a resolv.conf that the test writes.
class ResolvConfTest : public HostLookupTest {
 protected:
  ResolvConfTest() {
    options_.dns_servers.clear();
    options_.dns_port = dns_.port();
    options_.resolv_conf_path = directory_.path() + "/resolv.conf";
    options_.files_check_interval = absl::Milliseconds(20);
    // Queries to wrong servers time out soon.
    options_.attempt_timeout = absl::Milliseconds(250);
    options_.attempts_max = 2;
    options_.log_sink = [this](LogSeverity, absl::string_view line) {
      internal::MutexLock lock(&mutex_);
      lines_.emplace_back(line);
    };
  }

  void Write(absl::string_view content) {
    directory_.WriteFile("resolv.conf", content);
  }
  void Replace(absl::string_view content) {
    const std::string path = directory_.WriteFile("fresh", content);
    ASSERT_EQ(rename(path.c_str(), options_.resolv_conf_path.c_str()), 0);
  }
  std::vector<std::string> lines() {
    internal::MutexLock lock(&mutex_);
    return lines_;
  }
  bool AwaitFound(HostLookup* lookup) {
    return test::AwaitTrue([&] {
      clock_.Advance(absl::Seconds(1));  // failures are cached this long
      return Find(lookup, "lobby.test") == std::vector<std::string>{"10.0.0.5"};
    });
  }

  test::TemporaryDirectory directory_;
  internal::Mutex mutex_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
};

// Nobody listens on 127.0.0.9.
constexpr char kWrongServer[] = "nameserver 127.0.0.9\n";
constexpr char kServer[] = "nameserver 127.0.0.1\n";

TEST_F(ResolvConfTest, IsReadAgainWhereItHasChangedInPlace) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  Write(kWrongServer);
  const auto lookup = Make();
  EXPECT_NE(FindError(lookup.get(), "lobby.test"), absl::StatusCode::kOk);
  Write(kServer);
  EXPECT_TRUE(AwaitFound(lookup.get()));
  EXPECT_THAT(lines(), Contains(HasSubstr("DNS servers 127.0.0.1")));
}

TEST_F(ResolvConfTest, IsReadAgainWhereItWasReplaced) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  Write(kWrongServer);
  const auto lookup = Make();
  EXPECT_NE(FindError(lookup.get(), "lobby.test"), absl::StatusCode::kOk);
  Replace(kServer);
  EXPECT_TRUE(AwaitFound(lookup.get()));
}

TEST_F(ResolvConfTest, MayComeLater) {
  options_.dns_port = FreeUdpPort();  // the default server is 127.0.0.1
  dns_.Set("lobby.test", {"10.0.0.5"});
  const auto lookup = Make();
  EXPECT_NE(FindError(lookup.get(), "lobby.test"), absl::StatusCode::kOk);
  test::FakeDnsServer late(static_cast<uint16_t>(options_.dns_port));
  late.Set("lobby.test", {"10.0.0.5"});
  Write(kServer);
  EXPECT_TRUE(AwaitFound(lookup.get()));
}

TEST_F(ResolvConfTest, IsReadAgainWhenToldTo) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  options_.files_check_interval = absl::Hours(1);
  Write(kWrongServer);
  const auto lookup = Make();
  EXPECT_NE(FindError(lookup.get(), "lobby.test"), absl::StatusCode::kOk);
  Write(kServer);
  EXPECT_NE(FindError(lookup.get(), "lobby.test"), absl::StatusCode::kOk);
  lookup->Reload();  // forgets the failure, too
  EXPECT_THAT(Find(lookup.get(), "lobby.test"), ElementsAre("10.0.0.5"));
  EXPECT_THAT(lines(), ElementsAre(HasSubstr("resolv.conf reloaded")));
}

TEST_F(ResolvConfTest, IsNotReadAgainForNothing) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  options_.files_check_interval = absl::Milliseconds(1);
  options_.success_cache_time = absl::ZeroDuration();
  Write(kServer);
  const auto lookup = Make();
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(Find(lookup.get(), "lobby.test"), ElementsAre("10.0.0.5"));
    absl::SleepFor(absl::Milliseconds(2));
  }
  EXPECT_THAT(lines(), IsEmpty());
}

// The server does not respond, and the time limit is a minute.
TEST_F(ResolvConfTest, AQueryUnderWayIsAskedAnew) {
  test::FakeDnsServer mute;
  mute.Hold();
  options_.attempt_timeout = absl::Minutes(1);
  options_.dns_port = mute.port();
  Write(kServer);
  const auto lookup = Make();
  Answer answer;
  lookup->Lookup("lobby.test", kLong, answer.Catch());
  ASSERT_TRUE(
      test::AwaitTrue([&] { return mute.query_count("lobby.test") == 1; }));
  mute.Set("lobby.test", {"10.0.0.5"});
  Write(absl::StrCat(kServer, "options ndots:2\n"));
  ASSERT_TRUE(
      test::AwaitTrue([&] { return mute.query_count("lobby.test") == 2; }));
  mute.Release();
  ASSERT_TRUE(answer.Await());
  EXPECT_THAT(answer.ips(), ElementsAre("10.0.0.5"));
  EXPECT_EQ(answer.count(), 1);
}

TEST_F(ResolvConfTest, ItsTimesHold) {
  dns_.Hold();
  options_.attempts_max = 3;
  Write(absl::StrCat(kServer, "options timeout:1 attempts:1\n"));
  const auto lookup = Make();
  const absl::Time before = absl::Now();
  EXPECT_EQ(FindError(lookup.get(), "lobby.test"),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE(absl::Now() - before, absl::Milliseconds(900));
  EXPECT_EQ(dns_.query_count("lobby.test"), 1);
}

TEST_F(ResolvConfTest, ASearchListOfADotFindsSingleLabels) {
  dns_.Set("lobby", {"10.0.0.5"});
  Write(absl::StrCat(kServer, "search .\n"));
  EXPECT_THAT(Find(Make().get(), "lobby"), ElementsAre("10.0.0.5"));
}

TEST_F(ResolvConfTest, TheSearchListIsGoneThrough) {
  dns_.Set("lobby.b.test", {"10.0.0.5"});
  dns_.Set("lobby.a.test", {});
  Write(absl::StrCat(kServer, "search c.test a.test . b.test d.test\n"));
  const auto lookup = Make();
  EXPECT_THAT(Find(lookup.get(), "lobby"), ElementsAre("10.0.0.5"));
  EXPECT_EQ(dns_.query_count("lobby.d.test"), 0);
  EXPECT_EQ(FindError(lookup.get(), "nobody"), absl::StatusCode::kNotFound);
  EXPECT_EQ(dns_.query_count("nobody.d.test"), 1);
}

// A bad search list must not be reported as an invalid name: the error is that
// of the resolver.
TEST_F(ResolvConfTest, ASearchListOfNonsenseIsNoFaultOfTheName) {
  dns_.Set("lobby", {"10.0.0.5"});
  Write(absl::StrCat(kServer, "search a..b\n"));
  const absl::StatusCode code = FindError(Make().get(), "lobby");
  EXPECT_EQ(code, absl::StatusCode::kUnavailable);
}

TEST_F(HostLookupTest, KeepsAFewAddressesOfALongAnswer) {
  std::vector<std::string> ips;
  for (int i = 0; i < 12; ++i) {
    ips.push_back(absl::StrCat("10.0.0.", i));
    ips.push_back(absl::StrCat("fd00::", i));
  }
  dns_.Set("crowd.test", ips);
  const std::vector<std::string> found = Find(Make().get(), "crowd.test");
  ASSERT_THAT(found, SizeIs(16));
  EXPECT_EQ(found[7], "10.0.0.7");
  EXPECT_EQ(found[15], "fd00::7");
}

TEST_F(HostLookupTest, FindsANameWithOneFamily) {
  dns_.Set("six.test", {"fd00::5"});
  dns_.Set("four.test", {"10.0.0.5"});
  dns_.Set("under_score.test", {"10.0.0.7"});
  const auto lookup = Make();
  EXPECT_THAT(Find(lookup.get(), "six.test"), ElementsAre("fd00::5"));
  EXPECT_THAT(Find(lookup.get(), "four.test"), ElementsAre("10.0.0.5"));
  EXPECT_THAT(Find(lookup.get(), "under_score.test"), ElementsAre("10.0.0.7"));
}

TEST_F(HostLookupTest, FindsLocalhostWithoutAsking) {
  dns_.Hold();
  const std::vector<std::string> ips = Find(Make().get(), "localhost");
  EXPECT_EQ(ips.front(), "127.0.0.1");
  EXPECT_EQ(dns_.query_count("localhost"), 0);
}

TEST_F(HostLookupTest, ReportsWhatTheServerSays) {
  dns_.Set("empty.test", {});
  const auto lookup = Make();
  EXPECT_EQ(FindError(lookup.get(), "missing.test"),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(FindError(lookup.get(), "empty.test"), absl::StatusCode::kNotFound);
  dns_.FailWith(5);  // refused
  EXPECT_EQ(FindError(lookup.get(), "refused.test"),
            absl::StatusCode::kUnavailable);
  dns_.FailWith(2);  // server failure
  EXPECT_EQ(FindError(lookup.get(), "failing.test"),
            absl::StatusCode::kUnavailable);
}

TEST_F(HostLookupTest, AsksAgainWhenAnAnswerIsOld) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  const auto lookup = Make();
  EXPECT_THAT(Find(lookup.get(), "lobby.test"), ElementsAre("10.0.0.5"));
  dns_.Set("lobby.test", {"10.0.0.6"});
  clock_.Advance(options_.success_cache_time - absl::Nanoseconds(1));
  Answer cached;
  lookup->Lookup("LOBBY.test", kLong, cached.Catch());
  EXPECT_EQ(cached.count(), 1);  // inline
  EXPECT_THAT(cached.ips(), ElementsAre("10.0.0.5"));
  clock_.Advance(absl::Nanoseconds(1));
  EXPECT_THAT(Find(lookup.get(), "lobby.test"), ElementsAre("10.0.0.6"));
  EXPECT_EQ(dns_.query_count("lobby.test"), 2);
}

TEST_F(HostLookupTest, RemembersAFailureForAShorterTime) {
  const auto lookup = Make();
  EXPECT_EQ(FindError(lookup.get(), "late.test"), absl::StatusCode::kNotFound);
  const int asked = dns_.query_count("late.test");
  dns_.Set("late.test", {"10.0.0.5"});
  EXPECT_EQ(FindError(lookup.get(), "late.test"), absl::StatusCode::kNotFound);
  EXPECT_EQ(dns_.query_count("late.test"), asked);
  clock_.Advance(options_.failure_cache_time);
  EXPECT_THAT(Find(lookup.get(), "late.test"), ElementsAre("10.0.0.5"));
}

TEST_F(HostLookupTest, RemembersNothingWhereTheTimeIsZero) {
  options_.success_cache_time = absl::ZeroDuration();
  dns_.Set("lobby.test", {"10.0.0.5"});
  const auto lookup = Make();
  Find(lookup.get(), "lobby.test");
  Find(lookup.get(), "lobby.test");
  EXPECT_EQ(dns_.query_count("lobby.test"), 2);
}

TEST_F(HostLookupTest, KeepsTheCacheSmall) {
  options_.cache_entries_max = 2;
  const auto lookup = Make();
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 3; ++i) {
      const std::string name = absl::StrCat("lobby", i, ".test");
      dns_.Set(name, {"10.0.0.5"});
      EXPECT_THAT(Find(lookup.get(), name), ElementsAre("10.0.0.5"));
    }
  }
  int asked = 0;
  for (int i = 0; i < 3; ++i) {
    asked += dns_.query_count(absl::StrCat("lobby", i, ".test"));
  }
  EXPECT_GT(asked, 3);
}

TEST_F(HostLookupTest, SharesTheQueryOfOneName) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  dns_.Hold();
  const auto lookup = Make();
  std::vector<Answer> answers(50);
  for (Answer& answer : answers) {
    lookup->Lookup("lobby.test", kLong, answer.Catch());
  }
  ASSERT_TRUE(
      test::AwaitTrue([&] { return dns_.query_count("lobby.test") == 1; }));
  dns_.Release();
  for (Answer& answer : answers) {
    ASSERT_TRUE(answer.Await());
    EXPECT_THAT(answer.ips(), ElementsAre("10.0.0.5"));
  }
  EXPECT_EQ(dns_.query_count("lobby.test"), 1);
}

TEST_F(HostLookupTest, GivesUpForOneAndGoesOnForTheOther) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  dns_.Hold();
  const auto lookup = Make();
  Answer patient, hasty;
  lookup->Lookup("lobby.test", kLong, patient.Catch());
  lookup->Lookup("lobby.test", absl::Milliseconds(20), hasty.Catch());
  ASSERT_TRUE(hasty.Await());
  EXPECT_EQ(hasty.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(patient.is_done());
  dns_.Release();
  ASSERT_TRUE(patient.Await());
  EXPECT_THAT(patient.ips(), ElementsAre("10.0.0.5"));
  EXPECT_EQ(hasty.count(), 1);
}

TEST_F(HostLookupTest, HasNoPatienceAtAllWithATimeoutOfZero) {
  dns_.Hold();
  const auto lookup = Make();
  for (const absl::Duration timeout :
       {absl::ZeroDuration(), -absl::InfiniteDuration()}) {
    Answer answer;
    lookup->Lookup("lobby.test", timeout, answer.Catch());
    ASSERT_TRUE(answer.Await());
    EXPECT_EQ(answer.code(), absl::StatusCode::kDeadlineExceeded);
  }
}

TEST_F(HostLookupTest, GivesUpAServerThatNeverAnswers) {
  options_.attempt_timeout = absl::Milliseconds(20);
  options_.attempts_max = 2;
  dns_.Hold();
  Answer answer;
  const auto lookup = Make();
  lookup->Lookup("lobby.test", absl::InfiniteDuration(), answer.Catch());
  ASSERT_TRUE(answer.Await());
  EXPECT_EQ(answer.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("lobby.test"));
}

TEST_F(HostLookupTest, LimitsWhatWaits) {
  options_.lookups_waiting_max = 4;
  dns_.Hold();
  const auto lookup = Make();
  std::vector<Answer> answers(10);
  for (size_t i = 0; i < answers.size(); ++i) {
    lookup->Lookup(absl::StrCat("lobby", i, ".test"), kLong,
                   answers[i].Catch());
  }
  int refused = 0;
  for (Answer& answer : answers) {
    if (!answer.is_done()) continue;
    EXPECT_EQ(answer.code(), absl::StatusCode::kResourceExhausted);
    ++refused;
  }
  EXPECT_GE(refused, 6);
  // Completed lookups free their places.
  dns_.Release();
  ASSERT_TRUE(test::AwaitTrue([&] {
    for (Answer& answer : answers) {
      if (!answer.is_done()) return false;
    }
    return true;
  }));
  dns_.Set("after.test", {"10.0.0.5"});
  EXPECT_THAT(Find(lookup.get(), "after.test"), ElementsAre("10.0.0.5"));
}

TEST_F(HostLookupTest, StopsAtOnceWhileAServerHangs) {
  dns_.Hold();
  auto lookup = Make();
  std::vector<Answer> answers(3);
  for (Answer& answer : answers) {
    lookup->Lookup("lobby.test", kLong, answer.Catch());
  }
  ASSERT_TRUE(
      test::AwaitTrue([&] { return dns_.query_count("lobby.test") == 1; }));
  const absl::Time before = absl::Now();
  lookup.reset();
  // Some 10 ms; the rest is for a machine that is busy with other tests.
  EXPECT_LT(absl::Now() - before, absl::Seconds(1));
  for (Answer& answer : answers) {
    EXPECT_EQ(answer.count(), 1);
    EXPECT_EQ(answer.code(), absl::StatusCode::kCancelled);
  }
}

TEST_F(HostLookupTest, MayBeAskedInsideACallback) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  options_.success_cache_time = absl::ZeroDuration();
  const auto lookup = Make();
  Answer second;
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
                       [&](absl::StatusOr<std::vector<SocketAddress>> answer) {
                         if (answer.ok()) found.fetch_add(1);
                       });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(
      test::AwaitTrue([&] { return found.load() == kThreads * kLookups; }));
}

TEST(HostLookupOptionsTest, NamesWhatIsOutOfRange) {
  const auto error = [](auto change) {
    HostLookupOptions options;
    change(&options);
    const auto lookup = HostLookup::Create(options);
    EXPECT_EQ(lookup.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(lookup.status().message());
  };
  using O = HostLookupOptions;
  EXPECT_THAT(error([](O* o) { o->success_cache_time = -absl::Seconds(1); }),
              HasSubstr("success_cache_time"));
  EXPECT_THAT(
      error([](O* o) { o->failure_cache_time = absl::InfiniteDuration(); }),
      HasSubstr("failure_cache_time"));
  EXPECT_THAT(error([](O* o) { o->cache_entries_max = 0; }),
              HasSubstr("cache_entries_max"));
  EXPECT_THAT(error([](O* o) { o->lookups_waiting_max = 0; }),
              HasSubstr("lookups_waiting_max"));
  EXPECT_THAT(error([](O* o) { o->attempt_timeout = absl::ZeroDuration(); }),
              HasSubstr("attempt_timeout"));
  EXPECT_THAT(error([](O* o) { o->attempts_max = 11; }),
              HasSubstr("attempts_max"));
  EXPECT_THAT(error([](O* o) { o->dns_servers = "not a server"; }),
              HasSubstr("dns_servers"));
  EXPECT_TRUE(HostLookupOptions().Validate().ok());
}

}  // namespace
}  // namespace udpgate
