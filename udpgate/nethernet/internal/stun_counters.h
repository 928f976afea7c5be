// Counts the first datagrams of clients by result. Threads: any.
#ifndef UDPGATE_NETHERNET_INTERNAL_STUN_COUNTERS_H_
#define UDPGATE_NETHERNET_INTERNAL_STUN_COUNTERS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "udpgate/nethernet/join.h"

namespace udpgate {
namespace nethernet {
namespace internal {

enum class StunResult : uint8_t {
  kKnown,
  kUnknownUfrag,
  kWrongIntegrity,
  kMalformed,
  kAddressLimit,
  kDtls,
  kCount,
};

class StunCounters {
 public:
  void Count(StunResult result) {
    counts_[static_cast<size_t>(result)].fetch_add(1,
                                                   std::memory_order_relaxed);
  }
  void AddTo(JoinTableStats* stats) const {
    stats->stun_known += Get(StunResult::kKnown);
    stats->stun_unknown_ufrag += Get(StunResult::kUnknownUfrag);
    stats->stun_wrong_integrity += Get(StunResult::kWrongIntegrity);
    stats->stun_malformed += Get(StunResult::kMalformed);
    stats->stun_address_limit += Get(StunResult::kAddressLimit);
    stats->dtls_without_session += Get(StunResult::kDtls);
  }

 private:
  uint64_t Get(StunResult result) const {
    return counts_[static_cast<size_t>(result)].load(std::memory_order_relaxed);
  }

  std::array<std::atomic<uint64_t>, static_cast<size_t>(StunResult::kCount)>
      counts_{};
};

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_STUN_COUNTERS_H_
