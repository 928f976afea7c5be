// resolv.conf(5): changes, options and the search list.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdio.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "testing/internal/support/temporary_directory.h"
#include "udpgate/dns/host_lookup_fixture.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace {

using test::HostLookupTest;
using test::kLong;
using test::LookupResult;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A port of 127.0.0.1 that nobody listens on.
uint16_t FreeUdpPort() { return test::FakeDnsServer().port(); }

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

TEST_F(ResolvConfTest, IsReloadedAfterAChangeInPlace) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  Write(kWrongServer);
  const auto lookup = Make();
  EXPECT_NE(FindError(lookup.get(), "lobby.test"), absl::StatusCode::kOk);
  Write(kServer);
  EXPECT_TRUE(AwaitFound(lookup.get()));
  EXPECT_THAT(lines(), Contains(HasSubstr("DNS servers 127.0.0.1")));
}

TEST_F(ResolvConfTest, IsReloadedAfterAReplacement) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  Write(kWrongServer);
  const auto lookup = Make();
  EXPECT_NE(FindError(lookup.get(), "lobby.test"), absl::StatusCode::kOk);
  Replace(kServer);
  EXPECT_TRUE(AwaitFound(lookup.get()));
}

TEST_F(ResolvConfTest, MayBeCreatedLater) {
  options_.dns_port = FreeUdpPort();  // the default server is 127.0.0.1
  dns_.Set("lobby.test", {"10.0.0.5"});
  const auto lookup = Make();
  EXPECT_NE(FindError(lookup.get(), "lobby.test"), absl::StatusCode::kOk);
  test::FakeDnsServer late(static_cast<uint16_t>(options_.dns_port));
  late.Set("lobby.test", {"10.0.0.5"});
  Write(kServer);
  EXPECT_TRUE(AwaitFound(lookup.get()));
}

TEST_F(ResolvConfTest, IsReloadedOnRequest) {
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

TEST_F(ResolvConfTest, IsNotReloadedWithoutAChange) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  options_.files_check_interval = absl::Milliseconds(1);
  options_.success_cache_time = absl::ZeroDuration();
  Write(kServer);
  const auto lookup = Make();
  // Lookups over many intervals: the files are checked again and again.
  const absl::Time end = absl::Now() + 40 * options_.files_check_interval;
  while (absl::Now() < end) {
    EXPECT_THAT(Find(lookup.get(), "lobby.test"), ElementsAre("10.0.0.5"));
  }
  EXPECT_THAT(lines(), IsEmpty());
}

// The server does not respond, and the time limit is a minute.
TEST_F(ResolvConfTest, AReloadRestartsARunningQuery) {
  test::FakeDnsServer mute;
  mute.Hold();
  options_.attempt_timeout = absl::Minutes(1);
  options_.dns_port = mute.port();
  Write(kServer);
  const auto lookup = Make();
  LookupResult result;
  lookup->Lookup("lobby.test", kLong, result.Catch());
  ASSERT_TRUE(
      test::AwaitTrue([&] { return mute.query_count("lobby.test") == 1; }));
  mute.Set("lobby.test", {"10.0.0.5"});
  Write(absl::StrCat(kServer, "options ndots:2\n"));
  ASSERT_TRUE(
      test::AwaitTrue([&] { return mute.query_count("lobby.test") == 2; }));
  mute.Release();
  ASSERT_TRUE(result.Await());
  EXPECT_THAT(result.ips(), ElementsAre("10.0.0.5"));
  EXPECT_EQ(result.count(), 1);
}

TEST_F(ResolvConfTest, ItsTimeoutOptionsApply) {
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

TEST_F(ResolvConfTest, ASearchListOfADotResolvesSingleLabels) {
  dns_.Set("lobby", {"10.0.0.5"});
  Write(absl::StrCat(kServer, "search .\n"));
  EXPECT_THAT(Find(Make().get(), "lobby"), ElementsAre("10.0.0.5"));
}

TEST_F(ResolvConfTest, TheSearchListIsTriedInOrder) {
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
TEST_F(ResolvConfTest, AnInvalidSearchListIsNotAnInvalidName) {
  dns_.Set("lobby", {"10.0.0.5"});
  Write(absl::StrCat(kServer, "search a..b\n"));
  const absl::StatusCode code = FindError(Make().get(), "lobby");
  EXPECT_EQ(code, absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace udpgate
