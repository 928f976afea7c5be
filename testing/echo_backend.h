// A backend of a test: echoes every datagram to where it came from, on a
// thread of its own.
//
//   udpgate::test::EchoBackend lobby("lobby");
//   redis.Command({"SET", "udp_gate:backend", lobby.address().ToString()});
//   EXPECT_EQ(*client.Ask(gate, "hello"), "lobby:hello");
//   EXPECT_EQ(lobby.received().size(), 1u);
//   lobby.Stop();       // now the kernel answers "port unreachable"
//   lobby.Start();      // the same port again
#ifndef UDPGATE_TESTING_ECHO_BACKEND_H_
#define UDPGATE_TESTING_ECHO_BACKEND_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "testing/await.h"
#include "testing/loopback_peer.h"
#include "udpgate/base/export.h"
#include "udpgate/base/mutex.h"
#include "udpgate/base/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

// Threads: `Start`, `Stop` and the destructor on one thread, all else on any.
class UDPGATE_EXPORT EchoBackend {
 public:
  // Listens on 127.0.0.1 and starts to echo. A reply is `name`, a colon and
  // what came; where `name` is empty it is what came, unchanged.
  explicit EchoBackend(absl::string_view name = "");
  // Listens on this address. Port 0: one that is free, outside the range from
  // which the kernel gives ports to others, so that nobody takes it between a
  // `Stop` and a `Start`. Ends the process where the address cannot be bound.
  EchoBackend(absl::string_view name, const SocketAddress& address);
  // Stops.
  ~EchoBackend();
  EchoBackend(const EchoBackend&) = delete;
  EchoBackend& operator=(const EchoBackend&) = delete;

  const std::string& name() const { return name_; }
  // Stays the same over `Stop` and `Start`.
  const SocketAddress& address() const { return address_; }

  // Closes the socket. What was received stays known.
  void Stop();
  // Opens it again on the same address.
  void Start();

  // A silent backend receives, and answers nothing.
  void set_silent(bool silent) { silent_ = silent; }

  // Sends to `to`, unasked, from the backend's address; not while stopped.
  absl::Status Send(const SocketAddress& to, absl::string_view payload) const;

  // What has come, oldest first, with the addresses that it came from: the
  // gateway's relay addresses. At most the first 200,000.
  std::vector<Datagram> received() const;
  size_t received_count() const;  // of all, also beyond the first 200,000
  // Waits until at least `count` datagrams have come. False where they have
  // not within `timeout`.
  bool AwaitReceived(size_t count, absl::Duration timeout = kAwaitTimeout);
  // Each address that a datagram came from, in the order of the first datagram.
  std::vector<SocketAddress> sources() const;

 private:
  void Run();
  void Handle(Datagram datagram);

  const std::string name_;
  SocketAddress address_;
  std::atomic<bool> silent_{false};
  const internal::UniqueFd stop_event_;
  std::unique_ptr<LoopbackPeer> peer_;
  std::thread thread_;

  mutable internal::Mutex mutex_;
  internal::ConditionVariable received_changed_;
  size_t received_count_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Datagram> received_ ABSL_GUARDED_BY(mutex_);
  std::vector<SocketAddress> sources_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<SocketAddress> known_sources_ ABSL_GUARDED_BY(mutex_);
};

// Sends numbered datagrams from `client` to `gate` until one of them comes
// back from the backend `name`. For moments when a loss is no fault, as around
// a disconnect. False where none does within `timeout`.
UDPGATE_EXPORT bool AwaitServedBy(LoopbackPeer* client,
                                  const SocketAddress& gate,
                                  absl::string_view name,
                                  absl::Duration timeout = kAwaitTimeout);

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_ECHO_BACKEND_H_
