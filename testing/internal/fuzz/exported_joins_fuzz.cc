// The joins of the process that is taken over.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "testing/internal/fuzz/rules.h"
#include "testing/simulated_clock.h"
#include "udpgate/nethernet/join_table.h"

namespace udpgate {
namespace test {
namespace {

using nethernet::JoinInfo;
using nethernet::JoinTable;
using nethernet::JoinTableOptions;

void Try(absl::string_view text) {
  SimulatedClock clock;
  JoinTable table(JoinTableOptions(), &clock);
  if (absl::Status status = table.Import(text); !status.ok()) {
    return RequireOneShortLine(status);
  }
  const std::vector<JoinInfo> joins = table.List();
  for (const JoinInfo& join : joins) {
    Require(join.session_count == 0, "sessions come later");
    Require(join.age >= absl::ZeroDuration(), "a join has an age");
  }
  JoinTable again(JoinTableOptions(), &clock);
  Require(again.Import(table.Export(/*is_late=*/false)).ok(),
          "what a table exports can be imported");
  Require(again.List().size() == joins.size(),
          "a join passes to each further process");
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  udpgate::test::Try(udpgate::test::AsText(data, size));
  return 0;
}
