// The session descriptions of a join (RFC 8866, ICE in them: RFC 8839): the
// offer without the player's candidates, what an answer says of the backend's
// ICE agent, and the answer with the gateway's candidates in the place of the
// backend's. All else stays as it is, byte for byte: fingerprints are signed.
//
// The errors quote nothing of a description, which has passwords in it.
//
// Threads: any.
#ifndef UDPGATE_NETHERNET_INTERNAL_SDP_H_
#define UDPGATE_NETHERNET_INTERNAL_SDP_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {
namespace internal {

// Longer descriptions, and more candidates, are refused.
inline constexpr size_t kSdpBytesMax = 256 * 1024;
inline constexpr size_t kSdpCandidatesMax = 1000;

// Removes the lines `a=candidate` and `a=end-of-candidates`, however they are
// written. The backend then waits for the player's first check, and cannot
// reach the player around the gateway.
//
// InvalidArgument if the text does not begin with the line `v=0`, is longer or
// has more candidates than allowed, or has a carriage return without a line
// feed or a zero byte, which programs read differently.
absl::StatusOr<std::string> StripCandidates(absl::string_view offer);

// Of the first media section that has a candidate and is not rejected (port 0).
struct Answer {
  std::string ufrag;
  std::string password;
  // Of UDP and component 1, with an IP address; those of the highest priority
  // first. Not empty.
  std::vector<SocketAddress> candidates;
};

// InvalidArgument as above, and if ufrag, password (RFC 8839 section 5.4) or a
// candidate is missing or malformed.
absl::StatusOr<Answer> ParseAnswer(absl::string_view answer);

// Where the gateway sends the player's media: to the IP address of the backend
// that gave the answer, and the port of the candidate that fits it best: of the
// same IP address, else of the same family, else any, each time the one with
// the highest priority. A backend cannot name another host.
SocketAddress ChooseMedia(const Answer& answer, const SocketAddress& backend);

// Replaces the candidates of each media section by these addresses. The lines
// `c=` and the ports of `m=` name the first one. A line `a=rtcp` that names an
// address (RFC 3605; 0.0.0.0 and :: are none) is removed, since it is the
// backend's, and so is `a=remote-candidates` if it names the address of a
// candidate. All other lines stay, `a=end-of-candidates` too, and none is
// added. `answer` is one that `ParseAnswer` accepts, `public_addresses` is not
// empty.
std::string RewriteAnswer(absl::string_view answer,
                          absl::Span<const SocketAddress> public_addresses);

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_SDP_H_
