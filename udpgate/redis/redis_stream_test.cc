// With a real redis-server, and with a peer that sends invalid replies.
#include "udpgate/redis/redis_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "testing/await.h"
#include "testing/internal/support/redis_server.h"
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

// The entries that a gateway was told of.
class Entries {
 public:
  RedisStream::Handler Handler() {
    return [this](absl::string_view entry, absl::Duration age) {
      EXPECT_GE(age, absl::ZeroDuration());
      internal::MutexLock lock(&mutex_);
      texts_.emplace_back(entry);
      age_max_ = std::max(age_max_, age);
    };
  }
  std::vector<std::string> texts() const {
    internal::MutexLock lock(&mutex_);
    return texts_;
  }
  absl::Duration age_max() const {
    internal::MutexLock lock(&mutex_);
    return age_max_;
  }
  bool Await(size_t count) const {
    return AwaitTrue([&] { return texts().size() >= count; });
  }

 private:
  mutable internal::Mutex mutex_;
  std::vector<std::string> texts_ ABSL_GUARDED_BY(mutex_);
  absl::Duration age_max_ ABSL_GUARDED_BY(mutex_);
};

class RedisStreamTest : public ::testing::Test {
 protected:
  RedisStreamTest() {
    lookup_ = *HostLookup::Create({});
    options_.log_sink = log_.Sink();
    options_.command_timeout = absl::Seconds(10);
    options_.reconnect_backoff_min = absl::Milliseconds(5);
    options_.reconnect_backoff_max = absl::Milliseconds(50);
    stream_options_.key = "joins";
  }

  std::unique_ptr<RedisStream> Start(absl::string_view address,
                                     Entries* entries) {
    options_.address = std::string(address);
    auto stream = RedisStream::Create(options_, stream_options_, lookup_);
    EXPECT_TRUE(stream.ok()) << stream.status();
    const absl::Status started = (*stream)->Start(entries->Handler());
    EXPECT_TRUE(started.ok()) << started;
    return *std::move(stream);
  }
  static bool AwaitConnected(const RedisStream& stream) {
    return AwaitTrue([&] {
      const RedisStreamStats stats = stream.GetStats();
      return stats.is_reading && stats.is_writing;
    });
  }
  static bool AwaitWritten(const RedisStream& stream, uint64_t count) {
    return AwaitTrue(
        [&] { return stream.GetStats().entries_written >= count; });
  }

  Entries first_;
  Entries second_;
  test::LogCollector log_;
  std::shared_ptr<HostLookup> lookup_;
  RedisOptions options_;
  RedisStreamOptions stream_options_;
};

TEST_F(RedisStreamTest, GatewaysTellEachOtherInOrder) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const auto first = Start(redis.tcp_address(), &first_);
  const auto second = Start(redis.tcp_address(), &second_);
  ASSERT_TRUE(AwaitConnected(*first));
  ASSERT_TRUE(AwaitConnected(*second));
  std::vector<std::string> sent;
  for (int i = 0; i < 500; ++i) {
    sent.push_back(absl::StrCat("entry ", i, " \r\n\"{}"));
    ASSERT_TRUE(first->Append(sent.back()));
  }
  ASSERT_TRUE(second_.Await(sent.size()));
  EXPECT_EQ(second_.texts(), sent);
  ASSERT_TRUE(second->Append("back"));
  ASSERT_TRUE(first_.Await(1));
  // Nobody is told of its own.
  EXPECT_THAT(first_.texts(), ElementsAre("back"));
  EXPECT_EQ(second->GetStats().entries_read, sent.size());
  EXPECT_EQ(first->GetStats().entries_written, sent.size());
  EXPECT_EQ(first->GetStats().entries_waiting, 0);
}

TEST_F(RedisStreamTest, WhoComesLaterIsToldOfTheBacklog) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const auto first = Start(redis.tcp_address(), &first_);
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(first->Append("entry"));
  ASSERT_TRUE(AwaitWritten(*first, 200));
  const auto second = Start(redis.tcp_address(), &second_);
  EXPECT_TRUE(second_.Await(200));
  EXPECT_LT(second_.age_max(), absl::Minutes(1));
}

TEST_F(RedisStreamTest, OldEntriesAreNotRead) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const std::string entry = "0123456789abcdef old";
  ASSERT_TRUE(redis.Command({"XADD", "joins", "5-1", "e", entry}).ok());
  const auto first = Start(redis.tcp_address(), &first_);
  ASSERT_TRUE(AwaitConnected(*first));
  ASSERT_TRUE(
      redis.Command({"XADD", "joins", "*", "e", "0123456789abcdef new"}).ok());
  ASSERT_TRUE(first_.Await(1));
  EXPECT_THAT(first_.texts(), ElementsAre("new"));
}

