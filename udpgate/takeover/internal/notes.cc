#include "udpgate/takeover/internal/notes.h"

#include <cstdint>

#include "nlohmann/json.hpp"
#include "udpgate/takeover/internal/message_fields.h"
#include "udpgate/takeover/internal/messages.h"

namespace udpgate {
namespace takeover {
namespace internal {

using nlohmann::json;

absl::Status SendNotes(absl::string_view notes, Channel* channel) {
  if (notes.size() > kNotesBytesMax) notes = "";
  do {
    const absl::string_view part = notes.substr(0, kFullBytes);
    notes.remove_prefix(part.size());
    json message = NewMessage("notes");
    const auto* const begin = reinterpret_cast<const uint8_t*>(part.data());
    message["bytes"] = json::binary({begin, begin + part.size()});
    message["is_last"] = notes.empty();
    if (absl::Status status = SendMessage(message, channel); !status.ok()) {
      return status;
    }
  } while (!notes.empty());
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReceiveNotes(Channel* channel) {
  std::string notes;
  for (;;) {
    absl::StatusOr<Incoming> message = ReceiveMessage(channel);
    if (!message.ok()) return message.status();
    if (message->type != "notes") continue;
    const auto bytes = message->fields.find("bytes");
    if (bytes == message->fields.end() || !bytes->is_binary()) {
      return InvalidMessage("notes without bytes");
    }
    notes.append(bytes->get_binary().begin(), bytes->get_binary().end());
    if (notes.size() > kNotesBytesMax)
      return InvalidMessage("notes are too long");
    const auto is_last = message->fields.find("is_last");
    if (is_last == message->fields.end() || *is_last != false) return notes;
  }
}

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate
