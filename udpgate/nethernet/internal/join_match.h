// Whether a disconnect event names a join. Threads: one at a time for a join.
#ifndef UDPGATE_NETHERNET_INTERNAL_JOIN_MATCH_H_
#define UDPGATE_NETHERNET_INTERNAL_JOIN_MATCH_H_

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/nethernet/internal/join_tag.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {
namespace internal {

inline bool NamesPlayer(const DisconnectTarget& target,
                        const SocketAddress& player) {
  return target.kind() == DisconnectTarget::Kind::kClientIp &&
         target.address().WithPort(0) == player.WithPort(0);
}

inline bool NamesBackend(const DisconnectTarget& target,
                         const SocketAddress& backend,
                         absl::string_view backend_label) {
  switch (target.kind()) {
    case DisconnectTarget::Kind::kBackend:
      return target.address() == backend;
    case DisconnectTarget::Kind::kBackendText:
      return absl::EqualsIgnoreCase(target.text(), backend_label);
    default:
      return false;
  }
}

// Sessions that are about to open count: one may have the relay address of a
// session that is about to end, if the client has moved.
inline bool NamesClient(const DisconnectTarget& target,
                        const JoinClients::Client& client) {
  const bool is_served = client.has_session || client.is_opening;
  switch (target.kind()) {
    case DisconnectTarget::Kind::kClient:
      return is_served && client.address == target.client();
    case DisconnectTarget::Kind::kRelayPort:
      return is_served && client.relay.port() == target.relay_port();
    case DisconnectTarget::Kind::kRelay:
      return is_served && client.relay == target.address();
    default:
      return NamesPlayer(target, client.address);
  }
}

// By the player, the backend, or one of the sessions.
inline bool NamesJoin(const DisconnectTarget& target, const JoinTag& tag) {
  const Join& join = tag.join();
  if (NamesPlayer(target, join.player) ||
      NamesBackend(target, join.backend, join.backend_label) ||
      NamesBackend(target, join.media, join.backend_label)) {
    return true;
  }
  const auto& clients = tag.state.clients.all();
  return std::any_of(clients.begin(), clients.end(),
                     [&](const JoinClients::Client& client) {
                       return NamesClient(target, client);
                     });
}

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_JOIN_MATCH_H_
