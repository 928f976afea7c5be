// What the tests of Server share: a server, and a client that sends exactly
// what a test wants.
#ifndef UDPGATE_HTTP_SERVER_FIXTURE_H_
#define UDPGATE_HTTP_SERVER_FIXTURE_H_

#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/http_client.h"
#include "udpgate/http/engine.h"
#include "udpgate/http/message.h"
#include "udpgate/http/server.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {

// A plain TCP connection; blocking, with the timeouts of a test.
class RawClient {
 public:
  explicit RawClient(const SocketAddress& address) {
    absl::StatusOr<udpgate::internal::UniqueFd> fd = test::TcpConnect(address);
    EXPECT_TRUE(fd.ok()) << fd.status();
    if (fd.ok()) fd_ = *std::move(fd);
  }

  explicit RawClient(udpgate::internal::UniqueFd fd) : fd_(std::move(fd)) {}

  int fd() const { return fd_.get(); }
  // False if the server has closed the connection.
  bool Send(absl::string_view text) {
    while (!text.empty()) {
      const ssize_t sent =
          send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      text.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  // The next response; status 0 if the stream ends before.
  test::HttpReply Receive(bool has_body = true) {
    size_t end;
    while ((end = received_.find("\r\n\r\n")) == std::string::npos) {
      if (!ReceiveSome()) return {};
    }
    test::HttpReply reply;
    reply.head = received_.substr(0, end + 4);
    received_.erase(0, end + 4);
    EXPECT_TRUE(absl::SimpleAtoi(reply.head.substr(9, 3), &reply.status));
    size_t body_bytes = 0;
    for (const absl::string_view line : absl::StrSplit(reply.head, "\r\n")) {
      if (absl::StartsWith(line, "Content-Length: ")) {
        EXPECT_TRUE(absl::SimpleAtoi(line.substr(16), &body_bytes));
      }
    }
    if (!has_body) return reply;
    while (received_.size() < body_bytes && ReceiveSome()) {
    }
    reply.body = received_.substr(0, body_bytes);
    received_.erase(0, body_bytes);
    return reply;
  }
  test::HttpReply Exchange(absl::string_view text) {
    EXPECT_TRUE(Send(text));
    return Receive();
  }
  // True if the server closes the connection, with a FIN or a RST, and without
  // any further byte.
  bool IsClosed() { return received_.empty() && !ReceiveSome(); }

 private:
  bool ReceiveSome() {
    char bytes[65536];
    const ssize_t size = recv(fd_.get(), bytes, sizeof(bytes), 0);
    EXPECT_FALSE(size < 0 && errno == EAGAIN) << "nothing came";
    if (size <= 0) return false;
    received_.append(bytes, static_cast<size_t>(size));
    return true;
  }

  udpgate::internal::UniqueFd fd_;
  std::string received_;
};

inline std::string GetText(absl::string_view target,
                           absl::string_view headers = "") {
  return absl::StrCat("GET ", target, " HTTP/1.1\r\nHost: a\r\n", headers,
                      "\r\n");
}

inline std::string PostText(absl::string_view target, absl::string_view body,
                            absl::string_view headers = "") {
  return absl::StrCat("POST ", target, " HTTP/1.1\r\nHost: a\r\n",
                      "Content-Length: ", body.size(), "\r\n", headers, "\r\n",
                      body);
}

// A server on the loopback interface. Its handler answers with the method, the
// target and the body, unless the test sets another one, and keeps the last
// request.
class ServerTest : public ::testing::Test {
 protected:
  ServerTest() {
    options_.listen_address = SocketAddress::Ipv4Loopback(0);
    options_.log_sink = [this](LogSeverity, absl::string_view message) {
      udpgate::internal::MutexLock lock(&mutex_);
      log_.push_back(std::string(message));
    };
    handler_ = [](Request request, Respond respond) {
      respond({200, "text/plain",
               absl::StrCat(request.method, " ", request.target, "\n",
                            request.body)});
    };
  }
  ~ServerTest() override {
    if (server_ != nullptr) server_->Stop();
  }

  void Serve(int thread_count = 1) {
    absl::StatusOr<std::unique_ptr<Engine>> engine =
        Engine::Create({thread_count});
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
    absl::StatusOr<std::unique_ptr<Server>> server = Server::Create(
        engine_.get(), options_, [this](Request request, Respond respond) {
          {
            udpgate::internal::MutexLock lock(&mutex_);
            last_request_ = request;
          }
          handler_(std::move(request), std::move(respond));
        });
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    ASSERT_TRUE(server_->Start().ok());
    address_ = server_->address();
    if (address_.is_any()) {
      address_ = SocketAddress::Ipv4Loopback(address_.port());
    }
  }

  // On a connection of its own.
  test::HttpReply Exchange(absl::string_view text) {
    RawClient client(address_);
    client.Send(text);
    return client.Receive();
  }
  test::HttpReply Get(absl::string_view target) {
    return Exchange(GetText(target));
  }
  Request last_request() const {
    udpgate::internal::MutexLock lock(&mutex_);
    return last_request_;
  }
  std::vector<std::string> log() const {
    udpgate::internal::MutexLock lock(&mutex_);
    return log_;
  }
  bool AwaitStat(uint64_t ServerStats::*stat, uint64_t value) {
    return test::AwaitTrue(
        [this, stat, value] { return server_->stats().*stat == value; });
  }

  ServerOptions options_;
  Handler handler_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Server> server_;
  SocketAddress address_;

 private:
  mutable udpgate::internal::Mutex mutex_;
  Request last_request_;
  std::vector<std::string> log_;
};

}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_SERVER_FIXTURE_H_
