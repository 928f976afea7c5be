#include "udpgate/nethernet/internal/json_object.h"

#include "nlohmann/json.hpp"

namespace udpgate {
namespace nethernet {
namespace internal {

bool IsJsonObject(absl::string_view text) {
  return nlohmann::json::parse(text.begin(), text.end(), nullptr,
                               /*allow_exceptions=*/false)
      .is_object();
}

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
