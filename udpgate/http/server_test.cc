#include "udpgate/http/server.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "udpgate/http/server_fixture.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace http {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::udpgate::internal::UniqueFd;
using ::udpgate::test::HttpReply;

TEST_F(ServerTest, AnswersGetAndPost) {
  Serve();
  const HttpReply get = Get("/v1/join?x=1");
  EXPECT_EQ(get.status, 200);
  EXPECT_EQ(get.body, "GET /v1/join?x=1\n");
  EXPECT_THAT(get.head, HasSubstr("HTTP/1.1 200 OK\r\nDate: "));
  EXPECT_THAT(get.head, HasSubstr("\r\nContent-Type: text/plain\r\n"));
  EXPECT_THAT(get.head, Not(HasSubstr("Connection")));
  EXPECT_EQ(Exchange(PostText("/", std::string(100000, 'x'))).body,
            absl::StrCat("POST /\n", std::string(100000, 'x')));
  EXPECT_EQ(server_->stats().requests, 2u);
}

TEST_F(ServerTest, PassesHeadersAndAddresses) {
  Serve();
  RawClient client(address_);
  client.Exchange(GetText("/", "X-a:  b c \t\r\nx-A: \xc3\xa4\r\n"));
  const Request request = last_request();
  ASSERT_EQ(request.headers.size(), 3u);
  EXPECT_EQ(*request.FindHeader("HOST"), "a");
  EXPECT_EQ(*request.FindHeader("x-a"), "b c");
  EXPECT_EQ(request.headers[2].value, "\xc3\xa4");
  EXPECT_EQ(request.FindHeader("x-b"), nullptr);
  EXPECT_EQ(request.local, address_);
  EXPECT_EQ(request.peer, request.client);
  EXPECT_TRUE(request.peer.is_loopback());
  EXPECT_NE(request.peer.port(), 0);
  EXPECT_FALSE(request.is_tls);
}

TEST_F(ServerTest, KeepsConnectionForFurtherRequests) {
  Serve();
  RawClient client(address_);
  for (int i = 0; i < 20; ++i) {
    const std::string target = absl::StrCat("/", i);
    EXPECT_EQ(client.Exchange(GetText(target)).body,
              absl::StrCat("GET ", target, "\n"));
  }
  EXPECT_EQ(server_->stats().accepted, 1u);
  const HttpReply last = client.Exchange(GetText("/", "Connection: close\r\n"));
  EXPECT_THAT(last.head, HasSubstr("\r\nConnection: close\r\n"));
  EXPECT_TRUE(client.IsClosed());
}

TEST_F(ServerTest, AnswersPipelinedRequestsOneAfterTheOther) {
  std::atomic<int> handled_at_once{0};
  std::vector<std::thread> threads;
  handler_ = [&](Request request, Respond respond) {
    EXPECT_EQ(++handled_at_once, 1);
    threads.emplace_back([&handled_at_once, target = request.target,
                          respond = std::move(respond)]() mutable {
      --handled_at_once;
      respond({200, "", target});
    });
  };
  Serve();
  RawClient client(address_);
  std::string text;
  for (int i = 0; i < 50; ++i) {
    text += i % 2 == 0 ? GetText(absl::StrCat("/", i))
                       : PostText(absl::StrCat("/", i), "GET / HTTP/1.1\r\n");
  }
  EXPECT_TRUE(client.Send(text));
  for (int i = 0; i < 50; ++i) {
    const HttpReply reply = client.Receive();
    EXPECT_EQ(reply.body, absl::StrCat("/", i)) << reply.head;
  }
  server_->Stop();
  for (std::thread& thread : threads) thread.join();
}

TEST_F(ServerTest, ThousandsOfPipelinedRequestsNeedNoStack) {
  options_.requests_per_connection_max = 20000;
  Serve();
  RawClient client(address_);
  std::thread sender([&client] {
    std::string text;
    for (int i = 0; i < 20000; ++i) text += GetText("/");
    client.Send(text);
  });
  for (int i = 0; i < 20000; ++i) {
    ASSERT_EQ(client.Receive().body, "GET /\n") << i;
  }
  EXPECT_TRUE(client.IsClosed());
  sender.join();
}

