// Set-up 2 of docs/fleet.md: two hosts, an address that keepalived moves, and a
// link that is cut. Each host is a network namespace; two bridges are the
// networks of the players and of the backends.
#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/crowd.h"
#include "testing/internal/e2e/documented.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/e2e/fleet_hosts.h"
#include "testing/internal/e2e/program.h"
#include "testing/internal/support/child_process.h"
#include "testing/internal/support/network_namespace.h"
#include "testing/internal/support/temporary_directory.h"
#include "udpgate/fastpath/kernel_rights.h"

namespace udpgate {
namespace test {
namespace {

using ::testing::HasSubstr;

constexpr char kPage[] = "docs/fleet.md";
constexpr char kKeepalived[] = "deploy/keepalived/keepalived.conf";
constexpr char kHeading[] = "## Set-up 2: two hosts and an address that moves";

// UDPGATE_FLEET_SESSIONS sets another number, for the optimised gateway.
const int kClients = [] {
  const char* const number = std::getenv("UDPGATE_FLEET_SESSIONS");
  return number == nullptr ? 500 : std::atoi(number);
}();

// The promise of the page.
constexpr absl::Duration kSilenceMax = absl::Seconds(3);
constexpr absl::Duration kGatewayTimeMax = absl::Milliseconds(500);

// A host with udp-gate and keepalived.
class Host : public GatewayHost {
 public:
  using GatewayHost::GatewayHost;
  ~Host() {
    if (keepalived_ != nullptr && keepalived_->running()) {
      (void)keepalived_->SignalAndAwaitExit(SIGTERM);
    }
  }

  void StartKeepalived(const std::string& configuration) {
    const std::string path =
        directory_.WriteFile("keepalived.conf", configuration);
    ChildProcessOptions options;
    options.arguments = {"keepalived",
                         "--dont-fork",
                         "--log-console",
                         "--log-detail",
                         "--vrrp",
                         "--use-file",
                         path,
                         "--pid",
                         directory_.path() + "/pid",
                         "--vrrp_pid",
                         directory_.path() + "/vrrp_pid"};
    options.environment = {{"PATH", "/usr/sbin:/usr/bin:/sbin:/bin"}};
    space().Run([&] {
      auto started = ChildProcess::Start(options);
      ASSERT_TRUE(started.ok()) << started.status();
      keepalived_ = *std::move(started);
    });
  }

  // How long the promotion of this number took, which is awaited; the first
  // is 1.
  absl::Duration PromotionTime(int number) {
    EXPECT_TRUE(AwaitMetric("udpgate_standby_promotions_total", number))
        << Logs();
    return absl::Seconds(Metric("udpgate_standby_promotion_seconds"));
  }
  std::string Logs() const {
    return absl::StrCat(log(), "== keepalived ", name(), "\n",
                        keepalived_->output());
  }

 private:
  TemporaryDirectory directory_;
  std::unique_ptr<ChildProcess> keepalived_;
};

class VrrpTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto created = NetworkNamespace::Create();
    UDPGATE_NEEDS_RIGHTS(created.status());
    UDPGATE_NEEDS_RIGHTS(
        std::system("command -v keepalived > /dev/null") == 0
            ? absl::OkStatus()
            : absl::PermissionDeniedError("there is no keepalived"));
    switch_ = *std::move(created);
    networks_ = std::make_unique<Networks>(switch_.get());
    networks_->Add("players");
    networks_->Add("backends");
    players_ = *NetworkNamespace::Create();
    networks_->Connect(players_.get(), "eth0", "203.0.113.100", "players",
                       "to-players");
    backends_ = *NetworkNamespace::Create();
    networks_->Connect(backends_.get(), "eth1", "10.0.0.20", "backends",
                       "to-backends");
    backends_->Command("ip addr add 10.0.0.5/24 dev eth1");
    redis_ = std::make_unique<RedisHost>(backends_.get(), "10.0.0.5");
    ASSERT_TRUE(redis_->Start());
    const std::string page = ReadFile(kPage);
    const std::vector<std::string> blocks = FencedBlocks(page, kHeading, "ini");
    ASSERT_EQ(blocks.size(), 1u) << kPage;
    settings_ = Variables(blocks[0]);
    ASSERT_EQ(settings_["STANDBY"], "on");
    // So many players come from one address here, and stay.
    settings_["MAX_UNCONFIRMED_SESSIONS_PER_IP"] = "0";
    settings_["NEW_SESSIONS_PER_SEC"] = "0";
    settings_["SESSION_IDLE_TIMEOUT_SECS"] = "3600";
    const std::string first = ReadFile(kKeepalived);
    const std::string second =
        absl::StrReplaceAll(first, {{"priority 150", "priority 100"}});
    ASSERT_NE(first, second);
    first_ = StartHost("first", 1, first);
    ASSERT_TRUE(first_->gateway().AwaitLog("standby: serving"))
        << first_->Logs();
    second_ = StartHost("second", 2, second);
    ASSERT_TRUE(second_->gateway().AwaitLog("standby: waiting for"))
        << second_->Logs();
  }
  void TearDown() override {
    crowd_.reset();
    first_.reset();
    second_.reset();
  }

  std::unique_ptr<Host> StartHost(const std::string& name, int number,
                                  const std::string& keepalived) {
    auto host = std::make_unique<Host>(name, *NetworkNamespace::Create());
    networks_->Connect(&host->space(), "eth0",
                       absl::StrCat("203.0.113.1", number), "players",
                       name + "-0");
    networks_->Connect(&host->space(), "eth1", absl::StrCat("10.0.0.1", number),
                       "backends", name + "-1");
    EXPECT_TRUE(host->StartGateway(settings_)) << host->log();
    host->StartKeepalived(keepalived);
    return host;
  }

  // All play, and the standby knows them.
  void Join() {
    backends_->Run([&] {
      backend_ =
          std::make_unique<LoopbackPeer>(*SocketAddress::Parse("10.0.0.20:0"));
    });
    Crowd::Options options;
    options.gate = *SocketAddress::Parse(settings_["PROXY_ADDR"]);
    options.client = *SocketAddress::Parse("203.0.113.100:0");
    options.client_count = kClients;
    redis_->Ask(
        absl::StrCat("SET udp_gate:backend ", backend_->address().ToString()));
    players_->Run([&] {
      crowd_ = std::make_unique<Crowd>(options, std::move(*backend_));
    });
    ASSERT_TRUE(
        crowd_->Join([&] { return redis_->RecordCount("first") == kClients; },
                     absl::Seconds(120)))
        << redis_->RecordCount("first") << " records\n"
        << Logs();
    ASSERT_TRUE(
        second_->AwaitMetric("udpgate_store_standby_sessions", kClients))
        << second_->Metric("udpgate_store_standby_sessions") << Logs();
  }
  // Waits until everybody is served, and prints what the change took, which is
  // the promotion of this number of `host`.
  absl::Duration AwaitServed(const char* change, Host* host, int promotion) {
    EXPECT_TRUE(crowd_->AwaitAllServed()) << change << Logs();
    const absl::Duration silence = crowd_->TakeLongestSilence();
    const absl::Duration gateway_time = host->PromotionTime(promotion);
    std::printf(
        "%s, %d sessions: longest silence of a player %s; the gateway served "
        "%s after the address had come\n",
        change, kClients, absl::FormatDuration(silence).c_str(),
        absl::FormatDuration(gateway_time).c_str());
    EXPECT_LE(gateway_time, kGatewayTimeMax) << Logs();
    return silence;
  }
  // `host` has no address any more, lives, and reads, but changes no record.
  void ExpectHandsOff(Host* host) {
    EXPECT_TRUE(host->AwaitMetric("udpgate_standby", 1)) << Logs();
    EXPECT_THAT(host->Get("/readyz"), HasSubstr("standby\n"));
    const std::string changes = host->RecordChanges();
    EXPECT_THAT(changes, HasSubstr("udpgate_store_records_total{"));
    const double calls = host->Metric("udpgate_store_calls_total");
    EXPECT_TRUE(AwaitTrue([&] {
      return host->Metric("udpgate_store_calls_total") >= calls + 5;
    })) << Logs();
    EXPECT_EQ(host->RecordChanges(), changes) << Logs();
  }
  std::string Logs() const {
    return absl::StrCat("\n", first_->Logs(), second_->Logs());
  }

