// Nodes of a Cluster that reply with whatever the protocol permits.
#include "udpgate/redis/redis_cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "udpgate/redis/internal/cluster_reader.h"
#include "udpgate/redis/internal/cluster_state.h"
#include "udpgate/redis/internal/hash_slot.h"
#include "udpgate/redis/redis_disconnect_source.h"
#include "udpgate/redis/redis_key_watch.h"
#include "udpgate/redis/resolver_fixture.h"

namespace udpgate {
namespace {

using redis::internal::ClusterReader;
using redis::internal::ClusterState;
using redis::internal::HashSlotOf;
using test::AwaitTrue;
using test::kBackend;
using test::kKey;
using test::kUnavailable;
using test::Resolution;
using test::ScriptedPeer;
using ::testing::HasSubstr;

std::string Missing() { return "$-1\r\n"; }

// Replies to GET and CLUSTER as it is told.
class ScriptedNode {
 public:
  // By the key, and whether ASKING came before.
  using Get = std::function<std::string(const std::string& key, bool asking)>;

  const std::string& address() const { return peer_.address(); }
  ScriptedPeer& peer() { return peer_; }
  int gets() const { return peer_.command_count("GET"); }
  int maps_asked() const { return peer_.command_count("CLUSTER"); }

  void OnGet(Get get) {
    internal::MutexLock lock(&mutex_);
    get_ = std::move(get);
  }
  void SayToGet(const std::string& bytes) {
    OnGet([bytes](const std::string&, bool) { return bytes; });
  }
  // Empty: closes the connection.
  void SayToCluster(const std::string& bytes) {
    internal::MutexLock lock(&mutex_);
    map_ = bytes;
  }
  std::string Range(int first, int last) const {
    return absl::StrCat("*3\r\n:", first, "\r\n:", last, "\r\n*2\r\n",
                        ScriptedPeer::Bulk("127.0.0.1"), ":", peer_.port(),
                        "\r\n");
  }
  // A map in which the node owns all.
  std::string OwnMap() const { return absl::StrCat("*1\r\n", Range(0, 16383)); }
  std::string Moved(const std::string& key) const {
    return absl::StrCat("-MOVED ", HashSlotOf(key), " ", address(), "\r\n");
  }
  std::string Ask(const std::string& key) const {
    return absl::StrCat("-ASK ", HashSlotOf(key), " ", address(), "\r\n");
  }

 private:
  ScriptedPeer::Action Reply(const ScriptedPeer::Command& command) {
    internal::MutexLock lock(&mutex_);
    if (command[0] == "ASKING") {
      is_asking_ = true;
      return ScriptedPeer::Say("+OK\r\n");
    }
    if (command[0] == "CLUSTER") {
      return map_.empty() ? ScriptedPeer::SayAndClose("")
                          : ScriptedPeer::Say(map_);
    }
    if (command[0] != "GET" && command[0] != "GETRANGE") {
      return ScriptedPeer::Healthy(command);
    }
    const bool is_asking = std::exchange(is_asking_, false);
    return ScriptedPeer::Say(get_(command[1], is_asking));
  }

  internal::Mutex mutex_;
  Get get_ ABSL_GUARDED_BY(mutex_) = [](const std::string&, bool) {
    return Missing();
  };
  std::string map_ ABSL_GUARDED_BY(mutex_) = "*0\r\n";
  bool is_asking_ ABSL_GUARDED_BY(mutex_) = false;
  ScriptedPeer peer_{
      [this](const ScriptedPeer::Command& command) { return Reply(command); }};
};

class RedisClusterTest : public test::RedisBackendResolverTest {
 protected:
  RedisClusterTest() {
    options_.backend_key = kKey;
    one_.SayToCluster(one_.OwnMap());
  }

  void UseCluster(const std::vector<std::string>& seeds) {
    auto cluster = RedisCluster::Create(options_, seeds, lookup_);
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    cluster_ = *std::move(cluster);
    RedisCluster::SetSource(cluster_, &options_);
  }
  std::shared_ptr<RedisBackendResolver> MakeInCluster() {
    UseCluster({one_.address()});
    return Make(options_.address);
  }
  bool AwaitRefreshes(uint64_t count) {
    return AwaitTrue([&] { return cluster_->GetStats().refreshes >= count; });
  }
  std::string Log() { return ::testing::PrintToString(log_.lines()); }

