#include "udpgate/nethernet/nethernet_metric_infos.h"

namespace udpgate {
namespace nethernet {
namespace {

using Kind = HostMetric::Kind;

#define UDPGATE_PREFIX "udpgate_nethernet_"

constexpr NetherNetMetricInfo kInfos[] = {
    {UDPGATE_PREFIX "connections_total", Kind::kCounter, "",
     "TCP connections accepted."},
    {UDPGATE_PREFIX "connections_open", Kind::kGauge, "",
     "TCP connections open now."},
    {UDPGATE_PREFIX "connections_closed_total", Kind::kCounter, "reason",
     "Connections closed by the gateway: limit (refused at "
     "a limit), evicted (made room for another), denied (ALLOW_CIDRS, "
     "DENY_CIDRS; requests as well), read_timeout, write_timeout, "
     "response_timeout."},
    {UDPGATE_PREFIX "accept_failures_total", Kind::kCounter, "",
     "Connections that could not be accepted, for example without "
     "descriptors."},
    {UDPGATE_PREFIX "tls_handshakes_total", Kind::kCounter, "result",
     "TLS handshakes: completed, failed."},
    {UDPGATE_PREFIX "proxy_headers_total", Kind::kCounter, "result",
     "Headers of the PROXY protocol: accepted, refused (malformed, too slow, "
     "or "
     "not from NETHERNET_TRUSTED_PROXIES)."},
    {UDPGATE_PREFIX "certificate_reloads_total", Kind::kCounter, "result",
     "Changes of the certificate: applied, failed (the old one stays)."},
    {UDPGATE_PREFIX "certificate_expires_seconds", Kind::kGauge, "",
     "Time until which the certificate is valid, in seconds since 1970-01-01 "
     "UTC; 0 without one."},
    {UDPGATE_PREFIX "requests_total", Kind::kCounter, "path, status",
     "Responses by path (status: /v1/join, join: /v1/join/{networkId}, other) "
     "and status code."},
    {UDPGATE_PREFIX "requests_refused_total", Kind::kCounter, "",
     "Requests refused: malformed or too large."},
    {UDPGATE_PREFIX "joins_total", Kind::kCounter, "result",
     "Requests to join (POST /v1/join/{networkId}) by result."},
    {UDPGATE_PREFIX "answer_duration_seconds", Kind::kHistogram, "",
     "Time from the request of a join to its answer."},
    {UDPGATE_PREFIX "joins_in_progress", Kind::kGauge, "",
     "Joins without an answer so far."},
    {UDPGATE_PREFIX "rate_table_full_total", Kind::kCounter, "",
     "Joins refused since too many addresses had joined within a second."},
    {UDPGATE_PREFIX "status_questions_total", Kind::kCounter, "result",
     "Requests to backends for their status: answered, failed."},
    {UDPGATE_PREFIX "status_waiters", Kind::kGauge, "",
     "Requests for the status that wait for a backend."},
    {UDPGATE_PREFIX "status_waiters_refused_total", Kind::kCounter, "",
     "Requests for the status beyond the number that may wait."},
    {UDPGATE_PREFIX "backend_requests_waiting", Kind::kGauge, "",
     "Requests to backends that wait for a connection."},
    {UDPGATE_PREFIX "backend_requests_refused_total", Kind::kCounter, "",
     "Requests to backends refused because too many were waiting."},
    {UDPGATE_PREFIX "joins_waiting", Kind::kGauge, "",
     "Joins that wait for the player's first datagram, including those in "
     "progress."},
    {UDPGATE_PREFIX "joins_live", Kind::kGauge, "", "Joins with sessions."},
    {UDPGATE_PREFIX "joins_lingering", Kind::kGauge, "",
     "Joins whose last session has ended."},
    {UDPGATE_PREFIX "joins_shared_waiting", Kind::kGauge, "",
     "Joins of other gateways without a datagram of the player here."},
    {UDPGATE_PREFIX "joins_added_total", Kind::kCounter, "origin",
     "Joins remembered: own, shared (answered by another gateway)."},
    {UDPGATE_PREFIX "joins_begun_total", Kind::kCounter, "",
     "Joins that had their first session."},
    {UDPGATE_PREFIX "joins_ended_total", Kind::kCounter, "reason",
     "Joins forgotten: expired (no datagram in time), left (after the last "
     "session), disconnected, displaced (at a limit)."},
    {UDPGATE_PREFIX "joins_refused_total", Kind::kCounter, "reason",
     "Joins not remembered: limit (NETHERNET_JOINS_MAX), ufrag (too many have "
     "the same user fragment)."},
    {UDPGATE_PREFIX "stun_total", Kind::kCounter, "result",
     "STUN requests of clients without a session: known, unknown_ufrag, "
     "wrong_integrity, malformed, address_limit (too many addresses of a "
     "join)."},
    {UDPGATE_PREFIX "dtls_without_session_total", Kind::kCounter, "",
     "DTLS datagrams of clients without a session."},
    {UDPGATE_PREFIX "clients_moved_total", Kind::kCounter, "",
     "Players whose network gave them another address in mid-game."},
};

#undef UDPGATE_PREFIX

}  // namespace

absl::Span<const NetherNetMetricInfo> NetherNetMetricInfos() { return kInfos; }

}  // namespace nethernet
}  // namespace udpgate
