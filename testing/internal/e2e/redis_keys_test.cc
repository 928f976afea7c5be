// Keys for a client, and several backends in a value: the configurations of
// docs/redis.md.
#include <map>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/redis_server.h"

namespace udpgate {
namespace test {
namespace {

using RedisKeysTest = GateTest;

void SetKey(const RedisServer& redis, const std::string& key,
            const EchoBackend& backend) {
  const auto done =
      redis.Command({"SET", key, backend.address().ToString(), "EX", "60"});
  ASSERT_TRUE(done.ok()) << done.status();
}

TEST_F(RedisKeysTest, AnOrchestratorAssignsAPlayerByAddress) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate({{"REDIS_BACKEND_KEY",
              "udp_gate:backend:{client_ip}:{client_port} udp_gate:backend"}});
  LoopbackPeer assigned;
  LoopbackPeer other;
  SetKey(redis(),
         absl::StrCat("udp_gate:backend:127.0.0.1:", assigned.address().port()),
         arena);
  EXPECT_TRUE(IsServedBy(&assigned, address(), "arena", 3));
  EXPECT_TRUE(IsServedBy(&other, address(), "lobby", 3));
  // The player is moved: SET first, then PUBLISH.
  SetKey(redis(),
         absl::StrCat("udp_gate:backend:127.0.0.1:", other.address().port()),
         arena);
  Publish(other.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&other, address(), "arena"));
}

TEST_F(RedisKeysTest, AGameMayTellItsPortAndItsFirstBytes) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  StartGate(
      {{"REDIS_BACKEND_KEY", "p:{prefix:4} n:{client_net}:{listen_port}"}});
  // IsServedBy sends other bytes.
  SetKey(redis(), absl::StrCat("n:127.0.0.0/24:", address().port()), lobby);
  LoopbackPeer by_port;
  EXPECT_TRUE(IsServedBy(&by_port, address(), "lobby"));
  SetKey(redis(), "p:00ff0a0d", arena);
  LoopbackPeer by_prefix;
  ASSERT_TRUE(
      by_prefix.Send(address(), std::string("\x00\xff\n\r...", 7)).ok());
  ASSERT_TRUE(AwaitTrue([&] { return arena.received_count() == 1; }));
  EXPECT_TRUE(AwaitServedBy(&by_prefix, address(), "arena"));
}

// The backend is named by `localhost`, so that the session has a label.
TEST_F(RedisKeysTest, ABackendThatRefusesIsLeftOut) {
  auto first = std::make_unique<EchoBackend>("first");
  auto second = std::make_unique<EchoBackend>("second");
  const auto name = [](const EchoBackend& backend) {
    return absl::StrCat("localhost:", backend.address().port());
  };
  const std::string first_name = name(*first);
  const std::string second_name = name(*second);
  SetBackendText(absl::StrCat(first_name, " ", second_name, "*2"));
  StartGate({{"BACKEND_HOLDOFF_SECS", "3600"}});
  LoopbackPeer client;
  // Both hash the client's address, 127.0.0.1, alike.
  ASSERT_TRUE(AwaitTrue([&] {
    (void)client.Send(address(), "hello");
    return first->received_count() + second->received_count() > 0;
  }));
  const bool is_first = first->received_count() > 0;
  (is_first ? first : second).reset();
  const char* const other = is_first ? "second" : "first";
  EXPECT_TRUE(AwaitServedBy(&client, address(), other));
  LoopbackPeer late;
  EXPECT_TRUE(AwaitServedBy(&late, address(), other));
  // Its session bears the name of the backend that it has.
  ASSERT_TRUE(redis().Command({"DEL", kBackendKey}).ok());
  Publish(absl::StrCat("backend ", is_first ? first_name : second_name));
  EXPECT_TRUE(IsServedBy(&late, address(), other, 3));
  Publish(absl::StrCat("backend ", is_first ? second_name : first_name));
  EchoBackend third("third");
  SetBackend(third);
  EXPECT_TRUE(AwaitServedBy(&late, address(), "third"));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
