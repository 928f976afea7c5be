// With a real redis-server, and with a peer that is slow.
#include "udpgate/redis/redis_event_stream.h"

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/redis_server.h"
#include "udpgate/option_error.h"
#include "udpgate/redis/internal/log_collector.h"
#include "udpgate/redis/internal/scripted_peer.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::RedisServer;
using test::ScriptedPeer;
using ::testing::ElementsAre;
using ::testing::SizeIs;

constexpr char kKey[] = "udp_gate:events";

SessionEvent Event(SessionEvent::Kind kind, uint64_t session_id = 257) {
  SessionEvent event;
  event.kind = kind;
  event.session_id = session_id;
  event.end_reason = EndReason::kIdle;
  event.client = *SocketAddress::Parse("[2001:db8::7]:54321");
  event.local = *SocketAddress::Parse("[2001:db8::1]:19132");
  event.backend = *SocketAddress::Parse("10.0.0.5:19133");
  event.relay = *SocketAddress::Parse("10.0.0.1:40123");
  event.age = absl::Milliseconds(61500);
  event.client_datagrams_forwarded = 1;
  event.client_bytes_forwarded = 2;
  event.backend_datagrams_forwarded = 3;
  event.backend_bytes_forwarded = 4;
  return event;
}

class RedisEventStreamTest : public ::testing::Test {
 protected:
  RedisEventStreamTest() {
    lookup_ = *HostLookup::Create({});
    options_.log_sink = log_.Sink();
    options_.command_timeout = absl::Seconds(10);
    options_.reconnect_backoff_min = absl::Milliseconds(5);
    options_.reconnect_backoff_max = absl::Milliseconds(50);
    stream_options_.key = kKey;
    stream_options_.gateway_id = "gateway-1";
  }

  std::shared_ptr<RedisEventStream> Start(absl::string_view address) {
    options_.address = std::string(address);
    auto stream = RedisEventStream::Create(options_, stream_options_, lookup_);
    EXPECT_TRUE(stream.ok()) << stream.status();
    const absl::Status started = (*stream)->Start();
    EXPECT_TRUE(started.ok()) << started;
    return *std::move(stream);
  }
  static void Observe(RedisEventStream* stream, int count) {
    for (int i = 0; i < count; ++i) {
      stream->Observe(
          Event(SessionEvent::Kind::kOpened, static_cast<uint64_t>(i)));
    }
  }
  static bool AwaitWritten(const RedisEventStream& stream, uint64_t count) {
    return AwaitTrue([&] { return stream.GetStats().events_written >= count; });
  }
  // Each entry: its id, fields and values.
  static std::vector<std::string> Read(const RedisServer& redis,
                                       const std::string& count) {
    return absl::StrSplit(
        redis.Command({"XRANGE", kKey, "-", "+", "COUNT", count})
            .value_or("error"),
        '\n');
  }
  static int64_t Length(const RedisServer& redis) {
    int64_t length = -1;
    EXPECT_TRUE(
        absl::SimpleAtoi(redis.Command({"XLEN", kKey}).value_or("x"), &length));
    return length;
  }

  test::LogCollector log_;
  std::shared_ptr<HostLookup> lookup_;
  RedisOptions options_;
  RedisEventStreamOptions stream_options_;
};

class RedisEventStreamServerTest : public RedisEventStreamTest {
 protected:
  void SetUp() override { ASSERT_TRUE(redis_.Start().ok()); }

  RedisServer redis_;
};

