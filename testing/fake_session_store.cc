#include "testing/fake_session_store.h"

#include <algorithm>

#include "udpgate/stored_session.h"

namespace udpgate {
namespace test {

using internal::MutexLock;
using Outcome = SessionStore::Outcome;

std::shared_ptr<FakeStoreConnection> FakeSessionStore::Connect() {
  MutexLock lock(&mutex_);
  connections_.push_back(std::make_shared<FakeStoreConnection>(this));
  return connections_.back();
}

void FakeSessionStore::Run() {
  while (true) {
    absl::AnyInvocable<void()> event;
    {
      MutexLock lock(&mutex_);
      if (events_.empty() || events_.begin()->first.first > now()) return;
      event = std::move(events_.begin()->second);
      events_.erase(events_.begin());
    }
    event();
  }
}

absl::optional<int64_t> FakeSessionStore::next_nanoseconds() const {
  MutexLock lock(&mutex_);
  if (events_.empty()) return absl::nullopt;
  return events_.begin()->first.first;
}

FakeSessionStore::Snapshot FakeSessionStore::TakeSnapshot() const {
  MutexLock lock(&mutex_);
  return data_;
}

void FakeSessionStore::Restore(Snapshot snapshot) {
  MutexLock lock(&mutex_);
  data_ = std::move(snapshot);
}

void FakeSessionStore::Clear() { Restore(Snapshot()); }

absl::optional<StoredSession> FakeSessionStore::Find(
    const SocketAddress& client) const {
  MutexLock lock(&mutex_);
  const auto found = data_.records.find(client.ToString());
  if (found == data_.records.end() ||
      found->second.expires_nanoseconds <= now()) {
    return absl::nullopt;
  }
  return found->second.session;
}

std::vector<StoredSession> FakeSessionStore::sessions() const {
  MutexLock lock(&mutex_);
  std::vector<StoredSession> sessions;
  for (const auto& record : data_.records) {
    if (record.second.expires_nanoseconds <= now()) continue;
    if (record.second.session.has_value()) {
      sessions.push_back(*record.second.session);
    }
  }
  return sessions;
}

bool FakeSessionStore::HasLease(const std::string& gateway_id) const {
  MutexLock lock(&mutex_);
  const auto found = data_.leases.find(gateway_id);
  return found != data_.leases.end() &&
         found->second.expires_nanoseconds > now();
}

void FakeSessionStore::PutText(const SocketAddress& client, std::string text,
                               absl::Duration lifetime) {
  MutexLock lock(&mutex_);
  data_.records[client.ToString()] = NewRecord(std::move(text), lifetime);
}

FakeSessionStore::Snapshot::Record FakeSessionStore::NewRecord(
    std::string text, absl::Duration lifetime) const {
  Snapshot::Record record;
  absl::StatusOr<StoredSession> session = DecodeStoredSession(text);
  if (session.ok()) record.session = *std::move(session);
  record.text = std::move(text);
  record.expires_nanoseconds = now() + absl::ToInt64Nanoseconds(lifetime);
  return record;
}

uint64_t FakeSessionStore::invalid_count() const {
  MutexLock lock(&mutex_);
  return invalid_count_;
}

uint64_t FakeSessionStore::call_count() const {
  MutexLock lock(&mutex_);
  return call_count_;
}

uint64_t FakeSessionStore::item_count() const {
  MutexLock lock(&mutex_);
  return item_count_;
}

void FakeSessionStore::At(int64_t nanoseconds,
                          absl::AnyInvocable<void()> event) {
  events_.emplace(std::make_pair(nanoseconds, event_count_++),
                  std::move(event));
}

void FakeSessionStore::ForgetExpired() {
  for (auto i = data_.records.begin(); i != data_.records.end();) {
    i = i->second.expires_nanoseconds <= now() ? data_.records.erase(i)
                                               : std::next(i);
  }
}

absl::optional<StoredSession> FakeSessionStore::Get(const std::string& client) {
  const auto found = data_.records.find(client);
  if (found == data_.records.end()) return absl::nullopt;
  if (found->second.expires_nanoseconds <= now()) {
    data_.records.erase(found);
    return absl::nullopt;
  }
  if (!found->second.session.has_value()) ++invalid_count_;
  return found->second.session;
}

void FakeSessionStore::Put(const StoredSession& session,
                           absl::Duration lifetime) {
  const std::string client = session.client.ToString();
  if (absl::optional<StoredSession> former = Get(client)) {
    former_[client] = *std::move(former);
  }
  data_.records[client] = NewRecord(EncodeStoredSession(session), lifetime);
}

void FakeSessionStore::Erase(const std::string& client) {
  if (absl::optional<StoredSession> former = Get(client)) {
    former_[client] = *std::move(former);
  }
  data_.records.erase(client);
}

std::vector<StoredSession> FakeSessionStore::Of(const std::string& gateway_id) {
  ForgetExpired();
  std::vector<StoredSession> sessions;
  for (const auto& record : data_.records) {
    const absl::optional<StoredSession>& session = record.second.session;
    if (!session.has_value()) {
      ++invalid_count_;
    } else if (session->gateway_id == gateway_id) {
      sessions.push_back(*session);
    }
  }
  return sessions;
}

absl::optional<GatewayLease> FakeSessionStore::LeaseOf(
    const std::string& gateway_id) {
  const auto found = data_.leases.find(gateway_id);
  if (found == data_.leases.end() ||
      found->second.expires_nanoseconds <= now()) {
    return absl::nullopt;
  }
  return found->second.lease;
}

void FakeStoreConnection::SetLink(const FakeSessionStore::Link& link) {
  MutexLock lock(&store_->mutex_);
  link_ = link;
}

void FakeStoreConnection::SetLie(FakeSessionStore::Lie lie) {
  MutexLock lock(&store_->mutex_);
  lie_ = lie;
}

void FakeStoreConnection::Stop() {
  MutexLock lock(&store_->mutex_);
  *is_open_ = false;
}

absl::Status FakeStoreConnection::Health() const {
  MutexLock lock(&store_->mutex_);
  if (link_.is_cut) return absl::UnavailableError("the link is cut");
  return absl::OkStatus();
}

template <typename T>
void FakeStoreConnection::Submit(size_t item_count, std::function<T()> work,
                                 Done<T> done) {
  absl::optional<T> result;
  {
    MutexLock lock(&store_->mutex_);
    if (!*is_open_) return;  // `done` is destroyed uncalled
    const int64_t now = store_->now();
    const int64_t timeout = now + absl::ToInt64Nanoseconds(link_.timeout);
    const bool is_late =
        link_.request_delay + link_.reply_delay >= link_.timeout;
    const auto counted = [store = store_, item_count,
                          work = std::move(work)]() -> T {
      store->AssertHeld();
      ++store->call_count_;
      store->item_count_ += item_count;
      return work();
    };
    if (!link_.is_cut && !link_.loses_replies &&
        link_.request_delay + link_.reply_delay == absl::ZeroDuration()) {
      result = counted();
    } else {
      auto reply = std::make_shared<absl::optional<T>>();
      const int64_t executed =
          now + absl::ToInt64Nanoseconds(link_.request_delay);
      if (!link_.is_cut) {
        store_->At(executed, [store = store_, reply, counted] {
          MutexLock execute_lock(&store->mutex_);
          *reply = counted();
        });
      }
      const bool is_lost = link_.is_cut || link_.loses_replies || is_late;
      store_->At(is_lost
                     ? timeout
                     : executed + absl::ToInt64Nanoseconds(link_.reply_delay),
                 [is_lost, reply, is_open = is_open_, store = store_,
                  done = std::move(done)]() mutable {
                   {
                     MutexLock open_lock(&store->mutex_);
                     if (!*is_open) return;
                   }
                   if (is_lost) {
                     done(absl::UnavailableError("the store does not reply"));
                   } else {
                     done(**std::move(reply));
                   }
                 });
      return;
    }
  }
  done(*std::move(result));
}

void FakeStoreConnection::Write(std::vector<StoredSession> sessions,
                                absl::Duration lifetime,
                                Done<std::vector<Outcome>> done) {
  const size_t count = sessions.size();
  Submit<std::vector<Outcome>>(
      count,
      [this, sessions = std::move(sessions), lifetime] {
        store_->AssertHeld();
        for (const StoredSession& session : sessions) {
          store_->Put(session, lifetime);
        }
        return std::vector<Outcome>(sessions.size(), Outcome::kDone);
      },
      std::move(done));
}

void FakeStoreConnection::Refresh(std::vector<SessionKey> keys,
                                  absl::Duration lifetime,
                                  Done<std::vector<Outcome>> done) {
  const size_t count = keys.size();
  Submit<std::vector<Outcome>>(
      count,
      [this, keys = std::move(keys), lifetime] {
        store_->AssertHeld();
        std::vector<Outcome> outcomes;
        for (const SessionKey& key : keys) {
          const std::string client = key.client.ToString();
          const absl::optional<StoredSession> session = store_->Get(client);
          if (!session.has_value()) {
            outcomes.push_back(Outcome::kAbsent);
          } else if (session->token != key.token) {
            outcomes.push_back(Outcome::kOtherOwner);
          } else {
            store_->data_.records[client].expires_nanoseconds =
                store_->now() + absl::ToInt64Nanoseconds(lifetime);
            outcomes.push_back(Outcome::kDone);
          }
        }
        return outcomes;
      },
      std::move(done));
}

void FakeStoreConnection::Remove(std::vector<SessionKey> keys,
                                 Done<std::vector<Outcome>> done) {
  const size_t count = keys.size();
  Submit<std::vector<Outcome>>(
      count,
      [this, keys = std::move(keys)] {
        store_->AssertHeld();
        std::vector<Outcome> outcomes;
        for (const SessionKey& key : keys) {
          const std::string client = key.client.ToString();
          const absl::optional<StoredSession> session = store_->Get(client);
          if (!session.has_value()) {
            outcomes.push_back(Outcome::kAbsent);
          } else if (session->token != key.token) {
            outcomes.push_back(Outcome::kOtherOwner);
          } else {
            store_->Erase(client);
            outcomes.push_back(Outcome::kDone);
          }
        }
        return outcomes;
      },
      std::move(done));
}

void FakeStoreConnection::Adopt(std::vector<Adoption> adoptions,
                                absl::Duration lifetime,
                                Done<std::vector<Outcome>> done) {
  const size_t count = adoptions.size();
  Submit<std::vector<Outcome>>(
      count,
      [this, adoptions = std::move(adoptions), lifetime] {
        store_->AssertHeld();
        std::vector<Outcome> outcomes;
        for (const Adoption& adoption : adoptions) {
          const absl::optional<StoredSession> session =
              store_->Get(adoption.adopted.client.ToString());
          Outcome outcome = Outcome::kDone;
          if (!session.has_value()) {
            outcome = Outcome::kAbsent;
          } else if (session->token != adoption.from &&
                     session->token != adoption.adopted.token) {
            outcome = Outcome::kOtherOwner;
          } else if (session->token == adoption.from &&
                     !adoption.unless_lives.empty() &&
                     store_->LeaseOf(adoption.unless_lives).has_value()) {
            outcome = Outcome::kOwnerLives;
          } else {
            store_->Put(adoption.adopted, lifetime);
          }
          outcomes.push_back(outcome);
        }
        return outcomes;
      },
      std::move(done));
}

void FakeStoreConnection::Find(std::vector<SocketAddress> clients,
                               Done<std::vector<Found>> done) {
  const size_t count = clients.size();
  Submit<std::vector<Found>>(
      count,
      [this, clients = std::move(clients)] {
        store_->AssertHeld();
        std::vector<Found> all;
        for (const SocketAddress& client : clients) {
          Found found;
          found.session = store_->Get(client.ToString());
          if (found.session.has_value()) {
            found.owner = store_->LeaseOf(found.session->gateway_id);
          }
          all.push_back(std::move(found));
        }
        Distort(&all);
        return all;
      },
      std::move(done));
}

void FakeStoreConnection::List(const std::string& gateway_id,
                               Done<std::vector<StoredSession>> done) {
  Submit<std::vector<StoredSession>>(
      1,
      [this, gateway_id] {
        store_->AssertHeld();
        std::vector<StoredSession> sessions = store_->Of(gateway_id);
        Distort(&sessions);
        return sessions;
      },
      std::move(done));
}

void FakeStoreConnection::ListClients(const std::string& gateway_id,
                                      Done<std::vector<SocketAddress>> done) {
  Submit<std::vector<SocketAddress>>(
      1,
      [this, gateway_id] {
        store_->AssertHeld();
        std::vector<SocketAddress> clients;
        for (const StoredSession& session : store_->Of(gateway_id)) {
          clients.push_back(session.client);
        }
        return clients;
      },
      std::move(done));
}

void FakeStoreConnection::RenewLease(GatewayLease lease,
                                     absl::Duration lifetime,
                                     Done<absl::optional<GatewayLease>> done) {
  Submit<absl::optional<GatewayLease>>(
      1,
      [this, lease = std::move(lease), lifetime] {
        store_->AssertHeld();
        absl::optional<GatewayLease> former = store_->LeaseOf(lease.gateway_id);
        store_->data_.leases[lease.gateway_id] = {
            lease, store_->now() + absl::ToInt64Nanoseconds(lifetime)};
        return former;
      },
      std::move(done));
}

void FakeStoreConnection::EndLease(const GatewayLease& lease,
                                   Done<Outcome> done) {
  Submit<Outcome>(
      1,
      [this, lease] {
        store_->AssertHeld();
        const absl::optional<GatewayLease> now =
            store_->LeaseOf(lease.gateway_id);
        if (!now.has_value()) return Outcome::kAbsent;
        if (now->run != lease.run) return Outcome::kOtherOwner;
        store_->data_.leases.erase(lease.gateway_id);
        return Outcome::kDone;
      },
      std::move(done));
}

void FakeStoreConnection::ListGateways(Done<std::vector<Gateway>> done) {
  Submit<std::vector<Gateway>>(
      1,
      [this] {
        store_->AssertHeld();
        store_->ForgetExpired();
        std::set<std::string> ids;
        for (const auto& record : store_->data_.records) {
          if (record.second.session.has_value()) {
            ids.insert(record.second.session->gateway_id);
          }
        }
        for (const auto& lease : store_->data_.leases) {
          if (store_->LeaseOf(lease.first).has_value()) ids.insert(lease.first);
        }
        std::vector<Gateway> gateways;
        for (const std::string& id : ids) {
          gateways.push_back({id, store_->LeaseOf(id)});
        }
        return gateways;
      },
      std::move(done));
}

void FakeStoreConnection::DistortOne(StoredSession* session) {
  using Lie = FakeSessionStore::Lie;
  if (lie_ == Lie::kForeign) {
    session->client =
        session->client.WithPort(session->client.port() == 1 ? 2 : 1);
    session->gateway_id += "-other";
  } else if (lie_ == Lie::kStale) {
    const auto former = store_->former_.find(session->client.ToString());
    if (former != store_->former_.end()) *session = former->second;
  } else if (lie_ == Lie::kGarbled) {
    session->backend = SocketAddress();
    session->gateway_id = std::string("\n\0", 2);
    session->since = absl::InfiniteFuture();
  }
}

void FakeStoreConnection::Distort(std::vector<Found>* found) {
  for (Found& one : *found) {
    if (one.session.has_value()) DistortOne(&*one.session);
  }
  if (lie_ == FakeSessionStore::Lie::kWrongCount && !found->empty()) {
    found->pop_back();
  }
}

void FakeStoreConnection::Distort(std::vector<StoredSession>* sessions) {
  for (StoredSession& session : *sessions) DistortOne(&session);
}

}  // namespace test
}  // namespace udpgate
