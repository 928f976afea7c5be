#include "udpgate/nethernet/signaling_server.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "testing/internal/support/http_client.h"
#include "udpgate/cidr.h"
#include "udpgate/http/proxy_header.h"
#include "udpgate/nethernet/join_service_fixture.h"
#include "udpgate/option_error.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace nethernet {
namespace {

using ::testing::HasSubstr;
using ::udpgate::test::AwaitTrue;
using ::udpgate::test::HttpReply;

constexpr char kStatus[] = "{\"name\": \"Lobby\"}";
constexpr const char* kOffer = internal::kLibDataChannelOffer;
constexpr const char* kAnswer = internal::kLibDataChannelAnswer;

// A server on 127.0.0.1, and a backend's signaling that answers at once.
class SignalingServerTest : public ::testing::Test {
 protected:
  SignalingServerTest() {
    options_.server.listen_address = SocketAddress::Ipv4Loopback(0);
    options_.server.log_sink = nullptr;
    options_.join.proxy_port = 19132;
  }

  SignalingDependencies Dependencies() {
    return {std::make_shared<StaticBackendResolver>(backend_.address()), joins_,
            Clock::Monotonic()};
  }
  void Serve() {
    auto server = SignalingServer::Create(options_, Dependencies());
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    const absl::Status started = server_->Start();
    ASSERT_TRUE(started.ok()) << started;
  }

  HttpReply Ask(absl::string_view text) const {
    const absl::StatusOr<HttpReply> reply =
        test::HttpExchange(server_->address(), text);
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.value_or(HttpReply());
  }
  HttpReply Get(absl::string_view headers = "") const {
    return Ask(
        absl::StrCat("GET /v1/join HTTP/1.1\r\nHost: x\r\n", headers, "\r\n"));
  }
  static std::string JoinText(absl::string_view headers = "") {
    return absl::StrCat(
        "POST /v1/join/123 HTTP/1.1\r\nHost: x\r\nContent-Type: "
        "application/sdp\r\nContent-Length: ",
        absl::string_view(kOffer).size(), "\r\n", headers, "\r\n", kOffer);
  }

  // With a ufrag of its own.
  std::string Answer() {
    return absl::StrReplaceAll(kAnswer,
                               {{"gKiI", absl::StrCat("ufrag", ++answers_)}});
  }

