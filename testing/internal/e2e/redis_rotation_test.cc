// Mutual TLS with the real program, and all credentials replaced while players
// play and new ones come.
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/e2e/paced_traffic.h"
#include "testing/internal/e2e/program.h"
#include "testing/internal/support/certificate_authority.h"

namespace udpgate {
namespace test {
namespace {

constexpr int kPlayers = 20;
constexpr int kDatagramsPerSecond = 50 / kSlowness;
constexpr int kNewcomersPerSecond = 100 / kSlowness;
constexpr char kServerNames[] = "IP:127.0.0.1";
constexpr char kClientNames[] = "DNS:gate";

// Written elsewhere and renamed, as docs/redis.md says.
void Replace(const std::string& path, const std::string& content) {
  std::ofstream(path + ".new", std::ios::binary) << content;
  ASSERT_EQ(std::rename((path + ".new").c_str(), path.c_str()), 0);
}

// A Redis that speaks TLS, wants a certificate and a password.
class RedisRotationTest : public GateTest {
 protected:
  void SetUp() override {
    GateTest::SetUp();
    const CertificateFiles server = authority_.Issue("server", kServerNames);
    client_ = authority_.Issue("client", kClientNames);
    ca_file_ = directory_.WriteFile("authorities", ReadFile(authority_.file()));
    password_file_ = directory_.WriteFile("password", "first");
    tls_port_ = FreeTcpPort();
    RedisServerOptions options;
    // The plain port is the test's own.
    options.extra_arguments = {"--tls-port",
                               absl::StrCat(tls_port_),
                               "--tls-cert-file",
                               server.certificate_file,
                               "--tls-key-file",
                               server.key_file,
                               "--tls-ca-cert-file",
                               authority_.file(),
                               "--tls-auth-clients",
                               "yes",
                               "--user",
                               "gate",
                               "on",
                               ">first",
                               "~*",
                               "&*",
                               "+@all"};
    server_ = std::make_unique<RedisServer>(options);
    ASSERT_TRUE(server_->Start().ok());
    Command({"SET", kBackendKey, lobby_.address().ToString()});
    StartGate({{"REDIS_ADDR", absl::StrCat("127.0.0.1:", tls_port_)},
               {"REDIS_TLS", "on"},
               {"REDIS_TLS_CA_FILE", ca_file_},
               {"REDIS_TLS_CERTIFICATE_FILE", client_.certificate_file},
               {"REDIS_TLS_KEY_FILE", client_.key_file},
               {"REDIS_USERNAME", "gate"},
               {"REDIS_PASSWORD_FILE", password_file_},
               {"MAX_UNCONFIRMED_SESSIONS_PER_IP", "0"}});
    ASSERT_TRUE(AwaitSubscriber(server_.get()));
    players_ = std::make_unique<PacedPlayers>(address(), "lobby", kPlayers,
                                              kDatagramsPerSecond);
    newcomers_ =
        std::make_unique<Newcomers>(address(), "lobby", kNewcomersPerSecond);
    ASSERT_TRUE(newcomers_->AwaitServed(10));
  }

  void Command(const std::vector<std::string>& command) {
    const auto reply = server_->Command(command);
    ASSERT_TRUE(reply.ok()) << reply.status();
  }

  // Nobody's connection stays. Waits until newcomers are served and events
  // arrive on new ones.
  void CutAllConnections() {
    Command({"CLIENT", "KILL", "USER", "gate"});
    EXPECT_TRUE(newcomers_->AwaitServed(20)) << gate().log();
    EXPECT_TRUE(AwaitSubscriber(server_.get())) << gate().log();
  }

  // After all that has happened: nobody has noticed, and an event still ends a
  // session.
  void ExpectThatNobodyNoticed() {
    newcomers_->Stop();
    players_->Stop();
    std::printf(
        "%d newcomers, the longest wait %.0f ms; %d datagrams of live "
        "players\n",
        newcomers_->served(),
        absl::ToDoubleMilliseconds(newcomers_->longest_wait()),
        static_cast<int>(players_->sent()));
    EXPECT_EQ(newcomers_->failed(), 0) << gate().log();
    EXPECT_GT(players_->sent(), 0);
    EXPECT_EQ(players_->received(), players_->sent());
    EXPECT_EQ(players_->disordered(), 0);
    EchoBackend arena("arena");
    LoopbackPeer client;
    ASSERT_TRUE(IsServedBy(&client, address(), "lobby"));
    Command({"SET", kBackendKey, arena.address().ToString()});
    Command({"PUBLISH", kDisconnectChannel, client.address().ToString()});
    EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));
  }

  TemporaryDirectory directory_;
  CertificateAuthority authority_;
  CertificateFiles client_;
  std::string ca_file_;
  std::string password_file_;
  uint16_t tls_port_ = 0;
  EchoBackend lobby_{"lobby"};
  std::unique_ptr<RedisServer> server_;
  std::unique_ptr<PacedPlayers> players_;
  std::unique_ptr<Newcomers> newcomers_;
};

TEST_F(RedisRotationTest, CertificatesOfBothSidesAreReplaced) {
  // The gateway's own.
  const std::string old_certificate = ReadFile(client_.certificate_file);
  authority_.Issue("client", kClientNames);
  ASSERT_NE(ReadFile(client_.certificate_file), old_certificate);
  CutAllConnections();
  // That of Redis.
  const CertificateFiles second = authority_.Issue("second", kServerNames);
  Command({"CONFIG", "SET", "tls-cert-file", second.certificate_file,
           "tls-key-file", second.key_file});
  CutAllConnections();
  ExpectThatNobodyNoticed();
}

TEST_F(RedisRotationTest, TheAuthorityIsReplaced) {
  CertificateAuthority next;
  const std::string both =
      absl::StrCat(ReadFile(authority_.file()), ReadFile(next.file()));
  // Both sides first trust both.
  const std::string servers_ca = directory_.WriteFile("both", both);
  Replace(ca_file_, both);
  Command({"CONFIG", "SET", "tls-ca-cert-file", servers_ca});
  CutAllConnections();
  const CertificateFiles server = next.Issue("server", kServerNames);
  Command({"CONFIG", "SET", "tls-cert-file", server.certificate_file,
           "tls-key-file", server.key_file});
  CutAllConnections();
  const CertificateFiles client = next.Issue("client", kClientNames);
  Replace(client_.key_file, ReadFile(client.key_file));
  Replace(client_.certificate_file, ReadFile(client.certificate_file));
  CutAllConnections();
  // Then the new one alone.
  Command({"CONFIG", "SET", "tls-ca-cert-file", next.file()});
  Replace(ca_file_, ReadFile(next.file()));
  CutAllConnections();
  ExpectThatNobodyNoticed();
}

TEST_F(RedisRotationTest, ThePasswordIsReplacedTwice) {
  std::string old_password = "first";
  for (const std::string password : {"second", "third"}) {
    const size_t log_size = gate().log().size();
    Command({"ACL", "SETUSER", "gate", absl::StrCat(">", password)});
    Replace(password_file_, password);
    ASSERT_TRUE(gate().AwaitLog("logged in with the changed password",
                                kAwaitTimeout, log_size))
        << gate().log();
    Command({"ACL", "SETUSER", "gate", absl::StrCat("<", old_password)});
    EXPECT_TRUE(newcomers_->AwaitServed(20));
    CutAllConnections();
    old_password = password;
  }
  ExpectThatNobodyNoticed();
  for (const char* password : {"first", "second", "third"}) {
    EXPECT_EQ(gate().log().find(absl::StrCat(">", password)),
              std::string::npos);
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate
