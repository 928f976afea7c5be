// Real proxies between the gateway and Redis: twemproxy (nutcracker), which
// knows a part of the commands, and HAProxy in TCP mode, which knows none.
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/e2e/program.h"
#include "testing/internal/support/child_process.h"
#include "testing/internal/support/http_client.h"

namespace udpgate {
namespace test {
namespace {

class RedisProxyTest : public GateTest {
 protected:
  void StartProxy(const std::vector<std::string>& arguments,
                  const std::string& name, const std::string& configuration) {
    ChildProcessOptions options;
    options.arguments = arguments;
    options.arguments.push_back(directory_.WriteFile(name, configuration));
    options.arguments[0] = absl::StrCat("/usr/sbin/", arguments[0]);
    options.environment = {{"PATH", kProgramPath}};
    options.working_directory = directory_.path();
    absl::StatusOr<std::unique_ptr<ChildProcess>> process =
        ChildProcess::Start(options);
    ASSERT_TRUE(process.ok()) << process.status();
    proxy_ = *std::move(process);
    ASSERT_TRUE(AwaitTrue([&] {
      return TcpConnect(SocketAddress::Ipv4Loopback(port_)).ok();
    })) << proxy_->output();
  }
  void StartTwemproxy() {
    StartProxy({"nutcracker", "-o", "/dev/stderr", "-s",
                absl::StrCat(FreeTcpPort()), "-a", "127.0.0.1", "-c"},
               "nutcracker.yml",
               absl::StrCat("gate:\n  listen: 127.0.0.1:", port_,
                            "\n  redis: true\n  timeout: 500\n"
                            "  servers:\n   - 127.0.0.1:",
                            redis().port(), ":1\n"));
  }
  void StartHaproxy() {
    StartProxy({"haproxy", "-db", "-f"}, "haproxy.cfg",
               absl::StrCat(
                   "defaults\n  mode tcp\n  timeout connect 500ms\n"
                   "  timeout client 1m\n  timeout server 1m\n"
                   "  retries 0\n"
                   "listen gate\n  bind 127.0.0.1:",
                   port_, "\n  server redis 127.0.0.1:", redis().port(), "\n"));
  }
  // With a port alone, a newcomer could get that of an earlier one, whose
  // session still lives.
  SocketAddress NewAddress() {
    ++host_;
    return *SocketAddress::Parse(
        absl::StrCat("127.1.", host_ / 250, ".", host_ % 250 + 1, ":0"));
  }
  std::string proxy_address() const {
    return absl::StrCat("127.0.0.1:", port_);
  }
  std::string Get(absl::string_view path) const {
    const absl::StatusOr<HttpReply> reply = HttpGet(admin_, path);
    return reply.ok() ? reply->body : reply.status().ToString();
  }
  bool AwaitProblem(absl::string_view connection, absl::string_view reason,
                    int value = 1) const {
    const std::string line =
        absl::StrCat("udpgate_redis_problem{connection=\"", connection,
                     "\",reason=\"", reason, "\"} ", value, "\n");
    return AwaitTrue([&] { return absl::StrContains(Get("/metrics"), line); });
  }
  int LinesWith(absl::string_view text) {
    int count = 0;
    const std::string log = gate().log();
    for (const absl::string_view line : absl::StrSplit(log, '\n')) {
      if (absl::StrContains(line, text)) ++count;
    }
    return count;
  }

  // What nutcracker has said about it.
  size_t CountInProxyLog(absl::string_view text) const {
    const std::vector<std::string> parts =
        absl::StrSplit(proxy_->output(), std::string(text));
    return parts.size() - 1;
  }

