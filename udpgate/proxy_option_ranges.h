// The allowed range of each number in `ProxyOptions`, written once:
// `ProxyOptions::Validate` checks them, and a program can derive the ranges of
// its own settings from them.
#ifndef UDPGATE_PROXY_OPTION_RANGES_H_
#define UDPGATE_PROXY_OPTION_RANGES_H_

#include <cstdint>

#include "absl/time/time.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace proxy_ranges {

// Far beyond the use of any machine, and well within 32 bits.
inline constexpr int64_t kSessionCountMax = 1'000'000'000;
inline constexpr int64_t kQueueSizeMax = 1 << 20;
inline constexpr int64_t kRateMax = 1'000'000;
inline constexpr absl::Duration kTimeoutMin = absl::Milliseconds(10);
inline constexpr absl::Duration kTimeoutMax = absl::Hours(24);

// Listener and worker numbers are part of the library's session ids.
inline constexpr IntegerRange kListenerCount{"listener_count", 1, 64};
inline constexpr IntegerRange kListenFds{"listen_fds.size()", 0,
                                         kListenerCount.maximum};
inline constexpr IntegerRange kWorkerCount{"worker_count", 0, 256};
inline constexpr IntegerRange kUpstreamBindAddresses{
    "upstream_bind_addresses.size()", 0, 64};
inline constexpr DurationRange kPortQuarantine{
    "port_quarantine", absl::ZeroDuration(), absl::Hours(1)};
inline constexpr DurationRange kBackendHoldoff{
    "backend_holdoff", absl::ZeroDuration(), absl::Hours(1)};
inline constexpr IntegerRange kForwardedClients{"forwarded_clients_max", 1,
                                                kQueueSizeMax};
inline constexpr DurationRange kForwardPatience{"forward_patience", kTimeoutMin,
                                                kTimeoutMax};
inline constexpr IntegerRange kQueueSizeDatagrams{"queue_size_datagrams", 1,
                                                  kQueueSizeMax};
// UIO_MAXIOV of recvmmsg(2).
inline constexpr IntegerRange kBatchSize{"batch_size", 1, 1024};
inline constexpr IntegerRange kReceiveBufferBytes{"receive_buffer_bytes", 4096,
                                                  1 << 30};
inline constexpr IntegerRange kDisconnectQueueSize{"disconnect_queue_size", 1,
                                                   kQueueSizeMax};
inline constexpr IntegerRange kEventQueueSize{"event_queue_size", 1,
                                              kQueueSizeMax};
inline constexpr IntegerRange kSessionEventsMax{"session_events_max", 1,
                                                kQueueSizeMax};

inline constexpr DurationRange kSessionIdleTimeout{
    "limits.session_idle_timeout", kTimeoutMin, kTimeoutMax};
inline constexpr IntegerRange kMaxSessions{"limits.max_sessions", 0,
                                           kSessionCountMax};
inline constexpr DurationRange kBackendSilentTimeout{
    "limits.backend_silent_timeout", kTimeoutMin, kTimeoutMax,
    /*zero_is_never=*/true};
inline constexpr DurationRange kClientSilentTimeout{
    "limits.client_silent_timeout", kTimeoutMin, kTimeoutMax,
    /*zero_is_never=*/true};
inline constexpr IntegerRange kBackendRefusalsMax{"limits.backend_refusals_max",
                                                  1, 1000};
inline constexpr DurationRange kResolveTimeout{
    "limits.resolve_timeout", absl::Milliseconds(1), absl::Hours(1)};
inline constexpr IntegerRange kPendingDatagramsMax{
    "limits.pending_datagrams_max", 1, 1024};
inline constexpr IntegerRange kPendingClientsMax{"limits.pending_clients_max",
                                                 1, 1 << 20};
inline constexpr IntegerRange kPendingBytesMax{"limits.pending_bytes_max",
                                               65536, int64_t{1} << 40};
inline constexpr IntegerRange kMaxSessionsPerIp{"limits.max_sessions_per_ip", 0,
                                                kSessionCountMax};
inline constexpr IntegerRange kMaxUnconfirmedSessionsPerIp{
    "limits.max_unconfirmed_sessions_per_ip", 0, kSessionCountMax};
inline constexpr IntegerRange kNewSessionsPerSecond{
    "limits.new_sessions_per_second", 0, kRateMax};
inline constexpr IntegerRange kNewSessionsPerSecondPerIp{
    "limits.new_sessions_per_second_per_ip", 0, kRateMax};
inline constexpr DurationRange kUnconfirmedTimeout{"limits.unconfirmed_timeout",
                                                   kTimeoutMin, kTimeoutMax};
inline constexpr IntegerRange kUnconfirmedReplyFactor{
    "limits.unconfirmed_reply_factor", 0, kRateMax};
inline constexpr IntegerRange kPausedSessionsMax{"limits.paused_sessions_max",
                                                 0, 65536};

}  // namespace proxy_ranges
}  // namespace udpgate

#endif  // UDPGATE_PROXY_OPTION_RANGES_H_
