// Each configuration that docs/redis.md shows is run as it stands there, with
// the addresses and files of the test: the program against real servers.
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/e2e/program.h"
#include "testing/internal/support/certificate_authority.h"
#include "testing/internal/support/redis_cluster_servers.h"
#include "testing/internal/support/redis_sentinels.h"

namespace udpgate {
namespace test {
namespace {

using Texts = std::map<std::string, std::string>;

// A block of the page that is indented by four spaces.
struct Block {
  std::string heading;  // above it
  std::vector<std::string> lines;
};

std::vector<Block> ReadBlocks() {
  const char* const path = std::getenv("UDPGATE_REDIS_PAGE");
  std::vector<Block> blocks;
  std::string heading;
  bool is_in_block = false;
  for (const absl::string_view line :
       absl::StrSplit(ReadFile(path != nullptr ? path : ""), '\n')) {
    if (absl::StartsWith(line, "#")) {
      heading = std::string(line.substr(line.find_first_not_of("# ")));
    }
    const bool is_indented = absl::StartsWith(line, "    ");
    if (is_indented && !is_in_block) blocks.push_back({heading, {}});
    is_in_block = is_indented;
    if (is_indented) blocks.back().lines.emplace_back(line.substr(4));
  }
  return blocks;
}

// The settings of a block, `NAME=value`; empty if it shows something else.
Texts SettingsOf(const Block& block) {
  Texts settings;
  for (const std::string& line : block.lines) {
    const size_t name_end =
        line.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
    if (name_end == 0 || name_end == std::string::npos) continue;
    if (line[name_end] != '=') continue;
    settings[line.substr(0, name_end)] = line.substr(name_end + 1);
  }
  return settings;
}

// By heading, and from the second one of a heading on by number: "TLS",
// "TLS 2".
std::map<std::string, Texts> ReadConfigurations() {
  std::map<std::string, Texts> configurations;
  std::map<std::string, int> counts;
  for (const Block& block : ReadBlocks()) {
    Texts settings = SettingsOf(block);
    if (settings.empty()) continue;
    const int number = ++counts[block.heading];
    configurations[number == 1 ? block.heading
                               : absl::StrCat(block.heading, " ", number)] =
        std::move(settings);
  }
  return configurations;
}

class RedisPageTest : public GateTest {
 protected:
  void TearDown() override {
    if (gate_ == nullptr) return;
    const auto result = gate_->Terminate();
    EXPECT_TRUE(result.ok() && result->exited_with(0)) << gate_->log();
    if (HasFailure()) std::fprintf(stderr, "%s", gate_->log().c_str());
  }

  // Runs the gateway with the configuration of that name and nothing else, with
  // these texts instead of those of the page, each of which must be there.
  void Run(const std::string& name, const Texts& replaced,
           const Texts& environment = {}) {
    Texts settings = ReadConfigurations()[name];
    ASSERT_FALSE(settings.empty()) << "docs/redis.md shows no " << name;
    std::set<std::string> missing;
    for (const auto& [text, replacement] : replaced) missing.insert(text);
    for (auto& [setting, value] : settings) {
      for (const auto& [text, replacement] : replaced) {
        if (absl::StrContains(value, text)) missing.erase(text);
        value = absl::StrReplaceAll(value, {{text, replacement}});
      }
    }
    EXPECT_TRUE(missing.empty()) << name << " shows no " << *missing.begin();
    settings.insert(environment.begin(), environment.end());
    GateProcessOptions options;
    options.environment = std::move(settings);
    gate_ = std::make_unique<GateProcess>(GateBinary(), std::move(options));
    const absl::Status started = gate_->Start();
    ASSERT_TRUE(started.ok()) << started;
  }

  // Runs what the page shows for a shell under this heading, as far as it
  // has `part`, with `redis-cli` at that server. Returns what it prints.
  static std::string RunShell(const std::string& heading,
                              absl::string_view part, const RedisServer& server,
                              const Texts& replaced) {
    for (const Block& block : ReadBlocks()) {
      std::string text;
      for (const std::string& line : block.lines) {
        absl::StrAppend(&text, line, "\n");
      }
      if (block.heading != heading || !absl::StrContains(text, part)) continue;
      ChildProcessOptions options;
      options.arguments = {
          "bash", "-euo", "pipefail", "-c",
          absl::StrCat("redis-cli() { command redis-cli -p ", server.port(),
                       " \"$@\"; }\n", absl::StrReplaceAll(text, replaced))};
      options.environment = {{"PATH", "/usr/local/bin:/usr/bin:/bin"}};
      const auto shell = ChildProcess::Start(options);
      if (!shell.ok()) return shell.status().ToString();
      const auto exit = (*shell)->AwaitExit();
      EXPECT_TRUE(exit.ok() && exit->exited_with(0)) << (*shell)->output();
      return (*shell)->output();
    }
    ADD_FAILURE() << heading << " shows no " << part;
    return "";
  }

