#include "testing/internal/support/tcp_relay.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

constexpr size_t kRequestBytesMax = 16 << 20;
constexpr size_t kReadBytes = 64 << 10;

internal::UniqueFd ListenOrAbort(uint16_t* port) {
  internal::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage storage;
  socklen_t size = SocketAddress::Ipv4Loopback(0).ToSockaddr(AF_INET, &storage);
  sockaddr* address = reinterpret_cast<sockaddr*>(&storage);
  if (::bind(fd.get(), address, size) != 0 || ::listen(fd.get(), 64) != 0 ||
      ::getsockname(fd.get(), address, &(size = sizeof(storage))) != 0) {
    std::perror("TcpRelay");
    std::abort();
  }
  *port = SocketAddress::FromSockaddr(address, size).port();
  return fd;
}

// Blocking sockets on loopback to a reader that reads: a test's amounts fit
// the kernel's buffers.
bool WriteAll(int fd, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t size =
        ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size >= 0) {
      bytes.remove_prefix(static_cast<size_t>(size));
    } else if (errno == EAGAIN) {
      pollfd room = {fd, POLLOUT, 0};
      if (::poll(&room, 1, 1000) <= 0) return false;
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

// Empty at the end of the connection.
std::string ReadSome(int fd) {
  std::string bytes(kReadBytes, '\0');
  const ssize_t size = ::recv(fd, bytes.data(), bytes.size(), 0);
  bytes.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return bytes;
}

size_t CountIn(absl::string_view haystack, absl::string_view needle) {
  size_t count = 0;
  for (size_t at = haystack.find(needle); at != absl::string_view::npos;
       at = haystack.find(needle, at + needle.size())) {
    ++count;
  }
  return count;
}

}  // namespace

TcpRelay::TcpRelay(uint16_t target_port)
    : target_port_(target_port),
      listener_(ListenOrAbort(&port_)),
      wake_event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  thread_ = std::thread([this] { Run(); });
}

TcpRelay::~TcpRelay() {
  {
    internal::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  Wake();
  thread_.join();
}

std::string TcpRelay::address() const {
  return absl::StrCat("127.0.0.1:", port_);
}

void TcpRelay::Wake() { ::eventfd_write(wake_event_.get(), 1); }

void TcpRelay::HoldReplies() {
  internal::MutexLock lock(&mutex_);
  holding_ = true;
}

void TcpRelay::ReleaseReplies() {
  {
    internal::MutexLock lock(&mutex_);
    holding_ = false;
  }
  Wake();
}

void TcpRelay::set_reply_delay(absl::Duration delay) {
  internal::MutexLock lock(&mutex_);
  reply_delay_ = delay;
}

void TcpRelay::ReplaceNextReply(absl::string_view bytes) {
  internal::MutexLock lock(&mutex_);
  replacing_ = true;
  replacement_ = std::string(bytes);
}

void TcpRelay::CutAfterReplyBytes(size_t bytes) {
  internal::MutexLock lock(&mutex_);
  cutting_ = true;
  bytes_until_cut_ = bytes;
}

void TcpRelay::CutConnections() {
  {
    internal::MutexLock lock(&mutex_);
    for (Connection& connection : connections_) connection.closed = true;
  }
  Wake();
}

size_t TcpRelay::CountRequests(absl::string_view text) const {
  internal::MutexLock lock(&mutex_);
  return CountIn(requests_, text);
}

bool TcpRelay::AwaitConnections(size_t count, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  internal::MutexLock lock(&mutex_);
  while (connection_count_ < count) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitFor(&mutex_, absl::ToChronoNanoseconds(left));
  }
  return true;
}

bool TcpRelay::AwaitRequests(absl::string_view text, size_t count,
                             absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  internal::MutexLock lock(&mutex_);
  while (CountIn(requests_, text) < count) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitFor(&mutex_, absl::ToChronoNanoseconds(left));
  }
  return true;
}