TEST_F(RedisStreamTest, TheStreamIsBoundedAndExpires) {
  stream_options_.entries_max = 100;
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const auto first = Start(redis.tcp_address(), &first_);
  for (int i = 0; i < 1000; ++i) ASSERT_TRUE(first->Append("entry"));
  ASSERT_TRUE(AwaitWritten(*first, 1000));
  // Redis trims whole nodes of 100 entries (stream-node-max-entries).
  int64_t length = 0;
  ASSERT_TRUE(absl::SimpleAtoi(redis.Command({"XLEN", "joins"}).value_or("x"),
                               &length));
  EXPECT_LE(length, 300);
  int64_t milliseconds = 0;
  ASSERT_TRUE(absl::SimpleAtoi(redis.Command({"PTTL", "joins"}).value_or("x"),
                               &milliseconds));
  EXPECT_GT(milliseconds, 60'000);
  EXPECT_LE(milliseconds, 600'000);
}

TEST_F(RedisStreamTest, WhatComesDuringAnOutageIsWrittenAfterIt) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const auto first = Start(redis.tcp_address(), &first_);
  const auto second = Start(redis.tcp_address(), &second_);
  ASSERT_TRUE(AwaitConnected(*first));
  redis.Kill();
  ASSERT_TRUE(AwaitTrue([&] { return !first->GetStats().is_writing; }));
  ASSERT_TRUE(first->Append("during"));
  EXPECT_EQ(first->GetStats().entries_waiting, 1);
  ASSERT_TRUE(redis.Restart().ok());
  ASSERT_TRUE(second_.Await(1));
  EXPECT_EQ(second_.texts().back(), "during");
}

TEST_F(RedisStreamTest, TheQueueIsBounded) {
  stream_options_.queue_entries_max = 2;
  const auto first = Start("127.0.0.1:1", &first_);
  EXPECT_TRUE(first->Append("a"));
  EXPECT_TRUE(first->Append("b"));
  EXPECT_FALSE(first->Append("c"));
  EXPECT_EQ(first->GetStats().entries_dropped, 1u);
  EXPECT_EQ(first->GetStats().entries_waiting, 2);
}

TEST_F(RedisStreamTest, AnEntryThatIsTooLongIsNotWritten) {
  const auto first = Start("127.0.0.1:1", &first_);
  EXPECT_TRUE(first->Append(std::string(8192, 'x')));
  EXPECT_FALSE(first->Append(std::string(8193, 'x')));
  EXPECT_EQ(first->GetStats().entries_dropped, 1u);
}

TEST_F(RedisStreamTest, EntriesOfOthersAreChecked) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const auto first = Start(redis.tcp_address(), &first_);
  ASSERT_TRUE(AwaitConnected(*first));
  const std::string id = "0123456789abcdef ";
  for (const std::vector<std::string>& fields :
       std::vector<std::vector<std::string>>{{"x", id + "a"},
                                             {"e", "no id"},
                                             {"e", ""},
                                             {"e", id + "a", "e", id + "b"},
                                             {"e", id + std::string(8193, 'x')},
                                             {"e", id + "good"}}) {
    std::vector<std::string> command = {"XADD", "joins", "*"};
    command.insert(command.end(), fields.begin(), fields.end());
    ASSERT_TRUE(redis.Command(command).ok());
  }
  ASSERT_TRUE(first_.Await(1));
  EXPECT_THAT(first_.texts(), ElementsAre("good"));
  EXPECT_EQ(first->GetStats().entries_invalid, 5u);
}

TEST_F(RedisStreamTest, AnEntryThatIsFarTooLongIsSkipped) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const auto first = Start(redis.tcp_address(), &first_);
  ASSERT_TRUE(AwaitConnected(*first));
  ASSERT_TRUE(
      redis.Command({"XADD", "joins", "*", "e", std::string(2 << 20, 'x')})
          .ok());
  ASSERT_TRUE(AwaitTrue([&] { return log_.CountOf("longer than") >= 1; }));
  EXPECT_TRUE(AwaitTrue([&] {
    EXPECT_TRUE(
        redis.Command({"XADD", "joins", "*", "e", "0123456789abcdef good"})
            .ok());
    return !first_.texts().empty();
  }));
  EXPECT_EQ(log_.CountOf("longer than"), 1);
}

