#include "udpgate/http/client.h"

#include <atomic>
#include <future>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/http_client.h"
#include "udpgate/http/client_fixture.h"
#include "udpgate/http/client_options.h"
#include "udpgate/http/message.h"
#include "udpgate/http/scripted_server.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using ::udpgate::test::AwaitTrue;
using Connection = ScriptedServer::Connection;

TEST_F(ClientTest, SendsARequestAndReceivesTheResponse) {
  std::string received;
  ScriptedServer server([&received](Connection* connection) {
    received = connection->ReadRequest();
    connection->Send(
        "HTTP/1.1 418 Teapot\r\nContent-Type: application/sdp\r\nX-A: b\r\n"
        "Connection: close\r\nX-A: c\r\nContent-Length: 5\r\n\r\nhello");
  });
  ClientRequest request = Get(server);
  request.headers = {{"X-Forwarded-For", "203.0.113.7"}, {"Accept", "a, b"}};
  const Result response = Send(std::move(request));
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 418);
  EXPECT_EQ(response->content_type, "application/sdp");
  EXPECT_EQ(response->body, "hello");
  ASSERT_EQ(response->headers.size(), 2u);
  EXPECT_EQ(response->headers[0].value, "b");
  EXPECT_EQ(response->headers[1].value, "c");
  EXPECT_TRUE(AwaitTrue([&] { return client_->stats().closing == 0; }));
  EXPECT_EQ(received,
            absl::StrCat(
                "GET /v1/join HTTP/1.1\r\nHost: ", server.address().ToString(),
                "\r\nX-Forwarded-For: 203.0.113.7\r\nAccept: a, b\r\n"
                "Connection: close\r\n\r\n"));
  const ClientStats stats = client_->stats();
  EXPECT_EQ(stats.requests, 1u);
  EXPECT_EQ(stats.responses, 1u);
  EXPECT_EQ(stats.open, 0u);
  EXPECT_EQ(stats.resets, 0u);
}

TEST_F(ClientTest, ThePreambleComesFirstAndTheBodyLast) {
  const std::string body(200000, 'b');
  const std::string preamble = "PROXY TCP4 1.2.3.4 1.2.3.5 1 2\r\n";
  std::string received;
  ScriptedServer server([&](Connection* connection) {
    const size_t head = connection->ReadRequest().find("\r\n\r\n") + 4;
    received = connection->ReadBytes(head + body.size());
    connection->Send(kHello);
  });
  ClientRequest request = Get(server);
  request.method = "POST";
  request.headers = {{"Host", "a.example"}};
  request.preamble = preamble;
  request.body = body;
  ASSERT_TRUE(Send(std::move(request)).ok());
  client_->Stop();
  EXPECT_THAT(
      received,
      AllOf(StartsWith(absl::StrCat(preamble,
                                    "POST /v1/join HTTP/1.1\r\nHost: a.example"
                                    "\r\n")),
            HasSubstr("\r\nContent-Length: 200000\r\n"),
            EndsWith(absl::StrCat("\r\n\r\n", body))));
}

TEST_F(ClientTest, ReachesAServerOverIpv6) {
  ScriptedServer server(Answer(kHello), 16, SocketAddress::Ipv6Loopback(0));
  const Result response = Send(Get(server));
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->body, "hello");
}

TEST_F(ClientTest, ReadsEachKindOfBody) {
  const Result chunked = Receive(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n"
      "2\r\nlo\r\n0\r\nX-Trailer: a\r\n\r\n");
  ASSERT_TRUE(chunked.ok()) << chunked.status();
  EXPECT_EQ(chunked->body, "hello");
  const Result to_the_end = Receive("HTTP/1.0 200 OK\r\n\r\nhello");
  ASSERT_TRUE(to_the_end.ok()) << to_the_end.status();
  EXPECT_EQ(to_the_end->body, "hello");
  const Result none = Receive("HTTP/1.1 204 No Content\r\n\r\n");
  ASSERT_TRUE(none.ok()) << none.status();
  EXPECT_EQ(none->status, 204);
  const Result interim = Receive(
      absl::StrCat("HTTP/1.1 103 Early Hints\r\nX-A: b\r\n\r\n", kHello));
  ASSERT_TRUE(interim.ok()) << interim.status();
  EXPECT_EQ(interim->status, 200);
  EXPECT_EQ(interim->FindHeader("X-A"), nullptr);
}

