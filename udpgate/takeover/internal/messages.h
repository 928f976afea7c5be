// The messages of a takeover, as records of a Channel: MessagePack maps, each
// with its `type`. ../README.md lists them.
//
// All fields have names. A reader skips a field that it does not know, and a
// field that is missing keeps its default, so the old and the new process need
// not be of the same version. `kVersion` goes up only if that is not enough.
#ifndef UDPGATE_TAKEOVER_INTERNAL_MESSAGES_H_
#define UDPGATE_TAKEOVER_INTERNAL_MESSAGES_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "nlohmann/json.hpp"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/takeover/internal/channel.h"

namespace udpgate {
namespace takeover {
namespace internal {

inline constexpr int64_t kVersion = 1;

// Prefix of the flow offload's descriptors among the names of sockets.
inline constexpr absl::string_view kFlowPrefix = "flows/";

// A sender starts another message once the payload has this many bytes. What
// is added last, and the encoding, fit into the rest of kMessageBytesMax.
inline constexpr size_t kFullBytes = kMessageBytesMax / 3;

// A map with this type and no other field.
nlohmann::json NewMessage(absl::string_view type);

std::vector<uint8_t> Encode(const nlohmann::json& message);

// InvalidArgument if it is not a message; Aborted with the text of the other
// process if it is an `error`. Allocates at most some hundred times the bytes.
absl::StatusOr<nlohmann::json> Decode(absl::Span<const uint8_t> bytes);

absl::Status SendMessage(const nlohmann::json& message, Channel* channel,
                         absl::Span<const int> descriptors = {});
// Sends the message and then, as a record of its own, rows of numbers in the
// byte order of this host, on which both processes run. MessagePack's reader
// takes a byte at a time, which would lengthen the pause. The field `row_bytes`
// of the message is the length of the record. `rows` must not be empty.
absl::Status SendRows(nlohmann::json message, absl::Span<const uint8_t> rows,
                      Channel* channel);
// Tells the other process why this one cancels the takeover. Best effort, for
// 10 ms at most.
void SendError(const absl::Status& status, Channel* channel);

// clang-tidy does not see that the move of nlohmann::json cannot throw.
// NOLINTNEXTLINE(bugprone-exception-escape)
struct Incoming {
  std::string type;
  nlohmann::json fields;
  std::vector<udpgate::internal::UniqueFd> descriptors;
  std::vector<uint8_t> rows;
};
// Errors: those of Channel::Receive and of Decode.
absl::StatusOr<Incoming> ReceiveMessage(Channel* channel);
// Likewise; InvalidArgument for a message of another type.
absl::StatusOr<Incoming> ReceiveMessage(absl::string_view type,
                                        Channel* channel);

// Unimplemented if the sender of this message uses another version.
absl::Status CheckVersion(const nlohmann::json& message);

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate

#endif  // UDPGATE_TAKEOVER_INTERNAL_MESSAGES_H_
