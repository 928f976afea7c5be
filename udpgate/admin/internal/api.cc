#include "udpgate/admin/internal/api.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "udpgate/admin/internal/query.h"
#include "udpgate/admin/session_history.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"
#include "udpgate/session_observer.h"
#include "udpgate/version.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using ::nlohmann::json;
using ::udpgate::internal::ConditionVariable;
using ::udpgate::internal::Mutex;
using ::udpgate::internal::MutexLock;

const char* StateName(SessionState state) {
  switch (state) {
    case SessionState::kPending:
      return "pending";
    case SessionState::kUnconfirmed:
      return "unconfirmed";
    case SessionState::kConfirmed:
      return "confirmed";
  }
  return "unknown";
}

// Members that sessions, ends and backends have in common.
template <typename Traffic>
void AddTraffic(const Traffic& traffic, json* value) {
  (*value)["client_datagrams_forwarded"] = traffic.client_datagrams_forwarded;
  (*value)["client_bytes_forwarded"] = traffic.client_bytes_forwarded;
  (*value)["backend_datagrams_forwarded"] = traffic.backend_datagrams_forwarded;
  (*value)["backend_bytes_forwarded"] = traffic.backend_bytes_forwarded;
}

json SessionJson(const SessionInfo& session) {
  json value = {{"id", session.id},
                {"state", StateName(session.state)},
                {"client", session.client.ToString()},
                {"backend", nullptr},
                {"relay", nullptr},
                {"label", session.label},
                {"age_seconds", absl::ToDoubleSeconds(session.age)},
                {"idle_seconds", absl::ToDoubleSeconds(session.idle)}};
  if (session.backend.is_valid()) {
    value["backend"] = session.backend.ToString();
  }
  if (session.relay.is_valid()) value["relay"] = session.relay.ToString();
  if (!session.tag.empty()) value["network_id"] = session.tag;
  AddTraffic(session, &value);
  return value;
}

json EndJson(const SessionHistory::End& end) {
  const SessionEvent& event = end.event;
  json value = {{"id", event.session_id},
                {"state", StateName(event.state)},
                {"client", event.client.ToString()},
                {"local", event.local.ToString()},
                {"backend", nullptr},
                {"relay", nullptr},
                {"reason", std::string(EndReasonName(event.end_reason))},
                {"ended_at", absl::FormatTime("%Y-%m-%d%ET%H:%M:%E3SZ",
                                              end.time, absl::UTCTimeZone())},
                {"duration_seconds", absl::ToDoubleSeconds(event.age)}};
  if (event.backend.is_valid()) {
    value["backend"] = event.backend.ToString();
    value["relay"] = event.relay.ToString();
  }
  if (event.tag != nullptr) value["network_id"] = event.tag->text();
  AddTraffic(event, &value);
  return value;
}

json JoinJson(const ListedJoin& join) {
  return {{"network_id", join.network_id},
          {"player", join.player},
          {"backend", join.backend},
          {"label", join.label},
          {"media", join.media},
          {"state", join.state},
          {"sessions", join.session_count},
          {"age_seconds", absl::ToDoubleSeconds(join.age)},
          {"shared", join.is_shared}};
}

json BackendJson(const BackendLoad& load) {
  json value = {{"backend", load.backend}, {"sessions", load.sessions}};
  AddTraffic(load, &value);
  return value;
}

// The result of a disconnect. Shared, since it may come after the request timed
// out.
struct DisconnectResult {
  Mutex mutex;
  ConditionVariable changed;
  bool is_there ABSL_GUARDED_BY(mutex) = false;
  int64_t ended ABSL_GUARDED_BY(mutex) = 0;
};

}  // namespace

void Api::AddRoutes(Router* router) {
  const auto bind = [this](void (Api::*handler)(const Request&, Response*)) {
    return [this, handler](const Request& request, Response* response) {
      (this->*handler)(request, response);
    };
  };
  router->Get("/api/v1/status", bind(&Api::Status));
  router->Get("/api/v1/sessions", bind(&Api::Sessions));
  router->Get("/api/v1/backends", bind(&Api::Backends));
  router->Get("/api/v1/ends", bind(&Api::Ends));
  router->Get("/api/v1/joins", bind(&Api::Joins));
  router->Post("/api/v1/disconnect", bind(&Api::Disconnect));
  router->Post("/api/v1/drain", bind(&Api::Drain));
  router->Post("/api/v1/reload", bind(&Api::Reload));
}

