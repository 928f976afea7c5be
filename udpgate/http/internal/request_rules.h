// What a request must be like, beside what Boost.Beast checks itself.
#ifndef UDPGATE_HTTP_INTERNAL_REQUEST_RULES_H_
#define UDPGATE_HTTP_INTERNAL_REQUEST_RULES_H_

#include "absl/strings/string_view.h"
#include "udpgate/http/message.h"

namespace udpgate {
namespace http {
namespace internal {

// RFC 9110 section 5.6.2.
bool IsTokenCharacter(char c);

// Of lines without their ends. What is wrong, or empty.
absl::string_view CheckRequestLine(absl::string_view line);
absl::string_view CheckHeaderLine(absl::string_view line);

// False if `bytes` cannot begin with the line of a chunk, after the line end of
// the chunk before. Beast would look for the end of a quoted extension in later
// lines, and clients have no use for quoted ones.
bool IsChunkLine(absl::string_view bytes);

// Status 0: none.
struct Refusal {
  int status = 0;
  absl::string_view error;
};

// Checks Host, Content-Length, Transfer-Encoding, Expect and the target of a
// parsed head, and turns an absolute target into origin-form (RFC 9112 sections
// 3.2 and 6). Sets `expects_continue` if the client waits for a 100.
Refusal CheckAndNormalize(bool is_http10, Request* request,
                          bool* expects_continue);

}  // namespace internal
}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_INTERNAL_REQUEST_RULES_H_
