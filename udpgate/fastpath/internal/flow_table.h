// The sessions that the eBPF program relays: which slot belongs to which.
//
// States of a slot, and who changes them:
//
//   free --Take--> waiting --Add--> installed --Withdraw--> withdrawn
//    ^   (worker)     |  \                |                    |
//    |                |   --Refuse--> refused                  |
//    |                |                   |                    |
//    |                +---- GiveBack -----+------- (worker) ---+
//    |                        |
//    +------ (owner) -- removed, in quarantine
//
// Add, Refuse, Withdraw and Clear belong to the owner, the offload's thread.
// Workers take no lock and call no kernel function: they store to memory that
// program and owner read, and push a request into a queue for the owner. While
// a slot is in quarantine nobody writes its records. A program that was
// processing a datagram during the removal still finds them unchanged.
#ifndef UDPGATE_FASTPATH_INTERNAL_FLOW_TABLE_H_
#define UDPGATE_FASTPATH_INTERNAL_FLOW_TABLE_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <set>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "udpgate/fastpath/internal/program.h"
#include "udpgate/fastpath/internal/slot_queue.h"
#include "udpgate/flow_offload.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace fastpath {
namespace internal {

// The interface by which a direction's datagrams leave.
struct Exit {
  uint32_t interface_index = 0;
  uint32_t packet_bytes_max = 0;
  bool is_loopback = false;
  udpgate_next_hop next_hop = {};  // family 0: by the route of each packet
};

// The difference of the checksums of `after` and `before`, in the form that is
// added to a checksum (RFC 1624). `bytes` must be even.
uint32_t ChecksumDifference(const uint8_t* before, const uint8_t* after,
                            int bytes);

// The tuple of a datagram in wire format.
udpgate_tuple MakeTuple(const SocketAddress& source,
                        const SocketAddress& destination);

class FlowTable {
 public:
  // Duration of a slot's quarantine. The program runs for some microseconds.
  static constexpr int64_t kRestNanoseconds = 1'000'000'000;

  // `program` must outlive the table. `is_adopting`: the maps hold flows of
  // another process, which stay unchanged until FinishAdoption.
  FlowTable(Program* program, int sessions_max, bool is_adopting = false);

  // For workers. Threads: any, but one at a time per slot. None of them waits,
  // makes a system call or allocates memory.

  // Takes a free slot and queues a request for the owner. None if all slots are
  // taken or in quarantine. The program does not relay the session yet.
  absl::optional<uint32_t> Take(const SessionAddresses& addresses);
  FlowState state(uint32_t slot) const;
  void PublishHandled(uint32_t slot, FlowDirection direction,
                      int64_t receive_time_nanoseconds);
  void LowerPacketBytesMax(uint32_t slot, FlowDirection direction,
                           uint32_t bytes);
  SessionActivity ReadActivity(uint32_t slot) const;
  // Ends the session's use of the slot. From now on the program passes up every
  // datagram that it is not already processing.
  SessionActivity GiveBack(uint32_t slot);

  // For the owner. Threads: one at a time.

  // Marks the slot as installed for this session. Only before FinishAdoption,
  // and before workers use the slot. False if the slot's flows are not those of
  // the session, or were withdrawn. Does not change the maps.
  bool Adopt(uint32_t slot, const SessionAddresses& addresses);
  // Ends the flows of slots that were not adopted. Slots that were never used
  // are free immediately, others after a quarantine. Withdraws an adopted slot
  // if only one of its flows is in the index.
  void FinishAdoption(int64_t now_nanoseconds);
  // Interfaces by which installed flows leave.
  std::set<int> ExitInterfaces() const;

  // The oldest request of a worker, if any. A slot that was taken needs Add or
  // Refuse; one that was given back needs Clear.
  struct Request {
    uint32_t slot;
    bool is_given_back;
  };
  absl::optional<Request> NextRequest();
  const SessionAddresses& addresses(uint32_t slot) const {
    return slots_[slot].addresses;
  }
  // Installs the flows, which the program observes from now on, unless the slot
  // was given back in the meantime. Refuses the slot with ResourceExhausted if
  // the kernel has no room, with AlreadyExists if another session has these
  // addresses.
  absl::Status Add(uint32_t slot, const Exit& to_backend,
                   const Exit& to_client);
  void Refuse(uint32_t slot);
  // Removes the flows of a slot that was given back from the index. The slot is
  // free immediately if it was never in the index, else after a quarantine.
  void Clear(uint32_t slot, int64_t now_nanoseconds);
  // Withdraws the installed slots for which `concerns` is true. Their number.
  int WithdrawWhere(
      absl::FunctionRef<bool(const SessionAddresses&, const Exit& to_backend,
                             const Exit& to_client)>
          concerns);
  // Frees the slots whose quarantine is over.
  void FreeRested(int64_t now_nanoseconds);
  // See FlowOffload.
  SessionActivity LateActivity() const;

  udpgate_flow& flow(uint32_t slot, FlowDirection direction) const {
    return program_->flow(slot * 2 + static_cast<uint32_t>(direction));
  }
  udpgate_activity& activity(uint32_t slot, FlowDirection direction) const {
    return program_->activity(slot * 2 + static_cast<uint32_t>(direction));
  }

 private:
  enum class Phase : uint8_t {
    kFree,
    kWaiting,
    kInstalled,
    kRefused,
    kWithdrawn,
    kRemoved,  // given back; the owner frees it
  };
  struct Slot {
    // Written by the worker that took the slot, until it gives it back.
    SessionAddresses addresses;
    SessionActivity counted;  // what GiveBack has returned
    // Written by the owner.
    bool is_indexed = false;
    bool must_rest = false;
    Exit to_backend;
    Exit to_client;
  };
  struct Rest {
    uint32_t slot;
    int64_t end_nanoseconds;
  };

  // Changes to `phase`. False if the slot was given back in the meantime.
  bool MoveTo(Phase phase, uint32_t slot);
  void WriteRecords(uint32_t slot, const Exit& to_backend,
                    const Exit& to_client);
  void PassUp(uint32_t slot);
  void RemoveFromIndex(uint32_t slot);
  // False if the slot was given back in the meantime.
  bool Withdraw(uint32_t slot);
  void Free(uint32_t slot);

  Program* const program_;
  std::vector<Slot> slots_;
  // Separate from the slots, since LateActivity reads all of them.
  std::vector<std::atomic<Phase>> phases_;
  FreeSlots free_;
  RequestQueue requests_;
  std::deque<Rest> resting_;  // oldest first
  SessionActivity late_;      // of slots whose quarantine is over
};

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_INTERNAL_FLOW_TABLE_H_
