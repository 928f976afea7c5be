// The thread of a RedisBackendResolver, private to it.
#ifndef UDPGATE_REDIS_REDIS_BACKEND_RESOLVER_IMPL_H_
#define UDPGATE_REDIS_REDIS_BACKEND_RESOLVER_IMPL_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/clock.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/logging.h"
#include "udpgate/redis/internal/cluster_reader.h"
#include "udpgate/redis/internal/connection.h"
#include "udpgate/redis/internal/get_pace.h"
#include "udpgate/redis/internal/key_sets.h"
#include "udpgate/redis/internal/result_log.h"
#include "udpgate/redis/key_templates.h"
#include "udpgate/redis/redis_backend_resolver.h"

namespace udpgate {

// `Resolve` adds requests to `incoming_`. The thread of the connection moves
// them to `waiting_`, and then all of those with the same keys to `in_flight_`
// with one question: a GET for each key. In a Cluster the GETs go to the nodes
// that own the keys, by way of `reader_`; then the connection, which is one to
// any node, only tells whether there is one.
class RedisBackendResolver::Impl final
    : public redis::internal::ConnectionOwner {
 public:
  Impl(RedisOptions options, std::shared_ptr<HostLookup> lookup);

  // First, since the thread uses the other members.
  ~Impl() override {
    connection_.Stop();
    if (reader_ != nullptr) reader_->Stop();
  }

  absl::Status Start() { return connection_.Start(); }
  void Resolve(const ResolveRequest& request, Callback done);
  absl::Status Health() const;
  RedisBackendResolverStats GetStats() const;

  void OnConnected() override;
  void OnReply(const redisReply& reply) override;
  void OnMessage(const redisReply&) override {
    connection_.Drop(absl::DataLossError("unexpected pub/sub message"));
  }
  void OnLost(const absl::Status& why) override;
  int64_t OnIteration(int64_t now_nanoseconds) override;
  bool OnIdle() override;

 private:
  using Connection = redis::internal::Connection;
  using KeySet = redis::internal::KeySet;
  using Request = redis::internal::Request;
  using Requests = redis::internal::Requests;
  using ResultLog = redis::internal::ResultLog;
  using SharedKeySet = redis::internal::SharedKeySet;

  // With it, the thread finds the set of keys: most requests are for the keys
  // that all clients have.
  struct Incoming {
    std::vector<std::string> keys;  // empty: `constant_keys_`
    Request request;
  };

  // A question without all of its replies so far.
  struct Flight {
    SharedKeySet keys;
    Requests requests;  // empty if it only checks the health
    // Replies in the order of the keys.
    size_t replies = 0;
    // A reply has decided what the requests get.
    bool is_decided = false;
    // Keys that were sent on `connection_` and have had a reply there.
    size_t connection_replies = 0;
    // Results that came before those of earlier keys, by the index of the key.
    std::map<size_t, redis::internal::KeyResult> early;
  };
  using Flights = std::map<uint64_t, Flight>;  // the oldest first

  bool may_be_stale() const {
    return options_.stale_backend_age_max > absl::ZeroDuration();
  }
  bool has_room_for_get() const {
    // In a Cluster one node must not keep clients of others waiting.
    return in_flight_.size() <
           static_cast<size_t>(uses_cluster() && !is_constant_
                                   ? options_.requests_waiting_max
                                   : options_.gets_in_flight_max);
  }
  bool uses_cluster() const {
    return reader_ != nullptr && options_.nodes->is_cluster();
  }
  bool can_ask() const { return connection_.is_connected() || uses_cluster(); }

  // True if requests wait for the next connection.
  bool IsAwaitingReconnect(int64_t now_nanoseconds) const {
    return now_nanoseconds < reconnect_wait_end_nanoseconds_;
  }

  void TakeIncoming(int64_t now_nanoseconds);
  // Moves these requests back to `waiting_` after the connection was closed.
  void Requeue(Flights* flights, const absl::Status& why);
  // Fails the waiting requests if there is neither a connection nor an attempt,
  // and the wait for a reconnect is over.
  void FailIfDisconnected(int64_t now_nanoseconds);
  // During the pause after a failure: serves stale results, or fails the
  // requests that end before the pause does.
  void ApplyRecentFailure(int64_t now_nanoseconds, KeySet* keys);
  void ApplyRecentFailures(int64_t now_nanoseconds);
  // Serves stale results to the requests that Redis has kept waiting too long.
  void ServeStaleToLate(int64_t now_nanoseconds);
  // The earliest time of the next GET for keys that have not failed.
  int64_t NextGetNanoseconds(int64_t now_nanoseconds) const;
  // Sends what may be sent now. Returns when there may be more, and sets
  // `any_may_be_sent` if other keys could be asked for at once.
  int64_t SendGets(int64_t now_nanoseconds, bool* any_may_be_sent);
  void SendGet(SharedKeySet keys, Requests requests);
  // Those of the next key, unless the question is decided.
  void OnKeyReply(const redisReply& reply, Flight* flight);
  void OnValue(absl::string_view value, const std::string& key, Flight* flight);
  redis::internal::KeyResult ResultOf(const redisReply& reply) const;
  // A result of `reader_`.
  void OnKeyResult(uint64_t id, size_t key_index,
                   redis::internal::KeyResult result);
  void TakeResult(const redis::internal::KeyResult& result, Flight* flight);
  // Takes what has come early and is next, and forgets what is complete.
  void Advance(Flights::iterator flight);
  static Requests Decide(Flight* flight);
  void Fail(Requests requests, const absl::Status& why);
  // The same, while Redis is unavailable.
  void FailOrServeStale(const KeySet& keys, Requests requests,
                        const absl::Status& why);
  void FailOrServeStaleToWaiting(const absl::Status& why);
  // Returns false, and changes nothing, if there is no recent backend.
  bool ServeStale(const KeySet& keys, Requests* requests);
  void GiveStale(const ResultLog::Stale& stale, Requests requests);
  // The replies hold no usable backend.
  void OnNoBackend(const absl::Status& why, Flight* flight);
  void OnError(const absl::Status& why, Flight* flight);
  // The reply is that the connection is not logged in.
  void OnLoginRevoked(const absl::Status& why, Flight* flight);

  const RedisOptions options_;
  const Clock* const clock_;
  const KeyTemplates templates_;
  // All clients have the same keys.
  const bool is_constant_;
  const std::shared_ptr<HostLookup> lookup_;
  // Counters, and the last result. If the keys depend on the client, a client
  // without a backend says nothing of Redis: then this is the last error.
  const std::shared_ptr<ResultLog> log_;

  internal::Mutex mutex_;
  std::vector<Incoming> incoming_ ABSL_GUARDED_BY(mutex_);
  // The thread need not be woken for a request that can wait until then. While
  // requests wait for the rate limit or for room in flight: when the thread
  // wakes up by itself. INT64_MIN after a wake-up, since one serves all
  // requests in `incoming_`. Otherwise `kNever`.
  int64_t next_iteration_nanoseconds_ ABSL_GUARDED_BY(mutex_) =
      Connection::kNever;

  // Used by the thread of the connection only.
  redis::internal::KeySetTable key_sets_;
  SharedKeySet constant_keys_;
  // What is asked for to find out whether Redis still replies with errors.
  SharedKeySet health_keys_;
  redis::internal::WaitingSets waiting_;
  // Redis has replied with an error since the last iteration.
  bool has_new_error_ = false;
  // The last reply to a GET was that the connection is not logged in.
  bool was_login_revoked_ = false;
  // No request, waiting or in flight, may get a stale result earlier.
  int64_t next_stale_nanoseconds_ = Connection::kNever;
  // See RedisOptions::reconnect_patience.
  int64_t reconnect_wait_end_nanoseconds_ = INT64_MIN;
  Flights in_flight_;
  uint64_t last_flight_ = 0;
  // Those with GETs on `connection_`, in the order of the replies.
  std::deque<uint64_t> on_connection_;
  std::unique_ptr<redis::internal::ClusterReader> reader_;  // null: no nodes
  redis::internal::GetPace pace_;
  LogRateLimiter stale_limiter_;
  Connection connection_;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_BACKEND_RESOLVER_IMPL_H_
