#include "udpgate/internal/session/upstream.h"

#include <errno.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "udpgate/internal/net/error_queue.h"
#include "udpgate/internal/net/socket_options.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace internal {
namespace {

// How long a cached route is used.
constexpr int64_t kSourceLifetimeNanoseconds = 1'000'000'000;
// A shard seldom has more backends than this at a time.
constexpr size_t kKnownSourcesMax = 64;
// The same for source addresses that cannot be used; the next client continues
// with others.
constexpr size_t kUselessSourcesMax = 8;

SysCallResult ConnectTo(SysCalls* sys_calls, int fd,
                        const SocketAddress& backend) {
  sockaddr_storage storage;
  const socklen_t size = backend.ToSockaddr(backend.family(), &storage);
  return sys_calls->Connect(fd, reinterpret_cast<const sockaddr*>(&storage),
                            size);
}

SysCallResult BindTo(SysCalls* sys_calls, int fd,
                     const SocketAddress& address) {
  sockaddr_storage storage;
  const socklen_t size = address.ToSockaddr(address.family(), &storage);
  return sys_calls->Bind(fd, reinterpret_cast<const sockaddr*>(&storage), size);
}

SysCallResult OpenSocket(SysCalls* sys_calls, int family) {
  return sys_calls->Socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                           0);
}

// Errors of bind(2) and connect(2) that depend on the source address: it was
// removed from the host, or has no route to the backend.
bool IsOfSource(int error) {
  return error == EADDRNOTAVAIL || error == EINVAL || error == ENETUNREACH ||
         error == EHOSTUNREACH || error == EACCES;
}

// Discards what arrived between bind and connect, since it may be from any
// sender. Returns an errno if that fails.
int DiscardReceived(SysCalls* sys_calls, int fd) {
  constexpr int kDatagramsMax = 1024;
  constexpr int kErrorsMax = 4;
  int error_count = 0;
  for (int i = 0; i < kDatagramsMax; ++i) {
    char byte;
    iovec vector = {&byte, sizeof(byte)};
    mmsghdr message{};
    message.msg_hdr.msg_iov = &vector;
    message.msg_hdr.msg_iovlen = 1;
    const SysCallResult received =
        sys_calls->RecvMmsg(fd, &message, 1, MSG_DONTWAIT);
    if (received.error == EAGAIN) return 0;
    if (!received.ok() && ++error_count == kErrorsMax) return received.error;
  }
  return 0;
}

}  // namespace

absl::Status CheckBindAddresses(SysCalls* sys_calls,
                                absl::Span<const SocketAddress> addresses,
                                bool may_be_absent) {
  for (const SocketAddress& address : addresses) {
    const SysCallResult opened = OpenSocket(sys_calls, address.family());
    if (!opened.ok()) return ErrnoToStatus(opened.error, "socket");
    const SysCallResult bound =
        BindTo(sys_calls, opened.value, address.WithPort(0));
    sys_calls->Close(opened.value);
    if (may_be_absent && bound.error == EADDRNOTAVAIL) continue;
    if (!bound.ok()) {
      const absl::Status status = ErrnoToStatus(
          bound.error, absl::StrCat("bind ", address.IpToString()));
      return OptionError(status.code(), "upstream_bind_addresses",
                         absl::StrCat(": ", status.message()));
    }
  }
  return absl::OkStatus();
}

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
  const bool is_without_route = IsOfSource(result.error);
  if (result.ok()) {
    failure->failed_call = "getsockname";
    result = sys_calls_->GetSockName(opened.value, &storage, &size);
  }
  sys_calls_->Close(opened.value);
  if (is_without_route && ports_->HasBindAddress(backend.family())) {
    return backend.is_ipv4() ? SocketAddress::Ipv4Any(0)
                             : SocketAddress::Ipv6Any(0);
  }
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

void UpstreamOpener::ForgetSources() {
  known_sources_.clear();
  checked_sources_.clear();
}

bool UpstreamOpener::IsSourceGone(const SocketAddress& source) {
  for (const CheckedSource& checked : checked_sources_) {
    if (checked.source == source) return checked.is_gone;
  }
  const SysCallResult opened = OpenSocket(sys_calls_, source.family());
  if (!opened.ok()) return false;
  const bool is_gone =
      BindTo(sys_calls_, opened.value, source).error == EADDRNOTAVAIL;
  sys_calls_->Close(opened.value);
  if (checked_sources_.size() < kKnownSourcesMax) {
    checked_sources_.push_back({source, is_gone});
  }
  return is_gone;
}

// Errors of socket(2), and of epoll_ctl(2) if the user's watches run out.
bool UpstreamOpener::Result::LacksRoom() const {
  return is_without_port || error == EMFILE || error == ENFILE ||
         error == ENOMEM || error == ENOBUFS || error == ENOSPC;
}

bool UpstreamOpener::IsOfUse(const SocketAddress& relay,
                             const SocketAddress& source) const {
  if (relay.family() != source.family()) return false;
  return ports_->HasBindAddress(source.family()) ||
         relay.WithPort(0) == source.WithPort(0);
}

