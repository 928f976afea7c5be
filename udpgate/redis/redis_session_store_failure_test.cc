// What Redis refuses, a Redis that is away or slow, and a peer that sends what
// Redis does not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "udpgate/option_error.h"
#include "udpgate/redis/redis_session_store.h"
#include "udpgate/redis/session_store_fixture.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::KeyOf;
using test::KeysOf;
using test::kLongLife;
using test::RedisServer;
using test::RedisServerOptions;
using test::ScriptedPeer;
using test::SessionOf;
using test::SessionsOf;
using test::StoreCalls;
using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RedisSessionStoreFailureTest : public test::RedisSessionStoreFixture {
 protected:
  // A store with a peer that says `to_eval` to the scripts, and `to_scan` to
  // SSCAN.
  std::unique_ptr<ScriptedPeer> PeerThatSays(std::string to_eval,
                                             std::string to_scan = "") {
    return std::make_unique<ScriptedPeer>(
        [to_eval, to_scan](const ScriptedPeer::Command& command) {
          if (command[0] == "EVAL") return ScriptedPeer::Say(to_eval);
          if (command[0] == "SSCAN") return ScriptedPeer::Say(to_scan);
          return ScriptedPeer::Healthy(command);
        });
  }
  void MustSucceed(RedisServer* redis,
                   const std::vector<std::string>& command) {
    const auto reply = redis->Command(command);
    ASSERT_TRUE(reply.ok()) << reply.status();
  }
};

TEST_F(RedisSessionStoreFailureTest, NothingWaitsForAConnection) {
  RedisServer redis;
  const auto store = Make(redis.tcp_address());
  StoreCalls calls(store.get());
  EXPECT_THAT(calls.Write({SessionOf(1)}), HasSubstr("UNAVAILABLE"));
  EXPECT_THAT(calls.FindOne(SessionOf(1).client), HasSubstr("UNAVAILABLE"));
  EXPECT_THAT(calls.List("a"), ElementsAre(HasSubstr("UNAVAILABLE")));
  EXPECT_THAT(calls.RenewLease({"a", 1, ""}), HasSubstr("UNAVAILABLE"));
  EXPECT_THAT(calls.EndLease({"a", 1, ""}), HasSubstr("UNAVAILABLE"));
  EXPECT_FALSE(store->Health().ok());
  ASSERT_TRUE(redis.Start().ok());
  ASSERT_TRUE(AwaitHealthy(*store));
  EXPECT_EQ(calls.FindOne(SessionOf(1).client), "none");
  EXPECT_EQ(calls.Write({SessionOf(1)}), "D");
  EXPECT_EQ(store->GetStats().records_refused, 5u);
  redis.Kill();
  ASSERT_TRUE(AwaitTrue([&] { return !store->Health().ok(); }));
  EXPECT_THAT(calls.Write({SessionOf(1)}), HasSubstr("UNAVAILABLE"));
  ASSERT_TRUE(redis.Restart().ok());
  ASSERT_TRUE(AwaitHealthy(*store));
  EXPECT_EQ(calls.Refresh({KeyOf(SessionOf(1))}), "A");
  EXPECT_GE(log_.CountOf("keeps sessions"), 1);
}

TEST_F(RedisSessionStoreFailureTest, ACallOfARedisThatHangsTimesOut) {
  redis_options_.command_timeout = absl::Milliseconds(200);
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const auto store = Make(redis.tcp_address());
  StoreCalls calls(store.get());
  ASSERT_TRUE(AwaitHealthy(*store));
  redis.Pause();
  EXPECT_THAT(calls.Write(SessionsOf(5000)),
              AllOf(HasSubstr("UNAVAILABLE"), HasSubstr("within 200ms")));
  EXPECT_GE(store->GetStats().commands_lost, 40u);
  redis.Resume();
  // 200 ms may be too short for a busy machine as well.
  EXPECT_TRUE(
      AwaitTrue([&] { return calls.Write(SessionsOf(10)) == "DDDDDDDDDD"; }));
}