void Api::Status(const Request&, Response* response) {
  const ProxyStats stats = proxy_->GetStats();
  json value = {{"version", UDPGATE_VERSION_STRING},
                {"draining", proxy_->is_draining()},
                {"standby", proxy_->is_standby()},
                {"sessions_max", proxy_->max_sessions()},
                {"receive_buffer_bytes", proxy_->receive_buffer_bytes()},
                {"send_buffer_bytes", proxy_->send_buffer_bytes()},
                {"components", json::array()}};
  value["unready_reasons"] = health_->UnreadyReasons();
  value["ready"] = value["unready_reasons"].empty();
  value["warnings"] = health_->Warnings();
  for (const ComponentHealth& component : health_->Components()) {
    value["components"].push_back(
        {{"name", component.name},
         {"ok", component.status.ok()},
         {"message", std::string(component.status.message())}});
  }
  if (hooks_->session_store != nullptr) {
    json& store = value["session_store"] = json::object();
    for (const auto& [name, number] : hooks_->session_store()) {
      // JSON has no infinity.
      store[name] = std::isfinite(number) ? json(number) : json();
    }
  }
  for (const SocketAddress& address : proxy_->listen_addresses()) {
    value["listen_addresses"].push_back(address.ToString());
  }
  json& numbers = value["stats"] = json::object();
  for (const ProxyStatField& field : ProxyStatFields()) {
    numbers[std::string(field.name)] = stats.*field.value;
  }
  json& drops = value["datagrams_dropped"] = json::object();
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    drops[std::string(DropReasonName(static_cast<DropReason>(i)))] =
        stats.datagrams_dropped[i];
  }
  json& ends = value["sessions_ended"] = json::object();
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    ends[std::string(EndReasonName(static_cast<EndReason>(i)))] =
        stats.sessions_ended[i];
  }
  json& reopened = value["sessions_reopened"] = json::object();
  for (size_t i = 0; i < kReopenReasonCount; ++i) {
    reopened[std::string(ReopenReasonName(static_cast<ReopenReason>(i)))] =
        stats.sessions_reopened[i];
  }
  SetJson(response, 200, value);
}

void Api::Sessions(const Request& request, Response* response) {
  const uint64_t page_max = static_cast<uint64_t>(options_->sessions_page_max);
  uint64_t limit = std::min<uint64_t>(100, page_max);
  uint64_t offset = 0;
  AddressFilter client;
  AddressFilter backend;
  if (!ParseCount(request, "limit", 1, page_max, &limit, response) ||
      !ParseCount(request, "offset", 0, 1000000000, &offset, response) ||
      !ParseFilter(request, "client", &client, response) ||
      !ParseFilter(request, "backend", &backend, response)) {
    return;
  }
  // Keeps the oldest sessions only, as many as the page needs.
  const auto older = [](const SessionInfo& a, const SessionInfo& b) {
    return a.id < b.id;
  };
  std::vector<SessionInfo> heap;  // the newest on top
  uint64_t total = 0;
  proxy_->ForEachSession([&](const SessionInfo& session) {
    if (!client.Matches(session.client) || !backend.Matches(session.backend)) {
      return;
    }
    ++total;
    heap.push_back(session);
    std::push_heap(heap.begin(), heap.end(), older);
    if (heap.size() > offset + limit) {
      std::pop_heap(heap.begin(), heap.end(), older);
      heap.pop_back();
    }
  });
  std::sort_heap(heap.begin(), heap.end(), older);
  json value = {{"total", total},
                {"offset", offset},
                {"limit", limit},
                {"sessions", json::array()}};
  for (uint64_t i = offset; i < heap.size(); ++i) {
    value["sessions"].push_back(SessionJson(heap[i]));
  }
  SetJson(response, 200, value);
}

void Api::Backends(const Request&, Response* response) {
  json value = {{"backends", json::array()}};
  const std::shared_ptr<const BackendLoads::List> backends = backends_->Get();
  for (const BackendLoad& load : *backends) {
    value["backends"].push_back(BackendJson(load));
  }
  SetJson(response, 200, value);
}

