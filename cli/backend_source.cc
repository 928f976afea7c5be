#include "cli/backend_source.h"

#include <iterator>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "udpgate/clock.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/dns/named_backend_resolver.h"
#include "udpgate/redis/key_templates.h"
#include "udpgate/redis/redis_backend_resolver.h"
#include "udpgate/redis/redis_cluster.h"
#include "udpgate/redis/redis_disconnect_source.h"
#include "udpgate/redis/redis_metrics.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/redis/redis_outage_log.h"
#include "udpgate/redis/redis_sentinel.h"
#include "udpgate/redis/redis_tls.h"
#include "udpgate/socket_address.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace cli {
namespace {

// Clients with keys of their own share no question.
constexpr int kOwnKeysInFlightMax = 256;

RedisOptions MakeRedisOptions(const Settings& settings) {
  RedisOptions options;
  options.address = settings.redis_address;
  options.username = settings.redis_username;
  options.password = settings.redis_password;
  options.password_file = settings.redis_password_file;
  options.database = settings.redis_database;
  options.backend_key = settings.redis_backend_key;
  options.disconnect_channel = settings.redis_disconnect_channel;
  options.disconnect_stream = settings.redis_disconnect_stream;
  options.disconnect_age_max = settings.redis_disconnect_age_max;
  options.command_timeout = settings.redis_timeout;
  options.stale_backend_age_max = settings.backend_stale_max;
  options.gets_per_second_max = settings.resolves_per_second;
  options.key_sets_max = settings.redis_key_sets_max;
  const absl::StatusOr<KeyTemplates> keys =
      KeyTemplates::Parse(settings.redis_backend_key);
  if (keys.ok() && !keys->is_constant()) {
    options.gets_in_flight_max = kOwnKeysInFlightMax;
  }
  options.log_sink = settings.proxy.log_sink;
  if (settings.redis_tls) {
    RedisTlsOptions tls;
    tls.ca_file = settings.redis_tls_ca_file;
    tls.server_name = settings.redis_tls_server_name;
    tls.certificate_file = settings.redis_tls_certificate_file;
    tls.key_file = settings.redis_tls_key_file;
    options.transport = MakeRedisTls(std::move(tls));
  }
  return options;
}

RedisSentinelOptions MakeSentinelOptions(const Settings& settings,
                                         const RedisOptions& redis) {
  RedisSentinelOptions options;
  options.sentinels = settings.redis_sentinels;
  options.master = settings.redis_sentinel_master;
  options.username = settings.redis_sentinel_username;
  options.password = settings.redis_sentinel_password;
  options.password_file = settings.redis_sentinel_password_file;
  options.transport = redis.transport;
  options.command_timeout = settings.redis_timeout;
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

// What knows where Redis is; null: not used.
struct Servers {
  std::shared_ptr<RedisSentinel> sentinel;
  std::shared_ptr<RedisCluster> cluster;
};

// Lets `options` reach the master that Sentinel names, or the Cluster that
// REDIS_ADDR may belong to.
absl::Status FindServers(const Settings& settings,
                         const std::shared_ptr<HostLookup>& lookup,
                         RedisOptions* options, Servers* servers) {
  if (!settings.redis_sentinels.empty()) {
    absl::StatusOr<std::shared_ptr<RedisSentinel>> sentinel =
        RedisSentinel::Create(MakeSentinelOptions(settings, *options), lookup);
    if (!sentinel.ok()) return sentinel.status();
    servers->sentinel = *std::move(sentinel);
    RedisSentinel::SetSource(servers->sentinel, options);
  } else if (!absl::StartsWith(settings.redis_address, "unix:")) {
    absl::StatusOr<std::shared_ptr<RedisCluster>> cluster =
        RedisCluster::Create(
            *options, absl::StrSplit(settings.redis_address, ','), lookup);
    if (!cluster.ok()) return cluster.status();
    servers->cluster = *std::move(cluster);
    RedisCluster::SetSource(servers->cluster, options);
  }
  return absl::OkStatus();
}

absl::StatusOr<BackendSource> MakeRedisSource(const Settings& settings) {
  BackendSource source;
  RedisOptions options = MakeRedisOptions(settings);
  options.outage_log =
      std::make_shared<RedisOutageLog>(Clock::Monotonic(), options.log_sink);
  const absl::StatusOr<std::shared_ptr<HostLookup>> lookup =
      MakeLookup(settings, &source.reload_names);
  if (!lookup.ok()) return lookup.status();
  Servers servers;
  if (absl::Status status = FindServers(settings, *lookup, &options, &servers);
      !status.ok()) {
    return status;
  }
  absl::StatusOr<std::shared_ptr<RedisBackendResolver>> resolver =
      RedisBackendResolver::Create(options, *lookup);
  if (!resolver.ok()) return resolver.status();
  absl::StatusOr<std::shared_ptr<RedisDisconnectSource>> disconnects =
      RedisDisconnectSource::Create(options, *lookup);
  if (!disconnects.ok()) return disconnects.status();
  source.metrics = [resolver = *resolver, disconnects = *disconnects, servers] {
    HostMetrics metrics = RedisMetrics(*resolver, *disconnects);
    HostMetrics more = RedisClusterMetrics(servers.cluster == nullptr
                                               ? RedisClusterStats()
                                               : servers.cluster->GetStats(),
                                           resolver->GetStats());
    std::move(more.begin(), more.end(), std::back_inserter(metrics));
    if (servers.sentinel == nullptr) return metrics;
    for (HostMetric& metric :
         RedisSentinelMetrics(servers.sentinel->GetStats())) {
      metrics.push_back(std::move(metric));
    }
    return metrics;
  };
  source.resolver = *std::move(resolver);
  source.disconnects = *disconnects;
  source.redis_disconnects = *std::move(disconnects);
  source.redis = RedisAccess{options, *lookup};
  return source;
}

}  // namespace

absl::Status ValidateBackendSource(const Settings& settings) {
  if (!settings.backend_address.empty()) return absl::OkStatus();
  RedisOptions options = MakeRedisOptions(settings);
  // Each of several nodes was checked when the setting was read.
  options.address = options.address.substr(0, options.address.find(','));
  if (!settings.redis_sentinels.empty()) {
    if (absl::Status status = MakeSentinelOptions(settings, options).Validate();
        !status.ok()) {
      return status;
    }
  }
  return options.Validate();
}

absl::StatusOr<BackendSource> MakeBackendSource(const Settings& settings) {
  return settings.backend_address.empty() ? MakeRedisSource(settings)
                                          : MakeFixedSource(settings);
}

absl::Status CheckRedisFiles(const Settings& settings) {
  if (!settings.backend_address.empty()) return absl::OkStatus();
  const RedisOptions options = MakeRedisOptions(settings);
  if (options.transport == nullptr) return absl::OkStatus();
  return options.transport->Create("redis").status();
}

std::string DescribeBackendSource(const Settings& settings) {
  if (!settings.backend_address.empty()) {
    return absl::StrCat("fixed backend ", settings.backend_address,
                        ", without Redis");
  }
  const std::string address =
      settings.redis_sentinels.empty()
          ? settings.redis_address
          : absl::StrCat("master ", settings.redis_sentinel_master,
                         " of the sentinels ",
                         absl::StrJoin(settings.redis_sentinels, ", "));
  return absl::StrCat(
      "backends from Redis at ", address, settings.redis_tls ? " (TLS)" : "",
      ", database ", settings.redis_database, ", key ",
      settings.redis_backend_key, ", disconnect events from channel ",
      settings.redis_disconnect_channel,
      settings.redis_disconnect_stream.empty()
          ? ""
          : absl::StrCat(" and stream ", settings.redis_disconnect_stream));
}

}  // namespace cli
}  // namespace udpgate
