// A session store in memory, for tests with one or several gateways.
//
//   SimulatedClock clock;
//   FakeSessionStore store(&clock);
//   auto keeper = SessionKeeper::Create(options, store.Connect());
//
// Each gateway has a connection of its own, which a test can make slow, cut or
// let lie:
//
//   auto connection = store.Connect();
//   connection->SetLink({.is_cut = true});
//   ...
//   clock.Advance(absl::Seconds(1));
//   store.Run();                       // what is due happens
#ifndef UDPGATE_TESTING_FAKE_SESSION_STORE_H_
#define UDPGATE_TESTING_FAKE_SESSION_STORE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/base/export.h"
#include "udpgate/base/mutex.h"
#include "udpgate/clock.h"
#include "udpgate/session_store.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

class FakeStoreConnection;

// What all gateways share. Records go through their text form
// (stored_session.h), as they do in a real store.
//
// Threads: any. `done` of a call is called inline if the link has no delay, and
// else by `Run`.
class UDPGATE_EXPORT FakeSessionStore {
 public:
  // How a gateway reaches the store.
  struct Link {
    // Until the store executes a call, and from then until its result is there.
    absl::Duration request_delay = absl::ZeroDuration();
    absl::Duration reply_delay = absl::ZeroDuration();
    // If the result is not there by then, it is Unavailable. The store executes
    // the call nevertheless, maybe after later calls.
    absl::Duration timeout = absl::Seconds(1);
    // No call gets there.
    bool is_cut = false;
    // Calls are executed, and their results are lost.
    bool loses_replies = false;
  };

  // What is wrong with the records that a gateway gets.
  enum class Lie : uint8_t {
    kNone,
    kForeign,     // those of other clients and gateways
    kStale,       // former ones, also those that were removed
    kGarbled,     // with addresses and ids that cannot be
    kWrongCount,  // one less than was asked for
  };

  // All records and leases at one moment.
  class Snapshot {
   private:
    friend class FakeSessionStore;
    friend class FakeStoreConnection;
    struct Record {
      std::string text;
      absl::optional<StoredSession> session;  // nullopt: it does not parse
      int64_t expires_nanoseconds = 0;
    };
    struct Lease {
      GatewayLease lease;
      int64_t expires_nanoseconds = 0;
    };
    // By the text of the client, so that the order is always the same.
    std::map<std::string, Record> records;
    std::map<std::string, Lease> leases;
  };

  // `clock` must outlive the store.
  explicit FakeSessionStore(const Clock* clock) : clock_(clock) {}
  FakeSessionStore(const FakeSessionStore&) = delete;
  FakeSessionStore& operator=(const FakeSessionStore&) = delete;

  // A connection for one gateway. The store must outlive it.
  std::shared_ptr<FakeStoreConnection> Connect();

  // Executes calls and gives results that are due by the clock.
  void Run();
  // When the next one is due; nullopt if none waits.
  absl::optional<int64_t> next_nanoseconds() const;

  Snapshot TakeSnapshot() const;
  // As a server that is restored from a backup: what has run out since then is
  // not there.
  void Restore(Snapshot snapshot);
  // As a server that starts empty.
  void Clear();

  // What is there now.
  absl::optional<StoredSession> Find(const SocketAddress& client) const;
  std::vector<StoredSession> sessions() const;
  bool HasLease(const std::string& gateway_id) const;
  // A record as it is, for example one that does not parse. `client` is its
  // key.
  void PutText(const SocketAddress& client, std::string text,
               absl::Duration lifetime);
  // Of `Find` and `List`: records that did not parse.
  uint64_t invalid_count() const;
  // Calls that were executed, and their records or clients.
  uint64_t call_count() const;
  uint64_t item_count() const;

 private:
  friend class FakeStoreConnection;
  using Outcome = SessionStore::Outcome;

  // For the analysis, which does not see that a callback has the lock.
  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK(mutex_) {}
  // Of a Link's delays.
  void At(int64_t nanoseconds, absl::AnyInvocable<void()> event)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetExpired() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::optional<StoredSession> Get(const std::string& client)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Snapshot::Record NewRecord(std::string text, absl::Duration lifetime) const;
  void Put(const StoredSession& session, absl::Duration lifetime)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Erase(const std::string& client) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<StoredSession> Of(const std::string& gateway_id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::optional<GatewayLease> LeaseOf(const std::string& gateway_id)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t now() const { return clock_->NowNanoseconds(); }

  const Clock* const clock_;
  mutable internal::Mutex mutex_;
  // Calls that wait refer to them.
  std::vector<std::shared_ptr<FakeStoreConnection>> connections_
      ABSL_GUARDED_BY(mutex_);
  Snapshot data_ ABSL_GUARDED_BY(mutex_);
  // The version of each record before the current one, for `Lie::kStale`.
  std::map<std::string, StoredSession> former_ ABSL_GUARDED_BY(mutex_);
  std::map<std::pair<int64_t, uint64_t>, absl::AnyInvocable<void()>> events_
      ABSL_GUARDED_BY(mutex_);
  uint64_t event_count_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t invalid_count_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t call_count_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t item_count_ ABSL_GUARDED_BY(mutex_) = 0;
};

class UDPGATE_EXPORT FakeStoreConnection final : public SessionStore {
 public:
  // Use FakeSessionStore::Connect.
  explicit FakeStoreConnection(FakeSessionStore* store) : store_(store) {}

  // For calls from now on.
  void SetLink(const FakeSessionStore::Link& link);
  void SetLie(FakeSessionStore::Lie lie);

  absl::Status Start() override { return absl::OkStatus(); }
  // Results that are not there yet are never given.
  void Stop() override;
  absl::Status Health() const override;
  void Write(std::vector<StoredSession> sessions, absl::Duration lifetime,
             Done<std::vector<Outcome>> done) override;
  void Refresh(std::vector<SessionKey> keys, absl::Duration lifetime,
               Done<std::vector<Outcome>> done) override;
  void Remove(std::vector<SessionKey> keys,
              Done<std::vector<Outcome>> done) override;
  void Adopt(std::vector<Adoption> adoptions, absl::Duration lifetime,
             Done<std::vector<Outcome>> done) override;
  void Find(std::vector<SocketAddress> clients,
            Done<std::vector<Found>> done) override;
  void List(const std::string& gateway_id,
            Done<std::vector<StoredSession>> done) override;
  void ListClients(const std::string& gateway_id,
                   Done<std::vector<SocketAddress>> done) override;
  void RenewLease(GatewayLease lease, absl::Duration lifetime,
                  Done<absl::optional<GatewayLease>> done) override;
  void EndLease(const GatewayLease& lease, Done<Outcome> done) override;
  void ListGateways(Done<std::vector<Gateway>> done) override;

 private:
  template <typename T>
  void Submit(size_t item_count, std::function<T()> work, Done<T> done);
  void Distort(std::vector<Found>* found)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(store_->mutex_);
  void Distort(std::vector<StoredSession>* sessions)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(store_->mutex_);
  void DistortOne(StoredSession* session)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(store_->mutex_);

  FakeSessionStore* const store_;
  FakeSessionStore::Link link_ ABSL_GUARDED_BY(store_->mutex_);
  FakeSessionStore::Lie lie_ ABSL_GUARDED_BY(store_->mutex_) =
      FakeSessionStore::Lie::kNone;
  // Replaced by Stop, so that no later result is given.
  std::shared_ptr<bool> is_open_ ABSL_GUARDED_BY(store_->mutex_) =
      std::make_shared<bool>(true);
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_FAKE_SESSION_STORE_H_
