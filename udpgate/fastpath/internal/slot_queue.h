// Lock-free queues between the workers and the offload's thread: the data path
// never waits.
#ifndef UDPGATE_FASTPATH_INTERNAL_SLOT_QUEUE_H_
#define UDPGATE_FASTPATH_INTERNAL_SLOT_QUEUE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/optional.h"

namespace udpgate {
namespace fastpath {
namespace internal {

// The free slots; last in, first out.
// Threads: any.
class FreeSlots {
 public:
  // Slots from 0 to `count` - 1. Empty at first.
  explicit FreeSlots(uint32_t count) : next_(count) {}

  void Put(uint32_t slot) {
    uint64_t top = top_.load(std::memory_order_relaxed);
    do {
      next_[slot].store(static_cast<uint32_t>(top), std::memory_order_relaxed);
    } while (!top_.compare_exchange_weak(top, Changed(top, slot),
                                         std::memory_order_release,
                                         std::memory_order_relaxed));
  }

  absl::optional<uint32_t> Take() {
    uint64_t top = top_.load(std::memory_order_acquire);
    for (;;) {
      const auto slot = static_cast<uint32_t>(top);
      if (slot == kNone) return absl::nullopt;
      // Another thread may have taken it; then the number of changes differs.
      const uint32_t next = next_[slot].load(std::memory_order_relaxed);
      if (top_.compare_exchange_weak(top, Changed(top, next),
                                     std::memory_order_acquire,
                                     std::memory_order_acquire)) {
        return slot;
      }
    }
  }

 private:
  static constexpr uint32_t kNone = UINT32_MAX;

  static uint64_t Changed(uint64_t top, uint32_t slot) {
    return ((top >> 32) + 1) << 32 | slot;
  }

  // The number of changes so far, and below it the slot on top.
  std::atomic<uint64_t> top_{kNone};
  std::vector<std::atomic<uint32_t>> next_;
};

// Requests of the workers, first in, first out. The caller must never queue
// more requests than `room`: Push does not check. Threads: `Push` any, `Pop`
// one at a time.
class RequestQueue {
 public:
  explicit RequestQueue(size_t room) : cells_(PowerOfTwo(room)) {}

  // Less than UINT32_MAX.
  void Push(uint32_t request) {
    // Orders this push after the Pop that emptied the cell, through all earlier
    // pushes.
    const uint64_t place = tail_.fetch_add(1, std::memory_order_acq_rel);
    cells_[place % cells_.size()].store(request + 1, std::memory_order_release);
  }

  absl::optional<uint32_t> Pop() {
    std::atomic<uint32_t>& cell = cells_[head_ % cells_.size()];
    const uint32_t value = cell.load(std::memory_order_acquire);
    if (value == 0) return absl::nullopt;
    cell.store(0, std::memory_order_relaxed);
    ++head_;
    return value - 1;
  }

 private:
  static size_t PowerOfTwo(size_t at_least) {
    size_t size = 1;
    while (size < at_least) size *= 2;
    return size;
  }

  std::vector<std::atomic<uint32_t>> cells_;  // request + 1, or 0
  std::atomic<uint64_t> tail_{0};
  uint64_t head_ = 0;
};

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_INTERNAL_SLOT_QUEUE_H_
