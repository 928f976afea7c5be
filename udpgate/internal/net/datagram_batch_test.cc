#include "udpgate/internal/net/datagram_batch.h"

#include <netinet/in.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/net/listen_socket.h"

namespace udpgate {
namespace internal {
namespace {

using test::LoopbackPeer;

std::string Text(absl::Span<const char> payload) {
  return std::string(payload.data(), payload.size());
}

SocketAddress Address(absl::string_view text) {
  absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text);
  EXPECT_TRUE(address.ok()) << address.status();
  return *address;
}

ListenSocket Listen(absl::string_view address) {
  ProxyOptions options;
  options.listen_address = Address(address);
  auto sockets =
      OpenListenSockets(SysCalls::Real(), options, ClientHash::Random());
  EXPECT_TRUE(sockets.ok()) << sockets.status();
  return std::move(sockets->front());
}

TEST(ReceiveBatchTest, ReadsSeveralDatagramsOfAnySize) {
  ListenSocket socket = Listen("127.0.0.1:0");
  LoopbackPeer client;
  const std::string largest(test::kDatagramBytesMax, 'x');
  for (const std::string& payload :
       {std::string("a"), std::string(), largest}) {
    ASSERT_TRUE(client.Send(socket.address, payload).ok());
  }
  ReceiveBatch batch(8, ReceiveBatch::Extent::kControlAndSource);
  const SysCallResult received =
      batch.Receive(SysCalls::Real(), socket.fd.get(), 0, batch.capacity());
  ASSERT_EQ(received.value, 3);
  EXPECT_EQ(Text(batch.payload(0)), "a");
  EXPECT_EQ(Text(batch.payload(1)), "");
  EXPECT_EQ(Text(batch.payload(2)), largest);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(batch.source(i), client.address());
    EXPECT_FALSE(batch.is_truncated(i));
  }
  EXPECT_EQ(batch.Receive(SysCalls::Real(), socket.fd.get(), 0, 8).error,
            EAGAIN);
}

TEST(ReceiveBatchTest, AppendsBehindWhatIsThere) {
  ListenSocket socket = Listen("127.0.0.1:0");
  LoopbackPeer client;
  ReceiveBatch batch(4, ReceiveBatch::Extent::kControlAndSource);
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(client.Send(socket.address, absl::StrCat(i)).ok());
  }
  ASSERT_EQ(batch.Receive(SysCalls::Real(), socket.fd.get(), 0, 1).value, 1);
  ASSERT_EQ(batch.Receive(SysCalls::Real(), socket.fd.get(), 1, 9).value, 3);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(Text(batch.payload(i)), absl::StrCat(i));
  }
}

// A reply must leave from the very address that the client wrote to, whatever
// the family of socket and client.
struct Case {
  const char* listen;
  const char* client;
  const char* local;
};

class LocalAddressTest : public ::testing::TestWithParam<Case> {};

TEST_P(LocalAddressTest, TheReplyComesFromWhereTheClientWroteTo) {
  ListenSocket socket = Listen(GetParam().listen);
  LoopbackPeer client(Address(GetParam().client));
  const SocketAddress wrote_to =
      Address(GetParam().local).WithPort(socket.address.port());
  ASSERT_TRUE(client.Send(wrote_to, "x").ok());

  ReceiveBatch received(1, ReceiveBatch::Extent::kControlAndSource);
  ASSERT_TRUE(received.Receive(SysCalls::Real(), socket.fd.get(), 0, 1).ok());
  const SocketAddress local = received.control(0).local;
  EXPECT_EQ(local, wrote_to.WithPort(0));
  EXPECT_EQ(received.source(0), client.address());

  SendBatch replies(1);
  const std::string reply = "reply";
  ASSERT_TRUE(replies.AddTo(reply, socket.family, received.source(0), local));
  const SysCallResult sent = replies.Send(SysCalls::Real(), socket.fd.get(), 0);
  ASSERT_TRUE(sent.ok()) << sent.error;
  absl::StatusOr<test::Datagram> datagram = client.TryReceive();
  ASSERT_TRUE(datagram.ok()) << datagram.status();
  EXPECT_EQ(datagram->payload, "reply");
  EXPECT_EQ(datagram->from, wrote_to);
}