TEST_F(RedisSessionStoreFailureTest, WhatIsNotSentInTimeFails) {
  redis_options_.command_timeout = absl::Milliseconds(500);
  options_.commands_in_flight_max = 1;
  // Replies to one command within the time limit, and no sooner.
  ScriptedPeer peer([writes = 0](const ScriptedPeer::Command& command) mutable {
    if (command[0] != "EVAL") return ScriptedPeer::Healthy(command);
    if (++writes > 2) return ScriptedPeer::SayNothing();
    absl::SleepFor(absl::Milliseconds(300));
    return ScriptedPeer::Say(ScriptedPeer::Bulk(std::string(128, 'd')));
  });
  const auto store = Make(peer.address());
  StoreCalls calls(store.get());
  ASSERT_TRUE(AwaitHealthy(*store));
  EXPECT_THAT(calls.Write(SessionsOf(10 * 128)),
              AllOf(HasSubstr("UNAVAILABLE"), HasSubstr("too slow")));
}

TEST_F(RedisSessionStoreFailureTest, StopCancelsWhatWaits) {
  ScriptedPeer peer([](const ScriptedPeer::Command& command) {
    return ScriptedPeer::Healthy(command);
  });
  const auto store = Make(peer.address());
  ASSERT_TRUE(AwaitHealthy(*store));
  std::string outcome;
  int count = 0;
  store->Write(SessionsOf(5000), kLongLife, [&](test::Outcomes outcomes) {
    outcome = test::LettersOf(outcomes);
    ++count;
    store->Write({SessionOf(1)}, kLongLife, [&](test::Outcomes again) {
      EXPECT_TRUE(absl::IsCancelled(again.status()));
      ++count;
    });
  });
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("EVAL") > 0; }));
  EXPECT_EQ(count, 0);
  store->Stop();
  EXPECT_THAT(outcome, HasSubstr("CANCELLED"));
  EXPECT_EQ(count, 2);
  store->Stop();
  EXPECT_FALSE(store->Health().ok());
}

TEST_F(RedisSessionStoreFailureTest, CommandsInFlightAreLimited) {
  options_.commands_in_flight_max = 3;
  ScriptedPeer peer([](const ScriptedPeer::Command& command) {
    return ScriptedPeer::Healthy(command);
  });
  const auto store = Make(peer.address());
  ASSERT_TRUE(AwaitHealthy(*store));
  for (int i = 0; i < 10; ++i) {
    store->Write({SessionOf(i)}, kLongLife, [](const test::Outcomes&) {});
  }
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("EVAL") == 3; }));
  // Goes before them.
  store->Find({SessionOf(99).client}, [](const auto&) {});
  EXPECT_EQ(store->GetStats().commands_in_flight, 3);
  EXPECT_EQ(store->GetStats().records_waiting, 8);
  const std::string done = ScriptedPeer::Bulk("d");
  peer.SayToAll(absl::StrCat(done, done));
  ASSERT_TRUE(AwaitTrue([&] { return peer.command_count("EVAL") == 5; }));
  const auto commands = peer.commands();
  const auto find =
      std::find_if(commands.begin(), commands.end(), [](const auto& command) {
        return command.size() == 5 && absl::StrContains(command[3], ".100:");
      });
  EXPECT_NE(find, commands.end());
}

TEST_F(RedisSessionStoreFailureTest, AReadOnlyReplicaIsSaidOnce) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const auto store = Make(redis.tcp_address());
  StoreCalls calls(store.get());
  ASSERT_TRUE(AwaitHealthy(*store));
  MustSucceed(&redis, {"REPLICAOF", "127.0.0.1", "1"});
  for (int i = 0; i < 5; ++i) {
    EXPECT_THAT(calls.Write({SessionOf(1)}), HasSubstr("READONLY"));
    EXPECT_THAT(calls.RenewLease({"a", 1, ""}), HasSubstr("READONLY"));
  }
  EXPECT_THAT(store->Health().ToString(), HasSubstr("READONLY"));
  EXPECT_EQ(log_.CountOf("READONLY"), 1);
  MustSucceed(&redis, {"REPLICAOF", "NO", "ONE"});
  EXPECT_EQ(calls.Write({SessionOf(1)}), "D");
  // Of the lease nothing is known.
  EXPECT_FALSE(store->Health().ok());
  EXPECT_EQ(calls.RenewLease({"a", 1, ""}), "none");
  EXPECT_TRUE(AwaitHealthy(*store)) << store->Health();
  EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("keeps sessions") == 1; }));
  EXPECT_EQ(store->GetStats().errors, 10u);
}

