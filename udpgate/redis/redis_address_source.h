// The seam for what knows where Redis is: redis_sentinel.h.
#ifndef UDPGATE_REDIS_REDIS_ADDRESS_SOURCE_H_
#define UDPGATE_REDIS_REDIS_ADDRESS_SOURCE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"

namespace udpgate {

// Threads: any. Must outlive the connections that use it.
class UDPGATE_EXPORT RedisAddressSource {
 public:
  // A `host:port` that `HostPort::Parse` takes, or why there is none.
  using Found = std::function<void(const absl::StatusOr<std::string>&)>;
  using Watcher = std::function<void(const std::string& host_port)>;

  virtual ~RedisAddressSource() = default;

  // Finds out where Redis is now, not where it was before the call. Calls
  // `found` once: inline, or within about `timeout` on another thread, which
  // it must not block.
  virtual void Find(absl::Duration timeout, Found found) = 0;

  // Calls the watcher with each address that differs from the one before, as
  // long as it lives.
  virtual void Watch(std::weak_ptr<const Watcher> watcher) = 0;

  // The last address found is not that of a master.
  virtual void Distrust() = 0;

  // Whether the server must say that it is a master.
  virtual bool names_masters() const = 0;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_ADDRESS_SOURCE_H_
