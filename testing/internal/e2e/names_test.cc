// Host names in the program: the system's files and name servers, with an /etc
// and a network of the test's own.
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/network_namespace.h"
#include "testing/internal/support/temporary_directory.h"
#include "udpgate/dns/fake_dns_server.h"

namespace udpgate {
namespace test {
namespace {

// The /etc of this process and of its children.
TemporaryDirectory* etc = nullptr;

// The test is in a mount namespace and a network namespace of its own
// (mount_namespaces(7)), so nothing else is affected.
class OwnEtcEnvironment : public ::testing::Environment {
 public:
  void SetUp() override {
    const absl::StatusOr<std::unique_ptr<NetworkNamespace>> space =
        NetworkNamespace::Create();
    if (absl::IsPermissionDenied(space.status()) && getenv("CI") == nullptr) {
      GTEST_SKIP() << space.status();
    }
    ASSERT_TRUE(space.ok()) << space.status();
    (*space)->Command("ip link set lo up");
    (*space)->Enter();
    etc = new TemporaryDirectory();
    for (const char* name : {"passwd", "group", "ld.so.cache"}) {
      const std::ifstream file(absl::StrCat("/etc/", name));
      std::ofstream(absl::StrCat(etc->path(), "/", name)) << file.rdbuf();
    }
    etc->WriteFile("nsswitch.conf", "hosts: files dns\n");
    ASSERT_EQ(unshare(CLONE_NEWNS), 0) << strerror(errno);
    ASSERT_EQ(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0)
        << strerror(errno);
    ASSERT_EQ(mount(etc->path().c_str(), "/etc", nullptr, MS_BIND, nullptr), 0)
        << strerror(errno);
  }
  void TearDown() override {
    umount2("/etc", MNT_DETACH);
    delete etc;
  }
};

const auto* const kEnvironment =
    ::testing::AddGlobalTestEnvironment(new OwnEtcEnvironment);

// There is no server on 127.0.0.9.
constexpr char kWrong[] = "nameserver 127.0.0.9\n";
constexpr char kRight[] = "nameserver 127.0.0.1\n";

class NamesTest : public GateTest {
 protected:
  void SetUp() override {
    GateTest::SetUp();
    WriteHosts("");
    WriteResolvConf(kRight);
  }

  // Changes the file in place.
  static void WriteResolvConf(absl::string_view content) {
    etc->WriteFile("resolv.conf", content);
  }
  static void ReplaceResolvConf(absl::string_view content) {
    const std::string path = etc->WriteFile("resolv.conf.new", content);
    ASSERT_EQ(
        rename(path.c_str(), absl::StrCat(etc->path(), "/resolv.conf").c_str()),
        0);
  }
  static void WriteHosts(absl::string_view lines) {
    etc->WriteFile("hosts", absl::StrCat("127.0.0.1 localhost\n", lines));
  }

  // Starts the gateway with a fixed backend.
  void StartGateTo(absl::string_view name, const EchoBackend& backend) {
    StartGate(
        {{"BACKEND_ADDR", absl::StrCat(name, ":", backend.address().port())}});
  }
  // Expects that a new client is not served.
  void ExpectNotServed() {
    LoopbackPeer client;
    ASSERT_TRUE(client.Send(address(), "hello").ok());
    EXPECT_TRUE(gate().AwaitLog("dropped (resolve_")) << gate().log();
  }

