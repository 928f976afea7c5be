// Reads keys from the nodes of a Redis Cluster that own them.
#ifndef UDPGATE_REDIS_INTERNAL_CLUSTER_READER_H_
#define UDPGATE_REDIS_INTERNAL_CLUSTER_READER_H_

#include <hiredis/hiredis.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/redis/internal/node_link.h"
#include "udpgate/redis/redis_options.h"

namespace udpgate {
namespace redis {
namespace internal {

// What a GET has returned at last: a reply, or why there is none.
struct KeyResult {
  int reply_type = REDIS_REPLY_NIL;
  std::string text;     // of a string, or of an error
  absl::Status status;  // not OK: there is no reply, or it is an error
  bool is_reply = true;
};

// One connection to each node that is asked, up to
// `RedisOptions::node_connections_max`. It follows MOVED and ASK; waits where
// TRYAGAIN, CLUSTERDOWN or a lost node may be over soon; and asks again after a
// lost connection, since a GET changes nothing. All of this takes
// `RedisOptions::reconnect_patience` and `command_timeout` at most.
//
// Threads: one, that of the user; `GetStats` any. It calls `wake` on other
// threads; then `OnIteration` is due.
class ClusterReader {
 public:
  static constexpr int kRedirectsMax = 5;
  // The wait before a question is asked again for the first time; it doubles.
  static constexpr absl::Duration kRetryIntervalMin = absl::Milliseconds(50);

  using Done =
      std::function<void(uint64_t question, size_t key_index, KeyResult)>;

  struct Stats {
    uint64_t nodes_connected = 0;
    uint64_t nodes_refused = 0;  // no connection was left
    uint64_t gets_sent_again = 0;
  };

  // `options`: valid, with a clock and nodes.
  ClusterReader(RedisOptions options, std::shared_ptr<HostLookup> lookup,
                std::function<void()> wake, Done done);
  ~ClusterReader() { Stop(); }
  ClusterReader(const ClusterReader&) = delete;
  ClusterReader& operator=(const ClusterReader&) = delete;

  // Ends the connections; `wake` is not called any more.
  void Stop() { links_.clear(); }

  // `done` is called in a later `OnIteration`. `redirect`: the error reply of
  // `replier` that has led here; empty: none.
  void Ask(uint64_t question, size_t key_index, const std::string& key,
           absl::string_view redirect, const std::string& replier);

  // Calls `done`. Returns when to call it again at the latest.
  int64_t OnIteration(int64_t now_nanoseconds);

  Stats GetStats() const;

 private:
  struct Link {
    std::unique_ptr<NodeLink> link;
    int64_t used_nanoseconds = 0;
    // The node has not served since then; INT64_MAX: it has.
    int64_t lost_nanoseconds = INT64_MAX;
  };
  struct Inbox {
    udpgate::internal::Mutex mutex;
    std::vector<NodeAnswer> answers ABSL_GUARDED_BY(mutex);
  };

  // `node` empty: the owner of the key.
  void Send(KeyQuestion question, std::string node);
  Link* FindLink(const std::string& node);
  bool MakeRoom();
  void CloseUnused(int64_t now_nanoseconds);
  void TakeAnswer(NodeAnswer answer, int64_t now_nanoseconds);
  void TakeError(NodeAnswer answer, int64_t now_nanoseconds);
  void TakeRedirect(NodeAnswer answer, int64_t now_nanoseconds);
  void TakeLoss(NodeAnswer answer, int64_t now_nanoseconds);
  // Asks it again later, or ends it if that would be too late.
  void Retry(NodeAnswer answer, int64_t now_nanoseconds);
  void End(const KeyQuestion& question, const absl::Status& why);

  const RedisOptions options_;
  const std::shared_ptr<HostLookup> lookup_;
  const std::function<void()> wake_;
  const Done done_;
  absl::flat_hash_map<std::string, Link> links_;  // by node
  std::vector<std::pair<int64_t, KeyQuestion>> retries_;
  // Results that `Ask` had at once.
  std::vector<std::pair<KeyQuestion, absl::Status>> ended_;
  // The Cluster has replied CLUSTERDOWN since then; INT64_MAX: it has not.
  int64_t down_nanoseconds_ = INT64_MAX;
  int64_t next_cleanup_nanoseconds_ = INT64_MIN;
  Inbox inbox_;
  std::atomic<uint64_t> nodes_connected_{0};
  std::atomic<uint64_t> nodes_refused_{0};
  std::atomic<uint64_t> gets_sent_again_{0};
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_CLUSTER_READER_H_
