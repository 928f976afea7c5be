#include "testing/internal/support/tcp_relay.h"

#include <hiredis/hiredis.h>

#include <string>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "testing/internal/support/redis_server.h"

namespace udpgate {
namespace test {
namespace {

// One connection through the relay.
class Connection {
 public:
  explicit Connection(const TcpRelay& relay)
      : context_(::redisConnect("127.0.0.1", relay.port())) {}
  ~Connection() { ::redisFree(context_); }

  void Send(const char* command) {
    ::redisAppendCommand(context_, command);
    int done = 0;
    while (!done && ::redisBufferWrite(context_, &done) == REDIS_OK) {
    }
  }
  // The next reply; "(closed)" where the connection ended.
  std::string Receive() {
    void* reply = nullptr;
    if (::redisGetReply(context_, &reply) != REDIS_OK) return "(closed)";
    const std::string text = static_cast<redisReply*>(reply)->str;
    ::freeReplyObject(reply);
    return text;
  }

 private:
  redisContext* const context_;
};

class TcpRelayTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(redis_.Start().ok()); }

  RedisServer redis_;
  TcpRelay relay_{redis_.port()};
};

TEST_F(TcpRelayTest, RelaysAndCounts) {
  Connection a(relay_);
  Connection b(relay_);
  a.Send("PING one");
  b.Send("PING two");
  EXPECT_EQ(a.Receive(), "one");
  EXPECT_EQ(b.Receive(), "two");
  EXPECT_TRUE(relay_.AwaitConnections(2));
  EXPECT_TRUE(relay_.AwaitRequests("PING", 2));
  EXPECT_EQ(relay_.CountRequests("PING"), 2u);
  EXPECT_FALSE(relay_.AwaitRequests("PING", 3, absl::Milliseconds(1)));
}

TEST_F(TcpRelayTest, HoldsRepliesAndKeepsTheirOrder) {
  Connection connection(relay_);
  relay_.HoldReplies();
  connection.Send("PING one");
  connection.Send("SET key value");
  connection.Send("PING two");
  // The requests pass all the same.
  EXPECT_TRUE(AwaitTrue([&] { return redis_.Command({"GET", "key"}).ok(); }));
  relay_.ReleaseReplies();
  EXPECT_EQ(connection.Receive(), "one");
  EXPECT_EQ(connection.Receive(), "OK");
  EXPECT_EQ(connection.Receive(), "two");
}

TEST_F(TcpRelayTest, DelaysReplies) {
  constexpr absl::Duration kDelay = absl::Milliseconds(50);
  relay_.set_reply_delay(kDelay);
  Connection connection(relay_);
  const absl::Time begin = absl::Now();
  connection.Send("PING one");
  EXPECT_EQ(connection.Receive(), "one");
  EXPECT_GE(absl::Now() - begin, kDelay);
}

TEST_F(TcpRelayTest, ReplacesOneReply) {
  Connection connection(relay_);
  relay_.ReplaceNextReply("+something else\r\n");
  connection.Send("PING one");
  EXPECT_EQ(connection.Receive(), "something else");
  connection.Send("PING two");
  EXPECT_EQ(connection.Receive(), "two");
}

TEST_F(TcpRelayTest, CutsAReplyInTheMiddle) {
  relay_.CutAfterReplyBytes(3);
  Connection connection(relay_);
  connection.Send("PING one");
  EXPECT_EQ(connection.Receive(), "(closed)");
  Connection next(relay_);
  next.Send("PING two");
  EXPECT_EQ(next.Receive(), "two");
}

TEST_F(TcpRelayTest, CutsAllConnections) {
  Connection connection(relay_);
  connection.Send("PING one");
  EXPECT_EQ(connection.Receive(), "one");
  relay_.CutConnections();
  EXPECT_EQ(connection.Receive(), "(closed)");
}

TEST_F(TcpRelayTest, ClosesWhereTheTargetRefuses) {
  redis_.Kill();
  Connection connection(relay_);
  connection.Send("PING one");
  EXPECT_EQ(connection.Receive(), "(closed)");
}

}  // namespace
}  // namespace test
}  // namespace udpgate
