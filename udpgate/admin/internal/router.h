// The routes of the admin endpoint.
#ifndef UDPGATE_ADMIN_INTERNAL_ROUTER_H_
#define UDPGATE_ADMIN_INTERNAL_ROUTER_H_

#include <functional>
#include <map>
#include <string>
#include <utility>

#include "nlohmann/json.hpp"
#include "udpgate/http/message.h"

namespace udpgate {
namespace admin {
namespace internal {

// Threads: routes are added from one thread, before the first `Process`, which
// may then be called from several at once.
class Router {
 public:
  // Sets the response.
  using Handler = std::function<void(const http::Request&, http::Response*)>;
  // False: the response is the refusal.
  using Admit = std::function<bool(const http::Request&, http::Response*)>;

  // `admit` is asked before a route is looked up.
  explicit Router(Admit admit) : admit_(std::move(admit)) {}

  // The route of a path, without parameters. A GET route is that of HEAD, too.
  void Get(const std::string& path, Handler handler);
  void Post(const std::string& path, Handler handler);

  http::Response Process(const http::Request& request) const;

 private:
  void Route(const http::Request& request, http::Response* response) const;

  const Admit admit_;
  std::map<std::pair<std::string, std::string>, Handler> routes_;
};

// The response is this JSON value.
void SetJson(http::Response* response, int status, const nlohmann::json& value);
// The response is a JSON object with the member `error`.
void SetError(http::Response* response, int status, const std::string& error);

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_ROUTER_H_
