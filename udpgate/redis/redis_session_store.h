// Keeps sessions in Redis, for a gateway that starts again and for the others
// of its fleet.
#ifndef UDPGATE_REDIS_REDIS_SESSION_STORE_H_
#define UDPGATE_REDIS_REDIS_SESSION_STORE_H_

#include <cstddef>
#include <cstdint>
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
#include "udpgate/session_store.h"

namespace udpgate {

struct UDPGATE_EXPORT RedisSessionStoreOptions {
  // Begins each key. In a Redis Cluster it must have a hash tag, such as
  // "{udp_gate}:session:", since a command has several keys. 1 to 512 bytes.
  std::string prefix = "udp_gate:session:";

  // Commands without a reply, each of at most 128 records. 1 to 1024.
  int commands_in_flight_max = 16;

  // Records of commands that wait to be sent; more are refused with
  // ResourceExhausted. 4096 to 10,000,000.
  int queue_records_max = 65536;

  // Of one gateway; more are not listed, with ResourceExhausted. 1 to
  // 10,000,000.
  int listed_records_max = 1'000'000;

  // OK, or InvalidArgument that names the field and what is allowed.
  absl::Status Validate() const;
};

// Numbers since the store was created.
struct UDPGATE_EXPORT RedisSessionStoreStats {
  bool is_connected = false;
  RedisProblem problem = RedisProblem::kNone;
  uint64_t commands_sent = 0;
  uint64_t replies = 0;          // that are no error
  uint64_t errors = 0;           // error replies
  uint64_t commands_lost = 0;    // no reply, or not sent in time
  uint64_t records_refused = 0;  // queue full, or not connected
  uint64_t records_invalid = 0;  // read, and do not parse
  uint64_t records_of_other_version = 0;
  uint64_t index_entries_removed = 0;  // of records that have run out
  int64_t records_waiting = 0;
  int64_t commands_in_flight = 0;
  double reply_seconds = 0;  // sum of the times from sending to the reply
};

// Keys, with the prefix P:
//   P<client>       the record, see stored_session.h
//   P@index:<id>    set of the clients that have records of a gateway
//   P@lease:<id>    lease of a gateway
//   P@gateways      set of the gateways
// All of them expire. Needs Redis 5 or newer, with EVAL.
//
//   auto store = udpgate::RedisSessionStore::Create(options, {}, lookup);
//   if (!store.ok()) return store.status();
//
// A call of many records is several commands; if one fails, the call fails.
// Each command has the time limit `RedisOptions::command_timeout`, and has it
// twice if it must wait for others. While Redis is not connected every call
// fails at once.
//
// `ListClients` may name clients whose records have run out or belong to
// another gateway by now.
//
// Threads: as `SessionStore`. It has one thread of its own, "udpgate-redis-s",
// which calls each `done` that is not called inline.
class UDPGATE_EXPORT RedisSessionStore final : public SessionStore {
 public:
  // `lookup` must not be null. InvalidArgument from the `Validate` of either.
  static absl::StatusOr<std::shared_ptr<RedisSessionStore>> Create(
      RedisOptions redis_options, RedisSessionStoreOptions options,
      std::shared_ptr<HostLookup> lookup);
  // Stops first, if needed.
  ~RedisSessionStore() override;

  RedisSessionStoreStats GetStats() const;

  // ResourceExhausted if no thread or descriptor is left. Call at most once.
  absl::Status Start() override;
  // Calls that wait fail with Cancelled.
  void Stop() override;
  absl::Status Health() const override;
  void Write(std::vector<StoredSession> sessions, absl::Duration lifetime,
             Done<std::vector<Outcome>> done) override;
  void Refresh(std::vector<SessionKey> keys, absl::Duration lifetime,
               Done<std::vector<Outcome>> done) override;
  void Remove(std::vector<SessionKey> keys,
              Done<std::vector<Outcome>> done) override;
  void Adopt(std::vector<Adoption> adoptions, absl::Duration lifetime,
             Done<std::vector<Outcome>> done) override;
  void Find(std::vector<SocketAddress> clients,
            Done<std::vector<Found>> done) override;
  void List(const std::string& gateway_id,
            Done<std::vector<StoredSession>> done) override;
  void ListClients(const std::string& gateway_id,
                   Done<std::vector<SocketAddress>> done) override;
  void RenewLease(GatewayLease lease, absl::Duration lifetime,
                  Done<absl::optional<GatewayLease>> done) override;
  void EndLease(const GatewayLease& lease, Done<Outcome> done) override;
  void ListGateways(Done<std::vector<Gateway>> done) override;

 private:
  class Impl;
  explicit RedisSessionStore(std::unique_ptr<Impl> impl);

  const std::unique_ptr<Impl> impl_;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_SESSION_STORE_H_
