// Notices changes of the files that say how names are resolved.
#ifndef UDPGATE_DNS_INTERNAL_RESOLVER_FILES_WATCHER_H_
#define UDPGATE_DNS_INTERNAL_RESOLVER_FILES_WATCHER_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/dns/internal/resolver_settings.h"

namespace udpgate {
namespace dns {
namespace internal {

// Compares the files with the accepted state, at most once per interval.
// Threads: one at a time.
class ResolverFilesWatcher {
 public:
  ResolverFilesWatcher(std::string resolv_conf_path, absl::Duration interval);

  // Reads the files if the interval has passed since the last reading, or if
  // `is_forced`. Returns their state if it differs from the accepted one, or if
  // `is_forced`. Times are those of CLOCK_MONOTONIC, in nanoseconds.
  absl::optional<ResolverFiles> Check(int64_t now_nanoseconds, bool is_forced);

  // `files` are in use now. A state that was not accepted is reported again by
  // the next check.
  void Accept(ResolverFiles files) { accepted_ = std::move(files); }

  int64_t next_check_nanoseconds() const {
    return read_nanoseconds_ + interval_nanoseconds_;
  }

 private:
  const std::string resolv_conf_path_;
  const int64_t interval_nanoseconds_;
  ResolverFiles accepted_;
  int64_t read_nanoseconds_ = 0;
};

}  // namespace internal
}  // namespace dns
}  // namespace udpgate

#endif  // UDPGATE_DNS_INTERNAL_RESOLVER_FILES_WATCHER_H_