  ScriptedNode one_;
  ScriptedNode two_;
  std::shared_ptr<RedisCluster> cluster_;
};

TEST_F(RedisClusterTest, MovedIsFollowedAndRemembered) {
  one_.SayToGet(two_.Moved(kKey));
  two_.SayToGet(ScriptedPeer::Bulk("1.2.3.4:5"));
  one_.SayToCluster("-NOPERM no CLUSTER\r\n");
  const auto resolver = MakeInCluster();
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend) << Log();
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  EXPECT_EQ(one_.gets(), 1);
  EXPECT_EQ(two_.gets(), 2);
  EXPECT_EQ(two_.peer().command_count("ASKING"), 0);
  EXPECT_EQ(cluster_->GetStats().redirects, 1u);
  // The slot map cannot be had, which is said once.
  EXPECT_TRUE(AwaitTrue([&] {
    return absl::StrContains(Log(), "the slots are learned from redirects");
  })) << Log();
  // At first, and after the redirect.
  EXPECT_LE(one_.maps_asked() + two_.maps_asked(), 2) << Log();
}

TEST_F(RedisClusterTest, AskIsFollowedOnceWithAsking) {
  one_.SayToGet(two_.Ask(kKey));
  two_.OnGet([this](const std::string& key, bool asking) {
    return asking ? ScriptedPeer::Bulk("1.2.3.4:5") : one_.Moved(key);
  });
  const auto resolver = MakeInCluster();
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend) << Log();
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend) << Log();
  // The owner is asked each time.
  EXPECT_EQ(one_.gets(), 2);
  EXPECT_EQ(two_.gets(), 2);
  EXPECT_EQ(two_.peer().command_count("ASKING"), 2);
}

TEST_F(RedisClusterTest, TryAgainIsTriedAgain) {
  std::atomic<int> gets{0};
  one_.OnGet([&](const std::string&, bool) {
    return ++gets < 3 ? std::string("-TRYAGAIN later\r\n")
                      : ScriptedPeer::Bulk("1.2.3.4:5");
  });
  const auto resolver = MakeInCluster();
  ASSERT_TRUE(AwaitRefreshes(1));
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend) << Log();
  EXPECT_EQ(gets, 3);
}

TEST_F(RedisClusterTest, ClusterdownIsWaitedForAWhile) {
  std::atomic<bool> is_down{true};
  one_.OnGet([&](const std::string&, bool) {
    return is_down ? std::string("-CLUSTERDOWN The cluster is down\r\n")
                   : ScriptedPeer::Bulk("1.2.3.4:5");
  });
  const auto resolver = MakeInCluster();
  ASSERT_TRUE(AwaitRefreshes(1));
  const Resolution waits(resolver.get());
  ASSERT_TRUE(AwaitTrue([&] { return one_.gets() >= 2; }));
  EXPECT_FALSE(waits.is_done());
  is_down = false;
  EXPECT_EQ(waits.Await(), kBackend) << Log();
  // The map is asked for again.
  EXPECT_TRUE(AwaitRefreshes(2));
}

TEST_F(RedisClusterTest, ALongClusterdownFailsAtOnce) {
  options_.reconnect_patience = absl::Milliseconds(100);
  one_.SayToGet("-CLUSTERDOWN The cluster is down\r\n");
  const auto resolver = MakeInCluster();
  ASSERT_TRUE(AwaitRefreshes(1));
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(), kUnavailable);
  ASSERT_TRUE(AwaitTrue([&] {
    const int before = one_.gets();
    EXPECT_THAT(Resolution(resolver.get()).Await(),
                HasSubstr("CLUSTERDOWN The cluster is down"));
    return one_.gets() == before + 1;
  }));
}

TEST_F(RedisClusterTest, OtherErrorsAreThoseOfTheKey) {
  const auto resolver = MakeInCluster();
  ASSERT_TRUE(AwaitRefreshes(1));
  one_.SayToGet("-WRONGTYPE not a string\r\n");
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(),
            absl::StatusCode::kInvalidArgument);
  one_.SayToGet("-NOPERM no key\r\n");
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(), test::kFailedPrecondition);
  one_.SayToGet("-LOADING later\r\n");
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(), kUnavailable);
  one_.SayToGet(":5\r\n");
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(), kUnavailable);
  one_.SayToGet(Missing());
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(),
            absl::StatusCode::kNotFound);
  one_.SayToGet(ScriptedPeer::Bulk(std::string(70000, 'x')));
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(),
            absl::StatusCode::kInvalidArgument);
  one_.SayToGet(ScriptedPeer::Bulk("1.2.3.4:5"));
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend) << Log();
}

