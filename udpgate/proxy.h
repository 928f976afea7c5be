// The gateway itself: listens for clients, asks a `BackendResolver` which
// backend serves each new one, and relays both ways until the session ends.
//
//   auto proxy = udpgate::Proxy::Create(
//       options, {std::make_shared<udpgate::StaticBackendResolver>(backend)});
//   if (!proxy.ok()) return proxy.status();
//   if (absl::Status status = (*proxy)->Start(); !status.ok()) return status;
//   ...                             // forwards on its own threads
//   (*proxy)->Stop();               // or just destroy it
//
// See examples/embed.cc for a program, docs/architecture.md for the design.
#ifndef UDPGATE_PROXY_H_
#define UDPGATE_PROXY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/base/export.h"
#include "udpgate/clock.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/flow_offload.h"
#include "udpgate/forward/envelope_keys.h"
#include "udpgate/proxy_options.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"
#include "udpgate/session_observer.h"
#include "udpgate/session_restore.h"
#include "udpgate/socket_address.h"

namespace udpgate {

namespace internal {
class Handover;
class SysCalls;
}  // namespace internal

// What a Proxy works with. Only `resolver` is required.
struct UDPGATE_EXPORT ProxyDependencies {
  std::shared_ptr<BackendResolver> resolver;
  // Null: only `Proxy::Disconnect` ends sessions from outside.
  std::shared_ptr<DisconnectSource> disconnects = nullptr;
  // Null: `Clock::Monotonic()`. Must outlive the Proxy.
  const Clock* clock = nullptr;
  // Null: the real system calls. For tests (//testing/internal/support). Must
  // outlive the Proxy and the last callback that a resolver holds.
  internal::SysCalls* sys_calls = nullptr;
  // Null: every datagram goes through sockets. See flow_offload.h.
  std::shared_ptr<FlowOffload> flow_offload = nullptr;
  // Required with `ProxyOptions::forward_address`. All gateways of a fleet have
  // the same. See forward/envelope_keys.h.
  std::shared_ptr<forward::EnvelopeKeys> envelope_keys = nullptr;
  // Null: session events are not reported. See session_observer.h.
  std::shared_ptr<SessionObserver> session_observer = nullptr;
};

// The session limit in force: the lowest of three limits, and which one it is.
// If it is reached, a new client evicts an unconfirmed session.
struct UDPGATE_EXPORT SessionLimit {
  enum class Cause {
    kSetting,      // `ProxyLimits::max_sessions`
    kDescriptors,  // RLIMIT_NOFILE, less a reserve
    kSourcePorts,  // towards backends of one family; see `relay_ports`
  };
  int64_t sessions_max;
  Cause cause;
};

// Threads: `Create` and `Start` once each and in this order; everything else
// from any thread at any time between `Create` and the destructor. Installs no
// signal handlers, changes no limits of the process and keeps no global state;
// its threads block all signals. Several Proxies may live in one process.
//
// Not from inside one of its own calls into the host (a log sink, `done` of
// Disconnect, `BackendResolver::Resolve`, a DisconnectSource's handler, a
// SessionObserver): Stop and the destructor, which wait for that call to
// return. From inside `Resolve` not Disconnect either, which may wait for the
// calling thread.
class UDPGATE_EXPORT Proxy {
 public:
  // Binds the listening sockets; datagrams begin to queue in the kernel.
  // Errors: InvalidArgument from `ProxyOptions::Validate`; what socket(7),
  // bind(2) and the like report, with the address in the text.
  static absl::StatusOr<std::unique_ptr<Proxy>> Create(
      ProxyOptions options, ProxyDependencies dependencies);

  // Calls `Stop` if it was not called.
  ~Proxy();
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  // Starts the threads and the disconnect source. FailedPrecondition if called
  // twice or after `Stop`.
  absl::Status Start();

  // Continues sessions of another process or gateway: confirmed, with their
  // backends, and with their source ports if these are free (in quarantine,
  // too) and the address is one that this gateway uses. They count towards the
  // limits, of which only the session limit refuses any, and as
  // `sessions_restored`; see SessionObserver for what it is told.
  //
  // Before Start the calling thread does the work; afterwards the workers do,
  // in slices between datagrams, and the call waits for them. The results are
  // in the order of `sessions`. FailedPrecondition between the parts of a
  // takeover. Unavailable if the Proxy is stopped, or stops or is taken over
  // meanwhile; some sessions may be restored then. Threads: a control thread;
  // not one that calls back into the host.
  absl::StatusOr<std::vector<RestoredSession>> Restore(
      absl::Span<const RestorableSession> sessions);

