// Disconnect events from a stream, with a real redis-server and with a peer
// that sends invalid replies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "testing/await.h"
#include "testing/internal/support/redis_server.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/redis/internal/log_collector.h"
#include "udpgate/redis/internal/scripted_peer.h"
#include "udpgate/redis/redis_disconnect_source.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::RedisServer;
using test::ScriptedPeer;
using ::testing::ElementsAre;

constexpr char kChannel[] = "udp_gate:disconnect";
constexpr char kStream[] = "udp_gate:disconnects";

// What the handler of a source was called with.
class Events {
 public:
  DisconnectSource::Handler Handler() {
    return [this](absl::StatusOr<DisconnectTarget> target) {
      internal::MutexLock lock(&mutex_);
      texts_.push_back(target.ok() ? target->ToString() : "invalid");
      ages_.push_back(target.ok() ? target->age() : absl::ZeroDuration());
    };
  }
  std::vector<std::string> texts() const {
    internal::MutexLock lock(&mutex_);
    return texts_;
  }
  absl::Duration age(size_t i) const {
    internal::MutexLock lock(&mutex_);
    return ages_[i];
  }
  bool Await(size_t count) const {
    return AwaitTrue([&] { return texts().size() >= count; });
  }

 private:
  mutable internal::Mutex mutex_;
  std::vector<std::string> texts_ ABSL_GUARDED_BY(mutex_);
  std::vector<absl::Duration> ages_ ABSL_GUARDED_BY(mutex_);
};

class RedisDisconnectStreamTest : public ::testing::Test {
 protected:
  RedisDisconnectStreamTest() {
    lookup_ = *HostLookup::Create({});
    options_.log_sink = log_.Sink();
    options_.command_timeout = absl::Seconds(10);
    options_.reconnect_backoff_min = absl::Milliseconds(5);
    options_.reconnect_backoff_max = absl::Milliseconds(50);
    options_.disconnect_stream = kStream;
  }

  std::shared_ptr<RedisDisconnectSource> Start(absl::string_view address,
                                               Events* events) {
    options_.address = std::string(address);
    auto source = RedisDisconnectSource::Create(options_, lookup_);
    EXPECT_TRUE(source.ok()) << source.status();
    EXPECT_TRUE((*source)->Start(events->Handler()).ok());
    return *std::move(source);
  }
  std::shared_ptr<RedisDisconnectSource> StartReading(absl::string_view address,
                                                      Events* events) {
    auto source = Start(address, events);
    EXPECT_TRUE(AwaitHealthy(*source)) << source->Health();
    return source;
  }
  static bool AwaitHealthy(const RedisDisconnectSource& source) {
    return AwaitTrue([&] { return source.Health().ok(); });
  }
  static void Add(const RedisServer& redis, const std::string& payload,
                  const std::string& id = "*") {
    const auto added = redis.Command({"XADD", kStream, id, "event", payload});
    ASSERT_TRUE(added.ok()) << added.status();
  }
  // The id of an entry of so long ago.
  static std::string IdOf(absl::Duration age) {
    return absl::StrCat(absl::ToUnixMillis(absl::Now() - age), "-1");
  }

  Events first_;
  Events second_;
  test::LogCollector log_;
  std::shared_ptr<HostLookup> lookup_;
  RedisOptions options_;
};

TEST_F(RedisDisconnectStreamTest, EachGatewayGetsEachEventOnce) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const auto first = StartReading(redis.tcp_address(), &first_);
  const auto second = StartReading(redis.tcp_address(), &second_);
  std::vector<std::string> payloads;
  for (int i = 1; i <= 300; ++i) {
    payloads.push_back(absl::StrCat(i));
    Add(redis, payloads.back());
  }
  ASSERT_TRUE(first_.Await(payloads.size()));
  ASSERT_TRUE(second_.Await(payloads.size()));
  EXPECT_EQ(first_.texts(), payloads);
  EXPECT_EQ(second_.texts(), payloads);
  EXPECT_EQ(first->GetStats().stream_entries_read, payloads.size());
  EXPECT_TRUE(first->GetStats().is_reading_stream);
  EXPECT_EQ(first->GetStats().gaps, 0u);
}

