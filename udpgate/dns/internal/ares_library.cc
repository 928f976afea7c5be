#include "udpgate/dns/internal/ares_library.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace dns {
namespace internal {

absl::Status InitialiseAres() {
  // Never undone: c-ares counts its users without a lock.
  static const int result = ares_library_init(ARES_LIB_INIT_ALL);
  if (result == ARES_SUCCESS) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("c-ares: ", ares_strerror(result)));
}

absl::Status OpenAresChannel(ares_options* options, int mask,
                             UniqueAresChannel* channel) {
#ifdef ARES_OPT_QUERY_CACHE
  // From 1.31 on c-ares keeps answers for as long as their records say. What is
  // kept for how long is the lookup's to decide.
  options->qcache_max_ttl = 0;
  mask |= ARES_OPT_QUERY_CACHE;
#endif
  ares_channel opened = nullptr;
  const int result = ares_init_options(&opened, options, mask);
  if (result != ARES_SUCCESS) return AresInitError(result);
  channel->reset(opened);
  return absl::OkStatus();
}

absl::Status AresInitError(int result) {
  return absl::ResourceExhaustedError(
      absl::StrCat("c-ares: ", ares_strerror(result)));
}

absl::Status AresToStatus(int result, absl::string_view host) {
  const std::string text =
      absl::StrCat("host \"", host, "\": ", ares_strerror(result));
  switch (result) {
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
      return absl::NotFoundError(text);
    case ARES_ETIMEOUT:
      return absl::DeadlineExceededError(text);
    case ARES_EDESTRUCTION:
    case ARES_ECANCELLED:
      return absl::CancelledError(text);
    default:
      return absl::UnavailableError(text);
  }
}

int CombineFamilyResults(int first, int second) {
  if (first == ARES_ENOTFOUND || second == ARES_ENOTFOUND) {
    return ARES_ENOTFOUND;
  }
  return first == ARES_ENODATA ? second : first;
}

bool TriesNextName(int result) {
  return result == ARES_ENOTFOUND || result == ARES_ENODATA ||
         result == ARES_ESERVFAIL;
}

}  // namespace internal
}  // namespace dns
}  // namespace udpgate
