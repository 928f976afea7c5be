#include "testing/internal/bench/probe.h"

#include <algorithm>
#include <cstring>

namespace udpgate {
namespace bench {
namespace {

struct Header {
  Probe probe;
  uint64_t check;
};
static_assert(sizeof(Header) == kProbeBytesMin, "no padding, no gap");

uint64_t CheckOf(const Probe& probe) {
  uint64_t check = probe.run;
  for (const uint64_t word : {uint64_t{probe.client}, probe.sequence,
                              static_cast<uint64_t>(probe.sent_nanoseconds)}) {
    check = (check ^ word) * 0x9e3779b97f4a7c15;
    check ^= check >> 32;
  }
  return check;
}

// The eight bytes that belong at `offset`.
uint64_t PatternAt(uint64_t check, size_t offset) {
  return (check + offset) * 0xd6e8feb86659fd93;
}

}  // namespace

void WriteProbe(const Probe& probe, absl::Span<char> datagram) {
  const Header header{probe, CheckOf(probe)};
  std::memcpy(datagram.data(), &header, sizeof(header));
  size_t offset = sizeof(header);
  for (; offset + 8 <= datagram.size(); offset += 8) {
    const uint64_t word = PatternAt(header.check, offset);
    std::memcpy(datagram.data() + offset, &word, 8);
  }
  const uint64_t word = PatternAt(header.check, offset);
  std::memcpy(datagram.data() + offset, &word, datagram.size() - offset);
}

absl::optional<Probe> ReadProbe(absl::Span<const char> datagram) {
  if (datagram.size() < sizeof(Header)) return absl::nullopt;
  Header header;
  std::memcpy(&header, datagram.data(), sizeof(header));
  if (header.check != CheckOf(header.probe)) return absl::nullopt;
  size_t offset = sizeof(header);
  for (; offset + 8 <= datagram.size(); offset += 8) {
    const uint64_t word = PatternAt(header.check, offset);
    if (std::memcmp(datagram.data() + offset, &word, 8) != 0) {
      return absl::nullopt;
    }
  }
  const uint64_t word = PatternAt(header.check, offset);
  if (std::memcmp(datagram.data() + offset, &word, datagram.size() - offset) !=
      0) {
    return absl::nullopt;
  }
  return header.probe;
}

SequenceTracker::Verdict SequenceTracker::Note(uint64_t sequence) {
  if (sequence >= next_) {
    const uint64_t skipped = std::min(sequence - next_, kKnown);
    for (uint64_t i = sequence - skipped; i < sequence; ++i) Set(i, false);
    Set(sequence, true);
    next_ = sequence + 1;
    return Verdict::kInOrder;
  }
  if (next_ - sequence > kKnown) return Verdict::kReordered;
  if (Get(sequence)) return Verdict::kDuplicate;
  Set(sequence, true);
  return Verdict::kReordered;
}

}  // namespace bench
}  // namespace udpgate
