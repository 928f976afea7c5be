// A fuzz target with a bug, to see that it is found.
#include "absl/strings/match.h"
#include "testing/internal/fuzz/rules.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text = udpgate::test::AsText(data, size);
  udpgate::test::Require(!absl::StartsWith(text, "bad"),
                         "no input begins with bad");
  return 0;
}
