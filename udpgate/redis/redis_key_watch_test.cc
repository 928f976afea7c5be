// With a real redis-server, and with a peer that sends invalid replies.
#include "udpgate/redis/redis_key_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "testing/await.h"
#include "testing/internal/support/redis_server.h"
#include "testing/simulated_clock.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/option_error.h"
#include "udpgate/redis/internal/log_collector.h"
#include "udpgate/redis/internal/scripted_peer.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::RedisServer;
using test::ScriptedPeer;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// What the handler was called with; "-" for no value.
class Values {
 public:
  RedisKeyWatch::Handler Handler() {
    return [this](absl::optional<std::string> value) {
      internal::MutexLock lock(&mutex_);
      texts_.push_back(value.value_or("-"));
    };
  }
  std::vector<std::string> texts() const {
    internal::MutexLock lock(&mutex_);
    return texts_;
  }
  std::string last() const {
    internal::MutexLock lock(&mutex_);
    return texts_.empty() ? "" : texts_.back();
  }

 private:
  mutable internal::Mutex mutex_;
  std::vector<std::string> texts_ ABSL_GUARDED_BY(mutex_);
};

class RedisKeyWatchTest : public ::testing::Test {
 protected:
  RedisKeyWatchTest() {
    lookup_ = *HostLookup::Create({});
    options_.log_sink = log_.Sink();
    options_.command_timeout = absl::Seconds(10);
    options_.reconnect_backoff_min = absl::Milliseconds(5);
    options_.reconnect_backoff_max = absl::Milliseconds(50);
    watch_options_.key = "status";
    watch_options_.interval = absl::Milliseconds(10);
  }

  std::unique_ptr<RedisKeyWatch> Start(absl::string_view address) {
    options_.address = std::string(address);
    auto watch = RedisKeyWatch::Create(options_, watch_options_, lookup_);
    EXPECT_TRUE(watch.ok()) << watch.status();
    const absl::Status started = (*watch)->Start(values_.Handler());
    EXPECT_TRUE(started.ok()) << started;
    return *std::move(watch);
  }
  bool AwaitLast(const std::string& text) const {
    return AwaitTrue([&] { return values_.last() == text; });
  }
  // So many further reads.
  static bool AwaitReads(const RedisKeyWatch& watch, uint64_t count) {
    const uint64_t until = watch.GetStats().reads + count;
    return AwaitTrue([&] { return watch.GetStats().reads >= until; });
  }

  Values values_;
  test::LogCollector log_;
  std::shared_ptr<HostLookup> lookup_;
  RedisOptions options_;
  RedisKeyWatchOptions watch_options_;
};

TEST_F(RedisKeyWatchTest, ReportsTheValueWheneverItChanges) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const auto watch = Start(redis.tcp_address());
  ASSERT_TRUE(AwaitReads(*watch, 3));
  EXPECT_THAT(values_.texts(), IsEmpty());
  ASSERT_TRUE(redis.Command({"SET", "status", "one"}).ok());
  EXPECT_TRUE(AwaitLast("one"));
  ASSERT_TRUE(AwaitReads(*watch, 3));
  ASSERT_TRUE(redis.Command({"SET", "status", "two"}).ok());
  EXPECT_TRUE(AwaitLast("two"));
  ASSERT_TRUE(redis.Command({"DEL", "status"}).ok());
  EXPECT_TRUE(AwaitLast("-"));
  EXPECT_THAT(values_.texts(), ElementsAre("one", "two", "-"));
  EXPECT_TRUE(watch->GetStats().is_connected);
  EXPECT_EQ(watch->GetStats().values_refused, 0u);
}

TEST_F(RedisKeyWatchTest, AValueThatIsTooLongCountsAsMissing) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const std::string longest(64 * 1024, 'x');
  const auto watch = Start(redis.tcp_address());
  ASSERT_TRUE(redis.Command({"SET", "status", longest}).ok());
  EXPECT_TRUE(AwaitLast(longest));
  ASSERT_TRUE(redis.Command({"APPEND", "status", "x"}).ok());
  EXPECT_TRUE(AwaitLast("-"));
  ASSERT_TRUE(
      redis.Command({"SET", "status", std::string(10 << 20, 'x')}).ok());
  EXPECT_TRUE(AwaitTrue([&] { return watch->GetStats().values_refused >= 5; }));
  EXPECT_EQ(log_.CountOf("is longer than 65536 bytes"), 1);
  ASSERT_TRUE(redis.Command({"SET", "status", "short"}).ok());
  EXPECT_TRUE(AwaitLast("short"));
}

