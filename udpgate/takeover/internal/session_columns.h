// The fields of a session as a takeover message carries them, each written
// once: its name, and how it is written and read. A reader skips columns that
// it does not know, and a field whose column is missing keeps its default, so
// that two versions understand each other.
#ifndef UDPGATE_TAKEOVER_INTERNAL_SESSION_COLUMNS_H_
#define UDPGATE_TAKEOVER_INTERNAL_SESSION_COLUMNS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "nlohmann/json.hpp"
#include "udpgate/internal/session/handover.h"

namespace udpgate {
namespace takeover {
namespace internal {

// One field of a session. Stateless; threads: any.
struct Column {
  const char* name;
  bool changes;  // while the old process serves
  bool is_flow;  // only used by a session on the flow offload
  nlohmann::json (*write)(const udpgate::internal::HandedSession& session);
  // False if the value is of another type, or out of range.
  bool (*read)(const nlohmann::json& value,
               udpgate::internal::HandedSession* session);
  // As 8 bytes, for the rows that are sent in the pause; null if the field is
  // not a number. `unpack` is false if the value is out of range.
  uint64_t (*pack)(const udpgate::internal::HandedSession& session) = nullptr;
  bool (*unpack)(uint64_t value,
                 udpgate::internal::HandedSession* session) = nullptr;
};

// All columns, in the order in which they are sent.
absl::Span<const Column> SessionColumns();
// The session's id, which every message about sessions must have.
const Column& IdColumn();
// Null for a name that this version does not know.
const Column* FindColumn(const nlohmann::json& name);

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate

#endif  // UDPGATE_TAKEOVER_INTERNAL_SESSION_COLUMNS_H_
