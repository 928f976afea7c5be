#include "cli/session_keeping.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "cli/settings/table.h"
#include "udpgate/forward/openssl_envelope_keys.h"
#include "udpgate/logging.h"
#include "udpgate/redis/redis_metrics.h"
#include "udpgate/session_store.h"
#include "udpgate/store/store_metrics.h"

namespace udpgate {
namespace cli {
namespace {

// The process must end within a second (StopSignal), and the Proxy may need
// half of it for its events.
constexpr absl::Duration kStopTimeMax = absl::Milliseconds(250);

SessionKeeperOptions MakeKeeperOptions(const Settings& settings) {
  SessionKeeperOptions options;
  options.gateway_id = settings.gateway_id;
  if (settings.forwards_sessions) {
    options.forward_address = settings.session_forward_address.ToString();
  }
  options.is_standby = settings.is_standby;
  options.record_lifetime = settings.session_store_lifetime;
  options.stop_timeout = kStopTimeMax;
  options.log_sink = settings.proxy.log_sink;
  return options;
}

RedisSessionStoreOptions MakeStoreOptions(const Settings& settings) {
  RedisSessionStoreOptions options;
  options.prefix = settings.session_store_prefix;
  return options;
}

}  // namespace

absl::Status ValidateSessionKeeping(const Settings& settings) {
  if (!settings.has_session_store) return absl::OkStatus();
  if (absl::Status status = MakeStoreOptions(settings).Validate();
      !status.ok()) {
    return status;
  }
  return MakeKeeperOptions(settings).Validate();
}

absl::StatusOr<std::unique_ptr<SessionKeeping>> SessionKeeping::Create(
    const Settings& settings, const BackendSource& backends, Logger* logger) {
  if (!settings.has_session_store) return nullptr;
  if (!backends.redis.has_value()) {
    return absl::InvalidArgumentError("SESSION_STORE=redis needs Redis");
  }
  absl::StatusOr<std::shared_ptr<RedisSessionStore>> store =
      RedisSessionStore::Create(backends.redis->options,
                                MakeStoreOptions(settings),
                                backends.redis->lookup);
  if (!store.ok()) return store.status();
  absl::StatusOr<std::unique_ptr<SessionKeeper>> keeper =
      SessionKeeper::Create(MakeKeeperOptions(settings), *store);
  if (!keeper.ok()) return keeper.status();
  std::shared_ptr<forward::EnvelopeKeys> envelope_keys;
  if (settings.forwards_sessions) {
    absl::StatusOr<std::shared_ptr<forward::EnvelopeKeys>> keys =
        forward::OpenSslEnvelopeKeys::FromSecret(
            settings.session_forward_secret);
    if (!keys.ok()) {
      return absl::Status(keys.status().code(),
                          absl::StrCat("SESSION_FORWARD_SECRET_FILE: ",
                                       keys.status().message()));
    }
    envelope_keys = *std::move(keys);
  }
  return std::unique_ptr<SessionKeeping>(
      new SessionKeeping(settings, *std::move(store), *std::move(keeper),
                         std::move(envelope_keys), logger));
}

SessionKeeping::SessionKeeping(
    const Settings& settings, std::shared_ptr<RedisSessionStore> store,
    std::unique_ptr<SessionKeeper> keeper,
    std::shared_ptr<forward::EnvelopeKeys> envelope_keys, Logger* logger)
    : has_standby_(settings.is_standby),
      address_(settings.proxy.listen_address),
      upstream_addresses_(settings.proxy.upstream_bind_addresses),
      store_(std::move(store)),
      keeper_(std::move(keeper)),
      envelope_keys_(std::move(envelope_keys)),
      logger_(logger) {}

void SessionKeeping::Wrap(ProxyDependencies* dependencies) {
  dependencies->resolver =
      keeper_->WrapResolver(std::move(dependencies->resolver));
  dependencies->session_observer =
      keeper_->WrapObserver(std::move(dependencies->session_observer));
  dependencies->envelope_keys = envelope_keys_;
}

void SessionKeeping::Recover(Proxy* proxy) {
  const SessionKeeper::Recovery recovery = keeper_->Recover(proxy);
  if (!recovery.status.ok()) {
    logger_->Log(
        LogSeverity::kWarning,
        absl::StrCat("session store: starting without all former sessions: ",
                     recovery.status.message()));
  }
}

void SessionKeeping::ContinueRun(absl::string_view state) {
  const absl::Status status = keeper_->ContinueRun(state);
  if (status.ok() || state.empty()) return;
  logger_->Log(LogSeverity::kWarning,
               absl::StrCat("session store: the old process's run cannot be "
                            "continued: ",
                            status.message()));
}

absl::Status SessionKeeping::Start(Proxy* proxy,
                                   std::function<void()> on_standby) {
  if (absl::Status status = keeper_->Start(proxy); !status.ok()) {
    return status;
  }
  return has_standby_ ? StartWatch(std::move(on_standby)) : absl::OkStatus();
}

absl::Status SessionKeeping::StartWatch(std::function<void()> on_standby) {
  StandbySwitchOptions options;
  options.promote = [this] { keeper_->Promote(); };
  options.demote = [this] { keeper_->Demote(); };
  options.is_standby = [this] { return keeper_->is_standby(); };
  options.on_change = std::move(on_standby);
  options.addresses = address_.ToString();
  standby_ = std::make_unique<StandbySwitch>(std::move(options), logger_);
  AddressWatchOptions watch;
  watch.required = {address_};
  watch.awaited = upstream_addresses_;
  watch.on_change = [this](bool are_here, int64_t noticed_nanoseconds) {
    standby_->SetAddresses(are_here, noticed_nanoseconds);
  };
  absl::StatusOr<std::unique_ptr<AddressWatch>> started =
      AddressWatch::Start(std::move(watch));
  if (!started.ok()) {
    return absl::Status(started.status().code(),
                        absl::StrCat("STANDBY: ", started.status().message()));
  }
  watch_ = *std::move(started);
  return absl::OkStatus();
}

void SessionKeeping::Stop(SessionKeeper::StopReason reason) {
  watch_.reset();
  standby_.reset();
  keeper_->Stop(reason);
}

HostMetrics SessionKeeping::Metrics() const {
  HostMetrics metrics = SessionStoreMetrics(keeper_->GetStats());
  for (HostMetric& metric : RedisSessionStoreMetrics(store_->GetStats())) {
    metrics.push_back(std::move(metric));
  }
  if (standby_ != nullptr) {
    for (HostMetric& metric : StandbyMetrics(standby_->GetStats())) {
      metrics.push_back(std::move(metric));
    }
  }
  return metrics;
}

std::vector<std::pair<std::string, double>> SessionKeeping::Numbers() const {
  const SessionKeeperStats stats = keeper_->GetStats();
  return {
      {"sessions_with_record", static_cast<double>(stats.sessions)},
      {"sessions_of_others", static_cast<double>(stats.standby_sessions)},
      {"sessions_recovered", static_cast<double>(stats.recovered)},
      {"sessions_on_other_port",
       static_cast<double>(stats.recovered_on_other_port)},
      {"sessions_adopted", static_cast<double>(stats.newcomers_adopted)},
      {"sessions_lost", static_cast<double>(stats.lost)},
      {"newcomers_forwarded", static_cast<double>(stats.newcomers_forwarded)},
      {"changes_waiting", static_cast<double>(stats.changes_waiting)},
      {"changes_dropped", static_cast<double>(stats.changes_dropped)},
      {"lease_age_seconds", absl::ToDoubleSeconds(stats.lease_age)},
      {"fenced", stats.is_fenced ? 1.0 : 0.0},
  };
}

}  // namespace cli
}  // namespace udpgate
