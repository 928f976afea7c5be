#include "udpgate/internal/control/handed_tags.h"

#include <utility>

namespace udpgate {
namespace internal {

void HandedTags::Restore(absl::Span<HandedSession> sessions,
                         BackendResolver* resolver) {
  for (HandedSession& session : sessions) {
    if (session.tag != nullptr) RestoreOne(&session, resolver);
  }
}

void HandedTags::RestoreOne(HandedSession* session, BackendResolver* resolver) {
  Known& known = known_[session->tag->key()];
  if (!known.is_restored) {
    if (std::shared_ptr<SessionTag> own = resolver->RestoreTag(*session->tag)) {
      known = {std::move(own), true};
    } else if (known.tag == nullptr) {
      known.tag = session->tag;
    }
  }
  session->tag = known.tag;
}

}  // namespace internal
}  // namespace udpgate