TEST_F(RedisSessionStoreFailureTest, AFullRedisIsSaid) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  const auto store = Make(redis.tcp_address());
  StoreCalls calls(store.get());
  ASSERT_TRUE(AwaitHealthy(*store));
  ASSERT_EQ(calls.Write({SessionOf(1), SessionOf(2)}), "DD");
  MustSucceed(&redis, {"CONFIG", "SET", "maxmemory", "1"});
  EXPECT_THAT(calls.Write({SessionOf(3)}),
              AllOf(HasSubstr("UNAVAILABLE"), HasSubstr("OOM")));
  EXPECT_THAT(store->Health().ToString(), HasSubstr("OOM"));
  // What frees memory works.
  EXPECT_EQ(calls.Remove({KeyOf(SessionOf(2))}), "D");
  EXPECT_THAT(calls.FindOne(SessionOf(1).client), HasSubstr("203.0.0.2"));
  MustSucceed(&redis, {"CONFIG", "SET", "maxmemory", "0"});
  EXPECT_EQ(calls.Write({SessionOf(3)}), "D");
  EXPECT_TRUE(AwaitHealthy(*store)) << store->Health();
}

TEST_F(RedisSessionStoreFailureTest, AUserWithoutScriptsIsSaid) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  MustSucceed(&redis, {"ACL", "SETUSER", "gate", "on", ">secret", "~*", "-@all",
                       "+ping", "+sscan"});
  redis_options_.username = "gate";
  redis_options_.password = "secret";
  const auto store = Make(redis.tcp_address());
  StoreCalls calls(store.get());
  ASSERT_TRUE(AwaitHealthy(*store));
  EXPECT_THAT(calls.Write({SessionOf(1)}),
              AllOf(HasSubstr("FAILED_PRECONDITION"), HasSubstr("NOPERM")));
  EXPECT_THAT(store->Health().ToString(), HasSubstr("NOPERM"));
  MustSucceed(&redis, {"ACL", "SETUSER", "gate", "+eval"});
  // The first is what Redis 7.0 says, the second 7.4 and later.
  EXPECT_THAT(calls.Write({SessionOf(1)}),
              AllOf(HasSubstr("FAILED_PRECONDITION"),
                    AnyOf(HasSubstr("The user executing the script"),
                          HasSubstr("ACL failure in script"))));
  EXPECT_EQ(log_.CountOf("script:"), 0);
}

// As docs/redis.md says.
TEST_F(RedisSessionStoreFailureTest, TheDocumentedAccessRightsSuffice) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  MustSucceed(&redis, {"ACL",
                       "SETUSER",
                       "gate",
                       "on",
                       ">secret",
                       "resetkeys",
                       "resetchannels",
                       "-@all",
                       "~udp_gate:session:*",
                       "+ping",
                       "+select",
                       "+info",
                       "+eval",
                       "+mget",
                       "+set",
                       "+del",
                       "+exists",
                       "+sadd",
                       "+srem",
                       "+sscan",
                       "+pttl",
                       "+pexpire"});
  redis_options_.username = "gate";
  redis_options_.password = "secret";
  const auto store = Make(redis.tcp_address());
  StoreCalls calls(store.get());
  ASSERT_TRUE(AwaitHealthy(*store));
  const StoredSession session = SessionOf(1);
  EXPECT_EQ(calls.Write({session}), "D");
  EXPECT_EQ(calls.Refresh({KeyOf(session)}), "D");
  EXPECT_EQ(calls.RenewLease({"a", 1, ""}), "none");
  EXPECT_EQ(calls.Adopt({{SessionOf(1, "b", 2), session.token, "a"}}), "L");
  EXPECT_EQ(calls.Adopt({{SessionOf(1, "b", 2), session.token, ""}}), "D");
  EXPECT_THAT(calls.FindOne(session.client), HasSubstr(" b "));
  EXPECT_THAT(calls.List("a"), ::testing::IsEmpty());
  EXPECT_THAT(calls.ListClients("b"), ::testing::SizeIs(1));
  EXPECT_THAT(calls.ListGateways(), ElementsAre("a 1", "b -"));
  EXPECT_EQ(calls.Remove({KeyOf(SessionOf(1, "b", 2))}), "D");
  EXPECT_EQ(calls.EndLease({"a", 1, ""}), "D");
  EXPECT_EQ(store->GetStats().errors, 0u);
  EXPECT_TRUE(AwaitHealthy(*store)) << store->Health();
}

