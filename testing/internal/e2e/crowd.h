// Many clients of one gateway and their backend, which notice a lost session
// and measure the longest silence.
//
//   Crowd crowd({gate, 5000});
//   ASSERT_TRUE(crowd.Join([&] { return AllAreConfirmed(); }));
//   crowd.Start();
//   ...                                  // kill the gateway
//   const Crowd::Report report = crowd.Stop();
#ifndef UDPGATE_TESTING_INTERNAL_E2E_CROWD_H_
#define UDPGATE_TESTING_INTERNAL_E2E_CROWD_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "testing/await.h"
#include "testing/loopback_peer.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

// Threads: one, but for `longest_silence` and `lowest_round`: any.
class Crowd {
 public:
  struct Options {
    SocketAddress gate;
    // The clients' addresses, with ports that the kernel chooses.
    SocketAddress client = SocketAddress::Ipv4Loopback(0);
    int client_count = 100;
    // The first ones send often; the others only so often that their sessions
    // stay.
    int fast_count = 50;
    absl::Duration fast_interval = absl::Milliseconds(20);
    absl::Duration slow_interval = absl::Seconds(5);
  };
  struct Report {
    int64_t sent = 0;
    int64_t received = 0;
    // Clients whose datagrams have reached the backend from another source
    // address than at first: their session has ended.
    int moved = 0;
    // Between two replies to one of those that send often.
    absl::Duration longest_silence;
  };

  // The clients' sockets are in the network namespace of this thread.
  explicit Crowd(Options options, LoopbackPeer backend = LoopbackPeer());
  // Stops.
  ~Crowd();
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;

  const SocketAddress& backend_address() const { return backend_.address(); }

  // All play until each has had a reply and `is_enough`, which is asked between
  // rounds, returns true.
  bool Join(const std::function<bool()>& is_enough,
            absl::Duration timeout = kAwaitTimeout);

  // Plays on a thread of its own.
  void Start();
  Report Stop();

  // Since `Start` or the last call.
  absl::Duration TakeLongestSilence();
  // Waits until every client of those that send often has had a reply to a
  // datagram that it sends after this call.
  bool AwaitAllServed(absl::Duration timeout = kAwaitTimeout);

  // Not between Start and Stop: every client asks, and how many are answered
  // from the same source address as at first.
  int CountServed(absl::Duration timeout = kAwaitTimeout);
  // Likewise: the backend sends to every client, unasked, and how many hear it.
  int CountHeard(absl::Duration timeout = kAwaitTimeout);

 private:
  struct Client {
    LoopbackPeer peer;
    std::string relay;  // as the backend saw it first; empty: no reply so far
    int64_t next_number = 0;
    int64_t replied_number = -1;
    int64_t replied_nanoseconds = 0;
    bool has_moved = false;
    bool is_heard = false;
  };

  void Send(size_t index);
  void Receive(size_t index);
  // Of all clients.
  void ReceiveAll();
  void Echo();
  void Play();

  const Options options_;
  LoopbackPeer backend_;
  std::vector<Client> clients_;
  int64_t sent_ = 0;
  int64_t received_ = 0;
  std::atomic<int64_t> longest_silence_nanoseconds_{0};
  // The lowest number that all fast clients have had a reply to.
  std::atomic<int64_t> fast_replied_{-1};
  std::atomic<int64_t> fast_sent_{0};
  std::atomic<bool> is_over_{false};
  std::atomic<bool> is_echo_over_{false};
  std::thread echo_thread_;
  std::thread thread_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_E2E_CROWD_H_
