// TLS to a real Redis, with an authority of the test's own.
#include "udpgate/redis/redis_tls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "testing/internal/support/certificate_authority.h"
#include "udpgate/redis/redis_disconnect_source.h"
#include "udpgate/redis/resolver_fixture.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::CertificateAuthority;
using test::CertificateFiles;
using test::kBackend;
using test::RedisServer;
using test::RedisServerOptions;
using test::Resolution;
using test::ScriptedPeer;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kNames[] = "DNS:redis.test,IP:127.0.0.1";

class RedisTlsTest : public test::RedisBackendResolverTest {
 protected:
  RedisTlsTest() {
    dns_.Set("redis.test", {"127.0.0.1"});
    dns_.Set("other.test", {"127.0.0.1"});
    tls_.ca_file = authority_.file();
    options_.command_timeout = absl::Seconds(5);
  }

  // A Redis with a plain port as well.
  void StartTlsRedis(const CertificateFiles& files,
                     const std::vector<std::string>& more = {
                         "--tls-auth-clients", "no"}) {
    RedisServerOptions server;
    tls_port_ = test::FreeTcpPort();
    server.extra_arguments = {"--tls-port",         absl::StrCat(tls_port_),
                              "--tls-cert-file",    files.certificate_file,
                              "--tls-key-file",     files.key_file,
                              "--tls-ca-cert-file", authority_.file()};
    server.extra_arguments.insert(server.extra_arguments.end(), more.begin(),
                                  more.end());
    redis_ = StartRedis(server);
    Set(*redis_, "1.2.3.4:5");
  }
  std::string address(const std::string& host = "redis.test") const {
    return absl::StrCat(host, ":", tls_port_);
  }
  std::shared_ptr<RedisBackendResolver> MakeTls(const std::string& address) {
    options_.transport = MakeRedisTls(tls_);
    return Make(address);
  }
  // The connection is not made for this reason, which is in the log once and in
  // the health.
  void ExpectFails(const std::string& address, const std::string& reason) {
    const auto resolver = MakeTls(address);
    EXPECT_TRUE(AwaitTrue([&] {
      return absl::StrContains(resolver->Health().message(), reason);
    })) << reason
        << "\n"
        << resolver->Health();
    EXPECT_THAT(Resolution(resolver.get()).Await(), HasSubstr(reason));
    EXPECT_EQ(log_.CountOf(absl::StrCat("warn: Redis ", address,
                                        " (backend key): ", reason)),
              1)
        << reason << "\n"
        << ::testing::PrintToString(log_.lines());
  }

  CertificateAuthority authority_;
  RedisTlsOptions tls_;
  uint16_t tls_port_ = 0;
  std::unique_ptr<RedisServer> redis_;
};

TEST_F(RedisTlsTest, ResolvesAndSubscribes) {
  StartTlsRedis(authority_.Issue("server", kNames));
  const auto resolver = MakeTls(address());
  ASSERT_TRUE(AwaitHealthy(resolver.get())) << resolver->Health();
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  const auto source = RedisDisconnectSource::Create(options_, lookup_);
  ASSERT_TRUE(source.ok()) << source.status();
  std::atomic<int> events{0};
  ASSERT_TRUE((*source)
                  ->Start([&](absl::StatusOr<DisconnectTarget> target) {
                    if (target.ok()) ++events;
                  })
                  .ok());
  ASSERT_TRUE(AwaitTrue([&] { return (*source)->Health().ok(); }));
  ASSERT_TRUE(
      redis_->Command({"PUBLISH", options_.disconnect_channel, "1.2.3.4:5"})
          .ok());
  EXPECT_TRUE(AwaitTrue([&] { return events == 1; }));
  (*source)->Stop();
}

TEST_F(RedisTlsTest, LongValuesTakeSeveralRecords) {
  StartTlsRedis(authority_.Issue("server", kNames));
  Set(*redis_, std::string(60000, 'x'));
  const auto resolver = MakeTls(address());
  ASSERT_TRUE(AwaitHealthy(resolver.get()));
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(),
            absl::StatusCode::kInvalidArgument);
  Set(*redis_, "1.2.3.4:5");
  EXPECT_TRUE(AwaitBackend(resolver.get(), kBackend));
}

