#include "cli/signaling.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/internal/support/http_client.h"
#include "testing/loopback_peer.h"
#include "udpgate/http/engine.h"
#include "udpgate/http/server.h"
#include "udpgate/static_backend_resolver.h"
#include "udpgate/stun/request_builder.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr char kPassword[] = "0123456789012345678901";

// The signaling of a backend; its media is another socket.
class StubBackend {
 public:
  StubBackend() {
    engine_ = *http::Engine::Create({});
    http::ServerOptions options;
    options.listen_address = SocketAddress::Ipv4Loopback(0);
    options.log_sink = nullptr;
    auto server = http::Server::Create(
        engine_.get(), options,
        [this](http::Request request, http::Server::Respond respond) {
          if (request.method == "GET") {
            respond({200, "application/json", "{\"name\":\"stub\"}", {}});
          } else {
            respond({200, "application/sdp", Answer(), {}});
          }
        });
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    EXPECT_TRUE(server_->Start().ok());
  }
  ~StubBackend() { server_->Stop(); }

  const SocketAddress& address() const { return server_->address(); }

 private:
  std::string Answer() const {
    return absl::StrCat(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.2\r\ns=-\r\nt=0 0\r\n"
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"
        "c=IN IP4 192.0.2.2\r\na=ice-ufrag:abcd\r\na=ice-pwd:",
        kPassword, "\r\na=candidate:1 1 UDP 1 192.0.2.2 ",
        media_.address().port(), " typ host\r\n");
  }

  test::EchoBackend media_{"media"};
  std::unique_ptr<http::Engine> engine_;
  std::unique_ptr<http::Server> server_;
};

// Signaling and a Proxy, as a process of the program has them.
class Instance {
 public:
  Instance(Settings settings, const SocketAddress& backend, Logger* logger)
      : settings_(std::move(settings)) {
    BackendSource source;
    source.resolver = std::make_shared<StaticBackendResolver>(backend);
    absl::StatusOr<std::unique_ptr<Signaling>> signaling =
        Signaling::Create(settings_, source, logger);
    EXPECT_TRUE(signaling.ok()) << signaling.status();
    signaling_ = *std::move(signaling);
    ProxyDependencies dependencies;
    dependencies.resolver =
        signaling_ == nullptr ? source.resolver : signaling_->resolver();
    absl::StatusOr<std::unique_ptr<Proxy>> proxy =
        Proxy::Create(settings_.proxy, std::move(dependencies));
    EXPECT_TRUE(proxy.ok()) << proxy.status();
    proxy_ = *std::move(proxy);
  }
  ~Instance() {
    if (signaling_ != nullptr) signaling_->Stop();
    proxy_->Stop();
  }

  absl::Status Bind() {
    return signaling_->Bind(settings_, nullptr, proxy_.get());
  }
  void Start() {
    const absl::Status bound = Bind();
    ASSERT_TRUE(bound.ok()) << bound;
    ASSERT_TRUE(proxy_->Start().ok());
    ASSERT_TRUE(signaling_->Start().ok());
  }
  Signaling* signaling() { return signaling_.get(); }
  Proxy* proxy() { return proxy_.get(); }
  const SocketAddress& udp() const {
    return proxy_->listen_addresses().front();
  }

  test::HttpReply Ask(absl::string_view method, absl::string_view path) const {
    constexpr char kOffer[] =
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"
        "c=IN IP4 0.0.0.0\r\na=ice-ufrag:offr\r\n"
        "a=ice-pwd:9999999999999999999999\r\n";
    const absl::string_view body = method == "POST" ? kOffer : "";
    const absl::StatusOr<test::HttpReply> reply = test::HttpExchange(
        signaling_->address(),
        absl::StrCat(method, " ", path,
                     " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                     "Content-Type: application/sdp\r\nContent-Length: ",
                     body.size(), "\r\n\r\n", body));
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.value_or(test::HttpReply());
  }
  test::HttpReply Join() const { return Ask("POST", "/v1/join/1234567890"); }
  // Whether a player with the answer reaches the backend's media.
  bool Plays(test::LoopbackPeer* player) const {
    stun::BindingRequestOptions request;
    request.username = "abcd:offr";
    request.password = kPassword;
    const std::string datagram = stun::BuildBindingRequest(request);
    return player->Ask(udp(), datagram).value_or("") ==
           absl::StrCat("media:", datagram);
  }

