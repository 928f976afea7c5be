// What the tests of RedisSessionStore share.
#ifndef UDPGATE_REDIS_SESSION_STORE_FIXTURE_H_
#define UDPGATE_REDIS_SESSION_STORE_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "testing/await.h"
#include "testing/internal/support/redis_server.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/redis/internal/log_collector.h"
#include "udpgate/redis/internal/scripted_peer.h"
#include "udpgate/redis/redis_session_store.h"
#include "udpgate/session_store.h"
#include "udpgate/stored_session.h"

namespace udpgate {
namespace test {

using Outcome = SessionStore::Outcome;
using Outcomes = absl::StatusOr<std::vector<Outcome>>;

inline constexpr char kPrefix[] = "udp_gate:session:";
// Longer than any test.
inline constexpr absl::Duration kLongLife = absl::Minutes(10);

inline SocketAddress Address(absl::string_view text) {
  return *SocketAddress::Parse(text);
}

// A record as gateways write them. The token is {run, number}.
inline StoredSession SessionOf(int number, absl::string_view gateway_id = "a",
                               uint64_t run = 1) {
  StoredSession session;
  session.client = Address(
      absl::StrCat("203.0.", number / 250, ".", number % 250 + 1, ":", 40001));
  session.local = Address("198.51.100.1:19132");
  session.backend = Address("10.0.0.5:19132");
  session.relay = Address(absl::StrCat("10.0.0.1:", 1024 + number % 60000));
  session.label = "lobby-3.internal:19132";
  session.gateway_id = std::string(gateway_id);
  session.token = {run, static_cast<uint64_t>(number)};
  session.since = absl::FromUnixMillis(1'700'000'000'000 + number);
  return session;
}

inline std::vector<StoredSession> SessionsOf(int count,
                                             absl::string_view gateway_id = "a",
                                             uint64_t run = 1) {
  std::vector<StoredSession> sessions;
  for (int i = 0; i < count; ++i) {
    sessions.push_back(SessionOf(i, gateway_id, run));
  }
  return sessions;
}

inline SessionStore::SessionKey KeyOf(const StoredSession& session) {
  return {session.client, session.token};
}

inline std::vector<SessionStore::SessionKey> KeysOf(
    const std::vector<StoredSession>& sessions) {
  std::vector<SessionStore::SessionKey> keys;
  for (const StoredSession& session : sessions) keys.push_back(KeyOf(session));
  return keys;
}

// The texts of records, sorted.
inline std::vector<std::string> TextsOf(
    const absl::StatusOr<std::vector<StoredSession>>& sessions) {
  if (!sessions.ok()) return {sessions.status().ToString()};
  std::vector<std::string> texts;
  for (const StoredSession& session : *sessions) {
    texts.push_back(EncodeStoredSession(session));
  }
  std::sort(texts.begin(), texts.end());
  return texts;
}

inline std::vector<std::string> TextsOf(
    const absl::StatusOr<std::vector<SocketAddress>>& clients) {
  if (!clients.ok()) return {clients.status().ToString()};
  std::vector<std::string> texts;
  for (const SocketAddress& client : *clients) {
    texts.push_back(client.ToString());
  }
  std::sort(texts.begin(), texts.end());
  return texts;
}

// The outcomes as letters, or the error.
inline std::string LettersOf(const Outcomes& outcomes) {
  if (!outcomes.ok()) return outcomes.status().ToString();
  std::string letters;
  for (const Outcome outcome : *outcomes) {
    letters.push_back("DAOL"[static_cast<int>(outcome)]);
  }
  return letters;
}

// The calls of a store, each until its result is there.
class StoreCalls {
 public:
  explicit StoreCalls(SessionStore* store) : store_(store) {}

