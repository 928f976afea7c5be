// A real master with a replica, and three real Sentinels that watch it.
//
//   udpgate::test::RedisSentinels group;
//   ASSERT_TRUE(group.Start().ok());
//   // the gateway: REDIS_SENTINELS=group.addresses()
//   group.master().Kill();   // a second later the replica becomes the master
#ifndef UDPGATE_TESTING_INTERNAL_SUPPORT_REDIS_SENTINELS_H_
#define UDPGATE_TESTING_INTERNAL_SUPPORT_REDIS_SENTINELS_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "testing/internal/support/redis_server.h"

namespace udpgate {
namespace test {

struct RedisSentinelsOptions {
  std::string master_name = "mymaster";
  // Of master and replica; empty: no login.
  std::string password;
  // Of the sentinels; empty: no login.
  std::string sentinel_password;
  // More lines of the sentinels' configuration, each with its line feed.
  std::string sentinel_configuration;
};

// With `down-after-milliseconds` 1000. Threads: as RedisServer.
class RedisSentinels {
 public:
  explicit RedisSentinels(RedisSentinelsOptions options = {});

  // Starts all of them and waits until they know each other.
  absl::Status Start();

  RedisServer& master() { return *master_; }
  RedisServer& replica() { return *replica_; }
  // `127.0.0.1:port,...`, as REDIS_SENTINELS takes them.
  std::string addresses() const;
  // The port of the master, as the first sentinel that knows another one than
  // the first master says, or that of the first master.
  uint16_t NamedMasterPort() const;

 private:
  absl::Status StartReplica();
  absl::Status StartSentinels();

  const RedisSentinelsOptions options_;
  std::unique_ptr<RedisServer> master_;
  std::unique_ptr<RedisServer> replica_;
  std::array<std::unique_ptr<RedisServer>, 3> sentinels_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SUPPORT_REDIS_SENTINELS_H_