 private:
  const Settings settings_;
  std::unique_ptr<Signaling> signaling_;
  std::unique_ptr<Proxy> proxy_;
};

class SignalingTest : public ::testing::Test {
 protected:
  SignalingTest() {
    settings_.proxy.listen_address = SocketAddress::Ipv4Loopback(0);
    settings_.proxy.log_sink = logger_.Sink();
    settings_.nethernet_address = SocketAddress::Ipv4Loopback(0);
    settings_.nethernet_joins_max = 10;
    settings_.nethernet_join_timeout = absl::Seconds(60);
  }
  ~SignalingTest() override { std::fclose(log_); }

  std::unique_ptr<Instance> Make() {
    return std::make_unique<Instance>(settings_, backend_.address(), &logger_);
  }
  std::unique_ptr<Instance> Start() {
    auto instance = Make();
    instance->Start();
    return instance;
  }
  std::string Log() {
    std::string text(1 << 16, 0);
    text.resize(
        static_cast<size_t>(pread(fileno(log_), text.data(), text.size(), 0)));
    return text;
  }

  std::FILE* const log_ = std::tmpfile();
  Logger logger_{LogSeverity::kInfo, LogFormat::kText, fileno(log_)};
  StubBackend backend_;
  Settings settings_;
};

TEST_F(SignalingTest, ThereIsNoneWithoutAnAddress) {
  settings_.nethernet_address = SocketAddress();
  EXPECT_EQ(Make()->signaling(), nullptr);
}

TEST_F(SignalingTest, AJoinLeadsToTheMediaOfTheBackend) {
  const auto instance = Start();
  EXPECT_EQ(instance->Ask("GET", "/v1/join").body, "{\"name\":\"stub\"}");
  const test::HttpReply answer = instance->Join();
  EXPECT_EQ(answer.status, 200) << answer.body;
  EXPECT_THAT(answer.body,
              HasSubstr(absl::StrCat(" 127.0.0.1 ", instance->udp().port(),
                                     " typ host\r\n")));
  EXPECT_THAT(answer.body, Not(HasSubstr("192.0.2.2 ")));
  EXPECT_EQ(instance->signaling()->waiting_joins(), 1);
  test::LoopbackPeer player;
  EXPECT_TRUE(instance->Plays(&player));
  EXPECT_EQ(instance->signaling()->waiting_joins(), 0);
  const std::vector<admin::ListedJoin> joins = instance->signaling()->Joins();
  ASSERT_THAT(joins, SizeIs(1));
  EXPECT_EQ(joins[0].network_id, "1234567890");
  EXPECT_EQ(joins[0].player, "127.0.0.1");
  EXPECT_EQ(joins[0].backend, backend_.address().ToString());
  EXPECT_EQ(joins[0].state, "live");
  EXPECT_EQ(joins[0].session_count, 1);
  instance->proxy()->ForEachSession([](const SessionInfo& session) {
    EXPECT_EQ(session.tag, "1234567890");
    EXPECT_EQ(session.state, SessionState::kConfirmed);
  });
  EXPECT_THAT(instance->signaling()->Metrics(), Not(IsEmpty()));
  // Secrets appear in no log.
  EXPECT_THAT(Log(), Not(HasSubstr(kPassword)));
}

TEST_F(SignalingTest, ErrorsNameTheSetting) {
  const auto error = [this] { return std::string(Make()->Bind().message()); };
  settings_.nethernet_address = backend_.address();
  EXPECT_THAT(error(), StartsWith(absl::StrCat("NETHERNET_ADDR: ",
                                               backend_.address().ToString())));
  settings_.nethernet_address = SocketAddress::Ipv4Loopback(0);
  settings_.nethernet_certificate_file = "/no/such/certificate";
  settings_.nethernet_private_key_file = "/no/such/key";
  EXPECT_THAT(error(),
              StartsWith("NETHERNET_CERTIFICATE_FILE /no/such/certificate"));
}

