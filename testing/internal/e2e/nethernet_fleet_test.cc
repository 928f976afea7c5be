// Certificates, takeovers and several gateways, with players of NetherNet.
#include <csignal>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/nethernet.h"
#include "testing/internal/support/child_process.h"
#include "testing/internal/support/http_client.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace test {
namespace {

// Writes a certificate of its own signature and its key over those files.
void MakeCertificate(const std::string& certificate, const std::string& key) {
  ChildProcessOptions options;
  options.arguments = {"/usr/bin/openssl",
                       "req",
                       "-x509",
                       "-newkey",
                       "ec",
                       "-nodes",
                       "-days",
                       "2",
                       "-pkeyopt",
                       "ec_paramgen_curve:prime256v1",
                       "-subj",
                       "/CN=gateway",
                       "-keyout",
                       absl::StrCat(key, ".new"),
                       "-out",
                       absl::StrCat(certificate, ".new")};
  auto made = ChildProcess::Start(options);
  ASSERT_TRUE(made.ok()) << made.status();
  const absl::StatusOr<ExitResult> end = (*made)->AwaitExit();
  ASSERT_TRUE(end.ok() && end->exited_with(0)) << (*made)->output();
  ASSERT_EQ(std::rename(absl::StrCat(key, ".new").c_str(), key.c_str()), 0);
  ASSERT_EQ(std::rename(absl::StrCat(certificate, ".new").c_str(),
                        certificate.c_str()),
            0);
}

class NetherNetTlsTest : public NetherNetTest {
 protected:
  std::map<std::string, std::string> Files() const {
    return {{"NETHERNET_CERTIFICATE_FILE", certificate_},
            {"NETHERNET_PRIVATE_KEY_FILE", key_}};
  }

  // Whether players who trust that certificate alone are answered now.
  bool IsServedWith(const std::string& certificate) {
    return TlsExchange(signaling(),
                       "GET /v1/join HTTP/1.1\r\nHost: a\r\n"
                       "Connection: close\r\n\r\n",
                       certificate)
        .ok();
  }
  // Whether the reload logs `line`.
  bool Reload(absl::string_view line) {
    const size_t before = gate().log().size();
    gate().Signal(SIGHUP);
    return gate().AwaitLog(line, kAwaitTimeout, before);
  }

  TemporaryDirectory directory_;
  const std::string certificate_ = directory_.path() + "/certificate.pem";
  const std::string key_ = directory_.path() + "/key.pem";
};

TEST_F(NetherNetTlsTest, PlayersJoinByHttpsAndByHttpOnOnePort) {
  MakeCertificate(certificate_, key_);
  IceBackend backend;
  SetBackend(backend);
  StartSignaling(Files());
  IcePlayerOptions options;
  options.certificate_file = certificate_;
  IcePlayer secure(options), plain;
  ASSERT_TRUE(secure.Join(signaling()).ok()) << gate().log();
  ASSERT_TRUE(plain.Join(signaling()).ok()) << gate().log();
  EXPECT_TRUE(secure.Ask("backend").ok());
  EXPECT_TRUE(plain.Ask("backend").ok());
}

TEST_F(NetherNetTlsTest, RenewedCertificateIsServedWithoutAReload) {
  MakeCertificate(certificate_, key_);
  IceBackend backend;
  SetBackend(backend);
  StartSignaling(Files());
  IcePlayerOptions options;
  options.certificate_file = certificate_;
  IcePlayer player(options);
  ASSERT_TRUE(player.Join(signaling()).ok()) << gate().log();
  MakeCertificate(certificate_, key_);
  // Players trust the new one alone.
  EXPECT_TRUE(AwaitTrue([&] { return IsServedWith(certificate_); }))
      << gate().log();
  IcePlayer late(options);
  EXPECT_TRUE(late.Join(signaling()).ok()) << gate().log();
  EXPECT_TRUE(player.Ask("backend").ok());
}

// Files are looked at every 5 s; the signal does not wait for that.
TEST_F(NetherNetTlsTest, RenewedCertificateIsServedAtOnceAfterAReload) {
  MakeCertificate(certificate_, key_);
  IceBackend backend;
  SetBackend(backend);
  StartSignaling(Files());
  IcePlayerOptions options;
  options.certificate_file = certificate_;
  IcePlayer player(options);
  ASSERT_TRUE(player.Join(signaling()).ok()) << gate().log();
  MakeCertificate(certificate_, key_);
  ASSERT_TRUE(Reload("info reload: nothing changed\n")) << gate().log();
  EXPECT_TRUE(IsServedWith(certificate_)) << gate().log();
  IcePlayer late(options);
  EXPECT_TRUE(late.Join(signaling()).ok()) << gate().log();
  EXPECT_TRUE(player.Ask("backend").ok());
}

TEST_F(NetherNetTlsTest, ReloadWithTheKeyOfAnotherCertificateKeepsTheOldOne) {
  MakeCertificate(certificate_, key_);
  IceBackend backend;
  SetBackend(backend);
  StartSignaling(Files());
  const std::string other_key = key_ + ".other";
  MakeCertificate(certificate_ + ".other", other_key);
  ASSERT_EQ(std::rename(other_key.c_str(), key_.c_str()), 0);
  EXPECT_TRUE(Reload(absl::StrCat("error reload: NETHERNET_PRIVATE_KEY_FILE ",
                                  key_, ": does not match the certificate in ",
                                  certificate_)))
      << gate().log();
  EXPECT_TRUE(IsServedWith(certificate_)) << gate().log();
}

class NetherNetFleetTest : public GateTest {
 protected:
  std::unique_ptr<GateProcess> MakeGate(
      std::map<std::string, std::string> environment,
      std::vector<std::string> flags = {}) {
    GateProcessOptions options;
    options.environment = std::move(environment);
    options.environment.merge(RedisEnvironment());
    options.flags = std::move(flags);
    return std::make_unique<GateProcess>(GateBinary(), options);
  }

