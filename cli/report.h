// Log lines of `udp-gate` about its limits at startup and its totals at
// shutdown.
#ifndef UDPGATE_CLI_REPORT_H_
#define UDPGATE_CLI_REPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_stats.h"

namespace udpgate {
namespace cli {

// The maximum number of sessions, and which limit sets it.
std::string SessionLimitText(const SessionLimit& limit);

// A warning if the descriptor limit of the process, `descriptors_max`, or the
// source ports allow fewer sessions than MAX_SESSIONS, `configured`, or very
// few; else empty. `in_force` is from `Proxy::session_limit`.
std::string SessionLimitWarning(int64_t configured,
                                const SessionLimit& in_force,
                                int64_t descriptors_max);

// A warning if the kernel granted fewer bytes than requested, with the remedy
// if `rmem_max`, the value of net.core.rmem_max if it is known, is the cause;
// else empty.
std::string ReceiveBufferWarning(int64_t wanted, int64_t granted,
                                 absl::optional<int64_t> rmem_max);

// The same for the send buffer and `wmem_max`, net.core.wmem_max.
std::string SendBufferWarning(int64_t wanted, int64_t granted,
                              absl::optional<int64_t> wmem_max);

// One line with the totals, and a second one with the counts by reason if
// anything was dropped, ended or disconnected.
std::vector<std::string> StopLines(const ProxyStats& stats);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_REPORT_H_
