// What the listening socket gives: datagrams, lost ones, and ICMP errors.
#include "udpgate/internal/shard/reader.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::LoopbackPeer;

class ReaderTest : public ShardTest {};

// SO_RXQ_OVFL reports them as a running total.
TEST_F(ReaderTest, CountsDatagramsDroppedByTheKernel) {
  ProxyOptions options;
  options.receive_buffer_bytes = 4096;
  Start(options);
  Connect(client_);
  uint64_t sent_count = 1;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 200; ++i) Send(client_, std::string(100, 'x'));
    sent_count += 200;
    for (uint64_t before = 0; before != Stats().client_datagrams_received;) {
      before = Stats().client_datagrams_received;
      Read();
    }
    // The total travels with the next datagram that is queued.
    SendAndRead(client_, "x");
    ++sent_count;
  }
  EXPECT_GT(Stats().kernel_drops, 0u);
  EXPECT_EQ(Stats().client_datagrams_received + Stats().kernel_drops,
            sent_count);
}

// The total wraps, and an adopted socket does not begin at 0.
TEST_F(ReaderTest, CountsKernelDropsAsDifferences) {
  Start();
  Connect(client_);
  uint32_t total = 0;
  sys_calls_.after_receive = [&](msghdr* header) {
    if (header->msg_control == nullptr) return;  // a reply's
    auto* entry = static_cast<cmsghdr*>(header->msg_control);
    entry->cmsg_level = SOL_SOCKET;
    entry->cmsg_type = SO_RXQ_OVFL;
    entry->cmsg_len = CMSG_LEN(sizeof(total));
    std::memcpy(CMSG_DATA(entry), &total, sizeof(total));
    header->msg_controllen = CMSG_SPACE(sizeof(total));
  };
  const std::pair<uint32_t, uint64_t> steps[] = {
      {UINT32_MAX - 1, UINT32_MAX - 1}, {3, 5}, {3, 0}, {4, 1}};
  for (const auto& [reported, expected] : steps) {
    const uint64_t before = Stats().kernel_drops;
    total = reported;
    SendAndRead(client_, "x");
    EXPECT_EQ(Stats().kernel_drops - before, expected);
  }
}

// A source port of 0 is legal on the wire (RFC 768), but cannot be sent to.
TEST_F(ReaderTest, DropsDatagramsThatCannotBeAnswered) {
  Start();
  sys_calls_.after_receive = [](msghdr* header) {
    static_cast<sockaddr_in*>(header->msg_name)->sin_port = 0;
  };
  SendAndRead(client_, "x");
  EXPECT_EQ(Stats().dropped(DropReason::kInvalidSource), 1u);
  EXPECT_TRUE(resolver_->pending.empty());
  sys_calls_.after_receive = nullptr;
  Connect(client_);
}

TEST_F(ReaderTest, IgnoresFurtherRefusalsOfClientsForASecond) {
  Start();
  Confirm(&client_);
  SendAndRead(client_, "x");
  const SocketAddress relay = backend_.TryReceive()->from;
  client_ = LoopbackPeer();
  const auto refuse = [&] {
    ASSERT_TRUE(backend_.Send(relay, "x").ok());
    Poll();
    reader_->TakeClientErrors();
    Poll();
  };
  for (int i = 0; i < Reader::kErrorsPerSecondMax; ++i) refuse();
  EXPECT_EQ(context_->client_error_pauses.load(), 0u);
  refuse();
  EXPECT_EQ(context_->client_error_pauses.load(), 1u);
  const uint64_t refusals = context_->client_refusals.load();
  EXPECT_GT(refusals, uint64_t{Reader::kErrorsPerSecondMax});
  refuse();
  Read();
  refuse();
  EXPECT_EQ(context_->client_refusals.load(), refusals);
  clock_.Advance(absl::Seconds(1));
  Read();
  refuse();
  EXPECT_EQ(context_->client_refusals.load(), refusals + 1);
  EXPECT_EQ(Stats().dropped(DropReason::kReplySendFailed), 0u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
