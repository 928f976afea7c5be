// What becomes of a session whose backend, or the way there, is gone: the real
// program between a client, a router and a backend in network namespaces of
// their own. The client keeps one socket and sends again and again, as games
// do.
#include <signal.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/gate_process.h"
#include "testing/internal/support/network_namespace.h"
#include "testing/loopback_peer.h"
#include "udpgate/fastpath/kernel_rights.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

struct Way {
  bool is_ipv6;
  bool has_fast_path;
};

class BackendGoneTest : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    for (auto* space :
         {&client_space_, &gate_space_, &router_space_, &backend_space_}) {
      auto created = NetworkNamespace::Create();
      UDPGATE_NEEDS_RIGHTS(created.status());
      *space = *std::move(created);
      (*space)->Command("ip link set lo up");
    }
    NetworkNamespace::Connect(*client_space_, "c0", *gate_space_, "g1");
    NetworkNamespace::Connect(*gate_space_, "g2", *router_space_, "r2");
    NetworkNamespace::Connect(*gate_space_, "g3", *router_space_, "r3");
    NetworkNamespace::Connect(*router_space_, "r4", *backend_space_, "b0");
    GiveAddress(*client_space_, "c0", Ip(1, 2));
    GiveAddress(*gate_space_, "g1", Ip(1, 1));
    GiveAddress(*gate_space_, "g2", Ip(2, 1));
    GiveAddress(*router_space_, "r2", Ip(2, 2));
    GiveAddress(*gate_space_, "g3", Ip(3, 1));
    GiveAddress(*router_space_, "r3", Ip(3, 2));
    GiveAddress(*router_space_, "r4", Ip(4, 1));
    GiveAddress(*backend_space_, "b0", Ip(4, 2));
    for (const char* name :
         {"net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
          "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0",
          "net.ipv4.icmp_msgs_per_sec=100000", "net.ipv4.conf.all.rp_filter=0",
          "net.ipv4.conf.r2.rp_filter=0", "net.ipv4.conf.r3.rp_filter=0"}) {
      router_space_->Output(absl::StrCat("sysctl -qw ", name));
    }
    gate_space_->Command(Route("add", Ip(4, 0), Ip(2, 2)));
    backend_space_->Command(Route("add", "default", Ip(4, 1)));
    backend_space_->Run([&] {
      backend_ = std::make_unique<EchoBackend>("", Address(Ip(4, 2), 7000));
    });
    NewClient();
  }

  std::string Ip(int net, int host) const {
    return absl::StrCat(GetParam().is_ipv6 ? "fd00:" : "10.0.", net,
                        GetParam().is_ipv6 ? "::" : ".", host);
  }
  std::string Network(const std::string& ip) const {
    if (ip == "default") return ip;
    return absl::StrCat(ip, GetParam().is_ipv6 ? "/64" : "/24");
  }
  std::string Command(const char* object, const std::string& rest) const {
    return absl::StrCat("ip ", GetParam().is_ipv6 ? "-6 " : "", object, " ",
                        rest);
  }
  std::string Route(const char* verb, const std::string& net,
                    const std::string& via) const {
    return Command("route",
                   absl::StrCat(verb, " ", Network(net), " via ", via));
  }
  void GiveAddress(const NetworkNamespace& space, const std::string& interface,
                   const std::string& ip) const {
    space.Command(absl::StrCat("ip address add ", Network(ip),
                               GetParam().is_ipv6 ? " nodad" : "", " dev ",
                               interface));
  }
  static SocketAddress Address(const std::string& ip, uint16_t port) {
    return *SocketAddress::FromIpAndPort(ip, port);
  }
  void NewClient() {
    client_space_->Run([&] {
      client_ = std::make_unique<LoopbackPeer>(Address(Ip(1, 2), 0));
    });
  }

  void StartGate(std::map<std::string, std::string> settings = {}) {
    settings["PROXY_ADDR"] = Address(Ip(1, 1), 19132).ToString();
    settings["BACKEND_ADDR"] = backend_->address().ToString();
    settings["SESSION_LOG"] = "all";
    if (GetParam().has_fast_path) settings["FAST_PATH"] = "required";
    GateProcessOptions options;
    options.environment = std::move(settings);
    gate_ = std::make_unique<GateProcess>(GateBinary(), options);
    absl::Status status;
    gate_space_->Run([&] { status = gate_->Start(); });
    ASSERT_TRUE(status.ok()) << status << gate_->log();
  }

  // Whether a datagram that is sent from now on comes back.
  bool IsServed(absl::Duration timeout = kAwaitTimeout) {
    const absl::Time end = absl::Now() + timeout;
    const int first = asked_ + 1;
    do {
      absl::StatusOr<std::string> reply = client_->Ask(
          gate_->address(), absl::StrCat(++asked_), absl::Milliseconds(100));
      int number = 0;
      if (reply.ok() && absl::SimpleAtoi(*reply, &number) && number >= first) {
        return true;
      }
    } while (absl::Now() < end);
    return false;
  }
  // Until the session is confirmed, and on the fast path where there is one.
  void Confirm() {
    const size_t from = gate_->log().size();
    ASSERT_TRUE(AwaitTrue([&] {
      return IsServed() &&
             absl::StrContains(gate_->log().substr(from), "session confirmed");
    })) << gate_->log();
    if (!GetParam().has_fast_path) return;
    const absl::Time end = absl::Now() + absl::Milliseconds(300);
    while (absl::Now() < end) ASSERT_TRUE(IsServed());
  }
  size_t SessionsOpened() const {
    const std::string log = gate_->log();
    size_t count = 0;
    for (size_t at = log.find("session opened"); at != std::string::npos;
         at = log.find("session opened", at + 1)) {
      ++count;
    }
    return count;
  }
  // The log may come later than the client's reply.
  bool AwaitSessionsOpened(size_t count) const {
    return AwaitTrue([&] { return SessionsOpened() >= count; }) &&
           SessionsOpened() == count;
  }

  std::unique_ptr<NetworkNamespace> client_space_, gate_space_, router_space_,
      backend_space_;
  std::unique_ptr<EchoBackend> backend_;
  std::unique_ptr<LoopbackPeer> client_;
  std::unique_ptr<GateProcess> gate_;
  int asked_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Ways, BackendGoneTest,
                         ::testing::Values(Way{false, false}, Way{true, false},
                                           Way{false, true}, Way{true, true}),
                         [](const ::testing::TestParamInfo<Way>& way) {
                           return absl::StrCat(
                               way.param.is_ipv6 ? "Ipv6" : "Ipv4",
                               way.param.has_fast_path ? "FastPath"
                                                       : "Sockets");
                         });

