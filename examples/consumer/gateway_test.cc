// Tests our resolver in a real gateway, and that every public test target of
// udpgate can be used from outside.
#include <errno.h>

#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/failing_sys_calls.h"
#include "testing/loopback_peer.h"
#include "testing/mock_backend_resolver.h"
#include "testing/mock_disconnect_source.h"
#include "testing/simulated_clock.h"
#include "two_backends.h"
#include "udpgate/proxy.h"

namespace {

using ::udpgate::test::AwaitTrue;
using ::udpgate::test::EchoBackend;
using ::udpgate::test::LoopbackPeer;

udpgate::ProxyOptions LoopbackOptions() {
  udpgate::ProxyOptions options;
  options.listen_address = udpgate::SocketAddress::Ipv4Loopback(0);
  return options;
}

TEST(GatewayTest, ClientsAreSpreadOverTwoBackends) {
  EchoBackend red("red"), blue("blue");
  udpgate::ProxyDependencies dependencies;
  dependencies.resolver =
      std::make_shared<TwoBackends>(red.address(), blue.address());
  auto proxy = udpgate::Proxy::Create(LoopbackOptions(), dependencies);
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  ASSERT_TRUE((*proxy)->Start().ok());
  const udpgate::SocketAddress gate = (*proxy)->listen_addresses()[0];

  LoopbackPeer first, second;
  EXPECT_EQ(first.Ask(gate, "1").value_or("no answer"), "red:1");
  EXPECT_EQ(second.Ask(gate, "2").value_or("no answer"), "blue:2");
  EXPECT_EQ(first.Ask(gate, "3").value_or("no answer"), "red:3");
}

TEST(GatewayTest, MocksAndClockWorkFromOutside) {
  udpgate::test::SimulatedClock clock;
  auto resolver = std::make_shared<
      ::testing::StrictMock<udpgate::test::MockBackendResolver>>();
  EXPECT_CALL(*resolver, Resolve)
      .WillOnce(udpgate::test::ResolveWithError(absl::NotFoundError("none")));
  auto disconnects = std::make_shared<
      ::testing::NiceMock<udpgate::test::MockDisconnectSource>>();
  auto proxy = udpgate::Proxy::Create(LoopbackOptions(),
                                      {resolver, disconnects, &clock, nullptr});
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  ASSERT_TRUE((*proxy)->Start().ok());

  LoopbackPeer client;
  ASSERT_TRUE(client.Send((*proxy)->listen_addresses()[0], "hello").ok());
  EXPECT_TRUE(AwaitTrue([&] {
    return (*proxy)->GetStats().dropped(udpgate::DropReason::kNoBackend) == 1;
  }));
}

TEST(GatewayTest, AFailingBindIsAnErrorOfCreate) {
  udpgate::test::FailingSysCalls sys_calls;
  sys_calls.FailAll(udpgate::test::Call::kBind, EADDRINUSE);
  udpgate::ProxyDependencies dependencies;
  dependencies.resolver =
      std::make_shared<TwoBackends>(udpgate::SocketAddress::Ipv4Loopback(1),
                                    udpgate::SocketAddress::Ipv4Loopback(2));
  dependencies.sys_calls = &sys_calls;
  EXPECT_FALSE(udpgate::Proxy::Create(LoopbackOptions(), dependencies).ok());
}

}  // namespace
