// How a `JoinService` answers, and what it counts.
#ifndef UDPGATE_NETHERNET_JOIN_SERVICE_OPTIONS_H_
#define UDPGATE_NETHERNET_JOIN_SERVICE_OPTIONS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/cidr.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {

// How a backend learns the player's address, which it cannot see on UDP.
enum class ForwardClient : uint8_t {
  kOff,
  kXForwardedFor,  // a header of the HTTP request
  // A header of the PROXY protocol in front of the HTTP request.
  kProxyV1,
  kProxyV2,
};

// All of it can be changed while the service runs. Threads: as a std::string.
struct UDPGATE_EXPORT JoinServiceOptions {
  // The UDP addresses that players are told. Port 0 stands for `proxy_port`.
  // Empty: the address that the player's TCP connection came to, with
  // `proxy_port`. At most 16.
  std::vector<SocketAddress> public_addresses;
  // The UDP port of the Proxy. 1 to 65535.
  uint16_t proxy_port = 19132;
  // The TCP port of a backend's signaling; 0: the port of the backend's
  // address.
  uint16_t backend_port = 0;
  ForwardClient forward_client = ForwardClient::kXForwardedFor;

  // The response of `GET /v1/join` if there is no backend, or if it fails: a
  // JSON object. Empty: a 503. At most `status_bytes_max`.
  std::string status_json;
  // A response of a backend is used this long for all who ask. 0 to 1 minute.
  absl::Duration status_age_max = absl::Seconds(1);
  // The same for a failure. 0 to 1 minute.
  absl::Duration status_failure_age_max = absl::Milliseconds(250);
  // How long a question for the status may take, with the resolution of the
  // backend. 10 ms to 1 hour.
  absl::Duration status_timeout = absl::Seconds(5);
  // Requests that may wait for such a question; further ones get the response
  // without a backend. 1 to 1,000,000.
  int status_waiters_max = 4096;
  // Backends whose responses are remembered. 1 to 10,000.
  int status_backends_max = 64;
  // Limit on such a response. 1 to 1 MiB.
  size_t status_bytes_max = 64 * 1024;

  // From the request of a join to its answer, with the resolution of the
  // backend. 10 ms to 1 hour.
  absl::Duration answer_timeout = absl::Seconds(10);
  // Part of it: how long the resolution may take. 10 ms to 1 hour.
  absl::Duration resolve_timeout = absl::Seconds(3);
  // Part of it and of `status_timeout`: how long one address of a backend may
  // take to connect. Then the next one is tried. 10 ms to 1 hour.
  absl::Duration connect_timeout = absl::Seconds(3);
  // Limit on the answer of a backend. 1 to 16 MiB.
  size_t answer_bytes_max = 256 * 1024;
  // Joins whose backend has not answered. 1 to 1,000,000.
  int joins_in_progress_max = 2048;

  // Joins per second of an IPv4 address or IPv6 /64, which is also the burst
  // size. 0 to 1,000,000; 0: no limit.
  int64_t joins_per_second_per_ip = 0;
  // Addresses that this limit remembers; further ones are refused while all of
  // these have asked within the last second. 1 to 10,000,000.
  int rate_addresses_max = 65536;

  // Players who may ask: none in `deny_cidrs`, and if `allow_cidrs` is not
  // empty, only those in it.
  CidrList allow_cidrs;
  CidrList deny_cidrs;

  // OK, or an error of option_error.h.
  absl::Status Validate() const;
};

// Each request of a join has one result: name and help text.
#define UDPGATE_JOIN_RESULTS(X)                                                \
  X(kJoined, "joined", "The player got an answer.")                            \
  X(kBadRequest, "bad_request", "The path or the content type is invalid.")    \
  X(kBadOffer, "bad_offer", "The offer is not an SDP.")                        \
  X(kDenied, "denied", "The player's address may not join.")                   \
  X(kRateLimited, "rate_limited", "The player's address asks too often.")      \
  X(kDraining, "draining", "The gateway is draining.")                         \
  X(kSessionsFull, "sessions_full", "The limit on sessions is reached.")       \
  X(kTableFull, "table_full", "Too many joins are under way.")                 \
  X(kNoBackend, "no_backend", "There is no backend.")                          \
  X(kResolveFailed, "resolve_failed",                                          \
    "The backend source failed, or gave no result in time.")                   \
  X(kBackendUnreachable, "backend_unreachable",                                \
    "No connection to the backend's signaling.")                               \
  X(kBackendError, "backend_error",                                            \
    "The backend answered with an error, or broke off.")                       \
  X(kBackendTimeout, "backend_timeout", "The backend did not answer in time.") \
  X(kBadAnswer, "bad_answer",                                                  \
    "The backend's answer lacks a user fragment, a password or a UDP "         \
    "candidate, or names those of another join.")                              \
  X(kDisconnected, "disconnected",                                             \
    "A disconnect named the player or the backend meanwhile.")

enum class JoinResult : uint8_t {
#define UDPGATE_ONE(value, name, help) value,
  UDPGATE_JOIN_RESULTS(UDPGATE_ONE)
#undef UDPGATE_ONE
};

#define UDPGATE_ONE(value, name, help) +1
inline constexpr size_t kJoinResultCount = 0 UDPGATE_JOIN_RESULTS(UDPGATE_ONE);
#undef UDPGATE_ONE

// "joined", and a sentence.
UDPGATE_EXPORT absl::string_view JoinResultName(JoinResult result);
UDPGATE_EXPORT absl::string_view JoinResultHelp(JoinResult result);

// The upper bounds of all ranges of the time to the answer but the last.
inline constexpr std::array<double, 12> kAnswerSecondsBounds = {
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5};
inline constexpr size_t kAnswerBucketCount = kAnswerSecondsBounds.size() + 1;

// What a path of a request stands for in `JoinServiceStats`.
enum class RequestPath : uint8_t {
  kStatus,  // /v1/join
  kJoin,    // /v1/join/{networkId}
  kOther,
};
inline constexpr size_t kRequestPathCount = 3;
UDPGATE_EXPORT absl::string_view RequestPathName(RequestPath path);  // "status"

// Totals since `Create`, except the gauges. Threads: as a std::vector.
struct UDPGATE_EXPORT JoinServiceStats {
  struct Requests {
    RequestPath path = RequestPath::kOther;
    int status = 0;  // of the response
    uint64_t count = 0;
  };
  std::vector<Requests> requests;  // those with a count, by path and status
  std::array<uint64_t, kJoinResultCount> joins{};  // by JoinResult
  // By the time from the request to the answer; joins with the result kJoined.
  std::array<uint64_t, kAnswerBucketCount> answers_by_duration{};
  double answer_seconds_total = 0;
  uint64_t joins_in_progress =
      0;  // gauge: of requests without an answer so far
  // Questions to backends that have ended.
  uint64_t status_questions_answered = 0;
  uint64_t status_questions_failed = 0;
  uint64_t status_waiters = 0;          // gauge
  uint64_t status_waiters_refused = 0;  // beyond `status_waiters_max`
  // Players refused since `rate_addresses_max` were remembered.
  uint64_t rate_table_full = 0;
};

}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_JOIN_SERVICE_OPTIONS_H_
