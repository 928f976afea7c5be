// The tags of sessions that are taken over or restored.
#ifndef UDPGATE_INTERNAL_CONTROL_HANDED_TAGS_H_
#define UDPGATE_INTERNAL_CONTROL_HANDED_TAGS_H_

#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/internal/session/handover.h"

namespace udpgate {
namespace internal {

// Each tag came with its session, as a plain one. Gives sessions the resolver's
// own tag instead, or at least one that all sessions of the same key share.
// Threads: one at a time.
class HandedTags {
 public:
  // May be called again: the resolver may have learnt more meanwhile.
  void Restore(absl::Span<HandedSession> sessions, BackendResolver* resolver);
  // The same for one tag, which may be null.
  std::shared_ptr<SessionTag> Own(const std::shared_ptr<SessionTag>& tag,
                                  BackendResolver* resolver);

 private:
  struct Known {
    std::shared_ptr<SessionTag> tag;
    bool is_restored = false;
  };

  absl::flat_hash_map<std::string, Known> known_;  // by key
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_CONTROL_HANDED_TAGS_H_
