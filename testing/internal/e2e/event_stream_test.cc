// Session events of the real program in a Redis stream (REDIS_EVENT_STREAM).
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace test {
namespace {

using ::testing::Contains;
using ::testing::IsSupersetOf;
using ::testing::Key;
using ::testing::Not;
using ::testing::Pair;
using ::testing::SizeIs;

constexpr char kStream[] = "udp_gate:events";

class EventStreamTest : public GateTest {
 protected:
  using Fields = std::map<std::string, std::string>;

  static std::map<std::string, std::string> Environment() {
    std::map<std::string, std::string> environment = RedisEnvironment();
    environment["REDIS_EVENT_STREAM"] = kStream;
    environment["GATEWAY_ID"] = "gateway-1";
    return environment;
  }
  // All entries. No value contains a line feed, and each begins with "time".
  static std::vector<Fields> Events() {
    const std::string reply =
        redis().Command({"XRANGE", kStream, "-", "+"}).value_or("");
    const std::vector<std::string> parts = absl::StrSplit(reply, '\n');
    std::vector<Fields> events;
    for (size_t i = 0; i + 1 < parts.size();) {
      if (parts[i + 1] == "time") {
        events.emplace_back();
        ++i;  // the id
      }
      events.back()[parts[i]] = parts[i + 1];
      i += 2;
    }
    return events;
  }
  static bool AwaitEvents(size_t count) {
    return AwaitTrue([&] { return Events().size() >= count; });
  }
};

// As the session log: the client plays until its session is confirmed.
TEST_F(EventStreamTest, ASessionOpensIsConfirmedAndEnds) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate(Environment());
  LoopbackPeer client;
  ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  EXPECT_TRUE(AwaitTrue([&] {
    EXPECT_TRUE(IsServedBy(&client, address(), "lobby"));
    return Events().size() >= 2;
  }));
  Publish(client.address().ToString());
  ASSERT_TRUE(AwaitEvents(3));
  const std::vector<Fields> events = Events();
  ASSERT_THAT(events, SizeIs(3));
  std::string session = events[0].at("session");
  for (const Fields& event : events) {
    EXPECT_THAT(event,
                IsSupersetOf(Fields{{"gateway", "gateway-1"},
                                    {"session", session},
                                    {"client", client.address().ToString()},
                                    {"local", address().ToString()},
                                    {"backend", lobby.address().ToString()}}));
    EXPECT_THAT(event, Contains(Key("relay_port")));
    absl::Time time;
    EXPECT_TRUE(
        absl::ParseTime(absl::RFC3339_full, event.at("time"), &time, nullptr));
  }
  EXPECT_EQ(events[0].at("event"), "session_opened");
  EXPECT_THAT(events[0], Not(Contains(Key("reason"))));
  EXPECT_EQ(events[1].at("event"), "session_confirmed");
  EXPECT_EQ(events[2].at("event"), "session_ended");
  EXPECT_EQ(events[2].at("reason"), "disconnected");
  int datagrams = 0;
  EXPECT_TRUE(absl::SimpleAtoi(events[2].at("client_datagrams"), &datagrams));
  EXPECT_GE(datagrams, 3);
  EXPECT_EQ(events[2].at("backend_datagrams"),
            events[2].at("client_datagrams"));
  EXPECT_THAT(events[2], Contains(Key("duration_seconds")));
}

TEST_F(EventStreamTest, TheEndsOfAStopArrive) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate(Environment());
  std::vector<LoopbackPeer> clients(50);
  for (LoopbackPeer& client : clients) {
    ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  }
  ASSERT_TRUE(AwaitEvents(50));
  StopGate();
  const std::vector<Fields> events = Events();
  ASSERT_THAT(events, SizeIs(100));
  EXPECT_THAT(events.back(), Contains(Pair("reason", "stopped")));
}

TEST_F(EventStreamTest, TheStreamIsTrimmed) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  std::map<std::string, std::string> environment = Environment();
  environment["REDIS_EVENT_STREAM_MAXLEN"] = "100";
  StartGate(environment);
  // Redis trims whole nodes of 100 entries.
  std::string first;
  EXPECT_TRUE(AwaitTrue([&] {
    std::vector<LoopbackPeer> clients(50);
    for (LoopbackPeer& client : clients) {
      EXPECT_TRUE(AwaitServedBy(&client, address(), "lobby"));
    }
    const std::vector<Fields> events = Events();
    if (events.empty()) return false;
    if (first.empty()) first = events.front().at("session");
    EXPECT_LE(events.size(), 300);
    return events.front().at("session") != first;
  }));
}

TEST_F(EventStreamTest, ATakeoverLosesNoEvent) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  TemporaryDirectory directory;
  const std::string socket_path = directory.path() + "/takeover.sock";
  std::map<std::string, std::string> environment = Environment();
  environment["TAKEOVER_SOCKET"] = socket_path;
  GateProcessOptions options;
  options.environment = environment;
  GateProcess old(GateBinary(), options);
  ASSERT_TRUE(old.Start().ok()) << old.log();
  std::vector<LoopbackPeer> clients(20);
  for (LoopbackPeer& client : clients) {
    ASSERT_TRUE(AwaitServedBy(&client, old.address(), "lobby"));
  }
  options.flags = {"--takeover", socket_path};
  GateProcess successor(GateBinary(), options);
  ASSERT_TRUE(successor.Start().ok()) << successor.log();
  ASSERT_TRUE(old.AwaitExit().ok());
  EXPECT_THAT(Events(), SizeIs(20));
  ASSERT_TRUE(successor.Terminate().ok());
  const std::vector<Fields> events = Events();
  ASSERT_THAT(events, SizeIs(40));
  std::map<std::string, int> count_of;
  for (const Fields& event : events) ++count_of[event.at("session")];
  EXPECT_THAT(count_of, SizeIs(20));
  for (const auto& [session, count] : count_of) EXPECT_EQ(count, 2) << session;
}

TEST_F(EventStreamTest, ARedisThatHangsDelaysNeitherClientsNorTheEnd) {
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate(Environment());
  LoopbackPeer client;
  ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(AwaitEvents(1));
  redis().Pause();
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby", 100));
  StopGate();  // has a time limit
  redis().Resume();
}

}  // namespace
}  // namespace test
}  // namespace udpgate
