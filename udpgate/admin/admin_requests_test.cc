#include <sys/socket.h>

#include <atomic>
#include <cstddef>
#include <future>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/http_client.h"
#include "testing/loopback_peer.h"
#include "udpgate/admin/admin_fixture.h"
#include "udpgate/admin/admin_options.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace admin {
namespace {

using ::testing::HasSubstr;
using ::udpgate::test::AwaitTrue;
using ::udpgate::test::HttpReply;
using ::udpgate::test::LoopbackPeer;

using AdminRequestsTest = AdminServerTest;

TEST_F(AdminRequestsTest, MalformedRequestsAreRefused) {
  Serve();
  for (const std::string& text :
       {std::string("\r\n\r\n"), std::string("hello\r\n\r\n"),
        std::string("GET /metrics HTTP/9.9\r\n\r\n"),
        std::string("GET /metrics HTTP/1.1\r\n\r\n"),  // no Host
        std::string("GET ftp://a/metrics HTTP/1.1\r\nHost: a\r\n\r\n"),
        std::string("\0\xff\x16\x03\x01\r\n\r\n", 9),
        std::string("GET /metrics HTTP/1.1\r\nHost: a\r\nno header\r\n\r\n"),
        std::string("GET /metrics HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n"),
        std::string("GET /metrics HTTP/1.1\nHost: a\n\n"),
        std::string("GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1e3\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\n"
                    "Authorization: b\r\n\r\n"),
        std::string("BREW /metrics HTTP/1.1\r\nHost: a\r\n\r\n")}) {
    const HttpReply reply = Send(text);
    EXPECT_EQ(reply.status, 400) << text;
    EXPECT_THAT(reply.body, HasSubstr("\"error\"")) << text;
  }
  EXPECT_EQ(Post("/api/v1/drain", "", "Content-Encoding: gzip\r\n").status,
            501);
  EXPECT_EQ(Get("/healthz").status, 200);
}

TEST_F(AdminRequestsTest, ARequestMayHaveAChunkedBodyOrAnAbsoluteTarget) {
  Serve();
  const std::string host = address_.ToString();
  const HttpReply reply = Send(absl::StrCat(
      "POST /api/v1/disconnect HTTP/1.1\r\nHost: ", host,
      "\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
      "\r\nc\r\n{\"target\": \"\r\n10\r\n203.0.113.7:543\"\r\n1\r\n}\r\n0\r\n"
      "\r\n"));
  EXPECT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.body, "{\"ended\":0}\n");
  EXPECT_EQ(Send(absl::StrCat("GET http://", host,
                              "/readyz HTTP/1.1\r\nHost: ", host, "\r\n\r\n"))
                .body,
            "ready\n");
}

TEST_F(AdminRequestsTest, AConnectionCarriesOneRequest) {
  Serve();
  const HttpReply reply = Send(
      "GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
      "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_THAT(reply.head, HasSubstr("Connection: close\r\n"));
  EXPECT_EQ(reply.body, "ready\n");
  EXPECT_EQ(
      Sample(Get("/metrics").body, "udpgate_admin_requests_total").value_or(""),
      "2");
}

TEST_F(AdminRequestsTest, HeadIsAGetWithoutTheBody) {
  Serve();
  const HttpReply reply = Send("HEAD /readyz HTTP/1.0\r\n\r\n");
  EXPECT_EQ(reply.status, 200);
  EXPECT_THAT(reply.head, HasSubstr("Content-Length: 6\r\n"));
  EXPECT_EQ(reply.body, "");
}

TEST_F(AdminRequestsTest, OversizedRequestsAreRefused) {
  Serve();
  EXPECT_EQ(Post("/api/v1/drain", std::string(10 << 20, 'x')).status, 413);
  EXPECT_EQ(Post("/api/v1/drain", std::string(65537, 'x')).status, 413);
  EXPECT_EQ(
      Get("/healthz", absl::StrCat("X: ", std::string(1 << 20, 'x'), "\r\n"))
          .status,
      431);
  EXPECT_EQ(Get("/healthz").status, 200);
}

TEST_F(AdminRequestsTest, IncompleteRequestTimesOut) {
  options_.read_timeout = absl::Milliseconds(100);
  Serve();
  for (const absl::string_view half :
       {absl::string_view("GET /metrics HT"),
        absl::string_view("POST /api/v1/drain HTTP/1.1\r\nHost: a\r\n"
                          "Content-Length: 9\r\n\r\n{")}) {
    EXPECT_EQ(Send(std::string(half)).status, 408);
  }
  const absl::StatusOr<internal::UniqueFd> idle = test::TcpConnect(address_);
  ASSERT_TRUE(idle.ok()) << idle.status();
  char byte;
  EXPECT_EQ(recv(idle->get(), &byte, 1, 0), 0);  // end of stream
  EXPECT_EQ(
      Sample(Get("/metrics").body, "udpgate_admin_connections_timed_out_total")
          .value_or(""),
      "3");
}

TEST_F(AdminRequestsTest, RequestsAreRefusedIfAllWorkersAreBusy) {
  options_.worker_count = 1;
  options_.queue_size = 1;
  std::atomic<int> calls{0};
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  hooks_.components = [&calls, released] {
    ++calls;
    released.wait();
    return std::vector<ComponentHealth>();
  };
  Serve();
  const auto ask = [this] {
    absl::StatusOr<internal::UniqueFd> fd = test::TcpConnect(address_);
    EXPECT_TRUE(fd.ok()) << fd.status();
    const std::string text = "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n";
    EXPECT_EQ(send(fd->get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
    return *std::move(fd);
  };
  const internal::UniqueFd handled = ask();
  EXPECT_TRUE(AwaitTrue([&calls] { return calls == 1; }));
  const internal::UniqueFd first = ask();
  const internal::UniqueFd second = ask();
  // The queue is full: one request waits for the worker.
  EXPECT_EQ(Get("/readyz").status, 503);
  LoopbackPeer client;
  Play(&client);
  release.set_value();
  EXPECT_TRUE(AwaitTrue([this] { return Get("/metrics").status == 200; }));
}

TEST_F(AdminRequestsTest, IdleConnectionsDoNotBlockOthers) {
  options_.read_timeout = absl::Minutes(1);
  Serve();
  LoopbackPeer client;
  Play(&client);
  std::vector<internal::UniqueFd> idle;
  for (int i = 0; i < 1000; ++i) {
    absl::StatusOr<internal::UniqueFd> fd = test::TcpConnect(address_);
    ASSERT_TRUE(fd.ok()) << fd.status();
    idle.push_back(*std::move(fd));
    if (i % 100 != 0) continue;
    EXPECT_EQ(Get("/healthz").status, 200);
    Play(&client);
  }
  const std::string text = Get("/metrics").body;
  int evicted = 0;
  EXPECT_TRUE(absl::SimpleAtoi(
      Sample(text, "udpgate_admin_connections_evicted_total").value_or(""),
      &evicted));
  EXPECT_GE(evicted, 900);
  Play(&client);
}

}  // namespace
}  // namespace admin
}  // namespace udpgate
