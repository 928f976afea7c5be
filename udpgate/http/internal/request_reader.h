// Reads requests from the bytes of a connection. Knows no socket.
#ifndef UDPGATE_HTTP_INTERNAL_REQUEST_READER_H_
#define UDPGATE_HTTP_INTERNAL_REQUEST_READER_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "udpgate/http/message.h"

namespace udpgate {
namespace http {
namespace internal {

// One request after the other: lines are checked strictly here, as they come;
// Boost.Beast parses the complete head, and the body with its chunks.
//
// Whatever two readers could understand differently is refused (RFC 9112
// section 11.2): line ends other than CRLF, folded lines, white space before a
// colon, control characters, a Content-Length that is not one plain number or
// comes with a Transfer-Encoding, transfer codings other than chunked, a Host
// that is missing or there twice.
//
// Threads: one.
class RequestReader {
 public:
  struct Limits {
    size_t header_bytes_max;  // more: 431
    int header_count_max;     // more: 431
    size_t body_bytes_max;    // more: 413
  };
  enum class State { kIncomplete, kComplete, kRefused };

  explicit RequestReader(const Limits& limits);
  ~RequestReader();
  RequestReader(const RequestReader&) = delete;
  RequestReader& operator=(const RequestReader&) = delete;

  // Goes on with these bytes. Of a complete or refused request nothing more is
  // read: further bytes are kept. Holds no more than a head, or the framing of
  // a chunk, and `bytes`.
  State Append(absl::string_view bytes);
  State state() const { return state_; }

  // No byte of this request has come.
  bool is_empty() const { return !has_begun_ && pending_.empty(); }
  // The head is complete, the body is not, and the client waits for a 100
  // (RFC 9110 section 10.1.1).
  bool expects_continue() const;

  // Of a complete request. It has no addresses yet.
  Request Take();
  // Whether the client allows a further request on the connection.
  bool keep_alive() const { return keep_alive_; }
  // As of a request by HTTP/1.0, whose client expects the connection to close
  // unless the response says otherwise.
  bool is_http10() const { return is_http10_; }
  // There are bytes behind the request.
  bool has_rest() const { return !pending_.empty(); }
  // After `Take`: goes on with the kept bytes.
  State ReadNext();

  // Of a refused request: 400, 413, 417, 431 or 501, and one line of fixed
  // text.
  int error_status() const { return error_status_; }
  absl::string_view error() const { return error_; }

 private:
  class Parser;
  friend class Parser;

  State Read(absl::string_view bytes, size_t* consumed);
  // False if the head is incomplete or refused.
  bool CheckHead(absl::string_view bytes);
  bool CheckLine(absl::string_view line);
  State Refuse(int status, absl::string_view error);
  void StartRequest();

  const Limits limits_;
  State state_ = State::kIncomplete;
  std::string pending_;
  std::unique_ptr<Parser> parser_;  // once the head is complete
  bool has_begun_ = false;
  bool skipped_empty_line_ = false;
  bool keep_alive_ = false;
  bool is_http10_ = false;
  // Into the head, while it is incomplete.
  size_t line_start_ = 0;
  size_t scanned_ = 0;
  int line_count_ = 0;
  int error_status_ = 0;
  absl::string_view error_;
};

}  // namespace internal
}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_INTERNAL_REQUEST_READER_H_
