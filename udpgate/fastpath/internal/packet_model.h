// A simple model of the eBPF program, which the tests compare it with: what
// becomes of a frame, and the frame that leaves.
#ifndef UDPGATE_FASTPATH_INTERNAL_PACKET_MODEL_H_
#define UDPGATE_FASTPATH_INTERNAL_PACKET_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "udpgate/fastpath/internal/flow_table.h"
#include "udpgate/fastpath/internal/layout.h"

namespace udpgate {
namespace fastpath {
namespace internal {

using Bytes = std::vector<uint8_t>;

inline constexpr int kSessions = 8;  // even ones are IPv4
inline constexpr uint32_t kMtuBytes = 1200;
inline constexpr int kEthernetBytes = 14;
// The ingress interface of a test run.
inline constexpr uint32_t kLoopbackIndex = 1;
inline constexpr uint32_t kOtherIndex = 2;

inline constexpr uint32_t kContinue = 0xFFFFFFFF;  // TC_ACT_UNSPEC
inline constexpr uint32_t kAccept = 0;             // TC_ACT_OK
inline constexpr uint32_t kRedirect = 7;           // TC_ACT_REDIRECT

// Bytes on the wire.

uint16_t Get16(const Bytes& bytes, size_t at);
void Put16(Bytes* bytes, size_t at, int value);
// Sum of 16-bit words in ones' complement (RFC 1071).
uint16_t Sum(const uint8_t* data, size_t bytes, uint32_t sum = 0);
// The sum over UDP header, payload and pseudo-header; 0xFFFF if the checksum is
// correct.
uint16_t UdpSum(const Bytes& frame, size_t ip_bytes, size_t udp_bytes);

// The model.

struct State {
  bool lease_is_good = true;
  uint32_t gso_bytes = 0;
  uint64_t received_nanoseconds = 0;
};

struct Verdict {
  // Why the frame is passed up; UDPGATE_REASONS if it is relayed.
  int reason = UDPGATE_REASONS;
  int index = -1;  // of the flow; -1 if it is not known
  size_t ip_bytes = 0;
  size_t total_bytes = 0;
  size_t udp_bytes = 0;
};

// What the frame is, regardless of the state of its flow.
Verdict Classify(const Bytes& frame, const FlowTable& table);
// The frame that leaves.
Bytes Relayed(Bytes frame, const Verdict& verdict, const udpgate_flow& flow,
              bool is_super_packet, const udpgate_rewriting& rewriting);

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_INTERNAL_PACKET_MODEL_H_