void TcpRelay::Run() {
  for (;;) {
    std::vector<pollfd> ready = {{wake_event_.get(), POLLIN, 0},
                                 {listener_.get(), POLLIN, 0}};
    int timeout_milliseconds;
    {
      internal::MutexLock lock(&mutex_);
      if (stopping_) return;
      connections_.remove_if([](const Connection& c) { return c.closed; });
      for (const Connection& connection : connections_) {
        ready.push_back({connection.client.get(), POLLIN, 0});
        ready.push_back({connection.server.get(), POLLIN, 0});
      }
      timeout_milliseconds = PollTimeoutMilliseconds();
    }
    ::poll(ready.data(), ready.size(), timeout_milliseconds);
    eventfd_t ignored;
    ::eventfd_read(wake_event_.get(), &ignored);
    {
      internal::MutexLock lock(&mutex_);
      size_t at = 2;
      for (Connection& connection : connections_) {
        if (ready[at].revents != 0) ReadRequests(&connection);
        if (ready[at + 1].revents != 0) ReadReplies(&connection);
        WriteDueReplies(&connection);
        at += 2;
      }
    }
    if (ready[1].revents != 0) Accept();
  }
}

int TcpRelay::PollTimeoutMilliseconds() {
  absl::Time due = absl::InfiniteFuture();
  if (!holding_) {
    for (const Connection& connection : connections_) {
      if (!connection.replies.empty()) {
        due = std::min(due, connection.replies.front().due);
      }
    }
  }
  if (due == absl::InfiniteFuture()) return -1;
  const absl::Duration left =
      absl::Ceil(due - absl::Now(), absl::Milliseconds(1));
  return static_cast<int>(
      std::clamp<int64_t>(absl::ToInt64Milliseconds(left), 0, 60000));
}

void TcpRelay::Accept() {
  internal::UniqueFd client(
      ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!client.is_open()) return;
  internal::UniqueFd server(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage storage;
  const socklen_t size =
      SocketAddress::Ipv4Loopback(target_port_).ToSockaddr(AF_INET, &storage);
  if (::connect(server.get(), reinterpret_cast<sockaddr*>(&storage), size) !=
      0) {
    return;
  }
  const int on = 1;
  ::setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  ::setsockopt(server.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  internal::MutexLock lock(&mutex_);
  Connection& connection = connections_.emplace_back();
  connection.client = std::move(client);
  connection.server = std::move(server);
  ++connection_count_;
  changed_.SignalAll();
}

void TcpRelay::ReadRequests(Connection* connection) {
  const std::string bytes = ReadSome(connection->client.get());
  if (bytes.empty() || !WriteAll(connection->server.get(), bytes)) {
    connection->closed = true;
    return;
  }
  if (requests_.size() < kRequestBytesMax) requests_.append(bytes);
  changed_.SignalAll();
}

void TcpRelay::ReadReplies(Connection* connection) {
  std::string bytes = ReadSome(connection->server.get());
  if (bytes.empty()) {
    connection->closed = true;
    return;
  }
  if (std::exchange(replacing_, false)) bytes = replacement_;
  connection->replies.push_back({absl::Now() + reply_delay_, std::move(bytes)});
}

void TcpRelay::WriteDueReplies(Connection* connection) {
  while (!holding_ && !connection->closed && !connection->replies.empty() &&
         connection->replies.front().due <= absl::Now()) {
    std::string bytes = std::move(connection->replies.front().bytes);
    connection->replies.pop_front();
    if (cutting_ && bytes.size() >= bytes_until_cut_) {
      bytes.resize(bytes_until_cut_);
      cutting_ = false;
      connection->closed = true;
    } else if (cutting_) {
      bytes_until_cut_ -= bytes.size();
    }
    if (!WriteAll(connection->client.get(), bytes)) connection->closed = true;
  }
}

}  // namespace test
}  // namespace udpgate
