// A unit test as a program that embeds udpgate would write it: a real gateway
// on loopback, with a mock in place of its resolver and of its disconnect
// source, and a clock that the test moves. No Redis, no sleeping, no fixed
// port, so it may run beside any number of other tests.
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/loopback_peer.h"
#include "testing/mock_backend_resolver.h"
#include "testing/mock_disconnect_source.h"
#include "testing/simulated_clock.h"
#include "udpgate/proxy.h"

namespace {

using ::testing::NiceMock;
using ::testing::StrictMock;
using ::udpgate::DisconnectSource;
using ::udpgate::DisconnectTarget;
using ::udpgate::DropReason;
using ::udpgate::EndReason;
using ::udpgate::ResolveResult;
using ::udpgate::test::AwaitTrue;
using ::udpgate::test::CaptureHandlerIn;
using ::udpgate::test::HeldResolve;
using ::udpgate::test::HeldResolves;
using ::udpgate::test::HoldResolveIn;
using ::udpgate::test::LoopbackPeer;
using ::udpgate::test::MockBackendResolver;
using ::udpgate::test::MockDisconnectSource;
using ::udpgate::test::ResolveWith;
using ::udpgate::test::ResolveWithError;
using ::udpgate::test::SimulatedClock;

class GatewayTest : public ::testing::Test {
 protected:
  // Call it after the expectations are set, since the gateway's threads use the
  // mocks.
  void StartGateway() {
    EXPECT_CALL(*disconnects_, Start)
        .WillOnce(CaptureHandlerIn(&disconnect_handler_));
    udpgate::ProxyOptions options;
    options.listen_address = udpgate::SocketAddress::Ipv4Loopback(0);
    options.worker_count = 1;
    options.limits.session_idle_timeout = absl::Milliseconds(100);
    auto proxy = udpgate::Proxy::Create(
        options, {resolver_, disconnects_, &clock_, /*sys_calls=*/nullptr});
    ASSERT_TRUE(proxy.ok()) << proxy.status();
    proxy_ = *std::move(proxy);
    const absl::Status started = proxy_->Start();
    ASSERT_TRUE(started.ok()) << started;
  }

  void Send(const LoopbackPeer& client, const std::string& text) {
    const absl::Status sent = client.Send(proxy_->listen_addresses()[0], text);
    ASSERT_TRUE(sent.ok()) << sent;
  }

  // The next payload that `peer` receives, or the error.
  static std::string Received(LoopbackPeer& peer) {
    auto datagram = peer.Receive();
    return datagram.ok() ? datagram->payload : datagram.status().ToString();
  }

  SimulatedClock clock_;
  std::shared_ptr<StrictMock<MockBackendResolver>> resolver_ =
      std::make_shared<StrictMock<MockBackendResolver>>();
  std::shared_ptr<NiceMock<MockDisconnectSource>> disconnects_ =
      std::make_shared<NiceMock<MockDisconnectSource>>();
  DisconnectSource::Handler disconnect_handler_;
  LoopbackPeer first_backend_, second_backend_, client_;
  std::unique_ptr<udpgate::Proxy> proxy_;  // last: uses all of the above
};

TEST_F(GatewayTest, AClientKeepsItsBackendUntilItIsDisconnected) {
  EXPECT_CALL(*resolver_, Resolve)
      .WillOnce(ResolveWith(first_backend_.address(), "lobby-1"))
      .WillOnce(ResolveWith(second_backend_.address(), "lobby-2"));
  StartGateway();

  Send(client_, "one");
  EXPECT_EQ(Received(first_backend_), "one");
  Send(client_, "two");
  EXPECT_EQ(Received(first_backend_), "two");

  disconnect_handler_(DisconnectTarget::ForClient(client_.address()));
  ASSERT_TRUE(AwaitTrue([this] {
    return proxy_->GetStats().ended(EndReason::kDisconnected) == 1;
  }));
  Send(client_, "three");
  EXPECT_EQ(Received(second_backend_), "three");
}

TEST_F(GatewayTest, DatagramsWaitForALateResultInOrder) {
  HeldResolves held;
  EXPECT_CALL(*resolver_, Resolve).WillOnce(HoldResolveIn(&held));
  StartGateway();

  Send(client_, "one");
  absl::StatusOr<HeldResolve> pending = held.Take();
  ASSERT_TRUE(pending.ok()) << pending.status();
  EXPECT_EQ(pending->client, client_.address());
  EXPECT_EQ(pending->first_datagram, "one");
  Send(client_, "two");
  ASSERT_TRUE(
      AwaitTrue([this] { return proxy_->GetStats().datagrams_held == 2; }));

  pending->done(ResolveResult{first_backend_.address(), "lobby"});
  EXPECT_EQ(Received(first_backend_), "one");
  EXPECT_EQ(Received(first_backend_), "two");
}

TEST_F(GatewayTest, WithoutABackendDatagramsAreCounted) {
  EXPECT_CALL(*resolver_, Resolve)
      .WillOnce(ResolveWithError(absl::NotFoundError("no lobby is up")))
      .WillOnce(ResolveWith(first_backend_.address()));
  StartGateway();

  Send(client_, "lost");
  ASSERT_TRUE(AwaitTrue([this] {
    return proxy_->GetStats().dropped(DropReason::kNoBackend) == 1;
  }));
  Send(client_, "delivered");
  EXPECT_EQ(Received(first_backend_), "delivered");
}

TEST_F(GatewayTest, AnIdleSessionEnds) {
  EXPECT_CALL(*resolver_, Resolve)
      .WillOnce(ResolveWith(first_backend_.address()));
  StartGateway();

  Send(client_, "hello");
  EXPECT_EQ(Received(first_backend_), "hello");
  ASSERT_TRUE(
      AwaitTrue([this] { return proxy_->GetStats().sessions_active == 1; }));
  clock_.Advance(absl::Milliseconds(99));
  EXPECT_EQ(proxy_->GetStats().ended(EndReason::kIdle), 0u);
  clock_.Advance(absl::Milliseconds(26));  // 1.25 times the time-out
  EXPECT_TRUE(AwaitTrue(
      [this] { return proxy_->GetStats().ended(EndReason::kIdle) == 1; }));
}

}  // namespace
