// Servers and proxies that speak the protocol of Redis and know less commands:
// what each of them replies, by a scripted peer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/redis/redis_disconnect_source.h"
#include "udpgate/redis/redis_key_watch.h"
#include "udpgate/redis/redis_metrics.h"
#include "udpgate/redis/redis_problem.h"
#include "udpgate/redis/redis_stream.h"
#include "udpgate/redis/resolver_fixture.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::kBackend;
using test::Resolution;
using test::ScriptedPeer;
using ::testing::HasSubstr;

using Action = ScriptedPeer::Action;
using Command = ScriptedPeer::Command;

// All that the gateway sends; a real Redis.
Action ReplyAsRedis(const Command& command) {
  if (command[0] == "GET") {
    return ScriptedPeer::Say(ScriptedPeer::Bulk("1.2.3.4:5"));
  }
  if (command[0] == "TIME") {
    return ScriptedPeer::Say(absl::StrCat(
        "*2\r\n", ScriptedPeer::Bulk("1700000000"), ScriptedPeer::Bulk("5")));
  }
  if (command[0] == "XRANGE") return ScriptedPeer::Say("*0\r\n");
  if (command[0] == "XREAD") {
    // A reply that is due later would be the peer's only one.
    const bool blocks = std::count(command.begin(), command.end(), "BLOCK") > 0;
    return blocks ? Action() : ScriptedPeer::Say("*-1\r\n");
  }
  if (command[0] == "XADD") {
    return ScriptedPeer::Say(ScriptedPeer::Bulk("1700000000000-0"));
  }
  if (command[0] == "PEXPIRE") return ScriptedPeer::Say(":1\r\n");
  return ScriptedPeer::Healthy(command);
}

