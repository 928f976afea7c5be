// Copies of a shard's sessions, while it serves them.
#ifndef UDPGATE_INTERNAL_SHARD_SNAPSHOT_H_
#define UDPGATE_INTERNAL_SHARD_SNAPSHOT_H_

#include "udpgate/internal/shard/inbox.h"
#include "udpgate/internal/shard/shard_context.h"

namespace udpgate {
namespace internal {

// Each message copies a slice of the table, and says where the next one begins.
//
// Threads: the owner of the shard only.
class Snapshot {
 public:
  // `shard` must outlive it.
  explicit Snapshot(ShardContext* shard) : shard_(shard) {}
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  // kListSessions.
  void ListSessions(ShardMessage* message);
  // kCopySockets, before a takeover: without pending sessions. What changes
  // after it is sent when the shard is handed over.
  void CopySockets(ShardMessage* message);

 private:
  ShardContext* const shard_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_SNAPSHOT_H_
