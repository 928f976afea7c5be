// SESSION_STORE, STANDBY and SESSION_FORWARD: keeps confirmed sessions in
// Redis, and continues those of a former process or of another gateway.
#ifndef UDPGATE_CLI_SESSION_KEEPING_H_
#define UDPGATE_CLI_SESSION_KEEPING_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "cli/backend_source.h"
#include "cli/log/logger.h"
#include "cli/settings/settings.h"
#include "cli/standby_switch.h"
#include "cli/system/address_watch.h"
#include "udpgate/admin/admin_options.h"
#include "udpgate/forward/envelope_keys.h"
#include "udpgate/proxy.h"
#include "udpgate/redis/redis_session_store.h"
#include "udpgate/store/session_keeper.h"

namespace udpgate {
namespace cli {

// Checks rules that are not ranges of single settings. Errors name the setting.
absl::Status ValidateSessionKeeping(const Settings& settings);

// Composes the store, its keeper, and for a standby the watch of addresses.
//
//   Create -> Wrap -> Proxy::Create
//          -> Recover, Proxy::Start (or ContinueRun, Predecessor::TakeOver)
//          -> Start -> ... -> Proxy::Stop -> Stop
//
// Threads: `ExportRun`, `Health`, `Metrics` and `Numbers` from any; the rest
// from one.
class SessionKeeping {
 public:
  // Null if SESSION_STORE is off. Connects to nothing yet. `logger` must
  // outlive it.
  static absl::StatusOr<std::unique_ptr<SessionKeeping>> Create(
      const Settings& settings, const BackendSource& backends, Logger* logger);

  // Puts the keeper between the Proxy and its resolver and observer, which is
  // null if there is none so far, and adds the secret of the fleet. Once.
  void Wrap(ProxyDependencies* dependencies);

  // Before Proxy::Start: continues the sessions of the former process, or
  // enters standby. Logs what came of it.
  void Recover(Proxy* proxy);

  // In a takeover instead. `state` is the old process's `ExportRun`, or empty
  // if that had no session store.
  void ContinueRun(absl::string_view state);
  std::string ExportRun() const { return keeper_->ExportRun(); }

  // When the Proxy serves. `on_standby`, which may be null, is called when
  // standby begins and ends.
  absl::Status Start(Proxy* proxy, std::function<void()> on_standby);

  // After Proxy::Stop.
  void Stop(SessionKeeper::StopReason reason);

  // For the admin endpoint.
  absl::Status Health() const { return keeper_->Health(); }
  HostMetrics Metrics() const;
  std::vector<std::pair<std::string, double>> Numbers() const;

 private:
  SessionKeeping(const Settings& settings,
                 std::shared_ptr<RedisSessionStore> store,
                 std::unique_ptr<SessionKeeper> keeper,
                 std::shared_ptr<forward::EnvelopeKeys> envelope_keys,
                 Logger* logger);

  absl::Status StartWatch(std::function<void()> on_standby);

  const bool has_standby_;
  const SocketAddress address_;
  const std::vector<SocketAddress> upstream_addresses_;
  const std::shared_ptr<RedisSessionStore> store_;
  const std::unique_ptr<SessionKeeper> keeper_;
  const std::shared_ptr<forward::EnvelopeKeys> envelope_keys_;  // null: off
  Logger* const logger_;
  std::unique_ptr<StandbySwitch> standby_;  // null: not in standby
  std::unique_ptr<AddressWatch> watch_;     // likewise; uses `standby_`
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SESSION_KEEPING_H_
