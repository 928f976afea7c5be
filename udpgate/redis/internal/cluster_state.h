// What is known of the nodes of a Redis Cluster, and the address sources that
// follow it.
#ifndef UDPGATE_REDIS_INTERNAL_CLUSTER_STATE_H_
#define UDPGATE_REDIS_INTERNAL_CLUSTER_STATE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/clock.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/logging.h"
#include "udpgate/redis/internal/slot_map.h"
#include "udpgate/redis/redis_address_source.h"

namespace udpgate {
namespace redis {
namespace internal {

// Until a node says that it belongs to a Cluster, all sources name the first
// seed that can be reached. Threads: any. `Found`, watchers and the log are
// called without a lock.
class ClusterState : public std::enable_shared_from_this<ClusterState> {
 public:
  // Changes of the owner of one slot that redirects may make in a second; more
  // contradict each other.
  static constexpr int kMovesPerSecondMax = 16;
  // Instead of a slot: any node that can be reached.
  static constexpr int kAnySlot = -1;

  // `seeds`: at least one `host:port`. `wake` is called with a lock, if the map
  // should be asked for, until `Close`.
  ClusterState(std::vector<std::string> seeds, const Clock* clock,
               LogSink log_sink, std::function<void()> wake);

  std::shared_ptr<RedisAddressSource> MakeSource(int slot);
  // For the connection that asks for the map: `Find` waits while nobody needs
  // it.
  std::shared_ptr<RedisAddressSource> MakeRefreshSource();
  void Close();

  bool is_cluster() const;
  std::string NodeOf(int slot) const;
  std::string FollowRedirect(absl::string_view error,
                             const std::string& replier, bool* is_asking);
  void Distrust(const std::string& node);

  // A node has replied with the map.
  void SetMap(SlotMap map, const std::string& replier,
              const std::string& problem);
  // The seed is no Cluster: the map is not asked for until a redirect comes.
  void SetPlain();
  // The map cannot be had. Says so once, until it changes.
  void SetMapProblem(const std::string& problem);
  // True if the map should be asked for; once.
  bool TakeRefreshWanted();

  uint64_t redirects() const;
  uint64_t refreshes() const;
  uint64_t contradictions() const;
  size_t CountNodes() const;
  int CountCovered() const;

 private:
  class Source;
  using Watcher = RedisAddressSource::Watcher;
  using Found = RedisAddressSource::Found;

  struct Entry {
    int slot = kAnySlot;
    bool is_refresh = false;
    // The node that is asked while the owner is unknown; empty: `preferred_`.
    std::string fallback;
    // The target of ASK, which is not the owner; empty: none.
    std::string ask_target;
    // What the last Find returned, and whether it still counts.
    std::string found;
    bool is_tried = false;
    std::vector<std::weak_ptr<const Watcher>> watchers;
  };
  // Calls to make after the lock is released.
  struct Calls {
    std::vector<std::pair<std::weak_ptr<const Watcher>, std::string>> watchers;
    std::string line;
    LogSeverity severity = LogSeverity::kInfo;
    bool must_wake = false;
    Found found;
    std::string found_address;
  };

  std::shared_ptr<RedisAddressSource> Add(Entry entry);
  void Remove(uint64_t id);
  void Find(uint64_t id, Found found);
  void Watch(uint64_t id, std::weak_ptr<const Watcher> watcher);
  void Lost(uint64_t id);
  bool TakeError(uint64_t id, absl::string_view error,
                 const std::string& replier);
  bool MustAsk(uint64_t id) const;
  void Perform(Calls calls);

  const std::string& AddressOf(const Entry& entry) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The node after this one, in turn.
  std::string NextNode(const std::string& node) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // False if redirects contradict each other.
  bool Move(const Redirect& redirect, const std::string& replier, Calls* calls)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WantRefresh(Calls* calls) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Tells the watchers of the sources that lead elsewhere now.
  void CollectMoves(Calls* calls) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Describe(const std::string& problem, Calls* calls)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::vector<std::string> seeds_;
  const Clock* const clock_;
  const LogSink log_sink_;
  LogRateLimiter contradiction_limiter_;

  mutable udpgate::internal::Mutex mutex_;
  std::function<void()> wake_ ABSL_GUARDED_BY(mutex_);
  bool is_cluster_ ABSL_GUARDED_BY(mutex_) = false;
  // Nobody needs the map.
  bool is_dormant_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_refresh_wanted_ ABSL_GUARDED_BY(mutex_) = false;
  Found held_found_ ABSL_GUARDED_BY(mutex_);
  std::string preferred_ ABSL_GUARDED_BY(mutex_);
  SlotMap map_ ABSL_GUARDED_BY(mutex_);
  std::map<uint64_t, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t moves_until_nanoseconds_ ABSL_GUARDED_BY(mutex_) = INT64_MIN;
  std::map<int, int> moves_ ABSL_GUARDED_BY(mutex_);  // by slot
  std::string described_ ABSL_GUARDED_BY(mutex_);
  uint64_t redirects_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t refreshes_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t contradictions_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_CLUSTER_STATE_H_
