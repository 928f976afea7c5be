// The sessions that the program in the kernel knows: which slot is whose.
//
// A slot's life, and whose hands it is in:
//
//   free --Take--> waiting --Add--> installed --Withdraw--> withdrawn
//    ^   (a shard)    |  \                |                    |
//    |                |   --Refuse--> refused                  |
//    |                |                   |                    |
//    |                +---- GiveBack -----+------- (a shard) --+
//    |                        |
//    +------ (the owner) -- removed, resting
//
// Shards change no index of the kernel's and take no lock: what they want of a
// slot is a store to memory that program and owner see, and a number in a queue
// for the owner. While a slot rests nobody writes its records, so that a
// program that was at work while the session was removed still finds them as
// they were.
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

class FlowTable {
 public:
  // How long a slot rests. A program runs for some microseconds.
  static constexpr int64_t kRestNanoseconds = 1'000'000'000;

  // `program` must outlive the table. `is_adopting`: its maps have flows of
  // another process, which are left alone until FinishAdoption.
  FlowTable(Program* program, int sessions_max, bool is_adopting = false);

  // For shards. Threads: any, but for one slot one at a time. None waits, makes
  // a system call or allocates memory.

  // A free slot, of which the owner hears in NextRequest; none where all are
  // taken or rest. The program relays nothing of it yet.
  absl::optional<uint32_t> Take(const SessionAddresses& addresses);
  FlowState state(uint32_t slot) const;
  void PublishHandled(uint32_t slot, FlowDirection direction,
                      int64_t receive_time_nanoseconds);
  void LowerPacketBytesMax(uint32_t slot, FlowDirection direction,
                           uint32_t bytes);
  SessionActivity ReadActivity(uint32_t slot) const;
  // From now on the program passes up what it has not begun with.
  SessionActivity GiveBack(uint32_t slot);

  // For the owner. Threads: one at a time.

  // Before FinishAdoption, and before shards use the slot: it is installed, for
  // this session. False where there is no flow of such a session, or it was
  // withdrawn. Changes nothing in the maps.
  bool Adopt(uint32_t slot, const SessionAddresses& addresses);
  // The flows of slots that nobody has adopted end; others may have these at
  // once where they were never used, else after a rest. A slot that was adopted
  // and of which the kernel knows one flow only is withdrawn.
  void FinishAdoption(int64_t now_nanoseconds);
  // By which flows leave.
  std::set<int> ExitInterfaces() const;

  // What a shard has asked for next, if anything; in the order in which they
  // asked. A slot that was taken needs Add or Refuse; one that was given back
  // needs Clear.
  struct Request {
    uint32_t slot;
    bool is_given_back;
  };
  absl::optional<Request> NextRequest();
  const SessionAddresses& addresses(uint32_t slot) const {
    return slots_[slot].addresses;
  }
  // The program observes the flows from now on; unless the slot was given back
  // meanwhile. ResourceExhausted where the kernel has no room, AlreadyExists
  // where another session has these addresses; refuses the slot then.
  absl::Status Add(uint32_t slot, const Exit& to_backend,
                   const Exit& to_client);
  void Refuse(uint32_t slot);
  // Takes the flows of a slot that was given back out of the index. Others may
  // have it at once where the program has never seen it, else after its rest.
  void Clear(uint32_t slot, int64_t now_nanoseconds);
  // Withdraws the slots for which `concerns` says so. Their number.
  int WithdrawWhere(
      absl::FunctionRef<bool(const SessionAddresses&, const Exit& to_backend,
                             const Exit& to_client)>
          concerns);
  // Lets others have the slots whose rest is over.
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
    kRemoved,  // given back; the rest is the owner's
  };
  struct Slot {
    // Of whoever has taken it, until it is given back.
    SessionAddresses addresses;
    SessionActivity counted;  // what GiveBack has returned
    // Of the owner.
    bool is_indexed = false;
    bool must_rest = false;
    Exit to_backend;
    Exit to_client;
  };
  struct Rest {
    uint32_t slot;
    int64_t end_nanoseconds;
  };

  // To `phase`, unless the slot was given back meanwhile.
  bool MoveTo(Phase phase, uint32_t slot);
  void WriteRecords(uint32_t slot, const Exit& to_backend,
                    const Exit& to_client);
  void PassUp(uint32_t slot);
  void RemoveFromIndex(uint32_t slot);
  // Whether it was not given back meanwhile.
  bool Withdraw(uint32_t slot);
  void Free(uint32_t slot);

  Program* const program_;
  std::vector<Slot> slots_;
  // Apart from the slots, since LateActivity looks at all of them.
  std::vector<std::atomic<Phase>> phases_;
  FreeSlots free_;
  RequestQueue requests_;
  std::deque<Rest> resting_;  // the longest first
  SessionActivity late_;      // of slots whose rest is over
};

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_INTERNAL_FLOW_TABLE_H_