  // Runs each `ACL SETUSER` of the page that has `part`.
  static void SetUser(const RedisServer& server, absl::string_view part) {
    int count = 0;
    for (const Block& block : ReadBlocks()) {
      std::string text;
      for (absl::string_view line : block.lines) {
        absl::ConsumeSuffix(&line, "\\");
        absl::StrAppend(&text, line, " ");
      }
      text = absl::StrReplaceAll(text, {{"'", ""}});
      if (!absl::StartsWith(text, "ACL SETUSER gate") ||
          !absl::StrContains(text, part)) {
        continue;
      }
      const auto done = server.Command(
          absl::StrSplit(text, absl::ByAnyChar(" "), absl::SkipEmpty()));
      EXPECT_TRUE(done.ok()) << text << ": " << done.status();
      ++count;
    }
    EXPECT_GT(count, 0) << "docs/redis.md shows no ACL with " << part;
  }

  void SetKey(const RedisServer& server, const EchoBackend& backend) {
    const auto done =
        server.Command({"SET", kBackendKey, backend.address().ToString()});
    ASSERT_TRUE(done.ok()) << done.status();
  }

  // The key names the backend, and an event ends a session.
  void ExpectWorks(RedisServer* server) {
    SetKey(*server, lobby_);
    LoopbackPeer client;
    ASSERT_TRUE(AwaitServedBy(&client, gate_->address(), "lobby"));
    ASSERT_TRUE(AwaitSubscriber(server)) << gate_->log();
    SetKey(*server, arena_);
    ASSERT_TRUE(server
                    ->Command({"PUBLISH", kDisconnectChannel,
                               client.address().ToString()})
                    .ok());
    EXPECT_TRUE(AwaitServedBy(&client, gate_->address(), "arena"));
    EXPECT_EQ(gate_->log().find("NOPERM"), std::string::npos);
  }

  void RunPlain();
  void RunAcl();
  void RunManagedService();
  void RunMutualTls();
  void RunSentinel();
  void RunCluster();
  void RunPlayerKeys();
  void RunStream();
  void RunAutoscaler();
  void RunSessionEvents();

  // How each configuration of the page is run, by its name.
  std::map<std::string, std::function<void()>> Runners() {
    return {
        {"Address", [this] { RunPlain(); }},
        {"Access rights", [this] { RunAcl(); }},
        {"TLS", [this] { RunManagedService(); }},
        {"TLS 2", [this] { RunMutualTls(); }},
        {"Sentinel", [this] { RunSentinel(); }},
        {"Cluster", [this] { RunCluster(); }},
        {"Keys for a client", [this] { RunPlayerKeys(); }},
        {"The stream", [this] { RunStream(); }},
        {"Autoscaler", [this] { RunAutoscaler(); }},
        {"Session events", [this] { RunSessionEvents(); }},
    };
  }

  CertificateAuthority& authority() {
    if (authority_ == nullptr) {
      authority_ = std::make_unique<CertificateAuthority>();
    }
    return *authority_;
  }
  // Speaks TLS at the port that is returned.
  uint16_t StartTlsServer(const std::string& wants_certificates) {
    const CertificateFiles files = authority().Issue("redis", "IP:127.0.0.1");
    const uint16_t port = FreeTcpPort();
    RedisServerOptions options;
    options.extra_arguments = {"--tls-port",         absl::StrCat(port),
                               "--tls-cert-file",    files.certificate_file,
                               "--tls-key-file",     files.key_file,
                               "--tls-ca-cert-file", authority().file(),
                               "--tls-auth-clients", wants_certificates};
    server_ = std::make_unique<RedisServer>(options);
    EXPECT_TRUE(server_->Start().ok());
    return port;
  }

