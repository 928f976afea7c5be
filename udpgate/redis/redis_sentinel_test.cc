// Sentinels that are scripted.
#include "udpgate/redis/redis_sentinel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "testing/internal/support/temporary_directory.h"
#include "udpgate/redis/redis_disconnect_source.h"
#include "udpgate/redis/redis_problem.h"
#include "udpgate/redis/resolver_fixture.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::Resolution;
using test::ScriptedPeer;
using ::testing::HasSubstr;
using ::testing::Not;

// A Redis whose backend tells which one it is.
class NamedRedis {
 public:
  explicit NamedRedis(const std::string& backend) : backend_(backend) {}
  void BecomeReplica() { is_replica_ = true; }
  ScriptedPeer& peer() { return peer_; }
  uint16_t port() const { return peer_.port(); }

 private:
  ScriptedPeer::Action Reply(const ScriptedPeer::Command& command) {
    if (command[0] == "GET") {
      return ScriptedPeer::Say(ScriptedPeer::Bulk(backend_));
    }
    if (command[0] == "INFO" && is_replica_) {
      return ScriptedPeer::Say(
          ScriptedPeer::Bulk("# Replication\r\nrole:slave\r\n"));
    }
    return ScriptedPeer::Healthy(command);
  }

  const std::string backend_;
  std::atomic<bool> is_replica_{false};
  ScriptedPeer peer_{
      [this](const ScriptedPeer::Command& command) { return Reply(command); }};
};

// Names the port that was set last; 0: it does not know the master.
class ScriptedSentinel {
 public:
  void Name(uint16_t port) { port_ = port; }
  void BeSilent() { is_silent_ = true; }
  void Announce(const std::string& master, uint16_t port) {
    peer_.SayToAll(ScriptedPeer::Message(
        "+switch-master",
        absl::StrCat(master, " 127.0.0.1 1 127.0.0.1 ", port)));
  }
  int questions() const { return peer_.command_count("SENTINEL"); }
  ScriptedPeer& peer() { return peer_; }

 private:
  ScriptedPeer::Action Reply(const ScriptedPeer::Command& command) {
    if (command[0] == "UNSUBSCRIBE") {
      return ScriptedPeer::Say(
          absl::StrCat("*3\r\n", ScriptedPeer::Bulk("unsubscribe"),
                       ScriptedPeer::Bulk(command[1]), ":0\r\n"));
    }
    if (is_silent_ && command[0] != "PING") return ScriptedPeer::SayNothing();
    if (command[0] != "SENTINEL") return ScriptedPeer::Healthy(command);
    if (port_ == 0) return ScriptedPeer::Say("*-1\r\n");
    return ScriptedPeer::Say(
        absl::StrCat("*2\r\n", ScriptedPeer::Bulk("127.0.0.1"),
                     ScriptedPeer::Bulk(absl::StrCat(port_.load()))));
  }

  std::atomic<int> port_{0};
  std::atomic<bool> is_silent_{false};
  ScriptedPeer peer_{
      [this](const ScriptedPeer::Command& command) { return Reply(command); }};
};

class RedisSentinelTest : public test::RedisBackendResolverTest {
 protected:
  RedisSentinelTest() {
    for (ScriptedSentinel* sentinel : {&one_, &two_, &three_}) {
      sentinel->Name(first_.port());
      sentinel_options_.sentinels.push_back(sentinel->peer().address());
    }
    sentinel_options_.master = "lobby";
    sentinel_options_.log_sink = log_.Sink();
    sentinel_options_.command_timeout = absl::Seconds(10);
    sentinel_options_.reconnect_backoff_min = absl::Milliseconds(1);
    sentinel_options_.reconnect_backoff_max = absl::Milliseconds(20);
  }

  std::shared_ptr<RedisBackendResolver> MakeWithSentinel() {
    auto sentinel = RedisSentinel::Create(sentinel_options_, lookup_);
    EXPECT_TRUE(sentinel.ok()) << sentinel.status();
    sentinel_ = *sentinel;
    RedisSentinel::SetSource(sentinel_, &options_);
    return Make(options_.address);
  }

