// Confirmed sessions are offered to the flow offload.
#include <errno.h>
#include <sys/socket.h>

#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/failing_sys_calls.h"
#include "testing/fake_flow_offload.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/lifecycle.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::Call;
using test::LoopbackPeer;
using ::testing::Contains;
using ::testing::ElementsAre;

class OffloadTest : public ShardTest {
 protected:
  OffloadTest() {
    offload_ = std::make_shared<test::FakeFlowOffload>();
    ProxyOptions options = IdleTimeoutOnly();
    options.listen_address = SocketAddress::Ipv4Any(0);
    Start(options);
    // As Proxy does.
    const int on = 1;
    EXPECT_TRUE(sys_calls_
                    .SetSockOpt(reader_->fd(), SOL_SOCKET, SO_TIMESTAMPNS, &on,
                                sizeof(on))
                    .ok());
    listen_address_ = SocketAddress::Ipv4Loopback(listen_address_.port());
  }

  // What the flows have forwarded in each direction, until now.
  void Relay(uint64_t from_client, uint64_t from_backend) {
    offload_->SetActivity(
        0, FlowDirection::kFromClient,
        {from_client, 10 * from_client, clock_.NowNanoseconds()});
    offload_->SetActivity(
        0, FlowDirection::kFromBackend,
        {from_backend, 100 * from_backend, clock_.NowNanoseconds()});
  }
  const test::FakeFlowOffload::Flow& flow() { return offload_->flows().at(0); }
  // The idle sweep visits every session.
  void Sweep() {
    for (int i = 0; i < 2; ++i) {
      clock_.Advance(ProxyLimits().session_idle_timeout * 2 / 15);
      Poll();
    }
  }
};

TEST_F(OffloadTest, InstallsConfirmedSessionsOnly) {
  const SocketAddress relay = Connect(client_);
  EXPECT_EQ(offload_->flows().size(), 0u);
  Confirm(&client_);
  ASSERT_EQ(offload_->flows().size(), 1u);
  EXPECT_EQ(flow().addresses.client, client_.address());
  EXPECT_EQ(flow().addresses.listen, listen_address_);
  EXPECT_EQ(flow().addresses.relay, relay);
  EXPECT_EQ(flow().addresses.backend, backend_.address());
  Sweep();
  EXPECT_EQ(Stats().fast_path_sessions, 1u);
}

TEST_F(OffloadTest, PublishesWhatTheSocketsHaveForwarded) {
  Confirm(&client_);
  const auto before = flow().handled_nanoseconds;
  SendAndRead(client_, "x");
  const auto datagram = backend_.TryReceive();
  ASSERT_TRUE(datagram.ok());
  EXPECT_GT(flow().handled_nanoseconds[0], before[0]);
  EXPECT_EQ(flow().handled_nanoseconds[1], before[1]);
  ASSERT_TRUE(backend_.Send(datagram->from, "reply").ok());
  Poll();
  EXPECT_GT(flow().handled_nanoseconds[1], before[1]);
  EXPECT_GT(flow().handled_nanoseconds[1], flow().handled_nanoseconds[0]);
}

TEST_F(OffloadTest, AnEndRemovesTheFlowsAndCountsTheirDatagrams) {
  Confirm(&client_);
  Sweep();
  const ProxyStats before = Stats();
  EXPECT_EQ(before.fast_path_sessions, 1u);
  Relay(3, 4);
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  EXPECT_TRUE(flow().is_removed);
  const ProxyStats stats = Stats();
  EXPECT_EQ(stats.fast_path_sessions, 0u);
  EXPECT_EQ(stats.fast_path_client_datagrams, 3u);
  EXPECT_EQ(stats.fast_path_client_bytes, 30u);
  EXPECT_EQ(stats.fast_path_backend_datagrams, 4u);
  EXPECT_EQ(stats.fast_path_backend_bytes, 400u);
  EXPECT_EQ(stats.client_datagrams_forwarded,
            before.client_datagrams_forwarded + 3);
  EXPECT_EQ(stats.backend_datagrams_received,
            before.backend_datagrams_received + 4);
}

TEST_F(OffloadTest, TheEndEventIncludesTheTotalsOfTheFlows) {
  Confirm(&client_);
  ASSERT_EQ(Events().size(), 2u);
  const SessionEvent confirmed = Events().back();
  EXPECT_EQ(confirmed.kind, SessionEvent::Kind::kConfirmed);
  Relay(3, 4);
  const uint64_t client_datagrams = Stats().client_datagrams_forwarded;
  const uint64_t client_bytes = Stats().client_bytes_forwarded;
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  ASSERT_EQ(Events().size(), 3u);
  const SessionEvent ended = Events().back();
  EXPECT_EQ(ended.kind, SessionEvent::Kind::kEnded);
  EXPECT_EQ(ended.state, SessionState::kConfirmed);
  EXPECT_EQ(ended.local, listen_address_);
  EXPECT_EQ(ended.client_datagrams_forwarded, client_datagrams + 3);
  EXPECT_EQ(ended.client_bytes_forwarded, client_bytes + 30);
  EXPECT_EQ(ended.backend_datagrams_forwarded,
            confirmed.backend_datagrams_forwarded + 4);
  EXPECT_EQ(ended.backend_bytes_forwarded,
            confirmed.backend_bytes_forwarded + 400);
}

