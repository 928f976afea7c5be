#include "testing/internal/e2e/documented.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace udpgate {
namespace test {

std::vector<std::string> FencedBlocks(const std::string& page,
                                      absl::string_view heading,
                                      absl::string_view info) {
  const std::string level =
      absl::StrCat(heading.substr(0, heading.find(' ')), " ");
  std::vector<std::string> blocks;
  bool is_below = false;
  bool is_inside = false;
  bool is_wanted = false;
  for (const absl::string_view line : absl::StrSplit(page, '\n')) {
    if (absl::StartsWith(line, "```")) {
      is_inside = !is_inside;
      is_wanted = is_inside && is_below && line.substr(3) == info;
      if (is_wanted) blocks.emplace_back();
    } else if (is_wanted) {
      absl::StrAppend(&blocks.back(), line, "\n");
    } else if (!is_inside && absl::StartsWith(line, level)) {
      is_below = line == heading;
    }
  }
  return blocks;
}

std::map<std::string, std::string> Variables(const std::string& text) {
  std::map<std::string, std::string> variables;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(line, absl::MaxSplits('=', 1));
    if (!parts.second.empty()) variables.insert(parts);
  }
  return variables;
}

}  // namespace test
}  // namespace udpgate
