// What gateways send each other about a client: its datagrams to the gateway
// that has its session, the replies, and whether there is a session.
//
//   - byte 0: version (high four bits, 1) and kind (low four bits)
//   - byte 1: 1 for IPv6 addresses, 0 for IPv4
//   - byte 2: traffic class of the datagram
//   - byte 3: 1 if the sender wants to know whether there is a session, else 0
//   - bytes 4 to 7: when it was sent, Unix time in seconds
//   - bytes 8 to 15: the sender's random number
//   - bytes 16 to 23: the sender's counter
//   - sealed, with the bytes before authenticated: port and address of the
//     client (6 or 18 bytes), port and address that the client sent to (6 or 18
//     bytes), the datagram
//   - the tag (16 bytes)
//
// Numbers are in network byte order. Inside an IP packet an envelope takes 52
// bytes more than the datagram that it carries, 76 with IPv6 addresses.
#ifndef UDPGATE_FORWARD_INTERNAL_ENVELOPE_H_
#define UDPGATE_FORWARD_INTERNAL_ENVELOPE_H_

#include <cstddef>
#include <cstdint>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "udpgate/forward/envelope_keys.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace forward {
namespace internal {

enum class EnvelopeKind : uint8_t {
  kToOwner = 1,    // a datagram of a client
  kToClient = 2,   // a reply
  kNoSession = 3,  // the client has no session at the sender of this
  kSession = 4,    // it has one; only if somebody wants to know
};

// The content. `client` and `local` are of one family, and neither has a scope.
struct Envelope {
  EnvelopeKind kind = EnvelopeKind::kToOwner;
  uint8_t traffic_class = 0;
  bool wants_answer = false;  // of kToOwner
  SocketAddress client;
  SocketAddress local;  // the gateway's address that the client sent to
  absl::Span<const char> payload;
};

// What is readable without a key.
struct EnvelopeHeader {
  static constexpr size_t kBytes = 24;

  EnvelopeKind kind = EnvelopeKind::kToOwner;
  bool is_ipv6 = false;
  bool wants_answer = false;
  uint8_t traffic_class = 0;
  uint32_t sent_seconds = 0;
  uint64_t sender_id = 0;
  uint64_t counter = 0;
};

// What an envelope with these addresses takes beside its payload.
constexpr size_t EnvelopeOverhead(bool is_ipv6) {
  return EnvelopeHeader::kBytes + (is_ipv6 ? 36 : 12) +
         EnvelopeCipher::kTagBytes;
}

// Whether its addresses can be expressed.
bool CanExpress(const Envelope& envelope);

// Writes and seals the envelope, and returns its size; 0 if that is not
// possible. `buffer` has room for it. What else the header says is that of the
// envelope.
size_t SealEnvelope(const Envelope& envelope, uint32_t sent_seconds,
                    uint64_t sender_id, uint64_t counter,
                    EnvelopeCipher* cipher, absl::Span<char> buffer);

// Nothing if it cannot be an envelope.
absl::optional<EnvelopeHeader> ReadHeader(absl::Span<const char> datagram);

// Opens `datagram`, whose header was read, in place: the payload points into
// it. Nothing if the seal is wrong or the content is malformed.
absl::optional<Envelope> OpenEnvelope(const EnvelopeHeader& header,
                                      EnvelopeCipher* cipher,
                                      absl::Span<char> datagram);

}  // namespace internal
}  // namespace forward
}  // namespace udpgate

#endif  // UDPGATE_FORWARD_INTERNAL_ENVELOPE_H_
