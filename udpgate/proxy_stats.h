// What a `Proxy` has done and what it holds now: a snapshot of numbers.
//
//   udpgate::ProxyStats stats = proxy->GetStats();
//   stats.sessions_active;
//   stats.dropped(udpgate::DropReason::kQueueFull);
//
// Every datagram is accounted for, exactly while traffic is at rest:
//
//   client_datagrams_received + backend_datagrams_received =
//       client_datagrams_forwarded + backend_datagrams_forwarded
//       + sum of datagrams_dropped + datagrams_held
//
// and so are sessions:
//
//   sessions_created = sessions_active + sessions_pending
//                      + sum of sessions_ended
#ifndef UDPGATE_PROXY_STATS_H_
#define UDPGATE_PROXY_STATS_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace udpgate {

// The one list of the plain numbers: kind, name, help. A counter only grows; a
// gauge says how much there is now.
#define UDPGATE_PROXY_STATS(X)                                               \
  X(kCounter, client_datagrams_received, "Datagrams read from clients.")     \
  X(kCounter, client_bytes_received, "Payload bytes read from clients.")     \
  X(kCounter, client_datagrams_forwarded,                                    \
    "Datagrams of clients sent on to a backend.")                            \
  X(kCounter, client_bytes_forwarded,                                        \
    "Payload bytes of clients sent on to a backend.")                        \
  X(kCounter, backend_datagrams_received, "Datagrams read from backends.")   \
  X(kCounter, backend_bytes_received, "Payload bytes read from backends.")   \
  X(kCounter, backend_datagrams_forwarded,                                   \
    "Datagrams of backends sent on to a client.")                            \
  X(kCounter, backend_bytes_forwarded,                                       \
    "Payload bytes of backends sent on to a client.")                        \
  X(kGauge, datagrams_held,                                                  \
    "Datagrams that wait in a queue or for their client's backend.")         \
  X(kGauge, datagrams_queued,                                                \
    "Of datagrams_held, those that wait in a worker's queue.")               \
  X(kGauge, messages_queued,                                                 \
    "Answers, disconnects and the like that wait for a worker.")             \
  X(kGauge, sessions_active, "Sessions that have a backend.")                \
  X(kGauge, sessions_confirmed,                                              \
    "Active sessions whose client kept sending after replies.")              \
  X(kGauge, sessions_pending, "Clients that wait for their backend.")        \
  X(kCounter, sessions_created, "Sessions begun, pending ones included.")    \
  X(kCounter, resolves_started, "Questions put to the backend resolver.")    \
  X(kCounter, resolves_failed, "Questions answered with an error.")          \
  X(kCounter, resolves_timed_out, "Questions without an answer in time.")    \
  X(kCounter, disconnects_received, "Disconnect events, of whatever form.")  \
  X(kCounter, disconnects_matched,                                           \
    "Disconnect events that named a live session.")                          \
  X(kCounter, disconnects_unmatched,                                         \
    "Disconnect events that named no live session.")                         \
  X(kCounter, disconnects_invalid, "Disconnect events that did not parse.")  \
  X(kCounter, disconnects_ambiguous,                                         \
    "Disconnect events whose relay port fits several sessions: none ended.") \
  X(kCounter, backend_refusals,                                              \
    "ICMP errors of backends' hosts and routes (port, host or network "      \
    "unreachable, prohibited), and sends that this host refused.")           \
  X(kCounter, backend_alternatives_used,                                     \
    "Sessions opened on another address of their backend's name, since the " \
    "first one had just refused or fallen silent.")                          \
  X(kGauge, backends_held_off,                                               \
    "Addresses of backends that have just refused or fallen silent.")        \
  X(kCounter, backend_holdoff_overflows,                                     \
    "Addresses of backends that were not held off: the table was full.")     \
  X(kCounter, client_refusals,                                               \
    "ICMP errors that named a client of a listening socket.")                \
  X(kCounter, client_error_pauses,                                           \
    "Times that a listening socket ignored ICMP errors for a second, since " \
    "more than 1000 had come within one.")                                   \
  X(kGauge, sessions_paused,                                                 \
    "Unconfirmed sessions whose replies wait for a sign of their client.")   \
  X(kCounter, reply_pauses,                                                  \
    "Times that an unconfirmed session's replies had to wait.")              \
  X(kCounter, send_buffer_unwatched,                                         \
    "Replies sent into a filling send buffer for sessions beyond the 256 "   \
    "that a worker can watch; see drop reason send_buffer_share.")           \
  X(kCounter, kernel_drops,                                                  \
    "Datagrams that the kernel dropped since a socket's buffer was full; "   \
    "those of a session's own socket are known once it has ended.")          \
  X(kGauge, fast_path_sessions,                                              \
    "Sessions that the kernel's fast path relays or observes.")              \
  X(kCounter, fast_path_client_datagrams,                                    \
    "Of client_datagrams_forwarded, those that the fast path handed on.")    \
  X(kCounter, fast_path_client_bytes,                                        \
    "Of client_bytes_forwarded, those that the fast path handed on.")        \
  X(kCounter, fast_path_backend_datagrams,                                   \
    "Of backend_datagrams_forwarded, those that the fast path handed on.")   \
  X(kCounter, fast_path_backend_bytes,                                       \
    "Of backend_bytes_forwarded, those that the fast path handed on.")       \
  X(kCounter, fast_path_refusals,                                            \
    "Sessions that the fast path could not take; they stay on sockets.")     \
  X(kCounter, fast_path_withdrawals,                                         \
    "Sessions back on sockets since routes, links or addresses changed.")    \
  X(kGauge, relay_ports_in_use, "Source ports towards backends in use.")     \
  X(kGauge, relay_ports_quarantined,                                         \
    "Source ports that rest since a backend may still send to them.")        \
  X(kCounter, quarantined_ports_taken,                                       \
    "Source ports used again before their rest was over.")                   \
  X(kCounter, events_suppressed,                                             \
    "Reports to the control thread that its full queue refused.")            \
  X(kCounter, session_events_dropped,                                        \
    "Events of sessions that the observer's full queue refused.")            \
  X(kGauge, session_events_queued,                                           \
    "Events of sessions that wait for the observer.")

