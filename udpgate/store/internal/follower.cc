#include "udpgate/store/internal/follower.h"

#include <algorithm>
#include <utility>

#include "udpgate/stored_session.h"

namespace udpgate {
namespace store {
namespace internal {

void Follower::Tick() {
  if (!is_in_round_ && context_->now_nanoseconds >= round_nanoseconds_) {
    BeginRound();
  }
  FindSome();
  if (has_listed_ && unread_.empty() && reading_count_ == 0) is_warm_ = true;
  context_->stats.standby_sessions = known_.size();
}

int64_t Follower::next_nanoseconds() const {
  return is_in_round_ ? kNever : round_nanoseconds_;
}

std::list<StoredSession> Follower::Take() {
  ++epoch_;
  known_.clear();
  unread_.clear();
  reading_count_ = 0;
  round_nanoseconds_ = 0;
  is_in_round_ = has_listed_ = is_warm_ = false;
  context_->stats.standby_sessions = 0;
  return std::exchange(records_, {});
}

void Follower::BeginRound() {
  is_in_round_ = true;
  has_failed_ = false;
  ++round_;
  round_nanoseconds_ = context_->After(context_->options->follow_interval);
  calls_->ListGateways(
      [this, epoch = epoch_](
          const absl::StatusOr<std::vector<SessionStore::Gateway>>& gateways) {
        if (epoch != epoch_) return;
        if (!gateways.ok()) {
          is_in_round_ = false;
          return;
        }
        gateway_ids_.clear();
        for (const SessionStore::Gateway& gateway : *gateways) {
          gateway_ids_.push_back(gateway.id);
        }
        ListNextGateway(0);
      });
}

void Follower::ListNextGateway(size_t index) {
  if (index == gateway_ids_.size()) return EndRound();
  calls_->ListClients(
      gateway_ids_[index],
      [this, index, epoch = epoch_](
          const absl::StatusOr<std::vector<SocketAddress>>& clients) {
        if (epoch != epoch_) return;
        if (!clients.ok()) {
          has_failed_ = true;
          return EndRound();
        }
        for (const SocketAddress& client : *clients) {
          const auto known = known_.find(client);
          if (known != known_.end()) {
            known->second.round = round_;
          } else if (known_.size() + unread_.size() <
                     static_cast<size_t>(
                         context_->options->standby_sessions_max)) {
            unread_.push_back(client);
          }
        }
        ListNextGateway(index + 1);
      });
}

void Follower::EndRound() {
  is_in_round_ = false;
  if (has_failed_) return;
  has_listed_ = true;
  std::vector<SocketAddress> gone;
  size_t reread_count = 0;
  for (const StoredSession& record : records_) {
    if (known_.at(record.client).round != round_) {
      gone.push_back(record.client);
    } else if (reread_count < kRereadMax) {
      unread_.push_back(record.client);
      ++reread_count;
    }
  }
  for (const SocketAddress& client : gone) Forget(client);
}

void Follower::FindSome() {
  while (!unread_.empty() && calls_->Admit(StoreCalls::Kind::kFind)) {
    const size_t count = std::min(unread_.size(), kBatchMax);
    std::vector<SocketAddress> some(unread_.begin(), unread_.begin() + count);
    unread_.erase(unread_.begin(), unread_.begin() + count);
    reading_count_ += count;
    calls_->Find(
        some,
        [this, some, epoch = epoch_](
            const absl::StatusOr<std::vector<SessionStore::Found>>& found) {
          if (epoch != epoch_) return;
          reading_count_ -= some.size();
          if (!found.ok()) return;  // the next round finds them new again
          for (size_t i = 0; i < some.size(); ++i) Learn(some[i], (*found)[i]);
        });
  }
}

void Follower::Learn(const SocketAddress& client,
                     const SessionStore::Found& found) {
  Forget(client);
  if (!found.session.has_value()) return;
  if (found.session->client != client ||
      !ValidateStoredSession(*found.session).ok()) {
    ++context_->stats.invalid;
    return;
  }
  // Slow reads of an earlier round may have taken the room meanwhile.
  if (known_.size() >=
      static_cast<size_t>(context_->options->standby_sessions_max)) {
    return;
  }
  Known known;
  known.place = records_.insert(records_.end(), *found.session);
  known.round = round_;
  known_.emplace(client, known);
}

void Follower::Forget(const SocketAddress& client) {
  const auto known = known_.find(client);
  if (known == known_.end()) return;
  records_.erase(known->second.place);
  known_.erase(known);
}

}  // namespace internal
}  // namespace store
}  // namespace udpgate
