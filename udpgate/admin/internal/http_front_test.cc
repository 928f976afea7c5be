#include "udpgate/admin/internal/http_front.h"

#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/http_client.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::udpgate::internal::UniqueFd;
using ::udpgate::test::AwaitTrue;
using ::udpgate::test::HttpReply;

constexpr char kRequest[] = "GET / HTTP/1.1\r\n\r\n";

std::string Response(absl::string_view body) {
  return absl::StrCat("HTTP/1.1 200 OK\r\nContent-Length: ", body.size(),
                      "\r\n\r\n", body);
}

// Handles requests only while the gate is open.
class HandlerGate {
 public:
  // Waits, and returns what `Response` makes of the request's body.
  std::string Handle(const HttpRequestText& request) {
    ++handling_;
    opened_.wait();
    return Response(request.body);
  }
  int handling() const { return handling_; }
  void Open() { promise_.set_value(); }

 private:
  std::atomic<int> handling_{0};
  std::promise<void> promise_;
  const std::shared_future<void> opened_ = promise_.get_future().share();
};

class HttpFrontTest : public ::testing::Test {
 protected:
  HttpFrontTest() {
    options_.listen_address = SocketAddress::Ipv4Loopback(0);
    options_.listen_fd = -1;
    options_.connections_max = 8;
    options_.worker_count = 2;
    options_.queue_size = 8;
    options_.header_bytes_max = 1024;
    options_.body_bytes_max = 1024;
    options_.read_timeout = absl::Minutes(1);
    options_.write_timeout = absl::Minutes(1);
  }

  void Serve(HttpFront::Handler handler) {
    absl::StatusOr<std::unique_ptr<HttpFront>> front =
        HttpFront::Create(options_, std::move(handler));
    ASSERT_TRUE(front.ok()) << front.status();
    front_ = *std::move(front);
    ASSERT_TRUE(front_->Start().ok());
  }

