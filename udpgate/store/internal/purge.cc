#include "udpgate/store/internal/purge.h"

#include <algorithm>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "udpgate/stored_session.h"

namespace udpgate {
namespace store {
namespace internal {
namespace {

// After a lease has run out, by the store's clock.
constexpr absl::Duration kMargin = absl::Seconds(1);

}  // namespace

Purge::Purge(KeeperContext* context, StoreCalls* calls,
             DisconnectMemory* memory, Records* records)
    : context_(context), calls_(calls), memory_(memory), records_(records) {}

void Purge::OnDisconnect(const DisconnectTarget& target) {
  const int64_t again =
      context_->After(context_->options->lease_lifetime + kMargin);
  if (target.kind() != DisconnectTarget::Kind::kClient) {
    // Events of one interval share a scan.
    scan_nanoseconds_ = std::min(
        scan_nanoseconds_,
        std::max(
            context_->After(context_->options->write_delay),
            last_scan_nanoseconds_ +
                absl::ToInt64Nanoseconds(context_->options->lease_interval)));
    second_scan_nanoseconds_ = again;
    return;
  }
  Look(target.client());
  if (later_.size() < kClientsMax) later_.emplace_back(again, target.client());
}

void Purge::Look(const SocketAddress& client) {
  if (clients_.size() < kClientsMax) clients_.push_back(client);
}

void Purge::Tick() {
  while (!later_.empty() && later_.front().first <= context_->now_nanoseconds) {
    Look(later_.front().second);
    later_.pop_front();
  }
  if (!is_scanning_ && std::min(scan_nanoseconds_, second_scan_nanoseconds_) <=
                           context_->now_nanoseconds) {
    ScanGateways();
  }
  if (ghosts_nanoseconds_ <= context_->now_nanoseconds) ListOwn();
  FindSome();
  if (!context_->is_fenced) RemoveSome();
}

int64_t Purge::next_nanoseconds() const {
  int64_t next = ghosts_nanoseconds_;
  if (!is_scanning_) {
    next = std::min({next, scan_nanoseconds_, second_scan_nanoseconds_});
  }
  if (!later_.empty()) next = std::min(next, later_.front().first);
  return next;
}

bool Purge::IsIdle() const { return clients_.empty() && removals_.empty(); }

void Purge::FindSome() {
  while (!clients_.empty() && calls_->Admit(StoreCalls::Kind::kChange)) {
    const size_t count = std::min(clients_.size(), kBatchMax);
    std::vector<SocketAddress> some(clients_.begin(), clients_.begin() + count);
    clients_.erase(clients_.begin(), clients_.begin() + count);
    calls_->Find(
        some,
        [this,
         some](const absl::StatusOr<std::vector<SessionStore::Found>>& found) {
          if (!found.ok()) {
            // Again later, when the store may be there.
            const int64_t again = context_->After(kMargin);
            for (const SocketAddress& client : some) {
              if (later_.size() >= kClientsMax) break;
              later_.emplace_back(again, client);
            }
            return;
          }
          for (size_t i = 0; i < some.size(); ++i) {
            const absl::optional<StoredSession>& session = (*found)[i].session;
            if (session.has_value() && session->client == some[i]) {
              Judge((*found)[i]);
            }
          }
        },
        StoreCalls::Kind::kChange);
  }
}

void Purge::Judge(const SessionStore::Found& found) {
  const StoredSession& record = *found.session;
  const bool is_own = record.gateway_id == context_->options->gateway_id;
  const StoredSession* const live = records_->Find(record.client);
  const bool is_live = live != nullptr && live->token == record.token;
  // Of this run: there is no session, or another one whose record is written
  // soon.
  const bool is_ghost = is_own && record.token.run == context_->run &&
                        !is_live && !IsClaim(record.token);
  const bool is_dead =
      is_own ? record.token.run != context_->run : !found.owner.has_value();
  const bool is_adopting = live != nullptr && live->token != record.token;
  if (is_ghost || (is_dead && !is_adopting && memory_->Names(record))) {
    removals_.push_back({record.client, record.token});
  }
}

void Purge::RemoveSome() {
  while (!removals_.empty() && calls_->Admit(StoreCalls::Kind::kChange)) {
    const size_t count = std::min(removals_.size(), kBatchMax);
    std::vector<SessionStore::SessionKey> some(removals_.begin(),
                                               removals_.begin() + count);
    removals_.erase(removals_.begin(), removals_.begin() + count);
    calls_->Remove(
        some, [this, some](const absl::StatusOr<StoreCalls::Outcomes>& done) {
          if (!done.ok()) {
            if (removals_.size() < kClientsMax) {
              removals_.insert(removals_.end(), some.begin(), some.end());
            }
            return;
          }
          for (const SessionStore::Outcome outcome : *done) {
            if (outcome == SessionStore::Outcome::kDone)
              ++context_->stats.removed;
          }
        });
  }
}

void Purge::ScanGateways() {
  is_scanning_ = true;
  last_scan_nanoseconds_ = context_->now_nanoseconds;
  if (scan_nanoseconds_ <= context_->now_nanoseconds) {
    scan_nanoseconds_ = kNever;
  }
  if (second_scan_nanoseconds_ <= context_->now_nanoseconds) {
    second_scan_nanoseconds_ = kNever;
  }
  calls_->ListGateways(
      [this](
          const absl::StatusOr<std::vector<SessionStore::Gateway>>& gateways) {
        if (!gateways.ok()) {
          is_scanning_ = false;
          scan_nanoseconds_ = context_->After(kMargin);
          return;
        }
        for (const SessionStore::Gateway& gateway : *gateways) {
          if (!gateway.lease.has_value()) gateways_.push_back(gateway.id);
        }
        ScanNextGateway();
      });
}

void Purge::ScanNextGateway() {
  if (gateways_.empty()) {
    is_scanning_ = false;
    return;
  }
  const std::string id = gateways_.front();
  gateways_.pop_front();
  calls_->List(
      id, [this](const absl::StatusOr<std::vector<StoredSession>>& sessions) {
        if (sessions.ok()) {
          for (const StoredSession& session : *sessions) {
            if (removals_.size() + clients_.size() >= kClientsMax) break;
            if (ValidateStoredSession(session).ok() &&
                memory_->Names(session)) {
              // Its owner may live by now: look again.
              Look(session.client);
            }
          }
        } else {
          scan_nanoseconds_ = context_->After(kMargin);
        }
        ScanNextGateway();
      });
}

void Purge::ListOwn() {
  ghosts_nanoseconds_ = kNever;
  calls_->ListClients(
      context_->options->gateway_id,
      [this](const absl::StatusOr<std::vector<SocketAddress>>& clients) {
        if (!clients.ok()) {
          ghosts_nanoseconds_ = context_->After(10 * kMargin);
          return;
        }
        for (const SocketAddress& client : *clients) {
          if (records_->Find(client) == nullptr) Look(client);
        }
      });
}

}  // namespace internal
}  // namespace store
}  // namespace udpgate