TEST_F(RedisTlsTest, ChecksTheAddressIfThereIsNoName) {
  StartTlsRedis(authority_.Issue("server", kNames));
  const auto resolver = MakeTls(address("127.0.0.1"));
  EXPECT_TRUE(AwaitHealthy(resolver.get())) << resolver->Health();
}

// What the client says first, which is not encrypted.
std::string ClientHello(const RedisTlsOptions& options,
                        const std::string& host) {
  const auto transport = MakeRedisTls(options)->Create(host);
  EXPECT_TRUE(transport.ok()) << transport.status();
  std::string hello;
  EXPECT_TRUE((*transport)->Start(&hello).ok());
  return hello;
}

// RFC 6066 section 3. Managed services choose the server by it.
TEST_F(RedisTlsTest, SendsTheNameOfTheHost) {
  EXPECT_THAT(ClientHello(tls_, "redis.test"), HasSubstr("redis.test"));
  EXPECT_THAT(ClientHello(tls_, "127.0.0.1"), Not(HasSubstr("127.0.0.1")));
  tls_.server_name = "other.test";
  EXPECT_THAT(ClientHello(tls_, "redis.test"),
              AllOf(HasSubstr("other.test"), Not(HasSubstr("redis.test"))));
}

TEST_F(RedisTlsTest, RejectsAnotherName) {
  StartTlsRedis(authority_.Issue("server", "DNS:redis.test"));
  ExpectFails(address("other.test"),
              "TLS: the server's certificate is rejected: hostname mismatch, "
              "it is not for other.test");
  ExpectFails(address("127.0.0.1"),
              "TLS: the server's certificate is rejected: IP address mismatch, "
              "it is not for 127.0.0.1");
  tls_.server_name = "redis.test";
  const auto resolver = MakeTls(address("127.0.0.1"));
  EXPECT_TRUE(AwaitHealthy(resolver.get())) << resolver->Health();
}

TEST_F(RedisTlsTest, RejectsAnExpiredCertificate) {
  StartTlsRedis(authority_.IssueExpired("server", kNames));
  ExpectFails(address(),
              "TLS: the server's certificate is rejected: certificate has "
              "expired");
}

TEST_F(RedisTlsTest, RejectsAnotherAuthority) {
  StartTlsRedis(authority_.Issue("server", kNames));
  const CertificateAuthority other;
  tls_.ca_file = other.file();
  ExpectFails(address(), "TLS: the server's certificate is rejected: ");
  tls_.ca_file.clear();  // those of the system
  ExpectFails(address("127.0.0.1"),
              "TLS: the server's certificate is rejected: ");
}

TEST_F(RedisTlsTest, RejectsOldVersionsOfTls) {
  StartTlsRedis(authority_.Issue("server", kNames),
                {"--tls-auth-clients", "no", "--tls-protocols", "TLSv1.1",
                 "--tls-ciphers", "DEFAULT@SECLEVEL=0"});
  ExpectFails(address(), "TLS: ");
}

TEST_F(RedisTlsTest, NamesAPlainServer) {
  const auto redis = StartRedis();
  options_.command_timeout = absl::Milliseconds(100);
  // It waits for the end of a line.
  ExpectFails(redis->tcp_address(),
              "no TLS handshake within 100ms; does the server speak TLS?");
}

TEST_F(RedisTlsTest, NamesAPeerThatRepliesInPlainText) {
  ScriptedPeer peer(ScriptedPeer::Healthy);
  const auto resolver = MakeTls(peer.address());
  ASSERT_TRUE(AwaitTrue([&] { return peer.accepted_count() > 0; }));
  peer.SayToAll("-ERR unknown command\r\n");
  EXPECT_TRUE(AwaitTrue([&] {
    return log_.CountOf("TLS: the server does not speak TLS") == 1 ||
           log_.CountOf("closed the connection") == 1;
  }));
}

