// Reads a `.env` file: one `NAME=value` per line.
//
//   # a comment
//   PROXY_ADDR=0.0.0.0:19132      # white space before an inline comment
//   export LOG_LEVEL=debug
//   REDIS_PASSWORD='p#ss w=rd'    # single quotes: verbatim
//   REDIS_USERNAME="a \"b\""      # double quotes: \n \r \t \\ \" \$
//
// Variables are not expanded: `$HOME` stays `$HOME`. A value ends with its
// line.
#ifndef UDPGATE_CLI_SETTINGS_DOTENV_H_
#define UDPGATE_CLI_SETTINGS_DOTENV_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace udpgate {
namespace cli {

// A larger file is rejected.
inline constexpr size_t kDotenvBytesMax = 64 * 1024;

struct DotenvEntry {
  std::string name;
  std::string value;
  int line_number = 0;  // from 1
};

// The entries in the order of the file; a name may come twice. InvalidArgument
// begins with `file_name:line`, names the variable if it is known, and never
// quotes a value.
absl::StatusOr<std::vector<DotenvEntry>> ParseDotenv(
    absl::string_view content, absl::string_view file_name);

// The same from a file. A file that does not exist has no entries; one that
// exists and cannot be read is an error.
absl::StatusOr<std::vector<DotenvEntry>> LoadDotenv(const std::string& path);

// The content of a file of at most `bytes_max` bytes. InvalidArgument if it is
// longer, NotFound if it does not exist. Errors name only the path.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path,
                                          size_t bytes_max);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SETTINGS_DOTENV_H_
