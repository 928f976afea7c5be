// A gateway of NetherNet players without sockets: the real join table and
// resolver, and what a Proxy does with their results.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_NETHERNET_GATE_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_NETHERNET_GATE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/clock.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/nethernet/join_table.h"
#include "udpgate/nethernet/nethernet_resolver.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {
namespace simulation {

struct GateSession {
  std::shared_ptr<SessionTag> tag;
  SocketAddress relay;
  SocketAddress backend;
  std::string label;
};

// Threads: one.
class NetherNetGate {
 public:
  // Hears of sessions.
  struct Listener {
    std::function<void(const SocketAddress& client, const GateSession&,
                       const ResolveResult&)>
        opened;
    std::function<void(const SocketAddress& client, const GateSession&)> ended;
    // A client of this join waits for its session.
    std::function<void(const SessionTag&)> claimed;
  };
  enum class Fate { kForwarded, kDropped, kHeld };
  struct Outcome {
    Fate fate;
    DropReason reason = DropReason::kSessionEnded;  // if kDropped
    bool is_known_player = false;
  };

  // `next_port` is shared by the processes of a takeover.
  NetherNetGate(const nethernet::JoinTableOptions& options, const Clock* clock,
                std::shared_ptr<BackendResolver> inner, Listener listener,
                int* next_port);

  nethernet::JoinTable* joins() { return joins_.get(); }

  // A datagram of a client. A new session opens only with `Open`.
  Outcome Receive(const SocketAddress& client, const std::string& datagram);
  // The result that the client waits for is handled now.
  void Open(const SocketAddress& client);
  void End(const SocketAddress& client, EndReason reason);
  void Disconnect(const DisconnectTarget& target);
  // These sessions end by a disconnect.
  void EndDisconnected(const std::vector<SocketAddress>& clients);
  // Takes the sessions of `old`, which must not be used afterwards.
  void TakeOver(NetherNetGate* old);

  const std::map<std::string, SocketAddress>& opening_clients() const {
    return opening_clients_;
  }
  bool IsOpening(const SocketAddress& client) const {
    return openings_.count(client.ToString()) > 0;
  }
  // Null if there is none.
  const GateSession* Find(const SocketAddress& client) const;
  std::vector<SocketAddress> clients() const;

 private:
  struct Opening {
    ResolveResult result;
    std::string datagram;
  };

  absl::optional<ResolveResult> Ask(const SocketAddress& client,
                                    const std::string& datagram);
  bool IsNamed(const SocketAddress& client, const GateSession& session,
               const DisconnectTarget& target) const;
  SocketAddress RelayFor(const ResolveResult& result);

  const std::shared_ptr<nethernet::JoinTable> joins_;
  const std::shared_ptr<nethernet::NetherNetResolver> resolver_;
  const Listener listener_;
  int* const next_port_;
  // By the client's address as text, so that a seed repeats.
  std::map<std::string, GateSession> sessions_;
  std::map<std::string, SocketAddress> session_clients_;
  std::map<std::string, Opening> openings_;
  std::map<std::string, SocketAddress> opening_clients_;
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_NETHERNET_GATE_H_