TEST_P(BackendGoneTest, EveryKindOfErrorOfARouterCounts) {
  StartGate();
  const std::vector<std::string> kinds =
      GetParam().is_ipv6
          ? std::vector<std::string>{"no-route",         "admin-prohibited",
                                     "addr-unreachable", "port-unreachable",
                                     "policy-fail",      "reject-route"}
          : std::vector<std::string>{"net-unreachable",  "host-unreachable",
                                     "prot-unreachable", "port-unreachable",
                                     "net-prohibited",   "host-prohibited",
                                     "admin-prohibited"};
  for (const std::string& kind : kinds) {
    NewClient();
    ASSERT_TRUE(IsServed()) << kind;
    router_space_->Command(absl::StrCat(
        "nft 'add table inet t; add chain inet t f { type filter hook forward "
        "priority 0 ; }; add rule inet t f ip",
        GetParam().is_ipv6 ? "6" : "", " daddr ", Ip(4, 2), " reject with icmp",
        GetParam().is_ipv6 ? "v6" : "", " type ", kind, "'"));
    // One line of a kind in five seconds: the log of sessions tells the rest.
    const size_t from = gate_->log().size();
    EXPECT_TRUE(AwaitTrue([&] {
      EXPECT_TRUE(client_->Send(gate_->address(), "-1").ok());
      return gate_->AwaitLog("backend_refused", absl::Milliseconds(30), from);
    })) << kind
        << gate_->log();
    router_space_->Command("nft delete table inet t");
  }
}

// The last router finds nobody who has the address (ARP, neighbour discovery).
TEST_P(BackendGoneTest, AMachineThatIsOffCounts) {
  StartGate();
  ASSERT_TRUE(IsServed());
  backend_space_->Command(Command("address", "flush dev b0"));
  router_space_->Command(Command("neigh", "flush dev r4"));
  const size_t from = gate_->log().size();
  EXPECT_TRUE(AwaitTrue(
      [&] {
        EXPECT_TRUE(client_->Send(gate_->address(), "-1").ok());
        return gate_->AwaitLog("backend_refused", absl::Milliseconds(100),
                               from);
      },
      absl::Seconds(60)))
      << gate_->log();
}

TEST_P(BackendGoneTest, RoutesAndTheFirewallOfThisHostCount) {
  StartGate();
  for (const std::string type : {"unreachable", "prohibit", "blackhole"}) {
    NewClient();
    ASSERT_TRUE(IsServed()) << type;
    const std::string route = absl::StrCat(type, " ", Ip(4, 2));
    gate_space_->Command(Command("route", "add " + route));
    const size_t from = gate_->log().size();
    EXPECT_TRUE(AwaitTrue([&] {
      EXPECT_TRUE(client_->Send(gate_->address(), "-1").ok());
      return gate_->AwaitLog("backend_refused", absl::Milliseconds(30), from);
    })) << type
        << gate_->log();
    gate_space_->Command(Command("route", "del " + route));
  }
  NewClient();
  ASSERT_TRUE(IsServed());
  gate_space_->Command(absl::StrCat(
      "nft 'add table inet t; add chain inet t f { type filter hook output "
      "priority 0 ; }; add rule inet t f ip",
      GetParam().is_ipv6 ? "6" : "", " daddr ", Ip(4, 2), " drop'"));
  const size_t from = gate_->log().size();
  EXPECT_TRUE(AwaitTrue([&] {
    EXPECT_TRUE(client_->Send(gate_->address(), "-1").ok());
    return gate_->AwaitLog("backend_refused", absl::Milliseconds(30), from);
  })) << gate_->log();
}