TEST_F(RedisTlsTest, APlainClientNamesATlsServer) {
  StartTlsRedis(authority_.Issue("server", kNames));
  const auto resolver = Make(address());
  EXPECT_TRUE(AwaitTrue([&] {
    return log_.CountOf("at the login; does the server expect TLS?") == 1 ||
           log_.CountOf("the server expects TLS") == 1;
  }));
  EXPECT_THAT(resolver->Health().message(), HasSubstr("TLS"));
}

TEST_F(RedisTlsTest, MutualTls) {
  StartTlsRedis(authority_.Issue("server", kNames),
                {"--tls-auth-clients", "yes"});
  ExpectFails(address("127.0.0.1"),
              "TLS: the server requires a client certificate");
  const CertificateFiles client = authority_.Issue("client", "DNS:gate");
  tls_.certificate_file = client.certificate_file;
  tls_.key_file = client.key_file;
  const auto resolver = MakeTls(address());
  ASSERT_TRUE(AwaitHealthy(resolver.get())) << resolver->Health();
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
}

TEST_F(RedisTlsTest, ReportsThatTheClientCertificateIsRejected) {
  StartTlsRedis(authority_.Issue("server", kNames),
                {"--tls-auth-clients", "yes"});
  CertificateAuthority other;
  const CertificateFiles client = other.Issue("client", "DNS:gate");
  tls_.certificate_file = client.certificate_file;
  tls_.key_file = client.key_file;
  ExpectFails(address(), "TLS: the server ends the connection: ");
}

TEST_F(RedisTlsTest, ReadsTheFilesAgainAtEachConnect) {
  StartTlsRedis(authority_.Issue("server", kNames),
                {"--tls-auth-clients", "yes"});
  const CertificateFiles client = authority_.Issue("client", "DNS:gate");
  tls_.certificate_file = client.certificate_file;
  tls_.key_file = client.key_file;
  const auto resolver = MakeTls(address());
  ASSERT_TRUE(AwaitHealthy(resolver.get())) << resolver->Health();
  const auto kill_connections = [&] {
    EXPECT_TRUE(redis_->Command({"CLIENT", "KILL", "TYPE", "normal"}).ok());
  };
  ASSERT_EQ(std::remove(client.certificate_file.c_str()), 0);
  kill_connections();
  EXPECT_TRUE(AwaitTrue([&] {
    return log_.CountOf(absl::StrCat("TLS: certificate \"",
                                     client.certificate_file,
                                     "\": No such file or directory")) == 1;
  }));
  authority_.Issue("client", "DNS:gate");  // another key
  EXPECT_TRUE(AwaitHealthy(resolver.get())) << resolver->Health();
  kill_connections();
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
}

TEST_F(RedisTlsTest, NamesTheFileThatIsWrong) {
  StartTlsRedis(authority_.Issue("server", kNames));
  test::TemporaryDirectory directory;
  const CertificateFiles client = authority_.Issue("client", "DNS:gate");
  const CertificateFiles second = authority_.Issue("second", "DNS:gate");
  tls_.certificate_file = client.certificate_file;
  tls_.key_file = second.key_file;
  ExpectFails(address(), absl::StrCat("TLS: private key \"", second.key_file,
                                      "\": key values mismatch"));
  tls_.ca_file = directory.WriteFile("authorities", "no certificate");
  ExpectFails(address("127.0.0.1"),
              absl::StrCat("TLS: authorities \"", tls_.ca_file, "\": "));
}

TEST_F(RedisTlsTest, HasNoUnixSocket) {
  options_.transport = MakeRedisTls(tls_);
  options_.address = "unix:/run/redis.sock";
  EXPECT_EQ(options_.Validate().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(RedisTlsTest, StopsDuringAHandshake) {
  ScriptedPeer silent(ScriptedPeer::Healthy);
  auto resolver = MakeTls(silent.address());
  ASSERT_TRUE(AwaitTrue([&] { return silent.accepted_count() > 0; }));
  EXPECT_LT(TimeToStop(std::move(resolver)), test::kStopTimeMax);
}

}  // namespace
}  // namespace udpgate
