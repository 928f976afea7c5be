#include "cli/signaling.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "cli/listen_sockets.h"
#include "cli/system/system.h"
#include "udpgate/clock.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/http/server.h"
#include "udpgate/logging.h"
#include "udpgate/nethernet/nethernet_metrics.h"
#include "udpgate/nethernet/nethernet_resolver.h"
#include "udpgate/option_error.h"
#include "udpgate/redis/redis_metrics.h"
#include "udpgate/redis/redis_stream.h"

namespace udpgate {
namespace cli {
namespace {

// How long the fleet's status holds at least while Redis is away: it is a text,
// which an outage does not make wrong.
constexpr absl::Duration kStatusStaleMin = absl::Minutes(1);

// The setting of an option of the library, or NETHERNET_ADDR.
absl::Status NameNetherNetSetting(const absl::Status& status) {
  struct Name {
    absl::string_view option;
    absl::string_view setting;
  };
  constexpr Name kNames[] = {
      {"certificate_file", "NETHERNET_CERTIFICATE_FILE"},
      {"private_key_file", "NETHERNET_PRIVATE_KEY_FILE"},
      {"public_addresses", "NETHERNET_PUBLIC_ADDRS"},
      {"status_json", "NETHERNET_STATUS"},
      {"joins_max", "NETHERNET_JOINS_MAX"},
      {"join_timeout", "NETHERNET_JOIN_TIMEOUT_SECS"},
      {"RedisKeyWatchOptions::key", "REDIS_STATUS_KEY"},
      {"RedisStreamOptions::key", "REDIS_JOINS_KEY"},
  };
  if (status.ok()) return status;
  const std::string option = OptionAtFault(status);
  for (const Name& name : kNames) {
    if (name.option != option) continue;
    return absl::Status(status.code(),
                        absl::StrCat(name.setting, OptionProblem(status)));
  }
  return absl::Status(status.code(),
                      absl::StrCat("NETHERNET_ADDR: ", status.message()));
}

// The server names its options, of which a user knows nothing.
LogSink SinkOfSettings(LogSink sink) {
  return [sink = std::move(sink)](LogSeverity severity,
                                  absl::string_view message) {
    sink(severity,
         absl::StrReplaceAll(
             message, {{"certificate_file", "NETHERNET_CERTIFICATE_FILE"},
                       {"private_key_file", "NETHERNET_PRIVATE_KEY_FILE"}}));
  };
}

nethernet::JoinTableOptions TableOptions(const Settings& settings) {
  nethernet::JoinTableOptions options;
  options.joins_max = settings.nethernet_joins_max;
  options.join_timeout = settings.nethernet_join_timeout;
  return options;
}

nethernet::JoinServiceOptions ServiceOptions(const Settings& settings,
                                             const Proxy& proxy) {
  nethernet::JoinServiceOptions options;
  options.public_addresses = settings.nethernet_public_addresses;
  options.proxy_port = proxy.listen_addresses().front().port();
  options.backend_port = settings.nethernet_backend_port;
  options.forward_client = settings.nethernet_forward_client;
  options.status_json = settings.nethernet_status;
  const ProxyLimits& limits = settings.proxy.limits;
  // A player waits no longer than for the whole answer.
  options.resolve_timeout =
      std::min(std::max(limits.resolve_timeout, absl::Milliseconds(10)),
               options.answer_timeout);
  options.joins_per_second_per_ip = limits.new_sessions_per_second_per_ip;
  options.allow_cidrs = limits.allow_cidrs;
  options.deny_cidrs = limits.deny_cidrs;
  return options;
}

admin::ListedJoin ListedJoinOf(const nethernet::JoinInfo& info) {
  admin::ListedJoin join;
  join.network_id = info.network_id;
  join.player = info.player;
  join.backend = info.backend;
  join.label = info.backend_label;
  join.media = info.media;
  join.state = std::string(nethernet::JoinStateName(info.state));
  join.session_count = info.session_count;
  join.age = info.age;
  join.is_shared = info.is_shared;
  return join;
}

}  // namespace

Signaling::Signaling(const Settings& settings, BackendSource backends,
                     Logger* logger)
    : backends_(std::move(backends)),
      logger_(logger),
      joins_(std::make_shared<nethernet::JoinTable>(TableOptions(settings),
                                                    Clock::Monotonic())),
      resolver_(std::make_shared<nethernet::NetherNetResolver>(
          backends_.resolver, joins_)) {}

absl::StatusOr<std::unique_ptr<Signaling>> Signaling::Create(
    const Settings& settings, BackendSource backends, Logger* logger) {
  if (!settings.nethernet_address.is_valid()) return nullptr;
  if (absl::Status status = TableOptions(settings).Validate(); !status.ok()) {
    return NameNetherNetSetting(status);
  }
  std::unique_ptr<Signaling> signaling(
      new Signaling(settings, std::move(backends), logger));
  if (absl::Status status = signaling->CreateSharing(settings); !status.ok()) {
    return NameNetherNetSetting(status);
  }
  return signaling;
}

absl::Status Signaling::CreateSharing(const Settings& settings) {
  if (!backends_.redis.has_value()) return absl::OkStatus();
  const RedisAccess& redis = *backends_.redis;
  if (!settings.redis_joins_key.empty()) {
    RedisStreamOptions options;
    options.key = settings.redis_joins_key;
    // Each join is added, and may be ended.
    options.entries_max = 2 * settings.nethernet_joins_max;
    options.backlog = settings.nethernet_join_timeout;
    absl::StatusOr<std::unique_ptr<RedisStream>> stream =
        RedisStream::Create(redis.options, options, redis.lookup);
    if (!stream.ok()) return stream.status();
    sharing_ = std::make_shared<JoinSharing>(*std::move(stream), joins_);
  }
  if (!settings.redis_status_key.empty()) {
    RedisKeyWatchOptions options;
    options.key = settings.redis_status_key;
    options.stale_max = std::max(settings.backend_stale_max, kStatusStaleMin);
    absl::StatusOr<std::unique_ptr<RedisKeyWatch>> watch =
        RedisKeyWatch::Create(redis.options, options, redis.lookup);
    if (!watch.ok()) return watch.status();
    fleet_status_ = *std::move(watch);
  }
  return absl::OkStatus();
}

Signaling::~Signaling() { Stop(); }

absl::Status Signaling::Bind(const Settings& settings,
                             takeover::Predecessor* old_process, Proxy* proxy) {
  proxy_ = proxy;
  nethernet::SignalingServerOptions options;
  options.server.listen_address = settings.nethernet_address;
  options.server.listen_fd =
      TakeSocketOf(kNetherNetSocket, settings.nethernet_address, old_process);
  if (options.server.listen_fd < 0) {
    options.server.listen_fd = settings.nethernet_listen_fd;
  }
  options.server.certificate_file = settings.nethernet_certificate_file;
  options.server.private_key_file = settings.nethernet_private_key_file;
  options.server.trusted_proxies = settings.nethernet_trusted_proxies;
  // Sessions need descriptors more than players who ask.
  const int64_t descriptors = DescriptorLimit();
  options.server.connections_max = static_cast<int>(std::clamp<int64_t>(
      descriptors / 16, 16, options.server.connections_max));
  options.client.connections_max = static_cast<int>(std::clamp<int64_t>(
      descriptors / 32, 16, options.client.connections_max));
  options.server.log_sink = SinkOfSettings(settings.proxy.log_sink);
  options.join = ServiceOptions(settings, *proxy);
  // The inner resolver: a join asks which backend, not whose datagram it is.
  absl::StatusOr<std::unique_ptr<nethernet::SignalingServer>> server =
      nethernet::SignalingServer::Create(
          std::move(options),
          {backends_.resolver, joins_, Clock::Monotonic(), [proxy] {
             // A proven client replaces a session that is not confirmed.
             return static_cast<int64_t>(proxy->GetStats().sessions_confirmed) <
                    proxy->max_sessions();
           }});
  if (!server.ok()) return NameNetherNetSetting(server.status());
  server_ = *std::move(server);
  return absl::OkStatus();
}

absl::Status Signaling::Start() {
  if (proxy_->is_draining()) SetDraining();
  FollowStandby();
  if (absl::Status status = StartSharing(); !status.ok()) {
    return NameNetherNetSetting(status);
  }
  return NameNetherNetSetting(server_->Start());
}

absl::Status Signaling::StartSharing() {
  if (sharing_ != nullptr) {
    absl::Status status =
        sharing_->Start([this](std::vector<SocketAddress> clients) {
          for (const SocketAddress& client : clients) {
            proxy_->Disconnect(DisconnectTarget::ForClient(client));
          }
        });
    if (!status.ok()) return status;
    joins_->SetObserver(sharing_);
  }
  if (fleet_status_ == nullptr) return absl::OkStatus();
  return fleet_status_->Start([this](absl::optional<std::string> status) {
    TakeFleetStatus(std::move(status));
  });
}

void Signaling::TakeFleetStatus(absl::optional<std::string> status) {
  const absl::Status taken = server_->SetFleetStatus(std::move(status));
  if (taken.ok()) return;
  // Not what it was: that status may be outdated.
  (void)server_->SetFleetStatus(absl::nullopt);
  logger_->Log(LogSeverity::kWarning,
               absl::StrCat("REDIS_STATUS_KEY: ", taken.message(),
                            "; it counts as missing"));
}

void Signaling::Stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (std::exchange(is_stopped_, true)) return;
  }
  if (fleet_status_ != nullptr) fleet_status_->Stop();
  if (server_ != nullptr) server_->Stop();
  joins_->SetObserver(nullptr);
  if (sharing_ != nullptr) sharing_->Stop();
}