TEST_F(ServerTest, HeadHasLengthButNoBody) {
  Serve();
  RawClient client(address_);
  EXPECT_TRUE(client.Send("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n"));
  const HttpReply head = client.Receive(/*has_body=*/false);
  EXPECT_EQ(head.status, 200);
  EXPECT_THAT(head.head, HasSubstr("\r\nContent-Length: 8\r\n"));
  EXPECT_EQ(client.Exchange(GetText("/y")).body, "GET /y\n");
}

TEST_F(ServerTest, SendsContinueIfTheClientWaitsForIt) {
  Serve();
  RawClient client(address_);
  EXPECT_TRUE(
      client.Send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\n"
                  "Content-Length: 3\r\n\r\n"));
  EXPECT_EQ(client.Receive().head, "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_EQ(client.Exchange("abc").body, "POST /\nabc");
  // Not if the body is there already.
  EXPECT_EQ(
      client.Exchange(PostText("/", "def", "Expect: 100-continue\r\n")).status,
      200);
}

TEST_F(ServerTest, ReadsChunkedBodies) {
  Serve();
  RawClient client(address_);
  const std::string head =
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n";
  EXPECT_EQ(client
                .Exchange(absl::StrCat(head, "3\r\nabc\r\nA;x=y\r\n",
                                       "0123456789\r\n0\r\nHost: z\r\n\r\n"))
                .body,
            "POST /\nabc0123456789");
  // The trailer is no header.
  EXPECT_EQ(last_request().headers.size(), 2u);
  // Byte by byte.
  const std::string text = absl::StrCat(head, "2\r\nxy\r\n0\r\n\r\n");
  for (const char c : text) EXPECT_TRUE(client.Send({&c, 1}));
  EXPECT_EQ(client.Receive().body, "POST /\nxy");
  for (const char c : absl::StrCat(head, "0\r\n\r\n")) {
    EXPECT_TRUE(client.Send({&c, 1}));
  }
  EXPECT_EQ(client.Receive().body, "POST /\n");
}

TEST_F(ServerTest, TurnsAbsoluteTargetsIntoOriginForm) {
  Serve();
  EXPECT_EQ(Get("http://b.example:81/v1/join?x").body, "GET /v1/join?x\n");
  EXPECT_EQ(*last_request().FindHeader("host"), "b.example:81");
  EXPECT_EQ(Get("HTTPS://b?x").body, "GET /?x\n");
  EXPECT_EQ(Get("http://[::1]").body, "GET /\n");
}

TEST_F(ServerTest, ClosesAfterHttp10UnlessAskedToKeepTheConnection) {
  Serve();
  RawClient client(address_);
  EXPECT_THAT(
      client.Exchange("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").head,
      HasSubstr("\r\nConnection: keep-alive\r\n"));
  EXPECT_THAT(client.Exchange("GET / HTTP/1.0\r\n\r\n").head,
              HasSubstr("\r\nConnection: close\r\n"));
  EXPECT_TRUE(client.IsClosed());
}

TEST_F(ServerTest, DroppedRequestGetsAnError) {
  handler_ = [](Request, Respond) {};
  Serve();
  const HttpReply reply = Get("/");
  EXPECT_EQ(reply.status, 500);
  EXPECT_EQ(reply.body, "{\"error\": \"the request was dropped\"}\n");
}

TEST_F(ServerTest, ResponseHeadersCannotBeForged) {
  handler_ = [](Request, Respond respond) {
    Response response;
    response.headers = {{"Allow", "GET"},
                        {"X-Bad", "a\r\nX-Forged: b"},
                        {"X Bad", "c"},
                        {"content-length", "99"}};
    respond(response);
  };
  Serve();
  const HttpReply reply = Get("/");
  EXPECT_THAT(reply.head, HasSubstr("\r\nAllow: GET\r\n"));
  EXPECT_THAT(reply.head, HasSubstr("\r\nContent-Length: 0\r\n"));
  EXPECT_THAT(reply.head, Not(HasSubstr("Bad")));
  EXPECT_THAT(reply.head, Not(HasSubstr("99")));
}

TEST_F(ServerTest, StopClosesConnectionsAndIgnoresLateResponses) {
  std::vector<Respond> late;
  std::promise<void> called;
  handler_ = [&](Request, Respond respond) {
    late.push_back(std::move(respond));
    called.set_value();
  };
  Serve();
  RawClient idle(address_);
  RawClient waiting(address_);
  EXPECT_TRUE(waiting.Send(GetText("/")));
  called.get_future().wait();
  EXPECT_TRUE(AwaitStat(&ServerStats::open, 2));
  server_->Stop();
  EXPECT_EQ(server_->stats().open, 0u);
  EXPECT_TRUE(idle.IsClosed());
  EXPECT_TRUE(waiting.IsClosed());
  server_.reset();
  engine_.reset();
  late[0]({200, "", ""});
  late.clear();
}

