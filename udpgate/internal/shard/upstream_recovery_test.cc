// A session gets a new upstream socket if its source address is of no use any
// more.
#include "udpgate/internal/shard/upstream_recovery.h"

#include <errno.h>

#include <vector>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/failing_sys_calls.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::Call;
using test::LoopbackPeer;
using ::testing::ElementsAre;

class UpstreamRecoveryTest : public ShardTest {
 protected:
  UpstreamRecoveryTest()
      : new_source_(*SocketAddress::FromIpAndPort("127.0.0.2", 0)) {}

  uint64_t Reopened() const {
    const ProxyStats stats = Stats();
    return stats.reopened(ReopenReason::kSendFailed) +
           stats.reopened(ReopenReason::kNetworkChange) +
           stats.reopened(ReopenReason::kSilence);
  }

  // While a backend is silent its route is looked up so often.
  static constexpr absl::Duration kSourceCheck =
      absl::Nanoseconds(UpstreamRecovery::kSourceCheckNanoseconds);

  const SocketAddress new_source_;
};

TEST_F(UpstreamRecoveryTest, SilenceAndANewRouteReopenTheSocket) {
  Start();
  const SocketAddress relay = Connect(client_);
  PostDisconnect(ShardMessage::Kind::kEndSession, SocketAddress(), {});
  const uint64_t created = Stats().sessions_created;
  sys_calls_.route_source = new_source_;
  absl::Duration passed;
  while (Reopened() == 0 && passed < 30 * kSourceCheck) {
    clock_.Advance(absl::Milliseconds(500));
    passed += absl::Milliseconds(500);
    SendAndRead(client_, "again");
  }
  EXPECT_EQ(Stats().reopened(ReopenReason::kSilence), 1u);
  EXPECT_LE(passed, 2 * kSourceCheck);
  // The same session, with another source address.
  std::vector<SocketAddress> sources;
  for (auto got = backend_.TryReceive(); got.ok();
       got = backend_.TryReceive()) {
    sources.push_back(got->from);
  }
  ASSERT_FALSE(sources.empty());
  EXPECT_EQ(sources.front(), relay);
  EXPECT_EQ(sources.back().WithPort(0), sys_calls_.route_source);
  ASSERT_TRUE(backend_.Send(sources.back(), "reply").ok());
  Poll();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("reply"));
  EXPECT_EQ(Stats().sessions_created, created);
  EXPECT_EQ(context_->relay_ports.Find(sources.back().port()).size(), 1u);
  EXPECT_EQ(context_->relay_ports.in_use(), 1);
  EXPECT_EQ(resolver_->pending.size(), 0u);
}

// Whatever the routes say.
TEST_F(UpstreamRecoveryTest, ABackendThatRepliesKeepsTheSocket) {
  Start();
  const SocketAddress relay = Connect(client_);
  sys_calls_.route_source = new_source_;
  for (int i = 0; i < 60; ++i) {
    clock_.Advance(absl::Milliseconds(500));
    SendAndRead(client_, "x");
    ASSERT_TRUE(backend_.Send(relay, "y").ok());
    Poll();
  }
  EXPECT_EQ(Reopened(), 0u);
}

TEST_F(UpstreamRecoveryTest, ALostSourceAddressIsReplacedWithTheNextDatagram) {
  Start();
  const SocketAddress relay = Connect(client_);
  sys_calls_.route_source = new_source_;
  context_->network_epoch.fetch_add(1);
  SendAndRead(client_, "stays");
  EXPECT_EQ(Reopened(), 0u) << "the old address is still there";
  EXPECT_EQ(backend_.TryReceive()->from, relay);
  context_->network_epoch.fetch_add(1);
  sys_calls_.FailNext(Call::kBind, EADDRNOTAVAIL);
  SendAndRead(client_, "moves");
  EXPECT_EQ(Stats().reopened(ReopenReason::kNetworkChange), 1u);
  EXPECT_EQ(backend_.TryReceive()->from.WithPort(0), sys_calls_.route_source);
}

// EINVAL is what IPv4 reports if the loss of the address was not noticed
// otherwise.
TEST_F(UpstreamRecoveryTest,
       ASendWithoutItsSourceAddressIsRepeatedOnANewSocket) {
  Start();
  Connect(client_);
  sys_calls_.route_source = new_source_;
  sys_calls_.FailNext(Call::kSendMmsg, EINVAL);
  SendAndRead(client_, "not lost");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("not lost"));
  EXPECT_EQ(Stats().reopened(ReopenReason::kSendFailed), 1u);
  EXPECT_EQ(Stats().backend_refusals, 0u);
}

// An ICMP error of an earlier datagram came first, as it does if a path breaks.
TEST_F(UpstreamRecoveryTest, EarlierErrorsTakeNoAttemptFromTheNewSocket) {
  Start();
  Connect(client_);
  sys_calls_.route_source = new_source_;
  sys_calls_.FailNext(Call::kSendMmsg, EHOSTUNREACH);
  sys_calls_.FailNext(Call::kSendMmsg, EINVAL);
  sys_calls_.FailNext(Call::kSendMmsg, ECONNREFUSED);
  SendAndRead(client_, "not lost");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("not lost"));
  EXPECT_EQ(Stats().reopened(ReopenReason::kSendFailed), 1u);
  EXPECT_EQ(Stats().dropped_total(), 0u);
}

TEST_F(UpstreamRecoveryTest, AConfiguredSourceAddressStays) {
  ProxyOptions options;
  options.upstream_bind_addresses = {
      *SocketAddress::FromIpAndPort("127.0.0.3", 0)};
  Start(options);
  Connect(client_);
  sys_calls_.route_source = new_source_;
  for (int i = 0; i < 10; ++i) {
    clock_.Advance(kSourceCheck);
    SendAndRead(client_, "again");
    Poll();
  }
  EXPECT_EQ(Stats().sessions_active, 1u);
  EXPECT_EQ(Reopened(), 0u);
}

TEST_F(UpstreamRecoveryTest, KeepsTheOldSocketIfNoNewOneCanBeOpened) {
  Start();
  Connect(client_);
  sys_calls_.route_source = new_source_;
  for (int i = 0; i < 10; ++i) {
    clock_.Advance(absl::Seconds(1));
    sys_calls_.FailAll(Call::kEpollControl, ENOMEM);
    SendAndRead(client_, "x");
    sys_calls_.Reset();
  }
  EXPECT_EQ(Reopened(), 0u);
  EXPECT_EQ(Stats().sessions_active, 1u);
  EXPECT_EQ(ReceiveAll(&backend_).size(), 10u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
