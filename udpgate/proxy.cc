#include "udpgate/proxy.h"

#include <memory>
#include <utility>
#include <vector>

#include "udpgate/internal/control/data_plane.h"
#include "udpgate/internal/control/descriptor_limits.h"
#include "udpgate/internal/control/disconnect_router.h"
#include "udpgate/internal/control/proxy_handover.h"
#include "udpgate/internal/control/proxy_restore.h"
#include "udpgate/internal/control/start_stop.h"
#include "udpgate/internal/net/client_hash.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/session/relay_ports.h"
#include "udpgate/internal/session/session_events.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/internal/shard/hop.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {

// The parts of a Proxy, each after those that it uses.
struct Proxy::Impl {
  Impl(const ProxyOptions& options, const ProxyDependencies& dependencies);

  internal::GateContext context;
  internal::DisconnectRouter disconnects;
  internal::DataPlane data_plane{&context};
  internal::LifeState life;
  internal::StartStop start_stop{&context, &data_plane, &disconnects, &life};
  internal::ProxyHandover handover{&context, &data_plane, &disconnects,
                                   &start_stop, &life};
  internal::ProxyRestore restore{&context, &data_plane, &life};
};

Proxy::Impl::Impl(const ProxyOptions& options,
                  const ProxyDependencies& dependencies)
    : context(options,
              dependencies.clock != nullptr ? dependencies.clock
                                            : Clock::Monotonic(),
              dependencies.sys_calls != nullptr ? dependencies.sys_calls
                                                : internal::SysCalls::Real(),
              options.client_hash_seed != 0
                  ? internal::ClientHash(options.client_hash_seed)
                  : internal::ClientHash::Random(),
              options.relay_ports.empty() ? internal::LocalPortRange()
                                          : options.relay_ports,
              internal::SessionsMax(options)),
      disconnects(&context, dependencies.disconnects) {
  context.resolver = dependencies.resolver;
  context.flow_offload = dependencies.flow_offload;
  if (options.forward_address.is_valid()) {
    context.hop = std::make_unique<internal::Hop>(
        context.sys_calls, context.clock, &context.options,
        dependencies.envelope_keys);
  }
  if (dependencies.session_observer != nullptr) {
    context.session_events = std::make_unique<internal::SessionEvents>(
        dependencies.session_observer, context.clock,
        options.session_events_max);
  }
}

absl::StatusOr<std::unique_ptr<Proxy>> Proxy::Create(
    ProxyOptions options, ProxyDependencies dependencies) {
  absl::Status status = options.Validate();
  if (dependencies.resolver == nullptr) {
    status.Update(absl::InvalidArgumentError("the resolver is null"));
  }
  if (options.forward_address.is_valid() &&
      dependencies.envelope_keys == nullptr) {
    status.Update(absl::InvalidArgumentError(
        "forward_address is set, but envelope_keys is null"));
  }
  if (!status.ok()) {
    for (const int fd : options.listen_fds) internal::UniqueFd close(fd);
    return status;
  }
  auto impl = std::make_unique<Impl>(options, dependencies);
  status = impl->data_plane.Create();
  if (!status.ok()) return status;
  return std::unique_ptr<Proxy>(new Proxy(std::move(impl)));
}

Proxy::Proxy(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Proxy::~Proxy() { Stop(); }

absl::Status Proxy::Start() { return impl_->start_stop.Start(); }

absl::StatusOr<std::vector<RestoredSession>> Proxy::Restore(
    absl::Span<const RestorableSession> sessions) {
  return impl_->restore.Restore(sessions);
}

void Proxy::SetStandby(bool is_standby) {
  impl_->restore.SetStandby(is_standby);
}

bool Proxy::is_standby() const {
  return impl_->context.is_standby.load(std::memory_order_relaxed);
}

void Proxy::Supersede(absl::Span<const uint64_t> session_ids) {
  impl_->restore.Supersede(session_ids);
}

void Proxy::ForgetOwner(const SocketAddress& owner) {
  internal::Hop* const hop = impl_->context.hop.get();
  if (hop != nullptr) hop->peers().Forget(owner);
}

SocketAddress Proxy::forward_address() const {
  const internal::Hop* const hop = impl_->context.hop.get();
  return hop == nullptr || !hop->is_open() ? SocketAddress() : hop->address();
}

void Proxy::Stop() { impl_->start_stop.Stop(); }

void Proxy::Drain() {
  impl_->context.is_draining.store(true, std::memory_order_relaxed);
}

bool Proxy::is_draining() const {
  return impl_->context.is_draining.load(std::memory_order_relaxed);
}

absl::Status Proxy::SetLimits(const ProxyLimits& limits) {
  internal::GateContext& context = impl_->context;
  ProxyOptions options = context.options;
  options.limits = limits;
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  {
    internal::MutexLock lock(&context.limits_mutex);
    context.limits = limits;
    // With the lock, so that two calls leave the same limits everywhere.
    context.admission.SetLimits(limits, internal::SessionsMax(options));
    context.limits_version.fetch_add(1, std::memory_order_release);
  }
  impl_->data_plane.ApplyLimits();
  return absl::OkStatus();
}

void Proxy::Disconnect(const DisconnectTarget& target,
                       absl::AnyInvocable<void(int64_t ended_count)> done) {
  impl_->disconnects.Disconnect(target, std::move(done));
}

bool Proxy::IsAlive(absl::Duration within) const {
  return impl_->data_plane.IsAlive(within);
}

ProxyStats Proxy::GetStats() const { return impl_->handover.GetStats(); }

void Proxy::ForEachSession(
    const std::function<void(const SessionInfo& session)>& visit) const {
  impl_->data_plane.VisitSessions(visit);
}

std::vector<BackendSessionCount> Proxy::CountSessionsByBackend() const {
  return impl_->context.backend_sessions.Counts();
}

const std::vector<SocketAddress>& Proxy::listen_addresses() const {
  return impl_->data_plane.listen_addresses();
}

int64_t Proxy::receive_buffer_bytes() const {
  return impl_->data_plane.receive_buffer_bytes();
}

int64_t Proxy::send_buffer_bytes() const {
  return impl_->data_plane.send_buffer_bytes();
}

SessionLimit Proxy::session_limit() const {
  const internal::GateContext& context = impl_->context;
  const int64_t ports = context.relay_ports.capacity();
  const int64_t sessions_max = context.admission.sessions_max();
  if (ports < sessions_max) return {ports, SessionLimit::Cause::kSourcePorts};
  internal::MutexLock lock(&context.limits_mutex);
  return {sessions_max, context.limits.max_sessions == sessions_max
                            ? SessionLimit::Cause::kSetting
                            : SessionLimit::Cause::kDescriptors};
}

internal::Handover* Proxy::handover() { return &impl_->handover; }

}  // namespace udpgate
