#include "udpgate/redis/internal/password.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/redis/redis_option_ranges.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

using redis_ranges::kPasswordBytesMax;
using udpgate::internal::ErrnoToStatus;
using udpgate::internal::UniqueFd;

// One trailing line break is removed.
absl::StatusOr<std::string> ReadPassword(const std::string& path) {
  // A pipe without a writer must not block.
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status {};
  if (!file.is_open() || fstat(file.get(), &status) != 0) {
    return ErrnoToStatus(errno, "open");
  }
  if (!S_ISREG(status.st_mode)) {
    return absl::InvalidArgumentError("not a regular file");
  }
  // Room for the line break, and for one byte that shows that it is too long.
  std::string content(kPasswordBytesMax + 3, '\0');
  size_t size = 0;
  while (size < content.size()) {
    const ssize_t got =
        read(file.get(), content.data() + size, content.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoToStatus(errno, "read");
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  absl::string_view password(content.data(), size);
  if (absl::ConsumeSuffix(&password, "\n")) {
    absl::ConsumeSuffix(&password, "\r");
  }
  if (password.empty() || password.size() > kPasswordBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "does not contain a password of 1 to ", kPasswordBytesMax, " bytes"));
  }
  return std::string(password);
}

}  // namespace

Password::Password(std::string path, std::string first)
    : path_(std::move(path)), text_(std::move(first)) {}

bool Password::Read() {
  if (!has_file()) return false;
  absl::StatusOr<std::string> read = ReadPassword(path_);
  if (!read.ok()) {
    problem_ =
        absl::Status(read.status().code(),
                     absl::StrCat("password file \"", absl::CHexEscape(path_),
                                  "\": ", read.status().message()));
    return false;
  }
  problem_ = absl::OkStatus();
  if (*read == text_) return false;
  previous_ = std::exchange(text_, *std::move(read));
  return true;
}

bool Password::AppearsIn(absl::string_view text) const {
  return (!text_.empty() && absl::StrContains(text, text_)) ||
         (!previous_.empty() && absl::StrContains(text, previous_));
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
