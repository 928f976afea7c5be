// The running program: composes a gateway from its settings, starts it, waits
// for its end and stops it.
//
//   Gateway gateway(options, &stop_signal, &logger);
//   if (absl::Status status = gateway.Start(); !status.ok()) return status;
//   gateway.Wait();
//   gateway.Stop();
#ifndef UDPGATE_CLI_GATEWAY_H_
#define UDPGATE_CLI_GATEWAY_H_

#include <atomic>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/admin_endpoint.h"
#include "cli/backend_source.h"
#include "cli/log/logger.h"
#include "cli/redis_reports.h"
#include "cli/reload.h"
#include "cli/session_keeping.h"
#include "cli/settings/command_line.h"
#include "cli/settings/settings.h"
#include "cli/signaling.h"
#include "cli/system/service_manager.h"
#include "cli/system/signal_calls.h"
#include "cli/system/stop_signal.h"
#include "udpgate/admin/admin_server.h"
#include "udpgate/proxy.h"
#include "udpgate/takeover/predecessor.h"
#include "udpgate/takeover/takeover_server.h"

namespace udpgate {
namespace cli {

// What the table of settings does not check by itself. Errors name the setting.
absl::Status ValidateSettings(const Settings& settings);

// Reads the files of certificates and keys that the settings name, for --check:
// the gateway starts without some of them, and reads them again later. Errors
// name the setting.
absl::Status CheckFiles(const Settings& settings);

struct GatewayOptions {
  std::string program;       // argv[0], which SIGUSR2 starts again
  SettingSources sources;    // read again by a reload
  CommandLine command_line;  // what they gave at startup
};

// Threads: the calls from one thread; the signals SIGHUP (reload) and SIGUSR2
// (start a new process that takes over) are handled on a thread of its own.
class Gateway {
 public:
  // `stop_signal` and `logger` must outlive it. The signals of
  // BlockCalledSignals are blocked.
  Gateway(GatewayOptions options, StopSignal* stop_signal, Logger* logger);
  // Stops without a drain, if needed.
  ~Gateway();
  Gateway(const Gateway&) = delete;
  Gateway& operator=(const Gateway&) = delete;

  // Waits for the addresses of this machine (ADDRESS_WAIT_SECS), binds all
  // sockets and starts all threads. Cancelled, with a text for the log, if a
  // signal ended the startup; InvalidArgument if a setting is wrong; else what
  // the system reports. Errors name the setting. Once.
  absl::Status Start();

  // After Start. Returns when the program is to end: after a signal, and then
  // after the drain, or when a new process has taken over.
  void Wait();

  // After Wait. Ends all sessions and logs the totals, unless a new process has
  // taken over; then it waits until that process needs this one no more.
  void Stop();

  // As SIGHUP does. After Start.
  absl::StatusOr<std::string> Reload() { return reloader_->Reload(); }

  // After Start.
  const Proxy& proxy() const { return *proxy_; }
  // Null if NETHERNET_ADDR is off.
  const Signaling* signaling() const { return signaling_.get(); }
  // Null if ADMIN_ADDR is off.
  const admin::AdminServer* admin() const { return admin_.get(); }

 private:
  // The steps of Start.
  absl::Status ObtainSockets();
  absl::Status AwaitOwnAddresses();
  absl::Status Compose();
  absl::Status ComposeAdmin();
  absl::Status StartProxy();
  absl::Status StartReports();
  absl::Status StartSignaling();
  absl::Status StartAdmin();
  absl::Status StartTakeover();
  absl::Status Announce();

  // An error that must end the program. A process that has taken over has
  // sessions, which are worth more than what failed: it logs and goes on.
  absl::Status UnlessTakenOver(const absl::Status& status);

  void Drain();
  void NoteDrain();
  void Upgrade();
  void LogStartup();

  GatewayOptions options_;
  // As the command line gave them, with the sockets in place.
  Settings settings_;
  StopSignal* const stop_signal_;
  Logger* const logger_;

  // In the order of their lives: each uses those before it.
  ServiceManager service_manager_;
  std::unique_ptr<takeover::Predecessor> old_process_;  // null: none
  HeldLog held_log_;
  BackendSource backends_;
  std::unique_ptr<Signaling> signaling_;  // null: off
  Observers observers_;
  std::unique_ptr<SessionKeeping> keeping_;  // null: off
  std::unique_ptr<Proxy> proxy_;
  std::unique_ptr<RedisReports> reports_;
  std::unique_ptr<Reloader> reloader_;
  std::unique_ptr<admin::AdminServer> admin_;  // null: off
  std::string notes_;                          // of the old process
  std::atomic<bool> is_handed_over_{false};
  std::unique_ptr<takeover::TakeoverServer> takeover_server_;  // null: off
  std::unique_ptr<SignalCalls> signal_calls_;
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_GATEWAY_H_
