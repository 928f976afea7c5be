// Which address a reply leaves from, and IPv6 on both sides.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"

namespace udpgate {
namespace test {
namespace {

SocketAddress Ip(absl::string_view ip, uint16_t port) {
  return *SocketAddress::FromIpAndPort(ip, port);
}

// Asks `to`; the reply must come from that very address.
void ExpectReplyFromWhereItWasSent(LoopbackPeer* client,
                                   const SocketAddress& to) {
  ASSERT_TRUE(client->Send(to, to.ToString()).ok());
  absl::StatusOr<Datagram> reply = client->Receive();
  ASSERT_TRUE(reply.ok()) << to.ToString() << " " << reply.status();
  EXPECT_EQ(reply->payload, absl::StrCat("lobby:", to.ToString()));
  EXPECT_EQ(reply->from.ToString(), to.ToString());
}

class AddressTest : public GateTest,
                    public ::testing::WithParamInterface<Shape> {
 protected:
  uint16_t port() const { return gate_port_; }
  void StartGateOn(absl::string_view listen_address) {
    StartGate(GetParam(), {{"PROXY_ADDR", std::string(listen_address)}});
    gate_port_ = address().port();
  }

 private:
  uint16_t gate_port_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Shapes, AddressTest, ::testing::ValuesIn(kAllShapes),
                         ShapeName);

TEST_P(AddressTest, AReplyLeavesFromTheAddressThatTheClientWroteTo) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGateOn("0.0.0.0:0");
  std::vector<LoopbackPeer> clients(6);
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < clients.size(); ++i) {
      ExpectReplyFromWhereItWasSent(
          &clients[i], Ip(absl::StrCat("127.0.0.", 1 + i % 3), port()));
    }
  }
  EXPECT_EQ(lobby.sources().size(), clients.size());
}

TEST_P(AddressTest, AClientThatWritesToAnotherAddressKeepsItsSession) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGateOn("0.0.0.0:0");
  LoopbackPeer client;
  for (int round = 0; round < 3; ++round) {
    for (const char* ip : {"127.0.0.1", "127.0.0.2", "127.0.0.3"}) {
      ExpectReplyFromWhereItWasSent(&client, Ip(ip, port()));
    }
  }
  EXPECT_EQ(lobby.sources().size(), 1u);
}

TEST_P(AddressTest, AnIpv6WildcardServesBothFamilies) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGateOn("[::]:0");
  LoopbackPeer v4;
  LoopbackPeer v6(SocketAddress::Ipv6Loopback(0));
  ExpectReplyFromWhereItWasSent(&v4, Ip("127.0.0.1", port()));
  ExpectReplyFromWhereItWasSent(&v4, Ip("127.0.0.2", port()));
  ExpectReplyFromWhereItWasSent(&v6, Ip("::1", port()));
  EXPECT_EQ(lobby.sources().size(), 2u);
  // Each by its own address, the IPv4 client by its plain one.
  SetBackend(arena);
  Publish(v4.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&v4, Ip("127.0.0.1", port()), "arena"));
  EXPECT_TRUE(IsServedBy(&v6, Ip("::1", port()), "lobby"));
  Publish(v6.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&v6, Ip("::1", port()), "arena"));
}

TEST_P(AddressTest, AMappedNameOfAnIpv4ClientNamesItToo) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGateOn("[::]:0");
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, Ip("127.0.0.1", port()), "lobby"));
  SetBackend(arena);
  Publish(absl::StrCat("[::ffff:127.0.0.1]:", client.address().port()));
  EXPECT_TRUE(AwaitServedBy(&client, Ip("127.0.0.1", port()), "arena"));
}

TEST_P(AddressTest, FamiliesOfClientAndBackendMayDiffer) {
  EchoBackend v4_backend("v4");
  EchoBackend v6_backend("v6", SocketAddress::Ipv6Loopback(0));
  StartGateOn("[::]:0");
  for (const EchoBackend* backend : {&v4_backend, &v6_backend}) {
    SetBackend(*backend);
    LoopbackPeer v4_client;
    LoopbackPeer v6_client(SocketAddress::Ipv6Loopback(0));
    EXPECT_TRUE(
        IsServedBy(&v4_client, Ip("127.0.0.1", port()), backend->name(), 3));
    EXPECT_TRUE(IsServedBy(&v6_client, Ip("::1", port()), backend->name(), 3));
  }
  // The relay port of an IPv6 session names it as well.
  LoopbackPeer client;
  ASSERT_TRUE(IsServedBy(&client, Ip("127.0.0.1", port()), "v6"));
  const uint16_t relay_port = v6_backend.sources().back().port();
  SetBackend(v4_backend);
  Publish(absl::StrCat(relay_port));
  EXPECT_TRUE(AwaitServedBy(&client, Ip("127.0.0.1", port()), "v4"));
}

TEST_P(AddressTest, TheLargestDatagramsPassUnchangedOverIpv6) {
  EchoBackend backend("", SocketAddress::Ipv6Loopback(0));
  SetBackend(backend);
  StartGateOn("[::1]:0");
  LoopbackPeer client(SocketAddress::Ipv6Loopback(0));
  for (const size_t size : {65506, 65507}) {
    std::string payload(size, 'x');
    payload.front() = 'a';
    payload.back() = 'z';
    // As the first datagram of a client, which waits for its backend.
    LoopbackPeer newcomer(SocketAddress::Ipv6Loopback(0));
    for (LoopbackPeer* peer : {&newcomer, &client}) {
      absl::StatusOr<std::string> reply = peer->Ask(address(), payload);
      ASSERT_TRUE(reply.ok()) << size << " " << reply.status();
      EXPECT_EQ(reply->size(), size);
      EXPECT_TRUE(*reply == payload) << size;
    }
  }
}

TEST_P(AddressTest, ListensOnOneIpv6Address) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGateOn("[::1]:0");
  LoopbackPeer client(SocketAddress::Ipv6Loopback(0));
  ExpectReplyFromWhereItWasSent(&client, address());
}

TEST_P(AddressTest, APortAloneMeansAllAddresses) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGateOn(":0");
  LoopbackPeer client;
  ExpectReplyFromWhereItWasSent(&client, Ip("127.0.0.1", port()));
  ExpectReplyFromWhereItWasSent(&client, Ip("127.0.0.3", port()));
  LoopbackPeer v6_client(SocketAddress::Ipv6Loopback(0));
  ExpectReplyFromWhereItWasSent(&v6_client, Ip("::1", port()));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
