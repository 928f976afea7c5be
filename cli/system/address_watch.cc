#include "cli/system/address_watch.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include "absl/types/span.h"
#include "udpgate/clock.h"

namespace udpgate {
namespace cli {
namespace {

// A request that could not be sent is repeated after this time.
constexpr int kRepeatMilliseconds = 10;

int64_t NowNanoseconds() { return Clock::Monotonic()->NowNanoseconds(); }

absl::Status SystemError(const char* what) {
  return absl::ErrnoToStatus(errno, what);
}

}  // namespace

absl::StatusOr<std::unique_ptr<AddressWatch>> AddressWatch::Start(
    AddressWatchOptions options) {
  const int netlink_fd = socket(
      AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (netlink_fd < 0) return SystemError("socket AF_NETLINK");
  sockaddr_nl name{};
  name.nl_family = AF_NETLINK;
  name.nl_groups = RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
  if (bind(netlink_fd, reinterpret_cast<const sockaddr*>(&name),
           sizeof(name)) != 0) {
    const absl::Status status = SystemError("bind AF_NETLINK");
    close(netlink_fd);
    return status;
  }
  const int stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop_fd < 0) {
    const absl::Status status = SystemError("eventfd");
    close(netlink_fd);
    return status;
  }
  std::unique_ptr<AddressWatch> watch(
      new AddressWatch(std::move(options), netlink_fd, stop_fd));
  watch->thread_ = std::thread([raw = watch.get()] { raw->Run(); });
  pthread_setname_np(watch->thread_.native_handle(), "udpgate-address");
  return watch;
}

AddressWatch::AddressWatch(AddressWatchOptions options, int netlink_fd,
                           int stop_fd)
    : options_(std::move(options)),
      netlink_fd_(netlink_fd),
      stop_fd_(stop_fd) {}

AddressWatch::~AddressWatch() {
  const uint64_t one = 1;
  if (write(stop_fd_, &one, sizeof(one)) != sizeof(one)) std::abort();
  thread_.join();
  close(netlink_fd_);
  close(stop_fd_);
}

void AddressWatch::Run() {
  sigset_t all_signals;
  sigfillset(&all_signals);
  pthread_sigmask(SIG_BLOCK, &all_signals, nullptr);
  Request();
  int timeout_milliseconds = -1;
  while (Wait(timeout_milliseconds)) {
    Read();
    if (table_.needs_request()) Request();
    timeout_milliseconds = Report();
  }
}

bool AddressWatch::Wait(int timeout_milliseconds) const {
  pollfd events[] = {{netlink_fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
  const int count = poll(events, 2, timeout_milliseconds);
  if (count < 0 && errno != EINTR) std::abort();
  return count <= 0 || events[1].revents == 0;
}

void AddressWatch::Read() {
  // More than the kernel puts into one datagram of a dump (netlink(7)).
  alignas(nlmsghdr) char buffer[32768];
  for (;;) {
    const ssize_t size = recv(netlink_fd_, buffer, sizeof(buffer), 0);
    if (size >= 0) {
      noticed_nanoseconds_ = NowNanoseconds();
      table_.Apply(absl::MakeConstSpan(buffer, static_cast<size_t>(size)));
    } else if (errno == ENOBUFS) {
      // Messages were lost. Those that are queued are of no use either, but the
      // answer to a new request comes after them.
      noticed_nanoseconds_ = NowNanoseconds();
      Request();
    } else if (errno != EINTR) {
      return;  // EAGAIN: no more
    }
  }
}

void AddressWatch::Request() {
  const std::vector<char> request = table_.RequestAll();
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  while (sendto(netlink_fd_, request.data(), request.size(), 0,
                reinterpret_cast<const sockaddr*>(&kernel),
                sizeof(kernel)) < 0) {
    // ENOBUFS: no memory now.
    if (errno != EINTR && !Wait(kRepeatMilliseconds)) return;
  }
}

bool AddressWatch::HasAll(const std::vector<SocketAddress>& addresses) const {
  return std::all_of(addresses.begin(), addresses.end(),
                     [this](const SocketAddress& address) {
                       return table_.HasUsable(address);
                     });
}

int AddressWatch::Report() {
  // Before the first answer nothing is known; later the old table is better
  // than none.
  if (!has_reported_ && !table_.is_complete()) return -1;
  bool are_here = HasAll(options_.required);
  int timeout_milliseconds = -1;
  const int64_t now = NowNanoseconds();
  if (!are_here) {
    required_since_nanoseconds_ = kNever;
  } else if (!are_here_) {
    required_since_nanoseconds_ = std::min(required_since_nanoseconds_, now);
    const absl::Duration left =
        options_.patience -
        absl::Nanoseconds(now - required_since_nanoseconds_);
    if (left > absl::ZeroDuration() && !HasAll(options_.awaited)) {
      are_here = false;
      timeout_milliseconds =
          static_cast<int>(absl::ToInt64Milliseconds(left)) + 1;
    }
  }
  if (has_reported_ && are_here == are_here_) return timeout_milliseconds;
  if (!has_reported_ && timeout_milliseconds > 0) return timeout_milliseconds;
  has_reported_ = true;
  are_here_ = are_here;
  options_.on_change(are_here, noticed_nanoseconds_);
  return timeout_milliseconds;
}

}  // namespace cli
}  // namespace udpgate