TEST_F(RedisSessionStoreFailureTest, AKeyOfAnotherTypeIsSaid) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  MustSucceed(&redis, {"SET", "udp_gate:session:@index:a", "text"});
  const auto store = Make(redis.tcp_address());
  StoreCalls calls(store.get());
  ASSERT_TRUE(AwaitHealthy(*store));
  EXPECT_THAT(calls.Write({SessionOf(1)}),
              AllOf(HasSubstr("FAILED_PRECONDITION"), HasSubstr("WRONGTYPE")));
  EXPECT_THAT(calls.List("a"), ElementsAre(HasSubstr("WRONGTYPE")));
  EXPECT_EQ(calls.FindOne(SessionOf(1).client), "none");
  EXPECT_EQ(log_.CountOf("WRONGTYPE"), 1);
  // A record may replace anything.
  MustSucceed(&redis, {"DEL", "udp_gate:session:@index:a"});
  MustSucceed(&redis, {"RPUSH", "udp_gate:session:203.0.0.2:40001", "list"});
  MustSucceed(&redis, {"RPUSH", "udp_gate:session:@lease:a", "list"});
  EXPECT_EQ(calls.Write({SessionOf(1)}), "D");
  EXPECT_EQ(calls.RenewLease({"a", 1, ""}), "none");
  EXPECT_THAT(calls.List("a"), ::testing::SizeIs(1));
  EXPECT_TRUE(AwaitHealthy(*store)) << store->Health();
}

TEST_F(RedisSessionStoreFailureTest, AProxyWithoutScriptsIsSaid) {
  const auto peer = PeerThatSays("-ERR unknown command 'EVAL'\r\n",
                                 "*2\r\n$1\r\n0\r\n*0\r\n");
  const auto store = Make(peer->address());
  StoreCalls calls(store.get());
  ASSERT_TRUE(AwaitHealthy(*store));
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(calls.Write({SessionOf(1)}), HasSubstr("unknown command"));
    EXPECT_THAT(calls.List("a"), ::testing::IsEmpty());
  }
  EXPECT_THAT(store->Health().ToString(),
              HasSubstr("unknown command \\'EVAL\\'\" to: write records"));
  EXPECT_EQ(log_.CountOf("unknown command"), 1);
  EXPECT_EQ(store->GetStats().problem, RedisProblem::kUnsupported);
  EXPECT_EQ(peer->accepted_count(), 1);
}

TEST_F(RedisSessionStoreFailureTest, ErrorsOfAStartingRedisAreTemporary) {
  const auto peer = PeerThatSays("-LOADING Redis is loading\r\n");
  const auto store = Make(peer->address());
  StoreCalls calls(store.get());
  ASSERT_TRUE(AwaitHealthy(*store));
  EXPECT_THAT(calls.Write({SessionOf(1)}),
              AllOf(HasSubstr("UNAVAILABLE"), HasSubstr("LOADING")));
}

TEST_F(RedisSessionStoreFailureTest, ALoginThatIsRevokedIsMadeAgain) {
  const auto peer = PeerThatSays("-NOAUTH Authentication required.\r\n");
  const auto store = Make(peer->address());
  StoreCalls calls(store.get());
  ASSERT_TRUE(AwaitHealthy(*store));
  EXPECT_THAT(calls.Write({SessionOf(1)}), HasSubstr("NOAUTH"));
  EXPECT_TRUE(AwaitTrue([&] { return peer->accepted_count() == 2; }));
}

TEST_F(RedisSessionStoreFailureTest, RepliesThatAreNoneAreDropped) {
  const std::string none = "*2\r\n$1\r\n0\r\n*0\r\n";
  const std::string one = "*2\r\n$1\r\n0\r\n*1\r\n$9\r\n1.2.3.4:5\r\n";
  for (const auto& [to_eval, to_scan] :
       std::vector<std::pair<std::string, std::string>>{
           {":1\r\n", one},
           {"*0\r\n", one},
           {"$-1\r\n", one},
           {"+d\r\n", one},
           {ScriptedPeer::Bulk("dd"), one},
           {ScriptedPeer::Bulk("x"), one},
           {ScriptedPeer::Bulk("l"), one},  // that is for Adopt alone
           {"*1\r\n:1\r\n", one},
           {"*1\r\n*0\r\n", "*1\r\n$1\r\n0\r\n"},
           {"*1\r\n$-1\r\n", "*2\r\n$1\r\nx\r\n*0\r\n"},
           {absl::StrCat("*1\r\n", ScriptedPeer::Bulk(std::string(513, 'x'))),
            "*2\r\n:0\r\n*0\r\n"},
           {"*3\r\n$0\r\n\r\n$0\r\n\r\n$0\r\n\r\n",
            absl::StrCat("*2\r\n", ScriptedPeer::Bulk(std::string(21, '1')),
                         "*0\r\n")},
           {":2\r\n", "*2\r\n$1\r\n0\r\n*1\r\n:1\r\n"},
           {":3\r\n", "*2\r\n$1\r\n0\r\n:1\r\n"},
           {":4\r\n", "$1\r\n0\r\n"}}) {
    SCOPED_TRACE(absl::StrCat(to_eval, to_scan));
    const auto peer = PeerThatSays(to_eval, to_scan);
    const auto store = Make(peer->address());
    StoreCalls calls(store.get());
    ASSERT_TRUE(AwaitHealthy(*store));
    // The connection is dropped after the call has failed.
    const auto is_unexpected = [](const std::string& text) {
      return absl::StrContains(text, "unexpected reply");
    };
    EXPECT_TRUE(AwaitTrue(
        [&] { return is_unexpected(calls.Refresh({KeyOf(SessionOf(1))})); }));
    EXPECT_TRUE(AwaitTrue(
        [&] { return is_unexpected(calls.FindOne(SessionOf(1).client)); }));
    EXPECT_TRUE(AwaitTrue([&] { return is_unexpected(calls.List("a")[0]); }));
    EXPECT_TRUE(AwaitTrue([&] { return peer->accepted_count() >= 3; }));
  }
}

TEST_F(RedisSessionStoreFailureTest, ASetWithoutAnEndIsLeft) {
  options_.listed_records_max = 50;
  const auto peer = PeerThatSays(
      ":0\r\n", "*2\r\n$1\r\n7\r\n*2\r\n$9\r\n1.2.3.4:5\r\n$1\r\nx\r\n");
  const auto store = Make(peer->address());
  StoreCalls calls(store.get());
  ASSERT_TRUE(AwaitHealthy(*store));
  EXPECT_THAT(calls.ListClients("a"),
              ElementsAre(HasSubstr("RESOURCE_EXHAUSTED")));
  EXPECT_EQ(peer->command_count("SSCAN"), 26);
  EXPECT_TRUE(AwaitHealthy(*store)) << store->Health();
}

