#include "udpgate/redis/internal/entry_fields.h"

#include <cmath>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

bool HasHashTag(absl::string_view key) {
  const size_t begin = key.find('{');
  if (begin == absl::string_view::npos) return false;
  const size_t end = key.find('}', begin);
  return end != absl::string_view::npos && end > begin + 1;
}

}  // namespace

absl::optional<std::string> KeyInSlotOf(absl::string_view key,
                                        absl::string_view id) {
  if (HasHashTag(key)) return absl::StrCat(key, ":", id);
  if (key.find('}') != absl::string_view::npos) return absl::nullopt;
  return absl::StrCat("{", key, "}:", id);
}

void AddBackendFields(const std::vector<BackendSessionCount>& backends,
                      int backends_max, std::vector<std::string>* fields) {
  int64_t other_sessions = 0;
  for (size_t i = 0; i < backends.size(); ++i) {
    if (i >= static_cast<size_t>(backends_max)) {
      other_sessions += backends[i].sessions;
      continue;
    }
    fields->push_back(absl::StrCat("backend:", backends[i].backend.ToString()));
    fields->push_back(absl::StrCat(backends[i].sessions));
  }
  if (other_sessions == 0) return;
  fields->push_back("backend:other");
  fields->push_back(absl::StrCat(other_sessions));
}

void SessionRate::Note(int64_t now_nanoseconds, uint64_t sessions_created,
                       int64_t interval_nanoseconds) {
  const int64_t passed_nanoseconds = now_nanoseconds - sample_nanoseconds_;
  if (has_sample_ && passed_nanoseconds < interval_nanoseconds / 2) return;
  // The numbers of several threads are no snapshot of one moment.
  if (has_sample_ && sessions_created >= sample_created_) {
    per_second_ = static_cast<double>(sessions_created - sample_created_) *
                  1e9 / static_cast<double>(passed_nanoseconds);
    is_known_ = true;
  }
  has_sample_ = true;
  sample_nanoseconds_ = now_nanoseconds;
  sample_created_ = sessions_created;
}

std::string SessionRate::ToString() const {
  const int64_t hundredths = std::llround(per_second_ * 100);
  return absl::StrCat(hundredths / 100, ".",
                      absl::Dec(hundredths % 100, absl::kZeroPad2));
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
