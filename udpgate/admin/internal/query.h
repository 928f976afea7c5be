// Parameters of requests to the API.
#ifndef UDPGATE_ADMIN_INTERNAL_QUERY_H_
#define UDPGATE_ADMIN_INTERNAL_QUERY_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "udpgate/http/message.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {
namespace internal {

// The target of a request up to the question mark, and the first parameter of
// this name behind it, decoded: %20 and + are a space (WHATWG URL section 5.1,
// application/x-www-form-urlencoded).
absl::string_view PathOf(const http::Request& request);
absl::optional<std::string> ParameterOf(const http::Request& request,
                                        absl::string_view name);

// An address with its port, or without one for all its ports. Not set: matches
// everything.
struct AddressFilter {
  absl::optional<SocketAddress> address;
  bool any_port = false;

  bool Matches(const SocketAddress& other) const;
};

// Both read the parameter `name` if the request has it. False: its value is
// invalid, and `response` is the error.
bool ParseFilter(const http::Request& request, const char* name,
                 AddressFilter* filter, http::Response* response);
// A number of decimal digits only.
bool ParseCount(const http::Request& request, const char* name,
                uint64_t minimum, uint64_t maximum, uint64_t* value,
                http::Response* response);

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_QUERY_H_