  std::atomic<int> answers_{0};
  Requests requests_;
  http::ScriptedServer backend_{
      [this](http::ScriptedServer::Connection* connection) {
        const std::string request = ReadWhole(connection);
        requests_.Add(request);
        connection->Send(request.rfind("GET", 0) == 0
                             ? RawResponse(200, "application/json", kStatus)
                             : RawResponse(200, "application/sdp", Answer()));
      }};
  std::shared_ptr<JoinTable> joins_ =
      std::make_shared<JoinTable>(JoinTableOptions(), Clock::Monotonic());
  SignalingServerOptions options_;
  std::unique_ptr<SignalingServer> server_;
};

TEST_F(SignalingServerTest, AnswersStatusAndJoins) {
  Serve();
  const HttpReply status = Get();
  EXPECT_EQ(status.status, 200);
  EXPECT_EQ(status.body, kStatus);
  EXPECT_THAT(status.head, HasSubstr("application/json"));
  const HttpReply join = Ask(JoinText());
  EXPECT_EQ(join.status, 200);
  EXPECT_THAT(join.head, HasSubstr("application/sdp"));
  EXPECT_THAT(join.body, HasSubstr(" 127.0.0.1 19132 typ host"));
  EXPECT_EQ(joins_->List().size(), 1u);
  const SignalingStats stats = server_->stats();
  EXPECT_EQ(stats.server.requests, 2u);
  EXPECT_EQ(stats.client.responses, 2u);
  EXPECT_EQ(stats.join.joins[static_cast<size_t>(JoinResult::kJoined)], 1u);
}

TEST_F(SignalingServerTest, AnAnswerToHeadHasNoBody) {
  Serve();
  const HttpReply reply =
      Ask("HEAD /v1/join HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.body, "");
  EXPECT_THAT(reply.head,
              HasSubstr(absl::StrCat(absl::string_view(kStatus).size())));
}

TEST_F(SignalingServerTest, AnIpv6PlayerIsToldTheIpv6Address) {
  options_.server.listen_address = SocketAddress::Ipv6Any(0);
  Serve();
  const uint16_t port = server_->address().port();
  const absl::StatusOr<HttpReply> six =
      test::HttpExchange(SocketAddress::Ipv6Loopback(port), JoinText());
  ASSERT_TRUE(six.ok()) << six.status();
  EXPECT_THAT(six->body, HasSubstr(" ::1 19132 typ host"));
  EXPECT_THAT(six->body, HasSubstr("c=IN IP6 ::1\r\n"));
  // Not ::ffff:127.0.0.1.
  const absl::StatusOr<HttpReply> four =
      test::HttpExchange(SocketAddress::Ipv4Loopback(port), JoinText());
  ASSERT_TRUE(four.ok()) << four.status();
  EXPECT_THAT(four->body, HasSubstr(" 127.0.0.1 19132 typ host"));
  EXPECT_THAT(four->body, HasSubstr("c=IN IP4 127.0.0.1\r\n"));
}

TEST_F(SignalingServerTest, OffersBeyond256KiBAreRefused) {
  Serve();
  const HttpReply reply =
      Ask("POST /v1/join/1 HTTP/1.1\r\nHost: x\r\nContent-Length: "
          "262145\r\n\r\n");
  EXPECT_EQ(reply.status, 413);
  EXPECT_EQ(requests_.size(), 0u);
}

TEST_F(SignalingServerTest, ATrustedProxyNamesThePlayer) {
  options_.server.trusted_proxies = *ParseCidrList("127.0.0.0/8");
  Serve();
  EXPECT_EQ(Ask(JoinText("X-Forwarded-For: 203.0.113.9\r\n")).status, 200);
  EXPECT_THAT(requests_.all()[0], HasSubstr("X-Forwarded-For: 203.0.113.9"));
  const std::string header =
      http::ProxyHeader::WriteV2(*SocketAddress::Parse("203.0.113.10:1000"),
                                 *SocketAddress::Parse("198.51.100.7:19132"));
  const HttpReply reply = Ask(absl::StrCat(header, JoinText()));
  EXPECT_EQ(reply.status, 200);
  EXPECT_THAT(requests_.all()[1], HasSubstr("X-Forwarded-For: 203.0.113.10"));
  // What the load balancer's address is for UDP, too.
  EXPECT_THAT(reply.body, HasSubstr(" 198.51.100.7 19132 typ host"));
}

TEST_F(SignalingServerTest, OthersCannotNameAnotherPlayer) {
  Serve();
  EXPECT_EQ(Ask(JoinText("X-Forwarded-For: 203.0.113.9\r\n")).status, 200);
  EXPECT_THAT(requests_.all()[0], HasSubstr("X-Forwarded-For: 127.0.0.1\r\n"));
}

TEST_F(SignalingServerTest, DeniedPlayersAreRefused) {
  options_.join.deny_cidrs = *ParseCidrList("127.0.0.0/8, 203.0.113.9");
  options_.server.trusted_proxies = *ParseCidrList("127.0.0.2");
  Serve();
  EXPECT_FALSE(test::HttpGet(server_->address(), "/v1/join").ok());
  EXPECT_EQ(requests_.size(), 0u);
  EXPECT_GE(server_->stats().server.denied, 1u);
}

TEST_F(SignalingServerTest, AReloadChangesListsProxiesAndOptions) {
  Serve();
  EXPECT_EQ(Get().status, 200);
  SignalingReload reload;
  reload.join = options_.join;
  reload.join.proxy_port = 20000;
  reload.trusted_proxies = *ParseCidrList("127.0.0.1");
  reload.join.deny_cidrs = *ParseCidrList("203.0.113.9");
  ASSERT_TRUE(server_->Reload(reload).ok());
  EXPECT_THAT(Ask(JoinText()).body, HasSubstr(" 127.0.0.1 20000 typ host"));
  EXPECT_EQ(Ask(JoinText("X-Forwarded-For: 203.0.113.9\r\n")).status, 403);
  reload.join.proxy_port = 0;
  const absl::Status status = server_->Reload(reload);
  EXPECT_EQ(OptionAtFault(status), "proxy_port") << status;
  EXPECT_THAT(Ask(JoinText()).body, HasSubstr(" 127.0.0.1 20000 typ host"));
}

TEST_F(SignalingServerTest, AFleetsStatusAndADrainApplyAtOnce) {
  Serve();
  ASSERT_TRUE(server_->SetFleetStatus(std::string("{\"fleet\":1}")).ok());
  EXPECT_EQ(Get().body, "{\"fleet\":1}");
  server_->SetDraining(true);
  EXPECT_EQ(Get().status, 503);
  EXPECT_EQ(Ask(JoinText()).status, 503);
}

TEST_F(SignalingServerTest, APlayerWhoLeavesDoesNotHarmTheJoin) {
  Serve();
  {
    auto player = test::TcpConnect(server_->address());
    ASSERT_TRUE(player.ok()) << player.status();
    const std::string text = JoinText();
    ASSERT_EQ(send(player->get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
    const linger value = {1, 0};
    setsockopt(player->get(), SOL_SOCKET, SO_LINGER, &value, sizeof(value));
    ASSERT_TRUE(AwaitTrue([&] { return requests_.size() == 1; }));
  }
  // It waits for its media until its time is over.
  EXPECT_TRUE(AwaitTrue([&] { return joins_->List().size() == 1; }));
  EXPECT_EQ(Get().status, 200);
}

TEST_F(SignalingServerTest, FiftyPlayersAtOnceAreAnswered) {
  Serve();
  constexpr int kPlayers = 50;
  std::vector<HttpReply> replies(kPlayers);
  std::vector<std::thread> players;
  players.reserve(kPlayers);
  for (int i = 0; i < kPlayers; ++i) {
    players.emplace_back([this, &reply = replies[static_cast<size_t>(i)]] {
      reply = Ask(JoinText());
    });
  }
  for (std::thread& player : players) player.join();
  for (const HttpReply& reply : replies) EXPECT_EQ(reply.status, 200);
  const SignalingStats stats = server_->stats();
  EXPECT_EQ(stats.join.joins[static_cast<size_t>(JoinResult::kJoined)], 50u);
  EXPECT_EQ(stats.client.responses, 50u);
  EXPECT_EQ(joins_->List().size(), 50u);
}

TEST_F(SignalingServerTest, StopsWhileRequestsAreUnderWay) {
  http::ScriptedServer silent([](http::ScriptedServer::Connection* connection) {
    connection->AwaitClose();
  });
  SignalingDependencies dependencies = Dependencies();
  dependencies.resolver =
      std::make_shared<StaticBackendResolver>(silent.address());
  auto server = SignalingServer::Create(options_, std::move(dependencies));
  ASSERT_TRUE(server.ok()) << server.status();
  ASSERT_TRUE((*server)->Start().ok());
  const SocketAddress address = (*server)->address();
  std::vector<std::thread> players;
  players.reserve(4);
  for (int i = 0; i < 4; ++i) {
    players.emplace_back([&, i] {
      (void)test::HttpExchange(address, i % 2 == 0
                                            ? JoinText()
                                            : "GET /v1/join HTTP/1.1\r\nHost: "
                                              "x\r\n\r\n");
    });
  }
  // The two who ask for the status share a question.
  EXPECT_TRUE(AwaitTrue([&] { return silent.accepted() == 3; }));
  (*server)->Stop();
  for (std::thread& player : players) player.join();
  EXPECT_EQ(joins_->stats().joins_waiting, 0);
}

TEST_F(SignalingServerTest, AdoptsAListeningSocket) {
  Serve();
  const int fd = fcntl(server_->listen_fd(), F_DUPFD_CLOEXEC, 0);
  const SocketAddress address = server_->address();
  server_->Stop();
  options_.server.listen_fd = fd;
  Serve();
  EXPECT_EQ(server_->address(), address);
  EXPECT_EQ(Get().status, 200);
}

TEST_F(SignalingServerTest, ErrorsNameTheOptionAndCloseTheSocket) {
  options_.join.proxy_port = 0;
  options_.server.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int fd = options_.server.listen_fd;
  EXPECT_EQ(
      OptionAtFault(SignalingServer::Create(options_, Dependencies()).status()),
      "proxy_port");
  EXPECT_EQ(fcntl(fd, F_GETFD), -1);
  options_.server.listen_fd = -1;
  options_.join.proxy_port = 1;
  options_.join.answer_timeout = options_.server.response_timeout;
  EXPECT_EQ(
      OptionAtFault(SignalingServer::Create(options_, Dependencies()).status()),
      "server.response_timeout");
  options_.join.answer_timeout = absl::Seconds(1);
  SignalingDependencies dependencies = Dependencies();
  dependencies.joins = nullptr;
  EXPECT_TRUE(absl::IsInvalidArgument(
      SignalingServer::Create(options_, std::move(dependencies)).status()));
}

}  // namespace
}  // namespace nethernet
}  // namespace udpgate
