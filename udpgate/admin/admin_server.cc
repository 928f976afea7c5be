#include "udpgate/admin/admin_server.h"

#include <atomic>
#include <cstdint>
#include <utility>

#include "udpgate/admin/internal/access_control.h"
#include "udpgate/admin/internal/api.h"
#include "udpgate/admin/internal/backend_loads.h"
#include "udpgate/admin/internal/health.h"
#include "udpgate/admin/internal/metrics_page.h"
#include "udpgate/admin/internal/request_workers.h"
#include "udpgate/admin/internal/router.h"
#include "udpgate/admin/internal/status_page.h"
#include "udpgate/http/engine.h"
#include "udpgate/http/message.h"
#include "udpgate/http/server.h"
#include "udpgate/http/server_options.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace admin {
namespace {

using http::Request;
using http::Response;
using ::udpgate::internal::UniqueFd;

constexpr char kHtml[] = "text/html; charset=utf-8";
constexpr char kMetrics[] = "text/plain; version=0.0.4; charset=utf-8";
constexpr char kText[] = "text/plain; charset=utf-8";

// A handler may take its time; this bounds one that hangs.
constexpr absl::Duration kResponseTimeout = absl::Minutes(1);

void SetContent(Response* response, std::string body, const char* type) {
  response->body = std::move(body);
  response->content_type = type;
}

void SetReport(Response* response, const internal::Health::Report& report) {
  if (!report.is_good) response->status = 503;
  SetContent(response, report.text, kText);
}

}  // namespace

class AdminServer::Impl {
 public:
  Impl(AdminOptions options, Proxy* proxy, AdminHooks hooks)
      : options_(std::move(options)),
        hooks_(std::move(hooks)),
        access_(options_),
        health_(proxy, hooks_.components, options_.liveness_timeout),
        backends_(proxy, options_.backends_age_max),
        metrics_(&options_, proxy, &hooks_, &health_, &backends_),
        api_(&options_, proxy, &hooks_, &health_, &backends_),
        router_([this](const Request& request, Response* response) {
          return access_.Admit(request, response);
        }),
        workers_(options_.worker_count, options_.queue_size,
                 [this](const Request& request) {
                   ++requests_;
                   return router_.Process(request);
                 }) {}

  absl::Status Create();
  absl::Status Start();
  void Stop();
  const SocketAddress& address() const { return server_->address(); }
  int listen_fd() const { return server_->listen_fd(); }
  std::map<std::string, double> Counters() const {
    return metrics_.Counters(Counts());
  }
  void AddCounters(const std::map<std::string, double>& counters) {
    metrics_.AddCounters(counters);
  }

 private:
  void AddRoutes();
  internal::EndpointCounts Counts() const;

  const AdminOptions options_;
  const AdminHooks hooks_;
  internal::AccessControl access_;
  const internal::Health health_;
  internal::BackendLoads backends_;
  internal::MetricsPage metrics_;
  internal::Api api_;
  internal::Router router_;
  std::atomic<uint64_t> requests_{0};
  // Last, since their threads use all of the above, each those above it.
  internal::RequestWorkers workers_;
  std::unique_ptr<http::Engine> engine_;
  std::unique_ptr<http::Server> server_;
};

absl::Status AdminServer::Impl::Create() {
  UniqueFd listen_fd(options_.listen_fd);
  http::ServerOptions server;
  server.listen_address = options_.listen_address;
  server.connections_max = options_.connections_max;
  server.connections_per_ip_max = 0;
  server.evicts_oldest = true;
  server.header_bytes_max = options_.header_bytes_max;
  server.body_bytes_max = options_.body_bytes_max;
  server.requests_per_connection_max = 1;
  server.read_timeout = options_.read_timeout;
  server.response_timeout = kResponseTimeout;
  server.write_timeout = options_.write_timeout;
  absl::Status status = options_.Validate();
  if (status.ok()) status = server.Validate();
  if (!status.ok()) return status;
  AddRoutes();
  absl::StatusOr<std::unique_ptr<http::Engine>> engine =
      http::Engine::Create(http::EngineOptions());
  if (!engine.ok()) return engine.status();
  engine_ = *std::move(engine);
  server.listen_fd = listen_fd.Release();
  absl::StatusOr<std::unique_ptr<http::Server>> created = http::Server::Create(
      engine_.get(), std::move(server),
      [this](Request request, http::Server::Respond respond) {
        workers_.Handle(std::move(request), std::move(respond));
      });
  if (!created.ok()) return created.status();
  server_ = *std::move(created);
  return absl::OkStatus();
}

absl::Status AdminServer::Impl::Start() {
  absl::Status status = workers_.Start();
  if (status.ok()) status = server_->Start();
  if (!status.ok()) Stop();
  return status;
}

void AdminServer::Impl::Stop() {
  api_.Stop();
  if (server_ != nullptr) server_->Stop();
  workers_.Stop();
  if (engine_ != nullptr) engine_->Stop();
}

void AdminServer::Impl::AddRoutes() {
  router_.Get("/", [](const Request&, Response* response) {
    SetContent(response, internal::kStatusPage, kHtml);
  });
  router_.Get("/metrics", [this](const Request&, Response* response) {
    SetContent(response, metrics_.Text(Counts()), kMetrics);
  });
  router_.Get("/healthz", [this](const Request&, Response* response) {
    SetReport(response, health_.Liveness());
  });
  router_.Get("/readyz", [this](const Request&, Response* response) {
    SetReport(response, health_.Readiness());
  });
  api_.AddRoutes(&router_);
}

internal::EndpointCounts AdminServer::Impl::Counts() const {
  const http::ServerStats server = server_->stats();
  internal::EndpointCounts counts;
  counts.requests = requests_;
  counts.connections = server.accepted;
  counts.evicted = server.evicted;
  counts.timed_out =
      server.read_timeouts + server.response_timeouts + server.write_timeouts;
  counts.refused =
      server.refused_requests + server.closed_at_limit + workers_.refused();
  counts.wrong_tokens = access_.wrong_tokens();
  counts.rate_limited = access_.rate_limited();
  return counts;
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
