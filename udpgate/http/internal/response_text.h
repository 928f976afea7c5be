// Responses as the bytes that a client receives.
#ifndef UDPGATE_HTTP_INTERNAL_RESPONSE_TEXT_H_
#define UDPGATE_HTTP_INTERNAL_RESPONSE_TEXT_H_

#include <string>

#include "udpgate/http/message.h"

namespace udpgate {
namespace http {
namespace internal {

// What the response depends on, beside itself.
struct ResponseContext {
  bool is_head = false;  // no body
  bool is_http10 = false;
  bool closes = true;  // the connection, after it
};

// With Date, Content-Length and Connection. A header of `response` that has one
// of these names, or a line end or another control character, is left out.
std::string ResponseText(const Response& response,
                         const ResponseContext& context);

}  // namespace internal
}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_INTERNAL_RESPONSE_TEXT_H_
