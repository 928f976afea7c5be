// The password of Redis, which a file may change while the program runs.
#ifndef UDPGATE_REDIS_INTERNAL_PASSWORD_H_
#define UDPGATE_REDIS_INTERNAL_PASSWORD_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace udpgate {
namespace redis {
namespace internal {

// Threads: one.
class Password {
 public:
  // `path`: empty without a file. `first` is used until the file can be read.
  Password(std::string path, std::string first);

  bool has_file() const { return !path_.empty(); }
  const std::string& text() const { return text_; }

  // Reads the file again, if there is one. True if the password has changed. A
  // file that cannot be read, or that holds no password, changes nothing.
  bool Read();

  // OK, or why the last `Read` found no password.
  const absl::Status& problem() const { return problem_; }

  // True if `text` contains the password or the one before it, which an error
  // of Redis may quote.
  bool AppearsIn(absl::string_view text) const;

 private:
  const std::string path_;
  std::string text_;
  std::string previous_;
  absl::Status problem_;
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_PASSWORD_H_
