// Decodes the records that Redis returns, counts those that are of no use, and
// says so.
#ifndef UDPGATE_REDIS_INTERNAL_RECORD_READER_H_
#define UDPGATE_REDIS_INTERNAL_RECORD_READER_H_

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "udpgate/logging.h"
#include "udpgate/session_store.h"

namespace udpgate {
namespace redis {
namespace internal {

// Threads: any.
class RecordReader {
 public:
  // `clock` must outlive the reader. `name` begins each line.
  RecordReader(std::string name, LogSink sink, const Clock* clock);

  // `text` is the value of the key of `client`. Nothing if it is empty, is no
  // record, or is one of another client.
  absl::optional<StoredSession> Read(absl::string_view client,
                                     absl::string_view text);

  uint64_t invalid() const { return invalid_.load(); }
  uint64_t of_other_version() const { return of_other_version_.load(); }

 private:
  void Log(absl::string_view client, absl::string_view why);

  const std::string name_;
  const LogSink sink_;
  LogRateLimiter limiter_;
  std::atomic<uint64_t> invalid_{0};
  std::atomic<uint64_t> of_other_version_{0};
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_RECORD_READER_H_