TEST_F(SignalingTest, TakesTheSocketOfTheServiceManager) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(listen(fd, 8), 0);
  settings_.nethernet_listen_fd = fd;
  const auto instance = Start();
  EXPECT_EQ(instance->signaling()->listen_fd(), fd);
}

TEST_F(SignalingTest, AReloadChangesWhatPlayersAreTold) {
  const auto instance = Start();
  Settings fresh = settings_;
  fresh.nethernet_public_addresses = {*SocketAddress::Parse("203.0.113.9:7")};
  ASSERT_TRUE(instance->signaling()->Reload(fresh).ok());
  EXPECT_THAT(instance->Join().body, HasSubstr(" 203.0.113.9 7 typ host\r\n"));
  fresh.nethernet_joins_max = 1;
  ASSERT_TRUE(instance->signaling()->Reload(fresh).ok());
  EXPECT_EQ(instance->Join().status, 503);
  fresh.nethernet_joins_max = 10;
  fresh.proxy.limits.deny_cidrs = *ParseCidrList("127.0.0.0/8");
  ASSERT_TRUE(instance->signaling()->Reload(fresh).ok());
  // The connection closes without an answer.
  EXPECT_FALSE(
      test::HttpGet(instance->signaling()->address(), "/v1/join").ok());
  instance->signaling()->Stop();
  EXPECT_TRUE(instance->signaling()->Reload(fresh).ok());
}

TEST_F(SignalingTest, WhileItDrainsNobodyJoins) {
  const auto instance = Start();
  ASSERT_EQ(instance->Join().status, 200);
  instance->proxy()->Drain();
  instance->signaling()->SetDraining();
  EXPECT_EQ(instance->Join().status, 503);
  EXPECT_EQ(instance->Ask("GET", "/v1/join").status, 503);
  // Who has an answer still comes in.
  test::LoopbackPeer player;
  EXPECT_TRUE(instance->Plays(&player));
}

TEST_F(SignalingTest, NobodyJoinsAFullGateway) {
  settings_.proxy.limits.max_sessions = 1;
  const auto instance = Start();
  ASSERT_EQ(instance->Join().status, 200);
  test::LoopbackPeer player;
  ASSERT_TRUE(instance->Plays(&player));
  const test::HttpReply refused = instance->Join();
  EXPECT_EQ(refused.status, 503);
  EXPECT_THAT(refused.body, HasSubstr("the gateway is full"));
  EXPECT_EQ(instance->Ask("GET", "/v1/join").status, 200);
}

TEST_F(SignalingTest, AnotherProcessTakesTheJoins) {
  const auto old_process = Start();
  const auto new_process = Start();
  ASSERT_EQ(old_process->Join().status, 200);
  new_process->signaling()->ImportJoins(
      old_process->signaling()->ExportJoins(/*is_late=*/false));
  test::LoopbackPeer player;
  EXPECT_TRUE(new_process->Plays(&player));
  new_process->signaling()->ImportJoins("malformed");
  EXPECT_THAT(Log(), HasSubstr("warn --takeover: joins of the old process"));
  new_process->signaling()->ImportJoins("");
  EXPECT_THAT(new_process->signaling()->Joins(), SizeIs(1));
  old_process->signaling()->StopAccepting();
  old_process->signaling()->AwaitAnswers(test::kAwaitTimeout);
  // What it exports last is complete: nobody joins any more.
  const SocketAddress address = old_process->signaling()->address();
  old_process->signaling()->StopAnswering();
  EXPECT_FALSE(test::HttpGet(address, "/v1/join").ok());
  EXPECT_NE(old_process->signaling()->ExportJoins(/*is_late=*/true), "");
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
