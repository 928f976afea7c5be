#include "udpgate/http/server.h"

#include <algorithm>
#include <utility>

#include "udpgate/http/internal/certificate_keeper.h"
#include "udpgate/http/internal/connection.h"
#include "udpgate/http/internal/connection_table.h"
#include "udpgate/http/internal/io_threads.h"
#include "udpgate/http/internal/listener.h"
#include "udpgate/http/internal/server_state.h"
#include "udpgate/http/internal/tls_context.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace http {
namespace {

using ::udpgate::http::internal::AccessRules;
using ::udpgate::http::internal::CertificateKeeper;
using ::udpgate::http::internal::ConnectionTable;
using ::udpgate::http::internal::Listener;
using ::udpgate::http::internal::Phase;
using ::udpgate::http::internal::ServerCounters;
using ::udpgate::http::internal::ServerState;
using ::udpgate::internal::UniqueFd;

// How long a client may take to notice the end of the connection.
constexpr absl::Duration kClosingTimeout = absl::Seconds(2);

ConnectionTable::Limits LimitsOf(const ServerOptions& options) {
  ConnectionTable::Limits limits;
  limits.connections_max = static_cast<size_t>(options.connections_max);
  limits.connections_per_network_max =
      static_cast<size_t>(options.connections_per_ip_max);
  limits.evicts_oldest = options.evicts_oldest;
  const auto set = [&limits](Phase phase, absl::Duration timeout) {
    limits.timeouts[static_cast<size_t>(phase)] =
        absl::ToChronoNanoseconds(timeout);
  };
  set(Phase::kPreface, options.handshake_timeout);
  set(Phase::kIdle, options.idle_timeout);
  set(Phase::kReading, options.read_timeout);
  set(Phase::kHandling, options.response_timeout);
  set(Phase::kWriting, options.write_timeout);
  set(Phase::kClosing, std::min(kClosingTimeout, options.write_timeout));
  return limits;
}

}  // namespace

class Server::Impl {
 public:
  Impl(Engine* engine, std::shared_ptr<ServerState> state, UniqueFd listen_fd,
       const SocketAddress& address)
      : engine_(engine),
        state_(std::move(state)),
        certificate_(std::make_shared<CertificateKeeper>(state_)),
        listen_fd_(std::move(listen_fd)),
        address_(address) {}
  ~Impl() { Stop(); }

  CertificateKeeper* certificate() { return certificate_.get(); }
  const SocketAddress& address() const { return address_; }
  int listen_fd() const { return listen_fd_.get(); }

  absl::Status Start() {
    if (listener_ != nullptr || state_->is_stopped()) {
      return absl::FailedPreconditionError("Server::Start called twice");
    }
    listener_ = std::make_shared<Listener>(
        state_, certificate_, engine_->io_threads(), listen_fd_.get());
    listener_->Start();
    return absl::OkStatus();
  }

  void StopAccepting() {
    state_->is_leaving = true;
    if (listener_ != nullptr) listener_->StopAccepting();
  }

  void Stop() {
    if (state_->is_stopped()) return;
    // From here on a new connection closes itself.
    state_->SetStopped();
    if (listener_ != nullptr) {
      listener_->Stop();
      listener_.reset();
      for (const auto& connection : state_->table.All()) connection->Close();
      // An Engine that was stopped too early has no thread that closes them.
      if (engine_->io_threads()->is_running()) state_->AwaitNobodyPresent();
    }
    listen_fd_.Reset();
  }

  void SetRules(const std::function<void(AccessRules*)>& change) {
    const std::shared_ptr<const AccessRules> old = state_->rules();
    auto rules = std::make_shared<AccessRules>(*old);
    change(rules.get());
    state_->set_rules(std::move(rules));
  }

  ServerStats stats() const;

 private:
  Engine* const engine_;
  const std::shared_ptr<ServerState> state_;
  const std::shared_ptr<CertificateKeeper> certificate_;
  UniqueFd listen_fd_;
  const SocketAddress address_;
  std::shared_ptr<Listener> listener_;
};

ServerStats Server::Impl::stats() const {
  const ServerCounters& counters = state_->counters;
  ServerStats stats;
  stats.accepted = counters.accepted;
  stats.open = counters.open;
  stats.accept_failures = counters.accept_failures;
  stats.denied = counters.denied;
  stats.closed_at_limit = counters.closed_at_limit;
  stats.evicted = counters.evicted;
  stats.requests = counters.requests;
  stats.refused_requests = counters.refused_requests;
  stats.read_timeouts = counters.read_timeouts;
  stats.idle_timeouts = counters.idle_timeouts;
  stats.response_timeouts = counters.response_timeouts;
  stats.write_timeouts = counters.write_timeouts;
  stats.tls_handshakes = counters.tls_handshakes;
  stats.tls_handshakes_failed = counters.tls_handshakes_failed;
  stats.proxy_headers = counters.proxy_headers;
  stats.proxy_headers_refused = counters.proxy_headers_refused;
  stats.certificate_reloads = counters.certificate_reloads;
  stats.certificate_reload_failures = counters.certificate_reload_failures;
  if (const auto tls = state_->tls(); tls != nullptr) {
    stats.certificate_expires_unix_seconds =
        absl::ToUnixSeconds(tls->valid_until());
  }
  return stats;
}

absl::StatusOr<std::unique_ptr<Server>> Server::Create(Engine* engine,
                                                       ServerOptions options,
                                                       Handler handler) {
  UniqueFd listen_fd(options.listen_fd);
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  if (!listen_fd.is_open()) {
    absl::StatusOr<UniqueFd> fd = internal::Listen(options.listen_address);
    if (!fd.ok()) return fd.status();
    listen_fd = *std::move(fd);
  }
  const absl::StatusOr<SocketAddress> address =
      internal::ListenAddressOf(listen_fd.get());
  if (!address.ok()) return address.status();
  auto rules = std::make_shared<AccessRules>();
  rules->trusted_proxies = options.trusted_proxies;
  rules->admit = options.admit;
  const ConnectionTable::Limits limits = LimitsOf(options);
  auto state = std::make_shared<ServerState>(std::move(options),
                                             std::move(handler), limits);
  state->set_rules(std::move(rules));
  auto impl =
      std::make_unique<Impl>(engine, state, std::move(listen_fd), *address);
  if (impl->certificate()->has_certificate()) {
    absl::Status status = impl->certificate()->Load();
    if (!status.ok()) return status;
  }
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Server::~Server() = default;

absl::Status Server::Start() { return impl_->Start(); }

void Server::StopAccepting() { impl_->StopAccepting(); }

void Server::Stop() { impl_->Stop(); }

const SocketAddress& Server::address() const { return impl_->address(); }

int Server::listen_fd() const { return impl_->listen_fd(); }

ServerStats Server::stats() const { return impl_->stats(); }

absl::Status Server::ReloadCertificate() {
  if (!impl_->certificate()->has_certificate()) return absl::OkStatus();
  return impl_->certificate()->Reload();
}

void Server::SetTrustedProxies(CidrList trusted_proxies) {
  impl_->SetRules([&trusted_proxies](AccessRules* rules) {
    rules->trusted_proxies = std::move(trusted_proxies);
  });
}

void Server::SetAdmit(std::function<bool(const SocketAddress&)> admit) {
  impl_->SetRules(
      [&admit](AccessRules* rules) { rules->admit = std::move(admit); });
}

absl::Status CheckCertificate(const std::string& certificate_file,
                              const std::string& private_key_file) {
  return internal::TlsContext::Load(certificate_file, private_key_file)
      .status();
}

}  // namespace http
}  // namespace udpgate
