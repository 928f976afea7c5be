#include "cli/gateway.h"

#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "cli/address_wait.h"
#include "cli/fast_path.h"
#include "cli/listen_sockets.h"
#include "cli/report.h"
#include "cli/session_keeping.h"
#include "cli/settings/table.h"
#include "cli/system/system.h"
#include "cli/upgrade.h"
#include "udpgate/flow_offload.h"
#include "udpgate/logging.h"
#include "udpgate/option_error.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace cli {
namespace {

// What the service manager is told that startup may take, after the wait for
// addresses.
constexpr absl::Duration kStartupTimeMax = absl::Seconds(30);

// What the service manager is told that shutdown may take, after the drain.
constexpr absl::Duration kShutdownTimeMax = absl::Seconds(10);

// How long a process that was taken over from waits for the answers of joins
// under way, whose result the new process must know.
constexpr absl::Duration kLastJoinsTimeMax = absl::Seconds(2);

// How long a new process may need this one after the takeover, until the
// service manager knows it.
constexpr absl::Duration kNewProcessTimeMax = absl::Seconds(10);

// `status` for a user, who knows settings and not the library's options.
absl::Status ForUser(const absl::Status& status) {
  // Not a setting, but a variable of the service manager.
  if (OptionAtFault(status) == "listen_fds") {
    return absl::Status(status.code(),
                        absl::StrCat("LISTEN_FDS", OptionProblem(status)));
  }
  return NameSetting(status);
}

}  // namespace

absl::Status ValidateSettings(const Settings& settings) {
  if (absl::Status status = settings.proxy.Validate(); !status.ok()) {
    return NameSetting(status);
  }
  if (absl::Status status = ValidateBackendSource(settings); !status.ok()) {
    return NameSetting(status);
  }
  if (absl::Status status = RedisReports::Validate(settings); !status.ok()) {
    return NameSetting(status);
  }
  return NameSetting(ValidateSessionKeeping(settings));
}

absl::Status CheckFiles(const Settings& settings) {
  if (absl::Status status = CheckRedisFiles(settings); !status.ok()) {
    return absl::Status(status.code(),
                        absl::StrCat("REDIS_TLS: ", status.message()));
  }
  return CheckSignalingFiles(settings);
}

Gateway::Gateway(GatewayOptions options, StopSignal* stop_signal,
                 Logger* logger)
    : options_(std::move(options)),
      settings_(options_.command_line.settings),
      stop_signal_(stop_signal),
      logger_(logger),
      held_log_(logger->Sink()) {
  settings_.proxy.log_sink = held_log_.Sink();
  if (settings_.forwards_sessions) {
    settings_.proxy.forward_address = settings_.session_forward_address;
  }
}

Gateway::~Gateway() {
  if (keeping_ == nullptr || proxy_ == nullptr) return;
  // Start has failed, or Stop has done all this: the keeper uses the Proxy, and
  // the admin endpoint uses the keeper.
  if (admin_ != nullptr) admin_->Stop();
  proxy_->Stop();
  keeping_->Stop(SessionKeeper::StopReason::kShutdown);
}

absl::Status Gateway::Start() {
  // A function that ends Start early leaves what is there to the destructor.
  for (const auto step :
       {&Gateway::ObtainSockets, &Gateway::AwaitOwnAddresses, &Gateway::Compose,
        &Gateway::StartProxy, &Gateway::StartReports, &Gateway::StartSignaling,
        &Gateway::StartAdmin, &Gateway::StartTakeover, &Gateway::Announce}) {
    if (absl::Status status = (this->*step)(); !status.ok()) {
      return ForUser(status);
    }
  }
  signal_calls_ =
      std::make_unique<SignalCalls>(std::map<int, std::function<void()>>{
          {SIGHUP, [this] { (void)reloader_->Reload(); }},
          {SIGUSR2, [this] { Upgrade(); }}});
  return absl::OkStatus();
}

absl::Status Gateway::ObtainSockets() {
  const std::string& path = options_.command_line.takeover_path;
  if (path.empty()) {
    if (absl::Status status = UseActivationSockets(&settings_, logger_);
        !status.ok()) {
      return status;
    }
  } else {
    absl::StatusOr<std::unique_ptr<takeover::Predecessor>> connected =
        ConnectToRunningGateway(
            path,
            [stop_signal = stop_signal_] { return stop_signal->HasCome(); },
            &settings_, logger_);
    if (!connected.ok()) return connected.status();
    old_process_ = *std::move(connected);
  }
  if (absl::Status status = RaiseDescriptorLimit(); !status.ok()) {
    logger_->Log(LogSeverity::kWarning, status.message());
  }
  ChooseListenAddresses(&settings_, logger_);
  return PrepareStandby(old_process_ != nullptr, &settings_);
}

