// How a `http::Server` serves, and what it counts.
#ifndef UDPGATE_HTTP_SERVER_OPTIONS_H_
#define UDPGATE_HTTP_SERVER_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/cidr.h"
#include "udpgate/http/message.h"
#include "udpgate/logging.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {

// Gives the response of one request, from any thread, once; even after the
// server has stopped, when it has no effect. The response is a 500 if it is
// dropped without a call, and a 503 if it does not come within
// `response_timeout`.
using Respond = absl::AnyInvocable<void(Response)>;
// Called on a thread of the Engine, from several at once if it has several.
// Must not block. Not called after `Server::Stop` has returned.
using Handler = std::function<void(Request, Respond)>;

// Threads: as a std::string.
struct UDPGATE_EXPORT ServerOptions {
  // TCP. [::] serves IPv4 as well. Port 0: the kernel assigns one.
  SocketAddress listen_address;
  // A bound and listening socket to use instead (systemd, takeover), or -1.
  // `Create` takes it over, even if it fails.
  int listen_fd = -1;

  // Open connections, in all and of an address (the /64 of an IPv6 address; the
  // client that a PROXY header names counts, and a trusted proxy itself does
  // not). Above it a connection that waits for its next request is closed to
  // make room; if there is none, the new one gets a 503, or is closed if 64
  // others are getting theirs. 1 to 1,000,000; the second also 0: no limit.
  int connections_max = 4096;
  int connections_per_ip_max = 256;
  // Closes the connection that waits longest for the end of its request,
  // instead of refusing the new one.
  bool evicts_oldest = false;

  // Above it: 431. Request line and headers; 512 to 1 MiB.
  size_t header_bytes_max = 16384;
  // 1 to 1,000.
  int header_count_max = 100;
  // Above it: 413. Without the framing of chunks; 0 to 64 MiB.
  size_t body_bytes_max = 262144;
  // Then the connection closes. 1 to 1,000,000.
  int requests_per_connection_max = 1000;

  // 10 ms to 1 hour each.
  // From accept(2), from the end of the TLS handshake, or from the first byte
  // of a further request to the last byte of the request. Then: 408.
  absl::Duration read_timeout = absl::Seconds(10);
  // Between a response and the first byte of the next request.
  absl::Duration idle_timeout = absl::Seconds(30);
  // For a PROXY header and the TLS handshake together, from accept(2).
  absl::Duration handshake_timeout = absl::Seconds(10);
  // From the call of the handler to its response. Then: 503.
  absl::Duration response_timeout = absl::Seconds(15);
  // To send a response.
  absl::Duration write_timeout = absl::Seconds(10);

  // Whose X-Forwarded-For counts, and PROXY header if `accepts_proxy_header`. A
  // connection of another address that begins with one is refused.
  CidrList trusted_proxies;
  bool accepts_proxy_header = false;

  // False closes the connection. Called with the address of the connection,
  // unless it is a trusted proxy, and with the client that a PROXY header
  // names. A client of X-Forwarded-For gets a 403. Called on threads of the
  // Engine; must not block. Null: all may connect.
  std::function<bool(const SocketAddress&)> admit;

  // PEM files: the certificate chain, and its private key without a pass
  // phrase. Both or none; without them plain HTTP alone.
  std::string certificate_file;
  std::string private_key_file;
  // How often the server looks whether they have changed. 10 ms to 1 hour.
  absl::Duration certificate_check_interval = absl::Seconds(5);

  // Receives lines on threads of the Engine and from `Create`. Must not block.
  // Null: nothing is logged.
  LogSink log_sink;

  // OK, or an error of option_error.h.
  absl::Status Validate() const;
};

// Totals since `Create`, except the gauge. Threads: as any struct.
struct UDPGATE_EXPORT ServerStats {
  uint64_t accepted = 0;         // connections
  uint64_t open = 0;             // connections now
  uint64_t accept_failures = 0;  // accept(2) failed, as without descriptors
  uint64_t denied = 0;  // connections and requests that `admit` refused
  uint64_t closed_at_limit = 0;        // refused, since a limit was reached
  uint64_t evicted = 0;                // closed to make room for another
  uint64_t requests = 0;               // passed to the handler
  uint64_t refused_requests = 0;       // malformed or too large
  uint64_t read_timeouts = 0;          // request too slow
  uint64_t idle_timeouts = 0;          // no further request: no error
  uint64_t response_timeouts = 0;      // handler too slow
  uint64_t write_timeouts = 0;         // client too slow with the response
  uint64_t tls_handshakes = 0;         // completed
  uint64_t tls_handshakes_failed = 0;  // including those too slow
  uint64_t proxy_headers = 0;          // accepted
  uint64_t proxy_headers_refused = 0;  // malformed, too slow, or not trusted
  uint64_t certificate_reloads = 0;
  uint64_t certificate_reload_failures = 0;
  // Seconds since the Unix epoch until which the certificate in use is valid;
  // 0 without one.
  int64_t certificate_expires_unix_seconds = 0;
};

}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_SERVER_OPTIONS_H_
