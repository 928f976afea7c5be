// HTTPS, on the same port as HTTP.
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/temporary_directory.h"
#include "udpgate/cidr.h"
#include "udpgate/http/proxy_header.h"
#include "udpgate/http/server_fixture.h"
#include "udpgate/http/tls_fixture.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace http {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::udpgate::test::AwaitTrue;

class ServerTlsTest : public ServerTest {
 protected:
  ServerTlsTest() {
    options_.certificate_file = directory_.path() + "/certificate.pem";
    options_.private_key_file = directory_.path() + "/key.pem";
    // Only the tests that change files wait for it.
    options_.certificate_check_interval = absl::Hours(1);
  }
  void Write(const TestCertificate& certificate) {
    certificate.WriteKey(options_.private_key_file);
    certificate.WriteCertificate(options_.certificate_file);
  }
  void WriteText(const std::string& path, const std::string& text) {
    std::ofstream(path) << text;
  }
  // The server cannot be created, for a reason that names `option`.
  void ExpectError(absl::string_view option, absl::string_view text) {
    absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create({});
    ASSERT_TRUE(engine.ok());
    const absl::Status status =
        Server::Create(engine->get(), options_, handler_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(OptionAtFault(status), option);
    EXPECT_THAT(std::string(status.message()), HasSubstr(text));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("PRIVATE")));
  }

  test::TemporaryDirectory directory_;
};

TEST_F(ServerTlsTest, ServesHttpsAndHttpOnOnePort) {
  Write(TestCertificate("a"));
  Serve();
  TlsClient client(address_);
  EXPECT_EQ(client.version(), TLS1_3_VERSION);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(client.Exchange(GetText("/x")).body, "GET /x\n");
    EXPECT_TRUE(last_request().is_tls);
  }
  const std::string body(200000, 'x');
  EXPECT_EQ(client.Exchange(PostText("/", body)).body,
            absl::StrCat("POST /\n", body));
  EXPECT_EQ(Get("/y").body, "GET /y\n");
  EXPECT_FALSE(last_request().is_tls);
  EXPECT_EQ(client.Exchange(GetText("/", "Connection: close\r\n")).status, 200);
  EXPECT_TRUE(client.IsClosedProperly());
  EXPECT_EQ(server_->stats().tls_handshakes, 1u);
  EXPECT_EQ(server_->stats().tls_handshakes_failed, 0u);
  EXPECT_THAT(log(), IsEmpty());
}

TEST_F(ServerTlsTest, SpeaksTls12ButNothingOlder) {
  Write(TestCertificate("a"));
  Serve();
  TlsClient::Options options;
  options.version_max = TLS1_2_VERSION;
  TlsClient client(address_, options);
  EXPECT_EQ(client.version(), TLS1_2_VERSION);
  EXPECT_EQ(client.Exchange(GetText("/")).status, 200);
  options.version_max = TLS1_1_VERSION;
  EXPECT_FALSE(TlsClient(address_, options).is_connected());
  EXPECT_TRUE(AwaitStat(&ServerStats::tls_handshakes_failed, 1));
}

TEST_F(ServerTlsTest, AgreesOnHttp11) {
  Write(TestCertificate("a"));
  Serve();
  TlsClient::Options options;
  options.protocols = "\x02h2\x08http/1.1";
  EXPECT_EQ(TlsClient(address_, options).protocol(), "http/1.1");
  options.protocols = "\x02h2";
  EXPECT_FALSE(TlsClient(address_, options).is_connected());
}

TEST_F(ServerTlsTest, RefusesPlainBytesAfterTheFirst) {
  Write(TestCertificate("a"));
  Serve();
  RawClient client(address_);
  EXPECT_TRUE(client.Send(absl::StrCat("\x16", GetText("/"))));
  EXPECT_TRUE(AwaitStat(&ServerStats::tls_handshakes_failed, 1));
  EXPECT_EQ(server_->stats().requests, 0u);
}

