// What a resolver knows of players beside their backend: datagrams that no
// session is made for, players who are known already, and proven addresses.
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/fake_flow_offload.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/newcomers.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::LoopbackPeer;
using ::testing::ElementsAre;

class NewcomersPlayerTest : public ShardTest {
 protected:
  ResolveResult Proven() const {
    ResolveResult result{backend_.address(), "lobby"};
    result.is_client_proven = true;
    return result;
  }
  std::vector<SessionEvent::Kind> EventKinds() {
    std::vector<SessionEvent::Kind> kinds;
    for (const SessionEvent& event : Events()) kinds.push_back(event.kind);
    return kinds;
  }
};

TEST_F(NewcomersPlayerTest, AScreenedDatagramIsDroppedWithoutASession) {
  Start();
  for (const DropReason reason :
       {DropReason::kStunUnknownUfrag, DropReason::kStunWrongIntegrity,
        DropReason::kDtlsWithoutSession}) {
    resolver_->screening.drop = reason;
    SendAndRead(client_, "x");
    EXPECT_EQ(Stats().dropped(reason), 1u);
  }
  EXPECT_TRUE(resolver_->pending.empty());
  EXPECT_EQ(Stats().sessions_created, 0u);
  EXPECT_EQ(context_->admission.session_count(), 0);
  resolver_->screening = Screening();
  Connect(client_);
}

TEST_F(NewcomersPlayerTest, DatagramsOfSessionsAreNotScreened) {
  Start();
  SendAndRead(client_, "first");
  SendAndRead(client_, "held");
  ResolveTo(backend_.address());
  SendAndRead(client_, "live");
  EXPECT_THAT(resolver_->screened, ElementsAre("first"));
}

TEST_F(NewcomersPlayerTest, ADrainServesNewAddressesOfKnownPlayersOnly) {
  Start();
  context_->is_draining = true;
  SendAndRead(client_, "stranger");
  EXPECT_EQ(Stats().dropped(DropReason::kDraining), 1u);
  resolver_->screening.is_known_player = true;
  Connect(client_);
  LoopbackPeer other;
  resolver_->screening.drop = DropReason::kStunUnknownUfrag;
  SendAndRead(other, "x");
  EXPECT_EQ(Stats().dropped(DropReason::kStunUnknownUfrag), 1u);
  EXPECT_EQ(Stats().dropped(DropReason::kDraining), 1u);
}

TEST_F(NewcomersPlayerTest, AProvenClientIsConfirmedWithItsBackend) {
  Start();
  SendAndRead(client_, "one");
  SendAndRead(client_, "two");
  FinishResolve(Proven());
  EXPECT_EQ(Stats().sessions_confirmed, 1u);
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("one", "two"));
  EXPECT_THAT(EventKinds(), ElementsAre(SessionEvent::Kind::kOpened,
                                        SessionEvent::Kind::kConfirmed));
}

TEST_F(NewcomersPlayerTest, NoLimitOnRepliesAppliesToAProvenClient) {
  Start();
  SendAndRead(client_, "x");
  FinishResolve(Proven());
  const auto first = backend_.TryReceive();
  ASSERT_TRUE(first.ok()) << first.status();
  constexpr size_t kReplies = 20;
  for (size_t i = 0; i < kReplies; ++i) {
    ASSERT_TRUE(backend_.Send(first->from, std::string(1200, 'r')).ok());
  }
  Poll();
  Poll();
  EXPECT_EQ(ReceiveAll(&client_).size(), kReplies);
  EXPECT_EQ(Stats().reply_pauses, 0u);
}

TEST_F(NewcomersPlayerTest, AProvenClientDoesNotTimeOutAsUnconfirmed) {
  ProxyOptions options = IdleTimeoutOnly();
  options.limits.unconfirmed_timeout = absl::Seconds(1);
  Start(options);
  SendAndRead(client_, "x");
  FinishResolve(Proven());
  clock_.Advance(absl::Seconds(2));
  Poll();
  EXPECT_EQ(Stats().sessions_confirmed, 1u);
}

TEST_F(NewcomersPlayerTest, AProvenClientDoesNotCountAsUnconfirmed) {
  ProxyOptions options;
  options.limits.max_unconfirmed_sessions_per_ip = 1;
  Start(options);
  for (int i = 0; i < 3; ++i) {
    LoopbackPeer client;
    SendAndRead(client, "x");
    ASSERT_EQ(resolver_->pending.size(), 1u);
    FinishResolve(Proven());
  }
  EXPECT_EQ(Stats().sessions_confirmed, 3u);
}

TEST_F(NewcomersPlayerTest, AProvenClientUsesTheFastPathAtOnce) {
  offload_ = std::make_shared<test::FakeFlowOffload>();
  Start();
  SendAndRead(client_, "x");
  FinishResolve(Proven());
  ASSERT_EQ(offload_->flows().size(), 1u);
  const auto first = backend_.TryReceive();
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(offload_->flows()[0].addresses.relay, first->from);
}

// All replies may pass by the fast path, and the port is in quarantine
// nevertheless.
TEST_F(NewcomersPlayerTest, ABackendThatRepliedOnTheFastPathHasReplied) {
  offload_ = std::make_shared<test::FakeFlowOffload>();
  Start();
  SendAndRead(client_, "x");
  FinishResolve(Proven());
  ASSERT_EQ(offload_->flows().size(), 1u);
  offload_->SetActivity(0, FlowDirection::kFromBackend,
                        {1, 100, clock_.NowNanoseconds()});
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 1u);
  EXPECT_EQ(context_->relay_ports.quarantined(clock_.NowNanoseconds()), 1);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
