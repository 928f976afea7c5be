#include "udpgate/store/internal/recovery.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/stored_session.h"

namespace udpgate {
namespace store {
namespace internal {

void Recovery::ListAll(std::vector<std::string> gateway_ids) {
  gateway_ids_.insert(gateway_ids_.end(), gateway_ids.begin(),
                      gateway_ids.end());
  status_ = absl::OkStatus();
  if (!is_listing_) ListNext();
}

void Recovery::Clear() {
  ++epoch_;
  gateway_ids_.clear();
  waiting_.clear();
  is_listing_ = false;
}

void Recovery::ListNext() {
  is_listing_ = !gateway_ids_.empty();
  if (!is_listing_) return;
  const std::string id = gateway_ids_.front();
  gateway_ids_.pop_front();
  calls_->List(id, [this, id, epoch = epoch_](
                       absl::StatusOr<std::vector<StoredSession>> sessions) {
    if (epoch != epoch_) return;
    if (!sessions.ok()) {
      status_.Update(sessions.status());
    } else {
      for (StoredSession& session : *sessions) {
        if (session.gateway_id == id) {
          waiting_.push_back(std::move(session));
        } else {
          ++context_->stats.invalid;
        }
      }
    }
    ListNext();
  });
}

void Recovery::Tick() {
  if (waiting_.empty() || context_->gateway == nullptr) return;
  std::vector<StoredSession> usable;
  for (size_t i = 0; i < kSliceMax && !waiting_.empty(); ++i) {
    if (IsUsable(waiting_.front())) {
      usable.push_back(std::move(waiting_.front()));
    }
    waiting_.pop_front();
  }
  if (!usable.empty()) Continue(usable);
}

bool Recovery::IsUsable(const StoredSession& record) {
  if (absl::Status status = ValidateStoredSession(record); !status.ok()) {
    ++context_->stats.invalid;
    context_->Log(LogSeverity::kWarning, LogTopic::kRecord,
                  absl::StrCat("session store: a record is of no use: ",
                               status.message()));
    return false;
  }
  // Another address, or a session of this run.
  if (!context_->gateway->IsOwnAddress(record.local) ||
      records_->Find(record.client) != nullptr ||
      (record.token.run == context_->run && !IsClaim(record.token))) {
    return false;
  }
  if (memory_->Names(record)) {
    ++context_->stats.disconnected;
    return false;
  }
  return true;
}

void Recovery::Continue(const std::vector<StoredSession>& records) {
  std::vector<RestorableSession> sessions;
  sessions.reserve(records.size());
  for (const StoredSession& record : records) {
    RestorableSession session;
    session.client = record.client;
    session.local = record.local;
    session.backend = record.backend;
    session.relay = record.relay;
    session.label = record.label;
    if (!record.tag_key.empty()) {
      session.tag =
          std::make_shared<SessionTag>(record.tag_key, record.tag_text);
    }
    session.age = context_->AgeOf(record);
    sessions.push_back(std::move(session));
  }
  const absl::StatusOr<std::vector<RestoredSession>> restored =
      context_->gateway->Restore(sessions);
  if (!restored.ok() || restored->size() != records.size()) {
    context_->stats.recovery_failed += records.size();
    context_->Log(LogSeverity::kError, LogTopic::kRecovery,
                  absl::StrCat("session store: cannot continue sessions: ",
                               restored.status().message()));
    return;
  }
  for (size_t i = 0; i < records.size(); ++i) {
    FinishOne(records[i], (*restored)[i]);
  }
}

void Recovery::FinishOne(const StoredSession& record,
                         const RestoredSession& restored) {
  using Outcome = RestoredSession::Outcome;
  SessionKeeperStats& stats = context_->stats;
  if (restored.outcome == Outcome::kClientPresent) return;
  if (restored.outcome != Outcome::kRestored &&
      restored.outcome != Outcome::kOnOtherRelay) {
    ++stats.recovery_failed;
    return;
  }
  ++stats.recovered;
  if (restored.outcome == Outcome::kOnOtherRelay) {
    ++stats.recovered_on_other_port;
  }
  StoredSession own = record;
  own.gateway_id = context_->options->gateway_id;
  own.token = {context_->run, restored.session_id};
  own.relay = restored.relay;
  const absl::Duration age =
      std::max(context_->now_wall - record.since, absl::ZeroDuration());
  records_->Adopt(std::move(own), context_->After(-age), record.token, "");
}

}  // namespace internal
}  // namespace store
}  // namespace udpgate
