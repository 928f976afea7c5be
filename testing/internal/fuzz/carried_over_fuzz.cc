// What a gateway's endpoint tells its successor's in a take-over.
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/admin/carried_over.h"

namespace udpgate {
namespace test {
namespace {

void Try(absl::string_view text) {
  const absl::StatusOr<admin::CarriedOver> carried =
      admin::DecodeCarriedOver(text);
  if (!carried.ok()) {
    Require(absl::IsInvalidArgument(carried.status()),
            "what is wrong is InvalidArgument");
    return;
  }
  Require(admin::DecodeCarriedOver(admin::EncodeCarriedOver(*carried)).ok(),
          "what was read is written to what can be read");
  admin::SessionHistory history{admin::SessionHistoryOptions()};
  history.Restore(carried->history);
  Require(history.Backends().size() <= 101, "backends are bounded");
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  udpgate::test::Try({reinterpret_cast<const char*>(data), size});
  return 0;
}
