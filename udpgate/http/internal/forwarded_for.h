// X-Forwarded-For, as load balancers write it.
#ifndef UDPGATE_HTTP_INTERNAL_FORWARDED_FOR_H_
#define UDPGATE_HTTP_INTERNAL_FORWARDED_FOR_H_

#include "udpgate/cidr.h"
#include "udpgate/http/message.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {
namespace internal {

// The client of a request that `sender` sent: `sender` itself, if it is no
// trusted proxy; else the rightmost address of the X-Forwarded-For headers that
// is none, since each proxy appends whose request it passes on. What stands
// left of an address that is not trusted, or that is malformed, could be
// written by anybody. Port 0, unless the header has one.
SocketAddress ClientOf(const Request& request, const SocketAddress& sender,
                       const CidrList& trusted_proxies);

}  // namespace internal
}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_INTERNAL_FORWARDED_FOR_H_