  // In standby no client is served: datagrams of clients without a session are
  // dropped as `standby`. Entering it ends all sessions as `superseded`, in
  // slices after the call has returned. `Restore` works in standby, too.
  void SetStandby(bool is_standby);
  bool is_standby() const;

  // Ends sessions by their ids (SessionInfo::id) as `superseded`: another
  // gateway has them now. Ids of sessions that have ended are ignored. As for
  // Disconnect, many end in slices, and the call may block briefly. Threads: as
  // for Disconnect.
  void Supersede(absl::Span<const uint64_t> session_ids);

  // The gateway at this address (`ResolveResult::forward_to`) is gone: clients
  // that are forwarded to it are resolved again.
  void ForgetOwner(const SocketAddress& owner);
  // `ProxyOptions::forward_address`, with the port that the kernel chose;
  // invalid if there is none, or if a takeover has not opened it yet.
  SocketAddress forward_address() const;

  // Stops the threads and the disconnect source and ends all sessions. Returns
  // within milliseconds, even if the resolver hangs. With a SessionObserver it
  // also waits for the delivery of events, see there. The statistics stay
  // readable. A second call has no effect.
  void Stop();

  // Rejects new clients from now on (counted as `draining`); live sessions
  // continue until they end. `GetStats().sessions_active` is how many are left.
  void Drain();
  bool is_draining() const;

  // Replaces the limits; live sessions stay. InvalidArgument from
  // `ProxyOptions::Validate`; the old limits stay in force then. A changed
  // `session_idle_timeout` applies to live sessions too.
  absl::Status SetLimits(const ProxyLimits& limits);

  // Ends the session or sessions that `target` names, if they are live now; the
  // client's next datagram creates a new one. A client that still waits for its
  // backend is resolved again. `done`, if given, is called once from a control
  // thread with the number of sessions concerned; it is destroyed uncalled if
  // the Proxy stops first. Many sessions end in slices, between datagrams.
  // Blocks briefly if events arrive faster than sessions can end.
  void Disconnect(const DisconnectTarget& target,
                  absl::AnyInvocable<void(int64_t ended_count)> done = nullptr);

  // True if every worker completes an event-loop iteration within `within` of
  // real time; idle workers are woken. Returns once all have, else after
  // `within`. False if the Proxy is not started or has stopped. Meant for a
  // watchdog: a worker that hangs forwards nothing for its clients. Threads: as
  // above, and not from inside a call into the host.
  bool IsAlive(absl::Duration within) const;

  // A snapshot; see proxy_stats.h. Takes microseconds, plus the time of
  // `FlowOffload::LateActivity` if there is a flow offload.
  ProxyStats GetStats() const;

  // Calls `visit` for each session, in no order, on the calling thread. Shards
  // copy their sessions in slices as part of their event-loop iterations, so
  // the cost to the data plane is small. A session that is created or ends
  // meanwhile may be missing. Visits none if the Proxy is not started or has
  // stopped.
  void ForEachSession(
      const std::function<void(const SessionInfo& session)>& visit) const;

  // How many sessions each backend has, the one with the most first. Sessions
  // without a backend so far are not among them. Visits no session: the cost
  // grows with the number of backends.
  std::vector<BackendSessionCount> CountSessionsByBackend() const;

  // The bound addresses, one per listener, with the ports that the kernel
  // chose.
  const std::vector<SocketAddress>& listen_addresses() const;

  // What the kernel granted of `ProxyOptions::receive_buffer_bytes`, the
  // least of all listeners, in the same unit (half of what SO_RCVBUF reads
  // back, see socket(7)).
  int64_t receive_buffer_bytes() const;
  // The same of the send buffer, which is asked for with the same size.
  int64_t send_buffer_bytes() const;

  // The limit on sessions in force, and what sets it.
  SessionLimit session_limit() const;
  int64_t max_sessions() const { return session_limit().sessions_max; }

  // For //udpgate/takeover. Lives as long as the Proxy.
  internal::Handover* handover();

 private:
  struct Impl;
  explicit Proxy(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_PROXY_H_
