// Redis Cluster (https://redis.io/docs/reference/cluster-spec/): finds the node
// that owns a key, and follows it when slots or nodes move.
//
//   udpgate::RedisOptions options;
//   options.address = "10.0.0.1:6379";
//   auto cluster = udpgate::RedisCluster::Create(
//       options, {"10.0.0.1:6379", "10.0.0.2:6379"}, *lookup);
//   udpgate::RedisCluster::SetSource(*cluster, &options);
//
// With a Redis that is no Cluster the options lead to the first of these
// addresses that can be reached, as if there were no RedisCluster.
#ifndef UDPGATE_REDIS_REDIS_CLUSTER_H_
#define UDPGATE_REDIS_REDIS_CLUSTER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/redis/redis_address_source.h"
#include "udpgate/redis/redis_options.h"

namespace udpgate {

// Numbers since it was created.
struct RedisClusterStats {
  bool is_cluster = false;
  uint64_t redirects = 0;  // MOVED and ASK
  // Those that were not followed, since they contradict others.
  uint64_t contradictions = 0;
  uint64_t refreshes = 0;  // slot maps read
  uint64_t nodes = 0;      // masters and replicas in the last map
  uint64_t slots_covered = 0;
};

// One connection to one of the nodes, on a thread of its own,
// "udpgate-redis-c". It asks for the slot map (CLUSTER SLOTS) when it connects,
// every `kRefreshInterval`, and after a redirect or a lost connection, at most
// once in `kRefreshIntervalMin`. A server that is no Cluster is asked once; the
// connection is closed then, until a redirect comes. Without permission for
// CLUSTER SLOTS, slots are learned from redirects alone.
//
// Threads: any.
class UDPGATE_EXPORT RedisCluster final : public RedisNodes {
 public:
  static constexpr absl::Duration kRefreshInterval = absl::Seconds(10);
  static constexpr absl::Duration kRefreshIntervalMin = absl::Seconds(1);

  // `options` has the login, the TLS and the time limits of all nodes.
  // `seeds`: `host:port` of 1 to 16 nodes. Errors: InvalidArgument,
  // ResourceExhausted if no thread or descriptor is left.
  static absl::StatusOr<std::shared_ptr<RedisCluster>> Create(
      RedisOptions options, std::vector<std::string> seeds,
      std::shared_ptr<HostLookup> lookup);
  ~RedisCluster() override;

  // Lets `options` reach the Cluster: `RedisOptions::ForKey` the owner of a
  // key, and `RedisOptions::address_source` any node.
  static void SetSource(std::shared_ptr<RedisCluster> cluster,
                        RedisOptions* options);

  RedisClusterStats GetStats() const;

  bool is_cluster() const override;
  std::shared_ptr<RedisAddressSource> SourceFor(absl::string_view key) override;
  std::shared_ptr<RedisAddressSource> SourceForAny() override;
  std::string NodeOf(absl::string_view key) override;
  std::string FollowRedirect(absl::string_view error,
                             const std::string& replier,
                             bool* is_asking) override;
  void Distrust(const std::string& node) override;

 private:
  class Impl;
  explicit RedisCluster(std::unique_ptr<Impl> impl);

  const std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_CLUSTER_H_
