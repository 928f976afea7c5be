#include "testing/internal/simulation/fleet_gate.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "udpgate/proxy_stats.h"
#include "udpgate/session_observer.h"
#include "udpgate/store/internal/store_resolver.h"

namespace udpgate {
namespace internal {
namespace simulation {

constexpr absl::Duration kResolveTimeout = absl::Seconds(3);

class FleetGate::Source final : public store::internal::RecordSource {
 public:
  explicit Source(store::internal::CoreHost* host) : host_(host) {}

  void Ask(const SocketAddress& client, absl::Duration timeout,
           store::internal::Newcomers::Answer answer) override {
    host_->SetTime();
    host_->core()->Ask(client, timeout, std::move(answer));
  }
  void OnDisconnect(const DisconnectTarget& target) override {
    host_->SetTime();
    host_->core()->OnDisconnect(target);
  }

 private:
  store::internal::CoreHost* const host_;
};

FleetGate::FleetGate(Parts parts)
    : clock_(parts.clock),
      connection_(std::move(parts.connection)),
      host_(std::move(parts.options), connection_, parts.clock, parts.local,
            parts.run),
      resolver_(std::make_shared<store::internal::StoreResolver>(
          std::move(parts.inner), std::make_shared<Source>(&host_),
          absl::ZeroDuration())),
      peer_(std::move(parts.peer)) {
  host_.clock_offset = parts.clock_offset;
}

void FleetGate::TakeOver(FleetGate* old) {
  old->host_.SetTime();
  host_.SetTime();
  (void)host_.core()->ContinueRun(old->host_.core()->ExportRun());
  gateway().sessions = old->gateway().sessions;
  gateway().next_id = old->gateway().next_id;
  gateway().next_relay_port = old->gateway().next_relay_port;
  gateway().in_standby = old->gateway().in_standby;
  host_.core()->SetGateway(&gateway());
  host_.core()->OnServing();
  host_.Settle();
}

const FleetGate::Session* FleetGate::Receive(const SocketAddress& client,
                                             const FleetGate** at) {
  *at = this;
  if (gateway().in_standby) return nullptr;
  if (const Session* const session = gateway().Find(client)) return session;
  if (const Session* const session = Forward(client, at)) return session;
  if (pending_.count(client.ToString()) == 0) Resolve(client);
  if (const Session* const session = gateway().Find(client)) return session;
  return Forward(client, at);
}

const FleetGate::Session* FleetGate::Forward(const SocketAddress& client,
                                             const FleetGate** at) {
  const auto forwarded = forwarded_.find(client.ToString());
  if (forwarded == forwarded_.end()) return nullptr;
  FleetGate* const owner = peer_(forwarded->second);
  *at = owner == nullptr ? this : owner;
  if (owner != nullptr) {
    if (const Session* const session = owner->gateway().Find(client)) {
      return session;
    }
    refused_[client.ToString()] = forwarded->second;
  }
  forwarded_.erase(forwarded);
  *at = this;
  return nullptr;
}

void FleetGate::Resolve(const SocketAddress& client) {
  const uint64_t number = ++resolve_count_;
  pending_[client.ToString()] = {client, clock_->NowNanoseconds(), number};
  ResolveRequest request;
  request.client = client;
  request.timeout = kResolveTimeout;
  resolver_->Resolve(request, [this, is_alive = is_alive_, client, number](
                                  const absl::StatusOr<ResolveResult>& result) {
    if (*is_alive) Open(client, number, result);
  });
}

void FleetGate::Open(const SocketAddress& client, uint64_t number,
                     const absl::StatusOr<ResolveResult>& result) {
  const auto pending = pending_.find(client.ToString());
  if (pending == pending_.end() || pending->second.number != number) return;
  // A session begins with its datagram, not with its backend.
  const absl::Duration waited = absl::Nanoseconds(
      clock_->NowNanoseconds() - pending->second.since_nanoseconds);
  pending_.erase(pending);
  if (!result.ok() || gateway().in_standby ||
      gateway().Find(client) != nullptr) {
    return;
  }
  if (result->forward_to.is_valid() &&
      refused_[client.ToString()] != result->forward_to) {
    forwarded_[client.ToString()] = result->forward_to;
    return;
  }
  refused_.erase(client.ToString());
  forwarded_.erase(client.ToString());
  SessionInfo info;
  info.client = client;
  info.local = gateway().local();
  info.backend = result->backend;
  info.label = result->label;
  info.relay = result->relay.is_valid() ? result->relay : gateway().NextRelay();
  info.state = SessionState::kUnconfirmed;
  gateway().Add(info, waited + result->age);
  if (result->is_client_proven) Confirm(client);
}

void FleetGate::Confirm(const SocketAddress& client) {
  Session* const session = gateway().Find(client);
  if (session == nullptr || session->info.state == SessionState::kConfirmed) {
    return;
  }
  session->info.state = SessionState::kConfirmed;
  host_.Tell(SessionEvent::Kind::kConfirmed, *session, {});
}

void FleetGate::End(const SocketAddress& client, EndReason reason,
                    bool is_told) {
  if (gateway().Find(client) == nullptr) return;
  if (!is_told) ++gateway().dropped_events;
  host_.End(client, reason, is_told);
}

void FleetGate::Disconnect(DisconnectTarget target, absl::Duration age) {
  target.set_age(age);
  resolver_->HandleDisconnect(target);
  const auto is_named = [&target](const Session& session) {
    switch (target.kind()) {
      case DisconnectTarget::Kind::kClient:
        return session.info.client == target.client();
      case DisconnectTarget::Kind::kBackend:
        return session.info.backend == target.address();
      default:
        return false;
    }
  };
  std::vector<SocketAddress> ended;
  for (const auto& session : gateway().sessions) {
    if (is_named(session.second) && gateway().AgeOf(session.second) >= age) {
      ended.push_back(session.second.info.client);
    }
  }
  for (const SocketAddress& client : ended) {
    End(client, EndReason::kDisconnected, /*is_told=*/true);
  }
  // Those that wait are resolved again.
  std::vector<SocketAddress> again;
  for (const auto& pending : pending_) {
    if (target.kind() != DisconnectTarget::Kind::kClient ||
        pending.second.client == target.client()) {
      again.push_back(pending.second.client);
    }
  }
  for (const SocketAddress& client : again) Resolve(client);
}

void FleetGate::StopAll() {
  std::vector<SocketAddress> clients;
  for (const auto& session : gateway().sessions) {
    clients.push_back(session.second.info.client);
  }
  for (const SocketAddress& client : clients) {
    End(client, EndReason::kStopped, /*is_told=*/true);
  }
}

void FleetGate::ExpirePending(absl::Duration timeout) {
  const int64_t before =
      clock_->NowNanoseconds() - absl::ToInt64Nanoseconds(timeout);
  for (auto i = pending_.begin(); i != pending_.end();) {
    i = i->second.since_nanoseconds <= before ? pending_.erase(i)
                                              : std::next(i);
  }
}

absl::optional<int64_t> FleetGate::oldest_pending() const {
  absl::optional<int64_t> oldest;
  for (const auto& pending : pending_) {
    oldest = std::min(oldest.value_or(pending.second.since_nanoseconds),
                      pending.second.since_nanoseconds);
  }
  return oldest;
}

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
