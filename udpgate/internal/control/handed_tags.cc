#include "udpgate/internal/control/handed_tags.h"

#include <utility>

namespace udpgate {
namespace internal {

void HandedTags::Restore(absl::Span<HandedSession> sessions,
                         BackendResolver* resolver) {
  for (HandedSession& session : sessions) {
    session.tag = Own(session.tag, resolver);
  }
}

std::shared_ptr<SessionTag> HandedTags::Own(
    const std::shared_ptr<SessionTag>& tag, BackendResolver* resolver) {
  if (tag == nullptr) return nullptr;
  Known& known = known_[tag->key()];
  if (!known.is_restored) {
    if (std::shared_ptr<SessionTag> own = resolver->RestoreTag(*tag)) {
      known = {std::move(own), true};
    } else if (known.tag == nullptr) {
      known.tag = tag;
    }
  }
  return known.tag;
}

}  // namespace internal
}  // namespace udpgate
