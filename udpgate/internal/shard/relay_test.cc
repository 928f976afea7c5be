// Datagrams of live sessions, both ways, and what errors of the system calls
// do.
#include "udpgate/internal/shard/relay.h"

#include <errno.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
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

class RelayTest : public ShardTest {};

TEST_F(RelayTest, ForwardsBothWays) {
  Start();
  const SocketAddress relay = Connect(client_);
  SendAndRead(client_, "one");
  SendAndRead(client_, "");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("one", ""));
  ASSERT_TRUE(backend_.Send(relay, "reply").ok());
  ASSERT_TRUE(backend_.Send(relay, "").ok());
  Poll();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("reply", ""));

  const ProxyStats stats = Stats();
  EXPECT_EQ(stats.client_datagrams_received, 3u);
  EXPECT_EQ(stats.client_bytes_received, 8u);
  EXPECT_EQ(stats.client_datagrams_forwarded, 3u);
  EXPECT_EQ(stats.client_bytes_forwarded, 8u);
  EXPECT_EQ(stats.backend_datagrams_received, 2u);
  EXPECT_EQ(stats.backend_datagrams_forwarded, 2u);
  EXPECT_EQ(stats.backend_bytes_forwarded, 5u);
  EXPECT_EQ(stats.sessions_active, 1u);
  EXPECT_EQ(resolver_->pending.size(), 0u);
}

// One client sends runs, with datagrams of another one between them, over
// several batches.
TEST_F(RelayTest, KeepsTheOrderOfEachClientInBatches) {
  ProxyOptions options;
  options.batch_size = 4;
  Start(options);
  LoopbackPeer other;
  LoopbackPeer other_backend;
  Connect(client_);
  SendAndRead(other, "hello");
  ResolveTo(other_backend.address());
  std::vector<std::string> expected, other_expected = {"hello"};
  for (int i = 0; i < 25; ++i) {
    Send(client_, absl::StrCat(i));
    expected.push_back(absl::StrCat(i));
    if (i % 3 != 0) continue;
    Send(other, absl::StrCat("o", i));
    other_expected.push_back(absl::StrCat("o", i));
  }
  for (int i = 0; i < 10; ++i) Read();
  EXPECT_EQ(ReceiveAll(&backend_), expected);
  EXPECT_EQ(ReceiveAll(&other_backend), other_expected);
}

TEST_F(RelayTest, ContinuesAPartialSend) {
  Start();
  const SocketAddress relay = Connect(client_);
  sys_calls_.LimitMessages(Call::kSendMmsg, 1);
  for (const char* payload : {"1", "2", "3"}) {
    Send(client_, payload);
    ASSERT_TRUE(backend_.Send(relay, payload).ok());
  }
  Read();
  Poll();
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("1", "2", "3"));
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("1", "2", "3"));
}

TEST_F(RelayTest, NeverForwardsATruncatedDatagram) {
  Start();
  const SocketAddress relay = Connect(client_);
  sys_calls_.TruncateNext();
  SendAndRead(client_, "cut");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre());
  EXPECT_EQ(Stats().dropped(DropReason::kTruncated), 1u);
  sys_calls_.TruncateNext();
  ASSERT_TRUE(backend_.Send(relay, "cut").ok());
  Poll();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre());
  EXPECT_EQ(Stats().dropped(DropReason::kReplyTruncated), 1u);
}

TEST_F(RelayTest, RetriesAFailedRead) {
  Start();
  const SocketAddress relay = Connect(client_);
  for (const int error : {ENOBUFS, ENOMEM, EHOSTUNREACH, EAGAIN}) {
    sys_calls_.FailNext(Call::kRecvMmsg, error);
    Send(client_, "request");
    Read();
    Read();
    EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("request"));
    sys_calls_.FailNext(Call::kRecvMmsg, error);
    ASSERT_TRUE(backend_.Send(relay, "reply").ok());
    Poll();
    Poll();
    EXPECT_THAT(ReceiveAll(&client_), ElementsAre("reply"));
  }
}

TEST_F(RelayTest, AFailedSendDropsOneDatagram) {
  Start();
  const SocketAddress relay = Connect(client_);
  for (const int error : {EAGAIN, ENOBUFS, ENOMEM, EPERM, EINVAL, ENETDOWN}) {
    Send(client_, "lost");
    Send(client_, "passes");
    sys_calls_.FailNext(Call::kSendMmsg, error);
    Read();
    EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("passes"));
    // Some of the errors count as refusals; a reply resets the count.
    ASSERT_TRUE(backend_.Send(relay, "reply").ok());
    Poll();
  }
  EXPECT_EQ(Stats().dropped(DropReason::kBackendSendFailed), 6u);
  EXPECT_EQ(Stats().sessions_active, 1u);
}

// The error of an ICMP message is met by the next send. If the repeated send
// fails, too, the error is its own.
TEST_F(RelayTest, RepeatsASendThatMeetsAnEarlierError) {
  Start();
  const SocketAddress relay = Connect(client_);
  for (const int error :
       {ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ENOPROTOOPT, EPROTO, EMSGSIZE,
        EACCES, EHOSTDOWN, ENONET, EOPNOTSUPP}) {
    sys_calls_.FailNext(Call::kSendMmsg, error);
    SendAndRead(client_, "sent again");
    EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("sent again"));
    ASSERT_TRUE(backend_.Send(relay, "reply").ok());
    Poll();
  }
  EXPECT_EQ(Stats().dropped_total(), 0u);
  sys_calls_.FailNext(Call::kSendMmsg, EHOSTUNREACH, 2);
  Send(client_, "lost");
  Send(client_, "passes");
  Read();
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("passes"));
  EXPECT_EQ(Stats().dropped(DropReason::kBackendSendFailed), 1u);
  EXPECT_EQ(Stats().sessions_active, 1u);
}

