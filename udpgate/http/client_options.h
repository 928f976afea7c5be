// What a `http::Client` may do, what it sends, and what it counts.
#ifndef UDPGATE_HTTP_CLIENT_OPTIONS_H_
#define UDPGATE_HTTP_CLIENT_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/http/message.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {

// Threads: as a std::string.
struct UDPGATE_EXPORT ClientOptions {
  // Requests with a connection; 1 to 100,000. Of connections that wait for the
  // server to close them there may be as many again.
  int connections_max = 1024;
  // Further requests, which wait for one of these to end; 0 to 100,000.
  int queue_size = 1024;
  // Status line and headers of a response; 256 to 65,536.
  size_t header_bytes_max = 16384;
  // How long a connection whose response is complete waits for the server to
  // close it, up to one minute. Whoever closes first keeps the port of the
  // connection for a minute (TIME_WAIT, RFC 9293 section 3.6): that should be
  // the server. After this time the client resets the connection.
  absl::Duration close_timeout = absl::Seconds(1);

  // OK, or an error of option_error.h.
  absl::Status Validate() const;
};

// Threads: as a std::string.
struct UDPGATE_EXPORT ClientRequest {
  SocketAddress server;
  std::string method = "GET";
  std::string target = "/";  // in origin-form
  // Content-Length and Connection are the client's, and Host if there is none.
  std::vector<Header> headers;
  std::string body;
  // Sent before the request: a header of the PROXY protocol.
  std::string preamble;
  // The body of the response, without chunks; up to 64 MiB.
  size_t response_bytes_max = 262144;
  // From `Send` to the end of the response, with the wait for a connection.
  absl::Duration timeout = absl::Seconds(10);
  // Part of it: from the attempt to connect to the connection. Then the result
  // is Unavailable, and nothing has been sent.
  absl::Duration connect_timeout = absl::InfiniteDuration();
};

// Totals since `Create`, except the three gauges. Each request is one of
// `responses`, `unreachable`, `timed_out`, `malformed`, `too_large`, `refused`
// and `cancelled`, or still open or waiting. Threads: as any struct.
struct UDPGATE_EXPORT ClientStats {
  uint64_t open = 0;     // requests with a connection now
  uint64_t waiting = 0;  // requests without one now
  uint64_t closing = 0;  // connections that wait for the server to close them
  uint64_t requests = 0;
  uint64_t responses = 0;    // complete, with any status
  uint64_t unreachable = 0;  // no connection, or lost before the response
  uint64_t timed_out = 0;
  uint64_t malformed = 0;  // responses that are no HTTP, or were cut
  uint64_t too_large = 0;  // responses
  uint64_t refused = 0;    // invalid requests, or no room in the queue
  uint64_t cancelled = 0;  // by `Stop`
  // Connections that the client closed, since the server did not.
  uint64_t resets = 0;
};

}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_CLIENT_OPTIONS_H_