TEST_F(ClientTest, ReadsABodyByteByByte) {
  for (const std::string& body : {std::string(), std::string("hello")}) {
    const std::string chunks = absl::StrCat(
        body.empty() ? "" : "3\r\nhel\r\n2\r\nlo\r\n", "0\r\n\r\n");
    ScriptedServer server([&chunks](Connection* connection) {
      connection->ReadRequest();
      connection->Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
      for (const char byte : chunks) connection->SendAlone(byte);
    });
    for (int i = 0; i < 10; ++i) {
      const Result response = Send(Get(server));
      ASSERT_TRUE(response.ok()) << response.status();
      EXPECT_EQ(response->body, body);
    }
  }
}

TEST_F(ClientTest, TheResponseToHeadHasNoBody) {
  ScriptedServer server(Answer("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"));
  ClientRequest request = Get(server);
  request.method = "HEAD";
  const Result response = Send(std::move(request));
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->body, "");
}

TEST_F(ClientTest, MalformedResponsesAreRefused) {
  const std::vector<std::string> texts = {
      "SSH-2.0-OpenSSH\r\n",
      std::string("\x15\x03\x01\x00\x02\x02\x46", 7),
      "HTTP/2.0 200 OK\r\n\r\n",
      "HTTP/1.1 20 OK\r\n\r\n",
      "HTTP/1.1 200 OK\r\nno header\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
      "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked"
      "\r\n\r\n0\r\n\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\n\r\n"};
  for (const std::string& text : texts) {
    SCOPED_TRACE(text);
    const Result result = Receive(text);
    EXPECT_TRUE(absl::IsDataLoss(result.status())) << result.status();
    EXPECT_THAT(std::string(result.status().message()),
                Not(HasSubstr("OpenSSH")));
  }
  std::string interim;
  for (int i = 0; i < 11; ++i) interim += "HTTP/1.1 100 Continue\r\n\r\n";
  ExpectError(Receive(interim + kHello), absl::StatusCode::kDataLoss,
              "too many interim responses");
  EXPECT_EQ(client().stats().malformed, texts.size() + 1);
}

TEST_F(ClientTest, AResponseThatIsCutIsAnError) {
  const std::string text = kHello;
  for (size_t size = 1; size < text.size(); ++size) {
    SCOPED_TRACE(size);
    const Result result = Receive(text.substr(0, size));
    EXPECT_TRUE(absl::IsDataLoss(result.status())) << result.status();
  }
  ExpectError(Receive("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                      "5\r\nhel"),
              absl::StatusCode::kDataLoss, "ends early");
  ScriptedServer server([](Connection* connection) {
    connection->ReadRequest();
    connection->Send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
    connection->ResetAtEnd();
  });
  ExpectError(Send(Get(server)), absl::StatusCode::kDataLoss, "ends early");
}

TEST_F(ClientTest, AConnectionThatEndsBeforeTheResponseIsUnavailable) {
  ExpectError(Receive(""), absl::StatusCode::kUnavailable,
              "closed the connection without a response");
  ScriptedServer server([](Connection* connection) {
    connection->ReadRequest();
    connection->ResetAtEnd();
  });
  ExpectError(Send(Get(server)), absl::StatusCode::kUnavailable,
              "closed the connection without a response");
  EXPECT_EQ(client().stats().unreachable, 2u);
}

TEST_F(ClientTest, TooLargeResponsesAreRefused) {
  options_.header_bytes_max = 1024;
  const auto head = [](size_t size) {
    return absl::StrCat("HTTP/1.1 200 OK\r\nX: ", std::string(size, 'x'),
                        "\r\nContent-Length: 5\r\n\r\nhello");
  };
  EXPECT_TRUE(Receive(head(900)).ok());
  for (const size_t size : {1024u, 100000u, 1000000u}) {
    ExpectError(Receive(head(size)), absl::StatusCode::kResourceExhausted,
                "the head of the response exceeds 1024 bytes");
  }
  for (const char* text :
       {"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n"}) {
    ScriptedServer server(AnswerAndStay(text));
    ClientRequest request = Get(server);
    request.response_bytes_max = 100;
    ExpectError(Send(std::move(request)), absl::StatusCode::kResourceExhausted,
                "the body of the response exceeds 100 bytes");
  }
  for (const char* framing : {"", "Content-Length: 1000000\r\n"}) {
    ScriptedServer server(Answer(absl::StrCat(
        "HTTP/1.1 200 OK\r\n", framing, "\r\n", std::string(1000000, 'x'))));
    ClientRequest request = Get(server);
    request.response_bytes_max = 999999;
    ExpectError(Send(request), absl::StatusCode::kResourceExhausted,
                "the body of the response exceeds 999999 bytes");
    request.response_bytes_max = 1000000;
    const Result response = Send(request);
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->body.size(), 1000000u);
  }
  EXPECT_EQ(client().stats().too_large, 9u);
}