bool IsOneOf(const std::string& name, std::vector<std::string> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

struct Product {
  const char* name;
  std::function<Action(const Command&)> reply;
  // Of the channel and of the stream: the reason, and a part of the log line.
  RedisProblem channel;
  const char* channel_text;
  RedisProblem stream;
  const char* stream_text;
};

// It knows no pub/sub, no databases, no streams and no INFO, and closes the
// connection at them, without the replies that it owes.
Action ReplyAsTwemproxy(const Command& command) {
  if (IsOneOf(command[0], {"PING", "GET", "GETRANGE", "PEXPIRE"})) {
    return ReplyAsRedis(command);
  }
  return ScriptedPeer::SayAndClose("");
}

// With this text instead of a reply to what a proxy does not know.
std::function<Action(const Command&)> ReplyAsProxy(
    std::function<std::string(const Command&)> error) {
  return [error = std::move(error)](const Command& command) {
    if (IsOneOf(command[0], {"PING", "GET", "GETRANGE"})) {
      return ReplyAsRedis(command);
    }
    return ScriptedPeer::Say(absl::StrCat("-", error(command), "\r\n"));
  };
}

std::vector<Product> Products() {
  constexpr auto kUnsupported = RedisProblem::kUnsupported;
  constexpr auto kNone = RedisProblem::kNone;
  return {
      {"Twemproxy", ReplyAsTwemproxy, kUnsupported,
       "closed the connection at SUBSCRIBE; does the server support it?",
       kUnsupported, "closed the connection at TIME"},
      {"Envoy", ReplyAsProxy([](const Command& command) {
         return absl::StrCat("ERR unknown command '",
                             absl::AsciiStrToLower(command[0]),
                             "', with args beginning with: ", command.back());
       }),
       kUnsupported, "ERR unknown command \\'subscribe\\'", kUnsupported,
       "ERR unknown command \\'time\\'"},
      {"OldEnvoy", ReplyAsProxy([](const Command& command) {
         return absl::StrCat("unsupported command '",
                             absl::AsciiStrToLower(command[0]), "'");
       }),
       kUnsupported, "unsupported command \\'subscribe\\'", kUnsupported,
       "unsupported command \\'time\\'"},
      {"Codis", ReplyAsProxy([](const Command& command) {
         return absl::StrCat("ERR handle request, command '", command[0],
                             "' is not allowed");
       }),
       kUnsupported, "command \\'SUBSCRIBE\\' is not allowed", kUnsupported,
       "command \\'TIME\\' is not allowed"},
      {"Upstash",
       [](const Command& command) {
         if (command[0] != "SUBSCRIBE") return ReplyAsRedis(command);
         return ScriptedPeer::Say(
             "-ERR Command is not available: 'SUBSCRIBE'\r\n");
       },
       kUnsupported, "ERR Command is not available: \\'SUBSCRIBE\\'", kNone,
       "reads stream"},
      {"RightsForGetAlone", ReplyAsProxy([](const Command& command) {
         return absl::StrCat("NOPERM User gate has no permissions to run the '",
                             absl::AsciiStrToLower(command[0]), "' command");
       }),
       RedisProblem::kPermission, "\\'subscribe\\' command",
       RedisProblem::kPermission, "\\'time\\' command"},
      {"NoXread",
       [](const Command& command) {
         if (command[0] != "XREAD") return ReplyAsRedis(command);
         return ScriptedPeer::Say("-ERR unknown command `XREAD`\r\n");
       },
       kNone, "subscribed to", kUnsupported, "ERR unknown command `XREAD`"},
      {"NoPing",
       [](const Command& command) {
         if (command[0] != "PING") return ReplyAsRedis(command);
         return ScriptedPeer::Say("-ERR unknown command 'PING'\r\n");
       },
       kNone, "subscribed to", kNone, "reads stream"},
      {"KeyDb",
       [](const Command& command) {
         if (command[0] != "INFO") return ReplyAsRedis(command);
         return ScriptedPeer::Say(
             ScriptedPeer::Bulk("# Replication\r\nrole:active-replica\r\n"));
       },
       kNone, "subscribed to", kNone, "reads stream"},
      {"Dragonfly",
       [](const Command& command) {
         if (command[0] != "INFO") return ReplyAsRedis(command);
         return ScriptedPeer::Say(ScriptedPeer::Bulk(
             "# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"
             "master_replid:8b2f5f61c8d4e50e5d0e5c0c8ef4d4ab1d1b9c11\r\n"));
       },
       kNone, "subscribed to", kNone, "reads stream"},
  };
}

// The labels of those values of udpgate_redis_problem that are 1.
std::map<std::string, std::string> ProblemsOf(
    const std::vector<HostMetric>& metrics) {
  std::map<std::string, std::string> problems;
  for (const HostMetric& metric : metrics) {
    if (metric.name != "udpgate_redis_problem" || metric.value == 0) continue;
    problems[metric.labels[0].second] += metric.labels[1].second;
  }
  return problems;
}

class RedisAlikeTest : public test::RedisBackendResolverTest,
                       public ::testing::WithParamInterface<Product> {
 protected:
  RedisAlikeTest() {
    options_.reconnect_backoff_max = absl::Milliseconds(160);
    options_.disconnect_stream = "events";
    options_.address = peer_.address();
  }

  Action Reply(const Command& command) {
    internal::MutexLock lock(&mutex_);
    const bool is_first = command[0] == "SUBSCRIBE" || command[0] == "XRANGE";
    if (is_first) times_[command[0]].push_back(absl::Now());
    return is_redis_ ? ReplyAsRedis(command) : GetParam().reply(command);
  }
  std::vector<absl::Time> times(const std::string& name) const {
    internal::MutexLock lock(&mutex_);
    const auto found = times_.find(name);
    return found == times_.end() ? std::vector<absl::Time>() : found->second;
  }
  void BecomeRedis() {
    internal::MutexLock lock(&mutex_);
    is_redis_ = true;
  }

  // That the attempts of which each sends this command grow apart.
  void ExpectBackoff(const std::string& name) {
    constexpr size_t kAttempts = 9;
    ASSERT_TRUE(AwaitTrue([&] { return times(name).size() >= kAttempts; }));
    const std::vector<absl::Time> at = times(name);
    // 5, 10, 20, 40, 80, 160, 160 ms, each shortened by half at most.
    EXPECT_GE(at[kAttempts - 1] - at[0], absl::Milliseconds(475) / 2) << name;
    for (size_t i = 7; i < at.size(); ++i) {
      EXPECT_GE(at[i] - at[i - 1], absl::Milliseconds(79)) << name << i;
    }
  }
  int WarningsOf(absl::string_view connection) const {
    int count = 0;
    for (const std::string& line : log_.lines()) {
      if (absl::StartsWith(line, "warn") &&
          absl::StrContains(line, connection)) {
        ++count;
      }
    }
    return count;
  }

  mutable internal::Mutex mutex_;
  bool is_redis_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, std::vector<absl::Time>> times_ ABSL_GUARDED_BY(mutex_);
  ScriptedPeer peer_{[this](const Command& command) { return Reply(command); }};
};

TEST_P(RedisAlikeTest, ServesNewClientsAndSaysOnceWhatIsMissing) {
  const Product& product = GetParam();
  const auto resolver = MakeConnected(peer_.address());
  auto source = RedisDisconnectSource::Create(options_, lookup_);
  ASSERT_TRUE(source.ok());
  ASSERT_TRUE((*source)->Start([](absl::StatusOr<DisconnectTarget>) {}).ok());
  const std::pair<RedisProblem, const char*> halves[] = {
      {product.channel, "SUBSCRIBE"}, {product.stream, "XRANGE"}};
  std::map<std::string, std::string> expected;
  for (const auto& [problem, command] : halves) {
    if (problem == RedisProblem::kNone) continue;
    ExpectBackoff(command);
    EXPECT_FALSE((*source)->Health().ok());
    expected[command == std::string("XRANGE") ? "disconnect_stream"
                                              : "disconnect_channel"] =
        std::string(RedisProblemName(problem));
  }
  if (expected.empty()) {
    EXPECT_TRUE(AwaitTrue([&] { return (*source)->Health().ok(); }));
  }
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  }
  EXPECT_TRUE(resolver->Health().ok());
  EXPECT_TRUE(
      AwaitTrue([&] { return log_.CountOf(product.channel_text) == 1; }));
  EXPECT_TRUE(
      AwaitTrue([&] { return log_.CountOf(product.stream_text) == 1; }));
  EXPECT_EQ(WarningsOf("(backend key)"), 0);
  EXPECT_EQ(WarningsOf("(disconnect channel)"),
            product.channel == RedisProblem::kNone ? 0 : 1);
  EXPECT_EQ(WarningsOf("(disconnect stream)"),
            product.stream == RedisProblem::kNone ? 0 : 1);
  EXPECT_TRUE(AwaitTrue([&] {
    return ProblemsOf(RedisMetrics(*resolver, **source)) == expected;
  }));
  EXPECT_EQ(peer_.command_count("SELECT"), 0);

  BecomeRedis();
  EXPECT_TRUE(AwaitTrue([&] { return (*source)->Health().ok(); }));
  EXPECT_TRUE(ProblemsOf(RedisMetrics(*resolver, **source)).empty());
  EXPECT_EQ(log_.CountOf("): subscribed to channel"), 1);
  EXPECT_EQ(log_.CountOf("): reads stream"), 1);
}

