// The client addresses of one join, each with the source address and port that
// the gateway uses for it towards the backend.
#ifndef UDPGATE_NETHERNET_INTERNAL_JOIN_CLIENTS_H_
#define UDPGATE_NETHERNET_INTERNAL_JOIN_CLIENTS_H_

#include <cstdint>
#include <vector>

#include "absl/types/optional.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {
namespace internal {

// A backend's ICE agent may answer a few addresses only, and some take no new
// one after the connection was made. So each client address keeps its relay
// address, and a client whose network gave it another address takes the relay
// address along.
//
// Such a client is known by its IP address and by the priority of its checks,
// which differs between the network interfaces of one host. If the old address
// turns out to be in use as well, both are paths of their own from then on: a
// network may translate one socket to a port for each destination.
//
// Threads: one at a time.
class JoinClients {
 public:
  // At most one address has both.
  struct Client {
    SocketAddress address;
    SocketAddress relay;  // invalid if none is known
    absl::optional<uint32_t> priority;
    bool has_session = false;
    bool is_opening = false;  // a place was claimed, and no session came so far
    // Another address has taken the relay address, at this time.
    absl::optional<int64_t> moved_nanoseconds;
    // It is known not to have moved from or to another address.
    bool is_path_of_its_own = false;
    int64_t used_nanoseconds = 0;
  };
  // What the session of a client gets.
  struct Place {
    SocketAddress relay;       // invalid: any
    SocketAddress moved_from;  // invalid: none; else it has a session
  };

  // True if `Claim` would return a place.
  bool HasRoom(const SocketAddress& address, int clients_max,
               int64_t now_nanoseconds) const;

  // Nullopt if `clients_max` addresses have sessions, or claimed a place just
  // now. A further one replaces the one of the others that was used the longest
  // time ago.
  absl::optional<Place> Claim(const SocketAddress& address,
                              absl::optional<uint32_t> priority,
                              int clients_max, int64_t now_nanoseconds);

  // The session of this address has an upstream socket, maybe not its first
  // one.
  void Begin(const SocketAddress& address, const SocketAddress& relay,
             int64_t now_nanoseconds);
  void End(const SocketAddress& address, int64_t now_nanoseconds);

  // From another process, without sessions.
  void Adopt(const Client& client);

  int session_count() const { return session_count_; }
  const std::vector<Client>& all() const { return clients_; }

 private:
  Client* Find(const SocketAddress& address);
  // Null if there is no room.
  Client* Add(const SocketAddress& address, int clients_max,
              int64_t now_nanoseconds);
  // From which address this client has moved, or null.
  Client* FindOrigin(const Client& client);
  void MakePathsOfTheirOwn(const Client& client);

  std::vector<Client> clients_;
  int session_count_ = 0;
};

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_JOIN_CLIENTS_H_
