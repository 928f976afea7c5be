// Messages with file descriptors between two gates on one host, over a unix
// socket.
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
#include "udpgate/internal/unique_fd.h"

namespace udpgate {
namespace takeover {
namespace internal {

// SCM_MAX_FD of Linux (unix(7)).
inline constexpr size_t kDescriptorsPerMessageMax = 253;
// One message, below what net.core.wmem_default is without a setting: a message
// of a SOCK_SEQPACKET socket must fit its send buffer.
inline constexpr size_t kMessageBytesMax = 192 * 1024;

// A path as bind(2) and connect(2) take it. InvalidArgument where it is empty
// or too long.
absl::StatusOr<sockaddr_un> ToUnixAddress(const std::string& path);

// One end of a SOCK_SEQPACKET connection. Threads: one at a time, but for
// `Shutdown`, which any may call.
class Channel {
 public:
  struct Message {
    std::vector<uint8_t> bytes;
    std::vector<udpgate::internal::UniqueFd> descriptors;
  };

  explicit Channel(udpgate::internal::UniqueFd socket);

  // PermissionDenied where the other end is a process of another user, who is
  // not root. Returns its process id otherwise.
  absl::StatusOr<pid_t> CheckPeer() const;

  // All of Send and Receive from now on may take so long together.
  void BeginStage(absl::Duration limit);

  // DeadlineExceeded, Unavailable where the other end is gone, and what
  // sendmsg(2) reports. The descriptors stay the caller's.
  absl::Status Send(absl::Span<const uint8_t> bytes,
                    absl::Span<const int> descriptors = {});
  // Likewise. DataLoss for a message that is too long, ResourceExhausted where
  // this process could not take its descriptors.
  absl::StatusOr<Message> Receive();

  // Both ends find the connection closed.
  void Shutdown();

 private:
  // Leaves the next call what is left of the stage.
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
