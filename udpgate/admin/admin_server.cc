#include "udpgate/admin/admin_server.h"

#include <httplib.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "nlohmann/json.hpp"
#include "udpgate/admin/internal/http_front.h"
#include "udpgate/admin/internal/http_text.h"
#include "udpgate/admin/internal/metrics.h"
#include "udpgate/admin/internal/status_page.h"
#include "udpgate/admin/internal/token_guard.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/internal/mutex.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"
#include "udpgate/session_observer.h"
#include "udpgate/version.h"

namespace udpgate {
namespace admin {
namespace {

using ::httplib::Request;
using ::httplib::Response;
using ::nlohmann::json;
using ::udpgate::internal::ConditionVariable;
using ::udpgate::internal::Mutex;
using ::udpgate::internal::MutexLock;

constexpr char kJson[] = "application/json";
constexpr char kMetrics[] = "text/plain; version=0.0.4; charset=utf-8";
constexpr char kText[] = "text/plain; charset=utf-8";

// A request that is there as a whole, and the response that comes of it.
class MemoryStream final : public httplib::Stream {
 public:
  explicit MemoryStream(const internal::HttpRequestText& request)
      : request_(request), input_(request.head + request.body) {}

  std::string TakeOutput() { return std::move(output_); }

  bool is_readable() const override { return position_ < input_.size(); }
  bool is_writable() const override { return true; }
  ssize_t read(char* out, size_t size) override {
    const size_t count = input_.copy(out, size, position_);
    position_ += count;
    return static_cast<ssize_t>(count);
  }
  ssize_t write(const char* data, size_t size) override {
    output_.append(data, size);
    return static_cast<ssize_t>(size);
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override {
    ip = request_.client.IpToString();
    port = request_.client.port();
  }
  void get_local_ip_and_port(std::string& ip, int& port) const override {
    ip = request_.local.IpToString();
    port = request_.local.port();
  }
  socket_t socket() const override { return INVALID_SOCKET; }

 private:
  const internal::HttpRequestText& request_;
  const std::string input_;
  size_t position_ = 0;
  std::string output_;
};

// The routes and the HTTP of cpp-httplib, without its sockets and threads.
class Router final : public httplib::Server {
 public:
  std::string Process(const internal::HttpRequestText& request) {
    MemoryStream stream(request);
    bool closed = false;
    process_request(stream, /*close_connection=*/true, closed, [](Request&) {});
    std::string response = stream.TakeOutput();
    if (response.empty()) {
      return internal::ErrorResponse(400, "not an HTTP/1.1 request");
    }
    return response;
  }
};

void SetJson(Response* response, int status, const json& value) {
  response->status = status;
  // A label of the host program may be no UTF-8.
  response->set_content(
      value.dump(-1, ' ', false, json::error_handler_t::replace) + "\n", kJson);
}

void SetError(Response* response, int status, const std::string& error) {
  SetJson(response, status, {{"error", error}});
}

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

// What the lists of sessions and of backends have in common.
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
  AddTraffic(event, &value);
  return value;
}

json BackendJson(const internal::BackendLoad& load) {
  json value = {{"backend", load.backend}, {"sessions", load.sessions}};
  AddTraffic(load, &value);
  return value;
}

// An address with its port, or without one for all ports; all where not set.
struct AddressFilter {
  absl::optional<SocketAddress> address;
  bool any_port = false;

