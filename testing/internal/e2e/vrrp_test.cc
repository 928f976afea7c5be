// Set-up 2 of docs/fleet.md: two hosts, an address that keepalived moves, and a
// link that is cut. Each host is a network namespace; two bridges are the
// networks of the players and of the backends.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/crowd.h"
#include "testing/internal/e2e/documented.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/e2e/program.h"
#include "testing/internal/support/child_process.h"
#include "testing/internal/support/http_client.h"
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
constexpr int kClients = 5000;

// The promise of the page.
constexpr absl::Duration kSilenceMax = absl::Seconds(3);
constexpr absl::Duration kGatewayTimeMax = absl::Milliseconds(500);

// The bridges, to which everybody is connected.
class Networks {
 public:
  explicit Networks(NetworkNamespace* space) : space_(space) {
    for (const char* bridge : {"players", "backends"}) {
      space_->Command(absl::StrCat("ip link add ", bridge,
                                   " type bridge forward_delay 0; ip link set ",
                                   bridge, " up"));
    }
  }
  // Gives `host` an interface with this address; `port` is the other end.
  void Connect(NetworkNamespace* host, const std::string& interface,
               const std::string& address, const std::string& bridge,
               const std::string& port) {
    NetworkNamespace::Connect(*host, interface, *space_, port);
    space_->Command(absl::StrCat("ip link set ", port, " master ", bridge));
    host->Command(absl::StrCat("ip link set lo up; ip addr add ", address,
                               "/24 dev ", interface));
  }
  // The host at the other end loses its carrier.
  void Cut(const std::string& port) {
    space_->Command(absl::StrCat("ip link set ", port, " down"));
  }
  void Mend(const std::string& port) {
    space_->Command(absl::StrCat("ip link set ", port, " up"));
  }
  // Nothing passes any more, and the host at the other end does not see it.
  void Isolate(const std::string& port) {
    space_->Command(absl::StrCat("ip link set ", port, " nomaster"));
  }
  void Rejoin(const std::string& port, const std::string& bridge) {
    space_->Command(absl::StrCat("ip link set ", port, " master ", bridge));
  }

 private:
  NetworkNamespace* const space_;
};

// A host with udp-gate and keepalived.
class Host {
 public:
  Host(std::string name, std::unique_ptr<NetworkNamespace> space)
      : name_(std::move(name)), space_(std::move(space)) {}
  ~Host() {
    if (keepalived_ != nullptr && keepalived_->running()) {
      (void)keepalived_->SignalAndAwaitExit(SIGTERM);
    }
  }

  void StartGateway(std::map<std::string, std::string> environment) {
    environment["GATEWAY_ID"] = name_;
    GateProcessOptions options;
    options.environment = std::move(environment);
    gateway_ = std::make_unique<GateProcess>(GateBinary(), std::move(options));
    space_->Run([&] {
      const absl::Status started = gateway_->Start();
      ASSERT_TRUE(started.ok()) << started;
    });
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
    space_->Run([&] {
      auto started = ChildProcess::Start(options);
      ASSERT_TRUE(started.ok()) << started.status();
      keepalived_ = *std::move(started);
    });
  }

  NetworkNamespace& space() { return *space_; }
  GateProcess& gateway() { return *gateway_; }

  std::string Get(const std::string& path) {
    std::string body;
    space_->Run([&] {
      body = HttpGet(*SocketAddress::Parse("127.0.0.1:9132"), path)
                 .value_or(HttpReply())
                 .body;
    });
    return body;
  }
  // -1 if there is none.
  double Metric(const std::string& name) {
    const std::string text = Get("/metrics");
    const size_t begin = text.find(absl::StrCat("\n", name, " "));
    double value = -1;
    if (begin == std::string::npos) return value;
    const size_t number = begin + name.size() + 2;
    (void)absl::SimpleAtod(
        text.substr(number, text.find('\n', number) - number), &value);
    return value;
  }
  bool AwaitMetric(const std::string& name, double value) {
    return AwaitTrue([&] { return Metric(name) == value; });
  }
  absl::Duration promotion_time() {
    return absl::Seconds(Metric("udpgate_standby_promotion_seconds"));
  }
  std::string Logs() const {
    return absl::StrCat("== gateway ", name_, "\n", gateway_->log(),
                        "== keepalived ", name_, "\n", keepalived_->output());
  }

 private:
  const std::string name_;
  TemporaryDirectory directory_;
  std::unique_ptr<NetworkNamespace> space_;
  std::unique_ptr<GateProcess> gateway_;
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
    players_ = *NetworkNamespace::Create();
    networks_->Connect(players_.get(), "eth0", "203.0.113.100", "players",
                       "to-players");
    backends_ = *NetworkNamespace::Create();
    networks_->Connect(backends_.get(), "eth1", "10.0.0.20", "backends",
                       "to-backends");
    backends_->Command("ip addr add 10.0.0.5/24 dev eth1");
    StartRedis();
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