void Api::Ends(const Request& request, Response* response) {
  if (hooks_->history == nullptr) {
    return SetError(response, 501, "this program keeps no session history");
  }
  const uint64_t page_max = static_cast<uint64_t>(options_->ends_page_max);
  uint64_t limit = std::min<uint64_t>(100, page_max);
  AddressFilter client;
  AddressFilter backend;
  if (!ParseCount(request, "limit", 1, page_max, &limit, response) ||
      !ParseFilter(request, "client", &client, response) ||
      !ParseFilter(request, "backend", &backend, response)) {
    return;
  }
  std::vector<SessionHistory::End> ends;
  hooks_->history->ForEachEnd([&](const SessionHistory::End& end) {
    if (client.Matches(end.event.client) &&
        backend.Matches(end.event.backend)) {
      ends.push_back(end);
    }
    return ends.size() < limit;
  });
  json value = {
      {"session_events_dropped", proxy_->GetStats().session_events_dropped},
      {"ends", json::array()}};
  for (const SessionHistory::End& end : ends) {
    value["ends"].push_back(EndJson(end));
  }
  SetJson(response, 200, value);
}

void Api::Joins(const Request& request, Response* response) {
  if (hooks_->joins == nullptr) {
    return SetError(response, 501, "this program serves no joins");
  }
  const uint64_t page_max = static_cast<uint64_t>(options_->sessions_page_max);
  uint64_t limit = std::min<uint64_t>(100, page_max);
  uint64_t offset = 0;
  if (!ParseCount(request, "limit", 1, page_max, &limit, response) ||
      !ParseCount(request, "offset", 0, 1000000000, &offset, response)) {
    return;
  }
  const std::vector<ListedJoin> joins = hooks_->joins();
  json value = {{"total", joins.size()},
                {"offset", offset},
                {"limit", limit},
                {"joins", json::array()}};
  const uint64_t end = std::min<uint64_t>(offset + limit, joins.size());
  for (uint64_t i = offset; i < end; ++i) {
    value["joins"].push_back(JoinJson(joins[i]));
  }
  SetJson(response, 200, value);
}

void Api::Disconnect(const Request& request, Response* response) {
  const json body = json::parse(request.body, nullptr,
                                /*allow_exceptions=*/false);
  if (!body.is_object() || body.size() != 1 || !body.contains("target") ||
      !body["target"].is_string()) {
    return SetError(response, 400,
                    "the body must be {\"target\": \"1.2.3.4:port\"}");
  }
  const absl::StatusOr<DisconnectTarget> target =
      DisconnectTarget::Parse(body["target"].get<std::string>());
  if (!target.ok()) {
    return SetError(response, 400,
                    absl::StrCat("target: ", target.status().message()));
  }
  const auto result = std::make_shared<DisconnectResult>();
  proxy_->Disconnect(*target, [result](int64_t ended) {
    MutexLock lock(&result->mutex);
    result->is_there = true;
    result->ended = ended;
    result->changed.SignalAll();
  });
  const auto deadline = std::chrono::steady_clock::now() +
                        absl::ToChronoNanoseconds(options_->disconnect_timeout);
  MutexLock lock(&result->mutex);
  // In slices, since `Stop` does not know this condition variable.
  while (!result->is_there && !stopping_ &&
         std::chrono::steady_clock::now() < deadline) {
    result->changed.WaitFor(&result->mutex, std::chrono::milliseconds(20));
  }
  if (!result->is_there) {
    return SetError(response, 504,
                    "timed out; the disconnect is still in progress");
  }
  SetJson(response, 200, {{"ended", result->ended}});
}

void Api::Drain(const Request&, Response* response) {
  proxy_->Drain();
  if (hooks_->drain != nullptr) hooks_->drain();
  SetJson(response, 200,
          {{"draining", true},
           {"sessions_active", proxy_->GetStats().sessions_active}});
}

void Api::Reload(const Request&, Response* response) {
  if (hooks_->reload == nullptr) {
    return SetError(response, 501, "this program cannot reload its settings");
  }
  const absl::StatusOr<std::string> result = hooks_->reload();
  if (!result.ok()) {
    return SetError(response, 422, std::string(result.status().message()));
  }
  SetJson(response, 200, {{"result", *result}});
}

}  // namespace internal
}  // namespace admin
}  // namespace udpgate
