// Keeps the confirmed sessions of a `Proxy` in a `SessionStore`, and continues
// those of gateways that are gone.
//
//   auto keeper = udpgate::SessionKeeper::Create(options, store);
//   if (!keeper.ok()) return keeper.status();
//   dependencies.resolver = (*keeper)->WrapResolver(resolver);
//   dependencies.session_observer = (*keeper)->WrapObserver(observer);
//   auto proxy = udpgate::Proxy::Create(proxy_options, dependencies);
//   ...
//   (*keeper)->Recover(proxy->get());
//   if (absl::Status status = (*proxy)->Start(); !status.ok()) return status;
//   (*keeper)->Start(proxy->get());
//   ...
//   (*proxy)->Stop();
//   (*keeper)->Stop(udpgate::SessionKeeper::StopReason::kShutdown);
//
// docs/fleet.md explains what it gives; docs/architecture.md how it works.
#ifndef UDPGATE_STORE_SESSION_KEEPER_H_
#define UDPGATE_STORE_SESSION_KEEPER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/base/export.h"
#include "udpgate/proxy.h"
#include "udpgate/session_observer.h"
#include "udpgate/session_store.h"
#include "udpgate/store/session_keeper_options.h"
#include "udpgate/store/session_keeper_stats.h"

namespace udpgate {

// Ownership: a confirmed session has one record, and belongs to the gateway
// whose token the record has. A gateway that finds another's token in the
// record of a session ends the session as `superseded`. A store that cannot be
// reached ends no session.
//
// Threads: one of its own. `Create`, `Recover`, `ContinueRun`, `Start` and
// `Stop` from one thread, which is none of the Proxy or the store; everything
// else from any thread.
class UDPGATE_EXPORT SessionKeeper {
 public:
  // What `Recover` has done.
  struct Recovery {
    // OK, or why the records could not be read, or not all. Recovery then goes
    // on in the background. In both cases a log line says what it has
    // continued.
    absl::Status status;
    int64_t session_count = 0;  // that the Proxy continues
    // Those of them that got another source port than before.
    int64_t on_other_port_count = 0;
    // Records that could not be continued.
    int64_t failed_count = 0;
    absl::Duration duration;
  };

  enum class StopReason : uint8_t {
    // The records stay. The lease ends, so that another gateway may adopt the
    // sessions at once.
    kShutdown,
    // A new process has taken the sessions over (//udpgate/takeover), and
    // continues the run.
    kTakenOver,
  };

  // Errors: InvalidArgument from `SessionKeeperOptions::Validate`.
  static absl::StatusOr<std::unique_ptr<SessionKeeper>> Create(
      SessionKeeperOptions options, std::shared_ptr<SessionStore> store);
  // Stops as for a shutdown, if needed.
  ~SessionKeeper();
  SessionKeeper(const SessionKeeper&) = delete;
  SessionKeeper& operator=(const SessionKeeper&) = delete;

  // The resolver for the Proxy: asks the store for the record of a new client
  // while it asks `inner`. Also tells the keeper of disconnect events.
  // `Screen`, `RestoreTag` and `Health` are those of `inner`. Once.
  std::shared_ptr<BackendResolver> WrapResolver(
      std::shared_ptr<BackendResolver> inner);

  // The observer for the Proxy. It hands events on to `next`, which may be
  // null. Once.
  std::shared_ptr<SessionObserver> WrapObserver(
      std::shared_ptr<SessionObserver> next);

  // Before `Proxy::Start`, and not in a takeover: starts the store, and
  // continues the sessions of the former process of this gateway. Blocks for
  // `recovery_connect_timeout` if the store cannot be reached, else for
  // `recovery_timeout` at most, and for the work of `Proxy::Restore`. In
  // standby it calls `Proxy::SetStandby` instead.
  Recovery Recover(Proxy* proxy);

  // In a takeover, instead of `Recover`: continues the run of the old process.
  // `state` is its `ExportRun`. InvalidArgument if it cannot be read; then the
  // run is a new one, and the records are written again.
  absl::Status ContinueRun(absl::string_view state);

  // What a new process needs to continue the run: for
  // TakeoverServerOptions::host_state. Contains no secret.
  std::string ExportRun() const;

  // After `Proxy::Start` or the takeover. `proxy` must live until `Stop`.
  // FailedPrecondition if called twice. Otherwise errors of the system.
  absl::Status Start(Proxy* proxy);

  // After `Proxy::Stop`, before the Proxy is destroyed. Returns after
  // `SessionKeeperOptions::stop_timeout` at the latest, and then stops the
  // store. A second call has no effect.
  void Stop(StopReason reason);

  // The addresses of the gateway are here: continues the sessions of the
  // records that name them, then ends standby and adopts the records. Returns
  // at once; `is_standby` tells when clients are served. After Start. Without
  // effect if it is not in standby.
  void Promote();
  // The addresses are gone: touches no record any more, and enters standby.
  // Sessions end as `superseded`.
  void Demote();
  bool is_standby() const;

  // OK, Unavailable if the store cannot be reached, or FailedPrecondition if
  // another process uses the same gateway id. A gateway without its store still
  // serves; it only cannot be survived. Does not block.
  absl::Status Health() const;

  SessionKeeperStats GetStats() const;

 private:
  class Impl;
  explicit SessionKeeper(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_STORE_SESSION_KEEPER_H_
