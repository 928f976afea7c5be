// The program `udp-gate`: reads its settings, composes a `Proxy` with the
// backend source that they name, and serves until SIGTERM or SIGINT.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "cli/address_wait.h"
#include "cli/backend_source.h"
#include "cli/command_line.h"
#include "cli/logger.h"
#include "cli/reload.h"
#include "cli/report.h"
#include "cli/service_manager.h"
#include "cli/session_log.h"
#include "cli/settings.h"
#include "cli/signal_calls.h"
#include "cli/stop_signal.h"
#include "cli/successor.h"
#include "cli/system.h"
#include "udpgate/admin/admin_server.h"
#include "udpgate/admin/carried_over.h"
#include "udpgate/admin/session_history.h"
#include "udpgate/clock.h"
#include "udpgate/fastpath/kernel_flow_offload.h"
#include "udpgate/proxy.h"
#include "udpgate/session_observer.h"
#include "udpgate/takeover/predecessor.h"
#include "udpgate/takeover/takeover_server.h"
#include "udpgate/version.h"

namespace udpgate {
namespace cli {
namespace {

constexpr int kExitCannotStart = 1;
constexpr int kExitBadSetting = 2;

// SIGTERM and SIGINT end the process within a second; this leaves room for the
// end itself.
constexpr absl::Duration kStopGrace = absl::Milliseconds(900);

// What the service manager is told that the start may take, after the wait for
// addresses.
constexpr absl::Duration kStartTimeMax = absl::Seconds(30);

// What the service manager is told that a stop may take, after the drain.
constexpr absl::Duration kStopTimeMax = absl::Seconds(10);

// How long a successor may need this process still, until the service manager
// knows it.
constexpr absl::Duration kSuccessorTimeMax = absl::Seconds(10);

void ChooseListenAddress(Settings* settings, Logger* logger) {
  if (!settings->listen_on_all_addresses) return;
  const uint16_t port = settings->proxy.listen_address.port();
  const bool ipv6 = Ipv6Available();
  settings->proxy.listen_address =
      ipv6 ? SocketAddress::Ipv6Any(port) : SocketAddress::Ipv4Any(port);
  logger->Log(LogSeverity::kInfo,
              absl::StrCat("PROXY_ADDR=:", port, " means all addresses, ",
                           ipv6 ? "IPv4 and IPv6"
                                : "IPv4 alone: this machine has no IPv6"));
}

// The name of the admin endpoint's socket in a take-over.
constexpr char kAdminSocket[] = "admin";

// The running gate's sockets take the place of PROXY_ADDR.
absl::StatusOr<std::unique_ptr<takeover::Predecessor>> UsePredecessor(
    const std::string& path, Settings* settings, StopSignal* stop_signal,
    Logger* logger) {
  takeover::PredecessorOptions options;
  options.socket_path = path;
  options.is_cancelled = [stop_signal] { return stop_signal->HasCome(); };
  absl::StatusOr<std::unique_ptr<takeover::Predecessor>> predecessor =
      takeover::Predecessor::Connect(options);
  if (!predecessor.ok()) {
    return absl::Status(
        predecessor.status().code(),
        absl::StrCat("--takeover: ", predecessor.status().message()));
  }
  settings->listen_on_all_addresses = false;
  // So that the next one can take over from this one.
  if (settings->takeover_socket.empty()) settings->takeover_socket = path;
  (*predecessor)->FillIn(&settings->proxy);
  logger->Log(LogSeverity::kInfo,
              absl::StrCat("taking over from the gate at ", path,
                           ", listeners: ", settings->proxy.listener_count,
                           "; PROXY_ADDR and LISTENER_COUNT are not used"));
  return predecessor;
}

// Sockets of the service manager take the place of PROXY_ADDR.
absl::Status UseActivationSockets(Settings* settings, Logger* logger) {
  absl::StatusOr<std::vector<int>> sockets = TakeActivationSockets();
  if (!sockets.ok()) return sockets.status();
  if (sockets->empty()) return absl::OkStatus();
  const absl::StatusOr<SocketAddress> address = BoundAddress(sockets->front());
  if (!address.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("LISTEN_FDS: ", address.status().message()));
  }
  settings->listen_on_all_addresses = false;
  settings->proxy.listen_address = *address;
  settings->proxy.listen_fds = *std::move(sockets);
  settings->proxy.listener_count =
      static_cast<int>(settings->proxy.listen_fds.size());
  logger->Log(LogSeverity::kInfo,
              absl::StrCat("sockets from the service manager: ",
                           settings->proxy.listener_count,
                           "; PROXY_ADDR and LISTENER_COUNT are not used"));
  return absl::OkStatus();
}

// Before anything is bound. A gate that is to take over does not wait: another
// one serves meanwhile. Cancelled where a signal has ended it.
absl::Status WaitForAddresses(const Settings& settings,
                              ServiceManager* service_manager,
                              StopSignal* stop_signal, Logger* logger) {
  AddressWaitOptions options;
  options.timeout = settings.address_wait;
  options.wait = [stop_signal](absl::Duration time) {
    return stop_signal->AwaitSignal(time);
  };
  options.on_wait = [&](const std::string& text) {
    service_manager->NotifyWaiting(text, settings.address_wait + kStartTimeMax);
  };
  return AwaitAddresses(WantedAddresses(settings), options, logger);
}

// The kernel relays confirmed sessions, where it is to and can.
// `predecessor` may be null.
absl::Status UseFastPath(const Settings& settings,
                         takeover::Predecessor* predecessor, Logger* logger,
                         ProxyDependencies* dependencies) {
  if (settings.fast_path == FastPath::kOff) return absl::OkStatus();
  // Each takes 384 bytes at once; those beyond stay on sockets.
  constexpr int64_t kSessionsMax = 65536;
  const int64_t sessions_max = settings.proxy.limits.max_sessions > 0
                                   ? settings.proxy.limits.max_sessions
                                   : DescriptorLimit();
  fastpath::KernelFlowOffload::Options options;
  options.sessions_max = static_cast<int>(std::min(sessions_max, kSessionsMax));
  options.interfaces = settings.fast_path_interfaces;
  options.listen_addresses = {settings.proxy.listen_address};
  options.dont_fragment = settings.proxy.dont_fragment;
  options.copies_traffic_class = settings.proxy.copies_traffic_class;
  options.log_sink = settings.proxy.log_sink;
  if (predecessor != nullptr) {
    options.adopted = predecessor->TakeFlowDescriptors();
  }
  absl::StatusOr<std::unique_ptr<fastpath::KernelFlowOffload>> offload =
      fastpath::KernelFlowOffload::Create(options);
  if (offload.ok()) {
    logger->Log(
        LogSeverity::kInfo,
        absl::StrCat("fast path: the kernel relays confirmed sessions ",
                     (*offload)->has_adopted() ? "without a break, on " : "on ",
                     absl::StrJoin((*offload)->AttachedInterfaces(), ", ")));
    dependencies->flow_offload = *std::move(offload);
    return absl::OkStatus();
  }
  // The library names its own field, where it is at fault.
  absl::string_view reason = offload.status().message();
  const std::string why = absl::ConsumePrefix(&reason, "interfaces: ")
                              ? absl::StrCat("FAST_PATH_INTERFACES: ", reason)
                              : absl::StrCat("FAST_PATH: ", reason);
  if (settings.fast_path == FastPath::kRequired) {
    return absl::Status(offload.status().code(), why);
  }
  logger->Log(LogSeverity::kWarning,
              absl::StrCat(why, "; all sessions stay on sockets"));
  return absl::OkStatus();
}

// Tells several.
class SessionObservers : public SessionObserver {
 public:
  explicit SessionObservers(
      std::vector<std::shared_ptr<SessionObserver>> observers)
      : observers_(std::move(observers)) {}
  void Observe(const SessionEvent& event) override {
    for (const auto& observer : observers_) observer->Observe(event);
  }

