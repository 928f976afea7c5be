// Disconnect events from a stream, with the real program.
#include <string>

#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"

namespace udpgate {
namespace test {
namespace {

constexpr char kStream[] = "udp_gate:disconnects";

class DisconnectStreamTest : public GateTest {
 protected:
  static void Add(const std::string& payload) {
    const auto added = redis().Command(
        {"XADD", kStream, "MAXLEN", "~", "10000", "*", "event", payload});
    ASSERT_TRUE(added.ok()) << added.status();
  }
};

TEST_F(DisconnectStreamTest, AnEventEndsASessionOnceHoweverItComes) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  EchoBackend third("third");
  SetBackend(lobby);
  StartGate({{"REDIS_DISCONNECT_STREAM", kStream}});
  LoopbackPeer client;
  LoopbackPeer other;
  ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(AwaitServedBy(&other, address(), "lobby"));
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  SetBackend(arena);
  Add(client.address().ToString());
  ASSERT_TRUE(AwaitServedBy(&client, address(), "arena"));
  SetBackend(third);
  // The same event: the client has come back since. What follows on the channel
  // shows that it has been handled.
  Publish(client.address().ToString());
  Publish(other.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&other, address(), "third"));
  EXPECT_TRUE(IsServedBy(&client, address(), "arena"));
}

TEST_F(DisconnectStreamTest, AnEventOfAnOutageIsReadAfterIt) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate(
      {{"REDIS_DISCONNECT_STREAM", kStream}, {"REDIS_TIMEOUT_MS", "200"}});
  LoopbackPeer client;
  ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  redis().Pause();
  ASSERT_TRUE(gate().AwaitLog("(disconnect stream): no reply within"))
      << gate().log();
  redis().Resume();
  SetBackend(arena);
  Add(client.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
