// How many sessions the limit on file descriptors allows.
#ifndef UDPGATE_INTERNAL_CONTROL_DESCRIPTOR_LIMITS_H_
#define UDPGATE_INTERNAL_CONTROL_DESCRIPTOR_LIMITS_H_

#include <cstdint>

#include "udpgate/proxy_options.h"

namespace udpgate {
namespace internal {

// The setting `max_sessions`, or what RLIMIT_NOFILE (getrlimit(2)) allows if
// that is less or the setting is 0. A reserve for descriptors that are not
// sessions' is always kept; the result is 1 at least. Source ports are not
// considered: whether they run out is known only when a socket is opened.
int64_t SessionsMax(const ProxyOptions& options);

// Lets the kernel's table of this process's descriptors grow now, to what
// `sessions_max` sessions and all others need. `fd` is any open descriptor. The
// table doubles when it is full, and in a process with threads whoever opens
// that descriptor waits for milliseconds (an RCU grace period; expand_fdtable
// in fs/file.c of Linux): a reader, and with it all clients.
void GrowDescriptorTable(int fd, const ProxyOptions& options,
                         int64_t sessions_max);

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_CONTROL_DESCRIPTOR_LIMITS_H_
