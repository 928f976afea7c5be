// What the documents tell users to copy, so that a test runs just that.
#ifndef UDPGATE_TESTING_INTERNAL_E2E_DOCUMENTED_H_
#define UDPGATE_TESTING_INTERNAL_E2E_DOCUMENTED_H_

#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace udpgate {
namespace test {

// The contents of the fenced blocks with this info string, such as `ini`, below
// the heading, up to the next one of its level. Empty if there is no such
// heading.
std::vector<std::string> FencedBlocks(const std::string& page,
                                      absl::string_view heading,
                                      absl::string_view info);

// Lines NAME=value.
std::map<std::string, std::string> Variables(const std::string& text);

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_E2E_DOCUMENTED_H_
