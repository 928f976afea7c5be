// The sessions that the program in the kernel knows: which slot is whose.
//
// A slot's life: free -> in use (installed, perhaps withdrawn) -> resting ->
// free. While a slot rests nobody writes its records, so that a program that
// was at work while the session was removed still finds them as they were.
#ifndef UDPGATE_FASTPATH_FLOW_TABLE_H_
#define UDPGATE_FASTPATH_FLOW_TABLE_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "udpgate/fastpath/program.h"
#include "udpgate/flow_offload.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace fastpath {

// How a direction's datagrams leave.
struct Exit {
  uint32_t interface_index = 0;
  uint32_t packet_bytes_max = 0;
  bool is_loopback = false;
};

// The difference of the checksums over `after` and `before`, as the program
// adds it to a checksum (RFC 1624). `bytes` is even.
uint32_t ChecksumDifference(const uint8_t* before, const uint8_t* after,
                            int bytes);

// The tuple of a datagram on the wire.
udpgate_tuple MakeTuple(const SocketAddress& source,
                        const SocketAddress& destination);

// Threads: one at a time, but for `flow` and `activity` of a slot in use.
class FlowTable {
 public:
  // How long a slot rests. A program runs for some microseconds.
  static constexpr int64_t kRestNanoseconds = 1'000'000'000;

  // `program` must outlive the table.
  FlowTable(Program* program, int sessions_max);

  // A slot whose flows the program observes from now on. ResourceExhausted
  // where no slot is free or the kernel has no room.
  absl::StatusOr<uint32_t> Add(const SessionAddresses& addresses,
                               const Exit& to_backend, const Exit& to_client,
                               int64_t now_nanoseconds);
  // Takes the flows of a slot in use from the program. Its activity can still
  // be read. Nothing happens where that was done before.
  void Withdraw(uint32_t slot);
  // Gives a withdrawn slot back.
  void Release(uint32_t slot, int64_t now_nanoseconds);
  // Withdraws the slots for which `concerns` says so. Their number.
  int WithdrawWhere(
      absl::FunctionRef<bool(const SessionAddresses&, const Exit& to_backend,
                             const Exit& to_client)>
          concerns);

  // Threads: any, while the slot is in use.
  bool is_withdrawn(uint32_t slot) const {
    return slots_[slot].withdrawn.load(std::memory_order_acquire);
  }
  udpgate_flow& flow(uint32_t slot, FlowDirection direction) const {
    return program_->flow(slot * 2 + static_cast<uint32_t>(direction));
  }
  udpgate_activity& activity(uint32_t slot, FlowDirection direction) const {
    return program_->activity(slot * 2 + static_cast<uint32_t>(direction));
  }

 private:
  struct Slot {
    bool in_use = false;
    std::atomic<bool> withdrawn{false};
    int64_t free_at_nanoseconds = 0;
    SessionAddresses addresses;
    Exit to_backend;
    Exit to_client;
  };

  void WriteRecords(uint32_t slot, const SessionAddresses& addresses,
                    const Exit& to_backend, const Exit& to_client);

  Program* const program_;
  std::vector<Slot> slots_;
  std::deque<uint32_t> resting_;  // and free ones, the longest first
};

}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_FLOW_TABLE_H_