  NamedRedis first_{"1.1.1.1:1"};
  NamedRedis second_{"2.2.2.2:2"};
  ScriptedSentinel one_;
  ScriptedSentinel two_;
  ScriptedSentinel three_;
  RedisSentinelOptions sentinel_options_;
  std::shared_ptr<RedisSentinel> sentinel_;
};

constexpr char kFirst[] = "1.1.1.1:1 1.1.1.1:1";
constexpr char kSecond[] = "2.2.2.2:2 2.2.2.2:2";

TEST_F(RedisSentinelTest, AsksTheFirstSentinelForTheMaster) {
  const auto resolver = MakeWithSentinel();
  ASSERT_TRUE(AwaitHealthy(resolver.get())) << resolver->Health();
  EXPECT_EQ(Resolution(resolver.get()).Await(), kFirst);
  EXPECT_EQ(first_.peer().command_count("INFO"), 1);
  EXPECT_EQ(two_.peer().accepted_count(), 0);
  EXPECT_TRUE(AwaitTrue([&] { return sentinel_->Health().ok(); }));
  EXPECT_EQ(log_.CountOf("Redis master lobby (backend key): connected"), 1)
      << ::testing::PrintToString(log_.lines());
}

TEST_F(RedisSentinelTest, BothConnectionsFollowAnAnnouncementTogether) {
  const auto resolver = MakeWithSentinel();
  ASSERT_TRUE(AwaitHealthy(resolver.get())) << resolver->Health();
  const auto source = RedisDisconnectSource::Create(options_, lookup_);
  ASSERT_TRUE(source.ok()) << source.status();
  ASSERT_TRUE((*source)->Start([](const auto&) {}).ok());
  ASSERT_TRUE(AwaitTrue([&] { return (*source)->Health().ok(); }));
  ASSERT_TRUE(AwaitTrue([&] { return sentinel_->Health().ok(); }));
  one_.Announce("other", second_.port());
  one_.Name(second_.port());
  one_.Announce("lobby", second_.port());
  EXPECT_TRUE(AwaitTrue([&] {
    return second_.peer().command_count("SUBSCRIBE") == 1 &&
           first_.peer().open_count() == 0;
  }));
  EXPECT_TRUE(AwaitBackend(resolver.get(), kSecond));
  EXPECT_EQ(second_.peer().accepted_count(), 2);
  EXPECT_EQ(log_.CountOf("is no longer the master"), 2);
  EXPECT_EQ(log_.CountOf("the master lobby is "), 1);
  (*source)->Stop();
}

TEST_F(RedisSentinelTest, AsksAgainAtEachReconnect) {
  const auto resolver = MakeWithSentinel();
  ASSERT_TRUE(AwaitHealthy(resolver.get())) << resolver->Health();
  one_.Name(second_.port());
  first_.peer().CloseAll();
  EXPECT_TRUE(AwaitBackend(resolver.get(), kSecond));
  EXPECT_EQ(one_.peer().accepted_count(), 1);
  EXPECT_EQ(one_.peer().command_count("UNSUBSCRIBE"), one_.questions() - 1);
}

TEST_F(RedisSentinelTest, AsksTheNextOneIfASentinelIsGoneOrDoesNotKnow) {
  sentinel_options_.sentinels[0] = "127.0.0.1:1";
  two_.Name(0);
  const auto resolver = MakeWithSentinel();
  ASSERT_TRUE(AwaitHealthy(resolver.get())) << resolver->Health();
  EXPECT_EQ(Resolution(resolver.get()).Await(), kFirst);
  EXPECT_EQ(two_.questions(), 1);
  EXPECT_EQ(three_.questions(), 1);
  // The one that has replied stays in front.
  three_.Name(second_.port());
  first_.peer().CloseAll();
  EXPECT_TRUE(AwaitBackend(resolver.get(), kSecond));
  EXPECT_EQ(two_.questions(), 1);
}