TEST_F(RedisClusterTest, ARevokedLoginIsRenewedAtTheNode) {
  std::atomic<int> gets{0};
  one_.OnGet([&](const std::string&, bool) {
    return ++gets == 1 ? std::string("-NOAUTH log in\r\n")
                       : ScriptedPeer::Bulk("1.2.3.4:5");
  });
  const auto resolver = MakeInCluster();
  ASSERT_TRUE(AwaitRefreshes(1));
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend) << Log();
}

// The first key in the list counts, whichever node replies first.
TEST_F(RedisClusterTest, TheFirstKeyThatExistsWinsAcrossNodes) {
  options_.backend_key = "{{a}}first {{b}}second {{a}}third";
  const int slot_of_b = HashSlotOf("b");
  one_.SayToCluster(absl::StrCat("*3\r\n", one_.Range(0, slot_of_b - 1),
                                 two_.Range(slot_of_b, slot_of_b),
                                 one_.Range(slot_of_b + 1, 16383)));
  std::atomic<bool> has_first{false};
  std::atomic<bool> may_reply{false};
  one_.OnGet([&](const std::string& key, bool) {
    if (absl::StartsWith(key, "{b}")) return two_.Moved(key);
    EXPECT_TRUE(AwaitTrue([&] { return may_reply.load(); }));
    if (key == "{a}third") return ScriptedPeer::Bulk("3.3.3.3:3");
    return has_first ? ScriptedPeer::Bulk("1.1.1.1:1") : Missing();
  });
  two_.SayToGet(ScriptedPeer::Bulk("2.2.2.2:2"));
  may_reply = true;
  const auto resolver = MakeInCluster();
  EXPECT_EQ(Resolution(resolver.get()).Await(), "2.2.2.2:2 2.2.2.2:2");
  has_first = true;
  may_reply = false;
  const int before = two_.gets();
  const Resolution resolution(resolver.get());
  // The second node has replied.
  ASSERT_TRUE(AwaitTrue([&] { return two_.gets() > before; }));
  EXPECT_FALSE(resolution.is_done());
  may_reply = true;
  EXPECT_EQ(resolution.Await(), "1.1.1.1:1 1.1.1.1:1");
  has_first = false;
  two_.SayToGet(Missing());
  EXPECT_EQ(Resolution(resolver.get()).Await(), "3.3.3.3:3 3.3.3.3:3");
}

TEST_F(RedisClusterTest, ACircleOfRedirectsEnds) {
  one_.OnGet([this](const std::string& key, bool) { return two_.Moved(key); });
  two_.OnGet([this](const std::string& key, bool) { return one_.Moved(key); });
  const auto resolver = MakeInCluster();
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Resolution(resolver.get()).AwaitCode(), kUnavailable);
  }
  // Each question follows a few; and what contradicts itself is not followed.
  EXPECT_LE(one_.gets() + two_.gets(), 10 * (ClusterReader::kRedirectsMax + 5));
  EXPECT_GT(cluster_->GetStats().contradictions, 0u);
  EXPECT_EQ(log_.CountOf("contradict each other"), 1) << Log();
}

// A node that names itself.
TEST_F(RedisClusterTest, ARedirectToTheSameNodeIsNotFollowedForEver) {
  one_.OnGet([this](const std::string& key, bool) { return one_.Moved(key); });
  const auto resolver = MakeInCluster();
  EXPECT_EQ(Resolution(resolver.get()).AwaitCode(), kUnavailable);
  EXPECT_LE(one_.gets(), ClusterReader::kRedirectsMax + 5);
}

TEST_F(RedisClusterTest, ACircleRespectsTheBackOffOfOtherConnections) {
  options_.reconnect_backoff_min = absl::Milliseconds(50);
  options_.reconnect_backoff_max = absl::Milliseconds(200);
  one_.OnGet([this](const std::string& key, bool) { return two_.Moved(key); });
  two_.OnGet([this](const std::string& key, bool) { return one_.Moved(key); });
  UseCluster({one_.address()});
  RedisKeyWatchOptions watch_options;
  watch_options.key = kKey;
  watch_options.interval = absl::Milliseconds(10);
  const auto watch = RedisKeyWatch::Create(options_, watch_options, lookup_);
  ASSERT_TRUE(watch.ok()) << watch.status();
  const absl::Time begin = absl::Now();
  ASSERT_TRUE((*watch)->Start([](absl::optional<std::string>) {}).ok());
  ASSERT_TRUE(AwaitTrue([&] {
    return cluster_->GetStats().contradictions >= 2;
  })) << Log();
  const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  EXPECT_LE(one_.peer().accepted_count() + two_.peer().accepted_count(),
            (seconds + 1) * (ClusterState::kMovesPerSecondMax + 1000 / 25));
  (*watch)->Stop();
}

