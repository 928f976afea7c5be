#include "testing/loopback_peer.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "udpgate/internal/net/sys_calls.h"

namespace udpgate {
namespace test {
namespace {

// Room for a burst of a test that reads later; the kernel may grant less.
constexpr int kBufferBytes = 4 << 20;

LoopbackPeer BindOrAbort(const SocketAddress& address) {
  absl::StatusOr<LoopbackPeer> peer = LoopbackPeer::Bind(address);
  if (!peer.ok()) {
    std::fprintf(stderr, "%s\n", peer.status().ToString().c_str());
    std::abort();
  }
  return *std::move(peer);
}

// False where the deadline passed first.
bool AwaitReady(int fd, short events, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  for (;;) {
    pollfd ready = {fd, events, 0};
    const absl::Duration left = deadline - absl::Now();
    const int64_t milliseconds =
        absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1)));
    const int count =
        ::poll(&ready, 1,
               static_cast<int>(std::clamp<int64_t>(milliseconds, 0, 60000)));
    if (count > 0) return true;
    if (left <= absl::ZeroDuration()) return false;
  }
}

}  // namespace

LoopbackPeer::LoopbackPeer() : LoopbackPeer(SocketAddress::Ipv4Loopback(0)) {}

LoopbackPeer::LoopbackPeer(const SocketAddress& address)
    : LoopbackPeer(BindOrAbort(address)) {}

LoopbackPeer::LoopbackPeer(internal::UniqueFd fd, const SocketAddress& address)
    : fd_(std::move(fd)), address_(address) {}

absl::StatusOr<LoopbackPeer> LoopbackPeer::Bind(const SocketAddress& address) {
  internal::UniqueFd fd(
      ::socket(address.family(), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd.is_open()) return internal::ErrnoToStatus(errno, "socket");
  // Failing to get a large buffer is no failure.
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &kBufferBytes,
               sizeof(kBufferBytes));
  sockaddr_storage storage;
  socklen_t size = address.ToSockaddr(address.family(), &storage);
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&storage), size) != 0) {
    return internal::ErrnoToStatus(errno,
                                   absl::StrCat("bind ", address.ToString()));
  }
  size = sizeof(storage);
  if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&storage), &size) !=
      0) {
    return internal::ErrnoToStatus(errno, "getsockname");
  }
  return LoopbackPeer(
      std::move(fd),
      SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&storage), size));
}

absl::Status LoopbackPeer::Send(const SocketAddress& to,
                                absl::string_view payload) const {
  sockaddr_storage storage;
  const socklen_t size = to.ToSockaddr(address_.family(), &storage);
  for (;;) {
    const ssize_t sent = ::sendto(fd_.get(), payload.data(), payload.size(), 0,
                                  reinterpret_cast<sockaddr*>(&storage), size);
    if (sent >= 0) return absl::OkStatus();
    if (errno == EINTR) continue;
    if (errno != EAGAIN) {
      return internal::ErrnoToStatus(errno,
                                     absl::StrCat("sendto ", to.ToString()));
    }
    AwaitReady(fd_.get(), POLLOUT, kAwaitTimeout);
  }
}

absl::StatusOr<Datagram> LoopbackPeer::TryReceive() {
  // One buffer for each thread. To allocate and clear one for each datagram can
  // take 200 microseconds, and then a backend falls behind the gateway.
  thread_local std::vector<char> buffer(kDatagramBytesMax + 1);
  sockaddr_storage storage;
  socklen_t storage_size = sizeof(storage);
  ssize_t size;
  do {
    size = ::recvfrom(fd_.get(), buffer.data(), buffer.size(), 0,
                      reinterpret_cast<sockaddr*>(&storage), &storage_size);
  } while (size < 0 && errno == EINTR);
  if (size < 0) {
    if (errno == EAGAIN) return absl::NotFoundError("no datagram");
    return internal::ErrnoToStatus(errno, "recvfrom");
  }
  Datagram datagram;
  datagram.payload.assign(buffer.data(), static_cast<size_t>(size));
  datagram.from = SocketAddress::FromSockaddr(
      reinterpret_cast<sockaddr*>(&storage), storage_size);
  return datagram;
}

absl::StatusOr<Datagram> LoopbackPeer::Receive(absl::Duration timeout) {
  if (!AwaitReady(fd_.get(), POLLIN, timeout)) {
    return absl::DeadlineExceededError(
        absl::StrCat("no datagram at ", address_.ToString()));
  }
  return TryReceive();
}

absl::StatusOr<std::string> LoopbackPeer::Ask(const SocketAddress& to,
                                              absl::string_view payload,
                                              absl::Duration timeout) {
  if (absl::Status sent = Send(to, payload); !sent.ok()) return sent;
  absl::StatusOr<Datagram> reply = Receive(timeout);
  if (!reply.ok()) return reply.status();
  return std::move(reply->payload);
}

}  // namespace test
}  // namespace udpgate