TEST_F(RedisSentinelTest, AsksTheNextOneIfASentinelIsSilent) {
  one_.BeSilent();
  sentinel_options_.command_timeout = absl::Milliseconds(200);
  const auto resolver = MakeWithSentinel();
  ASSERT_TRUE(AwaitHealthy(resolver.get())) << resolver->Health();
  EXPECT_GE(two_.questions(), 1);
  EXPECT_GE(log_.CountOf("(master's address): no reply within 200ms"), 1);
}

TEST_F(RedisSentinelTest, LeavesASentinelThatNamesAReplica) {
  first_.BecomeReplica();
  two_.Name(second_.port());
  const auto resolver = MakeWithSentinel();
  ASSERT_TRUE(AwaitHealthy(resolver.get())) << resolver->Health();
  EXPECT_EQ(Resolution(resolver.get()).Await(), kSecond);
  EXPECT_EQ(first_.peer().command_count("GET"), 0);
  EXPECT_GE(log_.CountOf(
                absl::StrCat("127.0.0.1:", first_.port(), " is not a master")),
            1);
}

TEST_F(RedisSentinelTest, SaysWhyThereIsNoMaster) {
  for (ScriptedSentinel* sentinel : {&one_, &two_, &three_}) sentinel->Name(0);
  options_.command_timeout = absl::Milliseconds(50);
  const auto resolver = MakeWithSentinel();
  EXPECT_TRUE(AwaitTrue(
      [&] { return log_.CountOf("no Sentinel has named the master: ") > 0; }));
  EXPECT_THAT(std::string(resolver->Health().message()),
              HasSubstr("does not know the master's name"));
  one_.Name(first_.port());
  EXPECT_TRUE(AwaitHealthy(resolver.get())) << resolver->Health();
}

TEST_F(RedisSentinelTest, LogsInAtTheSentinelsWithTheirOwnCredentials) {
  sentinel_options_.username = "watcher";
  sentinel_options_.password = "hunter-two";
  const auto resolver = MakeWithSentinel();
  ASSERT_TRUE(AwaitHealthy(resolver.get())) << resolver->Health();
  EXPECT_THAT(one_.peer().commands(), ::testing::Contains(ScriptedPeer::Command{
                                          "AUTH", "watcher", "hunter-two"}));
  EXPECT_EQ(first_.peer().command_count("AUTH"), 0);
  for (const std::string& line : log_.lines()) {
    EXPECT_THAT(line, Not(HasSubstr("hunter-two")));
  }
}

TEST_F(RedisSentinelTest, SaysThatAnAddressIsThatOfARedis) {
  const auto redis = StartRedis();
  sentinel_options_.sentinels = {redis->tcp_address()};
  const auto resolver = MakeWithSentinel();
  EXPECT_TRUE(AwaitTrue([&] {
    return log_.CountOf(
               "Redis Sentinel of lobby (master's address): replied "
               "\"ERR unknown command ") > 0;
  })) << ::testing::PrintToString(log_.lines());
}

TEST_F(RedisSentinelTest, StopsWhileItAsks) {
  for (ScriptedSentinel* sentinel : {&one_, &two_, &three_}) {
    sentinel->BeSilent();
  }
  auto resolver = MakeWithSentinel();
  ASSERT_TRUE(AwaitTrue([&] { return one_.questions() > 0; }));
  options_.address_source.reset();
  sentinel_.reset();
  EXPECT_LT(TimeToStop(std::move(resolver)), test::kStopTimeMax);
}

TEST_F(RedisSentinelTest, OptionsHaveLimits) {
  EXPECT_TRUE(sentinel_options_.Validate().ok());
  const auto expect_invalid = [](const RedisSentinelOptions& options) {
    EXPECT_EQ(options.Validate().code(), absl::StatusCode::kInvalidArgument);
  };
  RedisSentinelOptions options = sentinel_options_;
  options.sentinels.clear();
  expect_invalid(options);
  options.sentinels.assign(17, "127.0.0.1:1");
  expect_invalid(options);
  options.sentinels = {"127.0.0.1"};
  expect_invalid(options);
  options = sentinel_options_;
  for (const std::string& master :
       {std::string(), std::string("a b"), std::string(1025, 'a')}) {
    options.master = master;
    expect_invalid(options);
  }
  options = sentinel_options_;
  options.command_timeout = absl::ZeroDuration();
  expect_invalid(options);
}

