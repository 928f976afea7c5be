#include "udpgate/session_observer.h"

namespace udpgate {

absl::string_view SessionEventKindName(SessionEvent::Kind kind) {
  switch (kind) {
    case SessionEvent::Kind::kOpened:
      return "opened";
    case SessionEvent::Kind::kConfirmed:
      return "confirmed";
    case SessionEvent::Kind::kEnded:
      return "ended";
  }
  return "unknown";
}

}  // namespace udpgate
