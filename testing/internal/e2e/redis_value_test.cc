// What the Redis key may hold.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"

namespace udpgate {
namespace test {
namespace {

using RedisValueTest = InProcessGateTest;

TEST_F(RedisValueTest, WhiteSpaceAroundTheValueIsIgnored) {
  EchoBackend lobby("lobby");
  SetBackendText(absl::StrCat(" \t\r\n", lobby.address().ToString(), "\n \t"));
  StartInProcess();
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, in_process().address(), "lobby", 3));
}

TEST_F(RedisValueTest, TheValueMayBeAnIpv6Address) {
  EchoBackend lobby("lobby", SocketAddress::Ipv6Loopback(0));
  SetBackend(lobby);
  StartInProcess();
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, in_process().address(), "lobby", 3));
}

TEST_F(RedisValueTest, TheValueMayBeAHostName) {
  // `localhost` may have either address.
  EchoBackend lobby("lobby");
  EchoBackend lobby_v6("lobby",
                       SocketAddress::Ipv6Loopback(lobby.address().port()));
  SetBackendText(absl::StrCat("localhost:", lobby.address().port()));
  StartInProcess();
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, in_process().address(), "lobby", 3));
}

TEST_F(RedisValueTest, AnInvalidValueIsCountedAndTheNextDatagramRetries) {
  EchoBackend lobby("lobby");
  StartInProcess();
  LoopbackPeer client;
  const std::string port = absl::StrCat(lobby.address().port());
  uint64_t count = 0;
  for (const std::string& value : std::vector<std::string>{
           "",
           " ",
           "nonsense",
           "127.0.0.1",
           "127.0.0.1:",
           "127.0.0.1:0",
           "127.0.0.1:65536",
           "127.0.0.1:-1",
           "127.0.0.1:12x",
           absl::StrCat(":", port),
           absl::StrCat("[::1]", port),
           absl::StrCat("::1:", port),
           absl::StrCat("[127.0.0.1:", port),
           absl::StrCat("0.0.0.0:", port),
           absl::StrCat("224.0.0.1:", port),
           absl::StrCat("127.0.0.1:", port, " x"),
           absl::StrCat("127.0.0.1:", port, "\n127.0.0.1:", port),
           absl::StrCat("127.0.0.1:", port, "*0"),
           std::string("\0\xff\x80:1", 5),
           std::string(10000, 'x')}) {
    SetBackendText(value);
    ASSERT_TRUE(client.Send(in_process().address(), "hello").ok());
    ++count;
    ASSERT_TRUE(in_process().AwaitStats([&](const ProxyStats& stats) {
      return stats.dropped_total() == count && stats.sessions_pending == 0;
    })) << value.substr(0, 40)
        << Describe(in_process().stats());
    const ProxyStats stats = in_process().stats();
    EXPECT_EQ(stats.dropped(DropReason::kInvalidBackend), count)
        << value.substr(0, 40);
  }
  EXPECT_EQ(lobby.received_count(), 0u);
  SetBackend(lobby);
  EXPECT_TRUE(IsServedBy(&client, in_process().address(), "lobby"));
}

TEST_F(RedisValueTest, AnOversizedValueIsCountedAndLaterDatagramsRetry) {
  EchoBackend lobby("lobby");
  SetBackendText(
      absl::StrCat(lobby.address().ToString(), std::string(1 << 20, ' ')));
  StartInProcess();
  LoopbackPeer client;
  // It ends the connection to Redis, so the first resolutions may fail
  // otherwise.
  EXPECT_TRUE(AwaitTrue([&] {
    EXPECT_TRUE(client.Send(in_process().address(), "hello").ok());
    return in_process().stats().dropped(DropReason::kInvalidBackend) >= 3;
  })) << Describe(in_process().stats());
  SetBackend(lobby);
  EXPECT_TRUE(AwaitServedBy(&client, in_process().address(), "lobby"));
}

TEST_F(RedisValueTest, AMissingKeyIsCounted) {
  EchoBackend lobby("lobby");
  StartInProcess();
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(in_process().address(), "hello").ok());
  EXPECT_TRUE(in_process().AwaitStats([](const ProxyStats& stats) {
    return stats.dropped(DropReason::kNoBackend) == 1;
  }));
  EXPECT_EQ(in_process().stats().resolves_failed, 1u);
  SetBackend(lobby);
  EXPECT_TRUE(IsServedBy(&client, in_process().address(), "lobby"));
}

TEST_F(RedisValueTest, AWrongTypeIsCounted) {
  EchoBackend lobby("lobby");
  ASSERT_TRUE(redis().Command({"LPUSH", kBackendKey, "127.0.0.1:1"}).ok());
  StartInProcess();
  LoopbackPeer client;
  ASSERT_TRUE(client.Send(in_process().address(), "hello").ok());
  EXPECT_TRUE(in_process().AwaitStats([](const ProxyStats& stats) {
    return stats.dropped(DropReason::kInvalidBackend) == 1;
  })) << Describe(in_process().stats());
  ASSERT_TRUE(redis().Command({"DEL", kBackendKey}).ok());
  SetBackend(lobby);
  EXPECT_TRUE(AwaitServedBy(&client, in_process().address(), "lobby"));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
