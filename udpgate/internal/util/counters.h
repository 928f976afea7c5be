// The numbers behind `ProxyStats`, one set for each shard and each reader.
#ifndef UDPGATE_INTERNAL_UTIL_COUNTERS_H_
#define UDPGATE_INTERNAL_UTIL_COUNTERS_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "udpgate/proxy_stats.h"

namespace udpgate {
namespace internal {

// A number with one writer at a time, readable from any thread. Uses a
// plain load and store: a tenth of the cost of fetch_add, which only several
// writers need.
class Counter {
 public:
  void Add(uint64_t amount = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + amount,
                 std::memory_order_relaxed);
  }
  void Subtract(uint64_t amount = 1) { Add(-amount); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// On cache lines of its own, since its owner writes it for each datagram.
struct alignas(64) Counters {
#define UDPGATE_MEMBER(kind, name, help) Counter name;
  UDPGATE_PROXY_STATS(UDPGATE_MEMBER)
#undef UDPGATE_MEMBER
  std::array<Counter, kDropReasonCount> datagrams_dropped;
  std::array<Counter, kEndReasonCount> sessions_ended;
  std::array<Counter, kReopenReasonCount> sessions_reopened;
  std::array<Counter, kResolveBucketCount> resolves_by_duration;
  Counter resolve_nanoseconds_total;

  void Drop(DropReason reason, uint64_t count = 1) {
    datagrams_dropped[static_cast<size_t>(reason)].Add(count);
  }
  void End(EndReason reason) {
    sessions_ended[static_cast<size_t>(reason)].Add();
  }

  void Reopen(ReopenReason reason) {
    sessions_reopened[static_cast<size_t>(reason)].Add();
  }

  void Resolve(int64_t nanoseconds) {
    const double seconds = static_cast<double>(nanoseconds) / 1e9;
    size_t bucket = 0;
    while (bucket + 1 < kResolveBucketCount &&
           seconds > kResolveSecondsBounds[bucket]) {
      ++bucket;
    }
    resolves_by_duration[bucket].Add();
    resolve_nanoseconds_total.Add(static_cast<uint64_t>(nanoseconds));
  }

  void AddTo(ProxyStats* stats) const {
#define UDPGATE_ADD(kind, name, help) stats->name += name.value();
    UDPGATE_PROXY_STATS(UDPGATE_ADD)
#undef UDPGATE_ADD
    for (size_t i = 0; i < kDropReasonCount; ++i) {
      stats->datagrams_dropped[i] += datagrams_dropped[i].value();
    }
    for (size_t i = 0; i < kEndReasonCount; ++i) {
      stats->sessions_ended[i] += sessions_ended[i].value();
    }
    for (size_t i = 0; i < kReopenReasonCount; ++i) {
      stats->sessions_reopened[i] += sessions_reopened[i].value();
    }
    for (size_t i = 0; i < kResolveBucketCount; ++i) {
      stats->resolves_by_duration[i] += resolves_by_duration[i].value();
    }
    stats->resolve_nanoseconds_total += resolve_nanoseconds_total.value();
  }
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_UTIL_COUNTERS_H_