// Why a datagram was not forwarded. Each dropped datagram has exactly one.
// (enumerator, name, help)
#define UDPGATE_DROP_REASONS(X)                                              \
  X(kTruncated, truncated, "Did not fit the read buffer whole.")             \
  X(kInvalidSource, invalid_source,                                          \
    "Came from an address that cannot be answered: port 0, all zeros, a "    \
    "group or a broadcast.")                                                 \
  X(kQueueFull, queue_full, "The queue of the shard was full.")              \
  X(kPendingFull, pending_full,                                              \
    "The client waits for its backend and its buffer was full.")             \
  X(kNoBackend, no_backend, "There is no backend now (missing key).")        \
  X(kInvalidBackend, invalid_backend,                                        \
    "The backend's address did not parse or cannot be used.")                \
  X(kResolveFailed, resolve_failed,                                          \
    "The source of backends is failing (Redis away).")                       \
  X(kResolveTimedOut, resolve_timed_out, "No backend was named in time.")    \
  X(kDenied, denied, "A new client that ALLOW_CIDRS or DENY_CIDRS refuses.") \
  X(kSessionLimit, session_limit, "A new client, and the gate is full.")     \
  X(kSessionLimitPerIp, session_limit_per_ip,                                \
    "A new client whose address has MAX_SESSIONS_PER_IP sessions, none of "  \
    "them silent.")                                                          \
  X(kUnconfirmedLimitPerIp, unconfirmed_limit_per_ip,                        \
    "A new client whose address has MAX_UNCONFIRMED_SESSIONS_PER_IP "        \
    "sessions that are not confirmed: perhaps a loop.")                      \
  X(kNewSessionRate, new_session_rate,                                       \
    "A new client beyond NEW_SESSIONS_PER_SEC.")                             \
  X(kNewSessionRatePerIp, new_session_rate_per_ip,                           \
    "A new client beyond NEW_SESSIONS_PER_SEC_PER_IP of its address.")       \
  X(kPendingLimit, pending_limit,                                            \
    "Too many clients, or bytes of theirs, wait for their backend.")         \
  X(kNoUpstreamSocket, no_upstream_socket,                                   \
    "No socket towards the backend could be opened.")                        \
  X(kDraining, draining, "A new client while the gate drains.")              \
  X(kSessionEnded, session_ended,                                            \
    "Waited in a session that ended with the gate's stop.")                  \
  X(kBackendRefused, backend_refused,                                        \
    "The backend's host answered: port unreachable.")                        \
  X(kBackendSendFailed, backend_send_failed,                                 \
    "Another error of the send towards the backend.")                        \
  X(kReplyTruncated, reply_truncated,                                        \
    "A reply that did not fit the read buffer whole.")                       \
  X(kUnconfirmedReplyLimit, unconfirmed_reply_limit,                         \
    "A reply beyond what a client gets that has shown no sign of seeing "    \
    "replies.")                                                              \
  X(kSendBufferShare, send_buffer_share,                                     \
    "A reply beyond the share of the send buffer of a client whose link "    \
    "is jammed.")                                                            \
  X(kReplySendFailed, reply_send_failed,                                     \
    "An error of the send towards the client.")                              \
  X(kWouldFragment, would_fragment,                                          \
    "Too large for one packet of the interface, with DONT_FRAGMENT on.")

