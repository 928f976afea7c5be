// Which counters of one sender were seen.
#ifndef UDPGATE_FORWARD_INTERNAL_REPLAY_WINDOW_H_
#define UDPGATE_FORWARD_INTERNAL_REPLAY_WINDOW_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace udpgate {
namespace forward {
namespace internal {

// A sliding window of bits (RFC 6479): envelopes that the network has reordered
// by less than `kWindow` pass once each; older ones, and repeated ones, do not.
// 264 bytes. Threads: one at a time.
class ReplayWindow {
 public:
  static constexpr uint64_t kWindow = 1984;

  // Whether it was not seen, and is not too old to know. Cheap: asked before
  // the seal is checked.
  bool IsNew(uint64_t counter) const {
    if (counter > highest_) return true;
    if (is_empty_) return true;
    if (highest_ - counter >= kWindow) return false;
    return (words_[WordOf(counter)] >> (counter % kWordBits) & 1) == 0;
  }

  // After the seal was checked, and if it is new.
  void Note(uint64_t counter) {
    if (is_empty_ || counter > highest_) Advance(counter);
    words_[WordOf(counter)] |= uint64_t{1} << (counter % kWordBits);
  }

 private:
  static constexpr uint64_t kWordBits = 64;
  // One word more than the window, so that a whole one can be cleared.
  static constexpr size_t kWords = kWindow / kWordBits + 1;

  static size_t WordOf(uint64_t counter) {
    return (counter / kWordBits) % kWords;
  }

  void Advance(uint64_t counter) {
    const uint64_t last =
        is_empty_ ? counter / kWordBits : highest_ / kWordBits;
    const uint64_t next = counter / kWordBits;
    if (is_empty_ || next - last >= kWords) {
      words_.fill(0);
    } else {
      for (uint64_t word = last + 1; word <= next; ++word) {
        words_[word % kWords] = 0;
      }
    }
    is_empty_ = false;
    highest_ = counter;
  }

  std::array<uint64_t, kWords> words_{};
  uint64_t highest_ = 0;
  bool is_empty_ = true;
};

}  // namespace internal
}  // namespace forward
}  // namespace udpgate

#endif  // UDPGATE_FORWARD_INTERNAL_REPLAY_WINDOW_H_
