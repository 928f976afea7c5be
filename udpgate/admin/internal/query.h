// Parameters of requests to the API.
#ifndef UDPGATE_ADMIN_INTERNAL_QUERY_H_
#define UDPGATE_ADMIN_INTERNAL_QUERY_H_

#include <httplib.h>

#include <cstdint>

#include "absl/types/optional.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {
namespace internal {

// An address with its port, or without one for all its ports. Not set: matches
// everything.
struct AddressFilter {
  absl::optional<SocketAddress> address;
  bool any_port = false;

  bool Matches(const SocketAddress& other) const;
};

// Both read the parameter `name` if the request has it. False: its value is
// invalid, and `response` is the error.
bool ParseFilter(const httplib::Request& request, const char* name,
                 AddressFilter* filter, httplib::Response* response);
// A number of decimal digits only.
bool ParseCount(const httplib::Request& request, const char* name,
                uint64_t minimum, uint64_t maximum, uint64_t* value,
                httplib::Response* response);

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_QUERY_H_
