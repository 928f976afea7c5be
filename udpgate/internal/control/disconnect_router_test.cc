#include "udpgate/internal/control/disconnect_router.h"

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/mock_disconnect_source.h"
#include "testing/simulated_clock.h"
#include "udpgate/internal/net/client_hash.h"
#include "udpgate/internal/net/sys_calls.h"

namespace udpgate {
namespace internal {
namespace {

using test::AwaitTrue;
using test::CaptureHandlerIn;
using test::MockDisconnectSource;
using test::SimulatedClock;
using ::testing::ElementsAre;
using ::testing::NiceMock;
using ::testing::UnorderedElementsAre;

constexpr uint16_t kPort = 40000;
constexpr int kShards = 3;

SocketAddress Client(uint16_t port) {
  return SocketAddress::Ipv4Loopback(port);
}

// Remembers what it was told.
class ToldResolver final : public BackendResolver {
 public:
  void Resolve(const ResolveRequest& /*request*/, Callback /*done*/) override {}
  std::vector<SocketAddress> HandleDisconnect(
      const DisconnectTarget& target) override {
    targets.push_back(target);
    if (on_disconnect) on_disconnect();
    return clients;
  }

  std::vector<DisconnectTarget> targets;
  std::vector<SocketAddress> clients;  // what it returns
  std::function<void()> on_disconnect;
};

class DisconnectRouterTest : public ::testing::Test {
 protected:
  DisconnectRouterTest() {
    options_.log_sink = [this](LogSeverity /*severity*/,
                               absl::string_view message) {
      MutexLock lock(&mutex_);
      lines_.emplace_back(message);
    };
    options_.disconnect_queue_size = 2;
    EXPECT_CALL(*source_, Start).WillRepeatedly(CaptureHandlerIn(&handler_));
    context_ = std::make_unique<GateContext>(
        options_, &clock_, SysCalls::Real(), ClientHash(1),
        std::vector<uint16_t>{kPort}, /*sessions_max=*/100);
    context_->resolver = resolver_;
    for (int i = 0; i < kShards; ++i) {
      auto inbox = Inbox::Create(context_->sys_calls,
                                 {/*datagrams_max=*/1, /*disconnects_max=*/10});
      EXPECT_TRUE(inbox.ok()) << inbox.status();
      context_->inboxes.push_back(*std::move(inbox));
    }
    context_->is_running = true;
    router_ = std::make_unique<DisconnectRouter>(context_.get(), source_);
    EXPECT_TRUE(context_->control.Start().ok());
    EXPECT_TRUE(router_->StartSource().ok());
  }
  ~DisconnectRouterTest() override { context_->control.Stop(); }

  std::vector<ShardMessage> Take(int shard) {
    std::vector<ShardMessage> messages;
    context_->inboxes[shard]->TakeDisconnects(10, &messages);
    return messages;
  }
  // Of all shards.
  std::vector<ShardMessage> TakeAll() {
    std::vector<ShardMessage> all;
    for (int i = 0; i < kShards; ++i) {
      for (ShardMessage& message : Take(i)) all.push_back(std::move(message));
    }
    return all;
  }
  void Disconnect(const DisconnectTarget& target) {
    router_->Disconnect(target,
                        [this](int64_t count) { ended_count_ = count; });
  }
  bool AwaitEndedCount(int64_t count) {
    return AwaitTrue([&] { return ended_count_ == count; });
  }
  // As a shard does, which reports on the control thread.
  void Report(ShardMessage message, int64_t ended_count) {
    context_->control.Post([done = std::move(message.disconnect_done),
                            ended_count]() mutable { done(ended_count); });
  }
  void AdoptPort(const SocketAddress& relay, uint32_t shard, SessionRef ref) {
    EXPECT_TRUE(context_->relay_ports.AdoptUse(relay, {shard, ref}));
  }
  ProxyStats Stats() const {
    ProxyStats stats;
    router_->AddStats(&stats);
    return stats;
  }
  std::vector<std::string> Lines() {
    MutexLock lock(&mutex_);
    return lines_;
  }

