#include "udpgate/http/internal/listener.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "udpgate/http/internal/connection.h"

namespace udpgate {
namespace http {
namespace internal {
namespace {

namespace asio = ::boost::asio;
using ::boost::system::error_code;
using ::udpgate::internal::UniqueFd;

constexpr int kBacklog = 1024;
// Then the connections have their turn.
constexpr int kAcceptsMax = 64;
// How long no connection is accepted for want of descriptors or memory.
constexpr std::chrono::milliseconds kAcceptPause(50);

}  // namespace

absl::StatusOr<UniqueFd> Listen(const SocketAddress& address) {
  const std::string name = address.ToString();
  sockaddr_storage storage;
  const int family = address.family();
  const socklen_t size = address.ToSockaddr(family, &storage);
  if (size == 0) return absl::InvalidArgumentError("invalid listen address");
  UniqueFd fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.is_open()) return absl::ErrnoToStatus(errno, name);
  const int on = 1;
  const int off = 0;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (family == AF_INET6) {
    setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  }
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), size) != 0 ||
      listen(fd.get(), kBacklog) != 0) {
    return absl::ErrnoToStatus(errno, name);
  }
  return fd;
}

absl::StatusOr<SocketAddress> ListenAddressOf(int fd) {
  int is_listening = 0;
  socklen_t size = sizeof(is_listening);
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_listening, &size) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("listening socket ", fd));
  }
  sockaddr_storage address;
  size = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return absl::ErrnoToStatus(errno, absl::StrCat("listening socket ", fd));
  }
  const SocketAddress result = SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&address), size);
  if (is_listening == 0 || !result.is_valid()) {
    return absl::InvalidArgumentError(
        absl::StrCat("socket ", fd, " is not a listening TCP socket"));
  }
  // Of the open socket: an old process that shares it must expect that.
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
  return result;
}

Listener::Listener(std::shared_ptr<ServerState> state,
                   std::shared_ptr<CertificateKeeper> certificate,
                   IoThreads* threads, int listen_fd)
    : presence_(state),
      state_(std::move(state)),
      certificate_(std::move(certificate)),
      threads_(threads),
      descriptor_(threads->context(0)),
      listen_fd_(listen_fd),
      pause_timer_(threads->context(0)),
      deadline_timer_(threads->context(0)),
      certificate_timer_(threads->context(0)),
      accept_error_limiter_(Clock::Monotonic(), ServerState::kLogInterval) {}

Listener::~Listener() {
  if (descriptor_.is_open()) descriptor_.release();
}

void Listener::Start() {
  asio::post(threads_->context(0), [self = shared_from_this()] {
    if (self->is_stopped_) return;
    if (self->is_accepting_) self->AwaitConnections();
    if (self->certificate_->has_certificate()) self->WatchCertificate();
  });
}

void Listener::StopAccepting() {
  asio::post(threads_->context(0), [self = shared_from_this()] {
    self->is_accepting_ = false;
    // Ends the wait; the socket stays open.
    if (self->descriptor_.is_open()) self->descriptor_.release();
    self->pause_timer_.cancel();
  });
}

void Listener::Stop() {
  StopAccepting();
  asio::post(threads_->context(0), [self = shared_from_this()] {
    self->is_stopped_ = true;
    self->deadline_timer_.cancel();
    self->certificate_timer_.cancel();
  });
}

void Listener::AwaitConnections() {
  if (!descriptor_.is_open()) {
    error_code error;
    descriptor_.assign(listen_fd_, error);
    if (error) return PauseAccepting();
  }
  descriptor_.async_wait(asio::posix::descriptor_base::wait_read,
                         [self = shared_from_this()](const error_code&) {
                           if (self->is_accepting_) self->AcceptSome();
                         });
}

void Listener::AcceptSome() {
  for (int i = 0; i < kAcceptsMax; ++i) {
    sockaddr_storage address;
    socklen_t size = sizeof(address);
    UniqueFd fd(accept4(listen_fd_, reinterpret_cast<sockaddr*>(&address),
                        &size, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.is_open()) {
      TakeConnection(std::move(fd),
                     SocketAddress::FromSockaddr(
                         reinterpret_cast<const sockaddr*>(&address), size));
    } else if (errno == EAGAIN) {
      break;
    } else if (!HandleAcceptError(errno)) {
      return PauseAccepting();
    }
  }
  AwaitConnections();
}

bool Listener::HandleAcceptError(int error) {
  // Of a connection that is gone already; accept(2) has the others.
  const bool is_of_resources =
      error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
  const bool is_of_listener =
      error == EBADF || error == EINVAL || error == ENOTSOCK;
  if (!is_of_resources && !is_of_listener) return true;
  ++state_->counters.accept_failures;
  int64_t suppressed = 0;
  if (accept_error_limiter_.Admit(&suppressed)) {
    state_->Log(LogSeverity::kWarning,
                absl::StrCat("cannot accept HTTP connections: ",
                             std::strerror(error), "; trying again"));
  }
  if (std::shared_ptr<Connection> evicted = state_->table.Evict()) {
    ++state_->counters.evicted;
    evicted->Close();
  }
  return false;
}

void Listener::PauseAccepting() {
  pause_timer_.expires_after(kAcceptPause);
  pause_timer_.async_wait([self = shared_from_this()](const error_code&) {
    if (self->is_accepting_) self->AcceptSome();
  });
}

void Listener::TakeConnection(UniqueFd fd, const SocketAddress& peer) {
  ServerCounters& counters = state_->counters;
  ++counters.accepted;
  const std::shared_ptr<const AccessRules> rules = state_->rules();
  const bool is_proxy = rules->trusted_proxies.Contains(peer);
  if (!is_proxy && !rules->Admits(peer)) {
    ++counters.denied;
    return;
  }
  const int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  auto connection = std::make_shared<Connection>(
      state_, &threads_->NextContext(), std::move(fd), peer, rules);
  connection->entry()->connection = connection;
  std::shared_ptr<Connection> evicted;
  const ConnectionTable::Verdict verdict = state_->table.Add(
      connection->entry(), is_proxy ? nullptr : &peer, &evicted);
  if (evicted != nullptr) {
    ++counters.evicted;
    evicted->Close();
  }
  if (verdict != ConnectionTable::Verdict::kAdmitted) {
    ++counters.closed_at_limit;
    if (verdict == ConnectionTable::Verdict::kClose) return;
    connection->SetRefused();
  }
  connection->Start();
  if (!is_watching_deadlines_) WatchDeadlines();
}

void Listener::WatchDeadlines() {
  const auto now = std::chrono::steady_clock::now();
  for (ConnectionTable::Overdue& overdue : state_->table.TakeOverdue(now)) {
    overdue.connection->HandleOverdue(overdue.moves);
  }
  const auto next = state_->table.NextCheck(now);
  is_watching_deadlines_ = next != ConnectionTable::TimePoint::max();
  if (!is_watching_deadlines_) return;
  deadline_timer_.expires_at(next);
  deadline_timer_.async_wait([self = shared_from_this()](const error_code&) {
    if (!self->is_stopped_) self->WatchDeadlines();
  });
}

void Listener::WatchCertificate() {
  certificate_timer_.expires_after(
      absl::ToChronoNanoseconds(state_->options.certificate_check_interval));
  certificate_timer_.async_wait([self = shared_from_this()](const error_code&) {
    if (self->is_stopped_) return;
    self->certificate_->ReloadIfChanged();
    self->WatchCertificate();
  });
}

}  // namespace internal
}  // namespace http
}  // namespace udpgate
