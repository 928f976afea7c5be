#include "udpgate/nethernet/internal/rate_table.h"

#include "udpgate/internal/util/rate.h"

namespace udpgate {
namespace nethernet {
namespace internal {
namespace {

using ::udpgate::internal::ClientNetwork;
using ::udpgate::internal::MutexLock;
using ::udpgate::internal::Rate;

// A sweep visits all entries, so a flood must not cause one for each event.
constexpr int64_t kSweepPeriodNanoseconds = 100'000'000;

}  // namespace

RateTable::Verdict RateTable::Take(const SocketAddress& client,
                                   int64_t events_per_second,
                                   size_t networks_max,
                                   int64_t now_nanoseconds) {
  const Rate rate(events_per_second);
  if (!rate.is_limited()) return Verdict::kFits;
  const ClientNetwork network(client);
  MutexLock lock(&mutex_);
  auto found = full_nanoseconds_.find(network);
  if (found == full_nanoseconds_.end()) {
    if (full_nanoseconds_.size() >= networks_max &&
        now_nanoseconds >= next_sweep_nanoseconds_) {
      next_sweep_nanoseconds_ = now_nanoseconds + kSweepPeriodNanoseconds;
      absl::erase_if(full_nanoseconds_,
                     [now_nanoseconds](const Full::value_type& entry) {
                       return entry.second <= now_nanoseconds;
                     });
    }
    if (full_nanoseconds_.size() >= networks_max) return Verdict::kTableFull;
    found = full_nanoseconds_.emplace(network, INT64_MIN).first;
  }
  return rate.Fits(now_nanoseconds, &found->second) ? Verdict::kFits
                                                    : Verdict::kTooMany;
}

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