  bool Matches(const SocketAddress& other) const {
    if (!address.has_value()) return true;
    if (!other.is_valid()) return false;
    return any_port ? *address == other.WithPort(0) : *address == other;
  }
};

bool ParseFilter(const Request& request, const char* name,
                 AddressFilter* filter, Response* response) {
  if (!request.has_param(name)) return true;
  const std::string text = request.get_param_value(name);
  absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text);
  if (!address.ok()) {
    address = SocketAddress::FromIpAndPort(text, 0);
    filter->any_port = true;
  }
  if (!address.ok()) {
    SetError(response, 400,
             absl::StrCat(name,
                          ": must be 1.2.3.4:port, [v6]:port or an IP "
                          "address"));
    return false;
  }
  filter->address = *address;
  return true;
}

// A parameter of digits alone.
bool ParseCount(const Request& request, const char* name, uint64_t minimum,
                uint64_t maximum, uint64_t* value, Response* response) {
  if (!request.has_param(name)) return true;
  const std::string text = request.get_param_value(name);
  const bool is_number =
      !text.empty() && text.size() <= 18 &&
      std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
  if (is_number && absl::SimpleAtoi(text, value) && *value >= minimum &&
      *value <= maximum) {
    return true;
  }
  SetError(response, 400,
           absl::StrCat(name, ": must be an integer from ", minimum, " to ",
                        maximum));
  return false;
}

// Where the `done` of a disconnect leaves its answer, also when nobody waits
// any more.
struct DisconnectAnswer {
  Mutex mutex;
  ConditionVariable changed;
  bool is_there ABSL_GUARDED_BY(mutex) = false;
  int64_t ended ABSL_GUARDED_BY(mutex) = 0;
};

// Metrics and health tell nothing of players, and are asked for by machines.
// The page is the same for all; its numbers come from /api/v1.
bool IsOpen(const std::string& path) {
  return path == "/" || path == "/metrics" || path == "/healthz" ||
         path == "/readyz";
}

std::string HostText(const SocketAddress& address, bool with_port) {
  const std::string text = address.ToString();
  if (with_port) return text;
  return text.substr(0, text.rfind(':'));
}

}  // namespace

class AdminServer::Impl {
 public:
  Impl(AdminOptions options, Proxy* proxy, AdminHooks hooks)
      : options_(std::move(options)),
        proxy_(proxy),
        hooks_(std::move(hooks)),
        token_guard_(options_.token, options_.wrong_tokens_max,
                     options_.wrong_token_window) {}

  absl::Status Create();
  absl::Status Start() { return front_->Start(); }
  void Stop();
  const SocketAddress& address() const { return front_->address(); }
  int listen_fd() const { return front_->listen_fd(); }
  std::map<std::string, double> Counters() const;
  void AddCounters(const std::map<std::string, double>& counters) {
    for (const auto& [name, count] : counters) counters_before_[name] += count;
  }

 private:
  using Handler = void (Impl::*)(const Request&, Response*);

  void AddRoutes();
  // Answers, and returns false, where the request is not to be handled.
  bool Admit(const Request& request, Response* response);
  bool CheckToken(const Request& request, Response* response);
  bool HostMatches(const Request& request) const;

  void Metrics(const Request& request, Response* response);
  void Healthz(const Request& request, Response* response);
  void Readyz(const Request& request, Response* response);
  void StatusOfAll(const Request& request, Response* response);
  void Sessions(const Request& request, Response* response);
  void BackendList(const Request& request, Response* response);
  void Ends(const Request& request, Response* response);
  void Disconnect(const Request& request, Response* response);
  void Drain(const Request& request, Response* response);
  void Reload(const Request& request, Response* response);

  std::vector<ComponentHealth> Components() const;
  // What is in /metrics of the host program, of this server and the process.
  std::vector<prometheus::MetricFamily> OwnFamilies() const;
  // Why the gate should get no new clients; empty where it is ready.
  std::vector<std::string> UnreadyReasons() const;
  // What fails that the gate can serve new clients without.
  std::vector<std::string> Warnings() const;
  using BackendLoads = std::vector<internal::BackendLoad>;
  // By session count, the most first; `backends_age_max` old at most.
  std::shared_ptr<const BackendLoads> Backends();
  BackendLoads CountBackends() const;

  const AdminOptions options_;
  Proxy* const proxy_;
  const AdminHooks hooks_;
  // Of processes before this one.
  std::map<std::string, double> counters_before_;
  Router router_;
  internal::TokenGuard token_guard_;
  std::unique_ptr<internal::HttpFront> front_;

