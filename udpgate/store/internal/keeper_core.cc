#include "udpgate/store/internal/keeper_core.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "udpgate/internal/util/invalid_text.h"

namespace udpgate {
namespace store {
namespace internal {
namespace {

// A difference that no adjustment of a clock explains.
constexpr absl::Duration kClockJump = absl::Seconds(1);

// After something was dropped; also the least between two comparisons.
constexpr absl::Duration kSweepSoon = absl::Seconds(1);

// After a change whose result is unknown, until it has been executed or never
// will be.
constexpr absl::Duration kUncertainTime = absl::Seconds(15);

// Records are refreshed in this share of their lifetime.
constexpr double kRefreshShare = 0.4;

// Recovery is tried again so often.
constexpr absl::Duration kRecoveryInterval = absl::Seconds(1);

// Events that a new process gets, of single clients and others each.
constexpr size_t kExportedEventsMax = 4096;

constexpr absl::string_view kExportVersion = "1";

std::string RecoveredText(const SessionKeeperStats& stats,
                          absl::Duration duration) {
  return absl::StrCat(
      "session store: continues ", stats.recovered,
      " sessions of the former process, ", stats.recovered_on_other_port,
      " of them on another source port, and lost ", stats.recovery_failed,
      ", in ",
      absl::FormatDuration(absl::Trunc(duration, absl::Milliseconds(1))));
}

}  // namespace

KeeperCore::KeeperCore(const SessionKeeperOptions* options,
                       std::shared_ptr<SessionStore> store,
                       StoreCalls::Post post, uint64_t seed)
    : context_([options, seed] {
        KeeperContext context;
        context.options = options;
        context.run = seed;
        // Two runs hardly have the same claims.
        context.claim_count = (seed * 0x9e3779b97f4a7c15) >> 2;
        context.is_standby = options->is_standby;
        return context;
      }()),
      calls_(&context_, std::move(store), std::move(post)),
      memory_(&context_),
      records_(&context_, &calls_, &memory_),
      lease_(&context_, &calls_),
      newcomers_(&context_, &calls_, &memory_),
      purge_(&context_, &calls_, &memory_, &records_),
      recovery_(&context_, &calls_, &memory_, &records_),
      follower_(&context_, &calls_) {
  records_.on_replaced = [this](const StoredSession& found) {
    // The gateway that had the address was still writing.
    if (promotion_ != Promotion::kNone) recovery_.Add(found);
  };
}

void KeeperCore::SetTime(int64_t now_nanoseconds, absl::Time now_wall) {
  context_.now_nanoseconds = now_nanoseconds;
  context_.now_wall = now_wall;
}

void KeeperCore::SetGateway(KeptGateway* gateway) {
  context_.gateway = gateway;
  gateway->SetStandby(context_.is_standby);
}

void KeeperCore::BeginRecovery() {
  has_begun_recovery_ = true;
  must_recover_ = !context_.is_standby;
  must_log_recovery_ = must_recover_;
  recover_nanoseconds_ = context_.now_nanoseconds;
  recovery_begin_nanoseconds_ = context_.now_nanoseconds;
}

StoredSession KeeperCore::RecordOf(const SessionEvent& event) const {
  StoredSession record;
  record.client = event.client;
  record.local = event.local;
  record.backend = event.backend;
  record.relay = event.relay;
  record.label = event.label;
  if (event.tag != nullptr) {
    record.tag_key = event.tag->key();
    record.tag_text = event.tag->text();
  }
  record.gateway_id = context_.options->gateway_id;
  record.token = {context_.run, event.session_id};
  return record;
}

StoredSession KeeperCore::RecordOf(const SessionInfo& info) const {
  StoredSession record;
  record.client = info.client;
  record.local = info.local;
  record.backend = info.backend;
  record.relay = info.relay;
  record.label = info.label;
  record.tag_key = info.tag_key;
  record.tag_text = info.tag;
  record.gateway_id = context_.options->gateway_id;
  record.token = {context_.run, info.id};
  return record;
}

void KeeperCore::OnEvent(const SessionEvent& event) {
  if (context_.is_standby && promotion_ == Promotion::kNone) return;
  switch (event.kind) {
    case SessionEvent::Kind::kOpened:
      return;
    case SessionEvent::Kind::kConfirmed:
      return records_.Confirm(RecordOf(event),
                              context_.After(-event.age - event.delay));
    case SessionEvent::Kind::kEnded:
      return records_.End(event.client, event.session_id,
                          event.end_reason != EndReason::kSuperseded &&
                              event.end_reason != EndReason::kStopped);
  }
}

void KeeperCore::OnEventDropped() {
  ++context_.stats.events_dropped;
  sweep_nanoseconds_ =
      std::min(sweep_nanoseconds_,
               swept_nanoseconds_ + absl::ToInt64Nanoseconds(kSweepSoon));
}

void KeeperCore::OnDisconnect(const DisconnectTarget& target) {
  memory_.Add(target);
  purge_.OnDisconnect(target);
}

void KeeperCore::Ask(const SocketAddress& client, absl::Duration timeout,
                     Newcomers::Answer answer) {
  newcomers_.Ask(client, context_.After(timeout), std::move(answer));
}

void KeeperCore::Promote() {
  if (!context_.is_standby || promotion_ != Promotion::kNone) return;
  ++promotion_epoch_;
  list_again_nanoseconds_ = kNever;
  context_.Log(LogSeverity::kInfo, LogTopic::kStandby,
               "standby: the addresses are here");
  promotion_deadline_ =
      context_.After(context_.options->recovery_connect_timeout);
  if (follower_.is_warm()) {
    promotion_ = Promotion::kContinuing;
    for (StoredSession& record : follower_.Take()) {
      recovery_.Add(std::move(record));
    }
  } else {
    promotion_ = Promotion::kListing;
    ListEverything();
  }
}

void KeeperCore::ListEverything() {
  is_listing_gateways_ = true;
  list_again_nanoseconds_ = kNever;
  calls_.ListGateways(
      [this, epoch = promotion_epoch_](
          const absl::StatusOr<std::vector<SessionStore::Gateway>>& gateways) {
        if (epoch != promotion_epoch_) return;
        is_listing_gateways_ = false;
        if (!gateways.ok()) {
          list_again_nanoseconds_ = context_.After(kRecoveryInterval);
          return;
        }
        std::vector<std::string> ids;
        for (const SessionStore::Gateway& gateway : *gateways) {
          ids.push_back(gateway.id);
        }
        recovery_.ListAll(std::move(ids));
      });
}

void KeeperCore::TickPromotion() {
  if (promotion_ == Promotion::kNone) return;
  if (context_.now_nanoseconds >= list_again_nanoseconds_) ListEverything();
  const bool is_idle = !is_listing_gateways_ && recovery_.IsIdle() &&
                       list_again_nanoseconds_ == kNever;
  switch (promotion_) {
    case Promotion::kListing:
      // Clients that come before the records are known are looked up.
      if (is_idle || (context_.now_nanoseconds >= promotion_deadline_ &&
                      !recovery_.HasWork())) {
        ServePromoted();
      }
      return;
    case Promotion::kContinuing:
      if (is_idle) ServePromoted();
      return;
    case Promotion::kListingRest:
      if (is_idle && records_.IsIdle()) promotion_ = Promotion::kNone;
      return;
    case Promotion::kNone:
      return;
  }
}

void KeeperCore::ServePromoted() {
  context_.is_standby = false;
  newcomers_.AdoptMovedUntil(
      context_.After(context_.options->lease_lifetime + kSweepSoon));
  context_.gateway->SetStandby(false);
  promotion_ = Promotion::kListingRest;
  sweep_nanoseconds_ = context_.After(context_.options->sweep_interval);
  ListEverything();
}

void KeeperCore::Demote() {
  if (context_.is_standby && promotion_ == Promotion::kNone) return;
  context_.Log(LogSeverity::kInfo, LogTopic::kStandby,
               "standby: the addresses are gone");
  context_.is_standby = true;
  promotion_ = Promotion::kNone;
  ++promotion_epoch_;
  is_listing_gateways_ = false;
  must_recover_ = false;
  records_.Clear();
  recovery_.Clear();
  newcomers_.Clear();
  follower_.Take();
  sweep_nanoseconds_ = kNever;
  context_.gateway->SetStandby(true);
}

std::string KeeperCore::ExportRun() const {
  return absl::StrCat(kExportVersion, " ",
                      absl::StrFormat("%016x", context_.run),
                      context_.is_standby ? " standby" : " serving", "\n",
                      memory_.Export(kExportedEventsMax));
}

absl::Status KeeperCore::ContinueRun(absl::string_view state) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(state, absl::MaxSplits('\n', 1));
  const std::vector<absl::string_view> fields =
      absl::StrSplit(parts.first, ' ');
  uint64_t run = 0;
  if (fields.size() != 3 || fields[0] != kExportVersion ||
      fields[1].size() != 16 || !absl::SimpleHexAtoi(fields[1], &run) ||
      (fields[2] != "standby" && fields[2] != "serving")) {
    return udpgate::internal::InvalidText(parts.first,
                                          "is no run of a session keeper");
  }
  if (absl::Status status = memory_.Import(parts.second); !status.ok()) {
    return status;
  }
  context_.run = run;
  context_.is_standby = fields[2] == "standby";
  is_run_continued_ = true;
  return absl::OkStatus();
}

void KeeperCore::BeginStop(bool ends_run) {
  is_stopping_ = true;
  must_recover_ = false;
  ends_run_ = ends_run;
  recovery_.Clear();
  newcomers_.Clear();
}

bool KeeperCore::IsQuiet() const {
  return records_.IsIdle() || context_.is_fenced || !calls_.is_available();
}

bool KeeperCore::HasStopped() const {
  return is_stopping_ && IsQuiet() && calls_.in_flight() == 0 &&
         (lease_.has_ended() || !ends_run_);
}

void KeeperCore::WatchClock() {
  const absl::Time offset =
      context_.now_wall - absl::Nanoseconds(context_.now_nanoseconds);
  if (clock_offset_.has_value() &&
      absl::AbsDuration(offset - *clock_offset_) > kClockJump) {
    ++context_.stats.clock_jumps;
    context_.Log(LogSeverity::kWarning, LogTopic::kClock,
                 absl::StrCat("session store: the time of day has jumped by ",
                              absl::FormatDuration(offset - *clock_offset_)));
    // Their begins are of the other time.
    records_.RewriteAll();
  }
  clock_offset_ = offset;
}

void KeeperCore::WatchDrops() {
  if (context_.now_nanoseconds < watch_nanoseconds_) return;
  watch_nanoseconds_ = context_.After(kSweepSoon);
  const uint64_t dropped = context_.gateway->DroppedEvents();
  if (std::exchange(dropped_events_, dropped) != dropped ||
      records_.TakeDropped()) {
    sweep_nanoseconds_ =
        std::min(sweep_nanoseconds_, context_.After(kSweepSoon));
  }
  const int64_t uncertain = calls_.uncertain_nanoseconds();
  if (uncertain != kNever && uncertain != uncertain_nanoseconds_ &&
      context_.now_nanoseconds - uncertain >=
          absl::ToInt64Nanoseconds(kUncertainTime)) {
    uncertain_nanoseconds_ = uncertain;
    purge_.RemoveGhosts();
  }
}

void KeeperCore::RefreshSome() {
  if (context_.now_nanoseconds < refresh_nanoseconds_) return;
  const absl::Duration cycle =
      context_.options->record_lifetime * kRefreshShare;
  const absl::Duration interval =
      std::min(context_.options->lease_interval, cycle / 8);
  refresh_nanoseconds_ = context_.After(interval);
  const double share = absl::FDivDuration(
      absl::Nanoseconds(context_.now_nanoseconds - refreshed_nanoseconds_),
      cycle);
  refreshed_nanoseconds_ = context_.now_nanoseconds;
  const double due =
      static_cast<double>(records_.size()) * std::min(share, 1.0) + 1;
  // A few in any case, so that it is soon noticed if another gateway has
  // adopted them.
  records_.RefreshSome(std::max(static_cast<size_t>(due), kBatchMax));
}

void KeeperCore::Sweep() {
  swept_nanoseconds_ = context_.now_nanoseconds;
  sweep_nanoseconds_ = context_.After(context_.options->sweep_interval);
  const absl::optional<std::vector<SessionInfo>> sessions =
      context_.gateway->ListSessions();
  if (!sessions.has_value()) return;
  ++context_.stats.sweeps;
  records_.BeginSweep();
  for (const SessionInfo& session : *sessions) {
    if (session.state != SessionState::kConfirmed) continue;
    records_.Seen(RecordOf(session), context_.After(-session.age),
                  is_run_continued_);
  }
  if (records_.EndSweep()) sweep_nanoseconds_ = context_.After(kSweepSoon);
  is_run_continued_ = false;
}

void KeeperCore::TickRecovery() {
  if (must_recover_ && lease_.has_begun() && recovery_.IsIdle() &&
      context_.now_nanoseconds >= recover_nanoseconds_) {
    must_recover_ = false;
    recover_nanoseconds_ = context_.After(kRecoveryInterval);
    recovery_.ListAll({context_.options->gateway_id});
  }
  recovery_.Tick();
  if (recovery_.IsIdle() && !recovery_.status().ok() &&
      promotion_ == Promotion::kNone && !context_.is_standby) {
    must_recover_ = true;
  }
  if (is_recovered() && std::exchange(must_log_recovery_, false)) {
    const absl::Duration duration = absl::Nanoseconds(
        context_.now_nanoseconds - recovery_begin_nanoseconds_);
    context_.Log(LogSeverity::kInfo, LogTopic::kRecovered,
                 RecoveredText(context_.stats, duration));
  }
}

void KeeperCore::Tick() {
  calls_.Tick();
  WatchClock();
  memory_.Tick();
  lease_.Tick();
  // After the last change, so that nobody adopts what has ended.
  if (is_stopping_ && ends_run_ && IsQuiet()) lease_.End();
  if (lease_.TakeChange() == Lease::Change::kRegained) records_.RefreshAll();
  if (!is_stopping_ && context_.gateway != nullptr) {
    TickRecovery();
    TickPromotion();
    WatchDrops();
    if (context_.is_standby && promotion_ == Promotion::kNone) {
      follower_.Tick();
    } else {
      RefreshSome();
      if (!context_.is_standby &&
          context_.now_nanoseconds >= sweep_nanoseconds_) {
        Sweep();
      }
    }
  }
  records_.Tick();
  newcomers_.Tick();
  purge_.Tick();
  SessionKeeperStats& stats = context_.stats;
  stats.calls_in_flight = calls_.in_flight();
  stats.is_standby = context_.is_standby;
  stats.is_fenced = context_.is_fenced;
  stats.is_store_available = calls_.is_available();
}

int64_t KeeperCore::next_nanoseconds() const {
  int64_t next =
      std::min({calls_.next_nanoseconds(), lease_.next_nanoseconds(),
                records_.next_nanoseconds(), newcomers_.next_nanoseconds(),
                purge_.next_nanoseconds()});
  if (is_stopping_ || context_.gateway == nullptr) return next;
  if (recovery_.HasWork()) return context_.now_nanoseconds;
  if (must_recover_ && lease_.has_begun()) {
    next = std::min(next, recover_nanoseconds_);
  }
  if (promotion_ == Promotion::kListing) {
    next = std::min(next, promotion_deadline_);
  }
  if (promotion_ != Promotion::kNone) {
    next = std::min(next, list_again_nanoseconds_);
  }
  if (context_.is_standby && promotion_ == Promotion::kNone) {
    return std::min(next, follower_.next_nanoseconds());
  }
  next = std::min(next, refresh_nanoseconds_);
  return context_.is_standby ? next : std::min(next, sweep_nanoseconds_);
}

}  // namespace internal
}  // namespace store
}  // namespace udpgate
