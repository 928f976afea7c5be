// The logic of a `SessionKeeper`, without threads and clocks.
#ifndef UDPGATE_STORE_INTERNAL_KEEPER_CORE_H_
#define UDPGATE_STORE_INTERNAL_KEEPER_CORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/session_info.h"
#include "udpgate/session_observer.h"
#include "udpgate/session_store.h"
#include "udpgate/store/internal/disconnect_memory.h"
#include "udpgate/store/internal/follower.h"
#include "udpgate/store/internal/keeper_context.h"
#include "udpgate/store/internal/kept_gateway.h"
#include "udpgate/store/internal/lease.h"
#include "udpgate/store/internal/newcomers.h"
#include "udpgate/store/internal/purge.h"
#include "udpgate/store/internal/records.h"
#include "udpgate/store/internal/recovery.h"
#include "udpgate/store/internal/store_calls.h"

namespace udpgate {
namespace store {
namespace internal {

// Every call is made between two iterations of its owner's loop:
//
//   core.SetTime(now, wall);
//   ... calls, and what StoreCalls::Post was given ...
//   core.Tick();
//   ... wait until core.next_nanoseconds(), or something happens ...
//
// Threads: one.
class KeeperCore {
 public:
  // `options` must outlive it. `seed` gives the run its number.
  KeeperCore(const SessionKeeperOptions* options,
             std::shared_ptr<SessionStore> store, StoreCalls::Post post,
             uint64_t seed);
  KeeperCore(const KeeperCore&) = delete;
  KeeperCore& operator=(const KeeperCore&) = delete;

  // The monotonic clock, and the time of day.
  void SetTime(int64_t now_nanoseconds, absl::Time now_wall);

  // The gateway whose sessions it keeps; must outlive it.
  void SetGateway(KeptGateway* gateway);
  // Continues the sessions of the former process of this gateway, as soon as
  // the store replies.
  void BeginRecovery();
  // The store has replied, and all sessions were continued.
  bool is_recovered() const {
    return has_begun_recovery_ && !must_recover_ && recovery_.IsIdle();
  }
  bool has_lease() const { return lease_.has_begun(); }
  absl::Status recovery_status() const { return recovery_.status(); }

  // The gateway serves now, so that sessions can be listed.
  void OnServing() { sweep_nanoseconds_ = context_.now_nanoseconds; }
  void OnEvent(const SessionEvent& event);
  // An event was lost before it got here.
  void OnEventDropped();
  void OnDisconnect(const DisconnectTarget& target);
  // See Newcomers.
  void Ask(const SocketAddress& client, absl::Duration timeout,
           Newcomers::Answer answer);

  void Promote();
  void Demote();
  bool is_standby() const { return context_.is_standby; }

  // For the new process of a takeover; InvalidArgument if `state` cannot be
  // read.
  std::string ExportRun() const;
  absl::Status ContinueRun(absl::string_view state);

  // No further work begins but what waits; the lease ends, if the run does.
  void BeginStop(bool ends_run);
  bool HasStopped() const;

  void Tick();
  // When to call Tick again if nothing happens before.
  int64_t next_nanoseconds() const;
  // The store is not asked for newcomers before.
  int64_t find_nanoseconds() const { return newcomers_.find_nanoseconds(); }

  const SessionKeeperStats& stats() const { return context_.stats; }
  bool is_fenced() const { return context_.is_fenced; }
  uint64_t run() const { return context_.run; }
  const Records& records() const { return records_; }

 private:
  enum class Promotion : uint8_t { kNone, kListing, kContinuing, kListingRest };

  bool IsQuiet() const;
  void WatchClock();
  void WatchDrops();
  void RefreshSome();
  void Sweep();
  void TickRecovery();
  void TickPromotion();
  void ServePromoted();
  void ListEverything();
  StoredSession RecordOf(const SessionEvent& event) const;
  StoredSession RecordOf(const SessionInfo& info) const;

  KeeperContext context_;
  StoreCalls calls_;
  DisconnectMemory memory_;
  Records records_;
  Lease lease_;
  Newcomers newcomers_;
  Purge purge_;
  Recovery recovery_;
  Follower follower_;

  bool has_begun_recovery_ = false;
  bool must_recover_ = false;
  bool must_log_recovery_ = false;  // once it is complete
  int64_t recovery_begin_nanoseconds_ = 0;
  int64_t recover_nanoseconds_ = 0;  // when to try again
  bool is_run_continued_ = false;    // until the first sweep
  int64_t sweep_nanoseconds_ = kNever;
  int64_t swept_nanoseconds_ = 0;
  int64_t refresh_nanoseconds_ = 0;
  int64_t refreshed_nanoseconds_ = 0;
  int64_t watch_nanoseconds_ = 0;
  uint64_t dropped_events_ = 0;  // by the gateway, so far
  int64_t uncertain_nanoseconds_ = kNever;
  absl::optional<absl::Time> clock_offset_;  // the time of day at 0
  Promotion promotion_ = Promotion::kNone;
  int64_t promotion_deadline_ = 0;
  int64_t list_again_nanoseconds_ = kNever;  // after a failure
  uint64_t promotion_epoch_ = 0;
  bool is_listing_gateways_ = false;
  bool is_stopping_ = false;
  bool ends_run_ = false;
};

}  // namespace internal
}  // namespace store
}  // namespace udpgate

#endif  // UDPGATE_STORE_INTERNAL_KEEPER_CORE_H_
