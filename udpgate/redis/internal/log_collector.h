// A LogSink that stores the lines for a test.
#ifndef UDPGATE_REDIS_INTERNAL_LOG_COLLECTOR_H_
#define UDPGATE_REDIS_INTERNAL_LOG_COLLECTOR_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/logging.h"

namespace udpgate {
namespace test {

// Threads: any. The sink shares the lines, so it may outlive the collector.
class LogCollector {
 public:
  LogSink Sink() {
    return [lines = lines_](LogSeverity severity, absl::string_view message) {
      internal::MutexLock lock(&lines->mutex);
      lines->texts.push_back(
          absl::StrCat(LogSeverityName(severity), ": ", message));
    };
  }

  // Each as `severity: message`.
  std::vector<std::string> lines() const {
    internal::MutexLock lock(&lines_->mutex);
    return lines_->texts;
  }

  int CountOf(absl::string_view part) const {
    int count = 0;
    for (const std::string& line : lines()) {
      if (line.find(std::string(part)) != std::string::npos) ++count;
    }
    return count;
  }

 private:
  struct Lines {
    internal::Mutex mutex;
    std::vector<std::string> texts ABSL_GUARDED_BY(mutex);
  };

  const std::shared_ptr<Lines> lines_ = std::make_shared<Lines>();
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_LOG_COLLECTOR_H_