TEST_F(RedisEventStreamServerTest, AnEntrySaysWhatTheSessionLogSays) {
  const auto stream = Start(redis_.tcp_address());
  const absl::Time before = absl::Now() - absl::Seconds(10);
  SessionEvent event = Event(SessionEvent::Kind::kEnded);
  event.delay = absl::Seconds(10);
  stream->Observe(event);
  ASSERT_TRUE(AwaitWritten(*stream, 1));
  std::vector<std::string> entry = Read(redis_, "1");
  ASSERT_THAT(entry, SizeIs(1 + 30));
  EXPECT_EQ(entry[1], "time");
  // When it happened, not when it was written.
  absl::Time time;
  ASSERT_TRUE(absl::ParseTime(absl::RFC3339_full, entry[2], &time, nullptr));
  EXPECT_GE(time, before - absl::Milliseconds(1));
  EXPECT_LT(time, before + absl::Seconds(9));
  entry.erase(entry.begin(), entry.begin() + 3);
  EXPECT_THAT(
      entry,
      ElementsAre("gateway", "gateway-1", "event", "session_ended", "session",
                  "257", "client", "[2001:db8::7]:54321", "local",
                  "[2001:db8::1]:19132", "backend", "10.0.0.5:19133", "relay",
                  "10.0.0.1:40123", "relay_port", "40123", "duration_seconds",
                  "61.500", "client_datagrams", "1", "client_bytes", "2",
                  "backend_datagrams", "3", "backend_bytes", "4", "reason",
                  "idle"));
}

TEST_F(RedisEventStreamServerTest, EventsComeInOrder) {
  const auto stream = Start(redis_.tcp_address());
  Observe(stream.get(), 3000);
  EXPECT_TRUE(stream->Flush(test::kAwaitTimeout) ||
              AwaitWritten(*stream, 3000));
  std::vector<std::string> sessions;
  const std::vector<std::string> texts = Read(redis_, "3000");
  for (size_t i = 0; i + 1 < texts.size(); ++i) {
    if (texts[i] == "session") sessions.push_back(texts[i + 1]);
  }
  std::vector<std::string> expected;
  for (int i = 0; i < 3000; ++i) expected.push_back(absl::StrCat(i));
  EXPECT_EQ(sessions, expected);
}

TEST_F(RedisEventStreamServerTest, TheStreamIsBoundedAndStays) {
  stream_options_.entries_max = 100;
  const auto stream = Start(redis_.tcp_address());
  Observe(stream.get(), 2000);
  ASSERT_TRUE(AwaitWritten(*stream, 2000));
  // Redis trims whole nodes of 100 entries (stream-node-max-entries).
  EXPECT_LE(Length(redis_), 300);
  EXPECT_EQ(redis_.Command({"PTTL", kKey}).value_or("error"), "-1");
}

TEST_F(RedisEventStreamServerTest, EventsOfAnOutageAreWrittenAfterIt) {
  stream_options_.queue_events_max = 10;
  const auto stream = Start(redis_.tcp_address());
  Observe(stream.get(), 1);
  ASSERT_TRUE(AwaitWritten(*stream, 1));
  redis_.Kill();
  ASSERT_TRUE(AwaitTrue([&] { return !stream->GetStats().is_writing; }));
  Observe(stream.get(), 15);
  EXPECT_EQ(stream->GetStats().events_waiting, 10);
  EXPECT_EQ(stream->GetStats().events_dropped, 5u);
  EXPECT_FALSE(stream->Flush(test::kAwaitTimeout));
  ASSERT_TRUE(redis_.Restart().ok());
  ASSERT_TRUE(AwaitWritten(*stream, 11));
  EXPECT_EQ(Length(redis_), 10);
}

TEST_F(RedisEventStreamServerTest, FlushWaitsUntilRedisHasAll) {
  const auto stream = Start(redis_.tcp_address());
  Observe(stream.get(), 1);
  ASSERT_TRUE(AwaitWritten(*stream, 1));
  Observe(stream.get(), 2000);
  EXPECT_TRUE(stream->Flush(test::kAwaitTimeout));
  EXPECT_EQ(Length(redis_), 2001);
}

// Each by what causes it, what ends it, and what the log says once.
TEST_F(RedisEventStreamServerTest, AnErrorIsSaidOnceAndCounted) {
  options_.username = "gate";
  options_.password = "password";
  ASSERT_TRUE(redis_
                  .Command({"ACL", "SETUSER", "gate", "on", ">password", "~*",
                            "-@all", "+ping", "+info"})
                  .ok());
  const auto stream = Start(redis_.tcp_address());
  struct Case {
    std::vector<std::string> cause;
    std::vector<std::string> end;
    std::string said;
  };
  uint64_t dropped = 0;
  uint64_t written = 0;
  for (const Case& test_case : std::vector<Case>{
           {{"PING"}, {"ACL", "SETUSER", "gate", "+xadd"}, "NOPERM"},
           {{"CONFIG", "SET", "maxmemory", "1"},
            {"CONFIG", "SET", "maxmemory", "0"},
            "OOM"},
           {{"REPLICAOF", "127.0.0.1", "1"},
            {"REPLICAOF", "NO", "ONE"},
            "READONLY"},
           {{"SET", kKey, "text"}, {"DEL", kKey}, "WRONGTYPE"}}) {
    SCOPED_TRACE(test_case.said);
    ASSERT_TRUE(redis_.Command(test_case.cause).ok());
    dropped += 20;
    Observe(stream.get(), 20);
    ASSERT_TRUE(AwaitTrue(
        [&] { return stream->GetStats().events_dropped == dropped; }));
    EXPECT_FALSE(stream->GetStats().is_writing);
    ASSERT_TRUE(redis_.Command(test_case.end).ok());
    Observe(stream.get(), 1);
    ASSERT_TRUE(AwaitWritten(*stream, ++written));
    EXPECT_TRUE(AwaitTrue([&] { return stream->GetStats().is_writing; }));
    EXPECT_LE(log_.CountOf(test_case.said), 1);
    // At most one such line in two seconds.
    ASSERT_TRUE(redis_.Command({"DEL", kKey}).ok());
  }
  EXPECT_EQ(log_.CountOf("NOPERM"), 1);
}

TEST_F(RedisEventStreamTest, ASlowServerCostsEventsAlone) {
  stream_options_.queue_events_max = 100;
  ScriptedPeer peer([](const ScriptedPeer::Command& command) {
    return command[0] == "XADD" ? ScriptedPeer::SayNothing()
                                : ScriptedPeer::Healthy(command);
  });
  const auto stream = Start(peer.address());
  ASSERT_TRUE(AwaitTrue([&] { return stream->GetStats().is_writing; }));
  EXPECT_TRUE(AwaitTrue([&] {
    Observe(stream.get(), 100);
    return peer.command_count("XADD") == 1024;
  }));
  Observe(stream.get(), 200);
  EXPECT_EQ(stream->GetStats().events_waiting, 100);
  EXPECT_GE(stream->GetStats().events_dropped, 100u);
  EXPECT_FALSE(stream->Flush(absl::Milliseconds(10)));
  // What still waits at the end is counted, too.
  const uint64_t dropped = stream->GetStats().events_dropped;
  stream->Stop();
  EXPECT_EQ(stream->GetStats().events_dropped, dropped + 100);
}

TEST_F(RedisEventStreamTest, AReplyToNothingEndsTheConnection) {
  ScriptedPeer peer(ScriptedPeer::Healthy);
  const auto stream = Start(peer.address());
  ASSERT_TRUE(AwaitTrue([&] { return stream->GetStats().is_writing; }));
  peer.SayToAll("+OK\r\n");
  EXPECT_TRUE(AwaitTrue([&] { return peer.accepted_count() >= 2; }));
}

TEST(RedisEventStreamOptionsTest, NamesTheFieldAtFault) {
  const auto fault = [](void (*change)(RedisEventStreamOptions*)) {
    RedisEventStreamOptions options;
    options.key = "k";
    EXPECT_TRUE(options.Validate().ok());
    change(&options);
    return OptionAtFault(options.Validate());
  };
  using Options = RedisEventStreamOptions;
  const std::string prefix = "RedisEventStreamOptions::";
  EXPECT_EQ(fault([](Options* options) { options->key = ""; }), prefix + "key");
  EXPECT_EQ(fault([](Options* options) {
              options->gateway_id = std::string(257, 'a');
            }),
            prefix + "gateway_id");
  EXPECT_EQ(fault([](Options* options) { options->entries_max = 0; }),
            prefix + "entries_max");
  EXPECT_EQ(fault([](Options* options) { options->queue_events_max = 0; }),
            prefix + "queue_events_max");
}

}  // namespace
}  // namespace udpgate