INSTANTIATE_TEST_SUITE_P(All, RedisAlikeTest, ::testing::ValuesIn(Products()),
                         [](const ::testing::TestParamInfo<Product>& product) {
                           return std::string(product.param.name);
                         });

using RedisAlikeResolverTest = test::RedisBackendResolverTest;

// A proxy that accepts everything but cannot reach its server.
TEST_F(RedisAlikeResolverTest, BacksOffIfTheServerClosesAtEachGet) {
  options_.reconnect_backoff_min = absl::Milliseconds(40);
  options_.reconnect_backoff_max = absl::Seconds(5);
  options_.reconnect_patience = absl::Milliseconds(200);
  std::atomic<bool> is_bad{true};
  const ScriptedPeer peer([&](const Command& command) {
    if (command[0] == "GET" && is_bad) return ScriptedPeer::SayAndClose("");
    return ReplyAsRedis(command);
  });
  const auto resolver = MakeConnected(peer.address());
  EXPECT_THAT(Resolution(resolver.get()).Await(),
              HasSubstr("closed the connection at GET"));
  const absl::Time begin = absl::Now();
  const int before = peer.accepted_count();
  while (absl::Now() - begin < absl::Milliseconds(600)) {
    EXPECT_NE(Resolution(resolver.get()).AwaitCode(), absl::StatusCode::kOk);
  }
  // New clients shorten the wait at first alone: without a limit there would be
  // one attempt each 40 ms. The waits are 160, 320 ms, halved at most.
  EXPECT_LE(peer.accepted_count() - before, 5);
  EXPECT_EQ(log_.CountOf("closed the connection at GET"), 1);
  EXPECT_EQ(log_.CountOf("backends come from"), 1);
  EXPECT_EQ(resolver->GetStats().problem, RedisProblem::kUnsupported);
  is_bad = false;
  EXPECT_TRUE(AwaitBackend(resolver.get(), kBackend));
  EXPECT_EQ(log_.CountOf("backends come from"), 2);
  EXPECT_EQ(resolver->GetStats().problem, RedisProblem::kNone);
}

