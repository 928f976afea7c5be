#include "udpgate/redis/internal/sentinel_reply.h"

#include <string>

#include "gtest/gtest.h"
#include "udpgate/redis/internal/reply_reader.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

std::string AddressOf(const std::string& bytes) {
  ReplyReader reader;
  EXPECT_TRUE(reader.Feed(bytes).ok()) << bytes;
  const auto reply = reader.Next();
  EXPECT_TRUE(reply.ok() && *reply != nullptr) << bytes;
  return ReadMasterAddress(**reply);
}

TEST(SentinelReplyTest, ReadsAnAddress) {
  EXPECT_EQ(AddressOf("*2\r\n$8\r\n10.0.0.1\r\n$4\r\n6379\r\n"),
            "10.0.0.1:6379");
  EXPECT_EQ(AddressOf("*2\r\n$3\r\n::1\r\n$1\r\n1\r\n"), "[::1]:1");
  for (const char* bytes :
       {"*-1\r\n", "+OK\r\n", "*1\r\n$1\r\na\r\n",
        "*2\r\n$0\r\n\r\n$4\r\n6379\r\n", "*2\r\n$1\r\na\r\n$1\r\n0\r\n",
        "*2\r\n$1\r\na\r\n$5\r\n65536\r\n", "*2\r\n$3\r\na b\r\n$1\r\n1\r\n",
        "*2\r\n:1\r\n:2\r\n"}) {
    EXPECT_EQ(AddressOf(bytes), "") << bytes;
  }
}

TEST(SentinelReplyTest, ReadsAnAnnouncement) {
  EXPECT_EQ(ReadSwitchMaster("lobby 10.0.0.1 6379 10.0.0.2 6380", "lobby"),
            "10.0.0.2:6380");
  for (const char* payload :
       {"", "lobby", "other 10.0.0.1 6379 10.0.0.2 6380",
        "lobby 10.0.0.1 6379 10.0.0.2", "lobby 10.0.0.1 6379 10.0.0.2 0",
        "lobby 10.0.0.1 6379 10.0.0.2 6380 x", "lobby 10.0.0.1 6379  6380"}) {
    EXPECT_EQ(ReadSwitchMaster(payload, "lobby"), "") << payload;
  }
}

}  // namespace
}  // namespace internal
}  // namespace redis
}  // namespace udpgate
