// Messages with file descriptors between the old and the new process of a
// takeover, over a Unix socket.
#ifndef UDPGATE_TAKEOVER_INTERNAL_CHANNEL_H_
#define UDPGATE_TAKEOVER_INTERNAL_CHANNEL_H_

#include <sys/types.h>
#include <sys/un.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace takeover {
namespace internal {

// SCM_MAX_FD of Linux (unix(7)).
inline constexpr size_t kDescriptorsPerMessageMax = 253;
// One message, below what net.core.wmem_default is without a setting: a message
// of a SOCK_SEQPACKET socket must fit its send buffer.
inline constexpr size_t kMessageBytesMax = 192 * 1024;

// A path as bind(2) and connect(2) take it. InvalidArgument if it is empty or
// too long.
absl::StatusOr<sockaddr_un> ToUnixAddress(const std::string& path);

// One end of a SOCK_SEQPACKET connection. Threads: one at a time; `Shutdown`
// may be called from any thread.
class Channel {
 public:
  struct Message {
    std::vector<uint8_t> bytes;
    std::vector<udpgate::internal::UniqueFd> descriptors;
  };

  explicit Channel(udpgate::internal::UniqueFd socket);

  // The process id of the other end. PermissionDenied if it belongs to another
  // user who is not root.
  absl::StatusOr<pid_t> CheckPeer() const;

  // All calls of Send and Receive from now on may take this long together.
  void BeginStage(absl::Duration limit);

  // DeadlineExceeded; Unavailable if the other end is closed; else what
  // sendmsg(2) reports. The caller keeps the descriptors.
  absl::Status Send(absl::Span<const uint8_t> bytes,
                    absl::Span<const int> descriptors = {});
  // Likewise. DataLoss for a message that is too long; ResourceExhausted if
  // this process cannot open more descriptors.
  absl::StatusOr<Message> Receive();

  // Both ends find the connection closed.
  void Shutdown();

 private:
  // Limits the next call to the rest of the stage.
  absl::Status SetTimeout(int option);

  udpgate::internal::UniqueFd socket_;
  std::chrono::steady_clock::time_point deadline_ =
      std::chrono::steady_clock::time_point::max();
  std::vector<uint8_t> buffer_;
};

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate

#endif  // UDPGATE_TAKEOVER_INTERNAL_CHANNEL_H_