  Mutex mutex_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
  SimulatedClock clock_;
  ProxyOptions options_;
  std::shared_ptr<NiceMock<MockDisconnectSource>> source_ =
      std::make_shared<NiceMock<MockDisconnectSource>>();
  DisconnectSource::Handler handler_;
  std::shared_ptr<ToldResolver> resolver_ = std::make_shared<ToldResolver>();
  std::unique_ptr<GateContext> context_;
  std::unique_ptr<DisconnectRouter> router_;
  std::atomic<int64_t> ended_count_{-1};
};

TEST_F(DisconnectRouterTest, AClientGoesToItsShardOnly) {
  for (uint16_t port = 1; port <= 20; ++port) {
    Disconnect(DisconnectTarget::ForClient(Client(port)));
    const uint32_t owner = context_->hash(Client(port)) % kShards;
    const std::vector<ShardMessage> messages = Take(owner);
    ASSERT_EQ(messages.size(), 1u);
    EXPECT_EQ(messages[0].kind, ShardMessage::Kind::kDisconnectClient);
    EXPECT_EQ(messages[0].client, Client(port));
    EXPECT_EQ(messages[0].came_nanoseconds, clock_.NowNanoseconds());
    EXPECT_TRUE(TakeAll().empty());
  }
  EXPECT_EQ(Stats().disconnects_received, 20u);
}

TEST_F(DisconnectRouterTest, ARelayPortNamesOneSession) {
  AdoptPort(SocketAddress::Ipv4Loopback(kPort), 2, {5, 77});
  Disconnect(DisconnectTarget::ForRelayPort(kPort));
  const std::vector<ShardMessage> messages = Take(2);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(messages[0].kind, ShardMessage::Kind::kEndSession);
  EXPECT_EQ(messages[0].session, (SessionRef{5, 77}));
}

TEST_F(DisconnectRouterTest, APortWithoutSessionIsUnmatched) {
  Disconnect(DisconnectTarget::ForRelayPort(kPort));
  EXPECT_TRUE(AwaitEndedCount(0));
  EXPECT_TRUE(TakeAll().empty());
  EXPECT_EQ(Stats().disconnects_unmatched, 1u);
  EXPECT_EQ(Stats().disconnects_ambiguous, 0u);
}

TEST_F(DisconnectRouterTest, APortOfTwoSessionsIsAmbiguousAndEndsNone) {
  AdoptPort(SocketAddress::Ipv4Loopback(kPort), 0, {1, 10});
  AdoptPort(SocketAddress::Ipv6Loopback(kPort), 1, {2, 20});
  Disconnect(DisconnectTarget::ForRelayPort(kPort));
  EXPECT_TRUE(AwaitEndedCount(0));
  EXPECT_TRUE(TakeAll().empty());
  EXPECT_EQ(Stats().disconnects_ambiguous, 1u);
  EXPECT_EQ(Stats().disconnects_unmatched, 0u);
  EXPECT_TRUE(resolver_->targets.empty());
  EXPECT_TRUE(AwaitTrue([this] { return !Lines().empty(); }));
  EXPECT_THAT(Lines(), ElementsAre("disconnect event ignored: relay port 40000 "
                                   "fits several sessions"));
}

// The shard compares the address, so both get it.
TEST_F(DisconnectRouterTest, ARelayGoesToAllSessionsWithItsPort) {
  AdoptPort(SocketAddress::Ipv4Loopback(kPort), 0, {1, 10});
  AdoptPort(SocketAddress::Ipv6Loopback(kPort), 1, {2, 20});
  const SocketAddress relay = SocketAddress::Ipv6Loopback(kPort);
  Disconnect(DisconnectTarget::ForRelay(relay));
  std::vector<ShardMessage> messages = TakeAll();
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].session, (SessionRef{1, 10}));
  EXPECT_EQ(messages[1].session, (SessionRef{2, 20}));
  for (const ShardMessage& message : messages) {
    EXPECT_EQ(message.kind, ShardMessage::Kind::kEndSession);
    EXPECT_EQ(message.address, relay);
  }
  Report(std::move(messages[0]), 0);
  Report(std::move(messages[1]), 1);
  EXPECT_TRUE(AwaitEndedCount(1));
  EXPECT_EQ(Stats().disconnects_matched, 1u);
}

TEST_F(DisconnectRouterTest, ABackendGoesToAllShardsAndTheirCountsAreAdded) {
  Disconnect(DisconnectTarget::ForBackend(Client(9)));
  std::vector<ShardMessage> messages = TakeAll();
  ASSERT_EQ(messages.size(), size_t{kShards});
  for (ShardMessage& message : messages) {
    EXPECT_EQ(ended_count_, -1);
    EXPECT_EQ(message.kind, ShardMessage::Kind::kEndBackend);
    EXPECT_EQ(message.address, Client(9));
    EXPECT_TRUE(message.is_part);
    Report(std::move(message), 4);
  }
  EXPECT_TRUE(AwaitEndedCount(4 * kShards));
  EXPECT_EQ(Stats().disconnects_matched, 1u);
  EXPECT_EQ(Stats().disconnects_unmatched, 0u);
}

TEST_F(DisconnectRouterTest, IfNoShardHasOneItIsUnmatched) {
  Disconnect(DisconnectTarget::ForBackendText("lobby-1:1"));
  for (ShardMessage& message : TakeAll()) {
    EXPECT_EQ(message.kind, ShardMessage::Kind::kEndBackendText);
    EXPECT_EQ(*message.text, "lobby-1:1");
    Report(std::move(message), 0);
  }
  EXPECT_TRUE(AwaitEndedCount(0));
  EXPECT_EQ(Stats().disconnects_matched, 0u);
  EXPECT_EQ(Stats().disconnects_unmatched, 1u);
}

TEST_F(DisconnectRouterTest, IfTheGatewayDoesNotRunAllAreUnmatched) {
  context_->is_running = false;
  for (const DisconnectTarget& target :
       {DisconnectTarget::ForClient(Client(1)),
        DisconnectTarget::ForClientIp(Client(1))}) {
    ended_count_ = -1;
    Disconnect(target);
    EXPECT_TRUE(AwaitEndedCount(0));
  }
  EXPECT_TRUE(TakeAll().empty());
  EXPECT_EQ(Stats().disconnects_unmatched, 2u);
}

TEST_F(DisconnectRouterTest, TheResolverIsToldOfATargetBeforeAnyShard) {
  bool are_shards_told = false;
  resolver_->on_disconnect = [&] {
    are_shards_told = are_shards_told || !TakeAll().empty();
  };
  const std::vector<DisconnectTarget> targets = {
      DisconnectTarget::ForClient(Client(1)),
      DisconnectTarget::ForClientIp(Client(1)),
      DisconnectTarget::ForBackend(Client(2)),
      DisconnectTarget::ForBackendText("lobby-1:1"),
      DisconnectTarget::ForRelayPort(kPort)};
  for (const DisconnectTarget& target : targets) {
    handler_(target);
    TakeAll();
  }
  Disconnect(targets[0]);  // as Proxy::Disconnect
  EXPECT_FALSE(are_shards_told);
  ASSERT_EQ(resolver_->targets.size(), targets.size() + 1);
  for (size_t i = 0; i < targets.size(); ++i) {
    EXPECT_EQ(resolver_->targets[i], targets[i]);
  }
  handler_(absl::InvalidArgumentError("garbage"));
  EXPECT_EQ(resolver_->targets.size(), targets.size() + 1);
}

// The player of the named session has two more, one of which exists.
TEST_F(DisconnectRouterTest, SessionsThatTheResolverNamesEndAsWell) {
  AdoptPort(SocketAddress::Ipv4Loopback(kPort), 2, {1, 10});
  resolver_->clients = {Client(1), Client(2)};
  resolver_->on_disconnect = [this] { clock_.Advance(absl::Seconds(1)); };
  const int64_t came_nanoseconds = clock_.NowNanoseconds();
  Disconnect(DisconnectTarget::ForRelayPort(kPort));
  std::vector<ShardMessage> messages = TakeAll();
  ASSERT_EQ(messages.size(), 3u);
  std::vector<SocketAddress> clients;
  for (ShardMessage& message : messages) {
    EXPECT_TRUE(message.is_part);
    if (message.kind == ShardMessage::Kind::kEndSession) {
      EXPECT_EQ(message.session, (SessionRef{1, 10}));
      EXPECT_EQ(message.came_nanoseconds, came_nanoseconds);
    } else {
      EXPECT_EQ(message.kind, ShardMessage::Kind::kDisconnectClient);
      // Their sessions may be newer than the event.
      EXPECT_EQ(message.came_nanoseconds, clock_.NowNanoseconds());
      clients.push_back(message.client);
    }
    const int64_t ended_count = message.client == Client(2) ? 0 : 1;
    Report(std::move(message), ended_count);
  }
  EXPECT_THAT(clients, UnorderedElementsAre(Client(1), Client(2)));
  EXPECT_TRUE(AwaitEndedCount(2));
  EXPECT_EQ(Stats().disconnects_matched, 1u);
  EXPECT_EQ(Stats().disconnects_unmatched, 0u);
}

TEST_F(DisconnectRouterTest, TheResolverIsToldIfNoSessionCanExist) {
  context_->is_running = false;
  Disconnect(DisconnectTarget::ForClientIp(Client(1)));
  EXPECT_EQ(resolver_->targets.size(), 1u);
}

TEST_F(DisconnectRouterTest, TheResolverIsToldOfKeptEventsOnceTheyAreReleased) {
  router_->KeepEvents();
  handler_(DisconnectTarget::ForClient(Client(1)));
  EXPECT_TRUE(resolver_->targets.empty());
  router_->ReleaseEvents();
  EXPECT_EQ(resolver_->targets.size(), 1u);
}

TEST_F(DisconnectRouterTest, KeptEventsGoFirstWithTheTimeOfTheirArrival) {
  router_->KeepEvents();
  const int64_t came_nanoseconds = clock_.NowNanoseconds();
  handler_(DisconnectTarget::ForClient(Client(1)));
  handler_(DisconnectTarget::ForClient(Client(1)));
  clock_.Advance(absl::Seconds(1));
  EXPECT_TRUE(TakeAll().empty());
  router_->ReleaseEvents();
  handler_(DisconnectTarget::ForClient(Client(1)));
  const std::vector<ShardMessage> messages = TakeAll();
  ASSERT_EQ(messages.size(), 3u);
  EXPECT_EQ(messages[0].came_nanoseconds, came_nanoseconds);
  EXPECT_EQ(messages[1].came_nanoseconds, came_nanoseconds);
  EXPECT_EQ(messages[2].came_nanoseconds, clock_.NowNanoseconds());
}

TEST_F(DisconnectRouterTest, AnOldEventConcernsOldSessionsOnly) {
  clock_.Advance(absl::Hours(1));
  DisconnectTarget target = DisconnectTarget::ForClient(Client(1));
  target.set_age(absl::Seconds(7));
  handler_(target);
  target.set_age(-absl::Seconds(7));
  handler_(target);
  const std::vector<ShardMessage> messages = TakeAll();
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(
      messages[0].came_nanoseconds,
      clock_.NowNanoseconds() - absl::ToInt64Nanoseconds(absl::Seconds(7)));
  EXPECT_EQ(messages[1].came_nanoseconds, clock_.NowNanoseconds());
}

TEST_F(DisconnectRouterTest, TheSourceWaitsIfTooManyEventsAreKept) {
  router_->KeepEvents();
  std::atomic<int> returned_count{0};
  std::thread source([&] {
    for (int i = 0; i <= options_.disconnect_queue_size; ++i) {
      handler_(DisconnectTarget::ForClient(Client(1)));
      ++returned_count;
    }
  });
  EXPECT_TRUE(AwaitTrue(
      [&] { return returned_count == options_.disconnect_queue_size; }));
  router_->ReleaseEvents();
  source.join();
  EXPECT_EQ(returned_count, options_.disconnect_queue_size + 1);
  EXPECT_EQ(TakeAll().size(),
            static_cast<size_t>(options_.disconnect_queue_size) + 1);
}

TEST_F(DisconnectRouterTest, InvalidEventsAreCountedAndLoggedAtALimitedRate) {
  for (int i = 0; i < 100; ++i) {
    handler_(absl::InvalidArgumentError("garbage"));
  }
  EXPECT_TRUE(AwaitTrue([this] { return Lines().size() == 1; }));
  clock_.Advance(absl::Seconds(5));
  handler_(absl::InvalidArgumentError("rubbish"));
  EXPECT_TRUE(AwaitTrue([this] { return Lines().size() == 2; }));
  EXPECT_THAT(
      Lines(),
      ElementsAre("disconnect event ignored: garbage",
                  "disconnect event ignored: rubbish (and 99 more since the "
                  "last such line)"));
  EXPECT_EQ(Stats().disconnects_received, 101u);
  EXPECT_EQ(Stats().disconnects_invalid, 101u);
}

TEST_F(DisconnectRouterTest, TheSourceIsHealthyIfItSaysSoOrThereIsNone) {
  EXPECT_TRUE(router_->IsSourceHealthy());
  EXPECT_CALL(*source_, Health)
      .WillOnce(::testing::Return(absl::UnavailableError("no bus")));
  EXPECT_FALSE(router_->IsSourceHealthy());
  DisconnectRouter without(context_.get(), nullptr);
  EXPECT_TRUE(without.IsSourceHealthy());
  EXPECT_TRUE(without.StartSource().ok());
  without.StopSource();
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
