#include "udpgate/store/internal/newcomers.h"

#include <algorithm>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "udpgate/stored_session.h"

namespace udpgate {
namespace store {
namespace internal {

using Outcome = SessionStore::Outcome;

Newcomers::Newcomers(KeeperContext* context, StoreCalls* calls,
                     DisconnectMemory* memory)
    : context_(context),
      calls_(calls),
      memory_(memory),
      rate_(context->options->finds_per_second_max) {}

void Newcomers::Ask(const SocketAddress& client, int64_t deadline_nanoseconds,
                    Answer answer) {
  if (context_->is_standby || !calls_->is_available() ||
      questions_.size() >=
          static_cast<size_t>(context_->options->newcomers_waiting_max) ||
      !rate_.Fits(context_->now_nanoseconds, &rate_full_nanoseconds_)) {
    ++context_->stats.newcomers_not_looked_up;
    return answer({});
  }
  const uint64_t id = next_id_++;
  questions_.emplace(
      id, Question{client, deadline_nanoseconds, std::move(answer), {}});
  deadlines_.emplace(deadline_nanoseconds, id);
  unasked_.push_back(id);
}

void Newcomers::AnswerOne(uint64_t id, Verdict verdict) {
  const auto found = questions_.find(id);
  if (found == questions_.end()) return;
  if (verdict.kind != Verdict::Kind::kNothing) {
    verdict.age = context_->AgeOf(verdict.record);
  }
  Answer answer = std::move(found->second.answer);
  deadlines_.erase({found->second.deadline_nanoseconds, id});
  questions_.erase(found);
  SessionKeeperStats& stats = context_->stats;
  switch (verdict.kind) {
    case Verdict::Kind::kNothing:
      ++stats.newcomers_without_record;
      break;
    case Verdict::Kind::kSameBackend:
      ++stats.newcomers_of_live_owner;
      if (verdict.forward_to.is_valid()) ++stats.newcomers_forwarded;
      break;
    case Verdict::Kind::kAdopted:
      ++stats.newcomers_adopted;
      break;
  }
  answer(std::move(verdict));
}

void Newcomers::Clear() {
  while (!questions_.empty()) AnswerOne(questions_.begin()->first, {});
  unasked_.clear();
}

void Newcomers::Tick() {
  while (!deadlines_.empty() &&
         deadlines_.begin()->first <= context_->now_nanoseconds) {
    const uint64_t id = deadlines_.begin()->second;
    const Question& question = questions_.at(id);
    ++context_->stats.newcomers_timed_out;
    // Without knowing whether it is adopted, its backend is still right.
    Verdict verdict;
    if (question.record.has_value() && !memory_->Names(*question.record)) {
      verdict = {Verdict::Kind::kSameBackend, *question.record, {}, {}};
    }
    AnswerOne(id, std::move(verdict));
  }
  if (context_->now_nanoseconds >= find_nanoseconds_) FindSome();
  context_->stats.newcomers_waiting = questions_.size();
}

void Newcomers::FindSome() {
  while (!unasked_.empty() && calls_->Admit(StoreCalls::Kind::kFind)) {
    Ids ids;
    std::vector<SocketAddress> clients;
    while (!unasked_.empty() && ids.size() < kBatchMax) {
      const uint64_t id = unasked_.front();
      unasked_.pop_front();
      const auto question = questions_.find(id);
      if (question == questions_.end()) continue;  // its time was over
      ids.push_back(id);
      clients.push_back(question->second.client);
    }
    if (ids.empty()) return;
    find_nanoseconds_ = context_->After(kFindInterval);
    calls_->Find(std::move(clients),
                 [this, ids = std::move(ids)](
                     absl::StatusOr<std::vector<SessionStore::Found>> found) {
                   FinishFind(ids, std::move(found));
                 });
  }
}

int64_t Newcomers::next_nanoseconds() const {
  int64_t next = deadlines_.empty() ? kNever : deadlines_.begin()->first;
  // Else a result of the store is awaited.
  if (!unasked_.empty() && context_->now_nanoseconds < find_nanoseconds_) {
    next = std::min(next, find_nanoseconds_);
  }
  return next;
}

void Newcomers::FinishFind(
    const Ids& ids, absl::StatusOr<std::vector<SessionStore::Found>> found) {
  Ids adopted_ids;
  std::vector<SessionStore::Adoption> adoptions;
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto question = questions_.find(ids[i]);
    if (question == questions_.end()) continue;
    if (!found.ok()) {
      AnswerOne(ids[i], {});
      continue;
    }
    absl::optional<SessionStore::Adoption> adoption =
        Judge(ids[i], question->second.client, (*found)[i]);
    if (!adoption.has_value()) continue;
    adopted_ids.push_back(ids[i]);
    adoptions.push_back(*std::move(adoption));
  }
  if (adoptions.empty()) return;
  calls_->Adopt(
      std::move(adoptions),
      [this, adopted_ids = std::move(adopted_ids)](
          const absl::StatusOr<StoreCalls::Outcomes>& outcomes) {
        FinishAdopt(adopted_ids, outcomes);
      },
      StoreCalls::Kind::kFind);
}

absl::optional<SessionStore::Adoption> Newcomers::Judge(
    uint64_t id, const SocketAddress& client,
    const SessionStore::Found& found) {
  if (!found.session.has_value()) {
    AnswerOne(id, {});
    return absl::nullopt;
  }
  const StoredSession& record = *found.session;
  if (record.client != client || !ValidateStoredSession(record).ok()) {
    ++context_->stats.invalid;
    context_->Log(LogSeverity::kWarning, LogTopic::kRecord,
                  absl::StrCat("session store: the record of ",
                               client.ToString(), " is of no use"));
    AnswerOne(id, {});
    return absl::nullopt;
  }
  if (memory_->Names(record)) {
    ++context_->stats.disconnected;
    AnswerOne(id, {});
    return absl::nullopt;
  }
  const bool is_own = record.gateway_id == context_->options->gateway_id;
  // Of a session that has ended here.
  if (is_own && record.token.run == context_->run && !IsClaim(record.token)) {
    AnswerOne(id, {});
    return absl::nullopt;
  }
  const bool has_moved = context_->now_nanoseconds < moved_until_ &&
                         context_->gateway != nullptr &&
                         context_->gateway->IsOwnAddress(record.local);
  if (context_->is_fenced ||
      (found.owner.has_value() && !is_own && !has_moved)) {
    const bool has_owner = found.owner.has_value() && !is_own;
    AnswerOne(id, {Verdict::Kind::kSameBackend,
                   record,
                   has_owner ? ForwardAddress(*found.owner) : SocketAddress(),
                   {}});
    return absl::nullopt;
  }
  SessionStore::Adoption adoption;
  adoption.adopted = record;
  adoption.adopted.gateway_id = context_->options->gateway_id;
  adoption.adopted.token = context_->NextClaim();
  adoption.from = record.token;
  if (!is_own && !has_moved) adoption.unless_lives = record.gateway_id;
  questions_.at(id).record = record;
  return adoption;
}

SocketAddress Newcomers::ForwardAddress(const GatewayLease& lease) {
  if (context_->options->forward_address.empty() ||
      lease.forward_address.empty()) {
    return SocketAddress();
  }
  const absl::StatusOr<SocketAddress> address =
      SocketAddress::Parse(lease.forward_address);
  if (address.ok() && address->is_unicast() && address->port() != 0) {
    return *address;
  }
  ++context_->stats.invalid;
  context_->Log(LogSeverity::kWarning, LogTopic::kRecord,
                absl::StrCat("session store: the lease of ", lease.gateway_id,
                             " names no address to forward to"));
  return SocketAddress();
}

void Newcomers::FinishAdopt(
    const Ids& ids, const absl::StatusOr<StoreCalls::Outcomes>& outcomes) {
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto question = questions_.find(ids[i]);
    if (question == questions_.end()) continue;
    Verdict verdict;
    verdict.record = *question->second.record;
    // An event may have come meanwhile.
    if (memory_->Names(verdict.record)) {
      ++context_->stats.disconnected;
      AnswerOne(ids[i], {});
      continue;
    }
    verdict.kind = Verdict::Kind::kSameBackend;
    if (outcomes.ok()) {
      if ((*outcomes)[i] == Outcome::kDone) {
        verdict.kind = Verdict::Kind::kAdopted;
        ++context_->stats.adopted;
      } else if ((*outcomes)[i] == Outcome::kAbsent) {
        verdict = {};
      }
    }
    AnswerOne(ids[i], std::move(verdict));
  }
}

}  // namespace internal
}  // namespace store
}  // namespace udpgate
