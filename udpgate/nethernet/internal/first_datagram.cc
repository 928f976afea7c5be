#include "udpgate/nethernet/internal/first_datagram.h"

#include "absl/types/optional.h"

namespace udpgate {
namespace nethernet {
namespace internal {

FirstDatagram ReadFirstDatagram(absl::Span<const char> datagram) {
  using Kind = FirstDatagram::Kind;
  FirstDatagram first;
  if (stun::IsBindingRequest(datagram)) {
    const absl::optional<stun::BindingRequest> request =
        stun::ParseBindingRequest(datagram);
    if (!request.has_value()) {
      first.kind = Kind::kMalformed;
    } else if (!request->local_ufrag.empty()) {
      first.kind = Kind::kIceRequest;
      first.request = *request;
    }
  } else if (stun::IsBindingReply(datagram)) {
    first.kind = Kind::kStunWithoutSession;
  } else if (stun::IsDtls(datagram)) {
    first.kind = Kind::kDtls;
  }
  return first;
}

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
