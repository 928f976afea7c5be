// A real Redis Cluster of the test's own.
//
//   udpgate::test::RedisClusterServers cluster({.replicas = 1});
//   ASSERT_TRUE(cluster.Start().ok());
//   ASSERT_TRUE(cluster.Command({"SET", key, "[::1]:1"}).ok());
//   ASSERT_TRUE(cluster.MoveSlot(slot, 0, 1).ok());
#ifndef UDPGATE_TESTING_INTERNAL_SUPPORT_REDIS_CLUSTER_SERVERS_H_
#define UDPGATE_TESTING_INTERNAL_SUPPORT_REDIS_CLUSTER_SERVERS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "testing/internal/support/redis_server.h"

namespace udpgate {
namespace test {

struct RedisClusterServersOptions {
  int masters = 3;
  // Of the first master, the second and so on; 0 to `masters`.
  int replicas = 0;
  // Of each server.
  RedisServerOptions server;
  // Not empty: each has a TLS port as well, with these arguments.
  std::vector<std::string> tls_arguments;
};

// The masters have the indexes 0 to masters - 1, the replicas those after them.
// A master that is gone for a second is replaced by its replica. Threads: as
// RedisServer.
class RedisClusterServers {
 public:
  explicit RedisClusterServers(const RedisClusterServersOptions& options);

  // Starts all and waits until each says that the Cluster works.
  absl::Status Start();

  size_t size() const { return servers_.size(); }
  RedisServer& server(size_t index) { return *servers_[index]; }
  // As REDIS_ADDR takes them, separated by commas.
  std::string addresses() const;
  std::string tls_address(size_t index) const;

  // The index of the server that serves the key now.
  absl::StatusOr<size_t> OwnerOf(const std::string& key) const;
  absl::StatusOr<int> SlotOf(const std::string& key) const;

  // Sends a command to the server that serves the key, its second word.
  absl::StatusOr<std::string> Command(
      const std::vector<std::string>& arguments) const;

  // The steps of https://redis.io/commands/cluster-setslot/: between the first
  // and the last, redirects are ASK.
  absl::Status BeginMove(int slot, size_t from, size_t to);
  // Moves all keys of the slot.
  absl::Status MoveKeys(int slot, size_t from, size_t to);
  absl::Status EndMove(int slot, size_t from, size_t to);
  absl::Status MoveSlot(int slot, size_t from, size_t to);

  // True if the server says so in CLUSTER INFO.
  bool IsWorking(size_t index) const;

 private:
  absl::StatusOr<std::string> IdOf(size_t index) const;
  // The port by which servers know it, and its bus port.
  absl::StatusOr<std::vector<std::string>> PortsOf(size_t index) const;
  absl::Status Assign();
  absl::Status Meet();
  absl::Status Replicate();
  bool AwaitAllKnown() const;

  const RedisClusterServersOptions options_;
  std::vector<std::unique_ptr<RedisServer>> servers_;
  std::vector<uint16_t> tls_ports_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SUPPORT_REDIS_CLUSTER_SERVERS_H_
