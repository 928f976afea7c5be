#include <errno.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/failing_sys_calls.h"
#include "testing/loopback_peer.h"
#include "testing/mock_backend_resolver.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_fixture.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

// All statistics that are not zero, for the message of a failed expectation.
std::string Numbers(const ProxyStats& stats) {
  std::string text;
  for (const ProxyStatField& field : ProxyStatFields()) {
    if (stats.*field.value == 0) continue;
    absl::StrAppend(&text, field.name, "=", stats.*field.value, " ");
  }
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    if (stats.datagrams_dropped[i] == 0) continue;
    absl::StrAppend(&text, "dropped ",
                    DropReasonName(static_cast<DropReason>(i)), "=",
                    stats.datagrams_dropped[i], " ");
  }
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    if (stats.sessions_ended[i] == 0) continue;
    absl::StrAppend(&text, "ended ", EndReasonName(static_cast<EndReason>(i)),
                    "=", stats.sessions_ended[i], " ");
  }
  return text;
}

using ProxyRelayTest = ProxyTest;

INSTANTIATE_TEST_SUITE_P(ThreadCounts, ProxyRelayTest, AllThreadCounts(),
                         NameOf);

TEST_P(ProxyRelayTest, RelaysInBothDirections) {
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
  EXPECT_EQ(Ask(client, ""), "echo:");
  const std::string large(60000, 'x');
  EXPECT_EQ(Ask(client, large), absl::StrCat("echo:", large));
  EXPECT_TRUE(AwaitTrue([&] {
    const ProxyStats stats = proxy_->GetStats();
    return stats.client_datagrams_forwarded == 3 &&
           stats.backend_datagrams_forwarded == 3 && IsAccounted(stats);
  }));
  const ProxyStats stats = proxy_->GetStats();
  EXPECT_EQ(stats.client_bytes_received, 60005u);
  EXPECT_EQ(stats.client_bytes_forwarded, 60005u);
  EXPECT_EQ(stats.backend_bytes_received, 60020u);
  EXPECT_EQ(stats.backend_bytes_forwarded, 60020u);
  EXPECT_EQ(stats.sessions_created, 1u);
  EXPECT_EQ(stats.resolves_started, 1u);
  EXPECT_EQ(stats.dropped_total(), 0u);
}

TEST_P(ProxyRelayTest, RepliesReachTheClientThatAsked) {
  Start();
  std::vector<LoopbackPeer> clients(50);
  for (size_t i = 0; i < clients.size(); ++i) {
    Send(clients[i], absl::StrCat(i));
  }
  for (size_t i = 0; i < clients.size(); ++i) {
    const auto reply = clients[i].Receive();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->payload, absl::StrCat("echo:", i));
    EXPECT_EQ(reply->from, listen_address());
  }
  EXPECT_EQ(backend_.sources().size(), clients.size());
}

TEST_P(ProxyRelayTest, DatagramsOfAClientKeepTheirOrder) {
  Start();
  // Limits the datagrams in flight, so that no socket buffer overflows.
  constexpr int kRoundCount = 10;
  constexpr int kDatagramsPerRound = 50;
  std::vector<LoopbackPeer> clients(4);
  for (LoopbackPeer& client : clients) {
    ASSERT_EQ(Ask(client, "begin"), "echo:begin");
  }
  for (int round = 0; round < kRoundCount; ++round) {
    for (int i = 0; i < kDatagramsPerRound; ++i) {
      for (LoopbackPeer& client : clients) {
        Send(client, absl::StrCat(round, " ", i));
      }
    }
    for (LoopbackPeer& client : clients) {
      for (int i = 0; i < kDatagramsPerRound; ++i) {
        const auto reply = client.Receive();
        ASSERT_TRUE(reply.ok()) << Numbers(proxy_->GetStats());
        ASSERT_EQ(reply->payload, absl::StrCat("echo:", round, " ", i));
      }
    }
  }
}

TEST_P(ProxyRelayTest, DatagramsFromBeforeStartAreServed) {
  Create();
  LoopbackPeer client;
  Send(client, "early");
  ASSERT_TRUE(proxy_->Start().ok());
  const auto reply = client.Receive();
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->payload, "echo:early");
}

TEST_P(ProxyRelayTest, RepliesComeFromTheAddressThatTheClientUsed) {
  for (const SocketAddress& any :
       {SocketAddress::Ipv4Any(0), SocketAddress::Ipv6Any(0)}) {
    options_.listen_address = any;
    Start();
    const uint16_t port = listen_address().port();
    EXPECT_EQ(listen_address(), any.WithPort(port));
    LoopbackPeer ipv4, ipv6(SocketAddress::Ipv6Loopback(0));
    for (const char* ip : {"127.0.0.1", "127.0.0.2", "127.0.0.3"}) {
      const auto to = *SocketAddress::FromIpAndPort(ip, port);
      ASSERT_TRUE(ipv4.Send(to, ip).ok());
      const auto reply = ipv4.Receive();
      ASSERT_TRUE(reply.ok()) << reply.status();
      EXPECT_EQ(reply->payload, absl::StrCat("echo:", ip));
      EXPECT_EQ(reply->from, to);
    }
    // One session, whichever address the client used. An IPv4 client is
    // listed as IPv4, not as an IPv4-mapped address.
    EXPECT_EQ(Disconnect(DisconnectTarget::ForClient(ipv4.address())), 1);
    if (any.is_ipv4()) continue;
    const SocketAddress to = SocketAddress::Ipv6Loopback(port);
    ASSERT_TRUE(ipv6.Send(to, "six").ok());
    const auto reply = ipv6.Receive();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->payload, "echo:six");
    EXPECT_EQ(reply->from, to);
    EXPECT_EQ(Disconnect(DisconnectTarget::ForClient(ipv6.address())), 1);
  }
}

// A failed read must leave the socket armed for the next datagram.
TEST_P(ProxyRelayTest, SocketStaysReadableAfterAFailedRead) {
  FailingSysCalls sys_calls;
  dependencies_.sys_calls = &sys_calls;
  Start();
  LoopbackPeer client;
  for (int i = 0; i < 5; ++i) {
    sys_calls.FailNext(Call::kRecvMmsg, ENOBUFS, 3);
    EXPECT_EQ(Ask(client, absl::StrCat(i)), absl::StrCat("echo:", i));
  }
  proxy_->Stop();
  proxy_.reset();
}

TEST_P(ProxyRelayTest, SessionEndsWithoutAnUpstreamSocket) {
  FailingSysCalls sys_calls;
  dependencies_.sys_calls = &sys_calls;
  Start();
  sys_calls.FailAll(Call::kSocket, EMFILE);
  LoopbackPeer client;
  Send(client, "lost");
  EXPECT_TRUE(AwaitDropped(DropReason::kNoUpstreamSocket, 1));
  EXPECT_TRUE(AwaitEnded(EndReason::kNoUpstreamSocket, 1));
  sys_calls.Reset();
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
  EXPECT_TRUE(AwaitTrue([&] { return IsAccounted(proxy_->GetStats()); }));
  proxy_.reset();  // before the system calls
}

}  // namespace
}  // namespace test
}  // namespace udpgate