TEST_F(RedisDisconnectStreamTest, ReportsEntriesOfNoUseAsInvalid) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const auto source = StartReading(redis.tcp_address(), &first_);
  ASSERT_TRUE(redis.Command({"XADD", kStream, "*", "evnt", "1"}).ok());
  Add(redis, "garbage");
  Add(redis, std::string(5000, ' ') + "7");
  ASSERT_TRUE(
      redis.Command({"XADD", kStream, "*", "a", "b", "event", "8"}).ok());
  ASSERT_TRUE(first_.Await(4));
  EXPECT_THAT(first_.texts(),
              ElementsAre("invalid", "invalid", "invalid", "8"));
  EXPECT_EQ(log_.CountOf("warn:"), 0);
}

TEST_F(RedisDisconnectStreamTest, TheFirstStartReadsNoOlderEvents) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  Add(redis, "1", IdOf(absl::Seconds(90)));
  Add(redis, "2", IdOf(absl::Seconds(30)));
  const auto source = StartReading(redis.tcp_address(), &first_);
  ASSERT_TRUE(first_.Await(1));
  Add(redis, "3");
  ASSERT_TRUE(first_.Await(2));
  EXPECT_THAT(first_.texts(), ElementsAre("2", "3"));
  EXPECT_GE(first_.age(0), absl::Seconds(29));
  EXPECT_LT(first_.age(0), absl::Seconds(59));
  EXPECT_LT(first_.age(1), absl::Seconds(20));
  EXPECT_EQ(source->GetStats().gaps, 0u);
}

TEST_F(RedisDisconnectStreamTest, EventsOfAnOutageAreReadAfterIt) {
  options_.command_timeout = absl::Milliseconds(50);
  options_.disconnect_age_max = absl::ZeroDuration();
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const auto source = StartReading(redis.tcp_address(), &first_);
  Add(redis, "1");
  ASSERT_TRUE(first_.Await(1));
  redis.Pause();
  ASSERT_TRUE(AwaitTrue([&] { return !source->Health().ok(); }));
  redis.Resume();
  Add(redis, "2");
  ASSERT_TRUE(first_.Await(2));
  EXPECT_THAT(first_.texts(), ElementsAre("1", "2"));
}

TEST_F(RedisDisconnectStreamTest, SaysSoIfTheStreamHasBeenTrimmed) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const auto source = StartReading(redis.tcp_address(), &first_);
  Add(redis, "1");
  ASSERT_TRUE(first_.Await(1));
  // A second gateway was at that entry as the stream was trimmed.
  const std::string position = source->stream_position();
  Add(redis, "2");
  Add(redis, "3");
  ASSERT_TRUE(redis.Command({"XTRIM", kStream, "MAXLEN", "1"}).ok());
  const auto second = Start(redis.tcp_address(), &second_);
  second->ContinueStreamFrom(position);
  EXPECT_TRUE(AwaitTrue([&] {
    return second->GetStats().gaps == 1 &&
           log_.CountOf("(disconnect stream): events between ") == 1;
  }));
  ASSERT_TRUE(second_.Await(1));
  EXPECT_EQ(second_.texts().back(), "3");
}

TEST_F(RedisDisconnectStreamTest, ContinuesWhereAnotherSourceWas) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  Add(redis, "1", IdOf(absl::Seconds(300)));
  Add(redis, "2", IdOf(absl::Seconds(200)));
  const auto source = StartReading(redis.tcp_address(), &first_);
  EXPECT_EQ(source->stream_position(), "");
  source->ContinueStreamFrom("garbage");
  source->ContinueStreamFrom(IdOf(absl::Seconds(250)));
  Add(redis, "3");
  ASSERT_TRUE(AwaitTrue([&] {
    const auto texts = first_.texts();
    return texts.size() >= 2 && texts.back() == "3";
  }));
  const auto texts = first_.texts();
  EXPECT_NE(std::find(texts.begin(), texts.end(), "2"), texts.end());
  EXPECT_EQ(std::find(texts.begin(), texts.end(), "1"), texts.end());
}

TEST_F(RedisDisconnectStreamTest, OnBothWaysTheSecondHasTheTimeOfTheFirst) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const auto source = StartReading(redis.tcp_address(), &first_);
  Add(redis, "8", IdOf(absl::Milliseconds(1500)));
  ASSERT_TRUE(first_.Await(1));
  ASSERT_TRUE(redis.Command({"PUBLISH", kChannel, "8"}).ok());
  ASSERT_TRUE(redis.Command({"PUBLISH", kChannel, "9"}).ok());
  ASSERT_TRUE(first_.Await(3));
  EXPECT_THAT(first_.texts(), ElementsAre("8", "8", "9"));
  // It would be about 0 alone, as that of the third is.
  EXPECT_GE(first_.age(1), absl::Milliseconds(1490));
  EXPECT_LT(first_.age(2), absl::Milliseconds(1490));
  EXPECT_EQ(source->GetStats().pairs, 1u);
}