TEST_F(ClientTest, ASlowServerMeetsTheDeadline) {
  for (const char* text :
       {"", "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        "HTTP/1.1 200 OK\r\n\r\nhello", "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: "
        "chunked\r\n\r\n5\r\nhello\r\n"}) {
    SCOPED_TRACE(text);
    ScriptedServer server(AnswerAndStay(text));
    ClientRequest request = Get(server);
    request.timeout = absl::Milliseconds(100);
    const absl::Time begin = absl::Now();
    ExpectError(Send(std::move(request)), absl::StatusCode::kDeadlineExceeded,
                "no complete response in 100ms");
    EXPECT_GE(absl::Now() - begin, absl::Milliseconds(99));
  }
  EXPECT_EQ(client().stats().timed_out, 6u);
}

TEST_F(ClientTest, AServerThatSendsByteByByteMeetsTheDeadline) {
  ScriptedServer server([](Connection* connection) {
    connection->ReadRequest();
    connection->Send("HTTP/1.1 200 OK\r\n");
    // Until the client resets the connection.
    std::atomic<bool> is_closed{false};
    std::thread drip([&] {
      while (!is_closed) {
        connection->Send("X: y\r\n");
        absl::SleepFor(absl::Milliseconds(10));
      }
    });
    connection->AwaitClose();
    is_closed = true;
    drip.join();
  });
  ClientRequest request = Get(server);
  request.timeout = absl::Milliseconds(200);
  ExpectError(Send(std::move(request)), absl::StatusCode::kDeadlineExceeded,
              "no complete response");
}

TEST_F(ClientTest, AServerThatReadsNothingMeetsTheDeadline) {
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  ScriptedServer server([released](Connection*) { released.wait(); });
  ClientRequest request = Get(server);
  request.method = "POST";
  request.body = std::string(64 << 20, 'x');
  request.timeout = absl::Milliseconds(300);
  ExpectError(Send(std::move(request)), absl::StatusCode::kDeadlineExceeded,
              "no complete response");
  release.set_value();
}

TEST_F(ClientTest, AResponseBeforeTheEndOfTheRequestCounts) {
  ScriptedServer server([](Connection* connection) {
    connection->ReadRequest();
    connection->Send("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
    connection->AwaitClose();
  });
  ClientRequest request = Get(server);
  request.method = "POST";
  request.body = std::string(64 << 20, 'x');
  options_.close_timeout = absl::Milliseconds(10);
  const Result response = Send(std::move(request));
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->status, 413);
}

TEST_F(ClientTest, APortWithoutServerIsUnavailable) {
  SocketAddress address;
  { address = ScriptedServer(nullptr).address(); }
  ClientRequest request;
  request.server = address;
  ExpectError(
      Send(std::move(request)), absl::StatusCode::kUnavailable,
      absl::StrCat(address.ToString(), ": cannot connect: Connection refused"));
  EXPECT_EQ(client().stats().unreachable, 1u);
}