  void StartRedis() {
    ChildProcessOptions options;
    options.arguments = {"redis-server",   "--bind", "10.0.0.5", "--port",
                         "6379",           "--save", "",         "--dir",
                         directory_.path()};
    options.environment = {{"LC_ALL", "C"}};
    backends_->Run([&] {
      auto started = ChildProcess::Start(options);
      ASSERT_TRUE(started.ok()) << started.status();
      redis_ = *std::move(started);
    });
    ASSERT_TRUE(redis_->AwaitOutput("eady to accept connections"));
  }
  std::string Redis(const std::string& command) {
    return std::string(absl::StripAsciiWhitespace(
        backends_->Output(absl::StrCat("redis-cli -h 10.0.0.5 ", command))));
  }
  int RecordCount(const std::string& gateway) {
    int count = -1;
    (void)absl::SimpleAtoi(
        Redis(absl::StrCat("SCARD udp_gate:session:@index:", gateway)), &count);
    return count;
  }

  std::unique_ptr<Host> StartHost(const std::string& name, int number,
                                  const std::string& keepalived) {
    auto host = std::make_unique<Host>(name, *NetworkNamespace::Create());
    networks_->Connect(&host->space(), "eth0",
                       absl::StrCat("203.0.113.1", number), "players",
                       name + "-0");
    networks_->Connect(&host->space(), "eth1", absl::StrCat("10.0.0.1", number),
                       "backends", name + "-1");
    host->StartGateway(settings_);
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
    Redis(
        absl::StrCat("SET udp_gate:backend ", backend_->address().ToString()));
    players_->Run([&] {
      crowd_ = std::make_unique<Crowd>(options, std::move(*backend_));
    });
    ASSERT_TRUE(
        crowd_->Join([this] { return RecordCount("first") == kClients; },
                     absl::Seconds(120)))
        << RecordCount("first") << " records\n"
        << Logs();
    ASSERT_TRUE(
        second_->AwaitMetric("udpgate_store_standby_sessions", kClients))
        << second_->Metric("udpgate_store_standby_sessions") << Logs();
  }
  // Waits until everybody is served, and prints what the change took.
  absl::Duration AwaitServed(const char* change, Host* host) {
    EXPECT_TRUE(crowd_->AwaitAllServed()) << change << Logs();
    const absl::Duration silence = crowd_->TakeLongestSilence();
    std::printf(
        "%s, %d sessions: longest silence of a player %s, of which "
        "%s are the gateway's\n",
        change, kClients, absl::FormatDuration(silence).c_str(),
        absl::FormatDuration(host->promotion_time()).c_str());
    EXPECT_LE(host->promotion_time(), kGatewayTimeMax) << Logs();
    return silence;
  }
  std::string Logs() const {
    return absl::StrCat("\n", first_->Logs(), second_->Logs());
  }

  TemporaryDirectory directory_;
  std::unique_ptr<NetworkNamespace> switch_;
  std::unique_ptr<Networks> networks_;
  std::unique_ptr<NetworkNamespace> players_;
  std::unique_ptr<NetworkNamespace> backends_;  // and Redis
  std::unique_ptr<ChildProcess> redis_;
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
    EXPECT_LE(AwaitServed("cut link", second_.get()), kSilenceMax) << Logs();
    // The first one lives, and has Redis.
    EXPECT_TRUE(first_->AwaitMetric("udpgate_standby", 1)) << Logs();
    EXPECT_THAT(first_->Get("/readyz"), HasSubstr("standby\n"));
    EXPECT_TRUE(AwaitTrue([this] { return RecordCount("second") == kClients; }))
        << RecordCount("second") << Logs();
    ASSERT_TRUE(first_->AwaitMetric("udpgate_store_standby_sessions", kClients))
        << Logs();
    ASSERT_TRUE(crowd_->AwaitAllServed()) << Logs();
    (void)crowd_->TakeLongestSilence();
    networks_->Mend("first-0");
    ASSERT_TRUE(
        first_->AwaitMetric("udpgate_standby_promotions_total", round + 2))
        << Logs();
    AwaitServed("return", first_.get());
    EXPECT_TRUE(second_->AwaitMetric("udpgate_standby", 1)) << Logs();
    EXPECT_TRUE(AwaitTrue([this] { return RecordCount("first") == kClients; }))
        << RecordCount("first") << Logs();
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
  EXPECT_LE(AwaitServed("dead host", second_.get()), kSilenceMax) << Logs();
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