  TemporaryDirectory directory_;
  int host_ = 0;
  const uint16_t port_ = FreeTcpPort();
  const SocketAddress admin_ = SocketAddress::Ipv4Loopback(FreeTcpPort());
  std::unique_ptr<ChildProcess> proxy_;
};

TEST_F(RedisProxyTest, TwemproxyServesNewClientsAndSaysWhatIsMissing) {
  if (!IsInstalled("nutcracker")) GTEST_SKIP() << "nutcracker is missing";
  StartTwemproxy();
  EchoBackend lobby("lobby");
  SetBackend(lobby);
  StartGate({{"REDIS_ADDR", proxy_address()},
             {"REDIS_DISCONNECT_STREAM", "events"},
             {"ADMIN_ADDR", admin_.ToString()}});
  EXPECT_TRUE(AwaitProblem("disconnect_channel", "unsupported"));
  EXPECT_TRUE(AwaitProblem("disconnect_stream", "unsupported"));
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby"));
  // Several attempts later.
  ASSERT_TRUE(AwaitTrue([&] {
    LoopbackPeer newcomer(NewAddress());
    EXPECT_TRUE(IsServedBy(&newcomer, address(), "lobby"));
    return LinesWith("SUBSCRIBE") > 0 && LinesWith("at TIME") > 0 &&
           CountInProxyLog("SUBSCRIBE") >= 4;
  }));
  EXPECT_EQ(LinesWith("(disconnect channel)"), 1) << gate().log();
  EXPECT_EQ(LinesWith("(disconnect stream)"), 1) << gate().log();
  EXPECT_EQ(LinesWith(" works: backend key: connected"), 1) << gate().log();
  EXPECT_EQ(LinesWith("(backend key"), 0) << gate().log();
  EXPECT_TRUE(absl::StrContains(
      Get("/readyz"), "closed the connection at SUBSCRIBE; does the server"));
  EXPECT_TRUE(AwaitProblem("backend_key", "closed", 0));

  // twemproxy accepts connections and replies to PING without its server.
  redis().Kill();
  LoopbackPeer late(NewAddress());
  ASSERT_TRUE(late.Send(address(), "nobody there").ok());
  EXPECT_TRUE(AwaitProblem("backend_key", "error"));
  ASSERT_TRUE(redis().Restart().ok());
  SetBackend(lobby);
  EXPECT_TRUE(AwaitServedBy(&late, address(), "lobby"));
  EXPECT_TRUE(AwaitProblem("backend_key", "error", 0));
}

// Joins are written to a stream, and the status is read by GETRANGE.
TEST_F(RedisProxyTest, ReadyzWarnsThatTwemproxyKeepsNoJoins) {
  if (!IsInstalled("nutcracker")) GTEST_SKIP() << "nutcracker is missing";
  StartTwemproxy();
  StartGate({{"REDIS_ADDR", proxy_address()},
             {"REDIS_STATUS_KEY", "status"},
             {"NETHERNET_ADDR", "127.0.0.1:0"},
             {"ADMIN_ADDR", admin_.ToString()}});
  EXPECT_TRUE(AwaitProblem("stream_reading", "unsupported"));
  EXPECT_TRUE(AwaitTrue([&] {
    const std::string body = Get("/readyz");
    return absl::StrContains(body, "warning: shared_joins: Redis ") &&
           absl::StrContains(body, "closed the connection at TIME") &&
           !absl::StrContains(body, "fleet_status");
  })) << Get("/readyz");
  redis().Kill();
  EXPECT_TRUE(AwaitTrue([&] {
    return absl::StrContains(Get("/readyz"), "warning: fleet_status: Redis ");
  })) << Get("/readyz");
  ASSERT_TRUE(redis().Restart().ok());
}

TEST_F(RedisProxyTest, HaproxyIsNoticedOnlyWhileRedisIsAway) {
  if (!IsInstalled("haproxy")) GTEST_SKIP() << "haproxy is missing";
  StartHaproxy();
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate(
      {{"REDIS_ADDR", proxy_address()}, {"ADMIN_ADDR", admin_.ToString()}});
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby"));
  SetBackend(arena);
  Publish(client.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));

  redis().Kill();
  EXPECT_TRUE(AwaitProblem("backend_key", "closed"));
  EXPECT_TRUE(AwaitProblem("disconnect_channel", "closed"));
  LoopbackPeer late;
  ASSERT_TRUE(late.Send(address(), "nobody there").ok());
  ASSERT_TRUE(redis().Restart().ok());
  SetBackend(lobby);
  EXPECT_TRUE(AwaitServedBy(&late, address(), "lobby"));
  EXPECT_TRUE(AwaitProblem("disconnect_channel", "closed", 0));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
