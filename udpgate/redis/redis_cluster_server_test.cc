// A real Cluster of three masters: its slots move, and its nodes are killed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "testing/internal/support/certificate_authority.h"
#include "testing/internal/support/redis_cluster_servers.h"
#include "udpgate/redis/internal/hash_slot.h"
#include "udpgate/redis/redis_cluster.h"
#include "udpgate/redis/redis_disconnect_source.h"
#include "udpgate/redis/redis_event_stream.h"
#include "udpgate/redis/redis_gateway_entry.h"
#include "udpgate/redis/redis_key_watch.h"
#include "udpgate/redis/redis_session_store.h"
#include "udpgate/redis/redis_stream.h"
#include "udpgate/redis/redis_tls.h"
#include "udpgate/redis/resolver_fixture.h"

namespace udpgate {
namespace {

using redis::internal::HashSlotOf;
using test::AwaitTrue;
using test::kBackend;
using test::kKey;
using test::RedisClusterServers;
using test::RedisClusterServersOptions;
using test::Resolution;
using ::testing::HasSubstr;

// A master is missed after cluster-node-timeout, 1 s, and its replica needs the
// votes of the others.
constexpr absl::Duration kFailoverMax = absl::Seconds(10);

class RedisClusterServerTest : public test::RedisBackendResolverTest {
 protected:
  RedisClusterServerTest() {
    // The defaults of the program.
    const RedisOptions defaults;
    options_.command_timeout = defaults.command_timeout;
    options_.reconnect_backoff_min = defaults.reconnect_backoff_min;
    options_.reconnect_backoff_max = defaults.reconnect_backoff_max;
    options_.failure_pause = defaults.failure_pause;
  }

  void StartCluster(const RedisClusterServersOptions& options = {}) {
    servers_ = std::make_unique<RedisClusterServers>(options);
    const absl::Status status = servers_->Start();
    ASSERT_TRUE(status.ok()) << status;
  }
  void UseCluster(const std::vector<std::string>& seeds) {
    auto cluster = RedisCluster::Create(options_, seeds, lookup_);
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    cluster_ = *std::move(cluster);
    RedisCluster::SetSource(cluster_, &options_);
  }
  void StartAndUseCluster(const RedisClusterServersOptions& options = {}) {
    ASSERT_NO_FATAL_FAILURE(StartCluster(options));
    UseCluster({servers_->server(0).tcp_address()});
  }
  std::shared_ptr<RedisBackendResolver> MakeResolver() {
    return MakeConnected(options_.address);
  }
  void SetKey(const std::string& key, const std::string& value) {
    const auto done = servers_->Command({"SET", key, value});
    ASSERT_TRUE(done.ok()) << done.status();
  }
  size_t OwnerOf(const std::string& key) {
    const auto owner = servers_->OwnerOf(key);
    EXPECT_TRUE(owner.ok()) << owner.status();
    return owner.value_or(0);
  }
  void MoveSlotOf(const std::string& key) {
    const size_t from = OwnerOf(key);
    const absl::Status moved =
        servers_->MoveSlot(HashSlotOf(key), from, (from + 1) % 3);
    ASSERT_TRUE(moved.ok()) << moved;
  }
  static ResolveRequest From(const std::string& ip) {
    ResolveRequest request;
    request.client = *SocketAddress::Parse(absl::StrCat(ip, ":1000"));
    request.timeout = absl::Seconds(10);
    return request;
  }
  std::string Log() { return ::testing::PrintToString(log_.lines()); }