TEST_F(RedisSessionStoreFailureTest, AReplyThatIsTooLongEndsTheConnection) {
  const auto peer = PeerThatSays("$100000000\r\nxxx");
  const auto store = Make(peer->address());
  StoreCalls calls(store.get());
  ASSERT_TRUE(AwaitHealthy(*store));
  EXPECT_THAT(calls.Write({SessionOf(1)}), HasSubstr("UNAVAILABLE"));
}

TEST_F(RedisSessionStoreFailureTest, AClusterNeedsAHashTag) {
  RedisServerOptions server;
  server.extra_arguments = {"--cluster-enabled", "yes"};
  std::unique_ptr<RedisServer> started;
  // The port of its cluster bus, 10,000 above its own, may be in use.
  ASSERT_TRUE(AwaitTrue([&] {
    started = std::make_unique<RedisServer>(server);
    return started->Start().ok();
  }));
  RedisServer& redis = *started;
  MustSucceed(&redis, {"CLUSTER", "ADDSLOTSRANGE", "0", "16383"});
  ASSERT_TRUE(AwaitTrue([&] {
    const auto info = redis.Command({"CLUSTER", "INFO"});
    return info.ok() && absl::StrContains(*info, "cluster_state:ok");
  }));
  const auto without = Make(redis.tcp_address());
  StoreCalls calls(without.get());
  ASSERT_TRUE(AwaitHealthy(*without));
  EXPECT_THAT(
      calls.Write({SessionOf(1)}),
      HasSubstr("the prefix of sessions (\"udp_gate:session:\") must have a "
                "hash tag, such as \"{udp_gate}:session:\""));
  EXPECT_THAT(without->Health().ToString(), HasSubstr("hash tag"));

  options_.prefix = "{udp_gate}:session:";
  const auto with = Make(redis.tcp_address());
  StoreCalls good(with.get());
  ASSERT_TRUE(AwaitHealthy(*with));
  const auto sessions = SessionsOf(300);
  EXPECT_EQ(good.Write(sessions), std::string(300, 'D'));
  EXPECT_EQ(good.Refresh(KeysOf(sessions)), std::string(300, 'D'));
  EXPECT_EQ(good.RenewLease({"a", 1, ""}), "none");
  EXPECT_THAT(good.List("a"), ::testing::SizeIs(300));
  EXPECT_THAT(good.ListGateways(), ElementsAre("a 1"));
  EXPECT_THAT(good.FindOne(SessionOf(1).client), HasSubstr(", a run 1"));
  EXPECT_EQ(good.Adopt({{SessionOf(1, "b", 2), SessionOf(1).token, "a"}}), "L");
  EXPECT_EQ(good.Adopt({{SessionOf(1, "b", 2), SessionOf(1).token, ""}}), "D");
  EXPECT_EQ(good.Remove(KeysOf(sessions)),
            absl::StrCat("DO", std::string(298, 'D')));
  EXPECT_EQ(good.EndLease({"a", 1, ""}), "D");
  EXPECT_TRUE(AwaitHealthy(*with)) << with->Health();
}

TEST(RedisSessionStoreOptionsTest, NamesTheFieldAtFault) {
  const auto fault = [](void (*change)(RedisSessionStoreOptions*)) {
    RedisSessionStoreOptions options;
    EXPECT_TRUE(options.Validate().ok());
    change(&options);
    return OptionAtFault(options.Validate());
  };
  EXPECT_EQ(fault([](RedisSessionStoreOptions* o) { o->prefix = ""; }),
            "RedisSessionStoreOptions::prefix");
  EXPECT_EQ(
      fault([](RedisSessionStoreOptions* o) { o->commands_in_flight_max = 0; }),
      "RedisSessionStoreOptions::commands_in_flight_max");
  EXPECT_EQ(
      fault([](RedisSessionStoreOptions* o) { o->queue_records_max = 4095; }),
      "RedisSessionStoreOptions::queue_records_max");
  EXPECT_EQ(
      fault([](RedisSessionStoreOptions* o) { o->listed_records_max = 0; }),
      "RedisSessionStoreOptions::listed_records_max");
}

}  // namespace
}  // namespace udpgate
