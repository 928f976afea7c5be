// The log of sessions.
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "testing/internal/e2e/e2e.h"

namespace udpgate {
namespace test {
namespace {

// The lines of a JSON log; fails if one is not an object.
std::vector<nlohmann::json> JsonLines(const std::string& log) {
  std::vector<nlohmann::json> lines;
  for (const absl::string_view line :
       absl::StrSplit(log, '\n', absl::SkipEmpty())) {
    lines.push_back(nlohmann::json::parse(line, nullptr, false));
    EXPECT_TRUE(lines.back().is_object()) << line;
    EXPECT_TRUE(lines.back().contains("time")) << line;
    EXPECT_TRUE(lines.back().contains("severity")) << line;
    EXPECT_TRUE(lines.back().contains("message")) << line;
  }
  return lines;
}

// With a process of its own, whose log can be read after its end.
class SessionLogTest : public GateTest {
 protected:
  void Start(const std::map<std::string, std::string>& environment) {
    GateProcessOptions options;
    options.environment = RedisEnvironment();
    for (const auto& [name, value] : environment) {
      options.environment[name] = value;
    }
    gate_ = std::make_unique<GateProcess>(GateBinary(), options);
    const absl::Status started = gate_->Start();
    ASSERT_TRUE(started.ok()) << started;
  }

  std::unique_ptr<GateProcess> gate_;
};

TEST_F(SessionLogTest, LogsSessionsAsJson) {
  EchoBackend backend("lobby");
  SetBackend(backend);
  Start(
      {{"LOG_FORMAT", "json"}, {"SESSION_LOG", "all"}, {"LOG_LEVEL", "debug"}});
  LoopbackPeer client, other;
  EXPECT_TRUE(IsServedBy(&client, gate_->address(), "lobby", 3));
  EXPECT_TRUE(IsServedBy(&other, gate_->address(), "lobby"));
  Publish(client.address().ToString());
  ASSERT_TRUE(gate_->AwaitLog("disconnected"));
  ASSERT_EQ(gate_->Terminate()->status, 0);
  std::map<std::string, std::vector<nlohmann::json>> by_event;
  for (const nlohmann::json& line : JsonLines(gate_->log())) {
    if (line.contains("event")) by_event[line["event"]].push_back(line);
  }
  ASSERT_EQ(by_event["session_opened"].size(), 2u) << gate_->log();
  ASSERT_EQ(by_event["session_ended"].size(), 2u) << gate_->log();
  const nlohmann::json& ended = by_event["session_ended"][0];
  EXPECT_EQ(ended["severity"], "info");
  EXPECT_EQ(ended["message"], "session ended");
  EXPECT_EQ(ended["client"], client.address().ToString());
  EXPECT_EQ(ended["local"], gate_->address().ToString());
  EXPECT_EQ(ended["backend"], backend.address().ToString());
  EXPECT_EQ(ended["relay_port"], by_event["session_opened"][0]["relay_port"]);
  EXPECT_EQ(ended["client_datagrams"], 3);
  EXPECT_EQ(ended["backend_datagrams"], 3);
  EXPECT_TRUE(ended["client_bytes"].is_number_unsigned());
  EXPECT_TRUE(ended["duration_seconds"].is_number_float());
  EXPECT_EQ(ended["reason"], "disconnected");
  EXPECT_EQ(by_event["session_ended"][1]["client"], other.address().ToString());
  EXPECT_EQ(by_event["session_ended"][1]["reason"], "stopped");
}

TEST_F(SessionLogTest, LogsTheEndsOfSessionsAsText) {
  EchoBackend backend("lobby");
  SetBackend(backend);
  Start({{"SESSION_LOG", "end"}});
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, gate_->address(), "lobby"));
  ASSERT_EQ(gate_->Terminate()->status, 0);
  EXPECT_TRUE(absl::StrContains(gate_->log(), "info session ended "))
      << gate_->log();
  EXPECT_TRUE(absl::StrContains(
      gate_->log(), absl::StrCat(" client=", client.address().ToString(), " ")))
      << gate_->log();
  EXPECT_TRUE(absl::StrContains(gate_->log(), " reason=stopped\n"))
      << gate_->log();
  EXPECT_FALSE(absl::StrContains(gate_->log(), "session opened"));
}

TEST_F(SessionLogTest, LimitsLinesPerSecond) {
  EchoBackend backend("lobby");
  SetBackend(backend);
  Start({{"SESSION_LOG", "all"},
         {"SESSION_LOG_LINES_PER_SEC", "5"},
         {"SESSION_EVENTS_MAX", "2"}});
  std::vector<LoopbackPeer> clients(100);
  for (LoopbackPeer& client : clients) {
    EXPECT_TRUE(IsServedBy(&client, gate_->address(), "lobby"));
  }
  ASSERT_EQ(gate_->Terminate()->status, 0);
  // Each second of the test has its five, and the report of the last one.
  int line_count = 0;
  for (const absl::string_view line : absl::StrSplit(gate_->log(), '\n')) {
    if (absl::StrContains(line, "info session ")) ++line_count;
  }
  EXPECT_GE(line_count, 5) << gate_->log();
  EXPECT_LT(line_count, 100) << gate_->log();
}

}  // namespace
}  // namespace test
}  // namespace udpgate
