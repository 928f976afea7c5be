// What the load generator sends, and how it tells from what comes back that
// nothing was damaged, mixed up, doubled or overtaken.
#ifndef UDPGATE_TESTING_INTERNAL_BENCH_PROBE_H_
#define UDPGATE_TESTING_INTERNAL_BENCH_PROBE_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/types/optional.h"
#include "absl/types/span.h"

namespace udpgate {
namespace bench {

// One datagram's beginning. The bytes behind it, up to the datagram's size,
// follow from it.
struct Probe {
  uint32_t run = 0;  // another one for each run of the generator
  uint32_t client = 0;
  uint64_t sequence = 0;  // counts up from 0 within a client
  int64_t sent_nanoseconds = 0;
};

inline constexpr size_t kProbeBytesMin = 32;

// Fills `datagram`, at least kProbeBytesMin long.
void WriteProbe(const Probe& probe, absl::Span<char> datagram);

// What WriteProbe wrote; nothing where a byte differs.
absl::optional<Probe> ReadProbe(absl::Span<const char> datagram);

// Follows the replies that one client gets. Threads: one at a time.
class SequenceTracker {
 public:
  enum class Verdict {
    kInOrder,
    kReordered,  // one with a higher number came before
    kDuplicate,  // came before
  };

  Verdict Note(uint64_t sequence);

  // One above the highest number that came.
  uint64_t next() const { return next_; }

 private:
  // Of so many numbers below `next_` it is known whether they came; what is
  // older counts as reordered.
  static constexpr uint64_t kKnown = 1024;

  bool Get(uint64_t sequence) const {
    return (seen_[sequence % kKnown / 64] >> (sequence % 64) & 1) != 0;
  }
  void Set(uint64_t sequence, bool is_seen) {
    const uint64_t bit = uint64_t{1} << (sequence % 64);
    uint64_t& word = seen_[sequence % kKnown / 64];
    word = is_seen ? word | bit : word & ~bit;
  }

  uint64_t next_ = 0;
  std::array<uint64_t, kKnown / 64> seen_{};
};

}  // namespace bench
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_BENCH_PROBE_H_