TEST_F(RedisKeyWatchTest, AKeyThatIsNoStringCountsAsMissing) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  ASSERT_TRUE(redis.Command({"SET", "status", "one"}).ok());
  const auto watch = Start(redis.tcp_address());
  EXPECT_TRUE(AwaitLast("one"));
  ASSERT_TRUE(redis.Command({"DEL", "status"}).ok());
  ASSERT_TRUE(redis.Command({"LPUSH", "status", "a"}).ok());
  EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("is not a string") == 1; }));
  EXPECT_TRUE(AwaitLast("-"));
}

TEST_F(RedisKeyWatchTest, TheLastValueHoldsForAWhileWithoutRedis) {
  test::SimulatedClock clock;
  options_.clock = &clock;
  watch_options_.stale_max = absl::Seconds(60);
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  ASSERT_TRUE(redis.Command({"SET", "status", "one"}).ok());
  const auto watch = Start(redis.tcp_address());
  EXPECT_TRUE(AwaitLast("one"));
  redis.Kill();
  ASSERT_TRUE(AwaitTrue([&] { return !watch->GetStats().is_connected; }));
  clock.Advance(absl::Seconds(59));
  EXPECT_EQ(values_.last(), "one");
  EXPECT_TRUE(AwaitTrue([&] {
    clock.Advance(absl::Milliseconds(100));
    return values_.last() == "-";
  }));
  ASSERT_TRUE(redis.Restart().ok());
  ASSERT_TRUE(redis.Command({"SET", "status", "two"}).ok());
  EXPECT_TRUE(AwaitTrue([&] {
    clock.Advance(absl::Milliseconds(100));
    return values_.last() == "two";
  }));
}

TEST_F(RedisKeyWatchTest, AReplyThatIsNoneIsDropped) {
  for (const char* reply : {":1\r\n", "*1\r\n:1\r\n", "$-1\r\n", "+OK\r\n"}) {
    SCOPED_TRACE(reply);
    ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
      return command[0] == "GETRANGE" ? ScriptedPeer::Say(reply)
                                      : ScriptedPeer::Healthy(command);
    });
    test::LogCollector log;
    options_.log_sink = log.Sink();
    const auto watch = Start(peer.address());
    EXPECT_TRUE(AwaitTrue(
        [&] { return log.CountOf("unexpected reply to GETRANGE") >= 1; }));
    EXPECT_TRUE(AwaitTrue([&] { return peer.accepted_count() >= 2; }));
  }
  EXPECT_THAT(values_.texts(), IsEmpty());
}

TEST_F(RedisKeyWatchTest, AnErrorOfRedisKeepsTheValue) {
  std::atomic<bool> is_loading{false};
  ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] != "GETRANGE") return ScriptedPeer::Healthy(command);
    return ScriptedPeer::Say(is_loading ? "-LOADING later\r\n"
                                        : ScriptedPeer::Bulk("one"));
  });
  const auto watch = Start(peer.address());
  EXPECT_TRUE(AwaitLast("one"));
  is_loading = true;
  EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("LOADING") >= 1; }));
  is_loading = false;
  ASSERT_TRUE(AwaitReads(*watch, 2));
  EXPECT_THAT(values_.texts(), ElementsAre("one"));
}

TEST(RedisKeyWatchOptionsTest, NamesTheFieldAtFault) {
  const auto fault = [](RedisKeyWatchOptions options) {
    return OptionAtFault(options.Validate());
  };
  RedisKeyWatchOptions options;
  EXPECT_EQ(fault(options), "RedisKeyWatchOptions::key");
  options.key = "k";
  EXPECT_TRUE(options.Validate().ok());
  options.interval = absl::Milliseconds(9);
  EXPECT_EQ(fault(options), "RedisKeyWatchOptions::interval");
  options.interval = absl::Seconds(1);
  options.stale_max = absl::Hours(25);
  EXPECT_EQ(fault(options), "RedisKeyWatchOptions::stale_max");
  options.stale_max = absl::ZeroDuration();
  options.value_bytes_max = 0;
  EXPECT_EQ(fault(options), "RedisKeyWatchOptions::value_bytes_max");
}

}  // namespace
}  // namespace udpgate