UpstreamOpener::Result UpstreamOpener::Open(
    const SocketAddress& source, const SocketAddress& backend,
    const RelayOwner& owner, int64_t receive_buffer_bytes,
    int64_t now_nanoseconds, bool takes_busy, int attempt_count) {
  Result result;
  result.error = EADDRNOTAVAIL;
  result.failed_call = "no relay port is free";
  const size_t source_count = ports_->SourceCount(backend.family());
  std::vector<SocketAddress> avoided;
  for (int attempt = attempt_count; attempt < kAttemptsMax; ++attempt) {
    result.attempt_count = attempt;
    // Busy ports are tried again after a while, all at about the same time; no
    // new client may be lost over that.
    const absl::optional<SocketAddress> relay =
        ports_->Take(source, owner, now_nanoseconds, avoided,
                     /*is_ours_first=*/attempt >= kAttemptsMax / 2, takes_busy);
    // The earlier error says more than that no port is left.
    if (!relay.has_value()) {
      result.is_without_port = avoided.size() < source_count;
      return result;
    }
    result.attempt_count = attempt + 1;
    const Verdict verdict = OpenOn(*relay, backend, &result);
    if (verdict == Verdict::kOpen) break;
    ports_->GiveBack(*relay,
                     verdict == Verdict::kPortIsBusy ? PortFate::kBusy
                                                     : PortFate::kUnanswered,
                     now_nanoseconds);
    if (verdict == Verdict::kFailed) return result;
    if (verdict == Verdict::kSourceIsUseless) {
      known_sources_.clear();  // the routes may have changed
      avoided.push_back(relay->WithPort(0));
      if (avoided.size() == kUselessSourcesMax) return result;
    }
  }
  if (result.error != 0) {
    result.is_without_port = avoided.size() < source_count;
    return result;
  }
  SetOptions(result.fd, backend, receive_buffer_bytes);
  return result;
}

UpstreamOpener::Result UpstreamOpener::OpenExactly(const SocketAddress& relay,
                                                   const SocketAddress& source,
                                                   const SocketAddress& backend,
                                                   const RelayOwner& owner,
                                                   int64_t receive_buffer_bytes,
                                                   int64_t now_nanoseconds) {
  Result result;
  result.error = EADDRINUSE;
  result.failed_call = "the relay port is taken";
  if (relay.family() != backend.family() || relay.port() == 0 ||
      !ports_->TakeExactly(relay, source, owner, now_nanoseconds)) {
    return result;
  }
  const Verdict verdict = OpenOn(relay, backend, &result);
  if (verdict == Verdict::kOpen) {
    SetOptions(result.fd, backend, receive_buffer_bytes);
  } else {
    ports_->GiveBack(relay,
                     verdict == Verdict::kPortIsBusy ? PortFate::kBusy
                                                     : PortFate::kUnanswered,
                     now_nanoseconds);
  }
  return result;
}

void UpstreamOpener::SetOptions(int fd, const SocketAddress& backend,
                                int64_t receive_buffer_bytes) {
  // Linux has had these options since 3.15, and refuses none of them.
  SetTrafficOptions(sys_calls_, fd, /*has_ipv4=*/backend.is_ipv4(),
                    /*has_ipv6=*/!backend.is_ipv4(), traffic_)
      .IgnoreError();
  SetReceiveBufferBytes(
      sys_calls_, fd, std::min(receive_buffer_bytes, kUpstreamBufferBytesMax));
  EnableErrorQueue(sys_calls_, fd, backend.family());
}

UpstreamOpener::Verdict UpstreamOpener::OpenOn(const SocketAddress& relay,
                                               const SocketAddress& backend,
                                               Result* result) {
  if (relay == backend) {
    // The backend's own address, on this host, while it is down: the socket
    // would be connected to itself, and the backend could not start.
    result->error = EADDRINUSE;
    result->failed_call = "bind";
    return Verdict::kPortIsBusy;
  }
  const SysCallResult opened = OpenSocket(sys_calls_, relay.family());
  if (!opened.ok()) {
    result->error = opened.error;
    result->failed_call = "socket";
    return Verdict::kFailed;
  }
  const Verdict verdict = BindAndConnect(opened.value, relay, backend, result);
  if (verdict == Verdict::kOpen) {
    result->fd = opened.value;
    result->relay = relay;
  } else {
    sys_calls_->Close(opened.value);
  }
  return verdict;
}

UpstreamOpener::Verdict UpstreamOpener::BindAndConnect(
    int fd, const SocketAddress& relay, const SocketAddress& backend,
    Result* result) {
  const auto verdict_on_source = [&] {
    return IsOfSource(result->error) ? Verdict::kSourceIsUseless
                                     : Verdict::kFailed;
  };
  result->failed_call = "bind";
  result->error = BindTo(sys_calls_, fd, relay).error;
  if (result->error == EADDRINUSE) return Verdict::kPortIsBusy;
  if (result->error != 0) return verdict_on_source();
  result->failed_call = "connect";
  result->error = ConnectTo(sys_calls_, fd, backend).error;
  if (result->error != 0) return verdict_on_source();
  result->failed_call = "recvmmsg";
  result->error = DiscardReceived(sys_calls_, fd);
  return result->error == 0 ? Verdict::kOpen : Verdict::kFailed;
}

void UpstreamOpener::Close(int fd, const SocketAddress& relay,
                           bool has_answered, int64_t now_nanoseconds) {
  // In this order: a released port may be bound immediately.
  sys_calls_->Close(fd);
  ports_->GiveBack(relay,
                   has_answered ? PortFate::kAnswered : PortFate::kUnanswered,
                   now_nanoseconds);
}

}  // namespace internal
}  // namespace udpgate
