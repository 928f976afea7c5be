// Copies of a Status for several threads.
#ifndef UDPGATE_INTERNAL_UTIL_UNSHARED_STATUS_H_
#define UDPGATE_INTERNAL_UTIL_UNSHARED_STATUS_H_

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace udpgate {
namespace internal {

// A copy that shares nothing with `status`, whose plain copies share a counted
// text. ThreadSanitizer reports false races on that count with a build of
// Abseil that is not instrumented itself, as a distribution's is.
inline absl::Status Unshared(const absl::Status& status) {
  return absl::Status(status.code(), status.message());
}

template <typename T>
absl::StatusOr<T> Unshared(const absl::StatusOr<T>& value) {
  if (value.ok()) return value;
  return Unshared(value.status());
}

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_UTIL_UNSHARED_STATUS_H_