// Closes the connection at the first commands of this name, and then does not
// reply to it: an attempt that lasts.
class LastingAttempt {
 public:
  explicit LastingAttempt(std::string command) : command_(std::move(command)) {}
  const std::string& address() const { return peer_.address(); }
  bool Await() const {
    return AwaitTrue([&] { return peer_.command_count(command_) == 3; });
  }

 private:
  Action Reply(const Command& command) {
    if (command[0] != command_) {
      // What follows an open command has no reply either.
      const bool is_answered = count_ <= 2 || command[0] == "PING";
      return is_answered ? ReplyAsRedis(command) : Action();
    }
    return ++count_ <= 2 ? ScriptedPeer::SayAndClose("") : Action();
  }

  const std::string command_;
  int count_ = 0;
  const ScriptedPeer peer_{
      [this](const Command& command) { return Reply(command); }};
};

// `/readyz` must not say something else now and then.
TEST_F(RedisAlikeResolverTest, TheReasonStaysDuringTheNextAttempt) {
  options_.command_timeout = absl::Seconds(30);
  options_.disconnect_stream = "events";
  for (const char* command : {"SUBSCRIBE", "TIME"}) {
    const LastingAttempt peer(command);
    options_.address = peer.address();
    auto source = RedisDisconnectSource::Create(options_, lookup_);
    ASSERT_TRUE(source.ok());
    ASSERT_TRUE((*source)->Start([](absl::StatusOr<DisconnectTarget>) {}).ok());
    ASSERT_TRUE(peer.Await());
    const std::string reason =
        absl::StrCat("closed the connection at ", command);
    EXPECT_THAT((*source)->Health().ToString(), HasSubstr(reason));
  }
  {
    const LastingAttempt peer("GETRANGE");
    options_.address = peer.address();
    RedisKeyWatchOptions watch_options;
    watch_options.key = "status";
    auto watch = RedisKeyWatch::Create(options_, watch_options, lookup_);
    ASSERT_TRUE(watch.ok());
    ASSERT_TRUE((*watch)->Start([](absl::optional<std::string>) {}).ok());
    ASSERT_TRUE(peer.Await());
    EXPECT_THAT((*watch)->Health().ToString(),
                HasSubstr("closed the connection at GETRANGE"));
  }
  const LastingAttempt peer("XREAD");
  options_.address = peer.address();
  RedisStreamOptions stream_options;
  stream_options.key = "joins";
  auto stream = RedisStream::Create(options_, stream_options, lookup_);
  ASSERT_TRUE(stream.ok());
  ASSERT_TRUE((*stream)->Start([](absl::string_view, absl::Duration) {}).ok());
  ASSERT_TRUE(peer.Await());
  EXPECT_THAT((*stream)->Health().ToString(),
              HasSubstr("closed the connection"));
}

