// What the fuzz targets assert.
#ifndef UDPGATE_TESTING_INTERNAL_FUZZ_RULES_H_
#define UDPGATE_TESTING_INTERNAL_FUZZ_RULES_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"

// Each target defines this function; libFuzzer and replay.cc call it.
// https://llvm.org/docs/LibFuzzer.html#fuzz-target
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace udpgate {
namespace test {

// A finding, as a crash is, where `holds` is false.
inline void Require(bool holds, absl::string_view rule) {
  if (holds) return;
  std::fprintf(stderr, "this rule is broken: %s\n", std::string(rule).c_str());
  std::abort();
}

// What a parser says of a text that somebody else may have sent can stand in a
// log.
inline void RequireOneShortLine(const absl::Status& status) {
  Require(absl::IsInvalidArgument(status), "a bad text is InvalidArgument");
  Require(!status.message().empty() && status.message().size() <= 500,
          "an error text is short");
  for (const char c : status.message()) {
    Require(absl::ascii_isprint(static_cast<unsigned char>(c)),
            "an error text is one printable line");
  }
}

inline absl::string_view AsText(const uint8_t* data, size_t size) {
  return absl::string_view(reinterpret_cast<const char*>(data), size);
}

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_FUZZ_RULES_H_
