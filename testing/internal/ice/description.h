// Session descriptions of ICE agents (RFC 8839), as WebRTC stacks write them.
#ifndef UDPGATE_TESTING_INTERNAL_ICE_DESCRIPTION_H_
#define UDPGATE_TESTING_INTERNAL_ICE_DESCRIPTION_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

struct IceDescription {
  std::string ufrag;
  std::string password;
  // Host candidates over UDP, the preferred one first.
  std::vector<SocketAddress> candidates;
};

// A whole offer or answer for a data channel: with fingerprint, identity and
// `a=end-of-candidates`. `c=` and `m=` name the first candidate.
std::string ToSdp(const IceDescription& description, bool is_offer);

// InvalidArgument if ufrag or password is missing.
absl::StatusOr<IceDescription> FromSdp(absl::string_view sdp);

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_ICE_DESCRIPTION_H_