TEST_F(RedisAlikeResolverTest, ADatabaseNeedsSelect) {
  const ScriptedPeer peer(ReplyAsTwemproxy);
  options_.database = 1;
  const auto resolver = Make(peer.address());
  EXPECT_TRUE(AwaitTrue([&] {
    return log_.CountOf("does the server expect TLS, or not support SELECT?");
  }));
  EXPECT_TRUE(AwaitTrue([&] { return peer.accepted_count() >= 5; }));
  EXPECT_EQ(log_.CountOf("warn"), 1);
}

TEST_F(RedisAlikeResolverTest, SaysThatTheServerHasNoPassword) {
  const ScriptedPeer peer([](const Command& command) {
    if (command[0] != "AUTH") return ReplyAsTwemproxy(command);
    return ScriptedPeer::Say(
        "-ERR Client sent AUTH, but no password is set\r\n");
  });
  options_.password = "secret";
  const auto resolver = Make(peer.address());
  EXPECT_TRUE(AwaitTrue([&] {
    return log_.CountOf("login rejected: ERR (the server has no password)") ==
           1;
  }));
  EXPECT_EQ(resolver->GetStats().problem, RedisProblem::kLogin);
}

// Of the gateways' own stream, too, the reason appears once.
TEST_F(RedisAlikeResolverTest, SaysOnceThatJoinsCannotBeShared) {
  const std::pair<const char*, std::function<Action(const Command&)>> kinds[] =
      {{"twemproxy", ReplyAsTwemproxy},
       {"envoy", ReplyAsProxy([](const Command& command) {
          return absl::StrCat("ERR unknown command '", command[0], "'");
        })}};
  for (const auto& [name, reply] : kinds) {
    SCOPED_TRACE(name);
    test::LogCollector log;
    options_.log_sink = log.Sink();
    options_.reconnect_backoff_max = absl::Milliseconds(20);
    std::atomic<bool> is_redis{false};
    const ScriptedPeer peer([&, answer = reply](const Command& command) {
      return is_redis ? ReplyAsRedis(command) : answer(command);
    });
    options_.address = peer.address();
    RedisStreamOptions stream_options;
    stream_options.key = "joins";
    auto stream = RedisStream::Create(options_, stream_options, lookup_);
    ASSERT_TRUE(stream.ok());
    ASSERT_TRUE(
        (*stream)->Start([](absl::string_view, absl::Duration) {}).ok());
    EXPECT_TRUE(AwaitTrue([&] {
      (*stream)->Append("a join");
      return peer.command_count("XADD") >= 5 && peer.command_count("TIME") >= 5;
    }));
    EXPECT_EQ(log.CountOf("warn"), 2);
    EXPECT_EQ(log.CountOf("(stream, reading)"), 1);
    EXPECT_TRUE(AwaitTrue([&] {
      const RedisStreamStats stats = (*stream)->GetStats();
      return stats.read_problem == RedisProblem::kUnsupported &&
             stats.write_problem == RedisProblem::kUnsupported &&
             !stats.is_reading && !stats.is_writing;
    }));
    is_redis = true;
    EXPECT_TRUE(AwaitTrue([&] {
      (*stream)->Append("a join");
      const RedisStreamStats stats = (*stream)->GetStats();
      return stats.is_reading && stats.is_writing;
    }));
    EXPECT_EQ(log.CountOf("info"), 3) << ::testing::PrintToString(log.lines());
  }
}

}  // namespace
}  // namespace udpgate
