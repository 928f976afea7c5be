#include "udpgate/nethernet/signaling_server.h"

#include <unistd.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "udpgate/option_error.h"

namespace udpgate {
namespace nethernet {
namespace {

// Closes a socket that the HTTP server has not taken over, if the set-up ends
// before.
class OwnedListenFd {
 public:
  explicit OwnedListenFd(int fd) : fd_(fd) {}
  ~OwnedListenFd() {
    if (fd_ >= 0) close(fd_);
  }
  OwnedListenFd(const OwnedListenFd&) = delete;
  OwnedListenFd& operator=(const OwnedListenFd&) = delete;

  void Release() { fd_ = -1; }

 private:
  int fd_;
};

// The service must respond before the server answers that there was no response
// in time.
absl::Status CheckTimeouts(absl::Duration response_timeout,
                           const JoinServiceOptions& join) {
  return DurationRange{"server.response_timeout",
                       std::max(join.answer_timeout, join.status_timeout) +
                           absl::Milliseconds(10),
                       absl::Hours(2)}
      .Check(response_timeout);
}

std::function<bool(const SocketAddress&)> AdmitFunction(
    const JoinServiceOptions& join) {
  if (join.allow_cidrs.empty() && join.deny_cidrs.empty()) return nullptr;
  return [allow = join.allow_cidrs,
          deny = join.deny_cidrs](const SocketAddress& client) {
    return !deny.Contains(client) && (allow.empty() || allow.Contains(client));
  };
}

}  // namespace

absl::StatusOr<std::unique_ptr<SignalingServer>> SignalingServer::Create(
    SignalingServerOptions options, SignalingDependencies dependencies) {
  OwnedListenFd listen_fd(options.server.listen_fd);
  if (const absl::Status status =
          CheckTimeouts(options.server.response_timeout, options.join);
      !status.ok()) {
    return status;
  }
  std::unique_ptr<SignalingServer> signaling(
      new SignalingServer(options.server.response_timeout));
  absl::StatusOr<std::unique_ptr<http::Engine>> engine =
      http::Engine::Create(options.engine);
  if (!engine.ok()) return engine.status();
  signaling->engine_ = *std::move(engine);
  absl::StatusOr<std::unique_ptr<http::Client>> client =
      http::Client::Create(signaling->engine_.get(), options.client);
  if (!client.ok()) return client.status();
  signaling->client_ = *std::move(client);

  JoinServiceDependencies service_dependencies;
  service_dependencies.resolver = std::move(dependencies.resolver);
  service_dependencies.joins = std::move(dependencies.joins);
  service_dependencies.engine = signaling->engine_.get();
  service_dependencies.client = signaling->client_.get();
  service_dependencies.clock = dependencies.clock;
  service_dependencies.has_room = std::move(dependencies.has_room);
  absl::StatusOr<std::unique_ptr<JoinService>> service =
      JoinService::Create(options.join, std::move(service_dependencies));
  if (!service.ok()) return service.status();
  signaling->service_ = *std::move(service);

  options.server.admit = AdmitFunction(options.join);
  options.server.accepts_proxy_header = true;
  listen_fd.Release();
  absl::StatusOr<std::unique_ptr<http::Server>> server = http::Server::Create(
      signaling->engine_.get(), std::move(options.server),
      [service = signaling->service_.get()](http::Request request,
                                            http::Server::Respond respond) {
        service->Handle(std::move(request), std::move(respond));
      });
  if (!server.ok()) return server.status();
  signaling->server_ = *std::move(server);
  return signaling;
}

SignalingServer::~SignalingServer() { Stop(); }

absl::Status SignalingServer::Start() { return server_->Start(); }

void SignalingServer::StopAccepting() { server_->StopAccepting(); }

void SignalingServer::Stop() {
  if (server_ != nullptr) server_->Stop();
  if (service_ != nullptr) service_->Stop();
  if (client_ != nullptr) client_->Stop();
  if (engine_ != nullptr) engine_->Stop();
}

const SocketAddress& SignalingServer::address() const {
  return server_->address();
}

int SignalingServer::listen_fd() const { return server_->listen_fd(); }

void SignalingServer::SetDraining(bool is_draining) {
  service_->SetDraining(is_draining);
}

absl::Status SignalingServer::SetFleetStatus(
    absl::optional<std::string> status_json) {
  return service_->SetFleetStatus(std::move(status_json));
}

absl::Status SignalingServer::Reload(SignalingReload reload) {
  absl::Status status = CheckTimeouts(response_timeout_, reload.join);
  if (status.ok()) {
    auto admit = AdmitFunction(reload.join);
    status = service_->SetOptions(std::move(reload.join));
    if (status.ok()) server_->SetAdmit(std::move(admit));
  }
  server_->SetTrustedProxies(std::move(reload.trusted_proxies));
  const absl::Status certificate = server_->ReloadCertificate();
  return status.ok() ? certificate : status;
}

SignalingStats SignalingServer::stats() const {
  SignalingStats stats;
  stats.server = server_->stats();
  stats.client = client_->stats();
  stats.join = service_->GetStats();
  return stats;
}

}  // namespace nethernet
}  // namespace udpgate