TEST_F(RedisClusterTest, ANodeThatCannotBeReachedIsSaidOnce) {
  // Nobody listens there.
  const std::string nobody = absl::StrCat("127.0.0.1:", test::FreeTcpPort());
  one_.SayToGet(absl::StrCat("-MOVED ", HashSlotOf(kKey), " ", nobody, "\r\n"));
  one_.SayToCluster("-NOPERM no CLUSTER\r\n");
  options_.reconnect_patience = absl::Milliseconds(50);
  const auto resolver = MakeInCluster();
  EXPECT_THAT(Resolution(resolver.get()).Await(),
              HasSubstr("Connection refused"));
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(Resolution(resolver.get()).AwaitCode(), kUnavailable);
  }
  EXPECT_EQ(log_.CountOf(nobody), 1) << Log();
  // The owner is asked, not the node that has redirected.
  EXPECT_LE(one_.gets(), 2);
}

TEST_F(RedisClusterTest, MapsThatAreOfNoUseAreSaidOnce) {
  one_.SayToGet(ScriptedPeer::Bulk("1.2.3.4:5"));
  const std::pair<std::string, std::string> maps[] = {
      {"+OK\r\n", "the slot map is not an array"},
      {absl::StrCat("*2\r\n", one_.OwnMap().substr(4), one_.OwnMap().substr(4)),
       "the slot map names slot 0 twice"},
      {"*20000\r\n", "array of 20000 elements"},
      {absl::StrCat("$", 5 << 20, "\r\n"), "longer than 4194304 bytes"},
  };
  for (const auto& map : maps) {
    test::LogCollector log;
    options_.log_sink = log.Sink();
    const auto says_it = [&] { return log.CountOf(map.second) > 0; };
    one_.SayToCluster(map.first);
    const auto resolver = MakeInCluster();
    EXPECT_TRUE(AwaitTrue(says_it)) << map.second;
    EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
    EXPECT_EQ(log.CountOf(map.second), 1)
        << ::testing::PrintToString(log.lines());
    options_.address_source = nullptr;
    options_.nodes = nullptr;
  }
}

TEST_F(RedisClusterTest, ARedisThatIsNoClusterIsAskedOnce) {
  one_.SayToGet(ScriptedPeer::Bulk("1.2.3.4:5"));
  for (const char* reply :
       {"-ERR This instance has cluster support disabled\r\n",
        "-ERR unknown command 'CLUSTER'\r\n", "-NOPERM no CLUSTER\r\n", ""}) {
    const int before = one_.maps_asked();
    one_.SayToCluster(reply);
    const auto resolver = MakeInCluster();
    ASSERT_TRUE(AwaitTrue([&] { return one_.maps_asked() == before + 1; }));
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
    }
    EXPECT_TRUE(AwaitTrue([&] { return one_.peer().open_count() == 1; }));
    EXPECT_EQ(one_.maps_asked(), before + 1) << reply;
    EXPECT_FALSE(cluster_->GetStats().is_cluster);
    EXPECT_EQ(resolver->GetStats().nodes_connected, 0u);
    EXPECT_FALSE(absl::StrContains(Log(), "slot map")) << Log();
    options_.address_source = nullptr;
    options_.nodes = nullptr;
  }
}

TEST_F(RedisClusterTest, TheNextSeedIsTriedIfOneIsDown) {
  const std::string nobody = absl::StrCat("127.0.0.1:", test::FreeTcpPort());
  one_.SayToGet(ScriptedPeer::Bulk("1.2.3.4:5"));
  UseCluster({nobody, one_.address()});
  const auto resolver = Make(options_.address);
  EXPECT_TRUE(AwaitBackend(resolver.get(), kBackend)) << Log();
  EXPECT_TRUE(AwaitHealthy(resolver.get()));
  EXPECT_TRUE(AwaitRefreshes(1));
}

TEST_F(RedisClusterTest, AMapMovesAKeyThatWasReadElsewhere) {
  one_.SayToGet(ScriptedPeer::Bulk("1.2.3.4:5"));
  two_.SayToGet(ScriptedPeer::Bulk("2.2.2.2:2"));
  const auto resolver = MakeInCluster();
  ASSERT_TRUE(AwaitRefreshes(1));
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  one_.SayToCluster(two_.OwnMap());
  two_.SayToCluster(two_.OwnMap());
  // A lost connection makes it ask again.
  one_.peer().CloseAll();
  EXPECT_TRUE(AwaitBackend(resolver.get(), "2.2.2.2:2 2.2.2.2:2")) << Log();
}

