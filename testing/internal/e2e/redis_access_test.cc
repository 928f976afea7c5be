// How the gateway reaches Redis: addresses, login, database, key and channel.
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/certificate_authority.h"
#include "testing/internal/support/http_client.h"

namespace udpgate {
namespace test {
namespace {

using RedisAccessTest = GateTest;

// With a Redis server of its own.
TEST_F(RedisAccessTest, LogsInAsAnAclUser) {
  RedisServerOptions options;
  options.extra_arguments = {"--user", "default", "off",          "--user",
                             "gate",   "on",      ">open=sesame", "~*",
                             "&*",     "+@all"};
  options.username = "gate";
  options.password = "open=sesame";
  RedisServer server(options);
  ASSERT_TRUE(server.Start().ok());
  EchoBackend lobby("lobby");
  ASSERT_TRUE(
      server.Command({"SET", kBackendKey, lobby.address().ToString()}).ok());
  StartGate({{"REDIS_ADDR", server.tcp_address()},
             {"REDIS_USERNAME", "gate"},
             {"REDIS_PASSWORD", "open=sesame"},
             {"LOG_LEVEL", "debug"}});
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby"));
  EXPECT_TRUE(AwaitSubscriber(&server));
  EXPECT_EQ(gate().log().find("sesame"), std::string::npos) << gate().log();
}

TEST_F(RedisAccessTest, ReadsThePasswordFromAFile) {
  RedisServerOptions options;
  options.extra_arguments = {"--requirepass", "from a file"};
  options.password = "from a file";
  RedisServer server(options);
  ASSERT_TRUE(server.Start().ok());
  EchoBackend lobby("lobby");
  ASSERT_TRUE(
      server.Command({"SET", kBackendKey, lobby.address().ToString()}).ok());
  TemporaryDirectory directory;
  StartGate({{"REDIS_ADDR", server.tcp_address()},
             {"REDIS_PASSWORD_FILE",
              directory.WriteFile("password", "from a file\n")}});
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby"));
}

TEST_F(RedisAccessTest, APasswordThatChangesCostsNoClientADatagram) {
  RedisServerOptions options;
  options.extra_arguments = {"--user", "gate", "on",   ">first",
                             "~*",     "&*",   "+@all"};
  RedisServer server(options);
  ASSERT_TRUE(server.Start().ok());
  EchoBackend lobby("lobby");
  ASSERT_TRUE(
      server.Command({"SET", kBackendKey, lobby.address().ToString()}).ok());
  TemporaryDirectory directory;
  StartGate(
      {{"REDIS_ADDR", server.tcp_address()},
       {"REDIS_USERNAME", "gate"},
       {"REDIS_PASSWORD_FILE", directory.WriteFile("password", "first")}});
  LoopbackPeer live;
  ASSERT_TRUE(IsServedBy(&live, address(), "lobby"));
  ASSERT_TRUE(AwaitSubscriber(&server));
  ASSERT_TRUE(server.Command({"ACL", "SETUSER", "gate", ">second"}).ok());
  directory.WriteFile("password", "second");
  ASSERT_TRUE(gate().AwaitLog("logged in with the changed password"));
  ASSERT_TRUE(server.Command({"ACL", "SETUSER", "gate", "<first"}).ok());
  ASSERT_TRUE(server.Command({"CLIENT", "KILL", "USER", "gate"}).ok());
  LoopbackPeer newcomer;
  EXPECT_TRUE(IsServedBy(&newcomer, address(), "lobby"));
  EXPECT_TRUE(IsServedBy(&live, address(), "lobby"));
  EXPECT_TRUE(AwaitSubscriber(&server));
  EXPECT_EQ(gate().log().find("login rejected"), std::string::npos)
      << gate().log();
}

TEST_F(RedisAccessTest, AWrongPasswordIsLoggedWithoutIt) {
  RedisServerOptions options;
  options.extra_arguments = {"--requirepass", "right"};
  options.password = "right";
  RedisServer server(options);
  ASSERT_TRUE(server.Start().ok());
  EchoBackend lobby("lobby");
  ASSERT_TRUE(
      server.Command({"SET", kBackendKey, lobby.address().ToString()}).ok());
  StartGate({{"REDIS_ADDR", server.tcp_address()},
             {"REDIS_PASSWORD", "not-this-one"},
             {"LOG_LEVEL", "debug"}});
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  EXPECT_TRUE(gate().AwaitLog("WRONGPASS")) << gate().log();
  EXPECT_EQ(gate().log().find("not-this-one"), std::string::npos)
      << gate().log();
  // The operator corrects the password.
  ASSERT_TRUE(
      server.Command({"CONFIG", "SET", "requirepass", "not-this-one"}).ok());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
}

// The configurations of docs/redis.md.
TEST_F(RedisAccessTest, SpeaksTlsAndSaysInReadyzWhatIsWrong) {
  CertificateAuthority authority;
  const CertificateFiles files = authority.Issue("server", "IP:127.0.0.1");
  const CertificateFiles client = authority.Issue("client", "DNS:gate");
  RedisServerOptions options;
  const uint16_t tls_port = FreeTcpPort();
  options.extra_arguments = {"--tls-port",
                             absl::StrCat(tls_port),
                             "--tls-cert-file",
                             files.certificate_file,
                             "--tls-key-file",
                             files.key_file,
                             "--tls-ca-cert-file",
                             authority.file(),
                             "--user",
                             "gate",
                             "on",
                             ">open=sesame",
                             "~*",
                             "&*",
                             "+@all"};
  RedisServer server(options);
  ASSERT_TRUE(server.Start().ok());
  EchoBackend lobby("lobby");
  ASSERT_TRUE(
      server.Command({"SET", kBackendKey, lobby.address().ToString()}).ok());
  const std::string url =
      absl::StrCat("rediss://gate:open%3Dsesame@127.0.0.1:", tls_port);
  {
    StartGate({{"REDIS_ADDR", ""},
               {"REDIS_URL", url},
               {"REDIS_TLS_CA_FILE", authority.file()},
               {"REDIS_TLS_CERTIFICATE_FILE", client.certificate_file},
               {"REDIS_TLS_KEY_FILE", client.key_file}});
    LoopbackPeer peer;
    EXPECT_TRUE(IsServedBy(&peer, address(), "lobby"));
    EXPECT_TRUE(AwaitSubscriber(&server));
    EXPECT_EQ(gate().log().find("sesame"), std::string::npos) << gate().log();
  }
  StopGate();
  const SocketAddress admin = SocketAddress::Ipv4Loopback(FreeTcpPort());
  StartGate({{"REDIS_ADDR", ""},
             {"REDIS_URL", url},
             {"REDIS_TLS_CA_FILE", authority.file()},
             {"ADMIN_ADDR", admin.ToString()}});
  std::string body;
  EXPECT_TRUE(AwaitTrue([&] {
    const absl::StatusOr<HttpReply> reply = HttpGet(admin, "/readyz");
    body = reply.ok() ? reply->body : reply.status().ToString();
    return absl::StrContains(body,
                             "TLS: the server requires a client certificate");
  })) << body;
}

// The configuration of docs/redis.md.
TEST_F(RedisAccessTest, ConnectsToTheMasterThatSentinelNames) {
  RedisServerOptions options;
  options.password = "open=sesame";
  options.extra_arguments = {"--requirepass", "open=sesame"};
  RedisServer server(options);
  ASSERT_TRUE(server.Start().ok());
  EchoBackend lobby("lobby");
  ASSERT_TRUE(
      server.Command({"SET", kBackendKey, lobby.address().ToString()}).ok());
  RedisServerOptions sentinel_options;
  sentinel_options.sentinel_configuration = absl::StrCat(
      "sentinel monitor mymaster 127.0.0.1 ", server.port(),
      " 1\nsentinel auth-pass mymaster open=sesame\n"
      "user gate on >sentinel=sesame resetchannels -@all &+switch-master "
      "+sentinel|get-master-addr-by-name +subscribe +unsubscribe +ping\n");
  RedisServer sentinel(sentinel_options);
  ASSERT_TRUE(sentinel.Start().ok());
  StartGate({{"REDIS_ADDR", ""},
             {"REDIS_SENTINELS",
              absl::StrCat("127.0.0.1:1,", sentinel.tcp_address())},
             {"REDIS_SENTINEL_MASTER", "mymaster"},
             {"REDIS_SENTINEL_USERNAME", "gate"},
             {"REDIS_SENTINEL_PASSWORD", "sentinel=sesame"},
             {"REDIS_PASSWORD", "open=sesame"}});
  LoopbackPeer peer;
  EXPECT_TRUE(IsServedBy(&peer, address(), "lobby"));
  EXPECT_TRUE(AwaitSubscriber(&server));
  EXPECT_EQ(gate().log().find("sesame"), std::string::npos) << gate().log();
}

TEST_F(RedisAccessTest, AMissingPasswordIsLogged) {
  RedisServerOptions options;
  options.extra_arguments = {"--requirepass", "right"};
  options.password = "right";
  RedisServer server(options);
  ASSERT_TRUE(server.Start().ok());
  StartGate({{"REDIS_ADDR", server.tcp_address()}});
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(address(), "hello").ok());
  EXPECT_TRUE(gate().AwaitLog("NOAUTH")) << gate().log();
}

TEST_F(RedisAccessTest, UsesTheDatabaseKeyAndChannelOfTheSettings) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  EchoBackend wrong("wrong");
  SetBackend(wrong);
  const auto set = [&](const EchoBackend& backend) {
    // SELECT affects one connection, so both are in one command.
    ASSERT_TRUE(redis()
                    .Command({"EVAL",
                              "redis.call('SELECT', 3) "
                              "return redis.call('SET', KEYS[1], ARGV[1])",
                              "1", "another:key", backend.address().ToString()})
                    .ok());
  };
  set(lobby);
  StartGate({{"REDIS_DB", "3"},
             {"REDIS_BACKEND_KEY", "another:key"},
             {"REDIS_DISCONNECT_CHANNEL", "another channel"}});
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(AwaitSubscriber(&redis(), "another channel"));
  set(arena);
  ASSERT_TRUE(
      redis()
          .Command({"PUBLISH", "another channel", client.address().ToString()})
          .ok());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));
}

TEST_F(RedisAccessTest, UsesAUnixSocket) {
  RedisServerOptions options;
  options.tcp = false;
  options.unix_socket = true;
  RedisServer server(options);
  ASSERT_TRUE(server.Start().ok());
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  ASSERT_TRUE(
      server.Command({"SET", kBackendKey, lobby.address().ToString()}).ok());
  StartGate({{"REDIS_ADDR", server.unix_address()}});
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(AwaitSubscriber(&server));
  ASSERT_TRUE(
      server.Command({"SET", kBackendKey, arena.address().ToString()}).ok());
  ASSERT_TRUE(
      server
          .Command({"PUBLISH", kDisconnectChannel, client.address().ToString()})
          .ok());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));
}

TEST_F(RedisAccessTest, ResolvesTheHostNameOfRedis) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate({{"REDIS_ADDR", absl::StrCat("localhost:", redis().port())}});
  LoopbackPeer client;
  EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