TEST_P(BackendGoneTest, ABackendThatFallsSilentLosesItsClients) {
  StartGate({{"BACKEND_SILENT_TIMEOUT_SECS", "2"}});
  for (const bool is_confirmed : {false, true}) {
    NewClient();
    ASSERT_TRUE(IsServed());
    if (is_confirmed) Confirm();
    const size_t from = gate_->log().size();
    backend_->set_silent(true);
    const absl::Time begin = absl::Now();
    EXPECT_TRUE(AwaitTrue([&] {
      EXPECT_TRUE(client_->Send(gate_->address(), "-1").ok());
      return gate_->AwaitLog("backend_silent", absl::Milliseconds(50), from);
    })) << gate_->log();
    EXPECT_GE(absl::Now() - begin, absl::Seconds(1.5));
    backend_->set_silent(false);
    EXPECT_TRUE(IsServed()) << "by a new session";
  }
}

TEST_P(BackendGoneTest, ARouteThatMovesGetsAFreshSocket) {
  StartGate();
  Confirm();
  ASSERT_TRUE(AwaitSessionsOpened(1));
  // The other way, and the first one takes nothing any more.
  gate_space_->Command(Route("replace", Ip(4, 0), Ip(3, 2)));
  router_space_->Command(absl::StrCat(
      "nft 'add table inet t; add chain inet t f { type filter hook prerouting "
      "priority 0 ; }; add rule inet t f ip",
      GetParam().is_ipv6 ? "6" : "", " saddr ", Ip(2, 1), " drop'"));
  EXPECT_TRUE(IsServed(absl::Seconds(8))) << gate_->log();
  EXPECT_TRUE(AwaitSessionsOpened(1)) << "the same session" << gate_->log();
  EXPECT_EQ(backend_->sources().back().WithPort(0), Address(Ip(3, 1), 0));
}

TEST_P(BackendGoneTest, AnAddressThatLeavesIsReplacedAtOnce) {
  StartGate();
  Confirm();
  ASSERT_TRUE(AwaitSessionsOpened(1));
  gate_space_->Command(
      absl::StrCat("ip address del ", Network(Ip(2, 1)), " dev g2"));
  GiveAddress(*gate_space_, "g2", Ip(2, 9));
  gate_space_->Command(Route("replace", Ip(4, 0), Ip(2, 2)));
  const absl::Time begin = absl::Now();
  EXPECT_TRUE(IsServed()) << gate_->log();
  EXPECT_LE(absl::Now() - begin, absl::Seconds(2));
  EXPECT_TRUE(AwaitSessionsOpened(1)) << "the same session" << gate_->log();
  EXPECT_EQ(backend_->sources().back().WithPort(0), Address(Ip(2, 9), 0));
}

TEST_P(BackendGoneTest, APlayerWhoIsGoneIsNoticedByItsHost) {
  StartGate({{"SESSION_IDLE_TIMEOUT_SECS", "8"}});
  Confirm();
  const SocketAddress relay = backend_->sources().back();
  client_.reset();
  const size_t from = gate_->log().size();
  EXPECT_TRUE(AwaitTrue(
      [&] {
        EXPECT_TRUE(backend_->Send(relay, "pushed").ok());
        return gate_->AwaitLog("client_silent", absl::Milliseconds(50), from);
      },
      absl::Seconds(30)))
      << gate_->log();
}

TEST_P(BackendGoneTest, AProcessThatStoodStillEndsNobodyWhoHasSent) {
  StartGate({{"SESSION_IDLE_TIMEOUT_SECS", "2"},
             {"MAX_UNCONFIRMED_SESSIONS_PER_IP", "0"}});
  // New interfaces of IPv6 may lose what comes first.
  ASSERT_TRUE(IsServed()) << gate_->log();
  ASSERT_TRUE(AwaitSessionsOpened(1)) << gate_->log();
  std::vector<std::unique_ptr<LoopbackPeer>> clients;
  client_space_->Run([&] {
    for (int i = 0; i < 200; ++i) {
      clients.push_back(std::make_unique<LoopbackPeer>(Address(Ip(1, 2), 0)));
    }
  });
  for (const auto& client : clients) {
    ASSERT_TRUE(client->Ask(gate_->address(), "hello").ok());
  }
  gate_->Signal(SIGSTOP);
  const absl::Time begin = absl::Now();
  while (absl::Now() - begin < absl::Seconds(4)) {
    for (const auto& client : clients) {
      ASSERT_TRUE(client->Send(gate_->address(), "still here").ok());
    }
    absl::SleepFor(absl::Milliseconds(500));
  }
  gate_->Signal(SIGCONT);
  for (const auto& client : clients) {
    ASSERT_TRUE(client->Ask(gate_->address(), "and now").ok());
  }
  EXPECT_TRUE(AwaitSessionsOpened(1 + 200));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
