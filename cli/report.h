// What the log of `udp-gate` says about the limits it starts with, and about
// all that it did when it stops.
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

// How many sessions there can be, and which limit that is.
std::string SessionLimitText(const SessionLimit& limit);

// A warning where the descriptor limit of the process, `descriptors_max`, or
// the source ports leave less room for sessions than MAX_SESSIONS,
// `configured`, asks for, or too little at all; empty where there is enough.
// `in_force` is what `Proxy::session_limit` says.
std::string SessionLimitWarning(int64_t configured,
                                const SessionLimit& in_force,
                                int64_t descriptors_max);

// A warning where the kernel granted less than the bytes that were wanted, with
// the remedy where `rmem_max`, the value of net.core.rmem_max if it is known,
// is the cause; else empty.
std::string ReceiveBufferWarning(int64_t wanted, int64_t granted,
                                 absl::optional<int64_t> rmem_max);

// The same of the send buffer and `wmem_max`, net.core.wmem_max.
std::string SendBufferWarning(int64_t wanted, int64_t granted,
                              absl::optional<int64_t> wmem_max);

// One line with the totals, and where something was dropped, ended or
// disconnected a second one that says how much of what.
std::vector<std::string> StopLines(const ProxyStats& stats);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_REPORT_H_
