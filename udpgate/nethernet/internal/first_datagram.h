// What the first datagram of a client is, by its first bytes and, for STUN, by
// its user name.
#ifndef UDPGATE_NETHERNET_INTERNAL_FIRST_DATAGRAM_H_
#define UDPGATE_NETHERNET_INTERNAL_FIRST_DATAGRAM_H_

#include <cstdint>

#include "absl/types/span.h"
#include "udpgate/stun/binding_request.h"

namespace udpgate {
namespace nethernet {
namespace internal {

struct FirstDatagram {
  enum class Kind : uint8_t {
    // RakNet, or any other protocol; also a Binding request that is not of ICE,
    // since it has no user name with a colon.
    kOther,
    // A Binding request of ICE: `request` is set.
    kIceRequest,
    // A Binding request that is malformed.
    kMalformed,
    // A Binding response or indication, which belongs to a path that was
    // checked before.
    kStunWithoutSession,
    kDtls,
  };
  Kind kind = Kind::kOther;
  stun::BindingRequest request;  // refers to the datagram
};

// Does not allocate memory.
FirstDatagram ReadFirstDatagram(absl::Span<const char> datagram);

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_FIRST_DATAGRAM_H_
