// A private directory under /tmp that goes away with its object.
#ifndef UDPGATE_TESTING_INTERNAL_SUPPORT_TEMPORARY_DIRECTORY_H_
#define UDPGATE_TESTING_INTERNAL_SUPPORT_TEMPORARY_DIRECTORY_H_

#include <string>

#include "absl/strings/string_view.h"

namespace udpgate {
namespace test {

// Lies in /tmp and not in TEST_TMPDIR, whose path is often too long for a unix
// socket (108 bytes, unix(7)). Ends the process where the system gives none.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  // Removes the directory with all that is in it.
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }

  // Writes a file of this name and returns its path.
  std::string WriteFile(absl::string_view name, absl::string_view content);

 private:
  std::string path_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SUPPORT_TEMPORARY_DIRECTORY_H_
