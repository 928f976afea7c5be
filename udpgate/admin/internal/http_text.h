// HTTP/1.1 as text: reads one request from a byte stream, and writes error
// responses. No sockets and no threads.
#ifndef UDPGATE_ADMIN_INTERNAL_HTTP_TEXT_H_
#define UDPGATE_ADMIN_INTERNAL_HTTP_TEXT_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {
namespace internal {

// One complete request.
struct HttpRequestText {
  // The request line and the headers that the endpoint uses (Host,
  // Authorization, Content-Type, Content-Length, Accept-Encoding), each at most
  // once, with an empty line at the end.
  std::string head;
  std::string body;
  SocketAddress client;
  SocketAddress local;  // the address that the client connected to
};

// Collects the bytes of one connection until they are a complete request. The
// result does not depend on how the stream is split.
//
// The syntax is that of RFC 9112 (sections 2 to 6), without line folding and
// transfer codings: a request with one of them is refused, so that this reader
// and the HTTP library behind it cannot disagree about where a request ends.
//
// Threads: as an int.
class HttpRequestReader {
 public:
  enum class State { kIncomplete, kComplete, kRefused };

  // Limits of the head, with its empty line, and of the body.
  HttpRequestReader(size_t header_bytes_max, size_t body_bytes_max)
      : header_bytes_max_(header_bytes_max), body_bytes_max_(body_bytes_max) {}

  // Must not be called again after it returned kComplete or kRefused. Bytes
  // behind a complete request are discarded.
  State Append(absl::string_view bytes);

  // The request, without addresses. Once, after kComplete.
  HttpRequestText Take();

  // After kRefused: the status code, and a text for the client, which is one
  // line of printable ASCII.
  int error_status() const { return error_status_; }
  const std::string& error() const { return error_; }

 private:
  bool ReadHead(absl::string_view text);
  bool ReadHeader(absl::string_view line);
  bool Refuse(int status, std::string error);

  size_t header_bytes_max_;
  size_t body_bytes_max_;
  std::string input_;
  size_t head_bytes_ = 0;  // in `input_`; 0: the head is not complete
  size_t body_bytes_ = 0;
  std::string head_;           // see HttpRequestText
  unsigned headers_seen_ = 0;  // a bit for each name that is passed on
  int error_status_ = 0;
  std::string error_;
};

// A complete response. Its body is a JSON object with the member `error`.
std::string ErrorResponse(int status, absl::string_view error);

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_HTTP_TEXT_H_