TEST_F(ServerTlsTest, HandshakeMustEndInTime) {
  options_.handshake_timeout = absl::Milliseconds(200);
  Write(TestCertificate("a"));
  Serve();
  RawClient client(address_);
  EXPECT_TRUE(client.Send("\x16\x03\x01\x02"));
  EXPECT_TRUE(client.IsClosed());
  EXPECT_EQ(server_->stats().tls_handshakes_failed, 1u);
}

TEST_F(ServerTlsTest, RequestOverTlsMustArriveInTime) {
  options_.read_timeout = absl::Milliseconds(200);
  Write(TestCertificate("a"));
  Serve();
  TlsClient client(address_);
  EXPECT_EQ(client.Exchange("GET / HT").status, 408);
  EXPECT_TRUE(client.IsClosedProperly());
}

TEST_F(ServerTlsTest, MalformedRequestGetsItsErrorOverTls) {
  Write(TestCertificate("a"));
  Serve();
  TlsClient client(address_);
  EXPECT_EQ(client.Exchange("GET /\r\n").status, 400);
  EXPECT_TRUE(client.IsClosedProperly());
}

TEST_F(ServerTlsTest, ProxyHeaderMayComeBeforeTheHandshake) {
  options_.accepts_proxy_header = true;
  options_.trusted_proxies = ParseCidrList("127.0.0.1").value();
  Write(TestCertificate("a"));
  Serve();
  const SocketAddress player = SocketAddress::Parse("203.0.113.7:5000").value();
  for (const std::string& header : {ProxyHeader::WriteV1(player, address_),
                                    ProxyHeader::WriteV2(player, address_)}) {
    TlsClient::Options options;
    options.preamble = header;
    TlsClient client(address_, options);
    EXPECT_EQ(client.Exchange(GetText("/")).status, 200);
    EXPECT_EQ(last_request().client, player);
    EXPECT_TRUE(last_request().is_tls);
  }
  EXPECT_EQ(TlsClient(address_).Exchange(GetText("/")).status, 200);
  server_->SetTrustedProxies({});
  TlsClient::Options options;
  options.preamble = ProxyHeader::WriteV1(player, address_);
  EXPECT_FALSE(TlsClient(address_, options).is_connected());
  EXPECT_EQ(server_->stats().proxy_headers_refused, 1u);
}

TEST_F(ServerTlsTest, ClientThatIsGoneEndsNeitherServerNorProcess) {
  Write(TestCertificate("a"));
  std::atomic<bool> is_called{false};
  Respond held;
  handler_ = [&](Request, Respond respond) {
    held = std::move(respond);
    is_called = true;
  };
  Serve();
  {
    TlsClient client(address_);
    EXPECT_TRUE(client.Send(GetText("/")));
    ASSERT_TRUE(AwaitTrue([&] { return is_called.load(); }));
  }
  held({200, "", std::string(4 << 20, 'x')});
  EXPECT_TRUE(AwaitStat(&ServerStats::open, 0));
}

TEST_F(ServerTlsTest, ErrorsNameTheOptionAtFault) {
  const TestCertificate certificate("a");
  ExpectError("certificate_file", "certificate.pem: No such file");
  certificate.WriteCertificate(options_.certificate_file);
  ExpectError("private_key_file", "key.pem: No such file");
  TestCertificate("b").WriteKey(options_.private_key_file);
  ExpectError("private_key_file", "key.pem: does not match the certificate in");
  certificate.WriteKey(options_.private_key_file, "secret");
  ExpectError("private_key_file", "no PEM private key without pass phrase");
  WriteText(options_.private_key_file, "PRIVATE");
  ExpectError("private_key_file", "no PEM private key without pass phrase");
  certificate.WriteKey(options_.private_key_file);
  WriteText(options_.certificate_file, "no certificate");
  ExpectError("certificate_file", "no PEM certificate chain");
  options_.certificate_file.clear();
  ExpectError("certificate_file", "is empty, but private_key_file is set");
}

