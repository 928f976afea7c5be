#include "cli/backend_source.h"

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/dns/named_backend_resolver.h"
#include "udpgate/redis/redis_backend_resolver.h"
#include "udpgate/redis/redis_disconnect_source.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/socket_address.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace cli {
namespace {

RedisOptions MakeRedisOptions(const Settings& settings) {
  RedisOptions options;
  options.address = settings.redis_address;
  options.username = settings.redis_username;
  options.password = settings.redis_password;
  options.database = settings.redis_database;
  options.backend_key = settings.redis_backend_key;
  options.disconnect_channel = settings.redis_disconnect_channel;
  options.command_timeout = settings.redis_timeout;
  options.stale_backend_age_max = settings.backend_stale_max;
  options.gets_per_second_max = settings.resolves_per_second;
  options.log_sink = settings.proxy.log_sink;
  return options;
}

// Sets `reload_names` too.
absl::StatusOr<std::shared_ptr<HostLookup>> MakeLookup(
    const Settings& settings, std::function<void()>* reload_names) {
  HostLookupOptions options;
  options.log_sink = settings.proxy.log_sink;
  absl::StatusOr<std::shared_ptr<HostLookup>> lookup =
      HostLookup::Create(std::move(options));
  if (lookup.ok()) *reload_names = [lookup = *lookup] { lookup->Reload(); };
  return lookup;
}

// An IP address needs no name lookup.
absl::StatusOr<BackendSource> MakeFixedSource(const Settings& settings) {
  BackendSource source;
  const absl::StatusOr<SocketAddress> address =
      SocketAddress::Parse(settings.backend_address);
  if (address.ok()) {
    source.resolver = std::make_shared<StaticBackendResolver>(*address);
    return source;
  }
  absl::StatusOr<std::shared_ptr<HostLookup>> lookup =
      MakeLookup(settings, &source.reload_names);
  if (!lookup.ok()) return lookup.status();
  absl::StatusOr<std::shared_ptr<NamedBackendResolver>> resolver =
      NamedBackendResolver::Create(settings.backend_address,
                                   *std::move(lookup));
  if (!resolver.ok()) return resolver.status();
  source.resolver = *std::move(resolver);
  return source;
}

HostMetrics RedisMetrics(const RedisBackendResolver& resolver,
                         const RedisDisconnectSource& disconnects) {
  using Kind = admin::HostMetric::Kind;
  const RedisBackendResolverStats stats = resolver.GetStats();
  const auto number = [](uint64_t value) { return static_cast<double>(value); };
  return {
      {Kind::kGauge, "udpgate_redis_connected",
       "1 while the connection for backend resolutions works.",
       stats.is_connected ? 1.0 : 0.0},
      {Kind::kGauge, "udpgate_redis_subscribed",
       "1 while disconnect events are received.",
       disconnects.Health().ok() ? 1.0 : 0.0},
      {Kind::kCounter, "udpgate_redis_gets_sent_total",
       "GET commands sent to Redis.", number(stats.gets_sent)},
      {Kind::kCounter, "udpgate_redis_stale_answers_total",
       "Resolutions that returned the last known backend while Redis was "
       "unavailable.",
       number(stats.stale_answers)},
      {Kind::kCounter, "udpgate_redis_questions_refused_total",
       "Resolutions rejected because too many were waiting.",
       number(stats.questions_refused)},
      {Kind::kCounter, "udpgate_redis_questions_asked_again_total",
       "Resolutions repeated because the connection to Redis was closed.",
       number(stats.questions_asked_again)},
      {Kind::kGauge, "udpgate_redis_questions_waiting",
       "Resolutions without a result so far.", number(stats.questions_waiting)},
  };
}

absl::StatusOr<BackendSource> MakeRedisSource(const Settings& settings) {
  BackendSource source;
  const RedisOptions options = MakeRedisOptions(settings);
  const absl::StatusOr<std::shared_ptr<HostLookup>> lookup =
      MakeLookup(settings, &source.reload_names);
  if (!lookup.ok()) return lookup.status();
  absl::StatusOr<std::shared_ptr<RedisBackendResolver>> resolver =
      RedisBackendResolver::Create(options, *lookup);
  if (!resolver.ok()) return resolver.status();
  absl::StatusOr<std::shared_ptr<RedisDisconnectSource>> disconnects =
      RedisDisconnectSource::Create(options, *lookup);
  if (!disconnects.ok()) return disconnects.status();
  source.metrics = [resolver = *resolver, disconnects = *disconnects] {
    return RedisMetrics(*resolver, *disconnects);
  };
  source.resolver = *std::move(resolver);
  source.disconnects = *std::move(disconnects);
  return source;
}

}  // namespace

absl::Status ValidateBackendSource(const Settings& settings) {
  if (!settings.backend_address.empty()) return absl::OkStatus();
  return MakeRedisOptions(settings).Validate();
}

absl::StatusOr<BackendSource> MakeBackendSource(const Settings& settings) {
  return settings.backend_address.empty() ? MakeRedisSource(settings)
                                          : MakeFixedSource(settings);
}

std::string DescribeBackendSource(const Settings& settings) {
  if (!settings.backend_address.empty()) {
    return absl::StrCat("fixed backend ", settings.backend_address,
                        ", without Redis");
  }
  return absl::StrCat(
      "backends from Redis at ", settings.redis_address, ", database ",
      settings.redis_database, ", key ", settings.redis_backend_key,
      ", disconnect events from channel ", settings.redis_disconnect_channel);
}

}  // namespace cli
}  // namespace udpgate
