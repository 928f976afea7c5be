#include "udpgate/internal/control/descriptor_limits.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

namespace udpgate {
namespace internal {
namespace {

// Logs, Redis, DNS, 64 connections of the admin endpoint (AdminOptions), 64
// copies at a time in a takeover (snapshot.cc), and what a host program opens.
constexpr int64_t kReservedDescriptors = 192;
// A worker's or a reader's own: epoll, eventfd, the listening socket.
constexpr int64_t kDescriptorsPerThread = 3;
// A table of half a MiB.
constexpr int64_t kGrownDescriptorsMax = 65536;

int64_t DescriptorLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 1024;
  return static_cast<int64_t>(std::min<rlim_t>(limit.rlim_cur, INT32_MAX));
}

int64_t OtherDescriptors(const ProxyOptions& options) {
  const int64_t threads = options.worker_count + 2 * options.listener_count;
  return kReservedDescriptors + kDescriptorsPerThread * threads;
}

}  // namespace

int64_t SessionsMax(const ProxyOptions& options) {
  const int64_t left =
      std::max<int64_t>(DescriptorLimit() - OtherDescriptors(options), 1);
  const int64_t setting = options.limits.max_sessions;
  return setting > 0 ? std::min(setting, left) : left;
}

void GrowDescriptorTable(int fd, const ProxyOptions& options,
                         int64_t sessions_max) {
  const int64_t last = std::min({sessions_max + OtherDescriptors(options),
                                 DescriptorLimit(), kGrownDescriptorsMax}) -
                       1;
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, static_cast<int>(last));
  if (copy >= 0) ::close(copy);
}

}  // namespace internal
}  // namespace udpgate
