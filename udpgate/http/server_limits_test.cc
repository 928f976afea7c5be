// Limits and deadlines of the server, each with its counter.
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/threads.h"
#include "udpgate/http/server_fixture.h"

namespace udpgate {
namespace http {
namespace {

using ::testing::HasSubstr;
using ::udpgate::test::AwaitTrue;
using ::udpgate::test::HttpReply;

constexpr absl::Duration kShort = absl::Milliseconds(200);

// The limit of descriptors, which is as before at the end.
class DescriptorLimit {
 public:
  DescriptorLimit() { getrlimit(RLIMIT_NOFILE, &before_); }
  ~DescriptorLimit() { setrlimit(RLIMIT_NOFILE, &before_); }
  void Set(rlim_t limit) {
    const rlimit now = {limit, before_.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &now), 0);
  }
  void Raise() { Set(before_.rlim_max); }

 private:
  rlimit before_;
};

class ServerLimitsTest : public ServerTest {
 protected:
  // Connections that have sent the first byte of a request.
  std::vector<std::unique_ptr<RawClient>> OpenUnfinished(int count) {
    std::vector<std::unique_ptr<RawClient>> clients;
    for (int i = 0; i < count; ++i) {
      clients.push_back(std::make_unique<RawClient>(address_));
      EXPECT_TRUE(clients.back()->Send("G"));
    }
    return clients;
  }
  void ExpectTooMany(const HttpReply& reply) {
    EXPECT_EQ(reply.status, 503);
    EXPECT_EQ(reply.body, "{\"error\": \"too many connections\"}\n");
  }
};

TEST_F(ServerLimitsTest, FullServerAnswers503) {
  options_.connections_max = 2;
  Serve();
  auto clients = OpenUnfinished(2);
  ASSERT_TRUE(AwaitStat(&ServerStats::open, 2));
  ExpectTooMany(Get("/"));
  EXPECT_EQ(server_->stats().closed_at_limit, 1u);
  EXPECT_EQ(server_->stats().requests, 0u);
  clients.pop_back();
  ASSERT_TRUE(AwaitStat(&ServerStats::open, 1));
  EXPECT_EQ(Get("/").status, 200);
}

TEST_F(ServerLimitsTest, RefusalsAreLimitedToo) {
  options_.connections_max = 1;
  Serve();
  const auto clients = OpenUnfinished(1);
  ASSERT_TRUE(AwaitStat(&ServerStats::open, 1));
  std::vector<std::unique_ptr<RawClient>> refused;
  for (int i = 0; i < 64; ++i) {
    refused.push_back(std::make_unique<RawClient>(address_));
  }
  ASSERT_TRUE(AwaitStat(&ServerStats::open, 65));
  RawClient client(address_);
  EXPECT_TRUE(client.IsClosed());
  EXPECT_EQ(server_->stats().closed_at_limit, 65u);
  ExpectTooMany(refused[0]->Exchange(GetText("/")));
}

TEST_F(ServerLimitsTest, IdleConnectionMakesRoomForANewOne) {
  options_.connections_max = 1;
  Serve();
  RawClient idle(address_);
  EXPECT_EQ(idle.Exchange(GetText("/")).status, 200);
  EXPECT_EQ(Get("/").status, 200);
  EXPECT_TRUE(idle.IsClosed());
  EXPECT_EQ(server_->stats().evicted, 1u);
  EXPECT_EQ(server_->stats().closed_at_limit, 0u);
}

TEST_F(ServerLimitsTest, OldestConnectionIsEvictedIfThatIsSet) {
  options_.connections_max = 2;
  options_.evicts_oldest = true;
  Serve();
  const auto clients = OpenUnfinished(2);
  ASSERT_TRUE(AwaitStat(&ServerStats::open, 2));
  EXPECT_EQ(Get("/").status, 200);
  EXPECT_TRUE(clients[0]->IsClosed());
  EXPECT_EQ(server_->stats().evicted, 1u);
  EXPECT_EQ(clients[1]->Exchange("ET / HTTP/1.1\r\nHost: a\r\n\r\n").status,
            200);
}

TEST_F(ServerLimitsTest, ConnectionsOfAnAddressAreLimited) {
  options_.connections_per_ip_max = 2;
  Serve();
  auto clients = OpenUnfinished(2);
  ASSERT_TRUE(AwaitStat(&ServerStats::open, 2));
  ExpectTooMany(Get("/"));
  EXPECT_EQ(server_->stats().closed_at_limit, 1u);
  clients.pop_back();
  ASSERT_TRUE(AwaitStat(&ServerStats::open, 1));
  EXPECT_EQ(Get("/").status, 200);
}

TEST_F(ServerLimitsTest, ThousandIdleConnectionsCostNoThread) {
  DescriptorLimit descriptors;
  descriptors.Raise();
  options_.connections_per_ip_max = 0;
  options_.read_timeout = absl::Minutes(1);
  Serve();
  const auto clients = OpenUnfinished(1000);
  ASSERT_TRUE(AwaitStat(&ServerStats::open, 1000));
  EXPECT_EQ(Get("/").status, 200);
  EXPECT_EQ(test::ThreadsOf(getpid()).count("udpgate-http-0"), 1u);
  EXPECT_LE(test::ThreadsOf(getpid()).size(), 3u);  // a sanitizer may have one
}

TEST_F(ServerLimitsTest, RequestMustArriveInTime) {
  options_.read_timeout = kShort;
  Serve();
  for (const std::string& part :
       {std::string("GET / HT"),
        std::string("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx"),
        absl::StrCat(GetText("/"), "G")}) {
    RawClient client(address_);
    EXPECT_TRUE(client.Send(part));
    HttpReply reply = client.Receive();
    if (reply.status == 200) reply = client.Receive();
    EXPECT_EQ(reply.status, 408);
    EXPECT_EQ(reply.body,
              "{\"error\": \"the request did not arrive in time\"}\n");
    EXPECT_TRUE(client.IsClosed());
  }
  EXPECT_EQ(server_->stats().read_timeouts, 3u);
  // There is nobody to answer.
  RawClient silent(address_);
  EXPECT_TRUE(silent.IsClosed());
  EXPECT_EQ(server_->stats().read_timeouts, 4u);
}

TEST_F(ServerLimitsTest, SlowBytesDoNotExtendTheDeadline) {
  options_.read_timeout = kShort;
  Serve();
  RawClient client(address_);
  const absl::Time start = absl::Now();
  EXPECT_TRUE(client.Send("GET / HTTP/1.1\r\nHost: a\r\nX: "));
  EXPECT_TRUE(AwaitTrue([&] {
    client.Send("x");
    return server_->stats().read_timeouts == 1;
  }));
  EXPECT_GE(absl::Now() - start, kShort);
  EXPECT_EQ(client.Receive().status, 408);
}

TEST_F(ServerLimitsTest, IdleConnectionIsClosed) {
  options_.idle_timeout = kShort;
  Serve();
  RawClient client(address_);
  EXPECT_EQ(client.Exchange(GetText("/")).status, 200);
  EXPECT_TRUE(client.IsClosed());
  EXPECT_EQ(server_->stats().idle_timeouts, 1u);
  EXPECT_EQ(server_->stats().read_timeouts, 0u);
}

TEST_F(ServerLimitsTest, LateResponseIsReplacedByAnError) {
  options_.response_timeout = kShort;
  Respond late;
  handler_ = [&late](Request request, Respond respond) {
    if (request.target == "/late") {
      late = std::move(respond);
    } else {
      late({200, "", "late"});
      respond({200, "", "in time"});
    }
  };
  Serve();
  RawClient client(address_);
  const HttpReply reply = client.Exchange(GetText("/late"));
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.body, "{\"error\": \"no response in time\"}\n");
  EXPECT_EQ(server_->stats().response_timeouts, 1u);
  // The late one answers no other request.
  EXPECT_EQ(client.Exchange(GetText("/")).body, "in time");
  EXPECT_EQ(client.Exchange(GetText("/")).body, "in time");
}

TEST_F(ServerLimitsTest, ClientMustTakeTheResponseInTime) {
  options_.write_timeout = kShort;
  handler_ = [](Request, Respond respond) {
    respond({200, "", std::string(64 << 20, 'x')});
  };
  Serve();
  RawClient client(address_);
  EXPECT_TRUE(client.Send(GetText("/")));
  EXPECT_TRUE(AwaitStat(&ServerStats::write_timeouts, 1));
  EXPECT_TRUE(AwaitStat(&ServerStats::open, 0));
}

TEST_F(ServerLimitsTest, LargeResponseReachesASlowClient) {
  const std::string body(8 << 20, 'x');
  handler_ = [&body](Request, Respond respond) { respond({200, "", body}); };
  Serve();
  RawClient client(address_);
  EXPECT_EQ(client.Exchange(GetText("/")).body, body);
}

TEST_F(ServerLimitsTest, ConnectionEndsAfterItsLastRequest) {
  options_.requests_per_connection_max = 2;
  Serve();
  RawClient client(address_);
  EXPECT_TRUE(client.Send(absl::StrCat(GetText("/1"), GetText("/2"),
                                       GetText("/3"), GetText("/4"))));
  EXPECT_EQ(client.Receive().body, "GET /1\n");
  const HttpReply last = client.Receive();
  EXPECT_EQ(last.body, "GET /2\n");
  EXPECT_THAT(last.head, HasSubstr("\r\nConnection: close\r\n"));
  EXPECT_TRUE(client.IsClosed());
  EXPECT_EQ(server_->stats().requests, 2u);
}

TEST_F(ServerLimitsTest, ClientThatDoesNotCloseIsClosed) {
  options_.requests_per_connection_max = 1;
  options_.write_timeout = kShort;
  Serve();
  RawClient client(address_);
  EXPECT_EQ(client.Exchange(GetText("/")).status, 200);
  EXPECT_TRUE(AwaitStat(&ServerStats::open, 0));
  EXPECT_EQ(server_->stats().write_timeouts, 0u);
}

TEST_F(ServerLimitsTest, DeniedAddressIsClosedAtOnce) {
  options_.admit = [](const SocketAddress&) { return false; };
  Serve();
  RawClient denied(address_);
  EXPECT_TRUE(denied.IsClosed());
  EXPECT_EQ(server_->stats().denied, 1u);
  EXPECT_EQ(server_->stats().open, 0u);
  server_->SetAdmit(nullptr);
  EXPECT_EQ(Get("/").status, 200);
}

#ifndef UDPGATE_SANITIZED
// UndefinedBehaviorSanitizer needs descriptors itself for its checks.
TEST_F(ServerLimitsTest, WaitsForDescriptorsAndThenAccepts) {
  Serve();
  DescriptorLimit descriptors;
  RawClient client(address_);
  EXPECT_EQ(client.Exchange(GetText("/")).status, 200);
  // The client's socket is the last one that there is room for.
  RawClient waiting(address_);
  ASSERT_TRUE(AwaitStat(&ServerStats::open, 2));
  RawClient next(address_);
  ASSERT_TRUE(AwaitStat(&ServerStats::open, 3));
  const absl::Time start = absl::Now();
  udpgate::internal::UniqueFd last(socket(AF_INET, SOCK_STREAM, 0));
  descriptors.Set(static_cast<rlim_t>(last.get()) + 1);
  sockaddr_storage storage;
  const socklen_t size = address_.ToSockaddr(AF_INET, &storage);
  ASSERT_EQ(
      connect(last.get(), reinterpret_cast<const sockaddr*>(&storage), size),
      0);
  // The idle connection is closed, which gives its descriptor to the new one.
  EXPECT_TRUE(AwaitTrue([this] { return server_->stats().accepted == 4; }));
  EXPECT_TRUE(client.IsClosed());
  EXPECT_EQ(server_->stats().evicted, 1u);
  EXPECT_GE(server_->stats().accept_failures, 1u);
  // It does not try without a pause.
  const double pauses =
      absl::FDivDuration(absl::Now() - start, absl::Milliseconds(50));
  EXPECT_LE(static_cast<double>(server_->stats().accept_failures), pauses + 1);
  EXPECT_THAT(log(), ::testing::ElementsAre(HasSubstr(
                         "cannot accept HTTP connections: Too many open")));
  EXPECT_EQ(waiting.Exchange(GetText("/")).status, 200);
}
#endif  // UDPGATE_SANITIZED

}  // namespace
}  // namespace http
}  // namespace udpgate