  FakeDnsServer dns_{53};
  EchoBackend lobby_{"lobby"};
};

TEST_F(NamesTest, AChangeOfResolvConfInPlaceIsNoticed) {
  dns_.Set("lobby.test", {"127.0.0.1"});
  WriteResolvConf(kWrong);
  StartGateTo("lobby.test", lobby_);
  ExpectNotServed();
  WriteResolvConf(kRight);
  LoopbackPeer client;
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
}

TEST_F(NamesTest, AReplacementOfResolvConfIsNoticed) {
  dns_.Set("lobby.test", {"127.0.0.1"});
  WriteResolvConf(kWrong);
  StartGateTo("lobby.test", lobby_);
  ExpectNotServed();
  ReplaceResolvConf(kRight);
  LoopbackPeer client;
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
}

TEST_F(NamesTest, ASignalReloadsResolvConf) {
  WriteResolvConf(kWrong);
  StartGateTo("lobby.test", lobby_);
  WriteResolvConf(kRight);
  gate().Signal(SIGHUP);
  // No lookup was made before.
  EXPECT_TRUE(gate().AwaitLog("resolv.conf reloaded: DNS servers 127.0.0.1"))
      << gate().log();
}

TEST_F(NamesTest, TheNameOfRedisIsFoundAfterAChangeOfResolvConf) {
  dns_.Set("redis.test", {"127.0.0.1"});
  SetBackend(lobby_);
  WriteResolvConf(kWrong);
  StartGate({{"REDIS_ADDR", absl::StrCat("redis.test:", redis().port())}});
  ExpectNotServed();
  WriteResolvConf(kRight);
  LoopbackPeer client;
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  EXPECT_TRUE(AwaitSubscriber(&redis()));
}

TEST_F(NamesTest, TheHostsFileIsReloaded) {
  StartGate(
      {{"BACKEND_ADDR", absl::StrCat("lobby.test:", lobby_.address().port())}});
  LoopbackPeer first;
  ASSERT_TRUE(first.Send(address(), "hello").ok());
  ASSERT_TRUE(gate().AwaitLog("dropped (no_backend)")) << gate().log();
  WriteHosts("127.0.0.1 lobby.test\n");
  EXPECT_TRUE(AwaitServedBy(&first, address(), "lobby"));
}

// Clients that were not served, or waited for three seconds.
TEST_F(NamesTest, AnUnansweredIpv6QueryLosesNoClient) {
  dns_.Set("lobby.test", {"127.0.0.1", "fd00::5"});
  dns_.Swallow(AF_INET6);
  StartGateTo("lobby.test", lobby_);
  const absl::Time before = absl::Now();
  for (int i = 0; i < 40; ++i) {
    LoopbackPeer client;
    EXPECT_TRUE(IsServedBy(&client, address(), "lobby")) << i;
  }
  EXPECT_LT(absl::Now() - before, absl::Seconds(2 * kSlowness));
}

TEST_F(NamesTest, AnUnansweredIpv4QueryLosesNoClient) {
  EchoBackend lobby("lobby", SocketAddress::Ipv6Loopback(0));
  dns_.Set("lobby.test", {"127.0.0.1", "::1"});
  dns_.Swallow(AF_INET);
  StartGateTo("lobby.test", lobby);
  for (int i = 0; i < 10; ++i) {
    LoopbackPeer client;
    EXPECT_TRUE(IsServedBy(&client, address(), "lobby")) << i;
  }
}

TEST_F(NamesTest, ASearchListOfADotResolvesASingleLabel) {
  dns_.Set("lobby", {"127.0.0.1"});
  WriteResolvConf(absl::StrCat(kRight, "search .\n"));
  StartGateTo("lobby", lobby_);
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby"));
}

TEST_F(NamesTest, AnErrorOfTheResolverIsNotAnInvalidKey) {
  WriteResolvConf(absl::StrCat(kRight, "search a..b\n"));
  SetBackendText("lobby:19132");
  StartGate();
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  ASSERT_TRUE(gate().AwaitLog("dropped (resolve_failed)")) << gate().log();
  EXPECT_TRUE(gate().AwaitLog("host \"lobby\": ")) << gate().log();
}

// There is no server on 127.0.0.2.
TEST_F(NamesTest, AfterRefusalsTheNextAddressOfTheNameIsTried) {
  dns_.Set("lobby.test", {"127.0.0.2", "127.0.0.1"});
  StartGateTo("lobby.test", lobby_);
  LoopbackPeer client;
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  LoopbackPeer newcomer;
  EXPECT_TRUE(IsServedBy(&newcomer, address(), "lobby"));
}

TEST_F(NamesTest, ADisconnectMayNameTheTextOfTheKey) {
  const std::string text = absl::StrCat("lobby.test:", lobby_.address().port());
  EchoBackend game("game");
  dns_.Set("lobby.test", {"127.0.0.1"});
  SetBackendText(text);
  StartGate();
  LoopbackPeer client, by_address;
  ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  SetBackend(lobby_);
  ASSERT_TRUE(IsServedBy(&by_address, address(), "lobby"));
  dns_.Set("lobby.test", {"127.0.0.3"});
  SetBackend(game);
  Publish(absl::StrCat("backend ", text));
  EXPECT_TRUE(AwaitServedBy(&client, address(), "game"));
  EXPECT_TRUE(IsServedBy(&by_address, address(), "lobby"));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
