// How long things took, counted in buckets, so that recording is a few
// instructions and any percentile can be asked for afterwards.
#ifndef UDPGATE_TESTING_INTERNAL_BENCH_LATENCY_HISTOGRAM_H_
#define UDPGATE_TESTING_INTERNAL_BENCH_LATENCY_HISTOGRAM_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace udpgate {
namespace bench {

// Buckets are 1/64 of a power of two wide: a percentile is at most 1.6 % too
// high, and never too low. All memory lies in the object.
//
// Threads: one at a time.
class LatencyHistogram {
 public:
  // A negative time counts as 0, one above 18 minutes as that.
  void Record(int64_t nanoseconds) {
    const uint64_t value = static_cast<uint64_t>(
        std::clamp<int64_t>(nanoseconds, 0, kValueMaxNanoseconds));
    ++counts_[BucketOf(value)];
    ++count_;
    max_nanoseconds_ = std::max(max_nanoseconds_, static_cast<int64_t>(value));
  }

  // Adds all that the other one has recorded.
  void Add(const LatencyHistogram& other) {
    for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
    count_ += other.count_;
    max_nanoseconds_ = std::max(max_nanoseconds_, other.max_nanoseconds_);
  }

  int64_t count() const { return count_; }
  int64_t max_nanoseconds() const { return max_nanoseconds_; }

  // The time that `percent` of the recorded ones do not exceed; 0 where
  // nothing was recorded.
  int64_t PercentileNanoseconds(double percent) const {
    if (count_ == 0) return 0;
    const double wanted = percent / 100 * static_cast<double>(count_);
    int64_t seen = 0;
    for (size_t bucket = 0; bucket < counts_.size(); ++bucket) {
      seen += counts_[bucket];
      if (seen > 0 && static_cast<double>(seen) >= wanted) {
        return std::min(HighestOf(bucket), max_nanoseconds_);
      }
    }
    return max_nanoseconds_;
  }

 private:
  static constexpr int kStepBits = 6;
  static constexpr uint64_t kSteps = uint64_t{1} << kStepBits;
  static constexpr int kValueBits = 40;
  static constexpr int64_t kValueMaxNanoseconds =
      (int64_t{1} << kValueBits) - 1;

  // Below 2 * kSteps each value has a bucket of its own.
  static size_t BucketOf(uint64_t value) {
    if (value < kSteps) return value;
    const int shift = 63 - __builtin_clzll(value) - kStepBits;
    return static_cast<size_t>(shift) * kSteps + (value >> shift);
  }
  static int64_t HighestOf(size_t bucket) {
    if (bucket < 2 * kSteps) return static_cast<int64_t>(bucket);
    const size_t shift = bucket / kSteps - 1;
    const uint64_t step = bucket - shift * kSteps;
    return static_cast<int64_t>(((step + 1) << shift) - 1);
  }

  std::array<int64_t, (kValueBits - kStepBits + 1) * kSteps> counts_{};
  int64_t count_ = 0;
  int64_t max_nanoseconds_ = 0;
};

}  // namespace bench
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_BENCH_LATENCY_HISTOGRAM_H_
