// Options of an `AdminServer` (admin_server.h), and the hooks through which the
// host program adds to it.
#ifndef UDPGATE_ADMIN_ADMIN_OPTIONS_H_
#define UDPGATE_ADMIN_ADMIN_OPTIONS_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "udpgate/admin/session_history.h"
#include "udpgate/base/export.h"
#include "udpgate/host_metric.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {

struct UDPGATE_EXPORT AdminOptions {
  // Port 0: the kernel chooses, see `AdminServer::address`.
  SocketAddress listen_address;
  // A listening socket to adopt instead of binding that address; -1: none.
  // `AdminServer::Create` takes ownership.
  int listen_fd = -1;
  // Required as `Authorization: Bearer <token>` for everything except the
  // status page, metrics and health. Empty: a loopback address needs no token,
  // and any other address serves only these.
  std::string token;

  // Open connections, each for one request. If there are more, the one that has
  // waited longest for its request is closed.
  int connections_max = 64;
  int worker_count = 2;
  // Requests that wait for a worker. Further ones are refused with 503.
  int queue_size = 32;
  // Request line and headers, 512 bytes to 1 MiB; up to 64 MiB.
  size_t header_bytes_max = 16384;
  size_t body_bytes_max = 65536;
  // For a complete request, and for a complete response; 10 ms to 1 hour.
  absl::Duration read_timeout = absl::Seconds(5);
  absl::Duration write_timeout = absl::Seconds(5);
  // Values of the label `backend` of udpgate_backend_sessions in /metrics.
  int metric_backends_max = 100;
  // Maximum age of the sessions by backend in /metrics and /api/v1/backends,
  // since counting them visits all sessions.
  absl::Duration backends_age_max = absl::Seconds(1);
  // Maximum number of ends in one response of /api/v1/ends.
  int ends_page_max = 1000;
  // Maximum number of sessions in one response of /api/v1/sessions, and of
  // joins in one of /api/v1/joins.
  int sessions_page_max = 1000;
  // How long a disconnect may take, and the event-loop iteration of each worker
  // that /healthz waits for.
  absl::Duration disconnect_timeout = absl::Seconds(2);
  absl::Duration liveness_timeout = absl::Seconds(2);
  // Invalid tokens of one IPv4 address or IPv6 /64 within a window. After them
  // its tokens are not checked (429) until the window ends.
  int wrong_tokens_max = 10;
  absl::Duration wrong_token_window = absl::Minutes(1);

  // InvalidArgument names the field.
  absl::Status Validate() const;
};

// State of a part that the gateway depends on, such as its connection to Redis.
struct UDPGATE_EXPORT ComponentHealth {
  std::string name;  // a label in /metrics: a-z and _
  absl::Status status;
  // True: the gateway is not ready while it fails. False: a warning.
  bool is_needed = true;
};

using HostMetric = udpgate::HostMetric;

// A player's join that is under way, as /api/v1/joins shows it. Texts are shown
// as they are, and must contain no secret.
struct UDPGATE_EXPORT ListedJoin {
  std::string network_id;
  std::string player;   // IP address
  std::string backend;  // address
  std::string label;    // of the backend
  std::string media;    // where the player's datagrams are sent
  std::string state;    // "waiting", "live", "lingering"
  int session_count = 0;
  absl::Duration age;
  bool is_shared = false;  // another gateway has answered it
};

// Functions of the host program; each may be null. Called from several threads
// at once, until `AdminServer::Stop` returns. Must not block for long.
struct UDPGATE_EXPORT AdminHooks {
  std::function<std::vector<ComponentHealth>()> components;
  // Called after `Proxy::Drain`.
  std::function<void()> drain;
  // Reads the settings again; the text says what has changed. Null: 501.
  std::function<absl::StatusOr<std::string>()> reload;
  std::function<std::vector<HostMetric>()> metrics;
  // Numbers about the session store by name; an infinite one is unknown. Null:
  // no `session_store` in /api/v1/status.
  std::function<std::vector<std::pair<std::string, double>>()> session_store;
  // Joins, the oldest first. Null: no /api/v1/joins.
  std::function<std::vector<ListedJoin>()> joins;
  // Null: no /api/v1/ends, and no ends by backend in /metrics.
  std::shared_ptr<SessionHistory> history;
};

}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_ADMIN_OPTIONS_H_