INSTANTIATE_TEST_SUITE_P(
    Families, LocalAddressTest,
    ::testing::Values(Case{"0.0.0.0:0", "127.0.0.1:0", "127.0.0.3:0"},
                      Case{"[::]:0", "127.0.0.1:0", "127.0.0.3:0"},
                      Case{"[::]:0", "[::1]:0", "[::1]:0"}));

// The class of each datagram arrives as it was sent, beside the local address,
// read alone and read with others.
TEST_P(LocalAddressTest, EachDatagramHasItsTrafficClass) {
  ListenSocket socket = Listen(GetParam().listen);
  ListenSocket peer = Listen(GetParam().client);
  const SocketAddress to =
      Address(GetParam().local).WithPort(socket.address.port());
  SendBatch sent(4);
  const std::string payload = "x";
  for (const uint8_t traffic_class :
       {uint8_t{0xB8}, uint8_t{0}, uint8_t{0x03}, uint8_t{0xFF}}) {
    ASSERT_TRUE(sent.AddTo(payload, peer.family, to, {}, traffic_class));
  }
  ASSERT_EQ(sent.Send(SysCalls::Real(), peer.fd.get(), 0).value, 4);
  ReceiveBatch received(8, ReceiveBatch::Extent::kControlAndSource);
  ASSERT_EQ(received.Receive(SysCalls::Real(), socket.fd.get(), 0, 1).value, 1);
  ASSERT_EQ(received.Receive(SysCalls::Real(), socket.fd.get(), 1, 8).value, 3);
  EXPECT_EQ(received.control(0).traffic_class, 0xB8);
  EXPECT_EQ(received.control(1).traffic_class, 0);
  EXPECT_EQ(received.control(2).traffic_class, 0x03);
  EXPECT_EQ(received.control(3).traffic_class, 0xFF);

  // And the reply, from there.
  const SocketAddress local = received.control(0).local;
  EXPECT_EQ(local, to.WithPort(0));
  SendBatch reply(1);
  ASSERT_TRUE(
      reply.AddTo(payload, socket.family, received.source(0), local, 0xB9));
  ASSERT_TRUE(reply.Send(SysCalls::Real(), socket.fd.get(), 0).ok());
  ASSERT_EQ(received.Receive(SysCalls::Real(), peer.fd.get(), 0, 1).value, 1);
  EXPECT_EQ(received.control(0).traffic_class, 0xB9);
  EXPECT_EQ(received.source(0), to);
}

TEST(ReceiveBatchTest, WithoutControlDataThereIsNoneAndLaterThereIsAgain) {
  ListenSocket socket = Listen("0.0.0.0:0");
  LoopbackPeer client;
  ReceiveBatch batch(4, ReceiveBatch::Extent::kControl);
  const SocketAddress to = SocketAddress::Ipv4Loopback(socket.address.port());
  const auto read = [&](bool reads_control) {
    EXPECT_TRUE(client.Send(to, "x").ok());
    const SysCallResult result = batch.Receive(
        SysCalls::Real(), socket.fd.get(), 0, 1, MSG_DONTWAIT, reads_control);
    EXPECT_EQ(result.value, 1);
    return batch.control(0).local.is_valid();
  };
  EXPECT_TRUE(read(true));
  EXPECT_FALSE(read(false));
  EXPECT_TRUE(read(true));
  EXPECT_FALSE(batch
                   .Receive(SysCalls::Real(), socket.fd.get(), 0, 1,
                            MSG_DONTWAIT, /*reads_control=*/false)
                   .ok());
  EXPECT_TRUE(read(true));
}

TEST(SendBatchTest, RefusesAFamilyThatTheSocketCannotExpress) {
  const std::string payload = "x";
  SendBatch batch(2);
  EXPECT_FALSE(
      batch.AddTo(payload, AF_INET, SocketAddress::Ipv6Loopback(1), {}));
  EXPECT_FALSE(batch.AddTo(payload, AF_INET, SocketAddress(), {}));
  EXPECT_EQ(batch.size(), 0);
  EXPECT_TRUE(
      batch.AddTo(payload, AF_INET6, SocketAddress::Ipv4Loopback(1), {}));
  EXPECT_FALSE(batch.is_full());
  batch.Add(payload);
  EXPECT_TRUE(batch.is_full());
  EXPECT_EQ(batch.payload_bytes(1), payload.size());
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
