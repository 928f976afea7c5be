// What the simulated clients and backends send: every payload says who sent it.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_PAYLOAD_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_PAYLOAD_H_

#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/string_view.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {
namespace simulation {

// What every payload begins with.
struct Tag {
  enum Kind : uint32_t { kFromClient, kFromBackend, kForged };
  uint32_t kind = kForged;
  uint32_t index = 0;  // of the client, or of the session
  uint32_t number = 0;
  uint32_t bytes = sizeof(Tag);
};

inline std::string PayloadOf(const Tag& tag) {
  std::string payload(tag.bytes, static_cast<char>(tag.number));
  std::memcpy(&payload[0], &tag, sizeof(tag));
  return payload;
}

inline SocketAddress Address(absl::string_view ip, int port) {
  return *SocketAddress::FromIpAndPort(ip, static_cast<uint16_t>(port));
}

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_PAYLOAD_H_
