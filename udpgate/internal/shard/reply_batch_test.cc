// Replies on their way to the clients.
#include "udpgate/internal/shard/reply_batch.h"

#include <errno.h>

#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/failing_sys_calls.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/net/error_queue.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::Call;
using test::LoopbackPeer;
using ::testing::ElementsAre;

class ReplyBatchTest : public ShardTest {};

TEST_F(ReplyBatchTest, SendsFromTheAddressThatTheClientLastSentTo) {
  ProxyOptions options;
  options.listen_address = SocketAddress::Ipv4Any(0);
  Start(options);
  const auto gate = [&](absl::string_view ip) {
    return *SocketAddress::FromIpAndPort(ip, listen_address_.port());
  };
  SocketAddress relay;
  for (const char* ip : {"127.0.0.2", "127.0.0.3", "127.0.0.2"}) {
    ASSERT_TRUE(client_.Send(gate(ip), "x").ok());
    Read();
    if (!relay.is_valid()) ResolveTo(backend_.address());
    const auto datagram = backend_.TryReceive();
    ASSERT_TRUE(datagram.ok()) << datagram.status();
    relay = datagram->from;
    ASSERT_TRUE(backend_.Send(relay, "reply").ok());
    Poll();
    const auto reply = client_.TryReceive();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->from, gate(ip));
  }
}

// A reply that was read in the same iteration is not lost with the session.
TEST_F(ReplyBatchTest, FlushesBeforeASessionEnds) {
  ProxyOptions options;
  options.limits.backend_refusals_max = 1;
  Start(options);
  LoopbackPeer other;
  const SocketAddress relay = Connect(client_);
  Connect(other);
  ASSERT_TRUE(backend_.Send(relay, "last words").ok());
  backend_ = LoopbackPeer();  // the old port is closed now
  SendAndRead(other, "x");    // which refuses it
  Poll();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("last words"));
  EXPECT_EQ(Stats().ended(EndReason::kBackendRefused), 1u);
}

TEST_F(ReplyBatchTest, AFailedSendDropsOneReply) {
  Start();
  LoopbackPeer other;
  const SocketAddress relay = Connect(client_);
  const SocketAddress other_relay = Connect(other);
  ASSERT_TRUE(backend_.Send(relay, "lost").ok());
  ASSERT_TRUE(backend_.Send(other_relay, "passes").ok());
  sys_calls_.FailNext(Call::kSendMmsg, EPERM);
  Poll();
  EXPECT_EQ(ReceiveAll(&client_).size() + ReceiveAll(&other).size(), 1u);
  EXPECT_EQ(Stats().dropped(DropReason::kReplySendFailed), 1u);
  EXPECT_EQ(Stats().sessions_active, 2u);
}

// An ICMP error of another client's reply (IP_RECVERR).
TEST_F(ReplyBatchTest, RepeatsASendThatMeetsTheErrorOfAnotherReply) {
  Start();
  const SocketAddress relay = Connect(client_);
  ASSERT_TRUE(backend_.Send(relay, "passes").ok());
  // As many as a reader takes from the error queue at once: each one that it
  // takes makes the next one the error of the next call.
  sys_calls_.FailNext(Call::kSendMmsg, ECONNREFUSED, kErrorsPerTakeMax);
  Poll();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("passes"));
  // An error that stays is of this client.
  ASSERT_TRUE(backend_.Send(relay, "lost").ok());
  sys_calls_.FailAll(Call::kSendMmsg, EHOSTUNREACH);
  Poll();
  EXPECT_EQ(Stats().dropped(DropReason::kReplySendFailed), 1u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