// It may be cut off from the others, and so from what they publish.
TEST_F(RedisClusterTest, PubSubLeavesANodeThatIsInTheMapNoMore) {
  one_.SayToCluster(
      absl::StrCat("*2\r\n", one_.Range(0, 8191), two_.Range(8192, 16383)));
  UseCluster({one_.address()});
  const auto source = RedisDisconnectSource::Create(options_, lookup_);
  ASSERT_TRUE(source.ok()) << source.status();
  ASSERT_TRUE((*source)->Start([](absl::StatusOr<DisconnectTarget>) {}).ok());
  ASSERT_TRUE(AwaitRefreshes(1));
  ASSERT_TRUE(AwaitTrue([&] { return (*source)->Health().ok(); }));
  EXPECT_EQ(one_.peer().command_count("SUBSCRIBE"), 1);
  one_.SayToCluster(two_.OwnMap());
  cluster_->Distrust(one_.address());
  EXPECT_TRUE(AwaitTrue([&] {
    return two_.peer().command_count("SUBSCRIBE") == 1;
  })) << Log();
  (*source)->Stop();
}

TEST_F(RedisClusterTest, TheMapIsAskedForOnceASecondAtMost) {
  UseCluster({one_.address()});
  const absl::Time begin = absl::Now();
  while (cluster_->GetStats().refreshes < 3) {
    ASSERT_LT(absl::Now() - begin, test::kAwaitTimeout);
    cluster_->Distrust("10.0.0.1:1");
  }
  EXPECT_GE(absl::Now() - begin, 2 * RedisCluster::kRefreshIntervalMin);
}

TEST_F(RedisClusterTest, AConnectionLostBeforeTheReplyIsAskedAgain) {
  std::atomic<int> gets{0};
  one_.OnGet([&](const std::string&, bool) {
    return ++gets == 1 ? std::string() : ScriptedPeer::Bulk("1.2.3.4:5");
  });
  const auto resolver = MakeInCluster();
  ASSERT_TRUE(AwaitRefreshes(1));
  const Resolution resolution(resolver.get());
  ASSERT_TRUE(AwaitTrue([&] { return gets == 1; }));
  one_.peer().CloseAll();
  EXPECT_EQ(resolution.Await(), kBackend) << Log();
}

TEST_F(RedisClusterTest, ConnectionsToNodesAreBounded) {
  options_.node_connections_max = 1;
  options_.backend_key = "{client_ip}";
  std::atomic<bool> hangs{false};
  one_.OnGet([&](const std::string& key, bool) {
    return key == "10.0.0.1" ? ScriptedPeer::Bulk("1.2.3.4:5")
                             : two_.Moved(key);
  });
  two_.OnGet([&](const std::string&, bool) {
    return hangs ? std::string() : ScriptedPeer::Bulk("2.2.2.2:2");
  });
  const auto resolver = MakeInCluster();
  const auto from = [](const char* address) {
    ResolveRequest request;
    request.client = *SocketAddress::Parse(address);
    request.timeout = test::kLongTimeout;
    return request;
  };
  ASSERT_TRUE(AwaitRefreshes(1));
  // One makes room for the other.
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Resolution(resolver.get(), from("10.0.0.1:1")).Await(), kBackend);
    EXPECT_EQ(Resolution(resolver.get(), from("10.0.0.2:1")).Await(),
              "2.2.2.2:2 2.2.2.2:2");
    EXPECT_LE(resolver->GetStats().nodes_connected, 1u);
  }
  EXPECT_EQ(resolver->GetStats().nodes_refused, 0u);
  hangs = true;
  const Resolution waits(resolver.get(), from("10.0.0.2:1"));
  const int before = two_.gets();
  ASSERT_TRUE(AwaitTrue([&] { return two_.gets() > before - 1; }));
  EXPECT_THAT(Resolution(resolver.get(), from("10.0.0.1:1")).Await(),
              HasSubstr("no connection is left"));
  EXPECT_EQ(resolver->GetStats().nodes_refused, 1u);
}

TEST_F(RedisClusterTest, NeedsOneToSixteenSeeds) {
  for (const std::vector<std::string>& seeds :
       {std::vector<std::string>(), std::vector<std::string>(17, "a:1"),
        std::vector<std::string>{"a"}, std::vector<std::string>{"a:1", ":2"},
        std::vector<std::string>{"unix:/redis.sock"}}) {
    const auto cluster = RedisCluster::Create(options_, seeds, lookup_);
    EXPECT_EQ(cluster.status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace udpgate
