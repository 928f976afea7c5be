// The thread of a RedisBackendResolver, private to it.
#ifndef UDPGATE_REDIS_REDIS_BACKEND_RESOLVER_IMPL_H_
#define UDPGATE_REDIS_REDIS_BACKEND_RESOLVER_IMPL_H_

#include <cstddef>
#include <cstdint>
#include <deque>
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
#include "udpgate/redis/internal/connection.h"
#include "udpgate/redis/internal/get_pace.h"
#include "udpgate/redis/internal/key_sets.h"
#include "udpgate/redis/internal/result_log.h"
#include "udpgate/redis/key_templates.h"
#include "udpgate/redis/redis_backend_resolver.h"

namespace udpgate {

// `Resolve` adds requests to `incoming_`. The thread of the connection moves
// them to `waiting_`, and then all of those with the same keys to `in_flight_`
// with one question: a GET for each key.
class RedisBackendResolver::Impl final
    : public redis::internal::ConnectionOwner {
 public:
  Impl(RedisOptions options, std::shared_ptr<HostLookup> lookup);

  // First, since the thread uses the other members.
  ~Impl() override { connection_.Stop(); }

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
    size_t replies = 0;
    // A reply has decided what the requests get.
    bool is_decided = false;
  };

  bool may_be_stale() const {
    return options_.stale_backend_age_max > absl::ZeroDuration();
  }
  bool has_room_for_get() const {
    return in_flight_.size() < static_cast<size_t>(options_.gets_in_flight_max);
  }

  // True if requests wait for the next connection.
  bool IsAwaitingReconnect(int64_t now_nanoseconds) const {
    return now_nanoseconds < reconnect_wait_end_nanoseconds_;
  }

  void TakeIncoming(int64_t now_nanoseconds);
  // Moves the requests in flight back to `waiting_` after the connection was
  // closed.
  void Requeue(const absl::Status& why);
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
  // The reply to a GET of the oldest question, unless that is decided.
  void OnKeyReply(const redisReply& reply, const std::string& key,
                  bool is_last);
  void OnValue(absl::string_view value, const std::string& key);
  // Decides the oldest question.
  Requests DecideOldest();
  void Fail(Requests requests, const absl::Status& why);
  // The same, while Redis is unavailable.
  void FailOrServeStale(const KeySet& keys, Requests requests,
                        const absl::Status& why);
  void FailOrServeStaleToWaiting(const absl::Status& why);
  // Returns false, and changes nothing, if there is no recent backend.
  bool ServeStale(const KeySet& keys, Requests* requests);
  void GiveStale(const ResultLog::Stale& stale, Requests requests);
  // The replies to the oldest question hold no usable backend.
  void OnNoBackend(const absl::Status& why);
  void OnError(const absl::Status& why);
  // The reply to the oldest question is that the connection is not logged in.
  void OnLoginRevoked(const absl::Status& why);

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
  // No request, waiting or in flight, may get a stale result earlier.
  int64_t next_stale_nanoseconds_ = Connection::kNever;
  // See RedisOptions::reconnect_patience.
  int64_t reconnect_wait_end_nanoseconds_ = INT64_MIN;
  std::deque<Flight> in_flight_;
  redis::internal::GetPace pace_;
  LogRateLimiter stale_limiter_;
  Connection connection_;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_BACKEND_RESOLVER_IMPL_H_