  std::string Write(std::vector<StoredSession> sessions,
                    absl::Duration lifetime = kLongLife) {
    return LettersOf(Await<std::vector<Outcome>>([&](auto done) {
      store_->Write(std::move(sessions), lifetime, std::move(done));
    }));
  }
  std::string Refresh(std::vector<SessionStore::SessionKey> keys,
                      absl::Duration lifetime = kLongLife) {
    return LettersOf(Await<std::vector<Outcome>>([&](auto done) {
      store_->Refresh(std::move(keys), lifetime, std::move(done));
    }));
  }
  std::string Remove(std::vector<SessionStore::SessionKey> keys) {
    return LettersOf(Await<std::vector<Outcome>>(
        [&](auto done) { store_->Remove(std::move(keys), std::move(done)); }));
  }
  std::string Adopt(std::vector<SessionStore::Adoption> adoptions,
                    absl::Duration lifetime = kLongLife) {
    return LettersOf(Await<std::vector<Outcome>>([&](auto done) {
      store_->Adopt(std::move(adoptions), lifetime, std::move(done));
    }));
  }
  absl::StatusOr<std::vector<SessionStore::Found>> Find(
      std::vector<SocketAddress> clients) {
    return Await<std::vector<SessionStore::Found>>(
        [&](auto done) { store_->Find(std::move(clients), std::move(done)); });
  }
  // The record of one client, or "none"; then the forward address and the run
  // of its owner, if that lives.
  std::string FindOne(const SocketAddress& client) {
    const auto found = Find({client});
    if (!found.ok()) return found.status().ToString();
    if (!found->front().session.has_value()) return "none";
    std::string text = EncodeStoredSession(*found->front().session);
    if (found->front().owner.has_value()) {
      absl::StrAppend(&text, ", ", found->front().owner->gateway_id, " run ",
                      found->front().owner->run, " at ",
                      found->front().owner->forward_address);
    }
    return text;
  }
  std::vector<std::string> List(const std::string& gateway_id) {
    return TextsOf(Await<std::vector<StoredSession>>(
        [&](auto done) { store_->List(gateway_id, std::move(done)); }));
  }
  std::vector<std::string> ListClients(const std::string& gateway_id) {
    return TextsOf(Await<std::vector<SocketAddress>>(
        [&](auto done) { store_->ListClients(gateway_id, std::move(done)); }));
  }
  // The run of the lease that was there, "none", or the error.
  std::string RenewLease(const GatewayLease& lease,
                         absl::Duration lifetime = kLongLife) {
    const auto was = Await<absl::optional<GatewayLease>>([&](auto done) {
      store_->RenewLease(lease, lifetime, std::move(done));
    });
    if (!was.ok()) return was.status().ToString();
    return was->has_value() ? absl::StrCat((*was)->run) : "none";
  }
  std::string EndLease(const GatewayLease& lease) {
    const auto outcome = Await<Outcome>(
        [&](auto done) { store_->EndLease(lease, std::move(done)); });
    if (!outcome.ok()) return outcome.status().ToString();
    return LettersOf(std::vector<Outcome>{*outcome});
  }
  // "id run" of each, "id -" if it has no lease; sorted.
  std::vector<std::string> ListGateways() {
    const auto gateways = Await<std::vector<SessionStore::Gateway>>(
        [&](auto done) { store_->ListGateways(std::move(done)); });
    if (!gateways.ok()) return {gateways.status().ToString()};
    std::vector<std::string> texts;
    for (const SessionStore::Gateway& gateway : *gateways) {
      texts.push_back(gateway.lease.has_value()
                          ? absl::StrCat(gateway.id, " ", gateway.lease->run)
                          : absl::StrCat(gateway.id, " -"));
    }
    std::sort(texts.begin(), texts.end());
    return texts;
  }

 private:
  template <typename T, typename Begin>
  static absl::StatusOr<T> Await(Begin begin) {
    std::promise<absl::StatusOr<T>> promise;
    auto result = promise.get_future();
    begin([&promise](absl::StatusOr<T> value) {
      promise.set_value(std::move(value));
    });
    return result.get();
  }

  SessionStore* const store_;
};

class RedisSessionStoreFixture : public ::testing::Test {
 protected:
  RedisSessionStoreFixture() {
    lookup_ = *HostLookup::Create({});
    redis_options_.log_sink = log_.Sink();
    redis_options_.command_timeout = absl::Seconds(10);
    redis_options_.reconnect_backoff_min = absl::Milliseconds(5);
    redis_options_.reconnect_backoff_max = absl::Milliseconds(50);
  }

  std::shared_ptr<RedisSessionStore> Make(const std::string& address) {
    redis_options_.address = address;
    auto store = RedisSessionStore::Create(redis_options_, options_, lookup_);
    EXPECT_TRUE(store.ok()) << store.status();
    const absl::Status started = (*store)->Start();
    EXPECT_TRUE(started.ok()) << started;
    return *std::move(store);
  }
  static bool AwaitHealthy(const RedisSessionStore& store) {
    return AwaitTrue([&] { return store.Health().ok(); });
  }

  LogCollector log_;
  std::shared_ptr<HostLookup> lookup_;
  RedisOptions redis_options_;
  RedisSessionStoreOptions options_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_REDIS_SESSION_STORE_FIXTURE_H_
