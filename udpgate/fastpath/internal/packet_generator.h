// Packets of every shape from a seed, for tests of the eBPF program.
#ifndef UDPGATE_FASTPATH_INTERNAL_PACKET_GENERATOR_H_
#define UDPGATE_FASTPATH_INTERNAL_PACKET_GENERATOR_H_

#include <cstddef>
#include <cstdint>
#include <random>

#include "udpgate/fastpath/internal/flow_table.h"
#include "udpgate/fastpath/internal/packet_model.h"

namespace udpgate {
namespace fastpath {
namespace internal {

// Threads: one at a time.
class Generator {
 public:
  // The packets are datagrams of the flows in `table`, most of them changed in
  // some way. `table` has kSessions sessions and must outlive the generator.
  Generator(uint32_t seed, const FlowTable* table)
      : random_(seed), table_(table) {}

  bool OneIn(int n) { return Below(n) == 0; }
  int Below(int n) {
    return std::uniform_int_distribution<int>(0, n - 1)(random_);
  }

  Bytes Packet();

 private:
  Bytes Noise();
  // A datagram of a session, unchanged.
  Bytes Good();
  void FillChecksums(Bytes* frame, bool is_ipv4, size_t udp_bytes);
  void Mutate(Bytes* frame);
  // The parts of Mutate. False if the frame was not changed.
  bool MutateFrame(Bytes* frame);
  void MutateHeaders(Bytes* frame);
  void MutateFragment(Bytes* frame);

  std::mt19937 random_;
  const FlowTable* const table_;
};

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_INTERNAL_PACKET_GENERATOR_H_
