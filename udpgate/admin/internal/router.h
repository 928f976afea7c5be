// The routes of the admin endpoint: cpp-httplib without its sockets and
// threads, between `HttpFront`, which has both, and the handlers.
#ifndef UDPGATE_ADMIN_INTERNAL_ROUTER_H_
#define UDPGATE_ADMIN_INTERNAL_ROUTER_H_

#include <httplib.h>

#include <string>

#include "nlohmann/json.hpp"
#include "udpgate/admin/internal/http_text.h"

namespace udpgate {
namespace admin {
namespace internal {

// Threads: routes are added from one thread, before the first `Process`, which
// may then be called from several at once.
class Router final : public httplib::Server {
 public:
  Router();

  // The complete response to `request`.
  std::string Process(const HttpRequestText& request);
};

// The response is this JSON value.
void SetJson(httplib::Response* response, int status,
             const nlohmann::json& value);
// The response is a JSON object with the member `error`.
void SetError(httplib::Response* response, int status,
              const std::string& error);

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_ROUTER_H_
