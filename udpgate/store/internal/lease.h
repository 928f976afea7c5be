// The claim of a gateway that it lives.
#ifndef UDPGATE_STORE_INTERNAL_LEASE_H_
#define UDPGATE_STORE_INTERNAL_LEASE_H_

#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/session_store.h"
#include "udpgate/store/internal/keeper_context.h"
#include "udpgate/store/internal/store_calls.h"

namespace udpgate {
namespace store {
namespace internal {

// Renews the lease, and fences the gateway while another process uses its id.
//
// Threads: one.
class Lease {
 public:
  // Both must outlive it.
  Lease(KeeperContext* context, StoreCalls* calls)
      : context_(context), calls_(calls) {}
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  // What a renewal has found out.
  enum class Change : uint8_t {
    kNone,
    kRegained,  // it had run out, or another process had the id
  };

  void Tick();
  // Since the last call.
  Change TakeChange() { return std::exchange(change_, Change::kNone); }
  // Lets others adopt the sessions at once.
  void End();
  // It has been renewed at least once.
  bool has_begun() const { return renewed_nanoseconds_ != kNever; }
  bool has_ended() const { return has_ended_; }
  int64_t next_nanoseconds() const;

 private:
  void Finish(int64_t sent_nanoseconds,
              absl::StatusOr<absl::optional<GatewayLease>> former);
  GatewayLease Own() const;

  static constexpr absl::Duration kRetryIntervalMin = absl::Milliseconds(5);

  KeeperContext* const context_;
  StoreCalls* const calls_;
  int64_t renew_nanoseconds_ = 0;
  // After a failure; doubles with each.
  absl::Duration retry_interval_ = kRetryIntervalMin;
  int64_t renewed_nanoseconds_ = kNever;
  bool is_in_flight_ = false;
  bool has_ended_ = false;
  Change change_ = Change::kNone;
};

}  // namespace internal
}  // namespace store
}  // namespace udpgate

#endif  // UDPGATE_STORE_INTERNAL_LEASE_H_
