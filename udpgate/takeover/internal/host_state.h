// What the host program of the old process tells that of the new one before the
// sessions arrive, for example what their tags refer to.
#ifndef UDPGATE_TAKEOVER_INTERNAL_HOST_STATE_H_
#define UDPGATE_TAKEOVER_INTERNAL_HOST_STATE_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/takeover/internal/channel.h"
#include "udpgate/takeover/internal/messages.h"

namespace udpgate {
namespace takeover {
namespace internal {

inline constexpr size_t kHostStateBytesMax = size_t{256} << 20;

// Sends the state in a file of the memory (memfd_create(2)), since it may be
// long; nothing if it is empty. `is_late`: it was written in the pause.
// InvalidArgument if it is longer than kHostStateBytesMax; else what
// memfd_create(2) or write(2) reports, and the errors of Channel::Send.
absl::Status SendHostState(absl::string_view state, bool is_late,
                           Channel* channel);

struct HostState {
  std::string state;
  bool is_late = false;
};

// Reads a message `host_state`. InvalidArgument if it is wrong.
absl::StatusOr<HostState> ReadHostState(const Incoming& message);

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate

#endif  // UDPGATE_TAKEOVER_INTERNAL_HOST_STATE_H_