TEST_F(RelayTest, OneRefusalKeepsTheSessionAndTheDatagram) {
  Start();
  Connect(client_);
  const SocketAddress address = backend_.address();
  backend_ = LoopbackPeer();
  SendAndRead(client_, "into the void");  // its refusal is queued at once
  backend_ = LoopbackPeer(address);
  SendAndRead(client_, "meets the stale error");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("meets the stale error"));
  EXPECT_EQ(Stats().backend_refusals, 1u);
  EXPECT_EQ(Stats().sessions_active, 1u);
  EXPECT_EQ(Stats().client_datagrams_forwarded, 3u);
}

TEST_F(RelayTest, ConsecutiveRefusalsEndTheSession) {
  const ProxyOptions options;
  Start(options);
  Connect(client_);
  backend_ = LoopbackPeer();
  for (int i = 0; i < options.limits.backend_refusals_max; ++i) {
    EXPECT_EQ(Stats().sessions_active, 1u) << "after " << i << " refusals";
    SendAndRead(client_, "x");
    Poll();
  }
  EXPECT_EQ(Stats().ended(EndReason::kBackendRefused), 1u);
  EXPECT_EQ(Stats().backend_refusals,
            static_cast<uint64_t>(options.limits.backend_refusals_max));
  Connect(client_);  // a new session
}

TEST_F(RelayTest, AReplyResetsTheCountOfRefusals) {
  Start();
  const int refusals = ProxyLimits().backend_refusals_max - 1;
  const SocketAddress relay = Connect(client_);
  const SocketAddress address = backend_.address();
  for (int round = 0; round < 3; ++round) {
    backend_ = LoopbackPeer();
    for (int i = 0; i < refusals; ++i) {
      SendAndRead(client_, "x");
      Poll();
    }
    backend_ = LoopbackPeer(address);
    ASSERT_TRUE(backend_.Send(relay, "back").ok());
    Poll();
  }
  EXPECT_EQ(Stats().backend_refusals, 3u * refusals);
  EXPECT_EQ(Stats().sessions_active, 1u);
}

TEST_F(RelayTest, CountsRefusalsOfBufferedDatagrams) {
  Start();
  const SocketAddress address = backend_.address();
  backend_ = LoopbackPeer();
  for (int i = 0; i < 10; ++i) SendAndRead(client_, "x");
  ResolveTo(address);
  for (int i = 0; i < 10; ++i) Poll();
  EXPECT_GE(Stats().backend_refusals, 1u);
}

// A route of type unreachable, prohibit or blackhole, or a packet filter of
// this host.
TEST_F(RelayTest, ConsecutiveUnreachableErrorsEndTheSession) {
  for (const int error : {ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL, EPERM}) {
    if (worker_ == nullptr) Start();
    Connect(client_);
    const uint64_t ended_before = Stats().ended(EndReason::kBackendRefused);
    sys_calls_.FailAll(Call::kSendMmsg, error);
    for (int i = 0; i < ProxyLimits().backend_refusals_max; ++i) {
      EXPECT_EQ(Stats().ended(EndReason::kBackendRefused), ended_before);
      SendAndRead(client_, "lost");
    }
    EXPECT_EQ(Stats().ended(EndReason::kBackendRefused), ended_before + 1)
        << ErrnoToText(error);
    sys_calls_.Reset();
  }
}

// EMSGSIZE again, without an ICMP message: larger than the interface carries.
TEST_F(RelayTest, DropsWhatWouldBeFragmented) {
  ProxyOptions options;
  options.dont_fragment = true;
  Start(options);
  const SocketAddress relay = Connect(client_);
  sys_calls_.FailNext(Call::kSendMmsg, EMSGSIZE, 2);
  SendAndRead(client_, "too large");
  EXPECT_EQ(Stats().dropped(DropReason::kWouldFragment), 1u);
  ASSERT_TRUE(backend_.Send(relay, "too large").ok());
  sys_calls_.FailNext(Call::kSendMmsg, EMSGSIZE);
  Poll();
  EXPECT_EQ(Stats().dropped(DropReason::kWouldFragment), 2u);
  EXPECT_EQ(Stats().dropped_total(), 2u);
  SendAndRead(client_, "x");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("x"));
}

TEST_F(RelayTest, SizeErrorsAreSendErrorsWithoutDontFragment) {
  Start();
  const SocketAddress relay = Connect(client_);
  sys_calls_.FailNext(Call::kSendMmsg, EMSGSIZE, 2);
  SendAndRead(client_, "too large");
  EXPECT_EQ(Stats().dropped(DropReason::kBackendSendFailed), 1u);
  ASSERT_TRUE(backend_.Send(relay, "too large").ok());
  sys_calls_.FailNext(Call::kSendMmsg, EMSGSIZE);
  Poll();
  EXPECT_EQ(Stats().dropped(DropReason::kReplySendFailed), 1u);
}

TEST_F(RelayTest, CountsRepliesDroppedByTheKernel) {
  ProxyOptions options;
  options.receive_buffer_bytes = 4096;
  Start(options);
  const SocketAddress relay = Connect(client_);
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(backend_.Send(relay, std::string(100, 'x')).ok());
  }
  for (int i = 0; i < 5; ++i) Poll();
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  EXPECT_GT(Stats().kernel_drops, 0u);
  EXPECT_EQ(Stats().backend_datagrams_received + Stats().kernel_drops, 200u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
