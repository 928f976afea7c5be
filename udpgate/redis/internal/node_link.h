// A connection of a resolver to one node of a Redis Cluster.
#ifndef UDPGATE_REDIS_INTERNAL_NODE_LINK_H_
#define UDPGATE_REDIS_INTERNAL_NODE_LINK_H_

#include <hiredis/hiredis.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/redis/internal/connection.h"
#include "udpgate/redis/redis_options.h"

namespace udpgate {
namespace redis {
namespace internal {

// A GET of one key.
struct KeyQuestion {
  uint64_t question = 0;  // of the asker, as is `key_index`
  size_t key_index = 0;
  std::string key;
  bool is_asking = false;  // ASKING goes before it
  // No later than that it is asked again.
  int64_t deadline_nanoseconds = 0;
  int gets = 0;
  int redirects = 0;
  int waits = 0;
};

// What has become of it.
struct NodeAnswer {
  enum class Kind {
    kReply,     // `reply_type` and `text`
    kTooLong,   // the value; `status`
    kLost,      // the connection was closed before the reply; `status`
    kBroken,    // the node hangs or violates the protocol; `status`
    kNoServer,  // not sent, since there is no connection; `status`
  };
  KeyQuestion question;
  Kind kind = Kind::kReply;
  int reply_type = REDIS_REPLY_NIL;
  std::string text;
  absl::Status status;
  std::string node;
};

// Threads: `Ask` and the const methods any. It has a thread of its own,
// "udpgate-redis-n", which calls `answered`.
class NodeLink final : public ConnectionOwner {
 public:
  using Answered = std::function<void(NodeAnswer)>;

  // `options`: valid, with a clock; only the node at `node` is reached.
  NodeLink(RedisOptions options, const std::string& node,
           std::shared_ptr<HostLookup> lookup, Answered answered);
  ~NodeLink() override { connection_.Stop(); }

  absl::Status Start() { return connection_.Start(); }

  // Sends it, or answers it within `RedisOptions::reconnect_patience` of the
  // loss of a connection, and within an attempt to connect.
  void Ask(KeyQuestion question);

  bool is_connected() const { return is_connected_.load(); }
  // Questions without an answer.
  int pending() const { return pending_.load(); }

  void OnConnected() override;
  void OnReply(const redisReply& reply) override;
  void OnMessage(const redisReply&) override {
    connection_.Drop(absl::DataLossError("unexpected pub/sub message"));
  }
  void OnLost(const absl::Status& why) override;
  int64_t OnIteration(int64_t now_nanoseconds) override;

 private:
  void Answer(NodeAnswer::Kind kind, KeyQuestion question,
              const absl::Status& status);
  void Send(KeyQuestion question);

  const RedisOptions options_;
  const std::string node_;
  const Answered answered_;
  std::atomic<bool> is_connected_{false};
  std::atomic<int> pending_{0};

  udpgate::internal::Mutex mutex_;
  std::deque<KeyQuestion> incoming_ ABSL_GUARDED_BY(mutex_);

  // Used by the thread only.
  std::deque<KeyQuestion> waiting_;
  std::deque<KeyQuestion> in_flight_;
  int64_t patience_end_nanoseconds_ = INT64_MIN;
  Connection connection_;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_NODE_LINK_H_
