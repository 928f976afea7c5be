#include "udpgate/redis/redis_metrics.h"

#include <cstdint>

namespace udpgate {

std::vector<HostMetric> RedisMetrics(const RedisBackendResolver& resolver,
                                     const RedisDisconnectSource& source) {
  using Kind = HostMetric::Kind;
  const RedisBackendResolverStats stats = resolver.GetStats();
  const auto number = [](uint64_t value) { return static_cast<double>(value); };
  return {
      {Kind::kGauge, "udpgate_redis_connected",
       "1 while the connection for backend resolutions works.",
       stats.is_connected ? 1.0 : 0.0},
      {Kind::kGauge, "udpgate_redis_subscribed",
       "1 while disconnect events are received.",
       source.Health().ok() ? 1.0 : 0.0},
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

}  // namespace udpgate
