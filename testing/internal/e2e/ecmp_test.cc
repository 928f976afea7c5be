// Set-up 3 of docs/fleet.md: two gateways behind one address, and a router that
// sends players to the other one while they play. Each host is a network
// namespace; the networks are bridges on the router.
#include <signal.h>

#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/documented.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/e2e/fleet_hosts.h"
#include "testing/internal/e2e/program.h"
#include "testing/internal/e2e/roamers.h"
#include "testing/internal/support/child_process.h"
#include "testing/internal/support/network_namespace.h"
#include "testing/internal/support/temporary_directory.h"
#include "testing/loopback_peer.h"
#include "udpgate/fastpath/kernel_rights.h"

namespace udpgate {
namespace test {
namespace {

constexpr char kPage[] = "docs/fleet.md";
constexpr char kHeading[] = "## Set-up 3: several gateways behind one address";
constexpr char kForwarding[] = "## Forwarding between gateways";
constexpr int kPlayers = 500;
// Of a gateway's lease, whose time is SessionKeeperOptions::lease_lifetime.
constexpr char kFirstLease[] = "udp_gate:session:@lease:first";

// The first datagrams of players who move wait for one question to Redis.
constexpr absl::Duration kSilenceMax = absl::Seconds(2);
constexpr absl::Duration kInterval = absl::Milliseconds(100);

class EcmpTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto created = NetworkNamespace::Create();
    UDPGATE_NEEDS_RIGHTS(created.status());
    router_ = *std::move(created);
    ReadPage();
    ConnectHosts();
    redis_ = std::make_unique<RedisHost>(backends_.get(), "10.0.0.5");
    ASSERT_TRUE(redis_->Start());
    router_->Command(commands_[1]);
    for (GatewayHost* host : {first_.get(), second_.get()}) {
      host->space().Command(commands_[0]);
      ASSERT_TRUE(host->StartGateway(SettingsOf(*host))) << host->log();
    }
  }

  virtual std::map<std::string, std::string> SettingsOf(
      const GatewayHost& host) {
    (void)host;
    return settings_;
  }

  void ReadPage() {
    const std::string page = ReadFile(kPage);
    const std::vector<std::string> settings =
        FencedBlocks(page, kHeading, "ini");
    ASSERT_EQ(settings.size(), 1u) << kPage;
    settings_ = Variables(settings[0]);
    // So many players come from one address here.
    settings_["MAX_UNCONFIRMED_SESSIONS_PER_IP"] = "0";
    settings_["NEW_SESSIONS_PER_SEC"] = "0";
    commands_ = FencedBlocks(page, kHeading, "sh");
    ASSERT_EQ(commands_.size(), 3u) << kPage;
    for (std::string& command : commands_) command.pop_back();
  }

  void ConnectHosts() {
    networks_ = std::make_unique<Networks>(router_.get());
    const std::pair<const char*, const char*> bridges[] = {
        {"players", "198.51.100.254"},
        {"gateways", "192.0.2.254"},
        {"backends", "10.0.0.254"}};
    for (const auto& [bridge, address] : bridges) {
      networks_->Add(bridge);
      router_->Command(
          absl::StrCat("ip address add ", address, "/24 dev ", bridge));
    }
    router_->Command(
        "sysctl -w net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0");
    players_space_ = *NetworkNamespace::Create();
    Connect(players_space_.get(), "198.51.100.1", "198.51.100.254", "players",
            "to-players");
    backends_ = *NetworkNamespace::Create();
    Connect(backends_.get(), "10.0.0.5", "10.0.0.254", "backends",
            "to-backends");
    first_ =
        std::make_unique<GatewayHost>("first", *NetworkNamespace::Create());
    Connect(&first_->space(), "192.0.2.1", "192.0.2.254", "gateways",
            "to-first");
    second_ =
        std::make_unique<GatewayHost>("second", *NetworkNamespace::Create());
    Connect(&second_->space(), "192.0.2.2", "192.0.2.254", "gateways",
            "to-second");
  }
  void Connect(NetworkNamespace* host, const std::string& address,
               const std::string& router, const std::string& bridge,
               const std::string& port) {
    networks_->Connect(host, "eth0", address, bridge, port);
    host->Command(absl::StrCat("ip route add default via ", router));
  }

