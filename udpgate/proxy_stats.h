// A snapshot of a `Proxy`'s counters and gauges.
//
//   udpgate::ProxyStats stats = proxy->GetStats();
//   stats.sessions_active;
//   stats.dropped(udpgate::DropReason::kQueueFull);
//
// Every datagram is accounted for. The sums are exact while there is no
// traffic:
//
//   client_datagrams_received + backend_datagrams_received =
//       client_datagrams_forwarded + backend_datagrams_forwarded
//       + sum of datagrams_dropped + datagrams_held
//
// and so are sessions:
//
//   sessions_created + sessions_restored =
//       sessions_active + sessions_pending + sum of sessions_ended
#ifndef UDPGATE_PROXY_STATS_H_
#define UDPGATE_PROXY_STATS_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "udpgate/base/export.h"

namespace udpgate {

// The list of all plain numbers: kind, name, help. A counter only grows; a
// gauge is the current amount.
#define UDPGATE_PROXY_STATS(X)                                                 \
  X(kCounter, client_datagrams_received, "Datagrams read from clients.")       \
  X(kCounter, client_bytes_received, "Payload bytes read from clients.")       \
  X(kCounter, client_datagrams_forwarded,                                      \
    "Client datagrams sent to a backend.")                                     \
  X(kCounter, client_bytes_forwarded,                                          \
    "Payload bytes of client datagrams sent to a backend.")                    \
  X(kCounter, backend_datagrams_received, "Datagrams read from backends.")     \
  X(kCounter, backend_bytes_received, "Payload bytes read from backends.")     \
  X(kCounter, backend_datagrams_forwarded,                                     \
    "Backend datagrams sent to a client.")                                     \
  X(kCounter, backend_bytes_forwarded,                                         \
    "Payload bytes of backend datagrams sent to a client.")                    \
  X(kGauge, datagrams_held,                                                    \
    "Datagrams in a worker queue or buffered until their backend is "          \
    "resolved.")                                                               \
  X(kGauge, datagrams_queued,                                                  \
    "Part of datagrams_held that is in worker queues.")                        \
  X(kGauge, messages_queued,                                                   \
    "Control messages (resolve results, disconnects) in worker queues.")       \
  X(kGauge, sessions_active, "Sessions that have a backend.")                  \
  X(kGauge, sessions_confirmed,                                                \
    "Active sessions whose client address is validated.")                      \
  X(kGauge, sessions_pending, "Sessions whose backend is being resolved.")     \
  X(kCounter, sessions_created, "Sessions created, including pending ones.")   \
  X(kCounter, sessions_restored,                                               \
    "Sessions of another process or gateway continued here (session store); "  \
    "not part of sessions_created.")                                           \
  X(kCounter, resolves_started, "Backend resolutions started.")                \
  X(kCounter, resolves_failed, "Backend resolutions that returned an error.")  \
  X(kCounter, resolves_timed_out, "Backend resolutions that timed out.")       \
  X(kCounter, disconnects_received,                                            \
    "Disconnect events received, including invalid ones.")                     \
  X(kCounter, disconnects_matched,                                             \
    "Disconnect events that matched a live session.")                          \
  X(kCounter, disconnects_unmatched,                                           \
    "Disconnect events that matched no live session.")                         \
  X(kCounter, disconnects_invalid,                                             \
    "Disconnect events that could not be parsed.")                             \
  X(kCounter, disconnects_ambiguous,                                           \
    "Disconnect events whose relay port matched several sessions; none "       \
    "ended.")                                                                  \
  X(kCounter, backend_refusals,                                                \
    "ICMP errors on sockets towards backends (port, host or network "          \
    "unreachable, prohibited), and sends that this host refused.")             \
  X(kCounter, backend_alternatives_used,                                       \
    "Sessions opened on an alternative backend address because the "           \
    "preferred one recently refused or did not reply.")                        \
  X(kGauge, backends_held_off,                                                 \
    "Backend addresses avoided because they recently refused or did not "      \
    "reply.")                                                                  \
  X(kCounter, backend_holdoff_overflows,                                       \
    "Backend addresses not held off because the table was full.")              \
  X(kCounter, client_refusals,                                                 \
    "ICMP errors received for clients of a listening socket.")                 \
  X(kCounter, client_error_pauses,                                             \
    "Times a listening socket ignored ICMP errors for one second, after "      \
    "more than 1000 within one second.")                                       \
  X(kGauge, sessions_paused,                                                   \
    "Unconfirmed sessions whose replies are paused by the "                    \
    "anti-amplification limit.")                                               \
  X(kCounter, reply_pauses,                                                    \
    "Times the replies of an unconfirmed session were paused.")                \
  X(kCounter, send_buffer_unwatched,                                           \
    "Replies sent while the send buffer was filling, for sessions beyond the " \
    "256 that a worker watches; see drop reason send_buffer_share.")           \
  X(kCounter, kernel_drops,                                                    \
    "Datagrams dropped by the kernel because a socket buffer was full; "       \
    "those of upstream sockets are added when their session ends.")            \
  X(kGauge, fast_path_sessions,                                                \
    "Sessions relayed or observed by the kernel fast path.")                   \
  X(kCounter, fast_path_client_datagrams,                                      \
    "Part of client_datagrams_forwarded that the fast path relayed.")          \
  X(kCounter, fast_path_client_bytes,                                          \
    "Part of client_bytes_forwarded that the fast path relayed.")              \
  X(kCounter, fast_path_backend_datagrams,                                     \
    "Part of backend_datagrams_forwarded that the fast path relayed.")         \
  X(kCounter, fast_path_backend_bytes,                                         \
    "Part of backend_bytes_forwarded that the fast path relayed.")             \
  X(kCounter, fast_path_refusals,                                              \
    "Sessions that the fast path rejected; they stay on sockets.")             \
  X(kCounter, fast_path_withdrawals,                                           \
    "Sessions moved back to sockets because routes, links or addresses "       \
    "changed.")                                                                \
  X(kGauge, hop_clients,                                                       \
    "Clients whose sessions other gateways have, and whose datagrams are "     \
    "forwarded there.")                                                        \
  X(kCounter, hop_client_datagrams_sent,                                       \
    "Part of client_datagrams_forwarded sent to the gateway that has the "     \
    "session.")                                                                \
  X(kCounter, hop_client_datagrams_received,                                   \
    "Part of client_datagrams_received that came by another gateway.")         \
  X(kCounter, hop_replies_sent,                                                \
    "Part of backend_datagrams_forwarded sent to the gateway that the client " \
    "sends by.")                                                               \
  X(kCounter, hop_replies_received,                                            \
    "Part of backend_datagrams_received that came from the gateway that has "  \
    "the session.")                                                            \
  X(kCounter, hop_refusals,                                                    \
    "Times that a gateway did not have the session of a client that was "      \
    "forwarded to it.")                                                        \
  X(kCounter, hop_clients_refused,                                             \
    "Times that a client was not forwarded, since forwarded_clients_max was "  \
    "reached.")                                                                \
  X(kCounter, hop_silences,                                                    \
    "Clients that got a session here, since the gateway that has theirs did "  \
    "not answer.")                                                             \
  X(kCounter, hop_envelopes_large,                                             \
    "Datagrams between gateways that exceed a packet of 1,500 bytes; they "    \
    "leave in fragments unless the network between carries larger packets.")   \
  X(kGauge, relay_ports_in_use, "Source ports towards backends in use.")       \
  X(kGauge, relay_ports_quarantined, "Source ports in quarantine.")            \
  X(kCounter, quarantined_ports_taken,                                         \
    "Source ports reused before their quarantine ended.")                      \
  X(kCounter, events_suppressed,                                               \
    "Log reports dropped because the control thread's queue was full.")        \
  X(kCounter, session_events_dropped,                                          \
    "Session events dropped because the observer's queue was full.")           \
  X(kGauge, session_events_queued, "Session events queued for the observer.")

// Why a datagram was not forwarded. Each dropped datagram has exactly one.
// (enumerator, name, help)
#define UDPGATE_DROP_REASONS(X)                                               \
  X(kTruncated, truncated, "Datagram larger than the read buffer.")           \
  X(kInvalidSource, invalid_source,                                           \
    "Source address cannot receive a reply: port 0, all zeros, multicast or " \
    "broadcast.")                                                             \
  X(kQueueFull, queue_full, "The worker queue was full.")                     \
  X(kPendingFull, pending_full,                                               \
    "The buffer of a session whose backend is being resolved was full.")      \
  X(kNoBackend, no_backend,                                                   \
    "The resolver has no backend (for example, the Redis key is missing).")   \
  X(kInvalidBackend, invalid_backend,                                         \
    "The backend address is malformed or unusable.")                          \
  X(kResolveFailed, resolve_failed,                                           \
    "The backend source failed (for example, Redis is unreachable).")         \
  X(kResolveTimedOut, resolve_timed_out, "Backend resolution timed out.")     \
  X(kDenied, denied, "New session rejected by ALLOW_CIDRS or DENY_CIDRS.")    \
  X(kSessionLimit, session_limit,                                             \
    "New session rejected: session limit reached.")                           \
  X(kSessionLimitPerIp, session_limit_per_ip,                                 \
    "New session rejected: MAX_SESSIONS_PER_IP reached, and no session of "   \
    "the address is silent.")                                                 \
  X(kUnconfirmedLimitPerIp, unconfirmed_limit_per_ip,                         \
    "New session rejected: MAX_UNCONFIRMED_SESSIONS_PER_IP reached "          \
    "(possible forwarding loop).")                                            \
  X(kNewSessionRate, new_session_rate,                                        \
    "New session rejected: NEW_SESSIONS_PER_SEC exceeded.")                   \
  X(kNewSessionRatePerIp, new_session_rate_per_ip,                            \
    "New session rejected: NEW_SESSIONS_PER_SEC_PER_IP exceeded.")            \
  X(kPendingLimit, pending_limit,                                             \
    "New session rejected: too many sessions, or bytes, wait for a backend.") \
  X(kStunUnknownUfrag, stun_unknown_ufrag,                                    \
    "STUN message of a new client that names no join, or is malformed.")      \
  X(kStunWrongIntegrity, stun_wrong_integrity,                                \
    "STUN request of a new client whose MESSAGE-INTEGRITY is wrong or "       \
    "missing.")                                                               \
  X(kStunAddressLimit, stun_address_limit,                                    \
    "STUN request of a player who has as many addresses as a join may have.") \
  X(kDtlsWithoutSession, dtls_without_session,                                \
    "DTLS datagram of a client without a session (NETHERNET_ADDR).")          \
  X(kNoUpstreamSocket, no_upstream_socket,                                    \
    "No upstream socket could be opened.")                                    \
  X(kDraining, draining, "New session rejected: the gateway is draining.")    \
  X(kStandby, standby,                                                        \
    "Datagram of a client while the gateway is in standby.")                  \
  X(kHopInvalid, hop_invalid,                                                 \
    "Datagram at SESSION_FORWARD_ADDR that no gateway with the same secret "  \
    "has sealed.")                                                            \
  X(kHopReplayed, hop_replayed,                                               \
    "Datagram of another gateway that came before, or whose time differs by " \
    "more than 30 s.")                                                        \
  X(kHopNoSession, hop_no_session,                                            \
    "Datagram of another gateway for a client that has no session here, or "  \
    "is not forwarded.")                                                      \
  X(kHopLimit, hop_limit,                                                     \
    "Too many clients are forwarded, or too many gateways are known.")        \
  X(kHopSendFailed, hop_send_failed, "Sending to another gateway failed.")    \
  X(kSessionEnded, session_ended,                                             \
    "Buffered datagram discarded at shutdown, or since another gateway "      \
    "continues the session.")                                                 \
  X(kBackendRefused, backend_refused,                                         \
    "ICMP errors from the backend ended the session with this datagram.")     \
  X(kBackendSendFailed, backend_send_failed,                                  \
    "Sending to the backend failed with another error.")                      \
  X(kReplyTruncated, reply_truncated, "Reply larger than the read buffer.")   \
  X(kUnconfirmedReplyLimit, unconfirmed_reply_limit,                          \
    "Reply to an unconfirmed client exceeded the anti-amplification limit.")  \
  X(kSendBufferShare, send_buffer_share,                                      \
    "Reply exceeded the client's share of the send buffer (congested client " \
    "link).")                                                                 \
  X(kReplySendFailed, reply_send_failed, "Sending to the client failed.")     \
  X(kWouldFragment, would_fragment,                                           \
    "Datagram larger than one packet of the interface, with DONT_FRAGMENT "   \
    "on.")

// Why a session ended. Each ended session has exactly one.
#define UDPGATE_END_REASONS(X)                                                \
  X(kIdle, idle,                                                              \
    "No datagram in either direction for SESSION_IDLE_TIMEOUT_SECS.")         \
  X(kUnconfirmed, unconfirmed,                                                \
    "Unconfirmed, and the client sent nothing for UNCONFIRMED_TIMEOUT_SECS.") \
  X(kEvicted, evicted,                                                        \
    "Unconfirmed session evicted for a new client at the session limit.")     \
  X(kReplaced, replaced,                                                      \
    "Longest-silent session of an address at MAX_SESSIONS_PER_IP, evicted "   \
    "for a new session from that address.")                                   \
  X(kDisconnected, disconnected, "Ended by a disconnect event.")              \
  X(kBackendRefused, backend_refused,                                         \
    "BACKEND_REFUSALS_MAX consecutive ICMP errors or refused sends.")         \
  X(kBackendSilent, backend_silent,                                           \
    "The client sent, and the backend did not reply for "                     \
    "BACKEND_SILENT_TIMEOUT_SECS.")                                           \
  X(kClientSilent, client_silent,                                             \
    "The client sent nothing for CLIENT_SILENT_TIMEOUT_SECS, or its host "    \
    "refused the replies.")                                                   \
  X(kClientMoved, client_moved, "The player continues from another address.") \
  X(kResolveFailed, resolve_failed, "Backend resolution failed.")             \
  X(kResolveTimedOut, resolve_timed_out, "Backend resolution timed out.")     \
  X(kNoUpstreamSocket, no_upstream_socket,                                    \
    "No upstream socket could be opened.")                                    \
  X(kSuperseded, superseded, "Another gateway continues the session.")        \
  X(kForwarded, forwarded,                                                    \
    "Another gateway has the session, and the client's datagrams go there.")  \
  X(kStopped, stopped, "The gateway stopped.")

// Why a session's upstream socket was replaced; the backend stays the same.
#define UDPGATE_REOPEN_REASONS(X)                                    \
  X(kSendFailed, send_failed,                                        \
    "A send failed, and the route now uses another source address.") \
  X(kNetworkChange, network_change,                                  \
    "The source address of the socket was removed from this host.")  \
  X(kSilence, silence,                                               \
    "No reply arrived, and the route now uses another source address.")

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

// The name of a reason in logs and metrics, and its description.
UDPGATE_EXPORT absl::string_view DropReasonName(DropReason reason);
UDPGATE_EXPORT absl::string_view DropReasonHelp(DropReason reason);
UDPGATE_EXPORT absl::string_view EndReasonName(EndReason reason);
UDPGATE_EXPORT absl::string_view EndReasonHelp(EndReason reason);
UDPGATE_EXPORT absl::string_view ReopenReasonName(ReopenReason reason);
UDPGATE_EXPORT absl::string_view ReopenReasonHelp(ReopenReason reason);

// Histogram bounds of the time from the start of a backend resolution to its
// result or error; timeouts are not counted. A bucket counts durations above
// the previous bound and up to its own; the last bucket has no bound.
inline constexpr double kResolveSecondsBounds[] = {
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5};
inline constexpr size_t kResolveBucketCount =
    sizeof(kResolveSecondsBounds) / sizeof(kResolveSecondsBounds[0]) + 1;

// A copy; it does not change after it was taken. Threads: a plain struct.
struct UDPGATE_EXPORT ProxyStats {
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

// One plain number of `ProxyStats`, for code that exports all of them.
struct UDPGATE_EXPORT ProxyStatField {
  enum class Kind { kCounter, kGauge };
  Kind kind;
  absl::string_view name;
  absl::string_view help;
  uint64_t ProxyStats::*value;
};

// All of them, in the order of the list above.
UDPGATE_EXPORT absl::Span<const ProxyStatField> ProxyStatFields();

}  // namespace udpgate

#endif  // UDPGATE_PROXY_STATS_H_