TEST_F(OffloadTest, DatagramsOfTheFlowsKeepTheSession) {
  Confirm(&client_);
  for (uint64_t i = 1; i <= 20; ++i) {
    clock_.Advance(absl::Seconds(10));
    Relay(i, 0);
    Poll();
  }
  EXPECT_EQ(Stats().sessions_active, 1u);
  EXPECT_EQ(Stats().fast_path_client_datagrams, 20u);
  for (int i = 0; i < 8; ++i) {
    clock_.Advance(absl::Seconds(10));
    Poll();
  }
  EXPECT_EQ(Stats().ended(EndReason::kIdle), 1u);
  EXPECT_TRUE(flow().is_removed);
}

TEST_F(OffloadTest, AReplyOfTheFlowsResetsTheCountOfRefusals) {
  Confirm(&client_);
  const int fd_of_nobody = -1;
  for (uint64_t i = 1; i <= 6; ++i) {
    sys_calls_.FailNext(Call::kSendMmsg, ECONNREFUSED, 1, fd_of_nobody);
    Relay(0, i);
    SendAndRead(client_, "x");
  }
  EXPECT_EQ(Stats().backend_refusals, 6u);
  EXPECT_EQ(Stats().sessions_active, 1u);
}

TEST_F(OffloadTest, AWithdrawnSessionUsesSocketsUntilItIsInstalledAgain) {
  Confirm(&client_);
  Relay(5, 5);
  Sweep();
  offload_->SetState(0, FlowState::kWithdrawn);
  Sweep();
  EXPECT_TRUE(flow().is_removed);
  EXPECT_EQ(Stats().fast_path_withdrawals, 1u);
  EXPECT_EQ(Stats().fast_path_client_datagrams, 5u);
  SendAndRead(client_, "x");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("x"));
  ASSERT_EQ(offload_->flows().size(), 2u);
  Sweep();
  EXPECT_EQ(Stats().fast_path_sessions, 1u);
}

// It stays on sockets until the offload has decided.
TEST_F(OffloadTest, ALateRefusalKeepsTheSessionOnSockets) {
  offload_->AnswerWith(FlowState::kWaiting);
  Confirm(&client_);
  Sweep();
  EXPECT_EQ(Stats().fast_path_sessions, 0u);
  EXPECT_EQ(Stats().fast_path_refusals, 0u);
  EXPECT_EQ(offload_->flows().size(), 1u);
  SendAndRead(client_, "x");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("x"));
  offload_->SetState(0, FlowState::kRefused);
  Sweep();
  EXPECT_TRUE(flow().is_removed);
  EXPECT_EQ(Stats().fast_path_refusals, 1u);
  EXPECT_EQ(Stats().fast_path_withdrawals, 0u);
  SendAndRead(client_, "y");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("y"));
  ASSERT_EQ(offload_->flows().size(), 2u) << "tried again";
  offload_->SetState(1, FlowState::kInstalled);
  Sweep();
  EXPECT_EQ(Stats().fast_path_sessions, 1u);
}

TEST_F(OffloadTest, IsOfferedAgainAfterARefusal) {
  offload_->set_has_room(false);
  Confirm(&client_);
  EXPECT_EQ(Stats().fast_path_refusals, 1u);
  EXPECT_EQ(Stats().fast_path_sessions, 0u);
  SendAndRead(client_, "x");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("x"));
  EXPECT_EQ(Stats().fast_path_refusals, 1u) << "not for each datagram";
  offload_->set_has_room(true);
  Sweep();
  Sweep();
  EXPECT_EQ(Stats().fast_path_sessions, 1u);
}

// Over IPv4 the sockets ignore what ICMP says about the path, so the flows
// must, too.
TEST_F(OffloadTest, ForgedPathSizesSetNoLimitOfTheFlows) {
  const SocketAddress relay = Connect(client_);
  Confirm(&client_);
  ASSERT_TRUE(backend_.Send(relay, "reply").ok());
  sys_calls_.FailNext(Call::kRecvMmsg, EMSGSIZE);
  Poll();
  Poll();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("reply"));
  sys_calls_.FailNext(Call::kSendMmsg, EMSGSIZE);
  SendAndRead(client_, "x");
  EXPECT_THAT(ReceiveAll(&backend_), Contains("x"));
  EXPECT_EQ(flow().packet_bytes_max, 0u) << "none was set";
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