  std::unique_ptr<RoamingBackend> StartBackend(const std::string& name) {
    std::unique_ptr<RoamingBackend> backend;
    backends_->Run([&] {
      backend = std::make_unique<RoamingBackend>(
          name, LoopbackPeer(*SocketAddress::Parse("10.0.0.5:0")));
    });
    return backend;
  }
  void SetBackend(const RoamingBackend& backend) {
    redis_->Ask(
        absl::StrCat("SET udp_gate:backend ", backend.address().ToString()));
  }

  // Half of them are on one backend and half on another, and who is new gets a
  // third.
  void Join(const std::vector<Protocol>& protocols) {
    Roamers::Options options;
    options.gate = *SocketAddress::Parse(settings_["PROXY_ADDR"]);
    options.client = *SocketAddress::Parse("198.51.100.1:0");
    options.interval = kInterval;
    const int kind_count = static_cast<int>(protocols.size());
    for (int i = 0; i < kind_count; ++i) {
      // kPlayers together.
      options.counts.emplace_back(protocols[i], (kPlayers + i) / kind_count);
    }
    players_space_->Run([&] { players_ = std::make_unique<Roamers>(options); });
    const int count = static_cast<int>(players_->size());
    for (const int end : {count / 2, count}) {
      homes_.push_back(StartBackend(absl::StrCat("home-", end)));
      SetBackend(*homes_.back());
      ASSERT_TRUE(players_->Join(end == count ? count / 2 : 0, end,
                                 [&] { return RecordCount() == end; }))
          << RecordCount() << Logs();
    }
    homes_.push_back(StartBackend("of-strangers"));
    SetBackend(*homes_.back());
    EXPECT_GT(redis_->RecordCount("first"), count / 5);
    EXPECT_GT(redis_->RecordCount("second"), count / 5);
  }
  int RecordCount() {
    return redis_->RecordCount("first") + redis_->RecordCount("second");
  }
  bool AwaitRecords(const std::string& gateway, int count) {
    return AwaitTrue([&] { return redis_->RecordCount(gateway) == count; });
  }
  std::string Logs() const {
    std::string text;
    for (GatewayHost* host : {first_.get(), second_.get()}) {
      absl::StrAppend(&text, "\n", host->log(), host->Get("/metrics"));
    }
    return text;
  }

  void RemoveFirstPath() { router_->Command(commands_[2]); }
  void AddFirstPath() { router_->Command(commands_[1]); }

  // Everybody plays, and is served before and after `change`.
  Roamers::Report PlayOver(const std::string& title,
                           const std::function<void()>& change) {
    const Roamers::Report report = players_->Play([&] {
      EXPECT_TRUE(players_->AwaitAllServed()) << title << Logs();
      change();
      EXPECT_TRUE(players_->AwaitAllServed()) << title << Logs();
    });
    std::printf("%s\n%s", title.c_str(), report.ToString().c_str());
    std::fflush(stdout);
    EXPECT_EQ(report.strayed, 0) << title << Logs();
    return report;
  }
  static void ExpectNothingLost(const Roamers::Report& report) {
    EXPECT_EQ(report.Total().lost, 0) << report.ToString();
    EXPECT_LE(report.Total().longest_silence, kSilenceMax) << report.ToString();
  }

  static std::unique_ptr<ChildProcess> Start(
      NetworkNamespace* host, const std::string& directory,
      std::vector<std::string> arguments) {
    ChildProcessOptions options;
    options.arguments = std::move(arguments);
    options.environment = {{"PATH", kProgramPath}};
    options.working_directory = directory;
    std::unique_ptr<ChildProcess> process;
    host->Run([&] {
      auto started = ChildProcess::Start(options);
      EXPECT_TRUE(started.ok()) << started.status();
      if (started.ok()) process = *std::move(started);
    });
    return process;
  }