TEST_F(RedisStreamTest, AKeyOfAnotherTypeIsReported) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  ASSERT_TRUE(redis.Command({"SET", "joins", "text"}).ok());
  const auto first = Start(redis.tcp_address(), &first_);
  const auto second = Start(redis.tcp_address(), &second_);
  ASSERT_TRUE(first->Append("lost"));
  EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("WRONGTYPE") >= 2; }));
  EXPECT_TRUE(
      AwaitTrue([&] { return first->GetStats().entries_dropped == 1; }));
  ASSERT_TRUE(redis.Command({"DEL", "joins"}).ok());
  ASSERT_TRUE(first->Append("kept"));
  ASSERT_TRUE(second_.Await(1));
  EXPECT_THAT(second_.texts(), ElementsAre("kept"));
}

TEST_F(RedisStreamTest, RepliesThatAreNoneAreDropped) {
  const std::string time = "*2\r\n$1\r\n9\r\n$1\r\n0\r\n";
  const std::string entry = "*2\r\n$3\r\n1-1\r\n";
  for (const auto& [to_time, to_read] :
       std::vector<std::pair<std::string, std::string>>{
           {"+OK\r\n", ""},
           {"*1\r\n$1\r\n9\r\n", ""},
           {"*2\r\n$1\r\nx\r\n$1\r\n0\r\n", ""},
           {"*2\r\n$1\r\n9\r\n$2\r\n-1\r\n", ":1\r\n"},
           {time, "+OK\r\n"},
           {time, "*0\r\n"},
           {time, "*1\r\n:1\r\n"},
           {time, "*1\r\n*2\r\n$1\r\nj\r\n:1\r\n"},
           {time, "*1\r\n*2\r\n$1\r\nj\r\n*0\r\n"},
           {time, "*1\r\n*2\r\n$1\r\nj\r\n*1\r\n:1\r\n"},
           {time, "*1\r\n*2\r\n$1\r\nj\r\n*1\r\n*2\r\n$1\r\nx\r\n:1\r\n"},
           {time, absl::StrCat("*1\r\n*2\r\n$1\r\nj\r\n*1\r\n*2\r\n",
                               ScriptedPeer::Bulk(std::string(50, '1')),
                               ":1\r\n")}}) {
    SCOPED_TRACE(to_read);
    ScriptedPeer peer([&, say_time = to_time, say_read = to_read](
                          const ScriptedPeer::Command& command) {
      if (command[0] == "TIME") return ScriptedPeer::Say(say_time);
      if (command[0] == "XREAD") return ScriptedPeer::Say(say_read);
      return ScriptedPeer::Healthy(command);
    });
    test::LogCollector log;
    options_.log_sink = log.Sink();
    const auto stream = Start(peer.address(), &first_);
    EXPECT_TRUE(
        AwaitTrue([&] { return log.CountOf("unexpected reply") >= 1; }));
    EXPECT_TRUE(AwaitTrue([&] { return peer.accepted_count() >= 3; }));
  }
  EXPECT_THAT(first_.texts(), IsEmpty());
}

TEST(RedisStreamOptionsTest, NamesTheFieldAtFault) {
  const auto fault = [](void (*change)(RedisStreamOptions*)) {
    RedisStreamOptions options;
    options.key = "k";
    EXPECT_TRUE(options.Validate().ok());
    change(&options);
    return OptionAtFault(options.Validate());
  };
  EXPECT_EQ(fault([](RedisStreamOptions* options) { options->key = ""; }),
            "RedisStreamOptions::key");
  EXPECT_EQ(
      fault([](RedisStreamOptions* options) { options->entries_max = 0; }),
      "RedisStreamOptions::entries_max");
  EXPECT_EQ(fault([](RedisStreamOptions* options) {
              options->backlog = absl::Hours(2);
            }),
            "RedisStreamOptions::backlog");
  EXPECT_EQ(fault([](RedisStreamOptions* options) {
              options->key_lifetime = absl::Seconds(1);
            }),
            "RedisStreamOptions::key_lifetime");
  EXPECT_EQ(
      fault([](RedisStreamOptions* options) { options->entry_bytes_max = 0; }),
      "RedisStreamOptions::entry_bytes_max");
  EXPECT_EQ(fault([](RedisStreamOptions* options) {
              options->queue_entries_max = 0;
            }),
            "RedisStreamOptions::queue_entries_max");
}

}  // namespace
}  // namespace udpgate
