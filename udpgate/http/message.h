// An HTTP request and response as values (RFC 9110).
#ifndef UDPGATE_HTTP_MESSAGE_H_
#define UDPGATE_HTTP_MESSAGE_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "udpgate/base/export.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {

struct UDPGATE_EXPORT Header {
  std::string name;
  std::string value;
};

// The first header of this name (upper and lower case are the same), or null.
UDPGATE_EXPORT const std::string* FindHeader(const std::vector<Header>& headers,
                                             absl::string_view name);

// A complete request. Threads: as a std::string.
struct UDPGATE_EXPORT Request {
  std::string method;  // "GET"
  // In origin-form (RFC 9112 section 3.2.1): "/v1/join/123?x". An absolute-form
  // is turned into it, and the Host header takes its authority.
  std::string target;
  std::vector<Header> headers;  // in order of arrival, without trailers
  std::string body;             // without chunks
  // Of the TCP connection.
  SocketAddress peer;
  // Who asks: `peer`, or who a trusted proxy names by a PROXY header or by
  // X-Forwarded-For. Port 0 if the proxy names none.
  SocketAddress client;
  // The address that the connection came to, or that a PROXY header names.
  SocketAddress local;
  bool is_tls = false;

  const std::string* FindHeader(absl::string_view name) const {
    return http::FindHeader(headers, name);
  }
};

// Threads: as a std::string.
struct UDPGATE_EXPORT Response {
  int status = 200;
  std::string content_type;  // empty: no Content-Type header
  std::string body;
  // Further headers; Content-Length, Connection and Date are the server's.
  std::vector<Header> headers = {};

  const std::string* FindHeader(absl::string_view name) const {
    return http::FindHeader(headers, name);
  }
};

// `{"error": "..."}`, as application/json.
UDPGATE_EXPORT Response JsonError(int status, absl::string_view error);

// "Not Found" of 404; "Status" of a code that is not known here.
UDPGATE_EXPORT absl::string_view ReasonPhrase(int status);

}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_MESSAGE_H_
