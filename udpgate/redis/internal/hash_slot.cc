#include "udpgate/redis/internal/hash_slot.h"

namespace udpgate {
namespace redis {
namespace internal {

uint16_t Crc16(absl::string_view bytes) {
  constexpr unsigned kPolynomial = 0x1021;
  unsigned crc = 0;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned>(static_cast<unsigned char>(byte)) << 8;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc & 0x8000) != 0 ? (crc << 1) ^ kPolynomial : crc << 1;
    }
  }
  return static_cast<uint16_t>(crc);
}

int HashSlotOf(absl::string_view key) {
  const size_t open = key.find('{');
  if (open != absl::string_view::npos) {
    const size_t close = key.find('}', open + 1);
    if (close != absl::string_view::npos && close > open + 1) {
      key = key.substr(open + 1, close - open - 1);
    }
  }
  return Crc16(key) % kHashSlots;
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
