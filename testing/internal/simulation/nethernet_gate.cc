#include "testing/internal/simulation/nethernet_gate.h"

#include <algorithm>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "testing/internal/simulation/payload.h"

namespace udpgate {
namespace internal {
namespace simulation {

NetherNetGate::NetherNetGate(const nethernet::JoinTableOptions& options,
                             const Clock* clock,
                             std::shared_ptr<BackendResolver> inner,
                             Listener listener, int* next_port)
    : joins_(std::make_shared<nethernet::JoinTable>(options, clock)),
      resolver_(std::make_shared<nethernet::NetherNetResolver>(std::move(inner),
                                                               joins_)),
      listener_(std::move(listener)),
      next_port_(next_port) {}

const GateSession* NetherNetGate::Find(const SocketAddress& client) const {
  const auto entry = sessions_.find(client.ToString());
  return entry == sessions_.end() ? nullptr : &entry->second;
}

std::vector<SocketAddress> NetherNetGate::clients() const {
  std::vector<SocketAddress> clients;
  for (const auto& [text, client] : session_clients_) clients.push_back(client);
  return clients;
}

absl::optional<ResolveResult> NetherNetGate::Ask(const SocketAddress& client,
                                                 const std::string& datagram) {
  ResolveRequest request;
  request.client = client;
  request.first_datagram = datagram;
  absl::optional<ResolveResult> found;
  resolver_->Resolve(request, [&](absl::StatusOr<ResolveResult> result) {
    if (result.ok()) found = *std::move(result);
  });
  if (found.has_value() && found->tag != nullptr) {
    listener_.claimed(*found->tag);
  }
  return found;
}

NetherNetGate::Outcome NetherNetGate::Receive(const SocketAddress& client,
                                              const std::string& datagram) {
  if (Find(client) != nullptr) return {Fate::kForwarded};
  if (IsOpening(client)) return {Fate::kHeld};
  const Screening screening = resolver_->Screen(client, datagram);
  if (screening.drop.has_value()) return {Fate::kDropped, *screening.drop};
  absl::optional<ResolveResult> result = Ask(client, datagram);
  if (!result.has_value()) {
    return {Fate::kDropped, DropReason::kNoBackend, screening.is_known_player};
  }
  openings_[client.ToString()] = {*std::move(result), datagram};
  opening_clients_[client.ToString()] = client;
  return {Fate::kHeld, DropReason::kSessionEnded, screening.is_known_player};
}

// As RelayPorts: the wanted one if no session has it.
SocketAddress NetherNetGate::RelayFor(const ResolveResult& result) {
  const bool is_taken = std::any_of(
      sessions_.begin(), sessions_.end(),
      [&](const auto& entry) { return entry.second.relay == result.relay; });
  if (result.relay.is_valid() && !is_taken) return result.relay;
  return Address("10.0.0.1", (*next_port_)++);
}

void NetherNetGate::Open(const SocketAddress& client) {
  const auto entry = openings_.find(client.ToString());
  if (entry == openings_.end()) return;
  const ResolveResult result = std::move(entry->second.result);
  openings_.erase(entry);
  opening_clients_.erase(client.ToString());
  if (result.moved_from.is_valid()) {
    const GateSession* const old = Find(result.moved_from);
    if (old != nullptr && old->tag == result.tag) {
      End(result.moved_from, EndReason::kClientMoved);
    }
  }
  GateSession& session = sessions_[client.ToString()];
  session = {result.tag, RelayFor(result), result.backend, result.label};
  session_clients_[client.ToString()] = client;
  listener_.opened(client, session, result);
  if (session.tag != nullptr) session.tag->OnBegin(client, session.relay);
}

void NetherNetGate::End(const SocketAddress& client, EndReason reason) {
  const auto entry = sessions_.find(client.ToString());
  if (entry == sessions_.end()) return;
  const GateSession session = std::move(entry->second);
  sessions_.erase(entry);
  session_clients_.erase(client.ToString());
  listener_.ended(client, session);
  if (session.tag != nullptr) session.tag->OnEnd(client, session.relay, reason);
}

bool NetherNetGate::IsNamed(const SocketAddress& client,
                            const GateSession& session,
                            const DisconnectTarget& target) const {
  switch (target.kind()) {
    case DisconnectTarget::Kind::kClient:
      return client == target.client();
    case DisconnectTarget::Kind::kClientIp:
      return client.WithPort(0) == target.address();
    case DisconnectTarget::Kind::kRelayPort:
      return session.relay.port() == target.relay_port();
    case DisconnectTarget::Kind::kRelay:
      return session.relay == target.address();
    case DisconnectTarget::Kind::kBackend:
      return session.backend == target.address();
    case DisconnectTarget::Kind::kBackendText:
      return absl::EqualsIgnoreCase(session.label, target.text());
  }
  return false;
}

void NetherNetGate::Disconnect(const DisconnectTarget& target) {
  std::vector<SocketAddress> ended = resolver_->HandleDisconnect(target);
  for (const SocketAddress& client : clients()) {
    if (IsNamed(client, *Find(client), target)) ended.push_back(client);
  }
  for (const auto& [text, client] : opening_clients_) {
    if (IsNamed(client, GateSession(), target)) ended.push_back(client);
  }
  EndDisconnected(ended);
}

void NetherNetGate::EndDisconnected(const std::vector<SocketAddress>& clients) {
  for (const SocketAddress& client : clients) {
    End(client, EndReason::kDisconnected);
    const auto entry = openings_.find(client.ToString());
    if (entry == openings_.end()) continue;
    // A client that waits for its backend is resolved again.
    absl::optional<ResolveResult> again = Ask(client, entry->second.datagram);
    if (again.has_value()) {
      entry->second.result = *std::move(again);
    } else {
      openings_.erase(entry);
      opening_clients_.erase(client.ToString());
    }
  }
}

void NetherNetGate::TakeOver(NetherNetGate* old) {
  for (auto& [text, session] : old->sessions_) {
    const SocketAddress client = old->session_clients_.at(text);
    std::shared_ptr<SessionTag> tag;
    if (session.tag != nullptr) {
      const auto plain =
          std::make_shared<SessionTag>(session.tag->key(), session.tag->text());
      tag = resolver_->RestoreTag(*plain);
      if (tag == nullptr) tag = plain;
    }
    sessions_[text] = {tag, session.relay, session.backend, session.label};
    session_clients_[text] = client;
    if (tag != nullptr) tag->OnBegin(client, session.relay);
  }
  old->sessions_.clear();
  old->openings_.clear();
}

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
