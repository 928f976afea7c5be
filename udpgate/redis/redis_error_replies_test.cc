// Each error that Redis documents, as the reply to each command that the
// gateway sends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/redis/redis_disconnect_source.h"
#include "udpgate/redis/redis_problem.h"
#include "udpgate/redis/resolver_fixture.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::kBackend;
using test::kFailedPrecondition;
using test::kUnavailable;
using test::Resolution;
using test::ScriptedPeer;
using ::testing::AnyOf;
using ::testing::HasSubstr;

struct ErrorKind {
  const char* kind;
  const char* rest;
};

// https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors,
// the pages of the commands, and src/server.c of Redis 7 (createSharedObjects).
constexpr ErrorKind kErrors[] = {
    {"ERR", "internal error"},
    {"WRONGTYPE", "Operation against a key holding the wrong kind of value"},
    {"NOAUTH", "Authentication required."},
    {"WRONGPASS", "invalid username-password pair or user is disabled."},
    {"NOPERM", "this user has no permissions to run the command"},
    {"CROSSSLOT", "Keys in request don't hash to the same slot"},
    {"LOADING", "Redis is loading the dataset in memory"},
    {"BUSY", "Redis is busy running a script. You can only call SCRIPT KILL"},
    {"BUSYKEY", "Target key name already exists."},
    {"BUSYGROUP", "Consumer Group name already exists"},
    {"NOGROUP", "No such key or consumer group"},
    {"NOSCRIPT", "No matching script. Please use EVAL."},
    {"MISCONF", "Redis is configured to save RDB snapshots, but it cannot"},
    {"READONLY", "You can't write against a read only replica."},
    {"NOREPLICAS", "Not enough good replicas to write."},
    {"OOM", "command not allowed when used memory > 'maxmemory'."},
    {"EXECABORT", "Transaction discarded because of previous errors."},
    {"MASTERDOWN", "Link with MASTER is down and replica-serve-stale-data"},
    {"UNKILLABLE", "Sorry the script already executed write commands"},
    {"NOTBUSY", "No scripts in execution right now."},
    {"NOPROTO", "unsupported protocol version"},
    {"NOMASTERLINK", "Can't SYNC while not connected with my master"},
    {"NOGOODSLAVE", "No suitable replica to promote"},
    {"INPROG", "Failover already in progress"},
    {"UNBLOCKED", "force unblock from blocking operation"},
    {"IOERR", "error or timeout reading to target instance"},
    {"DENIED", "Redis is running in protected mode"},
    // Of a Cluster, by a server that said it was none.
    {"MOVED", "866 127.0.0.1:7002"},
    {"ASK", "866 127.0.0.1:7002"},
    {"CLUSTERDOWN", "Hash slot not served"},
    {"TRYAGAIN", "Multiple keys request during rehashing of slot"},
};

RedisProblem ProblemOf(absl::string_view kind) {
  if (kind == "NOAUTH" || kind == "WRONGPASS") return RedisProblem::kLogin;
  return kind == "NOPERM" ? RedisProblem::kPermission : RedisProblem::kError;
}