absl::Status Signaling::Reload(const Settings& settings) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (is_stopped_) return absl::OkStatus();
  absl::Status status = joins_->SetOptions(TableOptions(settings));
  const absl::Status reloaded = server_->Reload(
      {ServiceOptions(settings, *proxy_), settings.nethernet_trusted_proxies});
  status.Update(reloaded);
  return NameNetherNetSetting(status);
}

void Signaling::SetDraining() {
  const std::lock_guard<std::mutex> lock(draining_mutex_);
  is_draining_ = true;
  server_->SetDraining(true);
}

void Signaling::FollowStandby() {
  const std::lock_guard<std::mutex> lock(draining_mutex_);
  server_->SetDraining(is_draining_ || proxy_->is_standby());
}

void Signaling::ImportJoins(absl::string_view exported) {
  if (exported.empty()) return;
  const absl::Status status = joins_->Import(exported);
  if (status.ok()) return;
  logger_->Log(LogSeverity::kWarning,
               absl::StrCat("--takeover: joins of the old process are lost, "
                            "their players must ask again: ",
                            status.message()));
}

void Signaling::AwaitAnswers(absl::Duration time_max) const {
  constexpr std::chrono::milliseconds kLookInterval(2);
  const auto deadline =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(time_max);
  while (server_->stats().join.joins_in_progress > 0 &&
         std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kLookInterval);
  }
}

HostMetrics Signaling::Metrics() const {
  HostMetrics metrics =
      nethernet::NetherNetMetrics(server_->stats(), joins_->stats());
  if (sharing_ != nullptr) {
    RedisStreamStats stats = sharing_->stats();
    stats.entries_invalid += sharing_->invalid_joins();
    for (HostMetric& metric : RedisStreamMetrics(stats)) {
      metrics.push_back(std::move(metric));
    }
  }
  if (fleet_status_ != nullptr) {
    for (HostMetric& metric : RedisKeyWatchMetrics(fleet_status_->GetStats())) {
      metrics.push_back(std::move(metric));
    }
  }
  return metrics;
}

std::vector<admin::ComponentHealth> Signaling::Health() const {
  std::vector<admin::ComponentHealth> components;
  if (sharing_ != nullptr) {
    components.push_back({"shared_joins", sharing_->Health(),
                          /*is_needed=*/false});
  }
  if (fleet_status_ != nullptr) {
    components.push_back({"fleet_status", fleet_status_->Health(),
                          /*is_needed=*/false});
  }
  return components;
}

std::vector<admin::ListedJoin> Signaling::Joins() const {
  std::vector<admin::ListedJoin> joins;
  for (const nethernet::JoinInfo& info : joins_->List()) {
    joins.push_back(ListedJoinOf(info));
  }
  return joins;
}

absl::Status CheckSignalingFiles(const Settings& settings) {
  if (!settings.nethernet_address.is_valid() ||
      settings.nethernet_certificate_file.empty()) {
    return absl::OkStatus();
  }
  return NameNetherNetSetting(
      http::CheckCertificate(settings.nethernet_certificate_file,
                             settings.nethernet_private_key_file));
}

void LogSignaling(const Settings& settings, const Signaling& signaling,
                  Logger* logger) {
  const auto to_text = [](std::string* out, const SocketAddress& address) {
    absl::StrAppend(
        out, address.port() == 0 ? address.IpToString() : address.ToString());
  };
  const std::vector<SocketAddress>& addresses =
      settings.nethernet_public_addresses;
  logger->Log(
      LogSeverity::kInfo,
      absl::StrCat(
          "signaling of NetherNet on ", signaling.address().ToString(), ", ",
          settings.nethernet_certificate_file.empty() ? "HTTP"
                                                      : "HTTPS and HTTP",
          "; players are told ",
          addresses.empty() ? "the address that they connect to"
                            : absl::StrJoin(addresses, ", ", to_text)));
}

}  // namespace cli
}  // namespace udpgate
