// The JSON interface under /api/v1: lists what the Proxy does, and controls it.
#ifndef UDPGATE_ADMIN_INTERNAL_API_H_
#define UDPGATE_ADMIN_INTERNAL_API_H_

#include <atomic>

#include "udpgate/admin/admin_options.h"
#include "udpgate/admin/internal/backend_loads.h"
#include "udpgate/admin/internal/health.h"
#include "udpgate/admin/internal/router.h"
#include "udpgate/http/message.h"
#include "udpgate/proxy.h"

namespace udpgate {
namespace admin {
namespace internal {

// README.md describes the paths and members.
//
// Threads: any, but `AddRoutes` before the router's first request.
// Ownership: what the constructor gets must outlive it.
class Api {
 public:
  Api(const AdminOptions* options, Proxy* proxy, const AdminHooks* hooks,
      const Health* health, BackendLoads* backends)
      : options_(options),
        proxy_(proxy),
        hooks_(hooks),
        health_(health),
        backends_(backends) {}

  void AddRoutes(Router* router);
  // Ends the wait for disconnects that are in progress.
  void Stop() { stopping_ = true; }

 private:
  using Request = http::Request;
  using Response = http::Response;

  void Status(const Request& request, Response* response);
  void Sessions(const Request& request, Response* response);
  void Backends(const Request& request, Response* response);
  void Ends(const Request& request, Response* response);
  void Joins(const Request& request, Response* response);
  void Disconnect(const Request& request, Response* response);
  void Drain(const Request& request, Response* response);
  void Reload(const Request& request, Response* response);

  const AdminOptions* const options_;
  Proxy* const proxy_;
  const AdminHooks* const hooks_;
  const Health* const health_;
  BackendLoads* const backends_;
  std::atomic<bool> stopping_{false};
};

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_API_H_
