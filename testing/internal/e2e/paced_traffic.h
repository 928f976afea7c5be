// Traffic at a steady rate, on threads of its own, while a test does something
// to the gateway: players that are live, and newcomers.
//
//   PacedPlayers players(gate.address(), "lobby", 20);
//   Newcomers newcomers(gate.address(), "lobby", 100);
//   redis.Restart();
//   ASSERT_TRUE(newcomers.AwaitServed(50));
//   newcomers.Stop();
//   players.Stop();
//   EXPECT_EQ(players.received(), players.sent());
#ifndef UDPGATE_TESTING_INTERNAL_E2E_PACED_TRAFFIC_H_
#define UDPGATE_TESTING_INTERNAL_E2E_PACED_TRAFFIC_H_

#include <atomic>
#include <cstdint>
#include <list>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

// Clients that send numbers, each at its own pace, and want each back from
// `name`, in order. Threads: `Stop` one, all else any.
class PacedPlayers {
 public:
  // Each gets its session first, which is not counted. Then each sends
  // `per_second` datagrams a second.
  PacedPlayers(const SocketAddress& gate, std::string name, int count,
               int per_second = 10);
  // Stops, and waits for what is on its way.
  ~PacedPlayers() { Stop(); }

  // The counters are final then.
  void Stop();
  // Waits until each has sent so many more.
  bool AwaitRounds(int64_t count);

  int64_t sent() const { return sent_; }
  int64_t received() const { return received_; }
  // Replies that were not the next one, or came from another backend.
  int64_t disordered() const { return disordered_; }

 private:
  void Play();
  void Receive(size_t i);

  const SocketAddress gate_;
  const std::string name_;
  const int per_second_;
  std::vector<LoopbackPeer> clients_;
  std::vector<int64_t> expected_;  // of the thread
  std::atomic<bool> is_over_{false};
  std::atomic<int64_t> round_{0};
  std::atomic<int64_t> sent_{0};
  std::atomic<int64_t> received_{0};
  std::atomic<int64_t> disordered_{0};
  std::thread thread_;
};

// New clients, each of which sends one datagram and no second one. Threads:
// `Stop` one, all else any.
class Newcomers {
 public:
  // `per_second` of them a second. One fails if no reply of `name` is there
  // within `patience`.
  Newcomers(const SocketAddress& gate, std::string name, int per_second,
            absl::Duration patience = absl::Seconds(10));
  ~Newcomers() { Stop(); }

  // Waits until each has its reply or has failed.
  void Stop();
  // Waits until so many of those that come from now on are served.
  bool AwaitServed(int count);

  int served() const;
  int failed() const;
  absl::Duration longest_wait() const;
  // When the first one of those that came at `since` or later had its reply.
  absl::optional<absl::Time> FirstServed(absl::Time since) const;

 private:
  struct Client {
    LoopbackPeer peer;
    std::string payload;
    absl::Time came;
  };
  struct Service {
    absl::Time came;
    absl::Time served;
  };

  void Run();
  void SendNext();
  // Takes the replies that are there.
  void Receive();

  const SocketAddress gate_;
  const std::string name_;
  const absl::Duration interval_;
  const absl::Duration patience_;
  std::list<Client> waiting_;  // of the thread
  int count_ = 0;              // of the thread
  std::atomic<bool> is_over_{false};
  mutable internal::Mutex mutex_;
  std::vector<Service> services_ ABSL_GUARDED_BY(mutex_);
  int failed_ ABSL_GUARDED_BY(mutex_) = 0;
  std::thread thread_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_E2E_PACED_TRAFFIC_H_
