#include "udpgate/admin/admin_server.h"

#include <sys/socket.h>

#include <atomic>
#include <cstdlib>
#include <fstream>
#include <future>
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
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/internal/support/child_process.h"
#include "testing/internal/support/http_client.h"
#include "testing/internal/support/temporary_directory.h"
#include "testing/loopback_peer.h"
#include "udpgate/admin/session_history.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_stats.h"

namespace udpgate {
namespace admin {
namespace {

using ::nlohmann::json;
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

json Json(const HttpReply& reply) {
  EXPECT_THAT(reply.head, HasSubstr("Content-Type: application/json"));
  const json value = json::parse(reply.body, nullptr, false);
  EXPECT_FALSE(value.is_discarded()) << reply.body;
  return value.is_object() ? value : json::object();
}

// Always the same backend, by a label of the test's.
class LabelResolver final : public BackendResolver {
 public:
  explicit LabelResolver(const SocketAddress& backend)
      : label(backend.ToString()), backend_(backend) {}
  void Resolve(const ResolveRequest&, Callback done) override {
    done(ResolveResult{backend_, label});
  }

  std::string label;  // until the first client comes

 private:
  const SocketAddress backend_;
};

class AdminServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ProxyOptions options;
    options.listen_address = SocketAddress::Ipv4Loopback(0);
    options.worker_count = 2;
    ProxyDependencies dependencies;
    dependencies.resolver = resolver_;
    dependencies.session_observer = history_;
    absl::StatusOr<std::unique_ptr<Proxy>> proxy =
        Proxy::Create(options, std::move(dependencies));
    ASSERT_TRUE(proxy.ok()) << proxy.status();
    proxy_ = *std::move(proxy);
    ASSERT_TRUE(proxy_->Start().ok());
    options_.listen_address = SocketAddress::Ipv4Loopback(0);
    options_.backends_age_max = absl::ZeroDuration();
    hooks_.history = history_;
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

  // Ends the client's session, and waits until that is known.
  void End(const LoopbackPeer& client) {
    const auto count = [this] {
      size_t ends = 0;
      history_->ForEachEnd([&ends](const SessionHistory::End&) {
        ++ends;
        return true;
      });
      return ends;
    };
    const size_t before = count();
    proxy_->Disconnect(DisconnectTarget::ForClient(client.address()));
    EXPECT_TRUE(AwaitTrue([&] { return count() == before + 1; }));
  }

  // A datagram there and back.
  void Play(LoopbackPeer* client) {
    EXPECT_TRUE(client->Ask(proxy_->listen_addresses()[0], "hello").ok());
  }

  EchoBackend backend_;
  std::shared_ptr<LabelResolver> resolver_ =
      std::make_shared<LabelResolver>(backend_.address());
  std::shared_ptr<SessionHistory> history_ =
      std::make_shared<SessionHistory>(SessionHistoryOptions());
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

TEST_F(AdminServerTest, MetricsShowSessionsAndEventsByResult) {
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

TEST_F(AdminServerTest, CountsOfBackendsAreCached) {
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

TEST_F(AdminServerTest, MetricsHaveEveryFieldAndReason) {
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

TEST_F(AdminServerTest, PromtoolFindsNoFault) {
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
  proxy_->Stop();
  const HttpReply dead = Get("/healthz");
  EXPECT_EQ(dead.status, 503);
  EXPECT_THAT(dead.body,
              HasSubstr("worker stalled: no event-loop iteration in 2s"));
}

TEST_F(AdminServerTest, IsNotReadyIfANeededComponentFails) {
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
  EXPECT_EQ(reply.body,
            "redis_backend: no connection\n"
            "warning: redis_disconnects: not subscribed\n");
  EXPECT_EQ(Get("/healthz").status, 200);
  works = true;
  // A component that is not needed is still a warning.
  EXPECT_EQ(Get("/readyz").status, 200);
  EXPECT_EQ(Get("/readyz").body,
            "ready\nwarning: redis_disconnects: not subscribed\n");
  EXPECT_THAT(Get("/api/v1/status").body,
              HasSubstr("[\"warning: redis_disconnects: not subscribed\"]"));
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

// The API.

TEST_F(AdminServerTest, SessionsAreListedInPages) {
  Serve();
  std::vector<LoopbackPeer> clients;
  for (int i = 0; i < 5; ++i) {
    clients.emplace_back();
    Play(&clients.back());
  }
  const json all = Json(Get("/api/v1/sessions"));
  EXPECT_EQ(all["total"], 5);
  ASSERT_EQ(all["sessions"].size(), 5u);
  for (size_t i = 0; i < clients.size(); ++i) {
    const json& session = all["sessions"][i];
    EXPECT_EQ(session["backend"], backend_.address().ToString());
    EXPECT_EQ(session["client_bytes_forwarded"], 5);
    EXPECT_EQ(session["backend_datagrams_forwarded"], 1);
    EXPECT_GE(session["age_seconds"], 0.0);
    EXPECT_TRUE(session["relay"].is_string());
  }
  const json page = Json(Get("/api/v1/sessions?offset=3&limit=1"));
  EXPECT_EQ(page["total"], 5);
  ASSERT_EQ(page["sessions"].size(), 1u);
  EXPECT_EQ(page["sessions"][0]["id"], all["sessions"][3]["id"]);
  EXPECT_EQ(Json(Get("/api/v1/sessions?offset=9"))["sessions"].size(), 0u);

  const std::string client = clients[2].address().ToString();
  const json one = Json(Get("/api/v1/sessions?client=" + client));
  EXPECT_EQ(one["total"], 1);
  EXPECT_EQ(one["sessions"][0]["client"], client);
  EXPECT_EQ(Json(Get("/api/v1/sessions?client=127.0.0.1"))["total"], 5);
  EXPECT_EQ(Json(Get("/api/v1/sessions?client=127.0.0.2"))["total"], 0);
  EXPECT_EQ(Json(Get("/api/v1/sessions?backend=" +
                     backend_.address().ToString()))["total"],
            5);
  EXPECT_EQ(Json(Get("/api/v1/sessions?backend=127.0.0.1:1"))["total"], 0);
}

TEST_F(AdminServerTest, BadParametersAreRefused) {
  Serve();
  for (const std::string query :
       {"limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "offset=1e3",
        "offset=99999999999999999999", "client=host", "backend=1.2.3:4"}) {
    const HttpReply reply = Get("/api/v1/sessions?" + query);
    EXPECT_EQ(reply.status, 400) << query;
    EXPECT_TRUE(Json(reply)["error"].is_string()) << query;
  }
}

TEST_F(AdminServerTest, BackendsAreListed) {
  Serve();
  EXPECT_EQ(Json(Get("/api/v1/backends"))["backends"].size(), 0u);
  LoopbackPeer first;
  LoopbackPeer second;
  Play(&first);
  Play(&second);
  const json backends = Json(Get("/api/v1/backends"))["backends"];
  ASSERT_EQ(backends.size(), 1u);
  EXPECT_EQ(backends[0]["backend"], backend_.address().ToString());
  EXPECT_EQ(backends[0]["sessions"], 2);
  EXPECT_EQ(backends[0]["backend_bytes_forwarded"], 10);
}

TEST_F(AdminServerTest, EndsAreListedTheNewestFirst) {
  Serve();
  EXPECT_EQ(Json(Get("/api/v1/ends"))["ends"].size(), 0u);
  LoopbackPeer first, second;
  Play(&first);
  Play(&second);
  const absl::Time before = absl::Now();
  End(first);
  End(second);
  const json answer = Json(Get("/api/v1/ends"));
  EXPECT_EQ(answer["session_events_dropped"], 0);
  ASSERT_EQ(answer["ends"].size(), 2u);
  const json& end = answer["ends"][1];
  EXPECT_EQ(end["client"], first.address().ToString());
  EXPECT_EQ(end["local"], proxy_->listen_addresses()[0].ToString());
  EXPECT_EQ(end["backend"], backend_.address().ToString());
  EXPECT_TRUE(SocketAddress::Parse(end["relay"].get<std::string>()).ok());
  EXPECT_EQ(end["reason"], "disconnected");
  EXPECT_EQ(end["state"], "unconfirmed");
  EXPECT_EQ(end["client_datagrams_forwarded"], 1);
  EXPECT_EQ(end["backend_bytes_forwarded"], 5);
  EXPECT_GE(end["duration_seconds"], 0.0);
  absl::Time ended_at;
  std::string error;
  ASSERT_TRUE(absl::ParseTime(absl::RFC3339_full,
                              end["ended_at"].get<std::string>(), &ended_at,
                              &error))
      << error;
  EXPECT_GE(ended_at, before - absl::Milliseconds(100));
  EXPECT_LE(ended_at, absl::Now());

  const json one = Json(Get("/api/v1/ends?limit=1"))["ends"];
  ASSERT_EQ(one.size(), 1u);
  EXPECT_EQ(one[0]["client"], second.address().ToString());
  const json filtered = Json(Get(absl::StrCat(
      "/api/v1/ends?client=", first.address().ToString())))["ends"];
  ASSERT_EQ(filtered.size(), 1u);
  EXPECT_EQ(filtered[0], end);
  EXPECT_EQ(Json(Get("/api/v1/ends?backend=10.9.9.9"))["ends"].size(), 0u);
  EXPECT_EQ(Get("/api/v1/ends?limit=0").status, 400);
  EXPECT_EQ(Get("/api/v1/ends?client=x").status, 400);
}

TEST_F(AdminServerTest, WithoutAHistoryThereAreNoEnds) {
  hooks_.history = nullptr;
  Serve();
  const HttpReply reply = Get("/api/v1/ends");
  EXPECT_EQ(reply.status, 501);
  EXPECT_THAT(Json(reply)["error"].get<std::string>(),
              HasSubstr("no session history"));
}

TEST_F(AdminServerTest, StatusHasAllNumbers) {
  hooks_.components = [] {
    return std::vector<ComponentHealth>{
        {"redis", absl::UnavailableError("away \xff")}};
  };
  Serve();
  LoopbackPeer client;
  Play(&client);
  const json status = Json(Get("/api/v1/status"));
  EXPECT_EQ(status["stats"].size(), ProxyStatFields().size());
  EXPECT_EQ(status["stats"]["sessions_active"], 1);
  EXPECT_EQ(status["datagrams_dropped"].size(), kDropReasonCount);
  EXPECT_EQ(status["sessions_ended"].size(), kEndReasonCount);
  EXPECT_EQ(status["ready"], false);
  EXPECT_EQ(status["components"][0]["ok"], false);
  EXPECT_EQ(status["listen_addresses"][0],
            proxy_->listen_addresses()[0].ToString());
}

TEST_F(AdminServerTest, DisconnectEndsASession) {
  Serve();
  LoopbackPeer client;
  Play(&client);
  const std::string body = json{{"target", client.address().ToString()}}.dump();
  HttpReply reply = Post("/api/v1/disconnect", body);
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(Json(reply)["ended"], 1);
  EXPECT_EQ(proxy_->GetStats().sessions_active, 0u);
  reply = Post("/api/v1/disconnect", body);
  EXPECT_EQ(Json(reply)["ended"], 0);
  Play(&client);
  const json session = Json(Get("/api/v1/sessions"))["sessions"][0];
  const std::string relay = session["relay"];
  reply = Post("/api/v1/disconnect",
               json{{"target", relay.substr(relay.rfind(':') + 1)}}.dump());
  EXPECT_EQ(Json(reply)["ended"], 1);
}

TEST_F(AdminServerTest, DisconnectAcceptsTheLabelOfABackend) {
  resolver_->label = "lobby.internal:19132";
  Serve();
  LoopbackPeer client;
  Play(&client);
  const auto disconnect = [&](const std::string& target) {
    const HttpReply reply =
        Post("/api/v1/disconnect", json{{"target", target}}.dump());
    EXPECT_EQ(reply.status, 200) << target;
    return Json(reply)["ended"];
  };
  EXPECT_EQ(disconnect("backend lobby-2.internal:19132"), 0);
  EXPECT_EQ(disconnect("backend lobby.internal:19132"), 1);
  EXPECT_EQ(proxy_->GetStats().sessions_active, 0u);
}

TEST_F(AdminServerTest, ABadDisconnectIsRefused) {
  Serve();
  for (const std::string body :
       {"", "{", "[]", "{}", "null", "{\"target\": 5}", "{\"target\": \"\"}",
        "{\"target\": \"host:1\"}", "{\"target\": \"1.2.3.4:5\", \"a\": 1}",
        "{\"target\": \"\xff\"}"}) {
    const HttpReply reply = Post("/api/v1/disconnect", body);
    EXPECT_EQ(reply.status, 400) << body;
    EXPECT_TRUE(Json(reply)["error"].is_string()) << body;
  }
  // Nested deep enough to overflow a stack that recurses.
  EXPECT_EQ(Post("/api/v1/disconnect", std::string(65000, '[')).status, 400);
  EXPECT_EQ(proxy_->GetStats().disconnects_received, 0u);
}

TEST_F(AdminServerTest, DrainRefusesOnlyNewClients) {
  std::atomic<int> drains{0};
  hooks_.drain = [&drains] { ++drains; };
  Serve();
  LoopbackPeer old_client;
  Play(&old_client);
  const HttpReply reply = Post("/api/v1/drain", "{}");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(Json(reply)["sessions_active"], 1);
  EXPECT_EQ(drains, 1);
  EXPECT_EQ(Get("/readyz").body, "draining\n");
  EXPECT_EQ(Sample(Get("/metrics").body, "udpgate_draining").value_or(""), "1");
  Play(&old_client);
  LoopbackPeer new_client;
  ASSERT_TRUE(new_client.Send(proxy_->listen_addresses()[0], "hello").ok());
  EXPECT_TRUE(AwaitTrue([this] {
    return proxy_->GetStats().dropped(DropReason::kDraining) == 1;
  }));
}

TEST_F(AdminServerTest, TheHostProgramMayDrain) {
  Serve();
  EXPECT_EQ(Get("/readyz").status, 200);
  proxy_->Drain();
  proxy_->Drain();
  EXPECT_EQ(Get("/readyz").body, "draining\n");
  EXPECT_EQ(Json(Get("/api/v1/status"))["draining"], true);
}

TEST_F(AdminServerTest, AnEmptyBodyIsEnoughToDrain) {
  Serve();
  EXPECT_EQ(Post("/api/v1/drain", "").status, 200);
}

TEST_F(AdminServerTest, ReloadCallsTheHostProgram) {
  Serve();
  HttpReply reply = Post("/api/v1/reload", "{}");
  EXPECT_EQ(reply.status, 501);
  EXPECT_TRUE(Json(reply)["error"].is_string());
  std::atomic<bool> works{true};
  hooks_.reload = [&works]() -> absl::StatusOr<std::string> {
    if (works) return std::string("log level: debug");
    return absl::InvalidArgumentError("LOG_LEVEL=x");
  };
  Serve();
  reply = Post("/api/v1/reload", "{}");
  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(Json(reply)["result"], "log level: debug");
  works = false;
  reply = Post("/api/v1/reload", "{}");
  EXPECT_EQ(reply.status, 422);
  EXPECT_EQ(Json(reply)["error"], "LOG_LEVEL=x");
}

// Access control.

constexpr char kToken[] = "a-token-of-a-test";

std::string Bearer(const std::string& token) {
  return absl::StrCat("Authorization: Bearer ", token, "\r\n");
}

TEST_F(AdminServerTest, OffLoopbackTheTokenIsNeeded) {
  options_.listen_address = SocketAddress::Ipv4Any(0);
  options_.token = kToken;
  Serve();
  for (const char* path : {"/metrics", "/healthz", "/readyz"}) {
    EXPECT_EQ(Get(path).status, 200) << path;
  }
  for (const char* path : {"/api/v1/status", "/api/v1/sessions",
                           "/api/v1/backends", "/api/v1/ends", "/nothing"}) {
    const HttpReply reply = Get(path);
    EXPECT_EQ(reply.status, 401) << path;
    EXPECT_THAT(reply.head, HasSubstr("WWW-Authenticate: Bearer"));
  }
  EXPECT_EQ(Post("/api/v1/drain", "{}").status, 401);
  EXPECT_EQ(Get("/readyz").status, 200);
  EXPECT_EQ(Get("/api/v1/status", Bearer(kToken)).status, 200);
  EXPECT_EQ(Post("/api/v1/drain", "{}", Bearer(kToken)).status, 200);
}

TEST_F(AdminServerTest, OffLoopbackWithoutATokenThereIsNoApi) {
  options_.listen_address = SocketAddress::Ipv4Any(0);
  Serve();
  EXPECT_EQ(Get("/metrics").status, 200);
  EXPECT_EQ(Get("/api/v1/status").status, 403);
  EXPECT_EQ(Get("/api/v1/status", Bearer("")).status, 403);
  EXPECT_EQ(Post("/api/v1/drain", "{}").status, 403);
}

TEST_F(AdminServerTest, InvalidTokensAreCountedAndRateLimited) {
  options_.token = kToken;
  options_.wrong_tokens_max = 3;
  options_.wrong_token_window = absl::Seconds(1);
  Serve();
  const auto status = [this](const std::string& header) {
    return Get("/api/v1/status", header).status;
  };
  for (const std::string& wrong :
       {Bearer(std::string(kToken) + "x"), Bearer("a-token-of-a-tes"),
        std::string("Authorization: Basic YTpi\r\n")}) {
    EXPECT_EQ(status(wrong), 401) << wrong;
  }
  const HttpReply reply = Get("/api/v1/status", Bearer(kToken));
  EXPECT_EQ(reply.status, 429);
  EXPECT_THAT(reply.head, HasSubstr("Retry-After: 1\r\n"));
  const std::string text = Get("/metrics").body;
  EXPECT_EQ(Sample(text, "udpgate_admin_wrong_tokens_total").value_or(""), "3");
  EXPECT_EQ(Sample(text, "udpgate_admin_rate_limited_total").value_or(""), "1");
  EXPECT_TRUE(AwaitTrue([&] { return status(Bearer(kToken)) == 200; }));
}

TEST_F(AdminServerTest, AWebPageCannotPost) {
  Serve();
  const auto post = [this](const std::string& host, const std::string& type) {
    return Send(absl::StrCat("POST /api/v1/drain HTTP/1.1\r\nHost: ", host,
                             "\r\nContent-Type: ", type,
                             "\r\nContent-Length: 2\r\n\r\n{}"))
        .status;
  };
  const std::string good = address_.ToString();
  const std::string port = absl::StrCat(":", address_.port());
  for (const char* type :
       {"", "text/plain", "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x", "text/plain;application/json"}) {
    EXPECT_EQ(post(good, type), 415) << type;
  }
  for (const std::string& host :
       {std::string(), "evil.example" + port, std::string("127.0.0.1"),
        "127.0.0.2" + port, std::string("localhost:1"),
        "localhost.evil.example" + port}) {
    EXPECT_EQ(post(host, "application/json"), 403) << host;
  }
  // Nor can it read through a host name of its own.
  EXPECT_EQ(Send("GET /api/v1/sessions HTTP/1.1\r\nHost: evil.example\r\n\r\n")
                .status,
            403);
  EXPECT_EQ(Get("/readyz").status, 200);
  EXPECT_EQ(post("LocalHost" + port, "Application/JSON; charset=utf-8"), 200);
}

// Hostile and broken clients.

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

TEST_F(AdminServerTest, TooLargeRequestsAreRefused) {
  Serve();
  EXPECT_EQ(Post("/api/v1/drain", std::string(10 << 20, 'x')).status, 413);
  EXPECT_EQ(Post("/api/v1/drain", std::string(65537, 'x')).status, 413);
  EXPECT_EQ(
      Get("/healthz", absl::StrCat("X: ", std::string(1 << 20, 'x'), "\r\n"))
          .status,
      431);
  EXPECT_EQ(Get("/healthz").status, 200);
}

TEST_F(AdminServerTest, AnIncompleteRequestTimesOut) {
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

TEST_F(AdminServerTest, IfAllWorkersAreBusyRequestsAreRefused) {
  options_.worker_count = 1;
  options_.queue_size = 1;
  std::atomic<int> calls{0};
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  hooks_.components = [&calls, released] {
    ++calls;
    released.wait();
    return std::vector<ComponentHealth>();
  };
  Serve();
  const auto ask = [this] {
    absl::StatusOr<internal::UniqueFd> fd = test::TcpConnect(address_);
    EXPECT_TRUE(fd.ok()) << fd.status();
    const std::string text = "GET /readyz HTTP/1.1\r\n\r\n";
    EXPECT_EQ(send(fd->get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
    return *std::move(fd);
  };
  const internal::UniqueFd handled = ask();
  EXPECT_TRUE(AwaitTrue([&calls] { return calls == 1; }));
  const internal::UniqueFd first = ask();
  const internal::UniqueFd second = ask();
  // One of them waits for the worker, and there is no room for another.
  EXPECT_EQ(Get("/readyz").status, 503);
  LoopbackPeer client;
  Play(&client);
  release.set_value();
  EXPECT_TRUE(AwaitTrue([this] { return Get("/metrics").status == 200; }));
}

TEST_F(AdminServerTest, ManyIdleConnectionsDoNotBlockOthers) {
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
