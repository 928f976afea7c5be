// What configures an `AdminServer` (admin_server.h), and what the host program
// adds to it.
#ifndef UDPGATE_ADMIN_ADMIN_OPTIONS_H_
#define UDPGATE_ADMIN_ADMIN_OPTIONS_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "udpgate/admin/session_history.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {

struct AdminOptions {
  // Port 0: the kernel chooses, see `AdminServer::address`.
  SocketAddress listen_address;
  // A listening socket of that address, to adopt instead of binding it; -1:
  // none. The server's from `Create` on.
  int listen_fd = -1;
  // Whoever asks for more than metrics and health must send it as
  // `Authorization: Bearer <token>`. Empty: no token on a loopback address,
  // and elsewhere nothing but metrics and health.
  std::string token;

  // Connections at once, each of one request; beyond them the one that has
  // waited longest is closed.
  int connections_max = 64;
  int worker_count = 2;
  // Requests that wait for a worker; beyond them the answer is 503.
  int queue_size = 32;
  size_t header_bytes_max = 16384;
  size_t body_bytes_max = 65536;
  // For a whole request, and for a whole response.
  absl::Duration read_timeout = absl::Seconds(5);
  absl::Duration write_timeout = absl::Seconds(5);
  // Values of the label `backend` of udpgate_backend_sessions in /metrics.
  int metric_backends_max = 100;
  // What /metrics and /api/v1/backends say of backends may be so old: counting
  // it visits all sessions.
  absl::Duration backends_age_max = absl::Seconds(1);
  // Ends of one answer of /api/v1/ends.
  int ends_page_max = 1000;
  // Sessions of one answer of /api/v1/sessions.
  int sessions_page_max = 1000;
  // How long a disconnect may take, and the shards' sign of life.
  absl::Duration disconnect_timeout = absl::Seconds(2);
  absl::Duration liveness_timeout = absl::Seconds(2);
  // Wrong tokens of one IPv4 address or IPv6 /64 in a window; beyond them its
  // requests are not looked at (429) until the window is over.
  int wrong_tokens_max = 10;
  absl::Duration wrong_token_window = absl::Minutes(1);

  // InvalidArgument names the field.
  absl::Status Validate() const;
};

// What the gate depends on, such as its connection to Redis.
struct ComponentHealth {
  std::string name;  // a label in /metrics: a-z and _
  absl::Status status;
  // Whether the gate is not ready without it.
  bool is_needed = true;
};

// A number of the host program, without labels, for /metrics.
struct HostMetric {
  enum class Kind { kCounter, kGauge };
  Kind kind = Kind::kGauge;
  std::string name;  // as Prometheus wants it, `_total` behind a counter
  std::string help;
  double value = 0;
};

// What the host program adds. Each may be null. Called from several threads at
// once, until `Stop` returns; must not block for long.
struct AdminHooks {
  std::function<std::vector<ComponentHealth>()> components;
  // After `Proxy::Drain`.
  std::function<void()> drain;
  // Reads the settings again; the text says what was done. Null: 501.
  std::function<absl::StatusOr<std::string>()> reload;
  std::function<std::vector<HostMetric>()> metrics;
  // Null: no /api/v1/ends, and no ends by backend in /metrics.
  std::shared_ptr<SessionHistory> history;
};

}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_ADMIN_OPTIONS_H_
