#include "udpgate/takeover/internal/host_state.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/takeover/internal/message_fields.h"

namespace udpgate {
namespace takeover {
namespace internal {

using udpgate::internal::ErrnoToStatus;
using udpgate::internal::UniqueFd;

absl::Status SendHostState(absl::string_view state, bool is_late,
                           Channel* channel) {
  if (state.empty()) return absl::OkStatus();
  if (state.size() > kHostStateBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("the host program's state has ", state.size(),
                     " bytes; allowed are ", kHostStateBytesMax));
  }
  const UniqueFd file(::memfd_create("udpgate-host-state", MFD_CLOEXEC));
  if (!file.is_open()) return ErrnoToStatus(errno, "memfd_create");
  nlohmann::json message = NewMessage("host_state");
  message["size"] = state.size();
  message["is_late"] = is_late;
  while (!state.empty()) {
    const ssize_t written = ::write(file.get(), state.data(), state.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoToStatus(errno, "write to a memory file");
    state.remove_prefix(static_cast<size_t>(written));
  }
  const int descriptor = file.get();
  return SendMessage(message, channel, {&descriptor, 1});
}

absl::StatusOr<HostState> ReadHostState(const Incoming& message) {
  const absl::StatusOr<uint64_t> size = ReadNumber(message.fields, "size");
  if (!size.ok()) return size.status();
  struct stat file {};
  if (message.descriptors.size() != 1 || *size > kHostStateBytesMax ||
      ::fstat(message.descriptors[0].get(), &file) != 0 ||
      !S_ISREG(file.st_mode) || static_cast<uint64_t>(file.st_size) != *size) {
    return InvalidMessage("a state of the host program without its file");
  }
  const auto is_late = message.fields.find("is_late");
  HostState result;
  result.is_late = is_late != message.fields.end() && *is_late == true;
  result.state.resize(*size);
  size_t position = 0;
  while (position < result.state.size()) {
    const ssize_t got =
        ::pread(message.descriptors[0].get(), result.state.data() + position,
                result.state.size() - position, static_cast<off_t>(position));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return InvalidMessage("a state of the host program is short");
    position += static_cast<size_t>(got);
  }
  return result;
}

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate
