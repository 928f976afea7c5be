#include "udpgate/forward/internal/envelope.h"

#include <netinet/in.h>

#include <cstring>

namespace udpgate {
namespace forward {
namespace internal {
namespace {

constexpr uint8_t kVersion = 1;

// An address takes its port and its IP.
constexpr size_t AddressBytes(bool is_ipv6) {
  return sizeof(uint16_t) + (is_ipv6 ? 16 : 4);
}

template <typename Number>
void PutNumber(Number number, char* bytes) {
  for (size_t i = 0; i < sizeof(Number); ++i) {
    const size_t shift = 8 * (sizeof(Number) - 1 - i);
    bytes[i] = static_cast<char>(number >> shift & 0xff);
  }
}

// In 64 bits, so that no step overflows a type.
uint64_t GetNumber(const char* bytes, size_t size) {
  uint64_t number = 0;
  for (size_t i = 0; i < size; ++i) {
    number = number << 8 | static_cast<uint8_t>(bytes[i]);
  }
  return number;
}

char* PutAddress(const SocketAddress& address, char* bytes) {
  const size_t ip_bytes = AddressBytes(address.is_ipv6()) - sizeof(uint16_t);
  PutNumber(address.port(), bytes);
  std::memcpy(bytes + sizeof(uint16_t), address.ip_bytes().data(), ip_bytes);
  return bytes + sizeof(uint16_t) + ip_bytes;
}

SocketAddress GetAddress(bool is_ipv6, const char* bytes) {
  if (is_ipv6) {
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    std::memcpy(&address.sin6_port, bytes, sizeof(address.sin6_port));
    std::memcpy(&address.sin6_addr, bytes + sizeof(address.sin6_port),
                sizeof(address.sin6_addr));
    return SocketAddress::FromSockaddr(
        reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  std::memcpy(&address.sin_port, bytes, sizeof(address.sin_port));
  std::memcpy(&address.sin_addr, bytes + sizeof(address.sin_port),
              sizeof(address.sin_addr));
  return SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

bool IsOfOneHost(const SocketAddress& address) {
  return address.is_unicast() && address.port() != 0 && address.scope_id() == 0;
}

}  // namespace

bool CanExpress(const Envelope& envelope) {
  return IsOfOneHost(envelope.client) && IsOfOneHost(envelope.local) &&
         envelope.client.family() == envelope.local.family();
}

size_t SealEnvelope(const Envelope& envelope, uint32_t sent_seconds,
                    uint64_t sender_id, uint64_t counter,
                    EnvelopeCipher* cipher, absl::Span<char> buffer) {
  const bool is_ipv6 = envelope.client.is_ipv6();
  const size_t bytes = EnvelopeOverhead(is_ipv6) + envelope.payload.size();
  if (bytes > buffer.size() || !CanExpress(envelope)) return 0;
  char* const header = buffer.data();
  header[0] =
      static_cast<char>(kVersion << 4 | static_cast<uint8_t>(envelope.kind));
  header[1] = is_ipv6 ? 1 : 0;
  header[2] = static_cast<char>(envelope.traffic_class);
  header[3] = envelope.wants_answer ? 1 : 0;
  PutNumber(sent_seconds, header + 4);
  PutNumber(sender_id, header + 8);
  PutNumber(counter, header + 16);
  char* text = header + EnvelopeHeader::kBytes;
  text = PutAddress(envelope.client, text);
  text = PutAddress(envelope.local, text);
  if (!envelope.payload.empty()) {
    std::memcpy(text, envelope.payload.data(), envelope.payload.size());
  }
  const size_t text_bytes =
      bytes - EnvelopeHeader::kBytes - EnvelopeCipher::kTagBytes;
  const bool is_sealed =
      cipher->Seal(counter, buffer.first(EnvelopeHeader::kBytes), text_bytes,
                   buffer.subspan(EnvelopeHeader::kBytes));
  return is_sealed ? bytes : 0;
}

absl::optional<EnvelopeHeader> ReadHeader(absl::Span<const char> datagram) {
  if (datagram.size() < EnvelopeOverhead(/*is_ipv6=*/false)) {
    return absl::nullopt;
  }
  const auto first = static_cast<uint8_t>(datagram[0]);
  const auto family = static_cast<uint8_t>(datagram[1]);
  const auto wants_answer = static_cast<uint8_t>(datagram[3]);
  const int kind = first & 0x0f;
  if (first >> 4 != kVersion || family > 1 || wants_answer > 1 ||
      kind < static_cast<int>(EnvelopeKind::kToOwner) ||
      kind > static_cast<int>(EnvelopeKind::kSession) ||
      datagram.size() < EnvelopeOverhead(family == 1)) {
    return absl::nullopt;
  }
  EnvelopeHeader header;
  header.kind = static_cast<EnvelopeKind>(kind);
  header.is_ipv6 = family == 1;
  header.wants_answer = wants_answer == 1;
  header.traffic_class = static_cast<uint8_t>(datagram[2]);
  header.sent_seconds =
      static_cast<uint32_t>(GetNumber(&datagram[4], sizeof(uint32_t)));
  header.sender_id = GetNumber(&datagram[8], sizeof(uint64_t));
  header.counter = GetNumber(&datagram[16], sizeof(uint64_t));
  return header;
}

absl::optional<Envelope> OpenEnvelope(const EnvelopeHeader& header,
                                      EnvelopeCipher* cipher,
                                      absl::Span<char> datagram) {
  if (datagram.size() < EnvelopeOverhead(header.is_ipv6) ||
      !cipher->Open(header.counter, datagram.first(EnvelopeHeader::kBytes),
                    datagram.subspan(EnvelopeHeader::kBytes))) {
    return absl::nullopt;
  }
  const char* const text = datagram.data() + EnvelopeHeader::kBytes;
  const size_t address_bytes = AddressBytes(header.is_ipv6);
  Envelope envelope;
  envelope.kind = header.kind;
  envelope.traffic_class = header.traffic_class;
  envelope.wants_answer = header.wants_answer;
  envelope.client = GetAddress(header.is_ipv6, text);
  envelope.local = GetAddress(header.is_ipv6, text + address_bytes);
  envelope.payload =
      absl::MakeConstSpan(text + 2 * address_bytes,
                          datagram.size() - EnvelopeOverhead(header.is_ipv6));
  // IPv4-mapped addresses have become those of IPv4.
  const bool is_of_family = envelope.client.is_ipv6() == header.is_ipv6;
  const bool is_answer = header.kind == EnvelopeKind::kNoSession ||
                         header.kind == EnvelopeKind::kSession;
  const bool has_too_much =
      (is_answer && !envelope.payload.empty()) ||
      (header.wants_answer && header.kind != EnvelopeKind::kToOwner);
  if (!CanExpress(envelope) || !is_of_family || has_too_much) {
    return absl::nullopt;
  }
  return envelope;
}

}  // namespace internal
}  // namespace forward
}  // namespace udpgate
