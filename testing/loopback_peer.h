// A UDP socket of a test: a client of the gateway, or a backend that the test
// plays by hand.
//
//   udpgate::test::LoopbackPeer client;
//   client.Send(proxy->listen_addresses()[0], "hello");
//   absl::StatusOr<Datagram> reply = client.Receive();
//
// For a backend that answers by itself see echo_backend.h.
#ifndef UDPGATE_TESTING_LOOPBACK_PEER_H_
#define UDPGATE_TESTING_LOOPBACK_PEER_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "testing/await.h"
#include "udpgate/base/export.h"
#include "udpgate/base/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

// The most that a UDP datagram over IPv4 carries: 65535 less 20 bytes of IP
// header (RFC 791) and 8 of UDP (RFC 768).
inline constexpr int kDatagramBytesMax = 65507;

struct UDPGATE_EXPORT Datagram {
  std::string payload;
  SocketAddress from;
};

// Threads: `Send` from any thread, `Receive` and `TryReceive` from one thread
// at a time.
class UDPGATE_EXPORT LoopbackPeer {
 public:
  // Binds 127.0.0.1 with a port that the kernel chooses. Ends the process with
  // a message where that fails.
  LoopbackPeer();
  // Binds this address.
  explicit LoopbackPeer(const SocketAddress& address);
  // The same, but a failure is a value: the port may be taken.
  static absl::StatusOr<LoopbackPeer> Bind(const SocketAddress& address);

  LoopbackPeer(LoopbackPeer&&) = default;
  LoopbackPeer& operator=(LoopbackPeer&&) = default;

  // The bound address, with the port that the kernel chose.
  const SocketAddress& address() const { return address_; }
  // For poll(2). Non-blocking; owned by the peer.
  int fd() const { return fd_.get(); }

  // Sends one datagram. Waits for room in the socket's buffer.
  absl::Status Send(const SocketAddress& to, absl::string_view payload) const;

  // The next datagram. DeadlineExceeded where none comes within `timeout`.
  absl::StatusOr<Datagram> Receive(absl::Duration timeout = kAwaitTimeout);

  // The next datagram that is here already, else NotFound.
  absl::StatusOr<Datagram> TryReceive();

  // `Send`, and the payload of the next datagram that comes back within
  // `timeout`.
  absl::StatusOr<std::string> Ask(const SocketAddress& to,
                                  absl::string_view payload,
                                  absl::Duration timeout = kAwaitTimeout);

 private:
  LoopbackPeer(internal::UniqueFd fd, const SocketAddress& address);

  internal::UniqueFd fd_;
  SocketAddress address_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_LOOPBACK_PEER_H_