  std::unique_ptr<NetworkNamespace> router_;
  std::unique_ptr<Networks> networks_;
  std::unique_ptr<NetworkNamespace> players_space_;
  std::unique_ptr<NetworkNamespace> backends_;  // and Redis
  std::unique_ptr<RedisHost> redis_;
  std::map<std::string, std::string> settings_;
  // On a gateway; on the router; there to take the first gateway out.
  std::vector<std::string> commands_;
  std::unique_ptr<GatewayHost> first_;
  std::unique_ptr<GatewayHost> second_;
  std::vector<std::unique_ptr<RoamingBackend>> homes_;
  std::unique_ptr<Roamers> players_;
};

TEST_F(EcmpTest, AChangeOfPathsCostsNothingThatSurvivesANewAddress) {
  Join({Protocol::kWireGuard, Protocol::kQuic, Protocol::kIce});
  if (HasFatalFailure()) return;
  const int count = static_cast<int>(players_->size());
  ExpectNothingLost(PlayOver("paths as at first", [] {}));
  for (int round = 0; round < 3; ++round) {
    const int moved = redis_->RecordCount("first");
    const Roamers::Report removed = PlayOver("path removed", [&] {
      RemoveFirstPath();
      // Who is confirmed there belongs to the second one, and the first one
      // has noticed that.
      EXPECT_TRUE(AwaitRecords("second", count)) << Logs();
      EXPECT_TRUE(first_->AwaitMetric("udpgate_store_sessions", 0)) << Logs();
    });
    ExpectNothingLost(removed);
    EXPECT_EQ(removed.Total().address_changes, moved) << Logs();
    const Roamers::Report added = PlayOver("path added", [&] {
      AddFirstPath();
      EXPECT_TRUE(AwaitRecords("first", moved)) << Logs();
      EXPECT_TRUE(second_->AwaitMetric("udpgate_store_sessions", count - moved))
          << Logs();
    });
    ExpectNothingLost(added);
    EXPECT_EQ(added.Total().address_changes, moved);
  }
}

TEST_F(EcmpTest, APathThatComesAndGoesCostsLittle) {
  Join({Protocol::kWireGuard, Protocol::kQuic, Protocol::kIce});
  if (HasFatalFailure()) return;
  // A gateway may have sessions that have become the other's meanwhile. Each
  // ends once, and takes what is under way with it.
  const Roamers::Report report = PlayOver("path that comes and goes", [&] {
    for (int i = 0; i < 4; ++i) {
      RemoveFirstPath();
      EXPECT_TRUE(players_->AwaitAllServed()) << Logs();
      AddFirstPath();
      EXPECT_TRUE(players_->AwaitAllServed()) << Logs();
    }
  });
  EXPECT_LE(report.Total().longest_silence, kSilenceMax) << report.ToString();
  EXPECT_LE(report.Total().lost, report.Total().sent / 20) << report.ToString();
}

TEST_F(EcmpTest, AKilledGatewayCostsWhatWasUnderWay) {
  Join({Protocol::kWireGuard, Protocol::kQuic, Protocol::kIce});
  if (HasFatalFailure()) return;
  const int count = static_cast<int>(players_->size());
  const int moved = redis_->RecordCount("first");
  const Roamers::Report report = PlayOver("kill -9, path removed", [&] {
    first_->gateway().Signal(SIGKILL);
    RemoveFirstPath();
    EXPECT_TRUE(AwaitRecords("second", count)) << Logs();
  });
  EXPECT_EQ(report.Total().address_changes, moved);
  EXPECT_LE(report.Total().longest_silence, kSilenceMax) << report.ToString();
  EXPECT_LE(report.Total().lost,
            moved * absl::FDivDuration(kSilenceMax, kInterval))
      << report.ToString();
}

TEST_F(EcmpTest, ADeadGatewaysSourceAddressComesWithItsSessions) {
  Join({Protocol::kWireGuard, Protocol::kQuic, Protocol::kIce,
        Protocol::kRakNet});
  if (HasFatalFailure()) return;
  const int count = static_cast<int>(players_->size());
  const int moved = redis_->RecordCount("first");
  first_->gateway().Signal(SIGKILL);
  networks_->Cut("to-first");
  RemoveFirstPath();
  ASSERT_TRUE(AwaitTrue([&] {
    return redis_->Ask(absl::StrCat("EXISTS ", kFirstLease)) == "0";
  }));
  second_->space().Command(
      "ip address add 192.0.2.1/24 dev eth0; "
      "ip route replace default via 192.0.2.254 src 192.0.2.1");
  router_->Command("ip neighbour flush all");
  const Roamers::Report report = PlayOver("source address moved", [&] {
    EXPECT_TRUE(AwaitRecords("second", count)) << Logs();
  });
  ExpectNothingLost(report);
  // Not even the backends have noticed anything.
  EXPECT_EQ(report.Total().address_changes, 0) << Logs();
  EXPECT_EQ(
      second_->Metric("udpgate_store_newcomers_total{result=\"adopted\"}"),
      moved);
}

// ngtcp2 downloads over HTTP/3 while its path changes.
TEST_F(EcmpTest, ARealQuicDownloadGoesOnAtTheOtherGateway) {
  if (!IsInstalled("gtlsclient") || !IsInstalled("gtlsserver")) {
    GTEST_SKIP() << "ngtcp2-client or ngtcp2-server is missing";
  }
  const TemporaryDirectory directory;
  const std::string& path = directory.path();
  backends_->Command(absl::StrCat(
      "cd ", path, "; mkdir served received; head -c 100000000 /dev/urandom",
      " > served/file; openssl req -x509 -newkey ec -nodes -days 2",
      " -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=localhost",
      " -keyout key -out certificate 2> /dev/null"));
  auto server = Start(backends_.get(), path,
                      {"gtlsserver", "-q", "-d", "served", "10.0.0.5", "4433",
                       "key", "certificate"});
  ASSERT_NE(server, nullptr);
  ASSERT_TRUE(AwaitTrue(
      [&] { return !backends_->Output("ss -Hlun sport = :4433").empty(); }));
  redis_->Ask("SET udp_gate:backend 10.0.0.5:4433");
  const SocketAddress gate = *SocketAddress::Parse(settings_["PROXY_ADDR"]);
  const auto lead_to = [&](const GatewayHost& host) {
    router_->Command(
        absl::StrCat("ip route replace ", gate.IpToString(), "/32 via ",
                     host.name() == "first" ? "192.0.2.1" : "192.0.2.2"));
  };
  lead_to(*first_);
  // Flow control lets the server send so few bytes in a round trip that the
  // download takes some seconds.
  auto client =
      Start(players_space_.get(), path,
            {"gtlsclient", "-q", "--exit-on-all-streams-close", "--max-data=4K",
             "--max-window=4K", "--download=received", gate.IpToString(),
             absl::StrCat(gate.port()), "https://localhost/file"});
  ASSERT_NE(client, nullptr);
  ASSERT_TRUE(AwaitRecords("first", 1)) << Logs();
  // Only the record says where the player is.
  const std::unique_ptr<RoamingBackend> other = StartBackend("of-strangers");
  SetBackend(*other);
  lead_to(*second_);
  ASSERT_TRUE(AwaitRecords("second", 1)) << Logs();
  ASSERT_TRUE(client->running()) << "the download was over before the change";
  const absl::StatusOr<ExitResult> ended =
      client->AwaitExit(absl::Seconds(120));
  ASSERT_TRUE(ended.ok()) << client->output() << Logs();
  EXPECT_TRUE(ended->exited_with(0)) << client->output();
  EXPECT_EQ(
      players_space_->Output(absl::StrCat("cd ", path, "; cmp served/file ",
                                          "received/file && echo same")),
      "same\n");
}

// With SESSION_FORWARD=on as well.
class ForwardingEcmpTest : public EcmpTest {
 protected:
  std::map<std::string, std::string> SettingsOf(
      const GatewayHost& host) override {
    const std::vector<std::string> blocks =
        FencedBlocks(ReadFile(kPage), kForwarding, "ini");
    EXPECT_EQ(blocks.size(), 1u) << kPage;
    std::map<std::string, std::string> settings =
        Variables(blocks.empty() ? "" : blocks[0]);
    EXPECT_EQ(settings["SESSION_FORWARD"], "on");
    settings["SESSION_FORWARD_ADDR"] =
        host.name() == "first" ? "192.0.2.1:7000" : "192.0.2.2:7000";
    settings["SESSION_FORWARD_SECRET_FILE"] =
        directory_.WriteFile("forward.secret", std::string(64, 's') + "\n");
    settings.insert(settings_.begin(), settings_.end());
    return settings;
  }

  TemporaryDirectory directory_;
};

TEST_F(ForwardingEcmpTest, NoBackendNoticesAChangeOfPaths) {
  Join({Protocol::kWireGuard, Protocol::kQuic, Protocol::kIce,
        Protocol::kRakNet});
  if (HasFatalFailure()) return;
  const int moved = redis_->RecordCount("first");
  for (int round = 0; round < 3; ++round) {
    const Roamers::Report removed = PlayOver("path removed, forwarded", [&] {
      RemoveFirstPath();
      EXPECT_TRUE(second_->AwaitMetric("udpgate_hop_clients", moved)) << Logs();
    });
    ExpectNothingLost(removed);
    EXPECT_EQ(removed.Total().address_changes, 0) << Logs();
    const Roamers::Report added =
        PlayOver("path added, forwarded", [this] { AddFirstPath(); });
    ExpectNothingLost(added);
    EXPECT_EQ(added.Total().address_changes, 0) << Logs();
    EXPECT_EQ(redis_->RecordCount("first"), moved) << Logs();
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate
