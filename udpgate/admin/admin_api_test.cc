#include <atomic>
#include <cstddef>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "testing/await.h"
#include "testing/internal/support/http_client.h"
#include "testing/loopback_peer.h"
#include "udpgate/admin/admin_fixture.h"
#include "udpgate/admin/admin_options.h"
#include "udpgate/admin/session_history.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {
namespace {

using ::nlohmann::json;
using ::testing::HasSubstr;
using ::udpgate::test::AwaitTrue;
using ::udpgate::test::HttpReply;
using ::udpgate::test::LoopbackPeer;

using AdminApiTest = AdminServerTest;

TEST_F(AdminApiTest, UnknownPathIsAJsonError) {
  Serve();
  const HttpReply reply = Get("/nothing");
  EXPECT_EQ(reply.status, 404);
  EXPECT_THAT(reply.head, HasSubstr("application/json"));
  EXPECT_THAT(reply.body, HasSubstr("\"error\""));
}

TEST_F(AdminApiTest, SessionsAreListedInPages) {
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

TEST_F(AdminApiTest, InvalidParametersAreRefused) {
  Serve();
  for (const std::string query :
       {"limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "offset=1e3",
        "offset=99999999999999999999", "client=host", "backend=1.2.3:4"}) {
    const HttpReply reply = Get("/api/v1/sessions?" + query);
    EXPECT_EQ(reply.status, 400) << query;
    EXPECT_TRUE(Json(reply)["error"].is_string()) << query;
  }
}

TEST_F(AdminApiTest, BackendsAreListed) {
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

TEST_F(AdminApiTest, EndsAreListedNewestFirst) {
  Serve();
  EXPECT_EQ(Json(Get("/api/v1/ends"))["ends"].size(), 0u);
  LoopbackPeer first, second;
  Play(&first);
  Play(&second);
  const absl::Time before = absl::Now();
  End(first);
  End(second);
  const json reply = Json(Get("/api/v1/ends"));
  EXPECT_EQ(reply["session_events_dropped"], 0);
  ASSERT_EQ(reply["ends"].size(), 2u);
  const json& end = reply["ends"][1];
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

TEST_F(AdminApiTest, SessionsAndEndsOfAJoinNameThePlayer) {
  Serve();
  LoopbackPeer other, player;
  Play(&other);
  resolver_->SetTag(std::make_shared<SessionTag>("secret key", "1234567890"));
  Play(&player);
  const auto sessions_of = [this](const LoopbackPeer& peer) {
    return Get("/api/v1/sessions?client=" + peer.address().ToString());
  };
  EXPECT_FALSE(Json(sessions_of(other))["sessions"][0].contains("network_id"));
  const HttpReply sessions = sessions_of(player);
  EXPECT_EQ(Json(sessions)["sessions"][0]["network_id"], "1234567890");
  EXPECT_THAT(sessions.body, ::testing::Not(HasSubstr("secret")));
  End(other);
  End(player);
  const json ends = Json(Get("/api/v1/ends"))["ends"];
  EXPECT_EQ(ends[0]["network_id"], "1234567890");
  EXPECT_FALSE(ends[1].contains("network_id"));
}

TEST_F(AdminApiTest, JoinsAreListedInPages) {
  hooks_.joins = [] {
    std::vector<ListedJoin> joins(3);
    joins[1] = {"1234567890",
                "203.0.113.7",
                "10.0.0.5:19132",
                "lobby",
                "10.0.0.5:19133",
                "live",
                2,
                absl::Seconds(1.5),
                true};
    return joins;
  };
  Serve();
  const json all = Json(Get("/api/v1/joins"));
  EXPECT_EQ(all["total"], 3);
  EXPECT_EQ(all["joins"].size(), 3u);
  const json page = Json(Get("/api/v1/joins?offset=1&limit=1"));
  EXPECT_EQ(page["total"], 3);
  EXPECT_EQ(page["joins"], json::parse(R"([{
      "network_id": "1234567890", "player": "203.0.113.7",
      "backend": "10.0.0.5:19132", "label": "lobby",
      "media": "10.0.0.5:19133", "state": "live", "sessions": 2,
      "age_seconds": 1.5, "shared": true}])"));
  EXPECT_EQ(Json(Get("/api/v1/joins?offset=9"))["joins"].size(), 0u);
  EXPECT_EQ(Get("/api/v1/joins?limit=0").status, 400);
  EXPECT_EQ(Get("/api/v1/joins?limit=1001").status, 400);
}

TEST_F(AdminApiTest, JoinsNeedAHostProgramThatServesThem) {
  Serve();
  const HttpReply reply = Get("/api/v1/joins");
  EXPECT_EQ(reply.status, 501);
  EXPECT_THAT(Json(reply)["error"].get<std::string>(),
              HasSubstr("serves no joins"));
}

TEST_F(AdminApiTest, EndsNeedASessionHistory) {
  hooks_.history = nullptr;
  Serve();
  const HttpReply reply = Get("/api/v1/ends");
  EXPECT_EQ(reply.status, 501);
  EXPECT_THAT(Json(reply)["error"].get<std::string>(),
              HasSubstr("no session history"));
}

TEST_F(AdminApiTest, StatusContainsAllStatistics) {
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

TEST_F(AdminApiTest, StatusShowsTheSessionStore) {
  hooks_.session_store = [] {
    return std::vector<std::pair<std::string, double>>{
        {"records", 3},
        {"lease_age_seconds", std::numeric_limits<double>::infinity()}};
  };
  Serve();
  const json store = Json(Get("/api/v1/status"))["session_store"];
  EXPECT_EQ(store["records"], 3);
  EXPECT_TRUE(store["lease_age_seconds"].is_null());
}

TEST_F(AdminApiTest, AStandbyIsNotReady) {
  Serve();
  EXPECT_EQ(Json(Get("/api/v1/status"))["standby"], false);
  EXPECT_FALSE(Json(Get("/api/v1/status")).contains("session_store"));
  proxy_->SetStandby(true);
  EXPECT_EQ(Get("/readyz").status, 503);
  EXPECT_EQ(Get("/readyz").body, "standby\n");
  EXPECT_EQ(Get("/healthz").status, 200);
  EXPECT_EQ(Json(Get("/api/v1/status"))["standby"], true);
  EXPECT_EQ(Sample(Get("/metrics").body, "udpgate_standby").value_or(""), "1");
  proxy_->SetStandby(false);
  EXPECT_EQ(Get("/readyz").status, 200);
}

TEST_F(AdminApiTest, DisconnectEndsASession) {
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

TEST_F(AdminApiTest, DisconnectAcceptsABackendLabel) {
  resolver_->SetLabel("lobby.internal:19132");
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

TEST_F(AdminApiTest, InvalidDisconnectIsRefused) {
  Serve();
  for (const std::string body :
       {"", "{", "[]", "{}", "null", "{\"target\": 5}", "{\"target\": \"\"}",
        "{\"target\": \"host:1\"}", "{\"target\": \"1.2.3.4:5\", \"a\": 1}",
        "{\"target\": \"\xff\"}"}) {
    const HttpReply reply = Post("/api/v1/disconnect", body);
    EXPECT_EQ(reply.status, 400) << body;
    EXPECT_TRUE(Json(reply)["error"].is_string()) << body;
  }
  // Nested deeply enough to overflow the stack of a recursive parser.
  EXPECT_EQ(Post("/api/v1/disconnect", std::string(65000, '[')).status, 400);
  EXPECT_EQ(proxy_->GetStats().disconnects_received, 0u);
}

TEST_F(AdminApiTest, DrainRefusesOnlyNewClients) {
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

TEST_F(AdminApiTest, HostProgramMayDrain) {
  Serve();
  EXPECT_EQ(Get("/readyz").status, 200);
  proxy_->Drain();
  proxy_->Drain();
  EXPECT_EQ(Get("/readyz").body, "draining\n");
  EXPECT_EQ(Json(Get("/api/v1/status"))["draining"], true);
}

TEST_F(AdminApiTest, DrainAcceptsAnEmptyBody) {
  Serve();
  EXPECT_EQ(Post("/api/v1/drain", "").status, 200);
}

TEST_F(AdminApiTest, ReloadCallsTheHostProgram) {
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

}  // namespace
}  // namespace admin
}  // namespace udpgate