  // Held while they are counted, so that whoever asks meanwhile shares that.
  Mutex backends_mutex_;
  std::shared_ptr<const BackendLoads> backends_
      ABSL_GUARDED_BY(backends_mutex_);
  std::chrono::steady_clock::time_point backends_time_
      ABSL_GUARDED_BY(backends_mutex_);

  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> wrong_tokens_{0};
  std::atomic<uint64_t> rate_limited_{0};
  std::atomic<uint64_t> requests_{0};
};

absl::Status AdminServer::Impl::Create() {
  if (absl::Status status = options_.Validate(); !status.ok()) return status;
  AddRoutes();
  internal::HttpFrontOptions front;
  front.listen_address = options_.listen_address;
  front.listen_fd = options_.listen_fd;
  front.connections_max = options_.connections_max;
  front.worker_count = options_.worker_count;
  front.queue_size = options_.queue_size;
  front.header_bytes_max = options_.header_bytes_max;
  front.body_bytes_max = options_.body_bytes_max;
  front.read_timeout = options_.read_timeout;
  front.write_timeout = options_.write_timeout;
  absl::StatusOr<std::unique_ptr<internal::HttpFront>> created =
      internal::HttpFront::Create(
          front, [this](const internal::HttpRequestText& request) {
            ++requests_;
            return router_.Process(request);
          });
  if (!created.ok()) return created.status();
  front_ = *std::move(created);
  return absl::OkStatus();
}

void AdminServer::Impl::Stop() {
  stopping_ = true;
  if (front_ != nullptr) front_->Stop();
}

void AdminServer::Impl::AddRoutes() {
  const auto bind = [this](Handler handler) {
    return [this, handler](const Request& request, Response& response) {
      (this->*handler)(request, &response);
    };
  };
  router_.Get("/", [](const Request&, Response& response) {
    response.set_content(internal::kStatusPage, "text/html; charset=utf-8");
  });
  router_.Get("/metrics", bind(&Impl::Metrics));
  router_.Get("/healthz", bind(&Impl::Healthz));
  router_.Get("/readyz", bind(&Impl::Readyz));
  router_.Get("/api/v1/status", bind(&Impl::StatusOfAll));
  router_.Get("/api/v1/sessions", bind(&Impl::Sessions));
  router_.Get("/api/v1/backends", bind(&Impl::BackendList));
  router_.Get("/api/v1/ends", bind(&Impl::Ends));
  router_.Post("/api/v1/disconnect", bind(&Impl::Disconnect));
  router_.Post("/api/v1/drain", bind(&Impl::Drain));
  router_.Post("/api/v1/reload", bind(&Impl::Reload));
  router_.set_pre_routing_handler(
      [this](const Request& request, Response& response) {
        return Admit(request, &response)
                   ? httplib::Server::HandlerResponse::Unhandled
                   : httplib::Server::HandlerResponse::Handled;
      });
  router_.set_error_handler([](const Request&, Response& response) {
    if (!response.body.empty()) return;
    SetError(&response, response.status,
             response.status == 404 ? "there is nothing at this path"
                                    : "the request cannot be served");
  });
  router_.set_exception_handler(
      [](const Request&, Response& response, std::exception_ptr) {
        SetError(&response, 500, "internal error");
      });
  router_.set_default_headers(
      {{"Cache-Control", "no-store"},
       {"X-Content-Type-Options", "nosniff"},
       {"Referrer-Policy", "no-referrer"},
       {"Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; script-src "
        "'unsafe-inline'; connect-src 'self'; img-src data:; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"}});
}

bool AdminServer::Impl::Admit(const Request& request, Response* response) {
  if (IsOpen(request.path)) return true;
  const bool is_post = request.method == "POST";
  const bool needs_token =
      !options_.token.empty() || !options_.listen_address.is_loopback();
  // A page in the operator's browser can reach a loopback address by a name of
  // its own (DNS rebinding), but then the Host is that name.
  if ((is_post || !needs_token) && !HostMatches(request)) {
    SetError(response, 403,
             "the Host header must be the address that serves this, or "
             "localhost");
    return false;
  }
  if (needs_token && !CheckToken(request, response)) return false;
  if (is_post) {
    const std::string type = request.get_header_value("Content-Type");
    const std::string plain = absl::AsciiStrToLower(
        absl::StripAsciiWhitespace(type.substr(0, type.find(';'))));
    if (plain != kJson) {
      SetError(response, 415, "the Content-Type must be application/json");
      return false;
    }
  }
  return true;
}

bool AdminServer::Impl::CheckToken(const Request& request, Response* response) {
  using Verdict = internal::TokenGuard::Verdict;
  if (options_.token.empty()) {
    SetError(response, 403,
             "there is no token, and without one nothing but /metrics, "
             "/healthz and /readyz is served off loopback");
    return false;
  }
  const absl::StatusOr<SocketAddress> client = SocketAddress::FromIpAndPort(
      request.remote_addr, static_cast<uint16_t>(request.remote_port));
  switch (token_guard_.Check(client.ok() ? *client : SocketAddress::Ipv4Any(0),
                             request.get_header_value("Authorization"))) {
    case Verdict::kRight:
      return true;
    case Verdict::kTooManyWrong:
      ++rate_limited_;
      response->set_header(
          "Retry-After", absl::StrCat(absl::ToInt64Seconds(absl::Ceil(
                             options_.wrong_token_window, absl::Seconds(1)))));
      SetError(response, 429, "too many wrong tokens from this address");
      return false;
    case Verdict::kWrong:
      ++wrong_tokens_;
      SetError(response, 401, "the token is wrong");
      break;
    case Verdict::kMissing:
      SetError(response, 401, "this needs Authorization: Bearer <token>");
      break;
  }
  response->set_header("WWW-Authenticate", "Bearer");
  return false;
}

bool AdminServer::Impl::HostMatches(const Request& request) const {
  const std::string host =
      absl::AsciiStrToLower(request.get_header_value("Host"));
  const absl::StatusOr<SocketAddress> local = SocketAddress::FromIpAndPort(
      request.local_addr, static_cast<uint16_t>(request.local_port));
  if (!local.ok()) return false;
  // Clients leave out the port where it is 80.
  for (const bool with_port : {true, false}) {
    if (!with_port && local->port() != 80) continue;
    if (host == HostText(*local, with_port)) return true;
    if (local->is_loopback() &&
        host ==
            absl::StrCat("localhost",
                         with_port ? absl::StrCat(":", local->port()) : "")) {
      return true;
    }
  }
  return false;
}

std::vector<ComponentHealth> AdminServer::Impl::Components() const {
  if (hooks_.components == nullptr) return {};
  return hooks_.components();
}

std::vector<std::string> AdminServer::Impl::UnreadyReasons() const {
  std::vector<std::string> reasons;
  if (proxy_->is_draining()) reasons.push_back("draining");
  for (const ComponentHealth& component : Components()) {
    if (component.is_needed && !component.status.ok()) {
      reasons.push_back(
          absl::StrCat(component.name, ": ", component.status.message()));
    }
  }
  return reasons;
}

std::vector<std::string> AdminServer::Impl::Warnings() const {
  std::vector<std::string> warnings;
  for (const ComponentHealth& component : Components()) {
    if (!component.is_needed && !component.status.ok()) {
      warnings.push_back(absl::StrCat("warning: ", component.name, ": ",
                                      component.status.message()));
    }
  }
  return warnings;
}

std::shared_ptr<const AdminServer::Impl::BackendLoads>
AdminServer::Impl::Backends() {
  const auto age_max = absl::ToChronoNanoseconds(options_.backends_age_max);
  MutexLock lock(&backends_mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (backends_ == nullptr || now - backends_time_ >= age_max) {
    backends_ = std::make_shared<const BackendLoads>(CountBackends());
    backends_time_ = now;
  }
  return backends_;
}

AdminServer::Impl::BackendLoads AdminServer::Impl::CountBackends() const {
  absl::flat_hash_map<SocketAddress, internal::BackendLoad> loads;
  proxy_->ForEachSession([&loads](const SessionInfo& session) {
    if (!session.backend.is_valid()) return;
    internal::BackendLoad& load = loads[session.backend];
    ++load.sessions;
    load.client_datagrams_forwarded += session.client_datagrams_forwarded;
    load.client_bytes_forwarded += session.client_bytes_forwarded;
    load.backend_datagrams_forwarded += session.backend_datagrams_forwarded;
    load.backend_bytes_forwarded += session.backend_bytes_forwarded;
  });
  BackendLoads result;
  for (auto& entry : loads) {
    entry.second.backend = entry.first.ToString();
    result.push_back(std::move(entry.second));
  }
  std::sort(result.begin(), result.end(),
            [](const internal::BackendLoad& a, const internal::BackendLoad& b) {
              if (a.sessions != b.sessions) return a.sessions > b.sessions;
              return a.backend < b.backend;
            });
  return result;
}

std::vector<prometheus::MetricFamily> AdminServer::Impl::OwnFamilies() const {
  using internal::Counter;
  using internal::Gauge;
  std::vector<prometheus::MetricFamily> families;
  if (hooks_.metrics != nullptr) {
    for (const HostMetric& metric : hooks_.metrics()) {
      families.push_back(metric.kind == HostMetric::Kind::kCounter
                             ? Counter(metric.name, metric.help, metric.value)
                             : Gauge(metric.name, metric.help, metric.value));
    }
  }
  const internal::HttpFront::Counts counts = front_->counts();
  const auto count = [&families](const char* name, const char* help,
                                 uint64_t value) {
    families.push_back(Counter(absl::StrCat("udpgate_admin_", name, "_total"),
                               help, static_cast<double>(value)));
  };
  count("requests", "Requests to this endpoint that were handled.", requests_);
  count("connections", "Connections to this endpoint.", counts.accepted);
  count("connections_evicted", "Idle connections closed for newer ones.",
        counts.evicted);
  count("connections_timed_out",
        "Connections that were too slow with a request or for a response.",
        counts.timed_out);
  count("requests_refused",
        "Requests that were no HTTP, were too big, or found all workers busy.",
        counts.refused);
  count("wrong_tokens", "Requests with a wrong token.", wrong_tokens_);
  count("rate_limited", "Requests refused after too many wrong tokens.",
        rate_limited_);
  for (prometheus::MetricFamily& family : internal::ProcessFamilies()) {
    families.push_back(std::move(family));
  }
  for (prometheus::MetricFamily& family : families) {
    if (family.type != prometheus::MetricType::Counter) continue;
    const auto before = counters_before_.find(family.name);
    if (before == counters_before_.end()) continue;
    for (prometheus::ClientMetric& metric : family.metric) {
      metric.counter.value += before->second;
    }
  }
  return families;
}

std::map<std::string, double> AdminServer::Impl::Counters() const {
  std::map<std::string, double> counters = counters_before_;
  for (const prometheus::MetricFamily& family : OwnFamilies()) {
    if (family.type != prometheus::MetricType::Counter) continue;
    counters[family.name] = family.metric[0].counter.value;
  }
  return counters;
}

void AdminServer::Impl::Metrics(const Request&, Response* response) {
  using internal::Gauge;
  std::vector<prometheus::MetricFamily> families =
      internal::StatsFamilies(proxy_->GetStats());
  families.push_back(
      internal::BackendFamily(*Backends(), options_.metric_backends_max));
  if (hooks_.history != nullptr) {
    for (prometheus::MetricFamily& family :
         internal::HistoryFamilies(hooks_.history->Backends())) {
      families.push_back(std::move(family));
    }
  }
  families.push_back(Gauge("udpgate_sessions_max",
                           "Sessions at most, the limit in force.",
                           static_cast<double>(proxy_->max_sessions())));
  families.push_back(
      Gauge("udpgate_receive_buffer_bytes",
            "What the kernel granted of each listening socket's buffer.",
            static_cast<double>(proxy_->receive_buffer_bytes())));
  families.push_back(
      Gauge("udpgate_send_buffer_bytes",
            "What the kernel granted of each listening socket's send buffer.",
            static_cast<double>(proxy_->send_buffer_bytes())));
  families.push_back(Gauge("udpgate_draining",
                           "1 where new clients are refused by a drain.",
                           proxy_->is_draining() ? 1 : 0));
  prometheus::MetricFamily build =
      Gauge("udpgate_build_info", "1, with the version as a label.", 1);
  build.metric[0].label = {{"version", UDPGATE_VERSION_STRING}};
  families.push_back(std::move(build));
  prometheus::MetricFamily up = Gauge(
      "udpgate_component_up", "1 where what the gate depends on works.", 0);
  up.metric.clear();
  for (const ComponentHealth& component : Components()) {
    prometheus::ClientMetric metric;
    metric.label = {{"component", component.name}};
    metric.gauge.value = component.status.ok() ? 1 : 0;
    up.metric.push_back(std::move(metric));
  }
  if (!up.metric.empty()) families.push_back(std::move(up));

  for (prometheus::MetricFamily& family : OwnFamilies()) {
    families.push_back(std::move(family));
  }
  response->set_content(internal::Serialize(families), kMetrics);
}

void AdminServer::Impl::Healthz(const Request&, Response* response) {
  if (proxy_->IsAlive(options_.liveness_timeout)) {
    response->set_content("alive\n", kText);
    return;
  }
  response->status = 503;
  response->set_content(
      absl::StrCat("a shard made no turn for ",
                   absl::FormatDuration(options_.liveness_timeout), "\n"),
      kText);
}

void AdminServer::Impl::Readyz(const Request&, Response* response) {
  std::vector<std::string> lines = UnreadyReasons();
  if (lines.empty()) {
    lines.push_back("ready");
  } else {
    response->status = 503;
  }
  for (std::string& warning : Warnings()) lines.push_back(std::move(warning));
  response->set_content(absl::StrCat(absl::StrJoin(lines, "\n"), "\n"), kText);
}

void AdminServer::Impl::StatusOfAll(const Request&, Response* response) {
  const ProxyStats stats = proxy_->GetStats();
  json value = {{"version", UDPGATE_VERSION_STRING},
                {"draining", proxy_->is_draining()},
                {"sessions_max", proxy_->max_sessions()},
                {"receive_buffer_bytes", proxy_->receive_buffer_bytes()},
                {"send_buffer_bytes", proxy_->send_buffer_bytes()},
                {"components", json::array()}};
  value["unready_reasons"] = UnreadyReasons();
  value["ready"] = value["unready_reasons"].empty();
  value["warnings"] = Warnings();
  for (const ComponentHealth& component : Components()) {
    value["components"].push_back(
        {{"name", component.name},
         {"ok", component.status.ok()},
         {"message", std::string(component.status.message())}});
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

void AdminServer::Impl::Sessions(const Request& request, Response* response) {
  const uint64_t page_max = static_cast<uint64_t>(options_.sessions_page_max);
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
  // Only so many of the oldest are kept as the page needs.
  const auto older = [](const SessionInfo& a, const SessionInfo& b) {
    return a.id < b.id;
  };
  std::vector<SessionInfo> heap;  // the youngest on top
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

void AdminServer::Impl::BackendList(const Request&, Response* response) {
  json value = {{"backends", json::array()}};
  const std::shared_ptr<const BackendLoads> backends = Backends();
  for (const internal::BackendLoad& load : *backends) {
    value["backends"].push_back(BackendJson(load));
  }
  SetJson(response, 200, value);
}

void AdminServer::Impl::Ends(const Request& request, Response* response) {
  if (hooks_.history == nullptr) {
    return SetError(response, 501, "this gate keeps no ends of sessions");
  }
  const uint64_t page_max = static_cast<uint64_t>(options_.ends_page_max);
  uint64_t limit = std::min<uint64_t>(100, page_max);
  AddressFilter client;
  AddressFilter backend;
  if (!ParseCount(request, "limit", 1, page_max, &limit, response) ||
      !ParseFilter(request, "client", &client, response) ||
      !ParseFilter(request, "backend", &backend, response)) {
    return;
  }
  std::vector<SessionHistory::End> ends;
  hooks_.history->ForEachEnd([&](const SessionHistory::End& end) {
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

void AdminServer::Impl::Disconnect(const Request& request, Response* response) {
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
  const auto answer = std::make_shared<DisconnectAnswer>();
  proxy_->Disconnect(*target, [answer](int64_t ended) {
    MutexLock lock(&answer->mutex);
    answer->is_there = true;
    answer->ended = ended;
    answer->changed.SignalAll();
  });
  const auto deadline = std::chrono::steady_clock::now() +
                        absl::ToChronoNanoseconds(options_.disconnect_timeout);
  MutexLock lock(&answer->mutex);
  // In slices, since a stop cannot signal.
  while (!answer->is_there && !stopping_ &&
         std::chrono::steady_clock::now() < deadline) {
    answer->changed.WaitFor(&answer->mutex, std::chrono::milliseconds(20));
  }
  if (!answer->is_there) {
    return SetError(response, 504,
                    "the event is under way, but the gate has not answered");
  }
  SetJson(response, 200, {{"ended", answer->ended}});
}

void AdminServer::Impl::Drain(const Request&, Response* response) {
  proxy_->Drain();
  if (hooks_.drain != nullptr) hooks_.drain();
  SetJson(response, 200,
          {{"draining", true},
           {"sessions_active", proxy_->GetStats().sessions_active}});
}

void AdminServer::Impl::Reload(const Request&, Response* response) {
  if (hooks_.reload == nullptr) {
    return SetError(response, 501, "this gate cannot reload its settings");
  }
  const absl::StatusOr<std::string> result = hooks_.reload();
  if (!result.ok()) {
    return SetError(response, 422, std::string(result.status().message()));
  }
  SetJson(response, 200, {{"result", *result}});
}

absl::Status AdminOptions::Validate() const {
  const auto invalid = [](absl::string_view text) {
    return absl::InvalidArgumentError(text);
  };
  if (!listen_address.is_any() && !listen_address.is_unicast()) {
    return invalid("listen_address: must be an address of this machine");
  }
  if (connections_max < 1) return invalid("connections_max: must be above 0");
  if (worker_count < 1) return invalid("worker_count: must be above 0");
  if (queue_size < 1) return invalid("queue_size: must be above 0");
  if (header_bytes_max < 256) {
    return invalid("header_bytes_max: must be at least 256");
  }
  if (read_timeout <= absl::ZeroDuration()) {
    return invalid("read_timeout: must be above 0");
  }
  if (write_timeout <= absl::ZeroDuration()) {
    return invalid("write_timeout: must be above 0");
  }
  if (metric_backends_max < 0) {
    return invalid("metric_backends_max: must not be below 0");
  }
  if (sessions_page_max < 1) {
    return invalid("sessions_page_max: must be above 0");
  }
  if (backends_age_max < absl::ZeroDuration()) {
    return invalid("backends_age_max: must not be below 0");
  }
  if (ends_page_max < 1) return invalid("ends_page_max: must be above 0");
  if (wrong_tokens_max < 1) return invalid("wrong_tokens_max: must be above 0");
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Create(
    AdminOptions options, Proxy* proxy, AdminHooks hooks) {
  auto impl =
      std::make_unique<Impl>(std::move(options), proxy, std::move(hooks));
  if (absl::Status status = impl->Create(); !status.ok()) return status;
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(impl)));
}

AdminServer::AdminServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

AdminServer::~AdminServer() { Stop(); }

absl::Status AdminServer::Start() { return impl_->Start(); }

void AdminServer::Stop() { impl_->Stop(); }

const SocketAddress& AdminServer::address() const { return impl_->address(); }

std::map<std::string, double> AdminServer::Counters() const {
  return impl_->Counters();
}

void AdminServer::AddCounters(const std::map<std::string, double>& counters) {
  impl_->AddCounters(counters);
}

int AdminServer::listen_fd() const { return impl_->listen_fd(); }

}  // namespace admin
}  // namespace udpgate
