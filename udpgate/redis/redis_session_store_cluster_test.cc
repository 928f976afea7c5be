// With a real Redis Cluster of three masters.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "testing/internal/support/redis_cluster_servers.h"
#include "udpgate/redis/internal/hash_slot.h"
#include "udpgate/redis/redis_cluster.h"
#include "udpgate/redis/session_store_fixture.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::KeysOf;
using test::RedisClusterServers;
using test::RedisClusterServersOptions;
using test::SessionOf;
using test::SessionsOf;
using test::StoreCalls;
using test::TextsOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr char kTaggedPrefix[] = "{udp_gate}:session:";

class RedisSessionStoreClusterTest : public test::RedisSessionStoreFixture {
 protected:
  RedisSessionStoreClusterTest() {
    redis_options_.command_timeout = absl::Seconds(1);
    options_.prefix = kTaggedPrefix;
  }

  void StartCluster(int replicas = 0) {
    RedisClusterServersOptions options;
    options.replicas = replicas;
    servers_ = std::make_unique<RedisClusterServers>(options);
    const absl::Status status = servers_->Start();
    ASSERT_TRUE(status.ok()) << status;
    const std::vector<std::string> seeds =
        absl::StrSplit(servers_->addresses(), ',');
    auto cluster = RedisCluster::Create(redis_options_, seeds, lookup_);
    ASSERT_TRUE(cluster.ok()) << cluster.status();
    cluster_ = *std::move(cluster);
    RedisCluster::SetSource(cluster_, &redis_options_);
  }
  std::string Log() { return ::testing::PrintToString(log_.lines()); }

  std::unique_ptr<RedisClusterServers> servers_;
  std::shared_ptr<RedisCluster> cluster_;
};

TEST_F(RedisSessionStoreClusterTest, APrefixWithoutAHashTagIsSaid) {
  ASSERT_NO_FATAL_FAILURE(StartCluster());
  options_.prefix = test::kPrefix;
  const auto store = Make(redis_options_.address);
  StoreCalls calls(store.get());
  ASSERT_TRUE(AwaitTrue([&] { return cluster_->is_cluster(); }));
  const char* const hint =
      "in a Redis Cluster the prefix of sessions (\"udp_gate:session:\") must "
      "have a hash tag, such as \"{udp_gate}:session:\"";
  for (int i = 0; i < 10; ++i) {
    EXPECT_THAT(calls.Write(SessionsOf(10)), HasSubstr(hint));
    EXPECT_THAT(calls.List("a"), ElementsAre(HasSubstr(hint)));
    EXPECT_THAT(calls.RenewLease({"a", 1, ""}), HasSubstr(hint));
  }
  EXPECT_THAT(store->Health().ToString(), HasSubstr(hint));
  EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf(hint) == 1; })) << Log();
}

TEST_F(RedisSessionStoreClusterTest, RecordsMoveWithTheirSlot) {
  ASSERT_NO_FATAL_FAILURE(StartCluster());
  const auto store = Make(redis_options_.address);
  StoreCalls calls(store.get());
  const auto sessions = SessionsOf(300);
  ASSERT_TRUE(AwaitTrue([&] {
    return calls.Write(sessions) == std::string(300, 'D');
  })) << Log();
  const int slot = redis::internal::HashSlotOf(kTaggedPrefix);
  const auto from = servers_->OwnerOf(kTaggedPrefix);
  ASSERT_TRUE(from.ok()) << from.status();
  const size_t to = (*from + 1) % 3;
  ASSERT_TRUE(servers_->BeginMove(slot, *from, to).ok());
  ASSERT_TRUE(servers_->MoveKeys(slot, *from, to).ok());
  ASSERT_TRUE(servers_->EndMove(slot, *from, to).ok());
  EXPECT_TRUE(AwaitTrue([&] {
    return calls.Refresh(KeysOf(sessions)) == std::string(300, 'D');
  })) << Log();
  EXPECT_EQ(calls.List("a"), TextsOf(sessions));
  EXPECT_EQ(calls.RenewLease({"a", 1, ""}), "none");
  EXPECT_THAT(calls.ListGateways(), ElementsAre("a 1"));
  EXPECT_TRUE(AwaitHealthy(*store)) << store->Health();
}

TEST_F(RedisSessionStoreClusterTest, AReplicaTakesOver) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(3));
  const auto store = Make(redis_options_.address);
  StoreCalls calls(store.get());
  const auto sessions = SessionsOf(300);
  ASSERT_TRUE(AwaitTrue([&] {
    return calls.Write(sessions) == std::string(300, 'D');
  })) << Log();
  const auto owner = servers_->OwnerOf(kTaggedPrefix);
  ASSERT_TRUE(owner.ok()) << owner.status();
  // The replica has the records.
  ASSERT_TRUE(servers_->server(*owner).Command({"WAIT", "1", "5000"}).ok());
  servers_->server(*owner).Kill();
  EXPECT_TRUE(AwaitTrue([&] {
    return calls.Refresh(KeysOf(sessions)) == std::string(300, 'D');
  })) << Log();
  EXPECT_THAT(calls.ListClients("a"), SizeIs(300));
}

}  // namespace
}  // namespace udpgate
