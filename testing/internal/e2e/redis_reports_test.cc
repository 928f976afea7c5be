// The entry of the gateway and its session events over everything that may lie
// between the gateway and Redis: TLS, credentials that change, a fail-over.
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/certificate_authority.h"
#include "testing/internal/support/redis_cluster_servers.h"
#include "testing/internal/support/redis_sentinels.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace test {
namespace {

constexpr char kKey[] = "udp_gate:gateways";
constexpr char kHash[] = "{udp_gate:gateways}:gateway-1";
constexpr char kStream[] = "udp_gate:events";

class RedisReportsTest : public GateTest {
 protected:
  static std::map<std::string, std::string> With(
      std::map<std::string, std::string> environment) {
    environment["REDIS_GATEWAY_KEY"] = kKey;
    environment["REDIS_EVENT_STREAM"] = kStream;
    environment["GATEWAY_ID"] = "gateway-1";
    return environment;
  }
  static std::string Sessions(const RedisServer& server) {
    return server.Command({"HGET", kHash, "sessions"}).value_or("none");
  }
  static int Events(const RedisServer& server) {
    int length = 0;
    return absl::SimpleAtoi(server.Command({"XLEN", kStream}).value_or("x"),
                            &length)
               ? length
               : -1;
  }
};

TEST_F(RedisReportsTest, SpeakTlsAndFollowAPassword) {
  CertificateAuthority authority;
  const CertificateFiles files = authority.Issue("redis", "IP:127.0.0.1");
  const uint16_t tls_port = FreeTcpPort();
  RedisServerOptions options;
  // The plain port is the test's own.
  options.extra_arguments = {"--tls-port",
                             absl::StrCat(tls_port),
                             "--tls-cert-file",
                             files.certificate_file,
                             "--tls-key-file",
                             files.key_file,
                             "--tls-ca-cert-file",
                             authority.file(),
                             "--tls-auth-clients",
                             "no",
                             "--user",
                             "gate",
                             "on",
                             ">first",
                             "~*",
                             "&*",
                             "+@all"};
  RedisServer server(options);
  ASSERT_TRUE(server.Start().ok());
  EchoBackend lobby("lobby");
  ASSERT_TRUE(
      server.Command({"SET", kBackendKey, lobby.address().ToString()}).ok());
  TemporaryDirectory directory;
  const std::string password_file = directory.WriteFile("password", "first");
  StartGate(With({{"REDIS_ADDR", absl::StrCat("127.0.0.1:", tls_port)},
                  {"REDIS_TLS", "on"},
                  {"REDIS_TLS_CA_FILE", authority.file()},
                  {"REDIS_USERNAME", "gate"},
                  {"REDIS_PASSWORD_FILE", password_file}}));
  LoopbackPeer client;
  ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(AwaitTrue([&] { return Sessions(server) == "1"; }));
  ASSERT_TRUE(AwaitTrue([&] { return Events(server) == 1; }));
  // Another password, and every connection is closed.
  ASSERT_TRUE(
      server.Command({"ACL", "SETUSER", "gate", "resetpass", ">second"}).ok());
  directory.WriteFile("password", "second");
  ASSERT_TRUE(server.Command({"CLIENT", "KILL", "USER", "gate"}).ok());
  LoopbackPeer other;
  ASSERT_TRUE(AwaitServedBy(&other, address(), "lobby"));
  EXPECT_TRUE(AwaitTrue([&] { return Sessions(server) == "2"; }));
  EXPECT_TRUE(AwaitTrue([&] { return Events(server) == 2; }));
}

TEST_F(RedisReportsTest, MoveToTheNewMaster) {
  RedisSentinels group;
  const absl::Status started = group.Start();
  ASSERT_TRUE(started.ok()) << started;
  EchoBackend lobby("lobby");
  ASSERT_TRUE(group.master()
                  .Command({"SET", kBackendKey, lobby.address().ToString()})
                  .ok());
  StartGate(With({{"REDIS_ADDR", ""},
                  {"REDIS_SENTINELS", group.addresses()},
                  {"REDIS_SENTINEL_MASTER", "mymaster"}}));
  LoopbackPeer client;
  ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(AwaitTrue([&] { return Events(group.replica()) == 1; }));
  ASSERT_TRUE(group.master().Command({"WAIT", "1", "5000"}).ok());
  group.master().Kill();
  ASSERT_TRUE(AwaitTrue(
      [&] { return group.NamedMasterPort() == group.replica().port(); }));
  LoopbackPeer other;
  ASSERT_TRUE(AwaitServedBy(&other, address(), "lobby"));
  EXPECT_TRUE(AwaitTrue([&] { return Sessions(group.replica()) == "2"; }));
  // A client that came in between has ended without a backend.
  EXPECT_TRUE(AwaitTrue([&] { return Events(group.replica()) >= 2; }));
}

TEST_F(RedisReportsTest, FindTheirNodesOfACluster) {
  RedisClusterServers cluster({});
  const absl::Status started = cluster.Start();
  ASSERT_TRUE(started.ok()) << started;
  EchoBackend lobby("lobby");
  ASSERT_TRUE(
      cluster.Command({"SET", kBackendKey, lobby.address().ToString()}).ok());
  // All keys of an entry are in one slot.
  ASSERT_EQ(cluster.SlotOf(kKey).value_or(-1),
            cluster.SlotOf(kHash).value_or(-2));
  const auto sessions = [&cluster] {
    return cluster.Command({"HGET", kHash, "sessions"}).value_or("none");
  };
  const auto events = [&cluster] {
    return cluster.Command({"XLEN", kStream}).value_or("none");
  };
  StartGate(With({{"REDIS_ADDR", cluster.addresses()}}));
  LoopbackPeer client;
  ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  EXPECT_TRUE(AwaitTrue([&] { return sessions() == "1"; }));
  EXPECT_TRUE(AwaitTrue([&] { return events() == "1"; }));
  EXPECT_EQ(cluster.Command({"ZRANGE", kKey, "0", "-1"}).value_or("none"),
            "gateway-1");
  for (const char* key : {kKey, kStream}) {
    const size_t from = cluster.OwnerOf(key).value_or(0);
    const absl::Status moved =
        cluster.MoveSlot(cluster.SlotOf(key).value_or(0), from, (from + 1) % 3);
    ASSERT_TRUE(moved.ok()) << moved;
  }
  LoopbackPeer other;
  ASSERT_TRUE(AwaitServedBy(&other, address(), "lobby"));
  EXPECT_TRUE(AwaitTrue([&] { return sessions() == "2"; }));
  EXPECT_TRUE(AwaitTrue([&] { return events() == "2"; }));
}

// Clients are served all the same.
TEST_F(RedisReportsTest, AMissingPermissionIsAWarning) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  ASSERT_TRUE(
      redis()
          .Command({"ACL", "SETUSER", "gate", "on", ">password", "~*", "&*",
                    "-@all", "+get", "+subscribe", "+ping", "+info"})
          .ok());
  std::map<std::string, std::string> environment = RedisEnvironment();
  environment["REDIS_USERNAME"] = "gate";
  environment["REDIS_PASSWORD"] = "password";
  StartGate(With(environment));
  LoopbackPeer client;
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  EXPECT_TRUE(gate().AwaitLog("by EVAL: autoscalers do not see this gateway"));
  EXPECT_TRUE(gate().AwaitLog("a write of stream \"udp_gate:events\""));
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby"));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
