#include "udpgate/takeover/internal/channel.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "udpgate/internal/net/sys_calls.h"

namespace udpgate {
namespace takeover {
namespace internal {
namespace {

using udpgate::internal::UniqueFd;

constexpr size_t kControlBytes =
    CMSG_SPACE(kDescriptorsPerMessageMax * sizeof(int));

absl::Status ToStatus(int error, absl::string_view what) {
  if (error == EAGAIN) {
    return absl::DeadlineExceededError(
        "the other process did not respond in time");
  }
  if (error == EPIPE || error == ECONNRESET) {
    return absl::UnavailableError("the other process closed the connection");
  }
  return udpgate::internal::ErrnoToStatus(error, what);
}

}  // namespace

absl::StatusOr<sockaddr_un> ToUnixAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", path, "\": a socket path has 1 to ",
                     sizeof(address.sun_path) - 1, " bytes"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Channel::Channel(UniqueFd socket)
    : socket_(std::move(socket)), buffer_(kMessageBytesMax) {}

absl::StatusOr<pid_t> Channel::CheckPeer() const {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (::getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return udpgate::internal::ErrnoToStatus(errno, "getsockopt SO_PEERCRED");
  }
  const uid_t self = ::geteuid();
  if (peer.uid == self || peer.uid == 0) return peer.pid;
  return absl::PermissionDeniedError(
      absl::StrCat("process ", peer.pid, " runs as user ", peer.uid,
                   ", this process as user ", self));
}

void Channel::BeginStage(absl::Duration limit) {
  deadline_ =
      limit == absl::InfiniteDuration()
          ? std::chrono::steady_clock::time_point::max()
          : std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(limit);
}

absl::Status Channel::SetTimeout(int option) {
  timeval value{};  // no limit
  if (deadline_ != std::chrono::steady_clock::time_point::max()) {
    const absl::Duration left =
        absl::FromChrono(deadline_ - std::chrono::steady_clock::now());
    if (left < absl::Microseconds(1)) return ToStatus(EAGAIN, "");
    value = absl::ToTimeval(left);
  }
  if (::setsockopt(socket_.get(), SOL_SOCKET, option, &value, sizeof(value)) !=
      0) {
    return udpgate::internal::ErrnoToStatus(errno, "setsockopt SO_RCVTIMEO");
  }
  return absl::OkStatus();
}

absl::Status Channel::Send(absl::Span<const uint8_t> bytes,
                           absl::Span<const int> descriptors) {
  if (bytes.size() > kMessageBytesMax ||
      descriptors.size() > kDescriptorsPerMessageMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("message too long: ", bytes.size(), " bytes and ",
                     descriptors.size(), " descriptors"));
  }
  if (absl::Status status = SetTimeout(SO_SNDTIMEO); !status.ok()) {
    return status;
  }
  iovec vector = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[kControlBytes];
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  if (!descriptors.empty()) {
    const size_t descriptor_bytes = descriptors.size() * sizeof(int);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(descriptor_bytes);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptor_bytes);
    std::memcpy(CMSG_DATA(header), descriptors.data(), descriptor_bytes);
  }
  ssize_t sent;
  do {
    sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? ToStatus(errno, "sendmsg") : absl::OkStatus();
}

absl::StatusOr<Channel::Message> Channel::Receive() {
  if (absl::Status status = SetTimeout(SO_RCVTIMEO); !status.ok()) {
    return status;
  }
  iovec vector = {buffer_.data(), buffer_.size()};
  alignas(cmsghdr) char control[kControlBytes];
  msghdr header{};
  header.msg_iov = &vector;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  ssize_t received;
  do {
    received = ::recvmsg(socket_.get(), &header, MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received < 0) return ToStatus(errno, "recvmsg");
  Message message;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr;
       part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(fd));
      message.descriptors.emplace_back(fd);
    }
  }
  if ((header.msg_flags & MSG_CTRUNC) != 0) {
    return absl::ResourceExhaustedError(
        "too many file descriptors for this process (RLIMIT_NOFILE)");
  }
  if ((header.msg_flags & MSG_TRUNC) != 0) {
    return absl::DataLossError("message of the other process is too long");
  }
  // No message is empty.
  if (received == 0)
    return absl::UnavailableError("the other process closed the connection");
  message.bytes.assign(buffer_.begin(), buffer_.begin() + received);
  return message;
}

void Channel::Shutdown() { ::shutdown(socket_.get(), SHUT_RDWR); }

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate
