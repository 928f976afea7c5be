#include "udpgate/store/internal/lease.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace udpgate {
namespace store {
namespace internal {

GatewayLease Lease::Own() const {
  return {context_->options->gateway_id, context_->run,
          context_->options->forward_address};
}

void Lease::Tick() {
  context_->stats.lease_age =
      has_begun()
          ? absl::Nanoseconds(context_->now_nanoseconds - renewed_nanoseconds_)
          : absl::InfiniteDuration();
  if (has_ended_ || is_in_flight_ ||
      context_->now_nanoseconds < renew_nanoseconds_) {
    return;
  }
  is_in_flight_ = true;
  renew_nanoseconds_ = context_->After(context_->options->lease_interval);
  calls_->RenewLease(Own(), context_->options->lease_lifetime,
                     [this, sent = context_->now_nanoseconds](
                         absl::StatusOr<absl::optional<GatewayLease>> former) {
                       Finish(sent, std::move(former));
                     });
}

void Lease::Finish(int64_t sent_nanoseconds,
                   absl::StatusOr<absl::optional<GatewayLease>> former) {
  is_in_flight_ = false;
  if (!former.ok()) {
    // A store that does not reply is asked again soon, at first: it may not be
    // connected yet, and recovery waits for it.
    renew_nanoseconds_ =
        std::min(renew_nanoseconds_, context_->After(retry_interval_));
    retry_interval_ =
        std::min(2 * retry_interval_, context_->options->lease_interval);
    return;
  }
  retry_interval_ = kRetryIntervalMin;
  const bool is_first = !has_begun();
  const bool is_another =
      former->has_value() && (*former)->run != context_->run;
  const bool has_lapsed =
      !is_first &&
      sent_nanoseconds - renewed_nanoseconds_ >=
          absl::ToInt64Nanoseconds(context_->options->lease_lifetime);
  renewed_nanoseconds_ = sent_nanoseconds;
  // At first it is the former process of this gateway, which has died.
  if (is_another && !is_first) {
    context_->is_fenced = true;
    context_->Log(
        LogSeverity::kError, LogTopic::kFence,
        absl::StrCat("session store: another process uses the gateway id ",
                     context_->options->gateway_id,
                     "; this one touches no record until it is gone"));
    return;
  }
  const bool was_fenced = std::exchange(context_->is_fenced, false);
  if (was_fenced || has_lapsed) change_ = Change::kRegained;
}

void Lease::End() {
  if (std::exchange(has_ended_, true)) return;
  calls_->EndLease(Own(), [](const absl::StatusOr<SessionStore::Outcome>&) {});
}

int64_t Lease::next_nanoseconds() const {
  return has_ended_ || is_in_flight_ ? kNever : renew_nanoseconds_;
}

}  // namespace internal
}  // namespace store
}  // namespace udpgate