// Why a session ended. Each ended session has exactly one.
#define UDPGATE_END_REASONS(X)                                             \
  X(kIdle, idle, "No datagram in either direction for the idle time-out.") \
  X(kUnconfirmed, unconfirmed,                                             \
    "Its client fell silent before it had shown that it sees replies.")    \
  X(kEvicted, evicted,                                                     \
    "Unconfirmed, and the gate was full when a new client came.")          \
  X(kReplaced, replaced,                                                   \
    "Its client was silent longest of an address that had "                \
    "MAX_SESSIONS_PER_IP sessions when a new client came from there.")     \
  X(kDisconnected, disconnected, "A disconnect event named it.")           \
  X(kBackendRefused, backend_refused,                                      \
    "BACKEND_REFUSALS_MAX ICMP errors or refused sends in a row.")         \
  X(kBackendSilent, backend_silent,                                        \
    "Its client sent, and no reply came for BACKEND_SILENT_TIMEOUT_SECS.") \
  X(kClientSilent, client_silent,                                          \
    "Its client sent nothing for CLIENT_SILENT_TIMEOUT_SECS, or its host " \
    "refused the replies.")                                                \
  X(kResolveFailed, resolve_failed, "No backend: an error.")               \
  X(kResolveTimedOut, resolve_timed_out, "No backend in time.")            \
  X(kNoUpstreamSocket, no_upstream_socket,                                 \
    "No socket towards the backend could be opened.")                      \
  X(kStopped, stopped, "The gate stopped.")

// Why a session got a fresh socket towards the same backend.
#define UDPGATE_REOPEN_REASONS(X)                                   \
  X(kSendFailed, send_failed,                                       \
    "A send failed, and the route now has another source address.") \
  X(kNetworkChange, network_change,                                 \
    "The source address of its socket has left this host.")         \
  X(kSilence, silence,                                              \
    "No reply came, and the route now has another source address.")

#define UDPGATE_ENUMERATOR(enumerator, name, help) enumerator,
enum class DropReason : uint8_t { UDPGATE_DROP_REASONS(UDPGATE_ENUMERATOR) };
enum class EndReason : uint8_t { UDPGATE_END_REASONS(UDPGATE_ENUMERATOR) };
enum class ReopenReason : uint8_t {
  UDPGATE_REOPEN_REASONS(UDPGATE_ENUMERATOR)
};
#undef UDPGATE_ENUMERATOR

#define UDPGATE_COUNT(enumerator, name, help) +1
inline constexpr size_t kDropReasonCount = UDPGATE_DROP_REASONS(UDPGATE_COUNT);
inline constexpr size_t kEndReasonCount = UDPGATE_END_REASONS(UDPGATE_COUNT);
inline constexpr size_t kReopenReasonCount =
    UDPGATE_REOPEN_REASONS(UDPGATE_COUNT);
#undef UDPGATE_COUNT

// The name of a reason in logs and metrics, and a sentence on what it means.
absl::string_view DropReasonName(DropReason reason);
absl::string_view DropReasonHelp(DropReason reason);
absl::string_view EndReasonName(EndReason reason);
absl::string_view EndReasonHelp(EndReason reason);
absl::string_view ReopenReasonName(ReopenReason reason);
absl::string_view ReopenReasonHelp(ReopenReason reason);

// How long questions to the backend resolver took until the answer was there,
// an error included; what timed out without one is no answer. A bucket counts
// those that took no longer than its bound, and longer than the one before; the
// last bucket, without a bound, all that took longer still.
inline constexpr double kResolveSecondsBounds[] = {
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5};
inline constexpr size_t kResolveBucketCount =
    sizeof(kResolveSecondsBounds) / sizeof(kResolveSecondsBounds[0]) + 1;

// A copy; it does not change after it was taken. Threads: as any struct.
struct ProxyStats {
#define UDPGATE_MEMBER(kind, name, help) uint64_t name = 0;
  UDPGATE_PROXY_STATS(UDPGATE_MEMBER)
#undef UDPGATE_MEMBER
  std::array<uint64_t, kDropReasonCount> datagrams_dropped{};
  std::array<uint64_t, kEndReasonCount> sessions_ended{};
  std::array<uint64_t, kReopenReasonCount> sessions_reopened{};
  std::array<uint64_t, kResolveBucketCount> resolves_by_duration{};
  // The sum of these durations.
  uint64_t resolve_nanoseconds_total = 0;

  uint64_t dropped(DropReason reason) const {
    return datagrams_dropped[static_cast<size_t>(reason)];
  }
  uint64_t ended(EndReason reason) const {
    return sessions_ended[static_cast<size_t>(reason)];
  }
  uint64_t reopened(ReopenReason reason) const {
    return sessions_reopened[static_cast<size_t>(reason)];
  }
  uint64_t dropped_total() const;
  uint64_t ended_total() const;
};

// One plain number of `ProxyStats`, for whoever exports them all.
struct ProxyStatField {
  enum class Kind { kCounter, kGauge };
  Kind kind;
  absl::string_view name;
  absl::string_view help;
  uint64_t ProxyStats::*value;
};

// All of them, in the order of the list above.
absl::Span<const ProxyStatField> ProxyStatFields();

}  // namespace udpgate

#endif  // UDPGATE_PROXY_STATS_H_
