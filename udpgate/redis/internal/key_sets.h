// What a resolver knows of each set of keys, and the requests that wait for
// them.
#ifndef UDPGATE_REDIS_INTERNAL_KEY_SETS_H_
#define UDPGATE_REDIS_INTERNAL_KEY_SETS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/redis/internal/result_log.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace redis {
namespace internal {

struct Request {
  int64_t deadline_nanoseconds;
  // From then on a stale result is used.
  int64_t stale_nanoseconds;
  SocketAddress client;
  BackendResolver::Callback done;
  int gets = 0;  // questions sent for it
};

using Requests = std::vector<Request>;

// Moves the requests whose `time` is not after `until` to `to`. Lowers `next`
// to the earliest `time` of the rest.
void MoveDue(int64_t Request::*time, int64_t until, Requests* from,
             Requests* to, int64_t* next);

struct KeySet;
using SharedKeySet = std::shared_ptr<KeySet>;
// By the time before which the set must not be asked for.
using KeySetsByTime = std::multimap<int64_t, SharedKeySet>;

// The keys of some clients, in the order in which they are tried. Threads:
// `log` any, the rest that of the resolver's connection.
struct KeySet {
  KeySet(std::vector<std::string> keys_in, std::shared_ptr<ResultLog> log_in)
      : keys(std::move(keys_in)), log(std::move(log_in)) {}

  const std::vector<std::string> keys;
  // The results of these keys.
  const std::shared_ptr<ResultLog> log;
  // Not sent so far.
  Requests waiting;

  // Of `WaitingSets`.
  bool is_listed = false;
  KeySetsByTime::iterator place;
};

// Finds the set for each client again, so that clients with the same keys share
// it. Threads: one; the counters any.
class KeySetTable {
 public:
  KeySetTable(int sets_max, absl::Duration failure_pause,
              absl::Duration stale_age_max)
      : sets_max_(static_cast<size_t>(sets_max)),
        failure_pause_(failure_pause),
        stale_age_max_(stale_age_max) {}

  // Makes it if it is not there. Beyond `sets_max` the least recently used set
  // is forgotten; requests that wait for it are served all the same.
  SharedKeySet Find(std::vector<std::string> keys, int64_t now_nanoseconds);

  uint64_t size() const { return size_.load(std::memory_order_relaxed); }
  // Sets that were forgotten although they held a result that still counted.
  uint64_t forgotten() const {
    return forgotten_.load(std::memory_order_relaxed);
  }

 private:
  struct Entry {
    std::string id;
    SharedKeySet keys;
  };

  const size_t sets_max_;
  const absl::Duration failure_pause_;
  const absl::Duration stale_age_max_;
  std::list<Entry> entries_;  // the most recently used one first
  // By `Entry::id`, in which the views point.
  absl::flat_hash_map<absl::string_view, std::list<Entry>::iterator> by_id_;
  std::atomic<uint64_t> size_{0};
  std::atomic<uint64_t> forgotten_{0};
};

// The sets with waiting requests, in the order in which they may be asked for:
// a set whose last reply was a failure waits for the end of its pause. Threads:
// one.
class WaitingSets {
 public:
  bool is_empty() const { return sets_.empty(); }

  // Adds one request, or those that were sent before, in front.
  void Add(const SharedKeySet& keys, Request request, int64_t now_nanoseconds);
  void AddInFront(const SharedKeySet& keys, Requests requests,
                  int64_t now_nanoseconds);

  // No waiting request has an earlier deadline.
  int64_t next_deadline_nanoseconds() const {
    return next_deadline_nanoseconds_;
  }
  // When the first set may be asked for: INT64_MIN if there is one now.
  // `INT64_MAX` if there is none.
  int64_t NextNanoseconds() const {
    return sets_.empty() ? INT64_MAX : sets_.begin()->first;
  }

  // The first set, without the requests: those go to `requests`. Null if it
  // must wait after all; then `NextNanoseconds` has changed.
  SharedKeySet TakeFirst(int64_t now_nanoseconds, Requests* requests);

  // Moves the requests whose deadline is not after `until_nanoseconds`.
  Requests TakeExpired(int64_t until_nanoseconds);
  Requests TakeAll();

  // Calls `visit` for each set. It may take requests away.
  void ForEach(absl::FunctionRef<void(KeySet*)> visit);
  // Call after requests were taken away from `keys`.
  void Prune(KeySet* keys);

 private:
  void Insert(const SharedKeySet& keys, int64_t now_nanoseconds);

  KeySetsByTime sets_;
  int64_t next_deadline_nanoseconds_ = INT64_MAX;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_KEY_SETS_H_
