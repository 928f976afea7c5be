// Sessions that a shard restores, see Proxy::Restore.
#ifndef UDPGATE_INTERNAL_SHARD_RESTORE_ORDER_H_
#define UDPGATE_INTERNAL_SHARD_RESTORE_ORDER_H_

#include <cstddef>
#include <memory>
#include <vector>

#include "udpgate/backend_resolver.h"
#include "udpgate/session_restore.h"

namespace udpgate {
namespace internal {

// One session, and what has become of it.
struct RestoreTask {
  const RestorableSession* session = nullptr;
  std::shared_ptr<SessionTag> tag;  // the one that the session gets
  bool is_done = false;             // `result` is set
  RestoredSession result;
};

// Those of one shard. The caller owns the tasks, and waits until `finished` is
// released; until then only the shard uses them.
struct RestoreOrder {
  std::vector<RestoreTask*> tasks;
  size_t next = 0;  // those before it were tried
  // Otherwise a session whose source address and port cannot be had is not
  // done. They come second, so that none gets the port of another one.
  bool takes_other_relays = false;
  std::shared_ptr<void> finished;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_RESTORE_ORDER_H_
