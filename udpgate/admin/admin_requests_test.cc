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
        std::string("GET http://a/metrics HTTP/1.1\r\n\r\n"),
        std::string("\0\xff\x16\x03\x01\r\n\r\n", 9),
        std::string("GET /metrics HTTP/1.1\r\nno header\r\n\r\n"),
        std::string("GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        std::string("GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n"),
        std::string("BREW /metrics HTTP/1.1\r\n\r\n")}) {
    const HttpReply reply = Send(text);
    EXPECT_EQ(reply.status, 400) << text;
    EXPECT_THAT(reply.body, HasSubstr("\"error\"")) << text;
  }
  EXPECT_EQ(Send("POST /api/v1/drain HTTP/1.1\r\nTransfer-Encoding: chunked"
                 "\r\n\r\n0\r\n\r\n")
                .status,
            501);
  EXPECT_EQ(Get("/healthz").status, 200);
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
       {absl::string_view(""), absl::string_view("GET /metrics HT"),
        absl::string_view("POST /api/v1/drain HTTP/1.1\r\nContent-Length: 9"
                          "\r\n\r\n{")}) {
    absl::StatusOr<internal::UniqueFd> fd = test::TcpConnect(address_);
    ASSERT_TRUE(fd.ok()) << fd.status();
    ASSERT_EQ(send(fd->get(), half.data(), half.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(half.size()));
    char byte;
    EXPECT_EQ(recv(fd->get(), &byte, 1, 0), 0);  // end of stream
  }
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
    const std::string text = "GET /readyz HTTP/1.1\r\n\r\n";
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
