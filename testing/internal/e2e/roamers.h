// Players whose datagrams the network sends to another gateway while they play,
// and their backends.
//
//   RoamingBackend lobby("lobby");
//   Roamers players({gate});
//   ASSERT_TRUE(players.Join(0, players.size(), [&] { return HasRecords(); }));
//   const Roamers::Report report = players.Play([&] {
//     ...                                  // change the route
//     EXPECT_TRUE(players.AwaitAllServed());
//   });
#ifndef UDPGATE_TESTING_INTERNAL_E2E_ROAMERS_H_
#define UDPGATE_TESTING_INTERNAL_E2E_ROAMERS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "testing/await.h"
#include "testing/loopback_peer.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

// What a backend does when a player's datagrams come from a new address.
enum class Protocol : uint8_t {
  // As WireGuard: replies go to where the last datagram came from.
  kWireGuard,
  // As QUIC (RFC 9000, section 9): replies go to where the datagram with the
  // highest number came from, but at most three for each datagram from there
  // until the player has answered a challenge, and none after twenty.
  kQuic,
  // As ICE (RFC 8445): replies go to where the last check of connectivity came
  // from; every fifth datagram is one.
  kIce,
  // As RakNet: the player is known by the address, and any other is a
  // stranger who gets no reply.
  kRakNet,
};
const char* ProtocolName(Protocol protocol);

// A backend that knows its players by an id in each datagram.
//
// Threads: one. It replies on a thread of its own.
class RoamingBackend {
 public:
  explicit RoamingBackend(std::string name, LoopbackPeer peer = LoopbackPeer());
  ~RoamingBackend();
  RoamingBackend(const RoamingBackend&) = delete;
  RoamingBackend& operator=(const RoamingBackend&) = delete;

  const SocketAddress& address() const { return peer_.address(); }

 private:
  struct Connection {
    SocketAddress address;  // where replies go
    int64_t highest_number = -1;
    int address_changes = 0;
    int64_t challenge = 0;        // 0: the address is validated
    int unvalidated_replies = 0;  // since the challenge
  };
  void Serve();
  void Handle(const Datagram& datagram);

  const std::string name_;
  LoopbackPeer peer_;
  std::map<int, Connection> connections_;
  int64_t challenge_ = 0;
  std::atomic<bool> is_over_{false};
  std::thread thread_;
};

// Threads: one, but for `AwaitAllServed`: any.
class Roamers {
 public:
  struct Options {
    SocketAddress gate;
    // The players' address, with ports that the kernel chooses.
    SocketAddress client = SocketAddress::Ipv4Loopback(0);
    std::vector<std::pair<Protocol, int>> counts;
    // Between two datagrams of a player.
    absl::Duration interval = absl::Milliseconds(100);
  };
  struct Loss {
    int players = 0;
    int64_t sent = 0;
    int64_t lost = 0;  // datagrams without a reply
    // How often a backend has seen a player come from another address.
    int address_changes = 0;
    // Between two replies to one player.
    absl::Duration longest_silence;
  };
  struct Report {
    std::map<Protocol, Loss> losses;
    // Players who have had a reply from another backend than at first.
    int strayed = 0;

    Loss Total() const;
    // A line for each protocol.
    std::string ToString() const;
  };

  // The players' sockets are in the network namespace of this thread.
  explicit Roamers(Options options);
  Roamers(const Roamers&) = delete;
  Roamers& operator=(const Roamers&) = delete;

  size_t size() const { return players_.size(); }

  // These play until each has had a reply and `is_enough` returns true.
  bool Join(size_t begin, size_t end, const std::function<bool()>& is_enough,
            absl::Duration timeout = absl::Seconds(60));

  // All play until `body` returns.
  Report Play(const std::function<void()>& body);

  // In the body of Play: waits until each player has had a reply to a datagram
  // that was sent after this call.
  bool AwaitAllServed(absl::Duration timeout = kAwaitTimeout);

 private:
  struct Player {
    Player(Protocol its_protocol, int its_id, const SocketAddress& address)
        : protocol(its_protocol), id(its_id), peer(address) {}

    Protocol protocol;
    int id;
    LoopbackPeer peer;
    std::string backend;  // the first that replied
    bool has_strayed = false;
    std::vector<int64_t> sent_nanoseconds;  // by number
    std::vector<bool> has_reply;            // by number
    int64_t challenge = 0;                  // to be answered
    int address_changes = 0;
    // When the newest datagram that has a reply was sent, and when the last
    // reply came.
    int64_t served_nanoseconds = 0;
    int64_t reply_nanoseconds = 0;
    int64_t longest_silence_nanoseconds = 0;
    // At the begin of Play.
    size_t first_number = 0;
    int first_address_changes = 0;
  };
  void Send(Player* player);
  void ReceiveAll();
  void Receive(Player* player, const std::string& reply);
  void Run();
  bool HaveAllReplies() const;
  Report MakeReport() const;

  const Options options_;
  std::vector<Player> players_;
  std::atomic<bool> is_over_{false};
  // The lowest `served_nanoseconds`.
  std::atomic<int64_t> all_served_nanoseconds_{0};
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_E2E_ROAMERS_H_
