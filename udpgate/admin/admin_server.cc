#include "udpgate/admin/admin_server.h"

#include <httplib.h>

#include <atomic>
#include <cstdint>
#include <utility>

#include "udpgate/admin/internal/access_control.h"
#include "udpgate/admin/internal/api.h"
#include "udpgate/admin/internal/backend_loads.h"
#include "udpgate/admin/internal/health.h"
#include "udpgate/admin/internal/http_front.h"
#include "udpgate/admin/internal/http_text.h"
#include "udpgate/admin/internal/metrics_page.h"
#include "udpgate/admin/internal/router.h"
#include "udpgate/admin/internal/status_page.h"

namespace udpgate {
namespace admin {
namespace {

using ::httplib::Request;
using ::httplib::Response;

constexpr char kHtml[] = "text/html; charset=utf-8";
constexpr char kMetrics[] = "text/plain; version=0.0.4; charset=utf-8";
constexpr char kText[] = "text/plain; charset=utf-8";

void SetReport(Response* response, const internal::Health::Report& report) {
  if (!report.is_good) response->status = 503;
  response->set_content(report.text, kText);
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
        api_(&options_, proxy, &hooks_, &health_, &backends_) {}

  absl::Status Create();
  absl::Status Start() { return front_->Start(); }
  void Stop();
  const SocketAddress& address() const { return front_->address(); }
  int listen_fd() const { return front_->listen_fd(); }
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
  // Last: its threads use all of the above.
  std::unique_ptr<internal::HttpFront> front_;
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
  api_.Stop();
  if (front_ != nullptr) front_->Stop();
}

void AdminServer::Impl::AddRoutes() {
  router_.set_pre_routing_handler(
      [this](const Request& request, Response& response) {
        return access_.Admit(request, &response)
                   ? httplib::Server::HandlerResponse::Unhandled
                   : httplib::Server::HandlerResponse::Handled;
      });
  router_.Get("/", [](const Request&, Response& response) {
    response.set_content(internal::kStatusPage, kHtml);
  });
  router_.Get("/metrics", [this](const Request&, Response& response) {
    response.set_content(metrics_.Text(Counts()), kMetrics);
  });
  router_.Get("/healthz", [this](const Request&, Response& response) {
    SetReport(&response, health_.Liveness());
  });
  router_.Get("/readyz", [this](const Request&, Response& response) {
    SetReport(&response, health_.Readiness());
  });
  api_.AddRoutes(&router_);
}

internal::EndpointCounts AdminServer::Impl::Counts() const {
  const internal::HttpFront::Counts front = front_->counts();
  internal::EndpointCounts counts;
  counts.requests = requests_;
  counts.connections = front.accepted;
  counts.evicted = front.evicted;
  counts.timed_out = front.timed_out;
  counts.refused = front.refused;
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