TEST_F(ServerTlsTest, CertificateOfAnotherTimeIsOnlyAWarning) {
  Write(TestCertificate("old", -7200, -3600));
  Serve();
  EXPECT_EQ(TlsClient(address_).Exchange(GetText("/")).status, 200);
  EXPECT_THAT(log(), ElementsAre(AllOf(HasSubstr("certificate.pem has expired"),
                                       HasSubstr("valid from "))));
  EXPECT_LT(server_->stats().certificate_expires_unix_seconds,
            absl::ToUnixSeconds(absl::Now()));
  Write(TestCertificate("future", 3600, 7200));
  EXPECT_TRUE(server_->ReloadCertificate().ok());
  EXPECT_THAT(log().back(), HasSubstr("is not valid yet"));
}

TEST_F(ServerTlsTest, ReloadServesTheNewCertificate) {
  Write(TestCertificate("a"));
  Serve();
  TlsClient before(address_);
  EXPECT_EQ(before.server_name(), "a");
  Write(TestCertificate("b"));
  EXPECT_TRUE(server_->ReloadCertificate().ok());
  EXPECT_EQ(TlsClient(address_).server_name(), "b");
  // An open connection goes on.
  EXPECT_EQ(before.Exchange(GetText("/")).status, 200);
  EXPECT_EQ(server_->stats().certificate_reloads, 1u);
  EXPECT_THAT(log(), IsEmpty());
}

TEST_F(ServerTlsTest, FailedReloadKeepsTheOldCertificate) {
  Write(TestCertificate("a"));
  Serve();
  TestCertificate("b").WriteKey(options_.private_key_file);
  const absl::Status status = server_->ReloadCertificate();
  EXPECT_EQ(OptionAtFault(status), "private_key_file");
  EXPECT_THAT(std::string(status.message()), HasSubstr("does not match"));
  EXPECT_EQ(TlsClient(address_).server_name(), "a");
  EXPECT_EQ(server_->stats().certificate_reload_failures, 1u);
}

TEST_F(ServerTlsTest, NoticesThatFilesHaveChanged) {
  options_.certificate_check_interval = absl::Milliseconds(10);
  Write(TestCertificate("a"));
  Serve();
  const TestCertificate next("b");
  // In the middle of a renewal.
  next.WriteKey(options_.private_key_file);
  EXPECT_TRUE(AwaitStat(&ServerStats::certificate_reload_failures, 1));
  EXPECT_EQ(TlsClient(address_).server_name(), "a");
  next.WriteCertificate(options_.certificate_file);
  EXPECT_TRUE(AwaitStat(&ServerStats::certificate_reloads, 1));
  EXPECT_EQ(TlsClient(address_).server_name(), "b");
  EXPECT_EQ(server_->stats().certificate_reload_failures, 1u);
  EXPECT_TRUE(AwaitTrue([this] { return log().size() == 2; }));
  EXPECT_THAT(
      log(),
      ElementsAre(AllOf(HasSubstr("certificate not reloaded, the old one stays:"
                                  " private_key_file "),
                        HasSubstr("does not match")),
                  HasSubstr("certificate.pem reloaded, valid until ")));
  // A file that is gone for a moment is no reason either.
  ASSERT_EQ(unlink(options_.certificate_file.c_str()), 0);
  EXPECT_TRUE(AwaitStat(&ServerStats::certificate_reload_failures, 2));
  EXPECT_EQ(TlsClient(address_).server_name(), "b");
}

TEST_F(ServerTlsTest, HundredHandshakesAtOnce) {
  Write(TestCertificate("a"));
  Serve(/*thread_count=*/2);
  std::vector<std::unique_ptr<RawClient>> stalled;
  for (int i = 0; i < 100; ++i) {
    stalled.push_back(std::make_unique<RawClient>(address_));
    EXPECT_TRUE(stalled.back()->Send("\x16\x03"));
  }
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(TlsClient(address_).Exchange(GetText("/")).status, 200);
  }
}

}  // namespace
}  // namespace http
}  // namespace udpgate