TEST_F(ServerTest, StopAcceptingLeavesFurtherConnectionsToAnotherServer) {
  Respond held;
  std::atomic<bool> is_held{false};
  handler_ = [&](Request, Respond respond) {
    held = std::move(respond);
    is_held = true;
  };
  Serve();
  RawClient waiting(address_);
  ASSERT_TRUE(waiting.Send(GetText("/")));
  ASSERT_TRUE(test::AwaitTrue([&] { return is_held.load(); }));
  ServerOptions other_options = options_;
  other_options.listen_fd = dup(server_->listen_fd());
  absl::StatusOr<std::unique_ptr<Server>> other = Server::Create(
      engine_.get(), other_options, [](Request, Respond respond) {
        respond({200, "text/plain", "other"});
      });
  ASSERT_TRUE(other.ok()) << other.status();
  server_->StopAccepting();
  // The listener's thread has nothing to do before this.
  std::atomic<bool> is_done{false};
  engine_->Post([&] { is_done = true; });
  ASSERT_TRUE(test::AwaitTrue([&] { return is_done.load(); }));
  RawClient newcomer(address_);
  ASSERT_TRUE(newcomer.Send(GetText("/")));
  ASSERT_TRUE((*other)->Start().ok());
  EXPECT_EQ(newcomer.Receive().body, "other");
  EXPECT_EQ(server_->stats().accepted, 1u);
  // What was under way ends as if nothing had happened.
  held({200, "text/plain", "late"});
  const test::HttpReply reply = waiting.Receive();
  EXPECT_EQ(reply.body, "late");
  EXPECT_THAT(reply.head, HasSubstr("Connection: close\r\n"));
  EXPECT_TRUE(waiting.IsClosed());
  (*other)->Stop();
}

TEST_F(ServerTest, ListensOnIpv6AndServesIpv4Too) {
  options_.listen_address = SocketAddress::Ipv6Any(0);
  Serve();
  EXPECT_EQ(Get("/").status, 200);
  EXPECT_TRUE(last_request().peer.is_ipv4());
  address_ = SocketAddress::Ipv6Loopback(address_.port());
  EXPECT_EQ(Get("/").status, 200);
  EXPECT_TRUE(last_request().peer.is_ipv6());
}

TEST_F(ServerTest, ServesAnAdoptedSocket) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  options_.listen_fd = fd.Release();
  // A socket that does not listen is refused, and closed.
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create({});
  ASSERT_TRUE(engine.ok());
  EXPECT_THAT(
      Server::Create(engine->get(), options_, handler_).status().message(),
      HasSubstr("is not a listening TCP socket"));
  EXPECT_EQ(fcntl(options_.listen_fd, F_GETFD), -1);

  fd = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(listen(fd.get(), 8), 0);
  options_.listen_fd = fd.Release();
  Serve();
  EXPECT_EQ(server_->listen_fd(), options_.listen_fd);
  EXPECT_EQ(Get("/").status, 200);
}

TEST_F(ServerTest, SeveralThreadsShareConnections) {
  handler_ = [](Request, Respond respond) {
    respond({200, "", absl::StrCat(gettid())});
  };
  Serve(/*thread_count=*/3);
  std::set<std::string> threads;
  for (int i = 0; i < 12; ++i) threads.insert(Get("/").body);
  EXPECT_EQ(threads.size(), 3u);
}

TEST_F(ServerTest, ErrorsNameTheAddressOrTheOption) {
  Serve();
  ServerOptions options;
  options.listen_address = address_;
  EXPECT_THAT(
      Server::Create(engine_.get(), options, handler_).status().message(),
      HasSubstr(address_.ToString()));
  options.header_bytes_max = 1;
  EXPECT_EQ(OptionAtFault(options.Validate()), "header_bytes_max");
  options = ServerOptions();
  EXPECT_EQ(OptionAtFault(options.Validate()), "listen_address");
  EXPECT_EQ(OptionAtFault(EngineOptions{0}.Validate()), "thread_count");
}

}  // namespace
}  // namespace http
}  // namespace udpgate