  // A connection on which `text` was sent.
  UniqueFd Send(absl::string_view text) {
    absl::StatusOr<UniqueFd> fd = test::TcpConnect(front_->address());
    EXPECT_TRUE(fd.ok()) << fd.status();
    if (!fd.ok()) return UniqueFd();
    EXPECT_EQ(send(fd->get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
    return *std::move(fd);
  }

  // All that the server still sends. The test's time limit ends the wait.
  static std::string ReadToEnd(const UniqueFd& fd) {
    std::string text;
    char buffer[4096];
    while (true) {
      const ssize_t count = recv(fd.get(), buffer, sizeof(buffer), 0);
      if (count <= 0) return text;
      text.append(buffer, static_cast<size_t>(count));
    }
  }

  HttpFrontOptions options_;
  HandlerGate gate_;  // its destructor runs after the last handler returned
  std::unique_ptr<HttpFront> front_;
};

TEST_F(HttpFrontTest, PassesOnTheRequestAndItsAddresses) {
  std::promise<HttpRequestText> handled;
  Serve([&handled](const HttpRequestText& request) {
    handled.set_value(request);
    return Response("done");
  });
  const UniqueFd fd = Send("POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody");
  EXPECT_THAT(ReadToEnd(fd), HasSubstr("\r\n\r\ndone"));
  const HttpRequestText request = handled.get_future().get();
  EXPECT_EQ(request.head, "POST /a HTTP/1.1\r\ncontent-length: 4\r\n\r\n");
  EXPECT_EQ(request.body, "body");
  EXPECT_EQ(request.local, front_->address());
  sockaddr_storage address;
  socklen_t size = sizeof(address);
  ASSERT_EQ(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size),
            0);
  EXPECT_EQ(request.client,
            SocketAddress::FromSockaddr(
                reinterpret_cast<const sockaddr*>(&address), size));
  EXPECT_EQ(front_->counts().accepted, 1u);
  EXPECT_EQ(front_->counts().refused, 0u);
}

TEST_F(HttpFrontTest, SendsAResponseLargerThanTheSocketBuffer) {
  const std::string body(8 << 20, 'x');
  Serve([&body](const HttpRequestText&) { return Response(body); });
  const std::string text = ReadToEnd(Send(kRequest));
  EXPECT_EQ(text.size(), Response(body).size());
}

TEST_F(HttpFrontTest, RefusesMalformedRequests) {
  Serve([](const HttpRequestText&) -> std::string {
    ADD_FAILURE() << "a malformed request reached a handler";
    return "";
  });
  EXPECT_THAT(ReadToEnd(Send("hello\r\n\r\n")), HasSubstr("HTTP/1.1 400 "));
  EXPECT_THAT(ReadToEnd(Send(std::string(options_.header_bytes_max, 'x'))),
              HasSubstr("HTTP/1.1 431 "));
  EXPECT_THAT(
      ReadToEnd(Send("POST / HTTP/1.1\r\nContent-Length: 1025\r\n\r\n")),
      HasSubstr("HTTP/1.1 413 "));
  EXPECT_EQ(front_->counts().refused, 3u);
}

TEST_F(HttpFrontTest, RefusesRequestsIfTheQueueIsFull) {
  options_.worker_count = 1;
  options_.queue_size = 1;
  Serve(
      [this](const HttpRequestText& request) { return gate_.Handle(request); });
  const UniqueFd handled = Send(kRequest);
  EXPECT_TRUE(AwaitTrue([this] { return gate_.handling() == 1; }));
  // Of two more, one waits in the queue and one is refused.
  const UniqueFd second = Send(kRequest);
  const UniqueFd third = Send(kRequest);
  EXPECT_TRUE(AwaitTrue([this] { return front_->counts().refused == 1; }));
  gate_.Open();
  EXPECT_THAT(ReadToEnd(handled), HasSubstr("200 OK"));
  const std::string others = ReadToEnd(second) + ReadToEnd(third);
  EXPECT_THAT(others, AllOf(HasSubstr("HTTP/1.1 200 OK"),
                            HasSubstr("HTTP/1.1 503 Service Unavailable"),
                            HasSubstr("too many queued requests")));
}

TEST_F(HttpFrontTest, ClosesTheOldestIdleConnectionForANewOne) {
  options_.connections_max = 2;
  Serve([](const HttpRequestText&) { return Response("new"); });
  const UniqueFd first = Send("GET /");
  EXPECT_TRUE(AwaitTrue([this] { return front_->counts().accepted == 1; }));
  const UniqueFd second = Send("GET /");
  EXPECT_TRUE(AwaitTrue([this] { return front_->counts().accepted == 2; }));
  EXPECT_THAT(ReadToEnd(Send(kRequest)), HasSubstr("new"));
  EXPECT_EQ(ReadToEnd(first), "");
  EXPECT_EQ(front_->counts().evicted, 1u);
  // The other one can still finish its request, once the third has left.
  const absl::string_view rest = " HTTP/1.1\r\n\r\n";
  ASSERT_EQ(send(second.get(), rest.data(), rest.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(rest.size()));
  EXPECT_THAT(ReadToEnd(second), HasSubstr("new"));
}

TEST_F(HttpFrontTest, ClosesANewConnectionIfAllOthersAreWithWorkers) {
  options_.connections_max = 2;
  Serve(
      [this](const HttpRequestText& request) { return gate_.Handle(request); });
  const UniqueFd first = Send(kRequest);
  const UniqueFd second = Send(kRequest);
  EXPECT_TRUE(AwaitTrue([this] { return gate_.handling() == 2; }));
  absl::StatusOr<UniqueFd> third = test::TcpConnect(front_->address());
  ASSERT_TRUE(third.ok()) << third.status();
  EXPECT_EQ(ReadToEnd(*third), "");
  EXPECT_EQ(front_->counts().refused, 1u);
  EXPECT_EQ(front_->counts().evicted, 0u);
  gate_.Open();
  EXPECT_THAT(ReadToEnd(first), HasSubstr("200 OK"));
  EXPECT_THAT(ReadToEnd(second), HasSubstr("200 OK"));
}

TEST_F(HttpFrontTest, ClosesAConnectionWithoutACompleteRequestAfterTheTimeout) {
  options_.read_timeout = absl::Milliseconds(50);
  Serve([](const HttpRequestText&) { return Response("never"); });
  EXPECT_EQ(ReadToEnd(Send("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{")),
            "");
  EXPECT_TRUE(AwaitTrue([this] { return front_->counts().timed_out == 1; }));
}

TEST_F(HttpFrontTest, ClosesAConnectionWhoseClientDoesNotReadTheResponse) {
  options_.write_timeout = absl::Milliseconds(50);
  const std::string body(64 << 20, 'x');  // more than both socket buffers
  Serve([&body](const HttpRequestText&) { return Response(body); });
  const UniqueFd fd = Send(kRequest);
  EXPECT_TRUE(AwaitTrue([this] { return front_->counts().timed_out == 1; }));
  EXPECT_LT(ReadToEnd(fd).size(), body.size());
}

TEST_F(HttpFrontTest, DropsTheResponseOfALostConnection) {
  Serve(
      [this](const HttpRequestText& request) { return gate_.Handle(request); });
  UniqueFd lost = Send(kRequest);
  EXPECT_TRUE(AwaitTrue([this] { return gate_.handling() == 1; }));
  // A reset: EPOLLHUP arrives while the request is handled.
  const linger now = {1, 0};
  ASSERT_EQ(setsockopt(lost.get(), SOL_SOCKET, SO_LINGER, &now, sizeof(now)),
            0);
  lost.Reset();
  gate_.Open();
  EXPECT_THAT(ReadToEnd(Send(kRequest)), HasSubstr("200 OK"));
}

TEST_F(HttpFrontTest, StopWaitsForTheHandlerAndClosesAllConnections) {
  std::atomic<bool> has_returned{false};
  Serve([&](const HttpRequestText& request) {
    std::string response = gate_.Handle(request);
    has_returned = true;
    return response;
  });
  const UniqueFd idle = Send("GET /");
  const UniqueFd handled = Send(kRequest);
  EXPECT_TRUE(AwaitTrue([this] { return gate_.handling() == 1; }));
  std::future<void> stop =
      std::async(std::launch::async, [this] { front_->Stop(); });
  gate_.Open();
  stop.get();
  EXPECT_TRUE(has_returned);
  ReadToEnd(handled);  // with or without a response, but with an end
  EXPECT_EQ(ReadToEnd(idle), "");
  EXPECT_FALSE(test::TcpConnect(front_->address()).ok());
  front_->Stop();
}

TEST_F(HttpFrontTest, AdoptsAListeningSocket) {
  Serve([](const HttpRequestText&) { return Response("old"); });
  options_.listen_address = front_->address();
  options_.listen_fd = dup(front_->listen_fd());
  ASSERT_GE(options_.listen_fd, 0);
  front_->Stop();
  Serve([](const HttpRequestText&) { return Response("new"); });
  EXPECT_EQ(front_->address(), options_.listen_address);
  EXPECT_THAT(ReadToEnd(Send(kRequest)), HasSubstr("new"));
}

TEST_F(HttpFrontTest, ABusyPortIsAnErrorWithTheAddress) {
  Serve([](const HttpRequestText&) { return Response(""); });
  options_.listen_address = front_->address();
  const absl::Status status =
      HttpFront::Create(options_, [](const HttpRequestText&) {
        return std::string();
      }).status();
  EXPECT_THAT(status.message(), AllOf(HasSubstr(front_->address().ToString()),
                                      HasSubstr("Address already in use")));
}

}  // namespace
}  // namespace internal
}  // namespace admin
}  // namespace udpgate
