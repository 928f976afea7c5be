// What an autoscaler reads of the real program in Redis (REDIS_GATEWAY_KEY).
#include <signal.h>

#include <atomic>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/child_process.h"
#include "testing/internal/support/http_client.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace test {
namespace {

using ::testing::Contains;
using ::testing::IsEmpty;
using ::testing::Key;
using ::testing::Not;

constexpr char kKey[] = "udp_gate:gateways";

// Much less than the 5 s between two writes.
constexpr absl::Duration kAtOnce = absl::Seconds(2 * kSlowness);

// Of docs/redis.md.
constexpr char kScript[] = R"(
    key=udp_gate:gateways
    redis-cli ZRANGE "$key" 0 -1 | while read -r id; do
      redis-cli HMGET "{$key}:$id" id sessions sessions_max draining | paste -sd ' '
    done | awk 'NF == 4 && $4 == 0 { gateways++; sessions += $2; room += $3 - $2 }
                END { print gateways + 0, sessions + 0, room + 0 }'
)";

class GatewayEntryTest : public GateTest {
 protected:
  using Hash = std::map<std::string, std::string>;

  static std::map<std::string, std::string> Environment(
      const std::string& id = "gateway-1") {
    std::map<std::string, std::string> environment = RedisEnvironment();
    environment["REDIS_GATEWAY_KEY"] = kKey;
    environment["GATEWAY_ID"] = id;
    return environment;
  }
  static Hash Read(const std::string& id = "gateway-1") {
    const auto reply =
        redis().Command({"HGETALL", absl::StrCat("{", kKey, "}:", id)});
    const std::vector<std::string> parts =
        absl::StrSplit(reply.value_or(""), '\n');
    Hash hash;
    for (size_t i = 0; i + 1 < parts.size(); i += 2) {
      hash[parts[i]] = parts[i + 1];
    }
    return hash;
  }
  static bool AwaitField(const std::string& field, const std::string& value,
                         absl::Duration timeout = kAwaitTimeout) {
    return AwaitTrue([&] { return Read()[field] == value; }, timeout);
  }
  static std::string Ids() {
    return redis().Command({"ZRANGE", kKey, "0", "-1"}).value_or("error");
  }

  // A process of its own, beside that of `gate()`.
  static std::unique_ptr<GateProcess> MakeGate(
      std::map<std::string, std::string> environment,
      std::vector<std::string> flags = {}) {
    GateProcessOptions options;
    options.environment = std::move(environment);
    options.flags = std::move(flags);
    return std::make_unique<GateProcess>(GateBinary(), std::move(options));
  }
};

TEST_F(GatewayEntryTest, SaysWhatTheGatewayDoes) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  std::map<std::string, std::string> environment = Environment();
  environment["MAX_SESSIONS"] = "50";
  StartGate(environment);
  std::vector<LoopbackPeer> clients(3);
  ASSERT_TRUE(AwaitServedBy(&clients[0], address(), "lobby"));
  ASSERT_TRUE(AwaitServedBy(&clients[1], address(), "lobby"));
  SetBackend(arena);
  ASSERT_TRUE(AwaitServedBy(&clients[2], address(), "arena"));
  ASSERT_TRUE(AwaitField("sessions", "3"));
  Hash hash = Read();
  EXPECT_EQ(hash["id"], "gateway-1");
  EXPECT_EQ(hash["address"], address().ToString());
  EXPECT_EQ(hash["version"], "0.1.0");
  EXPECT_EQ(hash["sessions_pending"], "0");
  EXPECT_EQ(hash["sessions_confirmed"], "0");
  EXPECT_EQ(hash["sessions_max"], "50");
  EXPECT_EQ(hash["draining"], "0");
  EXPECT_EQ(hash["backends"], "2");
  EXPECT_EQ(hash[absl::StrCat("backend:", lobby.address().ToString())], "2");
  EXPECT_EQ(hash[absl::StrCat("backend:", arena.address().ToString())], "1");
  EXPECT_THAT(hash, Contains(Key("new_sessions_per_second")));
  EXPECT_EQ(Ids(), "gateway-1");
  // A clean end deletes it.
  StopGate();
  EXPECT_THAT(Read(), IsEmpty());
  EXPECT_EQ(Ids(), "");
}

TEST_F(GatewayEntryTest, TheRateOfNewSessionsIsThatOfTheLastPeriod) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate(Environment());
  std::vector<LoopbackPeer> clients(10);
  for (LoopbackPeer& client : clients) {
    ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  }
  EXPECT_TRUE(AwaitTrue([] {
    const std::string rate = Read()["new_sessions_per_second"];
    return rate >= "1" && rate < "9";
  }));
  EXPECT_TRUE(AwaitField("new_sessions_per_second", "0.00"));
}

TEST_F(GatewayEntryTest, ExpiresAfterAProcessThatWasKilled) {
  auto gate = MakeGate(Environment());
  ASSERT_TRUE(gate->Start().ok()) << gate->log();
  ASSERT_TRUE(AwaitField("sessions", "0"));
  const absl::Time begin = absl::Now();
  ASSERT_TRUE(gate->Terminate(SIGKILL).ok());
  EXPECT_THAT(Read(), Not(IsEmpty()));
  EXPECT_TRUE(AwaitTrue([] { return Read().empty() && Ids().empty(); },
                        absl::Seconds(30)));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(16));
}

TEST_F(GatewayEntryTest, TheBeginAndTheEndOfADrainAreSeenAtOnce) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  std::map<std::string, std::string> environment = Environment();
  environment["DRAIN_TIMEOUT_SECS"] = "60";
  auto gate = MakeGate(environment);
  ASSERT_TRUE(gate->Start().ok()) << gate->log();
  LoopbackPeer client;
  ASSERT_TRUE(AwaitServedBy(&client, gate->address(), "lobby"));
  ASSERT_TRUE(AwaitField("sessions", "1"));
  // Right after a write, so that the next one is not due.
  gate->Signal(SIGTERM);
  EXPECT_TRUE(AwaitField("draining", "1", kAtOnce));
  EXPECT_EQ(Read()["sessions"], "1");
  Publish(client.address().ToString());
  EXPECT_TRUE(AwaitTrue([] { return Read().empty(); }, kAtOnce));
  const absl::StatusOr<ExitResult> end = gate->AwaitExit();
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_TRUE(end->exited_with(0)) << gate->log();
}

// By POST /api/v1/drain the gateway does not end.
TEST_F(GatewayEntryTest, ADrainThatIsOverIsSeenAtOnce) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  std::map<std::string, std::string> environment = Environment();
  environment["ADMIN_ADDR"] = "127.0.0.1:0";
  StartGate(environment);
  ASSERT_TRUE(AwaitTrue([&] { return gate().AdminAddress().is_valid(); }));
  const SocketAddress admin = gate().AdminAddress();
  LoopbackPeer client;
  ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(AwaitField("sessions", "1"));
  ASSERT_TRUE(HttpPost(admin, "/api/v1/drain", "").ok());
  EXPECT_TRUE(AwaitField("draining", "1", kAtOnce));
  EXPECT_EQ(Read()["sessions"], "1");
  Publish(client.address().ToString());
  EXPECT_TRUE(AwaitField("sessions", "0", kAtOnce));
}

// The time limit is that of StopGate.
TEST_F(GatewayEntryTest, ARedisThatHangsDelaysNoEnd) {
  StartGate(Environment());
  ASSERT_TRUE(AwaitField("sessions", "0"));
  redis().Pause();
  StopGate();
  redis().Resume();
}