  std::unique_ptr<NetworkNamespace> switch_;
  std::unique_ptr<Networks> networks_;
  std::unique_ptr<NetworkNamespace> players_;
  std::unique_ptr<NetworkNamespace> backends_;  // and Redis
  std::unique_ptr<RedisHost> redis_;
  std::map<std::string, std::string> settings_;
  std::unique_ptr<Host> first_;
  std::unique_ptr<Host> second_;
  std::unique_ptr<LoopbackPeer> backend_;
  std::unique_ptr<Crowd> crowd_;
};

TEST_F(VrrpTest, ACutLinkMovesAllSessionsAndBack) {
  EXPECT_THAT(second_->Get("/readyz"), HasSubstr("standby\n"));
  EXPECT_THAT(first_->Get("/readyz"), HasSubstr("ready\n"));
  Join();
  if (HasFatalFailure()) return;
  crowd_->Start();
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(crowd_->AwaitAllServed()) << Logs();
    (void)crowd_->TakeLongestSilence();
    networks_->Cut("first-0");
    EXPECT_LE(AwaitServed("cut link", second_.get(), round + 1), kSilenceMax)
        << Logs();
    // It has Redis.
    ExpectHandsOff(first_.get());
    EXPECT_TRUE(AwaitTrue([&] {
      return redis_->RecordCount("second") == kClients;
    })) << redis_->RecordCount("second")
        << Logs();
    ASSERT_TRUE(first_->AwaitMetric("udpgate_store_standby_sessions", kClients))
        << Logs();
    ASSERT_TRUE(crowd_->AwaitAllServed()) << Logs();
    (void)crowd_->TakeLongestSilence();
    networks_->Mend("first-0");
    ASSERT_TRUE(
        first_->AwaitMetric("udpgate_standby_promotions_total", round + 2))
        << Logs();
    AwaitServed("return", first_.get(), round + 2);
    ExpectHandsOff(second_.get());
    EXPECT_TRUE(AwaitTrue([&] {
      return redis_->RecordCount("first") == kClients;
    })) << redis_->RecordCount("first")
        << Logs();
    ASSERT_TRUE(
        second_->AwaitMetric("udpgate_store_standby_sessions", kClients))
        << Logs();
  }
  const Crowd::Report report = crowd_->Stop();
  EXPECT_EQ(report.moved, 0) << Logs();
  EXPECT_EQ(crowd_->CountServed(), kClients) << Logs();
  EXPECT_EQ(crowd_->CountHeard(), kClients) << Logs();
}

TEST_F(VrrpTest, ADeadHostLosesNoSession) {
  Join();
  if (HasFatalFailure()) return;
  crowd_->Start();
  ASSERT_TRUE(crowd_->AwaitAllServed()) << Logs();
  (void)crowd_->TakeLongestSilence();
  // It cannot say goodbye, and hears nothing any more.
  networks_->Isolate("first-0");
  networks_->Isolate("first-1");
  EXPECT_LE(AwaitServed("dead host", second_.get(), 1), kSilenceMax) << Logs();
  const Crowd::Report report = crowd_->Stop();
  EXPECT_EQ(report.moved, 0) << Logs();
  EXPECT_EQ(crowd_->CountServed(), kClients) << Logs();
  EXPECT_EQ(crowd_->CountHeard(), kClients) << Logs();
  // It was alive, comes back with the addresses, and harms no session: each
  // stays with its backend.
  crowd_->Start();
  networks_->Rejoin("first-0", "players");
  networks_->Rejoin("first-1", "backends");
  ASSERT_TRUE(second_->AwaitMetric("udpgate_standby", 1)) << Logs();
  EXPECT_TRUE(crowd_->AwaitAllServed()) << Logs();
  (void)crowd_->Stop();
}

}  // namespace
}  // namespace test
}  // namespace udpgate
