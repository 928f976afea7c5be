// NETHERNET_ADDR: the TCP side of Bedrock players (NetherNet), and what the UDP
// side knows of it.
#ifndef UDPGATE_CLI_SIGNALING_H_
#define UDPGATE_CLI_SIGNALING_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "cli/backend_source.h"
#include "cli/join_sharing.h"
#include "cli/log/logger.h"
#include "cli/settings/settings.h"
#include "udpgate/admin/admin_options.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/nethernet/join_table.h"
#include "udpgate/nethernet/signaling_server.h"
#include "udpgate/proxy.h"
#include "udpgate/redis/redis_key_watch.h"
#include "udpgate/socket_address.h"
#include "udpgate/takeover/predecessor.h"

namespace udpgate {
namespace cli {

// Composes the table of joins, the resolver around that of the backend source,
// the signaling server, and what the fleet shares through Redis.
//
//   Create -> Proxy::Create with resolver() -> Bind -> Proxy::Start -> Start
//   -> ... -> Stop -> Proxy::Stop
//
// Threads: `metrics`, `Joins`, `SetDraining`, `FollowStandby`, `Reload`,
// `ExportJoins` and `ImportJoins` from any; the rest from one.
class Signaling {
 public:
  // Null if NETHERNET_ADDR is off. Opens no socket. Errors name the setting.
  static absl::StatusOr<std::unique_ptr<Signaling>> Create(
      const Settings& settings, BackendSource backends, Logger* logger);
  // Stops, if needed.
  ~Signaling();
  Signaling(const Signaling&) = delete;
  Signaling& operator=(const Signaling&) = delete;

  // For the Proxy.
  const std::shared_ptr<BackendResolver>& resolver() const { return resolver_; }

  // Binds the TCP socket, or takes that of the service manager or of the old
  // process, which may be null; connections wait until `Start`. `proxy`, whose
  // port players are told, must outlive `Stop`. Errors name the setting.
  absl::Status Bind(const Settings& settings,
                    takeover::Predecessor* old_process, Proxy* proxy);

  // After Bind, when the Proxy serves.
  absl::Status Start();
  // Requests under way are dropped. May be called twice.
  void Stop();

  // The bound TCP address and its socket, after Bind and until Stop.
  const SocketAddress& address() const { return server_->address(); }
  int listen_fd() const { return server_->listen_fd(); }

  // From now on all requests get a 503.
  void SetDraining();
  // While the Proxy is in standby, too. After Bind, at each change.
  void FollowStandby();

  // Applies the settings of NetherNet that are live, and reads the certificate
  // again. The error names the setting; what is valid is applied.
  absl::Status Reload(const Settings& settings);

  // For a takeover, see JoinTable::Export: it contains passwords.
  std::string ExportJoins(bool is_late) { return joins_->Export(is_late); }
  void ImportJoins(absl::string_view exported);
  // The new process has the socket: accepts no further connection. From any
  // thread; does not wait.
  void StopAccepting() { server_->StopAccepting(); }
  // Waits for joins whose answer is under way, for `time_max` at most.
  void AwaitAnswers(absl::Duration time_max) const;

  // For a takeover, before the last export: drops the requests under way. A
  // join that was answered from now on would be unknown to the new process.
  void StopAnswering() { server_->Stop(); }

  // Players who have an answer, or wait for one, and have no session so far.
  int64_t waiting_joins() const { return joins_->stats().joins_waiting; }

  // For the admin endpoint.
  HostMetrics Metrics() const;
  // What is read from Redis and written to it beside backends and disconnects.
  std::vector<admin::ComponentHealth> Health() const;
  std::vector<admin::ListedJoin> Joins() const;

 private:
  Signaling(const Settings& settings, BackendSource backends, Logger* logger);

  // What Redis has for the fleet, if there is Redis.
  absl::Status CreateSharing(const Settings& settings);
  absl::Status StartSharing();
  void TakeFleetStatus(absl::optional<std::string> status);

  const BackendSource backends_;
  Logger* const logger_;
  const std::shared_ptr<nethernet::JoinTable> joins_;
  const std::shared_ptr<BackendResolver> resolver_;
  // Null: the setting is off, or there is no Redis.
  std::shared_ptr<JoinSharing> sharing_;
  std::unique_ptr<RedisKeyWatch> fleet_status_;
  Proxy* proxy_ = nullptr;
  std::mutex draining_mutex_;
  bool is_draining_ = false;
  std::mutex mutex_;  // `Reload` and `Stop`
  bool is_stopped_ = false;
  std::unique_ptr<nethernet::SignalingServer> server_;
};

// Reads the files of the certificate and its key, if they are set. The error
// names the setting.
absl::Status CheckSignalingFiles(const Settings& settings);

// What the log says of the settings: the address, HTTPS, what players are told.
void LogSignaling(const Settings& settings, const Signaling& signaling,
                  Logger* logger);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SIGNALING_H_