 private:
  const std::vector<std::shared_ptr<SessionObserver>> observers_;
};

// Who is told of sessions; null where there is none.
struct Observers {
  std::shared_ptr<admin::SessionHistory> history;  // for the admin endpoint
  std::shared_ptr<SessionLogger> log;
};

Observers UseObservers(const Settings& settings, Logger* logger,
                       ProxyDependencies* dependencies) {
  Observers observers;
  std::vector<std::shared_ptr<SessionObserver>> all;
  if (settings.admin_address.is_valid()) {
    observers.history =
        std::make_shared<admin::SessionHistory>(admin::SessionHistoryOptions());
    all.push_back(observers.history);
  }
  // Last, as it may be slow.
  if (settings.session_log != SessionLog::kOff) {
    observers.log = std::make_shared<SessionLogger>(
        settings.session_log, settings.session_log_lines_per_second_max,
        Clock::Monotonic(), logger);
    all.push_back(observers.log);
  }
  if (!all.empty()) {
    dependencies->session_observer =
        std::make_shared<SessionObservers>(std::move(all));
  }
  return observers;
}

// What this program adds to /metrics.
HostMetrics MetricsOfProgram(const std::function<HostMetrics()>& redis_metrics,
                             const SessionLogger* session_log,
                             const Logger& logger) {
  HostMetrics metrics =
      redis_metrics == nullptr ? HostMetrics() : redis_metrics();
  metrics.push_back({admin::HostMetric::Kind::kCounter,
                     "udpgate_log_lines_dropped_total",
                     "Log lines that standard error did not take at once.",
                     static_cast<double>(logger.dropped_lines())});
  if (session_log != nullptr) {
    metrics.push_back({admin::HostMetric::Kind::kCounter,
                       "udpgate_session_log_lines_left_out_total",
                       "Lines on sessions beyond SESSION_LOG_LINES_PER_SEC.",
                       static_cast<double>(session_log->lines_left_out())});
  }
  return metrics;
}

// The running gate's socket, where it has the address that is wanted; -1 where
// not. `predecessor` may be null.
int TakeAdminSocket(const SocketAddress& wanted,
                    takeover::Predecessor* predecessor) {
  const int fd = predecessor == nullptr || !wanted.is_valid()
                     ? -1
                     : predecessor->TakeSocket(kAdminSocket);
  if (fd < 0) return -1;
  const absl::StatusOr<SocketAddress> bound = BoundAddress(fd);
  if (bound.ok() && (*bound == wanted ||
                     (wanted.port() == 0 && bound->WithPort(0) == wanted))) {
    return fd;
  }
  close(fd);
  return -1;
}

// The endpoint for operators, bound; null where there is to be none.
absl::StatusOr<std::unique_ptr<admin::AdminServer>> MakeAdminServer(
    const Settings& settings, const ProxyDependencies& dependencies,
    int listen_fd, std::function<HostMetrics()> redis_metrics,
    Observers observers, Reloader* reloader, Proxy* proxy, Logger* logger) {
  if (!settings.admin_address.is_valid()) return nullptr;
  admin::AdminOptions options;
  options.listen_address = settings.admin_address;
  options.listen_fd = listen_fd;
  options.token = settings.admin_token;
  admin::AdminHooks hooks;
  hooks.components = [resolver = dependencies.resolver,
                      disconnects = dependencies.disconnects,
                      is_needed = settings.is_unready_without_disconnects] {
    std::vector<admin::ComponentHealth> components;
    components.push_back({"backend_source", resolver->Health()});
    if (disconnects != nullptr) {
      // New clients can be served without, but not moved.
      components.push_back(
          {"disconnect_source", disconnects->Health(), is_needed});
    }
    return components;
  };
  hooks.reload = [reloader] { return reloader->Reload(); };
  hooks.history = std::move(observers.history);
  hooks.metrics = [logger, redis_metrics = std::move(redis_metrics),
                   session_log = std::move(observers.log)] {
    return MetricsOfProgram(redis_metrics, session_log.get(), *logger);
  };
  absl::StatusOr<std::unique_ptr<admin::AdminServer>> server =
      admin::AdminServer::Create(std::move(options), proxy, std::move(hooks));
  if (server.ok()) return server;
  return absl::Status(server.status().code(),
                      absl::StrCat("ADMIN_ADDR: ", server.status().message()));
}

void LogAdmin(const Settings& settings, const admin::AdminServer& server,
              Logger* logger) {
  logger->Log(LogSeverity::kInfo,
              absl::StrCat("admin endpoint: http://",
                           server.address().ToString(), "/"));
  if (settings.admin_token.empty() && !settings.admin_address.is_loopback()) {
    logger->Log(LogSeverity::kWarning,
                "ADMIN_ADDR is no loopback address and there is no "
                "ADMIN_TOKEN: only /metrics, /healthz and /readyz are served");
  }
}

// Where a successor takes over; null where none can.
absl::StatusOr<std::unique_ptr<takeover::TakeoverServer>> StartTakeoverServer(
    const Settings& settings, const std::string& predecessor_path,
    const admin::AdminServer* admin, Proxy* proxy,
    std::function<void()> on_handed_over) {
  if (settings.takeover_socket.empty()) return nullptr;
  takeover::TakeoverServerOptions options;
  options.socket_path = settings.takeover_socket;
  options.predecessor_path = predecessor_path;
  if (admin != nullptr)
    options.extra_sockets[kAdminSocket] = admin->listen_fd();
  options.log_sink = settings.proxy.log_sink;
  absl::StatusOr<std::unique_ptr<takeover::TakeoverServer>> server =
      takeover::TakeoverServer::Create(options, proxy,
                                       std::move(on_handed_over));
  absl::Status status = server.ok() ? (*server)->Start() : server.status();
  if (status.ok()) return server;
  return absl::Status(status.code(),
                      absl::StrCat("TAKEOVER_SOCKET: ", status.message()));
}

// For the successor: what this process's endpoint has counted, or, where it has
// none, what it was given itself. `admin` and `history` may be null.
std::string NotesForSuccessor(const admin::AdminServer* admin,
                              const admin::SessionHistory* history,
                              std::string given) {
  if (admin == nullptr) return given;
  admin::CarriedOver carried;
  carried.counters = admin->Counters();
  if (history != nullptr) carried.history = history->Save();
  return admin::EncodeCarriedOver(carried);
}

// The counters of the gate that this one has taken over from go on, and so does
// its list of ends. Returns its notes.
std::string ReadNotes(takeover::Predecessor* predecessor,
                      admin::AdminServer* admin, admin::SessionHistory* history,
                      Logger* logger) {
  constexpr absl::Duration kTimeMax = absl::Seconds(2);
  absl::StatusOr<std::string> notes = predecessor->ReadNotes(kTimeMax);
  const absl::StatusOr<admin::CarriedOver> carried =
      notes.ok() ? admin::DecodeCarriedOver(*notes) : notes.status();
  if (!carried.ok()) {
    logger->Log(
        LogSeverity::kWarning,
        absl::StrCat("--takeover: some counters of /metrics begin anew: ",
                     carried.status().message()));
    return "";
  }
  if (history != nullptr) history->Restore(carried->history);
  if (admin != nullptr) admin->AddCounters(carried->counters);
  return *std::move(notes);
}

// SIGUSR2: the next gate takes over.
void Upgrade(const Settings& settings, const std::string& program,
             const std::vector<std::string>& arguments,
             const StopSignal& stop_signal, Logger* logger) {
  absl::string_view objection;
  if (settings.takeover_socket.empty()) {
    objection = "no successor can take over without TAKEOVER_SOCKET";
  } else if (stop_signal.HasCome()) {
    objection = "no successor is started, since this gate is to end";
  } else if (getpid() == 1) {
    objection =
        "no successor is started, since this process is the first of its "
        "container, which would end with it; start another container with "
        "--takeover";
  }
  if (!objection.empty()) {
    logger->Log(LogSeverity::kWarning, absl::StrCat("SIGUSR2: ", objection));
    return;
  }
  const absl::StatusOr<pid_t> process = StartSuccessor(
      program, SuccessorArguments(arguments, settings.takeover_socket));
  if (process.ok()) {
    logger->Log(LogSeverity::kInfo, absl::StrCat("SIGUSR2: process ", *process,
                                                 " is to take over"));
  } else {
    logger->Log(LogSeverity::kError,
                absl::StrCat("SIGUSR2: cannot start a successor: ",
                             process.status().message()));
  }
}

// Serves from here on: from nothing, or with what another gate had.
absl::Status StartServing(takeover::Predecessor* predecessor, Proxy* proxy,
                          Logger* logger) {
  if (predecessor == nullptr) return proxy->Start();
  const absl::StatusOr<takeover::TakenOver> taken =
      predecessor->TakeOver(proxy);
  if (!taken.ok()) {
    return absl::Status(taken.status().code(),
                        absl::StrCat("--takeover: ", taken.status().message()));
  }
  logger->Log(LogSeverity::kInfo,
              absl::StrCat("took over ", taken->session_count, " sessions, ",
                           taken->session_count - taken->late_count,
                           " made ready before; their datagrams waited for ",
                           absl::FormatDuration(absl::Trunc(
                               taken->pause, absl::Microseconds(1)))));
  return absl::OkStatus();
}

void LogStart(const Settings& settings, const Proxy& proxy, Logger* logger) {
  const auto info = [logger](const std::string& text) {
    logger->Log(LogSeverity::kInfo, text);
  };
  info(DescribeBackendSource(settings));
  info(absl::StrCat("workers: ", settings.proxy.worker_count,
                    ", listeners: ", settings.proxy.listener_count, ", ",
                    SessionLimitText(proxy.session_limit())));
  const int64_t granted = proxy.receive_buffer_bytes();
  info(absl::StrCat("receive buffer: ", granted, " bytes"));
  const int64_t send_granted = proxy.send_buffer_bytes();
  info(absl::StrCat("send buffer: ", send_granted, " bytes"));
  for (const std::string& warning :
       {SessionLimitWarning(settings.proxy.limits.max_sessions,
                            proxy.session_limit(), DescriptorLimit()),
        ReceiveBufferWarning(settings.proxy.receive_buffer_bytes, granted,
                             ReceiveBufferLimit()),
        SendBufferWarning(settings.proxy.receive_buffer_bytes, send_granted,
                          SendBufferLimit())}) {
    if (!warning.empty()) logger->Log(LogSeverity::kWarning, warning);
  }
  // Several listeners share one address.
  std::set<std::string> addresses;
  for (const SocketAddress& address : proxy.listen_addresses()) {
    addresses.insert(address.ToString());
  }
  for (const std::string& address : addresses) {
    info(absl::StrCat("listening on ", address));
  }
}

void LogTotals(const ProxyStats& stats, Logger* logger) {
  for (const std::string& line : StopLines(stats)) {
    logger->Log(LogSeverity::kInfo, line);
  }
}

// The library names its own fields, where the user knows settings.
int CannotStart(const absl::Status& status, Logger* logger) {
  const std::string why = absl::StrReplaceAll(
      status.message(), {{"listen_address:", "PROXY_ADDR:"},
                         {"listen_fds:", "LISTEN_FDS:"},
                         {"upstream_bind_addresses:", "UPSTREAM_BIND_ADDRS:"}});
  logger->Log(LogSeverity::kError, absl::StrCat("cannot start: ", why));
  return kExitCannotStart;
}

// New clients are refused, and live sessions have time to end.
void Drain(absl::Duration timeout, StopSignal* stop_signal, Proxy* proxy,
           Logger* logger) {
  constexpr absl::Duration kLookInterval = absl::Milliseconds(200);
  proxy->Drain();
  const auto live = [proxy] {
    const ProxyStats stats = proxy->GetStats();
    return stats.sessions_active + stats.sessions_pending;
  };
  logger->Log(
      LogSeverity::kInfo,
      absl::StrCat("draining: new clients are refused, ", live(),
                   " live sessions have ", absl::FormatDuration(timeout),
                   " to end; a second signal stops now"));
  // The numbers are no snapshot of one moment: a session that gets its backend
  // just now may be in neither. So two looks must agree.
  bool was_empty = false;
  do {
    const bool is_empty = live() == 0;
    if (is_empty && was_empty) break;
    was_empty = is_empty;
  } while (!stop_signal->AwaitStop(kLookInterval));
  logger->Log(LogSeverity::kInfo,
              absl::StrCat("drained: ", live(), " live sessions are left"));
}

// The rest of what can be wrong with settings; their ranges were checked.
absl::Status Validate(const Settings& settings) {
  if (absl::Status status = settings.proxy.Validate(); !status.ok()) {
    return status;
  }
  return ValidateBackendSource(settings);
}

int Serve(const std::string& program, SettingSources sources,
          const CommandLine& command_line, StopSignal* stop_signal,
          Logger* logger) {
  Settings settings = command_line.settings;
  ServiceManager service_manager;
  std::unique_ptr<takeover::Predecessor> predecessor;
  if (!command_line.takeover_path.empty()) {
    absl::StatusOr<std::unique_ptr<takeover::Predecessor>> connected =
        UsePredecessor(command_line.takeover_path, &settings, stop_signal,
                       logger);
    if (!connected.ok()) return CannotStart(connected.status(), logger);
    predecessor = *std::move(connected);
  } else if (absl::Status status = UseActivationSockets(&settings, logger);
             !status.ok()) {
    return CannotStart(status, logger);
  }
  const std::vector<std::string> arguments = sources.arguments;
  if (absl::Status status = RaiseDescriptorLimit(); !status.ok()) {
    logger->Log(LogSeverity::kWarning, status.message());
  }
  HeldLog held_log(logger->Sink());
  settings.proxy.log_sink = held_log.Sink();
  ChooseListenAddress(&settings, logger);
  if (predecessor == nullptr) {
    const absl::Status status =
        WaitForAddresses(settings, &service_manager, stop_signal, logger);
    if (absl::IsCancelled(status)) {
      logger->Log(LogSeverity::kInfo,
                  absl::StrCat(stop_signal->Wait(), ": stopping"));
      return 0;
    }
    if (!status.ok()) return CannotStart(status, logger);
  }

  ProxyDependencies dependencies;
  std::function<HostMetrics()> redis_metrics;
  std::function<void()> reload_names;
  const absl::Status source =
      UseBackendSource(settings, &dependencies, &redis_metrics, &reload_names);
  if (!source.ok()) {
    const int status = CannotStart(source, logger);
    return absl::IsInvalidArgument(source) ? kExitBadSetting : status;
  }
  if (absl::Status status =
          UseFastPath(settings, predecessor.get(), logger, &dependencies);
      !status.ok()) {
    return CannotStart(status, logger);
  }
  Observers observers = UseObservers(settings, logger, &dependencies);
  const std::shared_ptr<admin::SessionHistory> history = observers.history;
  const absl::StatusOr<std::unique_ptr<Proxy>> proxy =
      Proxy::Create(settings.proxy, dependencies);
  if (!proxy.ok()) return CannotStart(proxy.status(), logger);
  Reloader reloader(std::move(sources), command_line, Validate,
                    std::move(reload_names), proxy->get(), logger);
  // Bound before the first thread runs, and gone before the Proxy.
  const absl::StatusOr<std::unique_ptr<admin::AdminServer>> admin =
      MakeAdminServer(
          settings, dependencies,
          TakeAdminSocket(settings.admin_address, predecessor.get()),
          std::move(redis_metrics), std::move(observers), &reloader,
          proxy->get(), logger);
  if (!admin.ok()) return CannotStart(admin.status(), logger);
  // Before the first client is served, who must not be cut off by a signal that
  // comes right then.
  stop_signal->SetDrainTimeout(settings.drain_timeout);
  if (absl::Status status =
          StartServing(predecessor.get(), proxy->get(), logger);
      !status.ok()) {
    if (!absl::IsCancelled(status)) return CannotStart(status, logger);
    logger->Log(LogSeverity::kInfo, status.message());
    return 0;
  }
  // Whether the gate cannot go on without what has failed: one that has taken
  // over has players, who are worth more.
  const auto is_fatal = [&](const absl::Status& status) {
    if (status.ok() || predecessor == nullptr) return !status.ok();
    logger->Log(LogSeverity::kError, status.message());
    return false;
  };
  std::string notes;
  if (predecessor != nullptr) {
    notes = ReadNotes(predecessor.get(), admin->get(), history.get(), logger);
  }
  if (*admin != nullptr) {
    const absl::Status status = (*admin)->Start();
    if (is_fatal(status)) return CannotStart(status, logger);
    if (status.ok()) LogAdmin(settings, **admin, logger);
  }
  std::atomic<bool> is_handed_over{false};
  const absl::StatusOr<std::unique_ptr<takeover::TakeoverServer>> successors =
      StartTakeoverServer(settings, command_line.takeover_path, admin->get(),
                          proxy->get(), [&] {
                            is_handed_over = true;
                            stop_signal->Cancel();
                          });
  if (is_fatal(successors.status())) {
    return CannotStart(successors.status(), logger);
  }
  LogStart(settings, **proxy, logger);
  held_log.Release();
  const auto is_alive = [&proxy](absl::Duration within) {
    return (*proxy)->IsAlive(within);
  };
  if (absl::Status status = service_manager.StartWatchdog(is_alive);
      is_fatal(status)) {
    return CannotStart(status, logger);
  }
  const std::string status_line = absl::StrCat(
      "listening on ", (*proxy)->listen_addresses().front().ToString(), ", ",
      DescribeBackendSource(settings));
  if (predecessor == nullptr) {
    service_manager.NotifyReady(status_line);
  } else {
    service_manager.NotifyTakenOver(status_line);
    predecessor->Release();
  }

  SignalCalls signal_calls(
      {{SIGHUP, [&reloader] { (void)reloader.Reload(); }},
       {SIGUSR2,
        [&] { Upgrade(settings, program, arguments, *stop_signal, logger); }}});
  const absl::string_view signal_name = stop_signal->Wait();
  if (!signal_name.empty()) {
    service_manager.NotifyStopping(
        settings.drain_timeout > absl::ZeroDuration() ? "draining" : "stopping",
        settings.drain_timeout + kStopTimeMax);
    if (settings.drain_timeout > absl::ZeroDuration()) {
      Drain(settings.drain_timeout, stop_signal, proxy->get(), logger);
    }
    stop_signal->BeginStop();
    logger->Log(LogSeverity::kInfo, absl::StrCat(signal_name, ": stopping"));
  }
  if (*admin != nullptr) (*admin)->Stop();
  service_manager.StopWatchdog();
  if (is_handed_over) {
    (*successors)
        ->AwaitSuccessor(
            kSuccessorTimeMax,
            NotesForSuccessor(admin->get(), history.get(), std::move(notes)));
    return 0;
  }
  if (successors.ok() && *successors != nullptr) (*successors)->Stop();
  (*proxy)->Stop();
  LogTotals((*proxy)->GetStats(), logger);
  return 0;
}

// Writes `text` to standard output; for what a user asked to see.
int Print(const std::string& text) {
  const bool written =
      std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
      std::fflush(stdout) == 0;
  return written ? 0 : kExitCannotStart;
}

int BadSetting(const absl::Status& status) {
  std::fputs(absl::StrCat("udp-gate: ", status.message(), "\n").c_str(),
             stderr);
  return kExitBadSetting;
}

// The format of the log, for LogOverdue, which is there before the settings.
std::atomic<LogFormat> overdue_format{LogFormat::kText};

// A logger of its own: whatever hangs may hold the other one.
void LogOverdue() {
  Logger(LogSeverity::kWarning, overdue_format, STDERR_FILENO)
      .Log(LogSeverity::kWarning,
           "the stop takes too long: the process ends now");
}

int Main(int argc, const char* const* argv) {
  OpenStandardDescriptors();
  // First of all, so that a signal that comes early is obeyed too.
  StopSignal stop_signal(kStopGrace, LogOverdue);
  // A log that nobody reads any more must not end the gate.
  std::signal(SIGPIPE, SIG_IGN);
  BlockCalledSignals();
  SettingSources sources = SettingSources::OfProcess(argc, argv);
  absl::StatusOr<CommandLine> command_line = ParseCommandLine(sources);
  if (!command_line.ok()) return BadSetting(command_line.status());
  if (command_line->action == CommandLine::Action::kHelp) {
    return Print(HelpText());
  }
  if (command_line->action == CommandLine::Action::kVersion) {
    return Print("udp-gate " UDPGATE_VERSION_STRING "\n");
  }
  if (absl::Status status = Validate(command_line->settings); !status.ok()) {
    return BadSetting(status);
  }
  overdue_format = command_line->settings.log_format;
  Logger logger(command_line->settings.log_level,
                command_line->settings.log_format, STDERR_FILENO);
  for (const std::string& warning : command_line->warnings) {
    logger.Log(LogSeverity::kWarning, warning);
  }
  if (command_line->action == CommandLine::Action::kCheck) {
    return Print("udp-gate: the settings are valid\n");
  }
  return Serve(argv[0], std::move(sources), *command_line, &stop_signal,
               &logger);
}

}  // namespace
}  // namespace cli
}  // namespace udpgate

int main(int argc, char** argv) { return udpgate::cli::Main(argc, argv); }