class RedisErrorReplyTest : public test::RedisBackendResolverTest,
                            public ::testing::WithParamInterface<ErrorKind> {
 protected:
  RedisErrorReplyTest() {
    options_.address = peer_.address();
    options_.reconnect_backoff_max = absl::Milliseconds(20);
  }

  static std::string kind() { return GetParam().kind; }

  // From now on the reply to `command`.
  void FailAt(const std::string& command, const ErrorKind& error) {
    internal::MutexLock lock(&mutex_);
    failing_ = command;
    error_ = absl::StrCat("-", error.kind, " ", error.rest, "\r\n");
  }
  void Recover() {
    internal::MutexLock lock(&mutex_);
    failing_.clear();
  }
  ScriptedPeer::Action Reply(const ScriptedPeer::Command& command) {
    internal::MutexLock lock(&mutex_);
    if (command[0] == failing_) return ScriptedPeer::Say(error_);
    if (command[0] == "GET") {
      return ScriptedPeer::Say(ScriptedPeer::Bulk("1.2.3.4:5"));
    }
    if (command[0] == "TIME") {
      return ScriptedPeer::Say("*2\r\n$10\r\n1764457501\r\n$1\r\n0\r\n");
    }
    if (command[0] == "XRANGE") return ScriptedPeer::Say("*0\r\n");
    if (command[0] == "XREAD" && command[3] != "BLOCK") {
      return ScriptedPeer::Say("*-1\r\n");
    }
    return ScriptedPeer::Healthy(command);
  }

  // That a source which gets the error says so, and works afterwards.
  void ExpectSourceSaysIt(const std::string& command, bool is_stream) {
    FailAt(command, GetParam());
    auto source = RedisDisconnectSource::Create(options_, lookup_);
    ASSERT_TRUE(source.ok());
    ASSERT_TRUE((*source)->Start([](absl::StatusOr<DisconnectTarget>) {}).ok());
    ASSERT_TRUE(AwaitTrue([&] { return peer_.command_count(command) >= 3; }));
    EXPECT_TRUE(AwaitTrue([&] {
      return absl::StrContains((*source)->Health().ToString(), kind());
    })) << (*source)->Health();
    EXPECT_EQ(log_.CountOf(absl::StrCat("replied \"", kind(), " ")), 1);
    const RedisDisconnectSourceStats stats = (*source)->GetStats();
    EXPECT_EQ(is_stream ? stats.stream_problem : stats.channel_problem,
              ProblemOf(kind()));
    Recover();
    EXPECT_TRUE(AwaitTrue([&] { return (*source)->Health().ok(); }));
    // The line about it comes after it.
    const int lines = is_stream ? 2 : 1;
    EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("info:") >= lines; }));
    EXPECT_EQ(log_.CountOf("info:"), lines);
  }

  // That a resolver whose login gets the error says so, and works afterwards.
  void ExpectLoginFails(const std::string& command) {
    FailAt(command, GetParam());
    const auto resolver = Make(peer_.address());
    ASSERT_TRUE(AwaitTrue([&] { return peer_.accepted_count() >= 3; }));
    EXPECT_THAT(resolver->Health().ToString(), HasSubstr(kind()));
    const Resolution resolution(resolver.get());
    EXPECT_THAT(resolution.AwaitCode(),
                AnyOf(kUnavailable, kFailedPrecondition));
    EXPECT_THAT(resolution.Await(), HasSubstr(kind()));
    EXPECT_EQ(log_.CountOf(kind()), 1);
    EXPECT_EQ(log_.CountOf("warn:"), 1);
    EXPECT_EQ(resolver->GetStats().problem,
              command == "AUTH" ? RedisProblem::kLogin : ProblemOf(kind()));
    Recover();
    EXPECT_TRUE(AwaitBackend(resolver.get(), kBackend));
    EXPECT_EQ(resolver->GetStats().problem, RedisProblem::kNone);
    EXPECT_EQ(log_.CountOf("info:"), 1);
  }

  internal::Mutex mutex_;
  std::string failing_ ABSL_GUARDED_BY(mutex_);
  std::string error_ ABSL_GUARDED_BY(mutex_);
  ScriptedPeer peer_{
      [this](const ScriptedPeer::Command& command) { return Reply(command); }};
};

TEST_P(RedisErrorReplyTest, ToGetFailsNewClients) {
  const auto resolver = MakeConnected(peer_.address());
  ASSERT_EQ(Resolution(resolver.get()).Await(), kBackend);
  FailAt("GET", GetParam());
  for (int i = 0; i < 3; ++i) {
    const Resolution resolution(resolver.get());
    EXPECT_THAT(resolution.Await(), HasSubstr(kind()));
    // The first is dropped as invalid_backend, the others as resolve_failed.
    if (kind() == "WRONGTYPE") {
      EXPECT_EQ(resolution.AwaitCode(), absl::StatusCode::kInvalidArgument);
    } else {
      EXPECT_THAT(resolution.AwaitCode(),
                  AnyOf(kUnavailable, kFailedPrecondition));
    }
  }
  EXPECT_TRUE(AwaitTrue([&] {
    return absl::StrContains(resolver->Health().ToString(), kind());
  }));
  // The key is wrong then, of which the proxy's line about the drop tells.
  EXPECT_EQ(log_.CountOf(kind()), kind() == "WRONGTYPE" ? 0 : 1);
  Recover();
  EXPECT_TRUE(AwaitBackend(resolver.get(), kBackend));
  EXPECT_TRUE(resolver->Health().ok());
  EXPECT_EQ(resolver->GetStats().problem, RedisProblem::kNone);
}

