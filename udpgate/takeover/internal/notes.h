// What the old host program tells the new one once it no longer serves.
#ifndef UDPGATE_TAKEOVER_INTERNAL_NOTES_H_
#define UDPGATE_TAKEOVER_INTERNAL_NOTES_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/takeover/internal/channel.h"

namespace udpgate {
namespace takeover {
namespace internal {

inline constexpr size_t kNotesBytesMax = 4 << 20;

// Sends the notes in as few messages as they need. Notes that are too long are
// sent as empty notes. Errors: those of Channel::Send.
absl::Status SendNotes(absl::string_view notes, Channel* channel);
// Receives all of them; messages of other types are skipped. InvalidArgument if
// a message is wrong, and the errors of ReceiveMessage.
absl::StatusOr<std::string> ReceiveNotes(Channel* channel);

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate

#endif  // UDPGATE_TAKEOVER_INTERNAL_NOTES_H_
