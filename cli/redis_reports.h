// What the gateway tells others through Redis: REDIS_GATEWAY_KEY and
// REDIS_EVENT_STREAM.
#ifndef UDPGATE_CLI_REDIS_REPORTS_H_
#define UDPGATE_CLI_REDIS_REPORTS_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/backend_source.h"
#include "cli/log/logger.h"
#include "cli/settings/settings.h"
#include "udpgate/proxy.h"
#include "udpgate/redis/redis_event_stream.h"
#include "udpgate/redis/redis_gateway_entry.h"
#include "udpgate/session_observer.h"

namespace udpgate {
namespace cli {

// Threads: one, and any for `Update` and `Metrics`.
class RedisReports {
 public:
  // Checks rules that are not ranges of single settings.
  static absl::Status Validate(const Settings& settings);

  // Connects to nothing yet. InvalidArgument for an invalid setting.
  static absl::StatusOr<std::unique_ptr<RedisReports>> Create(
      const Settings& settings, const BackendSource& backends, Logger* logger);

  // For the Proxy; null if no events are wanted.
  std::shared_ptr<SessionObserver> observer() const { return events_; }

  // Begins to write events. Before the Proxy starts.
  absl::Status StartEvents();
  // Begins to write the entry. `proxy` is started and must outlive it.
  absl::Status StartEntry(const Proxy* proxy);

  // A drain has begun.
  void Update();

  // The gateway ends, or another process goes on with the entry. Waits for
  // Redis, but not for long.
  void RemoveEntry();
  void LeaveEntry();
  // After the last event, likewise.
  void StopEvents();

  HostMetrics Metrics() const;

 private:
  RedisReports() = default;

  std::unique_ptr<RedisGatewayEntry> entry_;  // null: off
  std::shared_ptr<RedisEventStream> events_;  // null: off
  bool is_entry_started_ = false;
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_REDIS_REPORTS_H_