TEST_P(RedisErrorReplyTest, ToGetGivesTheLastKnownBackend) {
  options_.stale_backend_age_max = absl::Hours(1);
  const auto resolver = MakeConnected(peer_.address());
  ASSERT_EQ(Resolution(resolver.get()).Await(), kBackend);
  FailAt("GET", GetParam());
  for (int i = 0; i < 3; ++i) {
    const Resolution resolution(resolver.get());
    // A key of another type is no outage.
    if (kind() == "WRONGTYPE") {
      EXPECT_EQ(resolution.AwaitCode(), absl::StatusCode::kInvalidArgument);
    } else {
      EXPECT_EQ(resolution.Await(), kBackend);
    }
  }
  EXPECT_EQ(resolver->GetStats().stale_answers > 0, kind() != "WRONGTYPE");
  // After NOAUTH there is a new login, which works: until the next GET all
  // seems to be well.
  EXPECT_TRUE(AwaitTrue([&] {
    const Resolution resolution(resolver.get());
    (void)resolution.Await();
    return !resolver->Health().ok();
  }));
}

TEST_P(RedisErrorReplyTest, ToSubscribe) {
  ExpectSourceSaysIt("SUBSCRIBE", /*is_stream=*/false);
}

TEST_P(RedisErrorReplyTest, ToXread) {
  options_.disconnect_stream = "events";
  ExpectSourceSaysIt("XREAD", /*is_stream=*/true);
}

TEST_P(RedisErrorReplyTest, ToAuth) {
  options_.password = "secret";
  ExpectLoginFails("AUTH");
}

TEST_P(RedisErrorReplyTest, ToSelect) {
  options_.database = 1;
  ExpectLoginFails("SELECT");
}

TEST_P(RedisErrorReplyTest, ToPingInTheLogin) {
  // Such a user needs no PING.
  if (kind() != "NOPERM") {
    ExpectLoginFails("PING");
    return;
  }
  FailAt("PING", GetParam());
  const auto resolver = MakeConnected(peer_.address());
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
}

// Any reply shows that Redis is alive.
TEST_P(RedisErrorReplyTest, ToPingInUse) {
  options_.ping_interval = absl::Milliseconds(5);
  const auto resolver = MakeConnected(peer_.address());
  FailAt("PING", GetParam());
  const int before = peer_.command_count("PING");
  if (kind() == "NOAUTH") {
    EXPECT_TRUE(AwaitTrue([&] { return peer_.accepted_count() >= 2; }));
    Recover();
    EXPECT_TRUE(AwaitBackend(resolver.get(), kBackend));
    return;
  }
  EXPECT_TRUE(
      AwaitTrue([&] { return peer_.command_count("PING") >= before + 3; }));
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  EXPECT_EQ(peer_.accepted_count(), 1);
  EXPECT_EQ(log_.CountOf("warn:"), 0);
}

// The role is not known then, which changes nothing for clients.
TEST_P(RedisErrorReplyTest, ToInfo) {
  options_.clock = &clock_;
  options_.command_timeout = absl::Minutes(1);
  options_.ping_interval = absl::Hours(1);
  const auto resolver = MakeConnected(peer_.address());
  FailAt("INFO", GetParam());
  clock_.Advance(absl::Seconds(16));
  ASSERT_TRUE(AwaitAllQueued(resolver.get()));
  ASSERT_TRUE(AwaitTrue([&] { return peer_.command_count("INFO") == 1; }));
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  EXPECT_EQ(peer_.accepted_count(), 1);
  EXPECT_EQ(log_.CountOf("warn:"), 0);
}

std::string NameOf(const ::testing::TestParamInfo<ErrorKind>& error) {
  return error.param.kind;
}

INSTANTIATE_TEST_SUITE_P(All, RedisErrorReplyTest, ::testing::ValuesIn(kErrors),
                         NameOf);

}  // namespace
}  // namespace udpgate
