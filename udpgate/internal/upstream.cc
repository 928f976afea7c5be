#include "udpgate/internal/upstream.h"

#include <errno.h>

#include <algorithm>

#include "udpgate/internal/socket_options.h"

namespace udpgate {
namespace internal {
namespace {

// How long a change of the routes may go unnoticed.
constexpr int64_t kSourceLifetimeNanoseconds = 1'000'000'000;
// A shard seldom has more backends than this at a time.
constexpr size_t kKnownSourcesMax = 64;
// Ports that a stranger holds are rare; a row of them means trouble that the
// next client will not have to wait for.
constexpr int kBindAttemptsMax = 64;

SysCallResult ConnectTo(SysCalls* sys_calls, int fd,
                        const SocketAddress& backend) {
  sockaddr_storage storage;
  const socklen_t size = backend.ToSockaddr(backend.family(), &storage);
  return sys_calls->Connect(fd, reinterpret_cast<const sockaddr*>(&storage),
                            size);
}

SysCallResult OpenSocket(SysCalls* sys_calls, int family) {
  return sys_calls->Socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                           0);
}

// What came between bind and connect is from anyone: an old backend that still
// sends to the port, or a stranger.
void DiscardReceived(SysCalls* sys_calls, int fd) {
  constexpr int kDatagramsMax = 1024;
  for (int i = 0; i < kDatagramsMax; ++i) {
    char byte;
    iovec vector = {&byte, sizeof(byte)};
    mmsghdr message{};
    message.msg_hdr.msg_iov = &vector;
    message.msg_hdr.msg_iovlen = 1;
    if (!sys_calls->RecvMmsg(fd, &message, 1, MSG_DONTWAIT).ok()) return;
  }
}

}  // namespace

SocketAddress UpstreamOpener::FindSource(const SocketAddress& backend,
                                         int64_t now_nanoseconds,
                                         Result* failure) {
  const SocketAddress ip = backend.WithPort(0);
  known_sources_.erase(
      std::remove_if(known_sources_.begin(), known_sources_.end(),
                     [&](const KnownSource& known) {
                       return known.expires_nanoseconds <= now_nanoseconds;
                     }),
      known_sources_.end());
  for (const KnownSource& known : known_sources_) {
    if (known.backend == ip) return known.source;
  }
  const SysCallResult opened = OpenSocket(sys_calls_, backend.family());
  if (!opened.ok()) {
    failure->error = opened.error;
    failure->failed_call = "socket";
    return SocketAddress();
  }
  sockaddr_storage storage;
  socklen_t size = sizeof(storage);
  failure->failed_call = "connect";
  SysCallResult result = ConnectTo(sys_calls_, opened.value, backend);
  if (result.ok()) {
    failure->failed_call = "getsockname";
    result = sys_calls_->GetSockName(opened.value, &storage, &size);
  }
  sys_calls_->Close(opened.value);
  failure->error = result.error;
  if (!result.ok()) return SocketAddress();
  const SocketAddress source =
      SocketAddress::FromSockaddr(reinterpret_cast<const sockaddr*>(&storage),
                                  size)
          .WithPort(0);
  if (known_sources_.size() < kKnownSourcesMax) {
    known_sources_.push_back(
        {ip, source, now_nanoseconds + kSourceLifetimeNanoseconds});
  }
  return source;
}

UpstreamOpener::Result UpstreamOpener::Open(const SocketAddress& source,
                                            const SocketAddress& backend,
                                            const RelayOwner& owner,
                                            int64_t receive_buffer_bytes) {
  Result result;
  const SysCallResult opened = OpenSocket(sys_calls_, backend.family());
  if (!opened.ok()) {
    result.error = opened.error;
    result.failed_call = "socket";
    return result;
  }
  BindFreePort(opened.value, source, backend, owner, &result);
  if (result.error != 0) {
    sys_calls_->Close(opened.value);
    return result;
  }
  const SysCallResult connected = ConnectTo(sys_calls_, opened.value, backend);
  if (!connected.ok()) {
    Close(opened.value, result.relay);
    result.error = connected.error;
    result.failed_call = "connect";
    return result;
  }
  DiscardReceived(sys_calls_, opened.value);
  SetReceiveBufferBytes(
      sys_calls_, opened.value,
      std::min(receive_buffer_bytes, kUpstreamBufferBytesMax));
  result.fd = opened.value;
  return result;
}

void UpstreamOpener::Close(int fd, const SocketAddress& relay) {
  // In this order: a port that was given back can be bound at once.
  sys_calls_->Close(fd);
  ports_->GiveBack(relay, relay.port());
}

void UpstreamOpener::BindFreePort(int fd, const SocketAddress& source,
                                  const SocketAddress& backend,
                                  const RelayOwner& owner, Result* result) {
  for (int attempt = 0; attempt < kBindAttemptsMax; ++attempt) {
    const absl::optional<uint16_t> port = ports_->Take(source, owner);
    if (!port.has_value()) {
      result->error = EADDRNOTAVAIL;
      result->failed_call = "no relay port is free";
      return;
    }
    result->relay = source.WithPort(*port);
    result->failed_call = "bind";
    if (result->relay == backend) {
      // A backend on this host that is down: the socket would be connected to
      // itself, and the backend could not start.
      result->error = EADDRINUSE;
    } else {
      sockaddr_storage storage;
      const socklen_t size =
          result->relay.ToSockaddr(source.family(), &storage);
      result->error =
          sys_calls_
              ->Bind(fd, reinterpret_cast<const sockaddr*>(&storage), size)
              .error;
    }
    if (result->error == 0) return;
    ports_->GiveBack(source, *port);
    if (result->error != EADDRINUSE) break;
  }
  if (result->error == EADDRNOTAVAIL) known_sources_.clear();
}

}  // namespace internal
}  // namespace udpgate
