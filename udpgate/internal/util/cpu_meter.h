// How busy threads are.
#ifndef UDPGATE_INTERNAL_UTIL_CPU_METER_H_
#define UDPGATE_INTERNAL_UTIL_CPU_METER_H_

#include <pthread.h>
#include <time.h>

#include <cstdint>

#include "absl/types/optional.h"

namespace udpgate {
namespace internal {

// The CPU clock of the calling thread. Any thread can read it while that thread
// runs (pthread_getcpuclockid(3)).
inline clockid_t CpuClockOfThisThread() {
  clockid_t clock = CLOCK_THREAD_CPUTIME_ID;
  pthread_getcpuclockid(pthread_self(), &clock);
  return clock;
}

inline int64_t CpuNanoseconds(clockid_t cpu_clock) {
  timespec time{};
  clock_gettime(cpu_clock, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// Measures which share of consecutive periods was spent computing.
// Threads: one.
class CpuMeter {
 public:
  explicit CpuMeter(int64_t stretch_nanoseconds)
      : stretch_nanoseconds_(stretch_nanoseconds) {}

  // When the next call of `End` is due.
  bool IsOver(int64_t now_nanoseconds) const {
    return now_nanoseconds - begin_nanoseconds_ >= stretch_nanoseconds_;
  }

  // Ends a period. Returns how many percent of it were CPU time, from
  // `cpu_nanoseconds`, the total of one thread or of several. Nothing if the
  // period was too long to describe the present.
  absl::optional<int64_t> End(int64_t now_nanoseconds,
                              int64_t cpu_nanoseconds) {
    const int64_t elapsed_nanoseconds = now_nanoseconds - begin_nanoseconds_;
    const int64_t used_nanoseconds = cpu_nanoseconds - begin_cpu_nanoseconds_;
    begin_nanoseconds_ = now_nanoseconds;
    begin_cpu_nanoseconds_ = cpu_nanoseconds;
    constexpr int64_t kStaleStretches = 4;
    if (elapsed_nanoseconds <= 0 ||
        elapsed_nanoseconds > kStaleStretches * stretch_nanoseconds_) {
      return absl::nullopt;
    }
    return used_nanoseconds * 100 / elapsed_nanoseconds;
  }

 private:
  const int64_t stretch_nanoseconds_;
  int64_t begin_nanoseconds_ = 0;
  int64_t begin_cpu_nanoseconds_ = 0;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_UTIL_CPU_METER_H_