  std::unique_ptr<RedisClusterServers> servers_;
  std::shared_ptr<RedisCluster> cluster_;
};

TEST_F(RedisClusterServerTest, SlotsAreThoseOfRedis) {
  ASSERT_NO_FATAL_FAILURE(StartCluster());
  for (const std::string& key :
       {std::string("foo"), std::string(kKey), std::string("{a}b"),
        std::string("a{}b"), std::string("a{{b}}c"), std::string("a}{b"),
        std::string("a{b"), std::string("\x00\xff{\r\n}", 6), std::string(" "),
        std::string(1024, 'x')}) {
    const auto slot = servers_->SlotOf(key);
    ASSERT_TRUE(slot.ok()) << slot.status();
    EXPECT_EQ(HashSlotOf(key), *slot) << key;
  }
  for (int i = 0; i < 200; ++i) {
    const std::string key = absl::StrCat("udp_gate:backend:10.0.0.", i);
    EXPECT_EQ(HashSlotOf(key), servers_->SlotOf(key).value_or(-1)) << key;
  }
}

TEST_F(RedisClusterServerTest, OneSeedIsEnoughForTheKeysOfAllNodes) {
  options_.backend_key = "b:{client_ip} default";
  ASSERT_NO_FATAL_FAILURE(StartAndUseCluster());
  const auto resolver = MakeResolver();
  SetKey("default", "9.9.9.9:9");
  std::vector<bool> is_used(3, false);
  for (int i = 1; i < 30; ++i) {
    const std::string ip = absl::StrCat("10.0.0.", i);
    is_used[OwnerOf("b:" + ip)] = true;
    EXPECT_EQ(Resolution(resolver.get(), From(ip)).Await(),
              "9.9.9.9:9 9.9.9.9:9");
    SetKey("b:" + ip, absl::StrCat("1.1.1.1:", i));
    EXPECT_THAT(Resolution(resolver.get(), From(ip)).Await(),
                HasSubstr(absl::StrCat("1.1.1.1:", i, " ")));
  }
  EXPECT_THAT(is_used, ::testing::Each(true));
  EXPECT_EQ(resolver->GetStats().nodes_connected, 3u);
  EXPECT_EQ(resolver->GetStats().questions_waiting, 0u);
  EXPECT_TRUE(cluster_->GetStats().is_cluster);
  EXPECT_EQ(cluster_->GetStats().nodes, 3u);
  EXPECT_EQ(cluster_->GetStats().slots_covered, 16384u);
  // The slot map has led there, at the latest after the first redirect.
  EXPECT_LE(cluster_->GetStats().redirects, 2u);
}

TEST_F(RedisClusterServerTest, ASlotMovesUnderNewcomers) {
  ASSERT_NO_FATAL_FAILURE(StartAndUseCluster());
  SetKey(kKey, "1.2.3.4:5");
  const auto resolver = MakeResolver();
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  const int slot = HashSlotOf(kKey);
  size_t from = OwnerOf(kKey);
  absl::Duration longest = absl::ZeroDuration();
  const auto resolve = [&](const char* when) {
    const absl::Time begin = absl::Now();
    EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend) << when << Log();
    longest = std::max(longest, absl::Now() - begin);
  };
  for (int round = 0; round < 6; ++round) {
    const size_t to = (from + 1) % 3;
    ASSERT_TRUE(servers_->BeginMove(slot, from, to).ok());
    resolve("before the key has moved");
    ASSERT_TRUE(servers_->MoveKeys(slot, from, to).ok());
    resolve("after the key has moved (ASK)");
    ASSERT_TRUE(servers_->EndMove(slot, from, to).ok());
    resolve("after the slot has moved (MOVED)");
    from = to;
  }
  std::printf("longest resolution while a slot moved: %s\n",
              absl::FormatDuration(longest).c_str());
  EXPECT_LE(longest, absl::Seconds(1));
  EXPECT_GE(cluster_->GetStats().redirects, 12u);
  EXPECT_EQ(cluster_->GetStats().contradictions, 0u);
}

TEST_F(RedisClusterServerTest, AReplicaTakesOver) {
  RedisClusterServersOptions options;
  options.replicas = 1;
  ASSERT_NO_FATAL_FAILURE(StartCluster(options));
  // The seed is the one that dies.
  ASSERT_NO_FATAL_FAILURE(UseCluster({servers_->server(0).tcp_address()}));
  // A key of the first master, and one of another.
  std::string lost_tag;
  std::string other_tag;
  for (int i = 0; i < 100; ++i) {
    (OwnerOf(absl::StrCat(i)) == 0 ? lost_tag : other_tag) = absl::StrCat(i);
  }
  SetKey(lost_tag, "1.1.1.1:1");
  SetKey(other_tag, "2.2.2.2:2");
  options_.backend_key = lost_tag;
  const auto lost = MakeResolver();
  options_.backend_key = other_tag;
  const auto other = MakeResolver();
  EXPECT_THAT(Resolution(lost.get()).Await(), HasSubstr("1.1.1.1:1"));
  EXPECT_THAT(Resolution(other.get()).Await(), HasSubstr("2.2.2.2:2"));
  ASSERT_TRUE(AwaitTrue([&] { return cluster_->GetStats().nodes == 4; }));
  // The replica has the key.
  ASSERT_TRUE(servers_->server(0).Command({"WAIT", "1", "5000"}).ok());
  const absl::Time killed = absl::Now();
  servers_->server(0).Kill();
  EXPECT_TRUE(AwaitTrue([&] {
    return Resolution(lost.get(), From("10.0.0.1")).Await() ==
           "1.1.1.1:1 1.1.1.1:1";
  })) << Log();
  const absl::Duration time = absl::Now() - killed;
  std::printf("new clients are served %s after a master was killed\n",
              absl::FormatDuration(time).c_str());
  RecordProperty("milliseconds",
                 static_cast<int>(absl::ToInt64Milliseconds(time)));
  EXPECT_LE(time, kFailoverMax) << Log();
  EXPECT_TRUE(AwaitBackend(other.get(), "2.2.2.2:2 2.2.2.2:2"));
}

TEST_F(RedisClusterServerTest, ClientsOfOtherNodesDoNotWaitForALostOne) {
  options_.backend_key = "b:{client_ip}";
  RedisClusterServersOptions options;
  options.server.extra_arguments = {"--cluster-require-full-coverage", "no"};
  ASSERT_NO_FATAL_FAILURE(StartAndUseCluster(options));
  const auto resolver = MakeResolver();
  std::vector<std::string> ips(3);
  for (int i = 1; i < 100; ++i) {
    const std::string ip = absl::StrCat("10.0.0.", i);
    ips[OwnerOf("b:" + ip)] = ip;
  }
  for (const std::string& ip : ips) SetKey("b:" + ip, "1.2.3.4:5");
  for (const std::string& ip : ips) {
    EXPECT_EQ(Resolution(resolver.get(), From(ip)).Await(), kBackend);
  }
  servers_->server(1).Pause();
  const Resolution hangs(resolver.get(), From(ips[1]));
  for (int i = 0; i < 20; ++i) {
    const absl::Time begin = absl::Now();
    EXPECT_EQ(Resolution(resolver.get(), From(ips[0])).Await(), kBackend);
    EXPECT_EQ(Resolution(resolver.get(), From(ips[2])).Await(), kBackend);
    EXPECT_LE(absl::Now() - begin, absl::Milliseconds(500));
  }
  EXPECT_EQ(hangs.AwaitCode(), test::kUnavailable);
  servers_->server(1).Resume();
  EXPECT_TRUE(AwaitTrue([&] {
    return Resolution(resolver.get(), From(ips[1])).Await() == kBackend;
  })) << Log();
}

TEST_F(RedisClusterServerTest, EventsComeByAnyNodeThatLives) {
  RedisClusterServersOptions options;
  options.server.extra_arguments = {"--cluster-require-full-coverage", "no"};
  ASSERT_NO_FATAL_FAILURE(StartCluster(options));
  ASSERT_NO_FATAL_FAILURE(UseCluster({servers_->server(0).tcp_address()}));
  const auto source = RedisDisconnectSource::Create(options_, lookup_);
  ASSERT_TRUE(source.ok()) << source.status();
  std::atomic<int> events{0};
  ASSERT_TRUE((*source)
                  ->Start([&](absl::StatusOr<DisconnectTarget> target) {
                    if (target.ok()) ++events;
                  })
                  .ok());
  const auto publish = [&](size_t index) {
    ASSERT_TRUE(AwaitTrue([&] { return (*source)->Health().ok(); })) << Log();
    const int before = events;
    ASSERT_TRUE(
        servers_->server(index)
            .Command({"PUBLISH", options_.disconnect_channel, "1.2.3.4:5"})
            .ok());
    EXPECT_TRUE(AwaitTrue([&] { return events == before + 1; })) << Log();
  };
  publish(0);
  publish(2);
  ASSERT_TRUE(AwaitTrue([&] { return cluster_->GetStats().nodes == 3; }));
  servers_->server(0).Kill();
  ASSERT_TRUE(AwaitTrue([&] { return !(*source)->Health().ok(); }));
  publish(1);
  publish(2);
  (*source)->Stop();
}

TEST_F(RedisClusterServerTest, TheDisconnectStreamFollowsItsKey) {
  ASSERT_NO_FATAL_FAILURE(StartCluster());
  options_.disconnect_stream = "events";
  ASSERT_NO_FATAL_FAILURE(UseCluster({servers_->server(0).tcp_address()}));
  const auto source = RedisDisconnectSource::Create(options_, lookup_);
  ASSERT_TRUE(source.ok()) << source.status();
  std::atomic<int> events{0};
  ASSERT_TRUE((*source)
                  ->Start([&](absl::StatusOr<DisconnectTarget> target) {
                    if (target.ok()) ++events;
                  })
                  .ok());
  for (int round = 1; round <= 4; ++round) {
    ASSERT_TRUE(servers_
                    ->Command({"XADD", "events", "*", "event",
                               absl::StrCat("1.2.3.4:", round)})
                    .ok());
    EXPECT_TRUE(AwaitTrue([&] { return events == round; })) << Log();
    ASSERT_NO_FATAL_FAILURE(MoveSlotOf("events"));
  }
  EXPECT_EQ((*source)->GetStats().gaps, 0u);
  (*source)->Stop();
}

TEST_F(RedisClusterServerTest, TheStatusFollowsItsKey) {
  ASSERT_NO_FATAL_FAILURE(StartAndUseCluster());
  RedisKeyWatchOptions watch_options;
  watch_options.key = "status";
  watch_options.interval = absl::Milliseconds(20);
  const auto watch = RedisKeyWatch::Create(options_, watch_options, lookup_);
  ASSERT_TRUE(watch.ok()) << watch.status();
  internal::Mutex mutex;
  std::string status;
  ASSERT_TRUE((*watch)
                  ->Start([&](absl::optional<std::string> value) {
                    internal::MutexLock lock(&mutex);
                    status = value.value_or("");
                  })
                  .ok());
  for (int round = 0; round < 4; ++round) {
    const std::string text = absl::StrCat("status ", round);
    SetKey("status", text);
    EXPECT_TRUE(AwaitTrue([&] {
      internal::MutexLock lock(&mutex);
      return status == text;
    })) << Log();
    ASSERT_NO_FATAL_FAILURE(MoveSlotOf("status"));
  }
  (*watch)->Stop();
}

TEST_F(RedisClusterServerTest, GatewaysTellEachOtherJoinsWhileTheSlotMoves) {
  ASSERT_NO_FATAL_FAILURE(StartAndUseCluster());
  RedisStreamOptions stream_options;
  stream_options.key = "joins";
  const auto writer = RedisStream::Create(options_, stream_options, lookup_);
  const auto reader = RedisStream::Create(options_, stream_options, lookup_);
  ASSERT_TRUE(writer.ok() && reader.ok());
  internal::Mutex mutex;
  std::set<std::string> joins;
  ASSERT_TRUE((*writer)->Start([](absl::string_view, absl::Duration) {}).ok());
  ASSERT_TRUE((*reader)
                  ->Start([&](absl::string_view entry, absl::Duration) {
                    internal::MutexLock lock(&mutex);
                    joins.insert(std::string(entry));
                  })
                  .ok());
  int number = 0;
  const auto tell = [&](const char* when) {
    const std::string join = absl::StrCat("join ", ++number);
    EXPECT_TRUE((*writer)->Append(join));
    EXPECT_TRUE(AwaitTrue([&] {
      internal::MutexLock lock(&mutex);
      return joins.count(join) > 0;
    })) << when
        << Log();
  };
  tell("at first");
  const int slot = HashSlotOf("joins");
  size_t from = OwnerOf("joins");
  for (int round = 0; round < 3; ++round) {
    const size_t to = (from + 1) % 3;
    ASSERT_TRUE(servers_->BeginMove(slot, from, to).ok());
    tell("before the key has moved");
    ASSERT_TRUE(servers_->MoveKeys(slot, from, to).ok());
    tell("after the key has moved (ASK)");
    ASSERT_TRUE(servers_->EndMove(slot, from, to).ok());
    tell("after the slot has moved (MOVED)");
    from = to;
  }
  EXPECT_EQ((*writer)->GetStats().entries_dropped, 0u);
}

// What has several keys has them in one slot.
TEST_F(RedisClusterServerTest, EntriesAndRecordsAreAtTheirOwners) {
  ASSERT_NO_FATAL_FAILURE(StartAndUseCluster());
  RedisGatewayEntryOptions entry_options;
  entry_options.key = "gateways";
  entry_options.id = "gw-1";
  entry_options.interval = absl::Milliseconds(100);
  const auto entry =
      RedisGatewayEntry::Create(options_, entry_options, lookup_);
  ASSERT_TRUE(entry.ok()) << entry.status();
  ASSERT_TRUE((*entry)->Start([] { return RedisGatewayState(); }).ok());
  RedisSessionStoreOptions store_options;
  store_options.prefix = "{gate}:session:";
  const auto store =
      RedisSessionStore::Create(options_, store_options, lookup_);
  ASSERT_TRUE(store.ok()) << store.status();
  ASSERT_TRUE((*store)->Start().ok());
  ASSERT_TRUE(AwaitTrue([&] { return (*store)->Health().ok(); })) << Log();
  RedisEventStreamOptions stream_options;
  stream_options.key = "session-events";
  const auto events =
      RedisEventStream::Create(options_, stream_options, lookup_);
  ASSERT_TRUE(events.ok()) << events.status();
  ASSERT_TRUE((*events)->Start().ok());
  for (const char* key : {"gateways", "{gate}", "session-events"}) {
    ASSERT_NO_FATAL_FAILURE(MoveSlotOf(key));
  }
  const uint64_t writes = (*entry)->GetStats().writes;
  EXPECT_TRUE(AwaitTrue([&] { return (*entry)->GetStats().writes > writes; }))
      << Log();
  const auto written = servers_->Command({"HGET", "{gateways}:gw-1", "id"});
  EXPECT_EQ(written.value_or(""), "gw-1") << written.status();
  std::atomic<bool> is_renewed{false};
  ASSERT_TRUE(AwaitTrue([&] {
    std::atomic<bool> is_done{false};
    (*store)->RenewLease({"gw-1", 0xabc, "10.0.0.1:7000"}, absl::Minutes(1),
                         [&](const auto& lease) {
                           is_renewed = lease.ok();
                           is_done = true;
                         });
    return AwaitTrue([&] { return is_done.load(); }) && is_renewed;
  })) << Log();
  EXPECT_EQ(
      servers_->Command({"GET", "{gate}:session:@lease:gw-1"}).value_or(""),
      "1 0000000000000abc 10.0.0.1:7000");
  SessionEvent event;
  event.kind = SessionEvent::Kind::kEnded;
  (*events)->Observe(event);
  EXPECT_TRUE(AwaitTrue([&] {
    return (*events)->GetStats().events_written == 1;
  })) << Log();
  EXPECT_EQ(servers_->Command({"XLEN", "session-events"}).value_or(""), "1");
  (*events)->Stop();
  (*store)->Stop();
  (*entry)->Stop();
}

TEST_F(RedisClusterServerTest, SaysWhatTheClusterIsOnce) {
  ASSERT_NO_FATAL_FAILURE(StartAndUseCluster());
  SetKey(kKey, "1.2.3.4:5");
  const auto resolver = MakeResolver();
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  EXPECT_TRUE(AwaitTrue([&] { return cluster_->GetStats().refreshes > 0; }));
  EXPECT_EQ(log_.CountOf("info: Redis Cluster: 3 masters of 3 nodes"), 1)
      << Log();
}

TEST_F(RedisClusterServerTest, LogsInWithTlsAtEachNode) {
  test::CertificateAuthority authority;
  const test::CertificateFiles files =
      authority.Issue("server", "IP:127.0.0.1");
  RedisClusterServersOptions options;
  options.tls_arguments = {"--tls-cert-file",    files.certificate_file,
                           "--tls-key-file",     files.key_file,
                           "--tls-ca-cert-file", authority.file(),
                           "--tls-auth-clients", "no",
                           "--tls-cluster",      "yes"};
  options.server.extra_arguments = {"--requirepass", "secret", "--masterauth",
                                    "secret"};
  options.server.password = "secret";
  ASSERT_NO_FATAL_FAILURE(StartCluster(options));
  RedisTlsOptions tls;
  tls.ca_file = authority.file();
  options_.transport = MakeRedisTls(tls);
  options_.password = "secret";
  options_.command_timeout = absl::Seconds(5);
  options_.backend_key = "b:{client_ip}";
  ASSERT_NO_FATAL_FAILURE(UseCluster({servers_->tls_address(1)}));
  const auto resolver = MakeResolver();
  for (int i = 1; i < 20; ++i) {
    const std::string ip = absl::StrCat("10.0.0.", i);
    SetKey("b:" + ip, absl::StrCat("1.1.1.1:", i));
    EXPECT_THAT(Resolution(resolver.get(), From(ip)).Await(),
                HasSubstr(absl::StrCat("1.1.1.1:", i, " ")))
        << Log();
  }
  EXPECT_EQ(resolver->GetStats().nodes_connected, 3u);
}

TEST_F(RedisClusterServerTest, AnotherDatabaseIsRefusedInOneClearLine) {
  options_.database = 3;
  ASSERT_NO_FATAL_FAILURE(StartAndUseCluster());
  const auto resolver = Make(options_.address);
  EXPECT_THAT(Resolution(resolver.get()).Await(),
              HasSubstr("a Redis Cluster has database 0 only, not 3"));
  EXPECT_EQ(log_.CountOf(absl::StrCat("warn: Redis ", options_.address,
                                      " (backend key): a Redis Cluster has "
                                      "database 0 only, not 3 (REDIS_DB)")),
            1)
      << Log();
}

// The rights of docs/redis.md without CLUSTER SLOTS.
TEST_F(RedisClusterServerTest, RedirectsAreEnoughWithoutTheSlotMap) {
  options_.backend_key = "b:{client_ip}";
  ASSERT_NO_FATAL_FAILURE(StartCluster());
  for (size_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(servers_->server(i)
                    .Command({"ACL", "SETUSER", "gate", "on", ">pw",
                              "resetkeys", "-@all", "%R~b:*", "+get", "+ping"})
                    .ok());
  }
  options_.username = "gate";
  options_.password = "pw";
  ASSERT_NO_FATAL_FAILURE(UseCluster({servers_->server(0).tcp_address()}));
  const auto resolver = MakeResolver();
  for (int i = 1; i < 20; ++i) {
    const std::string ip = absl::StrCat("10.0.0.", i);
    SetKey("b:" + ip, absl::StrCat("1.1.1.1:", i));
    EXPECT_THAT(Resolution(resolver.get(), From(ip)).Await(),
                HasSubstr(absl::StrCat("1.1.1.1:", i, " ")))
        << Log();
  }
  EXPECT_EQ(resolver->GetStats().nodes_connected, 3u);
  EXPECT_GT(cluster_->GetStats().redirects, 0u);
}

}  // namespace
}  // namespace udpgate