absl::Status Gateway::AwaitOwnAddresses() {
  // The old process serves meanwhile, on the same addresses.
  if (old_process_ != nullptr) return absl::OkStatus();
  AddressWaitOptions options;
  options.timeout = settings_.address_wait;
  options.wait = [this](absl::Duration time) {
    return stop_signal_->AwaitSignal(time);
  };
  options.on_wait = [this](const std::string& text) {
    service_manager_.NotifyWaiting(text,
                                   settings_.address_wait + kStartupTimeMax);
  };
  absl::Status status =
      AwaitAddresses(WantedAddresses(settings_), options, logger_);
  if (!absl::IsCancelled(status)) return status;
  return absl::CancelledError(absl::StrCat(stop_signal_->Wait(), ": stopping"));
}

absl::Status Gateway::Compose() {
  absl::StatusOr<BackendSource> backends = MakeBackendSource(settings_);
  if (!backends.ok()) return backends.status();
  backends_ = *std::move(backends);
  absl::StatusOr<std::unique_ptr<Signaling>> signaling =
      Signaling::Create(settings_, backends_, logger_);
  if (!signaling.ok()) return signaling.status();
  signaling_ = *std::move(signaling);
  absl::StatusOr<std::unique_ptr<SessionKeeping>> keeping =
      SessionKeeping::Create(settings_, backends_, logger_);
  if (!keeping.ok()) return keeping.status();
  keeping_ = *std::move(keeping);
  absl::StatusOr<std::shared_ptr<FlowOffload>> fast_path =
      MakeFastPath(settings_, old_process_.get(), logger_);
  if (!fast_path.ok()) return fast_path.status();
  absl::StatusOr<std::unique_ptr<RedisReports>> reports =
      RedisReports::Create(settings_, backends_, logger_);
  if (!reports.ok()) return reports.status();
  reports_ = *std::move(reports);
  observers_ = MakeObservers(settings_, reports_->observer(), logger_);

  ProxyDependencies dependencies;
  dependencies.resolver =
      signaling_ == nullptr ? backends_.resolver : signaling_->resolver();
  dependencies.disconnects = backends_.disconnects;
  dependencies.flow_offload = *std::move(fast_path);
  dependencies.session_observer = observers_.all;
  if (keeping_ != nullptr) keeping_->Wrap(&dependencies);
  absl::StatusOr<std::unique_ptr<Proxy>> proxy =
      Proxy::Create(settings_.proxy, std::move(dependencies));
  if (!proxy.ok()) return proxy.status();
  proxy_ = *std::move(proxy);
  Reloader::Parts parts;
  parts.reload_names = backends_.reload_names;
  if (signaling_ != nullptr) {
    absl::Status bound =
        signaling_->Bind(settings_, old_process_.get(), proxy_.get());
    if (!bound.ok()) return bound;
    parts.apply = [this](const Settings& settings) {
      return signaling_->Reload(settings);
    };
  }
  reloader_ = std::make_unique<Reloader>(
      options_.sources, options_.command_line, ValidateSettings,
      std::move(parts), proxy_.get(), logger_);
  return ComposeAdmin();
}

absl::Status Gateway::ComposeAdmin() {
  AdminSources sources;
  sources.backends = backends_;
  sources.observers = observers_;
  sources.keeping = keeping_.get();
  sources.reload = [this] { return reloader_->Reload(); };
  sources.drain = [this] { NoteDrain(); };
  sources.report_metrics = [this] { return reports_->Metrics(); };
  if (signaling_ != nullptr) {
    sources.nethernet_metrics = [this] { return signaling_->Metrics(); };
    sources.joins = [this] { return signaling_->Joins(); };
    sources.nethernet_health = [this] { return signaling_->Health(); };
  }
  absl::StatusOr<std::unique_ptr<admin::AdminServer>> admin = MakeAdminServer(
      settings_, std::move(sources), old_process_.get(), proxy_.get(), logger_);
  if (!admin.ok()) return admin.status();
  admin_ = *std::move(admin);
  return absl::OkStatus();
}

