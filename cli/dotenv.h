// Reads a `.env` file: one `NAME=value` a line.
//
//   # a comment
//   PROXY_ADDR=0.0.0.0:19132      # white space before an inline comment
//   export LOG_LEVEL=debug
//   REDIS_PASSWORD='p#ss w=rd'    # single quotes: as it stands
//   REDIS_USERNAME="a \"b\""      # double quotes: \n \r \t \\ \" \$
//
// Nothing is expanded: `$HOME` stays `$HOME`. A value ends with its line.
#ifndef UDPGATE_CLI_DOTENV_H_
#define UDPGATE_CLI_DOTENV_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace udpgate {
namespace cli {

// A larger file is refused.
inline constexpr size_t kDotenvBytesMax = 64 * 1024;

struct DotenvEntry {
  std::string name;
  std::string value;
  int line_number = 0;  // from 1
};

// The entries in the order of the file; a name may come twice. InvalidArgument
// begins with `file_name:line`, names the variable where it is known, and never
// quotes a value.
absl::StatusOr<std::vector<DotenvEntry>> ParseDotenv(
    absl::string_view content, absl::string_view file_name);

// The same from a file. A file that does not exist has no entries; one that
// exists and cannot be read is an error.
absl::StatusOr<std::vector<DotenvEntry>> LoadDotenv(const std::string& path);

// The first `bytes_max` bytes of a file at most; InvalidArgument where it is
// longer, NotFound where it does not exist. Errors name the path alone.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path,
                                          size_t bytes_max);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_DOTENV_H_
