#include "udpgate/admin/admin_server.h"

#include <sys/socket.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/child_process.h"
#include "testing/echo_backend.h"
#include "testing/http_client.h"
#include "testing/loopback_peer.h"
#include "testing/temporary_directory.h"
#include "udpgate/internal/unique_fd.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace admin {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::udpgate::test::AwaitTrue;
using ::udpgate::test::EchoBackend;
using ::udpgate::test::HttpExchange;
using ::udpgate::test::HttpGet;
using ::udpgate::test::HttpPost;
using ::udpgate::test::HttpReply;
using ::udpgate::test::LoopbackPeer;

// The value of a line of /metrics; `name` is with labels.
absl::StatusOr<std::string> Sample(const std::string& text,
                                   const std::string& name) {
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, name + " ")) {
      return std::string(line.substr(name.size() + 1));
    }
  }
  return absl::NotFoundError(name);
}

class AdminServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ProxyOptions options;
    options.listen_address = SocketAddress::Ipv4Loopback(0);
    options.worker_count = 2;
    absl::StatusOr<std::unique_ptr<Proxy>> proxy = Proxy::Create(
        options, {std::make_shared<StaticBackendResolver>(backend_.address())});
    ASSERT_TRUE(proxy.ok()) << proxy.status();
    proxy_ = *std::move(proxy);
    ASSERT_TRUE(proxy_->Start().ok());
    options_.listen_address = SocketAddress::Ipv4Loopback(0);
  }

  void Serve() {
    absl::StatusOr<std::unique_ptr<AdminServer>> admin =
        AdminServer::Create(options_, proxy_.get(), hooks_);
    ASSERT_TRUE(admin.ok()) << admin.status();
    admin_ = *std::move(admin);
    ASSERT_TRUE(admin_->Start().ok());
    // Where it listens on all addresses.
    address_ = SocketAddress::Ipv4Loopback(admin_->address().port());
  }

  HttpReply Get(const std::string& path, const std::string& headers = "") {
    return Reply(HttpGet(address_, path, headers));
  }
  HttpReply Post(const std::string& path, const std::string& body,
                 const std::string& headers = "") {
    return Reply(HttpPost(address_, path, body, headers));
  }
  HttpReply Send(const std::string& text) {
    return Reply(HttpExchange(address_, text));
  }
  HttpReply Reply(absl::StatusOr<HttpReply> reply) {
    EXPECT_TRUE(reply.ok()) << reply.status();
    return reply.ok() ? *reply : HttpReply();
  }

  // A datagram there and back.
  void Play(LoopbackPeer* client) {
    EXPECT_TRUE(client->Ask(proxy_->listen_addresses()[0], "hello").ok());
  }

  EchoBackend backend_;
  std::unique_ptr<Proxy> proxy_;
  AdminOptions options_;
  AdminHooks hooks_;
  SocketAddress address_;
  std::unique_ptr<AdminServer> admin_;
};

TEST_F(AdminServerTest, MetricsShowTheTraffic) {
  Serve();
  LoopbackPeer client;
  for (int i = 0; i < 3; ++i) Play(&client);
  const HttpReply reply = Get("/metrics");
  EXPECT_EQ(reply.status, 200);
  EXPECT_THAT(reply.head, HasSubstr("text/plain; version=0.0.4"));
  const auto expect = [&reply](const std::string& name,
                               const std::string& value) {
    const absl::StatusOr<std::string> sample = Sample(reply.body, name);
    ASSERT_TRUE(sample.ok()) << sample.status() << "\n" << reply.body;
    EXPECT_EQ(*sample, value) << name;
  };
  expect("udpgate_datagrams_received_total{direction=\"client\"}", "3");
  expect("udpgate_bytes_received_total{direction=\"backend\"}", "15");
  expect(
      "udpgate_datagrams_forwarded_total{direction=\"client\",path=\"socket\"}",
      "3");
  expect(
      "udpgate_bytes_forwarded_total{direction=\"backend\",path=\"fast_path\"}",
      "0");
  expect("udpgate_sessions_active", "1");
  expect("udpgate_sessions_created_total", "1");
  expect("udpgate_datagrams_dropped_total{reason=\"queue_full\"}", "0");
  expect("udpgate_sessions_ended_total{reason=\"idle\"}", "0");
  expect("udpgate_draining", "0");
  expect(absl::StrCat("udpgate_backend_sessions{backend=\"",
                      backend_.address().ToString(), "\"}"),
         "1");
  expect("udpgate_sessions_max", absl::StrCat(proxy_->max_sessions()));
  EXPECT_TRUE(Sample(reply.body, "process_open_fds").ok());
  EXPECT_TRUE(Sample(reply.body, "process_start_time_seconds").ok());
  EXPECT_THAT(reply.body, HasSubstr("udpgate_build_info{version="));
}

TEST_F(AdminServerTest, MetricsHaveEveryFieldAndReason) {
  Serve();
  const std::string text = Get("/metrics").body;
  for (const ProxyStatField& field : ProxyStatFields()) {
    const std::string name(field.name);
    if (absl::EndsWith(name, "_datagrams") || absl::EndsWith(name, "_bytes") ||
        absl::EndsWith(name, "_received") ||
        absl::EndsWith(name, "_forwarded")) {
      continue;  // by direction and path
    }
    const bool is_counter = field.kind == ProxyStatField::Kind::kCounter;
    EXPECT_TRUE(
        Sample(text, absl::StrCat("udpgate_", name, is_counter ? "_total" : ""))
            .ok())
        << name;
  }
  EXPECT_TRUE(Sample(text, "udpgate_disconnects_received_total").ok());
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    EXPECT_THAT(text, HasSubstr(absl::StrCat(
                          "udpgate_datagrams_dropped_total{reason=\"",
                          DropReasonName(static_cast<DropReason>(i)), "\"}")));
  }
}

TEST_F(AdminServerTest, PromtoolFindsNoFault) {
  hooks_.components = [] {
    return std::vector<ComponentHealth>{{"redis", absl::OkStatus()}};
  };
  Serve();
  LoopbackPeer client;
  Play(&client);
  test::TemporaryDirectory directory;
  const std::string path = directory.WriteFile("metrics", Get("/metrics").body);
  test::ChildProcessOptions options;
  options.arguments = {"sh", "-c",
                       absl::StrCat("command -v promtool || exit 99; promtool "
                                    "check metrics < ",
                                    path)};
  options.environment = {{"PATH", "/usr/local/bin:/usr/bin:/bin"}};
  absl::StatusOr<std::unique_ptr<test::ChildProcess>> process =
      test::ChildProcess::Start(options);
  ASSERT_TRUE(process.ok()) << process.status();
  const absl::StatusOr<test::ExitResult> result = (*process)->AwaitExit();
  ASSERT_TRUE(result.ok()) << result.status();
  if (result->status == 99) {
    const char* ci = std::getenv("CI");
    if (ci != nullptr && *ci != '\0') FAIL() << "promtool is not installed";
    GTEST_SKIP() << "promtool is not installed";
  }
  EXPECT_EQ(result->status, 0) << (*process)->output();
}

TEST_F(AdminServerTest, TheLabelsOfBackendsAreBounded) {
  options_.metric_backends_max = 0;
  Serve();
  LoopbackPeer client;
  Play(&client);
  EXPECT_EQ(Sample(Get("/metrics").body,
                   "udpgate_backend_sessions{backend=\"other\"}")
                .value_or(""),
            "1");
}

TEST_F(AdminServerTest, IsAliveAndReady) {
  Serve();
  EXPECT_EQ(Get("/healthz").status, 200);
  EXPECT_EQ(Get("/readyz").body, "ready\n");
}

TEST_F(AdminServerTest, IsNotReadyWhereSomethingNeededFails) {
  std::atomic<bool> works{false};
  hooks_.components = [&works] {
    return std::vector<ComponentHealth>{
        {"redis_backend",
         works ? absl::OkStatus() : absl::UnavailableError("no connection")},
        {"redis_disconnects", absl::UnavailableError("not subscribed"),
         /*is_needed=*/false}};
  };
  Serve();
  const HttpReply reply = Get("/readyz");
  EXPECT_EQ(reply.status, 503);
  EXPECT_EQ(reply.body, "redis_backend: no connection\n");
  EXPECT_EQ(Get("/healthz").status, 200);
  works = true;
  EXPECT_EQ(Get("/readyz").status, 200);
  const std::string text = Get("/metrics").body;
  EXPECT_EQ(Sample(text, "udpgate_component_up{component=\"redis_backend\"}")
                .value_or(""),
            "1");
  EXPECT_EQ(
      Sample(text, "udpgate_component_up{component=\"redis_disconnects\"}")
          .value_or(""),
      "0");
}

TEST_F(AdminServerTest, ABusyPortIsAnError) {
  Serve();
  options_.listen_address = address_;
  const absl::Status status =
      AdminServer::Create(options_, proxy_.get(), hooks_).status();
  EXPECT_THAT(status.message(), AllOf(HasSubstr(address_.ToString()),
                                      HasSubstr("Address already in use")));
}

TEST_F(AdminServerTest, OptionsAreChecked) {
  options_.worker_count = 0;
  const absl::Status status =
      AdminServer::Create(options_, proxy_.get(), hooks_).status();
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(status.message(), HasSubstr("worker_count"));
}

TEST_F(AdminServerTest, AnUnknownPathIsAJsonError) {
  Serve();
  const HttpReply reply = Get("/nothing");
  EXPECT_EQ(reply.status, 404);
  EXPECT_THAT(reply.head, HasSubstr("application/json"));
  EXPECT_THAT(reply.body, HasSubstr("\"error\""));
}

TEST_F(AdminServerTest, StopsWhileClientsAreConnected) {
  Serve();
  absl::StatusOr<internal::UniqueFd> idle = test::TcpConnect(address_);
  ASSERT_TRUE(idle.ok());
  ASSERT_EQ(send(idle->get(), "GET /he", 7, MSG_NOSIGNAL), 7);
  EXPECT_EQ(Get("/healthz").status, 200);
  admin_->Stop();
  char byte;
  EXPECT_LE(recv(idle->get(), &byte, 1, 0), 0);
  admin_->Stop();
}

// What a hostile or broken client sends.

TEST_F(AdminServerTest, GarbageIsRefused) {
  Serve();
  for (const std::string& text :
       {std::string("\r\n\r\n"), std::string("hello\r\n\r\n"),
        std::string("GET /metrics HTTP/9.9\r\n\r\n"),
        std::string("GET http://a/metrics HTTP/1.1\r\n\r\n"),
        std::string("\0\xff\x16\x03\x01\r\n\r\n", 9),
        std::string("GET /metrics HTTP/1.1\r\nno header\r\n\r\n"),
        std::string("GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        std::string("GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
        std::string("GET / HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n"),
        std::string("BREW /metrics HTTP/1.1\r\n\r\n")}) {
    const HttpReply reply = Send(text);
    EXPECT_EQ(reply.status, 400) << text;
    EXPECT_THAT(reply.body, HasSubstr("\"error\"")) << text;
  }
  EXPECT_EQ(Send("POST /api/v1/drain HTTP/1.1\r\nTransfer-Encoding: chunked"
                 "\r\n\r\n0\r\n\r\n")
                .status,
            501);
  EXPECT_EQ(Get("/healthz").status, 200);
}

TEST_F(AdminServerTest, WhatIsTooBigIsRefused) {
  Serve();
  EXPECT_EQ(Post("/api/v1/drain", std::string(10 << 20, 'x')).status, 413);
  EXPECT_EQ(Post("/api/v1/drain", std::string(65537, 'x')).status, 413);
  EXPECT_EQ(
      Get("/healthz", absl::StrCat("X: ", std::string(1 << 20, 'x'), "\r\n"))
          .status,
      431);
  EXPECT_EQ(Get("/healthz").status, 200);
}

TEST_F(AdminServerTest, AHalfRequestEndsWithTheTimeout) {
  options_.read_timeout = absl::Milliseconds(100);
  Serve();
  for (const absl::string_view half :
       {absl::string_view(""), absl::string_view("GET /metrics HT"),
        absl::string_view("POST /api/v1/drain HTTP/1.1\r\nContent-Length: 9"
                          "\r\n\r\n{")}) {
    absl::StatusOr<internal::UniqueFd> fd = test::TcpConnect(address_);
    ASSERT_TRUE(fd.ok()) << fd.status();
    ASSERT_EQ(send(fd->get(), half.data(), half.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(half.size()));
    char byte;
    EXPECT_EQ(recv(fd->get(), &byte, 1, 0), 0);  // the end
  }
  EXPECT_EQ(
      Sample(Get("/metrics").body, "udpgate_admin_connections_timed_out_total")
          .value_or(""),
      "3");
}

TEST_F(AdminServerTest, ManyIdleConnectionsHinderNobody) {
  options_.read_timeout = absl::Minutes(1);
  Serve();
  LoopbackPeer client;
  Play(&client);
  std::vector<internal::UniqueFd> idle;
  for (int i = 0; i < 1000; ++i) {
    absl::StatusOr<internal::UniqueFd> fd = test::TcpConnect(address_);
    ASSERT_TRUE(fd.ok()) << fd.status();
    idle.push_back(*std::move(fd));
    if (i % 100 != 0) continue;
    EXPECT_EQ(Get("/healthz").status, 200);
    Play(&client);
  }
  const std::string text = Get("/metrics").body;
  int evicted = 0;
  EXPECT_TRUE(absl::SimpleAtoi(
      Sample(text, "udpgate_admin_connections_evicted_total").value_or(""),
      &evicted));
  EXPECT_GE(evicted, 900);
  Play(&client);
}

}  // namespace
}  // namespace admin
}  // namespace udpgate
