#include "udpgate/dns/internal/resolver_files_watcher.h"

namespace udpgate {
namespace dns {
namespace internal {

ResolverFilesWatcher::ResolverFilesWatcher(std::string resolv_conf_path,
                                           absl::Duration interval)
    : resolv_conf_path_(std::move(resolv_conf_path)),
      interval_nanoseconds_(absl::ToInt64Nanoseconds(interval)) {}

absl::optional<ResolverFiles> ResolverFilesWatcher::Check(
    int64_t now_nanoseconds, bool is_forced) {
  if (!is_forced && now_nanoseconds < next_check_nanoseconds()) {
    return absl::nullopt;
  }
  read_nanoseconds_ = now_nanoseconds;
  ResolverFiles files = ReadResolverFiles(resolv_conf_path_);
  if (!is_forced && files == accepted_) return absl::nullopt;
  return files;
}

}  // namespace internal
}  // namespace dns
}  // namespace udpgate
