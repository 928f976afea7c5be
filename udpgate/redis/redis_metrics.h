// The metrics of what uses Redis.
#ifndef UDPGATE_REDIS_REDIS_METRICS_H_
#define UDPGATE_REDIS_REDIS_METRICS_H_

#include <vector>

#include "udpgate/base/export.h"
#include "udpgate/host_metric.h"
#include "udpgate/redis/redis_backend_resolver.h"
#include "udpgate/redis/redis_cluster.h"
#include "udpgate/redis/redis_disconnect_source.h"
#include "udpgate/redis/redis_event_stream.h"
#include "udpgate/redis/redis_gateway_entry.h"
#include "udpgate/redis/redis_key_watch.h"
#include "udpgate/redis/redis_sentinel.h"
#include "udpgate/redis/redis_session_store.h"
#include "udpgate/redis/redis_stream.h"

namespace udpgate {

// Names, help texts and current values, as `AdminHooks::metrics` takes them:
//
//   hooks.metrics = [resolver, source] {
//     return udpgate::RedisMetrics(*resolver, *source);
//   };
//
// Threads: any, while both arguments live.
UDPGATE_EXPORT std::vector<HostMetric> RedisMetrics(
    const RedisBackendResolver& resolver, const RedisDisconnectSource& source);

// The same of a Cluster; all 0 if Redis is none.
UDPGATE_EXPORT std::vector<HostMetric> RedisClusterMetrics(
    const RedisClusterStats& cluster,
    const RedisBackendResolverStats& resolver);

// The same of a stream, of a key that is watched, of a stream of session
// events, of a gateway's entry, and of a session store.
UDPGATE_EXPORT std::vector<HostMetric> RedisStreamMetrics(
    const RedisStreamStats& stats);
UDPGATE_EXPORT std::vector<HostMetric> RedisKeyWatchMetrics(
    const RedisKeyWatchStats& stats);
UDPGATE_EXPORT std::vector<HostMetric> RedisSentinelMetrics(
    const RedisSentinelStats& stats);
UDPGATE_EXPORT std::vector<HostMetric> RedisEventStreamMetrics(
    const RedisEventStreamStats& stats);
UDPGATE_EXPORT std::vector<HostMetric> RedisGatewayEntryMetrics(
    const RedisGatewayEntryStats& stats);
UDPGATE_EXPORT std::vector<HostMetric> RedisSessionStoreMetrics(
    const RedisSessionStoreStats& stats);

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_METRICS_H_