  EchoBackend lobby_{"lobby"};
  EchoBackend arena_{"arena"};
  std::unique_ptr<CertificateAuthority> authority_;
  std::unique_ptr<RedisServer> server_;
  std::unique_ptr<GateProcess> gate_;
};

void RedisPageTest::RunPlain() {
  Run("Address", {{"redis.internal:6379", redis().tcp_address()}});
  ExpectWorks(&redis());
}

void RedisPageTest::RunAcl() {
  SetUser(redis(), "&udp_gate:disconnect");
  Run("Access rights", {{"redis.internal:6379", redis().tcp_address()}});
  ExpectWorks(&redis());
}

void RedisPageTest::RunManagedService() {
  const uint16_t port = StartTlsServer("no");
  SetUser(*server_, "&udp_gate:disconnect");
  // Its authority is one of the system: see
  // SSL_CTX_set_default_verify_paths(3).
  Run("TLS", {{"redis.internal:6380", absl::StrCat("127.0.0.1:", port)}},
      {{"SSL_CERT_FILE", authority().file()}});
  ExpectWorks(server_.get());
}

void RedisPageTest::RunMutualTls() {
  const uint16_t port = StartTlsServer("yes");
  const CertificateFiles client = authority().Issue("gate", "DNS:gate");
  Run("TLS 2", {{"redis.internal:6380", absl::StrCat("127.0.0.1:", port)},
                {"/etc/udp-gate/redis-ca.pem", authority().file()},
                {"/etc/udp-gate/gate.pem", client.certificate_file},
                {"/etc/udp-gate/gate.key", client.key_file}});
  ExpectWorks(server_.get());
}

void RedisPageTest::RunSentinel() {
  RedisSentinels group;
  const absl::Status started = group.Start();
  ASSERT_TRUE(started.ok()) << started;
  Run("Sentinel",
      {{"10.0.0.1:26379,10.0.0.2:26379,10.0.0.3:26379", group.addresses()}});
  ExpectWorks(&group.master());
}

void RedisPageTest::RunCluster() {
  RedisClusterServers servers({});
  const absl::Status started = servers.Start();
  ASSERT_TRUE(started.ok()) << started;
  for (size_t i = 0; i < servers.size(); ++i) {
    SetUser(servers.server(i), "&udp_gate:disconnect");
    SetUser(servers.server(i), "+cluster|slots");
  }
  Run("Cluster",
      {{"10.0.0.1:6379", servers.server(0).tcp_address()},
       {"10.0.0.2:6379", servers.server(1).tcp_address()}},
      {{"REDIS_USERNAME", "gate"}, {"REDIS_PASSWORD", "password"}});
  const auto set = [&](const std::string& key, const EchoBackend& backend) {
    const auto done =
        servers.Command({"SET", key, backend.address().ToString()});
    ASSERT_TRUE(done.ok()) << done.status();
  };
  set("udp_gate:backend", lobby_);
  set("udp_gate:backend:127.0.0.7", arena_);
  LoopbackPeer assigned(*SocketAddress::Parse("127.0.0.7:0"));
  LoopbackPeer other(*SocketAddress::Parse("127.0.0.8:0"));
  EXPECT_TRUE(AwaitServedBy(&assigned, gate_->address(), "arena"));
  EXPECT_TRUE(AwaitServedBy(&other, gate_->address(), "lobby"));
  ASSERT_TRUE(gate_->AwaitLog("subscribed to channel"));
  ASSERT_TRUE(gate_->AwaitLog("Redis Cluster: 3 masters of 3 nodes"));
  set("udp_gate:backend", arena_);
  ASSERT_TRUE(
      servers.server(2)
          .Command({"PUBLISH", kDisconnectChannel, other.address().ToString()})
          .ok());
  EXPECT_TRUE(AwaitServedBy(&other, gate_->address(), "arena"));
  EXPECT_EQ(gate_->log().find("NOPERM"), std::string::npos) << gate_->log();
}

void RedisPageTest::RunPlayerKeys() {
  const std::string heading = "Keys for a client";
  RunShell(heading, "redis-cli SET", redis(),
           {{"10.0.0.5:19132", lobby_.address().ToString()},
            {"10.0.0.6:19132", arena_.address().ToString()},
            {"203.0.113.7", "127.0.0.7"}});
  Run(heading, {}, RedisEnvironment());
  LoopbackPeer assigned(*SocketAddress::Parse("127.0.0.7:0"));
  LoopbackPeer other(*SocketAddress::Parse("127.0.0.8:0"));
  EXPECT_TRUE(AwaitServedBy(&assigned, gate_->address(), "arena"));
  EXPECT_TRUE(AwaitServedBy(&other, gate_->address(), "lobby"));
}

void RedisPageTest::RunStream() {
  // Also with no more rights than the page gives.
  SetUser(redis(), "&udp_gate:disconnect");
  SetUser(redis(), "+xrange");
  Run("The stream", {},
      {{"REDIS_ADDR", redis().tcp_address()},
       {"REDIS_USERNAME", "gate"},
       {"REDIS_PASSWORD", "password"}});
  ExpectWorks(&redis());
  LoopbackPeer client;
  ASSERT_TRUE(AwaitServedBy(&client, gate_->address(), "arena"));
  SetKey(redis(), lobby_);
  RunShell("The stream", "redis-cli XADD", redis(),
           {{"203.0.113.7:54321", client.address().ToString()}});
  EXPECT_TRUE(AwaitServedBy(&client, gate_->address(), "lobby"));
}

void RedisPageTest::RunAutoscaler() {
  // Also with no more rights than the page gives.
  SetUser(redis(), "&udp_gate:disconnect");
  SetUser(redis(), "udp_gate:gateways");
  Run("Autoscaler", {},
      {{"REDIS_ADDR", redis().tcp_address()},
       {"REDIS_USERNAME", "gate"},
       {"REDIS_PASSWORD", "password"}});
  SetKey(redis(), lobby_);
  LoopbackPeer client;
  ASSERT_TRUE(AwaitServedBy(&client, gate_->address(), "lobby"));
  // Gateways, sessions, and the room that is left.
  std::string said;
  EXPECT_TRUE(AwaitTrue([&] {
    said = RunShell("Autoscaler", "ZRANGE \"$key\"", redis(), {});
    return absl::StartsWith(said, "1 1 ");
  })) << said;
}

void RedisPageTest::RunSessionEvents() {
  // Also with no more rights than the page gives.
  SetUser(redis(), "&udp_gate:disconnect");
  SetUser(redis(), "udp_gate:events");
  Run("Session events", {},
      {{"REDIS_ADDR", redis().tcp_address()},
       {"REDIS_USERNAME", "gate"},
       {"REDIS_PASSWORD", "password"}});
  ExpectWorks(&redis());
  std::string said;
  EXPECT_TRUE(AwaitTrue([&] {
    said = RunShell("Session events", "XREVRANGE", redis(),
                    {{"redis-cli XREAD BLOCK 0", "true"}});
    return absl::StrContains(said, "session_opened") &&
           absl::StrContains(said, "session_ended");
  })) << said;
}

TEST_F(RedisPageTest, EachConfigurationIsRun) {
  const auto runners = Runners();
  std::set<std::string> shown;
  for (const auto& [name, settings] : ReadConfigurations()) {
    shown.insert(name);
    EXPECT_EQ(runners.count(name), 1u)
        << "docs/redis.md shows settings under \"" << name
        << "\": RedisPageTest needs a runner for them, and a test that calls "
           "it";
  }
  for (const char* name :
       {"Address", "Access rights", "TLS", "TLS 2", "Sentinel", "Cluster",
        "Keys for a client", "The stream", "Autoscaler", "Session events"}) {
    EXPECT_EQ(shown.count(name), 1u) << name;
  }
}

TEST_F(RedisPageTest, Plain) { RunPlain(); }
TEST_F(RedisPageTest, Acl) { RunAcl(); }
TEST_F(RedisPageTest, ManagedService) { RunManagedService(); }
TEST_F(RedisPageTest, MutualTls) { RunMutualTls(); }
TEST_F(RedisPageTest, Sentinel) { RunSentinel(); }
TEST_F(RedisPageTest, Cluster) { RunCluster(); }
TEST_F(RedisPageTest, PlayerKeys) { RunPlayerKeys(); }
TEST_F(RedisPageTest, Stream) { RunStream(); }
TEST_F(RedisPageTest, Autoscaler) { RunAutoscaler(); }
TEST_F(RedisPageTest, SessionEvents) { RunSessionEvents(); }

}  // namespace
}  // namespace test
}  // namespace udpgate