TEST_F(RedisSentinelTest, CountsMastersAndWhatFailed) {
  sentinel_options_.sentinels.insert(sentinel_options_.sentinels.begin(),
                                     "127.0.0.1:1");
  auto sentinel = RedisSentinel::Create(sentinel_options_, lookup_);
  ASSERT_TRUE(sentinel.ok()) << sentinel.status();
  EXPECT_TRUE(AwaitTrue([&] { return (*sentinel)->GetStats().is_subscribed; }));
  EXPECT_GE((*sentinel)->GetStats().sentinels_failed, 1u);
  EXPECT_EQ((*sentinel)->GetStats().problem, RedisProblem::kNone);
  one_.Announce("lobby", second_.port());
  EXPECT_TRUE(
      AwaitTrue([&] { return (*sentinel)->GetStats().master_changes == 1; }));
}

TEST_F(RedisSentinelTest, RefusesQuestionsAboveTheLimit) {
  one_.BeSilent();
  sentinel_options_.sentinels.resize(1);
  sentinel_options_.questions_waiting_max = 1;
  auto sentinel = RedisSentinel::Create(sentinel_options_, lookup_);
  ASSERT_TRUE(sentinel.ok()) << sentinel.status();
  ASSERT_TRUE(AwaitTrue([&] { return one_.questions() == 1; }));
  // The question that was sent came before these.
  std::atomic<int> refused{0};
  for (int i = 0; i < 3; ++i) {
    (*sentinel)->Find(absl::Minutes(1),
                      [&](const absl::StatusOr<std::string>& found) {
                        if (absl::IsResourceExhausted(found.status()))
                          ++refused;
                      });
  }
  EXPECT_EQ(refused, 2);
  EXPECT_EQ((*sentinel)->GetStats().questions_refused, 2u);
  sentinel->reset();
  sentinel_options_.questions_waiting_max = 0;
  EXPECT_THAT(sentinel_options_.Validate().ToString(),
              HasSubstr("questions_waiting_max must be 1 to 65536"));
}

TEST_F(RedisSentinelTest, ReadsItsPasswordAgainAtEachConnect) {
  test::TemporaryDirectory directory;
  sentinel_options_.sentinels.resize(1);
  sentinel_options_.password_file = directory.WriteFile("password", "first");
  auto sentinel = RedisSentinel::Create(sentinel_options_, lookup_);
  ASSERT_TRUE(sentinel.ok()) << sentinel.status();
  const auto last_password = [&] {
    std::string last;
    for (const ScriptedPeer::Command& command : one_.peer().commands()) {
      if (command[0] == "AUTH") last = command[1];
    }
    return last;
  };
  EXPECT_TRUE(AwaitTrue([&] { return (*sentinel)->Health().ok(); }));
  EXPECT_EQ(last_password(), "first");
  directory.WriteFile("password", "second");
  one_.peer().CloseAll();
  EXPECT_TRUE(AwaitTrue([&] { return last_password() == "second"; }));
}

// A line of a gap names the server, not only the master's name.
TEST_F(RedisSentinelTest, AGapNamesTheServerInUse) {
  auto sentinel = RedisSentinel::Create(sentinel_options_, lookup_);
  ASSERT_TRUE(sentinel.ok()) << sentinel.status();
  RedisSentinel::SetSource(*sentinel, &options_);
  auto source = RedisDisconnectSource::Create(options_, lookup_);
  ASSERT_TRUE(source.ok());
  ASSERT_TRUE((*source)->Start([](absl::StatusOr<DisconnectTarget>) {}).ok());
  ASSERT_TRUE(AwaitTrue([&] { return (*source)->Health().ok(); }));
  for (ScriptedSentinel* one : {&one_, &two_, &three_}) {
    one->Name(second_.port());
  }
  one_.Announce("lobby", second_.port());
  EXPECT_TRUE(AwaitTrue([&] {
    return log_.CountOf(
        absl::StrCat("Redis master lobby at 127.0.0.1:", second_.port(),
                     " (disconnect channel): events between"));
  }));
}

}  // namespace
}  // namespace udpgate
