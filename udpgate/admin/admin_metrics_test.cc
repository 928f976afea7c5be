#include <cstddef>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/child_process.h"
#include "testing/internal/support/http_client.h"
#include "testing/internal/support/temporary_directory.h"
#include "testing/loopback_peer.h"
#include "udpgate/admin/admin_fixture.h"
#include "udpgate/admin/admin_options.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/host_metric.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_stats.h"

namespace udpgate {
namespace admin {
namespace {

using ::testing::HasSubstr;
using ::udpgate::test::AwaitTrue;
using ::udpgate::test::HttpReply;
using ::udpgate::test::LoopbackPeer;

using AdminMetricsTest = AdminServerTest;

TEST_F(AdminMetricsTest, CountTheTraffic) {
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
  expect("udpgate_standby", "0");
  expect(absl::StrCat("udpgate_backend_sessions{backend=\"",
                      backend_.address().ToString(), "\"}"),
         "1");
  expect("udpgate_sessions_max", absl::StrCat(proxy_->max_sessions()));
  EXPECT_TRUE(Sample(reply.body, "process_open_fds").ok());
  EXPECT_TRUE(Sample(reply.body, "process_start_time_seconds").ok());
  EXPECT_THAT(reply.body, HasSubstr("udpgate_build_info{version="));
}

TEST_F(AdminMetricsTest, CountSessionsAndDisconnectEventsByResult) {
  hooks_.metrics = [] {
    return std::vector<HostMetric>{
        {HostMetric::Kind::kGauge, "udpgate_redis_connected", "Help.", 1},
        {HostMetric::Kind::kCounter, "udpgate_gets_total", "Help.", 7}};
  };
  Serve();
  LoopbackPeer client, other;
  Play(&client);
  Play(&other);
  End(client);
  proxy_->Disconnect(DisconnectTarget::ForClient(client.address()));
  EXPECT_TRUE(
      AwaitTrue([&] { return proxy_->GetStats().disconnects_unmatched == 1; }));
  const std::string text = Get("/metrics").body;
  const std::string backend = backend_.address().ToString();
  const std::pair<std::string, std::string> samples[] = {
      {absl::StrCat("udpgate_backend_sessions_opened_total{backend=\"", backend,
                    "\"}"),
       "2"},
      {absl::StrCat("udpgate_backend_sessions_ended_total{backend=\"", backend,
                    "\",reason=\"disconnected\"}"),
       "1"},
      {absl::StrCat("udpgate_backend_sessions_ended_total{backend=\"", backend,
                    "\",reason=\"idle\"}"),
       "0"},
      {"udpgate_disconnects_received_total", "2"},
      {"udpgate_disconnects_total{result=\"ended\"}", "1"},
      {"udpgate_disconnects_total{result=\"not_found\"}", "1"},
      {"udpgate_disconnects_total{result=\"invalid\"}", "0"},
      {"udpgate_disconnects_total{result=\"ambiguous\"}", "0"},
      {"udpgate_resolve_duration_seconds_count", "2"},
      {"udpgate_resolve_duration_seconds_bucket{le=\"5\"}", "2"},
      {"udpgate_resolve_duration_seconds_bucket{le=\"+Inf\"}", "2"},
      {"udpgate_redis_connected", "1"},
      {"udpgate_gets_total", "7"},
      {"udpgate_datagrams_queued", "0"},
      {"udpgate_session_events_queued", "0"},
      {"udpgate_session_events_dropped_total", "0"}};
  for (const auto& [name, value] : samples) {
    EXPECT_EQ(Sample(text, name).value_or("none"), value) << name;
  }
  EXPECT_THAT(text, HasSubstr("# TYPE udpgate_gets_total counter"));
}

TEST_F(AdminMetricsTest, SessionsPerBackendAreCached) {
  options_.backends_age_max = absl::Hours(1);
  Serve();
  LoopbackPeer first, second;
  Play(&first);
  const auto sessions = [this] {
    const std::string name = absl::StrCat("udpgate_backend_sessions{backend=\"",
                                          backend_.address().ToString(), "\"}");
    return Sample(Get("/metrics").body, name).value_or("none");
  };
  EXPECT_EQ(sessions(), "1");
  Play(&second);
  EXPECT_EQ(sessions(), "1");
  EXPECT_EQ(Json(Get("/api/v1/backends"))["backends"][0]["sessions"], 1);
  options_.backends_age_max = absl::Milliseconds(1);
  Serve();
  EXPECT_TRUE(AwaitTrue([&] { return sessions() == "2"; }));
}

TEST_F(AdminMetricsTest, ContainEveryFieldAndReason) {
  Serve();
  const std::string text = Get("/metrics").body;
  for (const ProxyStatField& field : ProxyStatFields()) {
    const std::string name(field.name);
    if (absl::EndsWith(name, "_datagrams") || absl::EndsWith(name, "_bytes") ||
        absl::EndsWith(name, "_received") ||
        absl::EndsWith(name, "_forwarded") ||
        absl::StartsWith(name, "disconnects_")) {
      continue;  // by direction and path, or by result
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

TEST_F(AdminMetricsTest, PassPromtool) {
  hooks_.components = [] {
    return std::vector<ComponentHealth>{{"redis", absl::OkStatus()}};
  };
  hooks_.metrics = [] {
    return std::vector<HostMetric>{
        {HostMetric::Kind::kGauge, "udpgate_redis_connected", "Help.", 1}};
  };
  Serve();
  LoopbackPeer client, gone;
  Play(&client);
  Play(&gone);
  End(gone);
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

TEST_F(AdminMetricsTest, NumberOfBackendLabelsIsLimited) {
  options_.metric_backends_max = 0;
  Serve();
  LoopbackPeer client;
  Play(&client);
  EXPECT_EQ(Sample(Get("/metrics").body,
                   "udpgate_backend_sessions{backend=\"other\"}")
                .value_or(""),
            "1");
}

}  // namespace
}  // namespace admin
}  // namespace udpgate