absl::Status Gateway::StartProxy() {
  // Before the first client is served, whose session must not be cut off by a
  // signal that arrives right then.
  stop_signal_->SetDrainTimeout(settings_.drain_timeout);
  absl::Status status = reports_->StartEvents();
  if (!status.ok()) return status;
  if (old_process_ == nullptr) {
    if (keeping_ != nullptr) keeping_->Recover(proxy_.get());
    status = proxy_->Start();
  } else {
    status = TakeOverSessions(old_process_.get(), signaling_.get(),
                              keeping_.get(), proxy_.get(), logger_);
  }
  if (!status.ok() || keeping_ == nullptr) return status;
  return UnlessTakenOver(keeping_->Start(proxy_.get(), [this] {
    if (signaling_ != nullptr) signaling_->FollowStandby();
  }));
}

absl::Status Gateway::StartReports() {
  return UnlessTakenOver(reports_->StartEntry(proxy_.get()));
}

// First of all once the sessions are served: a player's connection waits for
// nobody else.
absl::Status Gateway::StartSignaling() {
  if (signaling_ != nullptr) {
    absl::Status status = UnlessTakenOver(signaling_->Start());
    if (!status.ok()) return status;
    LogSignaling(settings_, *signaling_, logger_);
  }
  if (old_process_ != nullptr) {
    notes_ =
        ReadNotes(old_process_.get(), admin_.get(), observers_.history.get(),
                  signaling_.get(), backends_.redis_disconnects.get(), logger_);
  }
  return absl::OkStatus();
}

absl::Status Gateway::StartAdmin() {
  if (admin_ == nullptr) return absl::OkStatus();
  const absl::Status status = admin_->Start();
  if (!status.ok()) return UnlessTakenOver(status);
  LogAdmin(settings_, *admin_, logger_);
  return absl::OkStatus();
}

absl::Status Gateway::StartTakeover() {
  absl::StatusOr<std::unique_ptr<takeover::TakeoverServer>> server =
      StartTakeoverServer(settings_, options_.command_line.takeover_path,
                          admin_.get(), signaling_.get(), keeping_.get(),
                          proxy_.get(), [this] {
                            if (signaling_ != nullptr) {
                              signaling_->StopAccepting();
                            }
                            is_handed_over_ = true;
                            stop_signal_->Cancel();
                          });
  if (!server.ok()) return UnlessTakenOver(server.status());
  takeover_server_ = *std::move(server);
  return absl::OkStatus();
}

absl::Status Gateway::Announce() {
  LogStartup();
  held_log_.Release();
  const absl::Status watchdog = service_manager_.StartWatchdog(
      [this](absl::Duration within) { return proxy_->IsAlive(within); });
  if (absl::Status status = UnlessTakenOver(watchdog); !status.ok()) {
    return status;
  }
  const std::string text = absl::StrCat(
      "listening on ", proxy_->listen_addresses().front().ToString(), ", ",
      signaling_ == nullptr
          ? ""
          : absl::StrCat("NetherNet on ", signaling_->address().ToString(),
                         ", "),
      DescribeBackendSource(settings_));
  if (old_process_ == nullptr) {
    service_manager_.NotifyReady(text);
  } else {
    service_manager_.NotifyTakenOver(text);
    old_process_->Release();
  }
  return absl::OkStatus();
}

absl::Status Gateway::UnlessTakenOver(const absl::Status& status) {
  if (status.ok() || old_process_ == nullptr) return status;
  logger_->Log(LogSeverity::kError, status.message());
  return absl::OkStatus();
}

void Gateway::Wait() {
  const absl::string_view signal_name = stop_signal_->Wait();
  if (signal_name.empty()) return;
  const bool drains = settings_.drain_timeout > absl::ZeroDuration();
  service_manager_.NotifyStopping(drains ? "draining" : "stopping",
                                  settings_.drain_timeout + kShutdownTimeMax);
  if (drains) Drain();
  stop_signal_->BeginStop();
  logger_->Log(LogSeverity::kInfo, absl::StrCat(signal_name, ": stopping"));
}