TEST_F(ClientTest, AServerThatDoesNotReplyToConnectMeetsTheDeadline) {
  // Its queue of connections is full, so the kernel drops further ones.
  ScriptedServer server(nullptr, 0);
  std::vector<udpgate::internal::UniqueFd> held;
  held.push_back(test::TcpConnect(server.address()).value());
  ClientRequest request = Get(server);
  request.timeout = absl::Milliseconds(200);
  ExpectError(Send(std::move(request)), absl::StatusCode::kDeadlineExceeded,
              "no connection in 200ms");
}

TEST_F(ClientTest, AConnectionMayTakeLessTimeThanTheResponse) {
  ScriptedServer silent(nullptr, 0);
  std::vector<udpgate::internal::UniqueFd> held;
  held.push_back(test::TcpConnect(silent.address()).value());
  ClientRequest request = Get(silent);
  request.connect_timeout = absl::Milliseconds(20);
  ExpectError(Send(std::move(request)), absl::StatusCode::kUnavailable,
              "no connection in 20ms");

  ScriptedServer slow([](Connection* connection) {
    connection->ReadRequest();
    absl::SleepFor(absl::Milliseconds(60));  // on purpose
    connection->Send(kHello);
  });
  request = Get(slow);
  request.connect_timeout = absl::Milliseconds(20);
  const Result result = Send(std::move(request));
  EXPECT_TRUE(result.ok()) << result.status();
}

TEST_F(ClientTest, InvalidRequestsAreRefused) {
  ScriptedServer server(Answer(kHello));
  const auto expect_invalid = [this](const ClientRequest& request,
                                     const std::string& text) {
    ExpectError(Send(request), absl::StatusCode::kInvalidArgument, text);
  };
  ClientRequest request = Get(server);
  request.server = SocketAddress();
  expect_invalid(request, "server: ");
  request = Get(server);
  for (const char* method : {"", "G ET", "GET\r\n"}) {
    request.method = method;
    expect_invalid(request, "method: ");
  }
  request = Get(server);
  for (const std::string& target :
       {std::string(), std::string("v1"), std::string("/a b"),
        std::string("/a\r\nX: y"), std::string("/\xff"), std::string("/\0", 2),
        absl::StrCat("/", std::string(9000, 'x'))}) {
    request.target = target;
    expect_invalid(request, "target: ");
  }
  request = Get(server);
  for (const Header& header :
       {Header{"", "a"}, Header{"a b", "c"}, Header{"a:", "b"},
        Header{"a", "secret\r\nX: y"}, Header{"a", "secret\n"},
        Header{"Content-Length", "1"}, Header{"connection", "keep-alive"},
        Header{"Transfer-Encoding", "chunked"},
        Header{"a", std::string(20000, 'x')}}) {
    request.headers = {header};
    expect_invalid(request, "headers: ");
    EXPECT_THAT(std::string(Send(request).status().message()),
                Not(HasSubstr("secret")));
  }
  request = Get(server);
  request.timeout = absl::ZeroDuration();
  expect_invalid(request, "timeout: ");
  request = Get(server);
  request.response_bytes_max = size_t{1} << 40;
  expect_invalid(request, "response_bytes_max: ");
  EXPECT_EQ(server.accepted(), 0);
  EXPECT_EQ(client().stats().refused, client().stats().requests);
}

TEST_F(ClientTest, InvalidOptionsAreErrors) {
  options_.connections_max = 0;
  EXPECT_THAT(
      std::string(Client::Create(engine_.get(), options_).status().message()),
      HasSubstr("connections_max is 0"));
  options_ = ClientOptions();
  options_.queue_size = -1;
  EXPECT_FALSE(options_.Validate().ok());
  options_ = ClientOptions();
  options_.header_bytes_max = 65537;
  EXPECT_FALSE(options_.Validate().ok());
  options_ = ClientOptions();
  options_.close_timeout = absl::Minutes(2);
  EXPECT_FALSE(options_.Validate().ok());
  EXPECT_TRUE(ClientOptions().Validate().ok());
}

}  // namespace
}  // namespace http
}  // namespace udpgate