  TemporaryDirectory directory_;
};

TEST_F(NetherNetFleetTest, TakeoverPassesJoinsThatWaitAndThoseThatPlay) {
  const SocketAddress signaling = SocketAddress::Ipv4Loopback(FreeTcpPort());
  std::map<std::string, std::string> environment =
      SignalingEnvironment(signaling);
  const std::string socket_path = directory_.path() + "/takeover.sock";
  environment["TAKEOVER_SOCKET"] = socket_path;
  IceBackend lobby({"lobby"});
  IceBackend arena({"arena"});
  SetBackendText(lobby.address().ToString());
  auto gate = MakeGate(environment);
  ASSERT_TRUE(gate->Start().ok()) << gate->log();
  ASSERT_TRUE(AwaitListening(signaling));
  IcePlayer playing, waiting;
  ASSERT_TRUE(playing.Join(signaling).ok()) << gate->log();
  ASSERT_TRUE(waiting.Offer(signaling).ok()) << gate->log();
  SetBackendText(arena.address().ToString());

  auto next = MakeGate(environment, {"--takeover", socket_path});
  ASSERT_TRUE(next->Start().ok()) << next->log();
  const absl::StatusOr<ExitResult> end = gate->AwaitExit();
  ASSERT_TRUE(end.ok()) << gate->log();
  EXPECT_TRUE(end->exited_with(0)) << gate->log();
  EXPECT_EQ(next->address(), gate->address());

  EXPECT_TRUE(playing.Ask("lobby").ok());
  ASSERT_TRUE(waiting.StartMedia().ok());
  EXPECT_TRUE(waiting.agent().AwaitConnected()) << next->log();
  EXPECT_TRUE(waiting.Ask("lobby").ok());
  // The same TCP port, now with the key's new backend.
  IcePlayer late;
  ASSERT_TRUE(late.Join(signaling).ok()) << next->log();
  EXPECT_TRUE(late.Ask("arena").ok());
  EXPECT_TRUE(next->Terminate().ok());
}

TEST_F(NetherNetFleetTest, TcpReachesOneGatewayAndUdpAnother) {
  const SocketAddress first_signaling =
      SocketAddress::Ipv4Loopback(FreeTcpPort());
  const SocketAddress second_signaling =
      SocketAddress::Ipv4Loopback(FreeTcpPort());
  IceBackend backend;
  SetBackendText(backend.address().ToString());
  auto second = MakeGate(SignalingEnvironment(second_signaling));
  ASSERT_TRUE(second->Start().ok()) << second->log();
  ASSERT_TRUE(AwaitListening(second_signaling));
  std::map<std::string, std::string> environment =
      SignalingEnvironment(first_signaling);
  environment["NETHERNET_PUBLIC_ADDRS"] = second->address().ToString();
  auto first = MakeGate(environment);
  ASSERT_TRUE(first->Start().ok()) << first->log();
  ASSERT_TRUE(AwaitListening(first_signaling));
  for (int i = 0; i < 5; ++i) {
    IcePlayer player;
    ASSERT_TRUE(player.Join(first_signaling).ok())
        << first->log() << second->log();
    EXPECT_TRUE(player.Ask("backend").ok());
  }
  EXPECT_EQ(MetricOf(second->AdminAddress(), "udpgate_sessions_created_total"),
            5);
  EXPECT_EQ(MetricOf(first->AdminAddress(), "udpgate_sessions_created_total"),
            0);
  EXPECT_TRUE(first->Terminate().ok());
  EXPECT_TRUE(second->Terminate().ok());
}

}  // namespace
}  // namespace test
}  // namespace udpgate
