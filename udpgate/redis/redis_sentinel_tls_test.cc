// A real Sentinel that speaks TLS alone, and its master.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "testing/internal/support/certificate_authority.h"
#include "udpgate/redis/redis_sentinel.h"
#include "udpgate/redis/redis_tls.h"
#include "udpgate/redis/resolver_fixture.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::CertificateAuthority;
using test::CertificateFiles;
using test::FreeTcpPort;
using test::RedisServer;
using test::RedisServerOptions;
using test::Resolution;

class RedisSentinelTlsTest : public test::RedisBackendResolverTest {
 protected:
  RedisSentinelTlsTest() {
    RedisServerOptions server;
    server.extra_arguments = {"--tls-port",         absl::StrCat(master_port_),
                              "--tls-cert-file",    server_.certificate_file,
                              "--tls-key-file",     server_.key_file,
                              "--tls-ca-cert-file", authority_.file(),
                              "--tls-replication",  "yes"};
    master_ = StartRedis(server);
    Set(*master_, "1.2.3.4:5");
    RedisServerOptions options;
    options.tcp = false;
    options.sentinel_configuration =
        absl::StrCat("tls-port ", sentinel_port_, "\ntls-cert-file ",
                     server_.certificate_file, "\ntls-key-file ",
                     server_.key_file, "\ntls-ca-cert-file ", authority_.file(),
                     "\ntls-replication yes\nsentinel monitor lobby 127.0.0.1 ",
                     master_port_, " 1\n");
    sentinel_server_ = StartRedis(options);
    tls_.ca_file = authority_.file();
    tls_.certificate_file = client_.certificate_file;
    tls_.key_file = client_.key_file;
    sentinel_options_.sentinels = {absl::StrCat("127.0.0.1:", sentinel_port_)};
    sentinel_options_.master = "lobby";
    sentinel_options_.log_sink = log_.Sink();
    options_.transport = MakeRedisTls(tls_);
  }

  CertificateAuthority authority_;
  const CertificateFiles server_ = authority_.Issue("server", "IP:127.0.0.1");
  const CertificateFiles client_ = authority_.Issue("client", "DNS:gate");
  const uint16_t master_port_ = FreeTcpPort();
  const uint16_t sentinel_port_ = FreeTcpPort();
  std::unique_ptr<RedisServer> master_;
  std::unique_ptr<RedisServer> sentinel_server_;
  RedisTlsOptions tls_;
  RedisSentinelOptions sentinel_options_;
};

TEST_F(RedisSentinelTlsTest, NamesTheMasterWhichIsReachedByTlsToo) {
  sentinel_options_.transport = MakeRedisTls(tls_);
  auto sentinel = RedisSentinel::Create(sentinel_options_, lookup_);
  ASSERT_TRUE(sentinel.ok()) << sentinel.status();
  RedisSentinel::SetSource(*sentinel, &options_);
  const auto resolver = MakeConnected(options_.address);
  EXPECT_EQ(Resolution(resolver.get()).Await(), test::kBackend);
  EXPECT_TRUE(AwaitTrue([&] { return (*sentinel)->Health().ok(); }));
  EXPECT_EQ(log_.CountOf(absl::StrCat("names 127.0.0.1:", master_port_)), 1);
}

TEST_F(RedisSentinelTlsTest, SaysWhatIsWrong) {
  {
    auto plain = RedisSentinel::Create(sentinel_options_, lookup_);
    ASSERT_TRUE(plain.ok()) << plain.status();
    EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("expect") == 1; }));
  }
  tls_.ca_file = client_.certificate_file;
  sentinel_options_.transport = MakeRedisTls(tls_);
  auto distrusting = RedisSentinel::Create(sentinel_options_, lookup_);
  ASSERT_TRUE(distrusting.ok()) << distrusting.status();
  EXPECT_TRUE(AwaitTrue([&] {
    return log_.CountOf("the server's certificate is rejected") == 1;
  }));
  EXPECT_EQ((*distrusting)->GetStats().problem, RedisProblem::kTls);
}

}  // namespace
}  // namespace udpgate