void Gateway::Drain() {
  constexpr absl::Duration kLookInterval = absl::Milliseconds(200);
  proxy_->Drain();
  NoteDrain();
  const auto live = [this] {
    const ProxyStats stats = proxy_->GetStats();
    return stats.sessions_active + stats.sessions_pending;
  };
  // A player who has an answer may still come.
  const auto is_done = [this, &live] {
    return live() == 0 &&
           (signaling_ == nullptr || signaling_->waiting_joins() == 0);
  };
  logger_->Log(LogSeverity::kInfo,
               absl::StrCat("draining: new clients are rejected, ", live(),
                            " live sessions have ",
                            absl::FormatDuration(settings_.drain_timeout),
                            " to end; a second signal ends the drain"));
  // The numbers are not a snapshot of one moment: a session that gets its
  // backend right now may be in neither. So two looks must agree.
  bool was_empty = false;
  do {
    const bool is_empty = is_done();
    if (is_empty && was_empty) break;
    was_empty = is_empty;
  } while (!stop_signal_->AwaitStop(kLookInterval));
  logger_->Log(LogSeverity::kInfo,
               absl::StrCat("drained: ", live(), " live sessions left"));
}

void Gateway::NoteDrain() {
  if (signaling_ != nullptr) signaling_->SetDraining();
  reports_->Update();
}

void Gateway::Stop() {
  if (admin_ != nullptr) admin_->Stop();
  service_manager_.StopWatchdog();
  if (is_handed_over_) {
    reports_->LeaveEntry();
    reports_->StopEvents();
    if (keeping_ != nullptr) {
      keeping_->Stop(SessionKeeper::StopReason::kTakenOver);
    }
    if (signaling_ != nullptr) {
      signaling_->AwaitAnswers(kLastJoinsTimeMax);
      signaling_->StopAnswering();
    }
    std::string notes =
        NotesForNewProcess(admin_.get(), observers_.history.get(),
                           signaling_.get(), std::move(notes_));
    if (backends_.redis_disconnects != nullptr) {
      notes = AddStreamPositionToNotes(
          std::move(notes), backends_.redis_disconnects->stream_position());
    }
    takeover_server_->AwaitSuccessor(kNewProcessTimeMax, std::move(notes));
    if (signaling_ != nullptr) signaling_->Stop();
    return;
  }
  if (takeover_server_ != nullptr) takeover_server_->Stop();
  if (signaling_ != nullptr) signaling_->Stop();
  reports_->RemoveEntry();
  proxy_->Stop();
  if (keeping_ != nullptr) {
    keeping_->Stop(SessionKeeper::StopReason::kShutdown);
  }
  reports_->StopEvents();
  for (const std::string& line : StopLines(proxy_->GetStats())) {
    logger_->Log(LogSeverity::kInfo, line);
  }
}

void Gateway::Upgrade() {
  const std::string objection =
      UpgradeObjection(settings_, stop_signal_->HasCome(), getpid());
  if (!objection.empty()) {
    logger_->Log(LogSeverity::kWarning, absl::StrCat("SIGUSR2: ", objection));
    return;
  }
  StartUpgrade(settings_, options_.program, options_.sources.arguments,
               logger_);
}

void Gateway::LogStartup() {
  const auto info = [this](const std::string& text) {
    logger_->Log(LogSeverity::kInfo, text);
  };
  info(DescribeBackendSource(settings_));
  info(absl::StrCat("workers: ", settings_.proxy.worker_count,
                    ", listeners: ", settings_.proxy.listener_count, ", ",
                    SessionLimitText(proxy_->session_limit())));
  const int64_t granted = proxy_->receive_buffer_bytes();
  info(absl::StrCat("receive buffer: ", granted, " bytes"));
  const int64_t send_granted = proxy_->send_buffer_bytes();
  info(absl::StrCat("send buffer: ", send_granted, " bytes"));
  for (const std::string& warning :
       {SessionLimitWarning(settings_.proxy.limits.max_sessions,
                            proxy_->session_limit(), DescriptorLimit()),
        ReceiveBufferWarning(settings_.proxy.receive_buffer_bytes, granted,
                             ReceiveBufferLimit()),
        SendBufferWarning(settings_.proxy.receive_buffer_bytes, send_granted,
                          SendBufferLimit())}) {
    if (!warning.empty()) logger_->Log(LogSeverity::kWarning, warning);
  }
  if (settings_.forwards_sessions) {
    info(absl::StrCat("forwarding between gateways: at ",
                      settings_.session_forward_address.ToString()));
  }
  // Several listeners share one address.
  std::set<std::string> addresses;
  for (const SocketAddress& address : proxy_->listen_addresses()) {
    addresses.insert(address.ToString());
  }
  for (const std::string& address : addresses) {
    info(absl::StrCat("listening on ", address));
  }
}

}  // namespace cli
}  // namespace udpgate