TEST_F(RedisDisconnectStreamTest, SkipsAnEntryThatIsTooLong) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const auto source = StartReading(redis.tcp_address(), &first_);
  Add(redis, std::string(1 << 20, 'x'));
  ASSERT_TRUE(first_.Await(1));
  EXPECT_TRUE(AwaitTrue([&] { return source->GetStats().gaps == 1; }));
  EXPECT_TRUE(AwaitHealthy(*source));
  Add(redis, "8");
  EXPECT_TRUE(AwaitTrue([&] { return first_.texts().back() == "8"; }));
}

TEST_F(RedisDisconnectStreamTest, AKeyOfAnotherTypeAffectsNoChannel) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  ASSERT_TRUE(redis.Command({"SET", kStream, "text"}).ok());
  const auto source = Start(redis.tcp_address(), &first_);
  EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("WRONGTYPE") >= 1; }));
  EXPECT_TRUE(AwaitTrue([&] { return source->GetStats().is_subscribed; }));
  EXPECT_FALSE(source->Health().ok());
  ASSERT_TRUE(redis.Command({"PUBLISH", kChannel, "8"}).ok());
  EXPECT_TRUE(first_.Await(1));
  ASSERT_TRUE(redis.Command({"DEL", kStream}).ok());
  EXPECT_TRUE(AwaitHealthy(*source)) << source->Health();
}

// Without an entry that was read, only the number of entries tells.
TEST_F(RedisDisconnectStreamTest, ReportsATrimBeforeTheFirstEntryWasRead) {
  for (const int count : {2, 5}) {
    SCOPED_TRACE(count);
    RedisServer redis;
    ASSERT_TRUE(redis.Start().ok());
    ASSERT_TRUE(redis
                    .Command({"ACL", "SETUSER", "gate", "on", ">secret", "~*",
                              "&*", "+@all"})
                    .ok());
    options_.username = "gate";
    options_.password = "secret";
    Events received;
    const auto source = Start(redis.tcp_address(), &received);
    ASSERT_TRUE(AwaitHealthy(*source)) << source->Health();
    ASSERT_TRUE(redis.Command({"ACL", "SETUSER", "gate", "off"}).ok());
    ASSERT_TRUE(redis.Command({"CLIENT", "KILL", "USER", "gate"}).ok());
    ASSERT_TRUE(AwaitTrue([&] { return !source->Health().ok(); }));
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(redis
                      .Command({"XADD", kStream, "MAXLEN", "2", "*", "event",
                                absl::StrCat("1.2.3.4:", i + 1)})
                      .ok());
    }
    ASSERT_TRUE(redis.Command({"ACL", "SETUSER", "gate", "on"}).ok());
    EXPECT_TRUE(received.Await(2));
    EXPECT_TRUE(AwaitHealthy(*source)) << source->Health();
    // That of the channel, and that of the stream.
    EXPECT_EQ(source->GetStats().gaps, count > 2 ? 2u : 1u);
    source->Stop();
  }
}

// Replies in place of those to XREAD; each ends the connection.
TEST_F(RedisDisconnectStreamTest, ReconnectsAfterAnInvalidReply) {
  const std::vector<std::string> replies = {
      "+OK\r\n",
      "*0\r\n",
      "*1\r\n$1\r\nx\r\n",
      "-LOADING later\r\n",
      "*1\r\n*2\r\n$1\r\nk\r\n*1\r\n*2\r\n$3\r\n0-0\r\n*0\r\n",
      "$2000000000\r\n"};
  std::atomic<size_t> next{0};
  const ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] == "TIME") {
      return ScriptedPeer::Say("*2\r\n$10\r\n1764457501\r\n$1\r\n0\r\n");
    }
    if (command[0] == "XRANGE") return ScriptedPeer::Say("*0\r\n");
    if (command[0] != "XREAD") return ScriptedPeer::Healthy(command);
    const size_t i = next.fetch_add(1);
    if (i < replies.size()) return ScriptedPeer::Say(replies[i]);
    return i == replies.size() ? ScriptedPeer::Say("*-1\r\n")
                               : ScriptedPeer::SayNothing();
  });
  const auto source = Start(peer.address(), &first_);
  EXPECT_TRUE(AwaitTrue([&] {
    return peer.command_count("XREAD") == static_cast<int>(replies.size()) + 2;
  }));
  EXPECT_TRUE(AwaitHealthy(*source));
}

}  // namespace
}  // namespace udpgate
