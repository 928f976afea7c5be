// The endpoint for operators, of the real program.
#include <map>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/http_client.h"

namespace udpgate {
namespace test {
namespace {

constexpr char kToken[] = "a-token-of-a-test";

std::string Body(absl::StatusOr<HttpReply> reply) {
  return reply.ok() ? reply->body : reply.status().ToString();
}

int Status(absl::StatusOr<HttpReply> reply) {
  return reply.ok() ? reply->status : -1;
}

TEST(AdminTest, IsOffByDefault) {
  GateProcessOptions options;
  options.environment = {{"BACKEND_ADDR", "127.0.0.1:9"}};
  GateProcess gate(GateBinary(), options);
  ASSERT_TRUE(gate.Start().ok()) << gate.log();
  EXPECT_FALSE(gate.AdminAddress().is_valid()) << gate.log();
}

TEST(AdminTest, ServesMetricsAndHealth) {
  EchoBackend backend;
  GateProcessOptions options;
  options.environment = {{"BACKEND_ADDR", backend.address().ToString()},
                         {"ADMIN_ADDR", "127.0.0.1:0"}};
  GateProcess gate(GateBinary(), options);
  ASSERT_TRUE(gate.Start().ok()) << gate.log();
  const SocketAddress admin = gate.AdminAddress();
  ASSERT_TRUE(admin.is_valid()) << gate.log();
  LoopbackPeer client;
  EXPECT_TRUE(client.Ask(gate.address(), "hello").ok());
  EXPECT_TRUE(absl::StrContains(Body(HttpGet(admin, "/metrics")),
                                "\nudpgate_sessions_active 1\n"));
  EXPECT_EQ(Body(HttpGet(admin, "/healthz")), "alive\n");
  EXPECT_EQ(Body(HttpGet(admin, "/readyz")), "ready\n");
  const absl::StatusOr<ExitResult> result = gate.Terminate();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->exited_with(0));
  EXPECT_LT(result->duration, kStopTimeMax);
}

TEST(AdminTest, IsNotReadyWithoutRedis) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  GateProcessOptions options;
  options.environment = {{"REDIS_ADDR", redis.tcp_address()},
                         {"ADMIN_ADDR", "127.0.0.1:0"}};
  GateProcess gate(GateBinary(), options);
  ASSERT_TRUE(gate.Start().ok()) << gate.log();
  const SocketAddress admin = gate.AdminAddress();
  EXPECT_TRUE(
      AwaitTrue([&] { return Status(HttpGet(admin, "/readyz")) == 200; }));
  const auto says = [&](const std::string& sample) {
    return AwaitTrue([&] {
      return absl::StrContains(Body(HttpGet(admin, "/metrics")),
                               absl::StrCat("\n", sample, "\n"));
    });
  };
  EXPECT_TRUE(says("udpgate_redis_connected 1"));
  EXPECT_TRUE(says("udpgate_redis_subscribed 1"));
  redis.Kill();
  EXPECT_TRUE(says("udpgate_redis_connected 0"));
  EXPECT_TRUE(says("udpgate_redis_subscribed 0"));
  EXPECT_TRUE(
      AwaitTrue([&] { return Status(HttpGet(admin, "/readyz")) == 503; }));
  EXPECT_TRUE(
      absl::StartsWith(Body(HttpGet(admin, "/readyz")), "backend_source: "));
  EXPECT_EQ(Status(HttpGet(admin, "/healthz")), 200);
}

// Redis answers what it is asked, but lets nobody subscribe.
TEST(AdminTest, SaysThatDisconnectsCannotArriveAndFailsOnlyWhereItShall) {
  RedisServer redis;
  ASSERT_TRUE(redis.Start().ok());
  ASSERT_TRUE(
      redis
          .Command({"ACL", "SETUSER", "deaf", "on", ">secret", "resetkeys",
                    "resetchannels", "-@all", "~*", "+get", "+select", "+ping"})
          .ok());
  const std::string reason = "disconnect_source: ";
  for (const bool fails : {false, true}) {
    GateProcessOptions options;
    options.environment = {{"REDIS_ADDR", redis.tcp_address()},
                           {"REDIS_USERNAME", "deaf"},
                           {"REDIS_PASSWORD", "secret"},
                           {"ADMIN_ADDR", "127.0.0.1:0"}};
    if (fails) options.environment["READYZ_DISCONNECTS"] = "fail";
    GateProcess gate(GateBinary(), options);
    ASSERT_TRUE(gate.Start().ok()) << gate.log();
    const SocketAddress admin = gate.AdminAddress();
    const std::string expected = fails ? reason : "ready\nwarning: " + reason;
    EXPECT_TRUE(AwaitTrue([&] {
      return absl::StartsWith(Body(HttpGet(admin, "/readyz")), expected);
    })) << Body(HttpGet(admin, "/readyz"));
    EXPECT_EQ(Status(HttpGet(admin, "/readyz")), fails ? 503 : 200);
  }
  // Once they can, nothing is said any more.
  ASSERT_TRUE(
      redis.Command({"ACL", "SETUSER", "deaf", "allchannels", "+subscribe"})
          .ok());
  GateProcessOptions options;
  options.environment = {{"REDIS_ADDR", redis.tcp_address()},
                         {"REDIS_USERNAME", "deaf"},
                         {"REDIS_PASSWORD", "secret"},
                         {"READYZ_DISCONNECTS", "fail"},
                         {"ADMIN_ADDR", "127.0.0.1:0"}};
  GateProcess gate(GateBinary(), options);
  ASSERT_TRUE(gate.Start().ok()) << gate.log();
  const SocketAddress admin = gate.AdminAddress();
  EXPECT_TRUE(
      AwaitTrue([&] { return Body(HttpGet(admin, "/readyz")) == "ready\n"; }));
}

TEST(AdminTest, ShowsTheEndsOfSessionsWhetherTheyAreLoggedOrNot) {
  for (const char* session_log : {"off", "end"}) {
    EchoBackend backend;
    GateProcessOptions options;
    options.environment = {{"BACKEND_ADDR", backend.address().ToString()},
                           {"ADMIN_ADDR", "127.0.0.1:0"},
                           {"SESSION_LOG", session_log}};
    GateProcess gate(GateBinary(), options);
    ASSERT_TRUE(gate.Start().ok()) << gate.log();
    const SocketAddress admin = gate.AdminAddress();
    LoopbackPeer client;
    EXPECT_TRUE(client.Ask(gate.address(), "hello").ok());
    EXPECT_EQ(Body(HttpPost(admin, "/api/v1/disconnect",
                            absl::StrCat("{\"target\": \"",
                                         client.address().ToString(), "\"}"))),
              "{\"ended\":1}\n");
    EXPECT_TRUE(AwaitTrue([&] {
      return absl::StrContains(
          Body(HttpGet(admin, "/api/v1/ends")),
          absl::StrCat("\"client\":\"", client.address().ToString(), "\""));
    }));
    ASSERT_EQ(gate.Terminate()->status, 0);
    EXPECT_EQ(absl::StrContains(gate.log(), "session ended"),
              session_log == std::string("end"))
        << gate.log();
  }
}

TEST(AdminTest, CountsWhatTheLogOfSessionsLeavesOut) {
  EchoBackend backend;
  GateProcessOptions options;
  options.environment = {{"BACKEND_ADDR", backend.address().ToString()},
                         {"ADMIN_ADDR", "127.0.0.1:0"},
                         {"SESSION_LOG", "all"},
                         {"SESSION_LOG_LINES_PER_SEC", "1"}};
  GateProcess gate(GateBinary(), options);
  ASSERT_TRUE(gate.Start().ok()) << gate.log();
  const SocketAddress admin = gate.AdminAddress();
  const absl::string_view kName = "\nudpgate_session_log_lines_left_out_total ";
  EXPECT_TRUE(absl::StrContains(Body(HttpGet(admin, "/metrics")),
                                absl::StrCat(kName, "0\n")));
  EXPECT_TRUE(AwaitTrue([&] {
    LoopbackPeer client;
    EXPECT_TRUE(client.Ask(gate.address(), "hello").ok());
    const std::string metrics = Body(HttpGet(admin, "/metrics"));
    return absl::StrContains(metrics, kName) &&
           !absl::StrContains(metrics, absl::StrCat(kName, "0\n"));
  }));
  ASSERT_EQ(gate.Terminate()->status, 0);
  EXPECT_TRUE(
      absl::StrContains(gate.log(), "session log lines were suppressed"))
      << gate.log();
}

TEST(AdminTest, SaysThatASignalDrainsTheGate) {
  EchoBackend backend;
  GateProcessOptions options;
  options.environment = {{"BACKEND_ADDR", backend.address().ToString()},
                         {"ADMIN_ADDR", "127.0.0.1:0"},
                         {"DRAIN_TIMEOUT_SECS", "60"}};
  GateProcess gate(GateBinary(), options);
  ASSERT_TRUE(gate.Start().ok()) << gate.log();
  const SocketAddress admin = gate.AdminAddress();
  LoopbackPeer client;
  ASSERT_TRUE(client.Ask(gate.address(), "hello").ok());
  gate.Signal(SIGTERM);
  EXPECT_TRUE(AwaitTrue([&] {
    return Body(HttpGet(admin, "/readyz")) == "draining\n";
  })) << gate.log();
  EXPECT_TRUE(absl::StrContains(Body(HttpGet(admin, "/metrics")),
                                "\nudpgate_draining 1\n"));
  const absl::StatusOr<ExitResult> result = gate.Terminate();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->exited_with(0));
}

TEST(AdminTest, ABusyPortNamesTheSetting) {
  GateProcessOptions options;
  options.environment = {{"BACKEND_ADDR", "127.0.0.1:9"},
                         {"ADMIN_ADDR", "127.0.0.1:0"}};
  GateProcess first(GateBinary(), options);
  ASSERT_TRUE(first.Start().ok()) << first.log();
  const std::string address = first.AdminAddress().ToString();
  options.environment["ADMIN_ADDR"] = address;
  GateProcess second(GateBinary(), options);
  ASSERT_TRUE(second.Launch().ok());
  const absl::StatusOr<ExitResult> result = second.AwaitExit();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->status, 1);
  EXPECT_TRUE(absl::StrContains(second.log(), "ADMIN_ADDR: " + address))
      << second.log();
  EXPECT_TRUE(absl::StrContains(second.log(), "Address already in use"))
      << second.log();
}

TEST(AdminTest, ATokenIsNotLogged) {
  GateProcessOptions options;
  options.environment = {{"BACKEND_ADDR", "127.0.0.1:9"},
                         {"ADMIN_ADDR", "0.0.0.0:0"},
                         {"LOG_LEVEL", "debug"}};
  {
    GateProcess gate(GateBinary(), options);
    ASSERT_TRUE(gate.Start().ok()) << gate.log();
    EXPECT_TRUE(absl::StrContains(gate.log(), "there is no ADMIN_TOKEN"))
        << gate.log();
  }
  options.environment["ADMIN_TOKEN"] = kToken;
  GateProcess gate(GateBinary(), options);
  ASSERT_TRUE(gate.Start().ok()) << gate.log();
  const SocketAddress admin =
      SocketAddress::Ipv4Loopback(gate.AdminAddress().port());
  EXPECT_EQ(Status(HttpGet(admin, "/api/v1/status")), 401);
  EXPECT_EQ(
      Status(HttpGet(admin, "/api/v1/status",
                     absl::StrCat("Authorization: Bearer ", kToken, "\r\n"))),
      200);
  EXPECT_FALSE(absl::StrContains(gate.log(), "ADMIN_TOKEN")) << gate.log();
  EXPECT_FALSE(absl::StrContains(gate.log(), kToken)) << gate.log();
}

}  // namespace
}  // namespace test
}  // namespace udpgate