TEST_F(GatewayEntryTest, ATakeoverLeavesNoGap) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  TemporaryDirectory directory;
  const std::string socket_path = directory.path() + "/takeover.sock";
  std::map<std::string, std::string> environment = Environment();
  environment["TAKEOVER_SOCKET"] = socket_path;
  auto old = MakeGate(environment);
  ASSERT_TRUE(old->Start().ok()) << old->log();
  std::vector<LoopbackPeer> clients(5);
  for (LoopbackPeer& client : clients) {
    ASSERT_TRUE(AwaitServedBy(&client, old->address(), "lobby"));
  }
  ASSERT_TRUE(AwaitField("sessions", "5"));
  const std::string instance = Read()["instance"];

  std::atomic<bool> is_over{false};
  std::atomic<int> reads{0};
  std::atomic<int> gaps{0};
  std::thread reader([&] {
    while (!is_over) {
      if (Read().empty() || Ids() != "gateway-1") ++gaps;
      ++reads;
    }
  });
  auto successor = MakeGate(environment, {"--takeover", socket_path});
  const absl::Status started = successor->Start();
  EXPECT_TRUE(started.ok()) << started;
  EXPECT_TRUE(old->AwaitExit().ok());
  EXPECT_TRUE(AwaitTrue([&] { return Read()["instance"] != instance; }));
  EXPECT_TRUE(AwaitTrue([&] { return reads > 10; }));
  is_over = true;
  reader.join();
  EXPECT_EQ(gaps, 0);
  EXPECT_TRUE(AwaitField("sessions", "5"));
  EXPECT_EQ(Read()[absl::StrCat("backend:", lobby.address().ToString())], "5");
  EXPECT_EQ(Read()["instance"] > instance, true);
  const absl::StatusOr<ExitResult> end = successor->Terminate();
  ASSERT_TRUE(end.ok()) << end.status();
  EXPECT_THAT(Read(), IsEmpty());
}

TEST_F(GatewayEntryTest, AnAutoscalerReadsAllGateways) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  std::map<std::string, std::string> environment = Environment();
  environment["MAX_SESSIONS"] = "50";
  StartGate(environment);
  environment["GATEWAY_ID"] = "gateway-2";
  auto second = MakeGate(environment);
  ASSERT_TRUE(second->Start().ok()) << second->log();
  std::vector<LoopbackPeer> clients(3);
  ASSERT_TRUE(AwaitServedBy(&clients[0], address(), "lobby"));
  ASSERT_TRUE(AwaitServedBy(&clients[1], second->address(), "lobby"));
  ASSERT_TRUE(AwaitServedBy(&clients[2], second->address(), "lobby"));
  ASSERT_TRUE(AwaitTrue([] {
    return Read("gateway-1")["sessions"] == "1" &&
           Read("gateway-2")["sessions"] == "2";
  }));
  const auto run = [] {
    ChildProcessOptions options;
    options.arguments = {"/bin/sh", "-c",
                         absl::StrCat("alias redis-cli='redis-cli -p ",
                                      redis().port(), "'\n", kScript)};
    options.environment = {{"PATH", "/usr/bin:/bin"}};
    const auto child = ChildProcess::Start(options);
    if (!child.ok() || !(*child)->AwaitExit().ok()) return std::string("error");
    return std::string(absl::StripAsciiWhitespace((*child)->output()));
  };
  EXPECT_EQ(run(), "2 3 97");
  ASSERT_TRUE(second->Terminate().ok());
  EXPECT_EQ(run(), "1 1 49");
  // One that has died, in the index alone.
  ASSERT_TRUE(redis().Command({"ZADD", kKey, "99999999999999", "dead"}).ok());
  EXPECT_EQ(run(), "1 1 49");
}

TEST_F(GatewayEntryTest, AGatewayWithoutRedisSaysThatItHasNone) {
  std::map<std::string, std::string> environment = Environment();
  environment["BACKEND_ADDR"] = "127.0.0.1:9";
  StartGate(environment);
  EXPECT_TRUE(gate().AwaitLog("REDIS_GATEWAY_KEY has no effect"));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
