#include "testing/internal/support/redis_server.h"

#include <cstdint>
#include <set>

#include "gtest/gtest.h"

namespace udpgate {
namespace test {
namespace {

TEST(RedisServerTest, AnswersCommandsOverTcp) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  EXPECT_EQ(*redis.Command({"SET", "key", "a value"}), "OK");
  EXPECT_EQ(*redis.Command({"GET", "key"}), "a value");
  EXPECT_EQ(*redis.Command({"INCR", "number"}), "1");
  EXPECT_EQ(*redis.Command({"MGET", "number", "none"}), "1\n(nil)");
  EXPECT_EQ(redis.Command({"GET", "none"}).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(redis.Command({"NONSENSE"}).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(RedisServerTest, AnswersOverAUnixSocketAlone) {
  RedisServerOptions options;
  options.tcp = false;
  options.unix_socket = true;
  options.extra_arguments = {"--requirepass", "secret"};
  options.password = "secret";
  RedisServer redis(options);
  ASSERT_TRUE(redis.Start().ok());
  EXPECT_EQ(*redis.Command({"PING"}), "PONG");
}

TEST(RedisServerTest, IsGoneAfterAKillAndEmptyAfterARestart) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const uint16_t port = redis.port();
  ASSERT_TRUE(redis.Command({"SET", "key", "value"}).ok());
  redis.Kill();
  EXPECT_FALSE(redis.running());
  EXPECT_EQ(redis.Command({"PING"}).status().code(),
            absl::StatusCode::kUnavailable);
  ASSERT_TRUE(redis.Restart().ok());
  EXPECT_EQ(redis.port(), port);
  EXPECT_EQ(redis.Command({"GET", "key"}).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(RedisServerTest, AnswersAgainAfterAPause) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  redis.Pause();
  EXPECT_TRUE(redis.running());
  redis.Resume();
  EXPECT_EQ(*redis.Command({"PING"}), "PONG");
}

// Also before anybody listens there: the ports of a Cluster are chosen first.
TEST(FreeTcpPortTest, GivesNoPortTwice) {
  std::set<uint16_t> ports;
  for (int i = 0; i < 200; ++i) {
    EXPECT_TRUE(ports.insert(FreeTcpPort()).second);
  }
}

TEST(RedisServerTest, SaysWhyItDoesNotStart) {
  RedisServerOptions options;
  options.extra_arguments = {"--no-such-setting", "1"};
  RedisServer redis(options);
  const absl::Status status = redis.Start();
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find("no-such-setting"), std::string::npos);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
