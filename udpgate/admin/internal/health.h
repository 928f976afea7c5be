// Whether the gateway works and is ready for new clients.
#ifndef UDPGATE_ADMIN_INTERNAL_HEALTH_H_
#define UDPGATE_ADMIN_INTERNAL_HEALTH_H_

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "udpgate/admin/admin_options.h"
#include "udpgate/proxy.h"

namespace udpgate {
namespace admin {
namespace internal {

// Threads: any. Ownership: the Proxy must outlive it.
class Health {
 public:
  // The answer to a probe.
  struct Report {
    bool is_good;
    std::string text;  // lines
  };

  // `components`: see `AdminHooks::components`; may be null.
  Health(const Proxy* proxy,
         std::function<std::vector<ComponentHealth>()> components,
         absl::Duration liveness_timeout)
      : proxy_(proxy),
        components_(std::move(components)),
        liveness_timeout_(liveness_timeout) {}

  // /healthz: whether every worker completes an event-loop iteration. Takes up
  // to `liveness_timeout`.
  Report Liveness() const;
  // /readyz: whether new clients can be served; one reason or warning a line.
  Report Readiness() const;

  std::vector<ComponentHealth> Components() const;
  // Why new clients should go elsewhere; empty if the gateway is ready.
  std::vector<std::string> UnreadyReasons() const;
  // Components that fail and are not needed for new clients.
  std::vector<std::string> Warnings() const;

 private:
  const Proxy* const proxy_;
  const std::function<std::vector<ComponentHealth>()> components_;
  const absl::Duration liveness_timeout_;
};

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_HEALTH_H_
