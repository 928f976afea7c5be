// A limit of events per second.
#ifndef UDPGATE_INTERNAL_UTIL_RATE_H_
#define UDPGATE_INTERNAL_UTIL_RATE_H_

#include <cstdint>

namespace udpgate {
namespace internal {

// A limit of events per second, which is also the burst size. A token bucket
// stored as one number: the time when it will be full again (the "virtual
// scheduling algorithm" of ITU-T I.371). Threads: a plain value.
class Rate {
 public:
  // 0: without limit.
  explicit Rate(int64_t events_per_second)
      : interval_nanoseconds_(events_per_second > 0
                                  ? kSecondNanoseconds / events_per_second
                                  : 0) {}

  bool is_limited() const { return interval_nanoseconds_ > 0; }

  // True if one more event is allowed now. It is then taken from the bucket,
  // `full_nanoseconds`.
  bool Fits(int64_t now_nanoseconds, int64_t* full_nanoseconds) const {
    const int64_t after_nanoseconds =
        (*full_nanoseconds > now_nanoseconds ? *full_nanoseconds
                                             : now_nanoseconds) +
        interval_nanoseconds_;
    if (after_nanoseconds - now_nanoseconds > kSecondNanoseconds) return false;
    *full_nanoseconds = after_nanoseconds;
    return true;
  }

 private:
  static constexpr int64_t kSecondNanoseconds = 1'000'000'000;

  int64_t interval_nanoseconds_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_UTIL_RATE_H_
