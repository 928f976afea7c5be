// Tells an autoscaler how busy this gateway is: a hash in Redis that expires
// soon after the gateway has died.
#ifndef UDPGATE_REDIS_REDIS_GATEWAY_ENTRY_H_
#define UDPGATE_REDIS_REDIS_GATEWAY_ENTRY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/redis/redis_problem.h"
#include "udpgate/session_info.h"

namespace udpgate {

struct UDPGATE_EXPORT RedisGatewayEntryOptions {
  // The index of the fleet, a sorted set of ids by the time at which they
  // expire. The hash of a gateway is `{KEY}:ID`, or `KEY:ID` if the key has a
  // hash tag of its own: one slot of a Redis Cluster has them all. 1 to 1024
  // bytes, and without a "}" that ends no hash tag.
  std::string key;
  // 1 to 64 printable ASCII characters without spaces. No other gateway may
  // have it.
  std::string id;
  // A field of the hash; up to 256 bytes.
  std::string version;
  // How often the hash is written. 100 ms to 1 hour.
  absl::Duration interval = absl::Seconds(5);
  // The hash expires after this time. From two intervals to 24 hours.
  absl::Duration lifetime = absl::Seconds(15);
  // Backends with a field of their own, those with the most sessions. 0 to
  // 1000.
  int backends_max = 64;

  // OK, or InvalidArgument that names the field and what is allowed.
  absl::Status Validate() const;
};

// What the hash says beside the options.
struct UDPGATE_EXPORT RedisGatewayState {
  std::string address;    // where clients reach the gateway
  uint64_t sessions = 0;  // with a backend
  uint64_t sessions_pending = 0;
  uint64_t sessions_confirmed = 0;
  int64_t sessions_max = 0;
  uint64_t sessions_created = 0;  // so far, of which a rate is made
  bool is_draining = false;
  std::vector<BackendSessionCount> backends;  // most sessions first
};

// Numbers since the entry was created.
struct UDPGATE_EXPORT RedisGatewayEntryStats {
  bool is_current = false;  // the last write has succeeded, and has not expired
  uint64_t writes = 0;
  uint64_t writes_skipped = 0;  // Redis was away, or had not replied
  uint64_t writes_refused = 0;  // an error, or another gateway has the id
  RedisProblem problem = RedisProblem::kNone;
};

// Writes the hash once in each interval, in one command (EVAL), and at once
// after a connect, after `Update`, and when the last session of a draining
// gateway has ended. A write that has no reply, or no connection, is not made
// up for: nothing piles up.
//
//   udpgate::RedisGatewayEntryOptions entry_options;
//   entry_options.key = "my_gate:gateways";
//   entry_options.id = "gateway-1";
//   auto entry = udpgate::RedisGatewayEntry::Create(options, entry_options,
//                                                   lookup);
//   if (!entry.ok()) return entry.status();
//   absl::Status status = (*entry)->Start([&proxy] {
//     const udpgate::ProxyStats stats = proxy->GetStats();
//     udpgate::RedisGatewayState state;
//     state.address = proxy->listen_addresses().front().ToString();
//     state.sessions = stats.sessions_active;
//     state.sessions_pending = stats.sessions_pending;
//     state.sessions_confirmed = stats.sessions_confirmed;
//     state.sessions_max = proxy->max_sessions();
//     state.sessions_created = stats.sessions_created;
//     state.is_draining = proxy->is_draining();
//     state.backends = proxy->CountSessionsByBackend();
//     return state;
//   });
//   ...
//   proxy->Drain();
//   (*entry)->Update();
//   ...
//   (*entry)->Remove(absl::Seconds(1));
//
// If two gateways have the same id, the one that was created later has the
// hash; the other one says so in its log. So a process that takes sessions over
// goes on with the hash of the old one, which only has to `Stop`.
//
// Threads: `Start`, `Remove` and `Stop` from one thread, the rest from any. It
// has one thread of its own, "udpgate-redis-g", which calls `state`.
class UDPGATE_EXPORT RedisGatewayEntry {
 public:
  // What is to be written now. Must not block for long.
  using State = std::function<RedisGatewayState()>;

  // `lookup` must not be null. InvalidArgument from the `Validate` of either.
  static absl::StatusOr<std::unique_ptr<RedisGatewayEntry>> Create(
      RedisOptions options, RedisGatewayEntryOptions entry_options,
      std::shared_ptr<HostLookup> lookup);
  // Stops first, if needed.
  ~RedisGatewayEntry();
  RedisGatewayEntry(const RedisGatewayEntry&) = delete;
  RedisGatewayEntry& operator=(const RedisGatewayEntry&) = delete;

  // Starts to connect; once. ResourceExhausted if no thread or descriptor is
  // left. A Redis that cannot be reached is not an error.
  absl::Status Start(State state);

  // Writes the hash at once, or as soon as the write under way has its reply.
  // Does not block.
  void Update();

  // After Start. Deletes the hash, unless it is another gateway's by now, and
  // writes no more. Waits for the reply, for `timeout` at most; without a
  // connection not at all. May be called twice.
  void Remove(absl::Duration timeout);

  // Writes no more; the hash expires. Returns after a running call of `state`.
  // May be called twice.
  void Stop();

  RedisGatewayEntryStats GetStats() const;

 private:
  class Impl;
  explicit RedisGatewayEntry(std::unique_ptr<Impl> impl);

  const std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_GATEWAY_ENTRY_H_
