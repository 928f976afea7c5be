// Gateways in memory, each with a `KeeperCore`, that share a store; for tests
// and for the simulation.
#ifndef UDPGATE_STORE_INTERNAL_CORE_FIXTURE_H_
#define UDPGATE_STORE_INTERNAL_CORE_FIXTURE_H_

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "testing/fake_session_store.h"
#include "testing/simulated_clock.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"
#include "udpgate/session_observer.h"
#include "udpgate/store/internal/keeper_core.h"

namespace udpgate {
namespace store {
namespace internal {

// A Proxy without sockets. Sessions are by the text of their client, so that
// their order is always the same.
class FakeGateway final : public KeptGateway {
 public:
  struct Session {
    SessionInfo info;
    int64_t began_nanoseconds = 0;
  };

  FakeGateway(const Clock* clock, const SocketAddress& local)
      : clock_(clock), local_(local) {}

  absl::StatusOr<std::vector<RestoredSession>> Restore(
      absl::Span<const RestorableSession> restorable) override {
    std::vector<RestoredSession> results;
    for (const RestorableSession& session : restorable) {
      RestoredSession result;
      if (Find(session.client) != nullptr) {
        result.outcome = RestoredSession::Outcome::kClientPresent;
      } else {
        const bool is_taken = taken_relays.count(session.relay.ToString()) > 0;
        SessionInfo info;
        info.client = session.client;
        info.local = session.local;
        info.backend = session.backend;
        info.relay = is_taken ? NextRelay() : session.relay;
        info.label = session.label;
        if (session.tag != nullptr) {
          info.tag_key = session.tag->key();
          info.tag = session.tag->text();
        }
        info.state = SessionState::kConfirmed;
        result.outcome = is_taken ? RestoredSession::Outcome::kOnOtherRelay
                                  : RestoredSession::Outcome::kRestored;
        result.relay = info.relay;
        result.session_id = Add(info, session.age).info.id;
      }
      results.push_back(result);
    }
    return results;
  }
  void SetStandby(bool is_standby) override {
    if (is_standby) sessions.clear();
    in_standby = is_standby;
  }
  void Supersede(absl::Span<const uint64_t> session_ids) override {
    for (auto i = sessions.begin(); i != sessions.end();) {
      const bool is_named = std::count(session_ids.begin(), session_ids.end(),
                                       i->second.info.id) > 0;
      if (is_named) superseded.push_back(i->second.info.client);
      i = is_named ? sessions.erase(i) : std::next(i);
    }
  }
  absl::optional<std::vector<SessionInfo>> ListSessions() override {
    if (!is_serving) return absl::nullopt;
    std::vector<SessionInfo> infos;
    for (const auto& session : sessions) {
      infos.push_back(session.second.info);
      infos.back().age = AgeOf(session.second);
    }
    return infos;
  }
  uint64_t DroppedEvents() override { return dropped_events; }
  bool IsOwnAddress(const SocketAddress& local) override {
    return local == local_;
  }

  Session* Find(const SocketAddress& client) {
    const auto found = sessions.find(client.ToString());
    return found == sessions.end() ? nullptr : &found->second;
  }
  Session& Add(SessionInfo info, absl::Duration age) {
    info.id = next_id++;
    Session& session = sessions[info.client.ToString()];
    session.info = std::move(info);
    session.began_nanoseconds =
        clock_->NowNanoseconds() - absl::ToInt64Nanoseconds(age);
    return session;
  }
  absl::Duration AgeOf(const Session& session) const {
    return absl::Nanoseconds(clock_->NowNanoseconds() -
                             session.began_nanoseconds);
  }
  SocketAddress NextRelay() {
    if (next_relay_port == 60'000) {
      next_relay_port = 40'000;
      ++next_relay_ip;
    }
    return SocketAddress::FromIpAndPort(
               absl::StrCat("127.0.", next_relay_ip, ".1"), next_relay_port++)
        .value();
  }
  const SocketAddress& local() const { return local_; }

  std::map<std::string, Session> sessions;
  std::vector<SocketAddress> superseded;
  std::set<std::string> taken_relays;
  uint64_t next_id = 1;
  uint16_t next_relay_port = 40'000;
  int next_relay_ip = 0;
  uint64_t dropped_events = 0;
  bool is_serving = true;
  bool in_standby = false;

 private:
  const Clock* const clock_;
  const SocketAddress local_;
};

// One process of a gateway. Nothing happens but by its calls.
class CoreHost {
 public:
  CoreHost(SessionKeeperOptions options, std::shared_ptr<SessionStore> store,
           const test::SimulatedClock* clock, const SocketAddress& local,
           uint64_t run)
      : options_(std::move(options)),
        clock_(clock),
        gateway_(clock, local),
        core_(
            &options_, std::move(store),
            [posted = posted_](absl::AnyInvocable<void()> call) {
              posted->push_back(std::move(call));
            },
            run) {}
  CoreHost(const CoreHost&) = delete;
  CoreHost& operator=(const CoreHost&) = delete;

  KeeperCore* operator->() { return &core_; }
  KeeperCore* core() { return &core_; }
  FakeGateway& gateway() { return gateway_; }
  const SessionKeeperStats& stats() const { return core_.stats(); }
  absl::Time wall() const {
    return absl::FromUnixSeconds(1'700'000'000) +
           absl::Nanoseconds(clock_->NowNanoseconds()) + clock_offset;
  }

  void SetTime() { core_.SetTime(clock_->NowNanoseconds(), wall()); }
  // Starts as a program does.
  void Start() {
    SetTime();
    core_.SetGateway(&gateway_);
    core_.BeginRecovery();
    core_.OnServing();
    Settle();
  }
  // All that can be done now.
  void Settle() {
    do {
      SetTime();
      while (!posted_->empty()) {
        absl::AnyInvocable<void()> call = std::move(posted_->front());
        posted_->pop_front();
        call();
      }
      core_.Tick();
    } while (!posted_->empty() ||
             core_.next_nanoseconds() <= clock_->NowNanoseconds());
  }
  int64_t next_nanoseconds() const { return core_.next_nanoseconds(); }

  // A session is confirmed, and the keeper is told.
  FakeGateway::Session& Confirm(const SocketAddress& client,
                                const SocketAddress& backend,
                                bool is_told = true) {
    SessionInfo info;
    info.client = client;
    info.local = gateway_.local();
    info.backend = backend;
    info.relay = gateway_.NextRelay();
    info.label = backend.ToString();
    info.state = SessionState::kConfirmed;
    FakeGateway::Session& session = gateway_.Add(info, absl::ZeroDuration());
    if (is_told) Tell(SessionEvent::Kind::kConfirmed, session, {});
    return session;
  }
  void End(const SocketAddress& client, EndReason reason, bool is_told = true) {
    const auto found = gateway_.sessions.find(client.ToString());
    const FakeGateway::Session session = found->second;
    gateway_.sessions.erase(found);
    if (is_told) Tell(SessionEvent::Kind::kEnded, session, reason);
  }
  void Tell(SessionEvent::Kind kind, const FakeGateway::Session& session,
            EndReason reason) {
    SessionEvent event;
    event.kind = kind;
    event.session_id = session.info.id;
    event.end_reason = reason;
    event.client = session.info.client;
    event.local = session.info.local;
    event.backend = session.info.backend;
    event.relay = session.info.relay;
    event.label = session.info.label;
    event.age = gateway_.AgeOf(session);
    SetTime();
    core_.OnEvent(event);
  }

  // Of the time of day, beside the clock that all share.
  absl::Duration clock_offset = absl::ZeroDuration();

 private:
  const SessionKeeperOptions options_;
  const test::SimulatedClock* const clock_;
  FakeGateway gateway_;
  // The store may have a result for a host that is gone.
  const std::shared_ptr<std::deque<absl::AnyInvocable<void()>>> posted_ =
      std::make_shared<std::deque<absl::AnyInvocable<void()>>>();
  KeeperCore core_;
};

// A fleet, and the time that passes for all of it.
class CoreFleet {
 public:
  std::unique_ptr<CoreHost> NewHost(SessionKeeperOptions options,
                                    const SocketAddress& local) {
    connections_.push_back(store.Connect());
    return std::make_unique<CoreHost>(std::move(options), connections_.back(),
                                      &clock, local, next_run_++);
  }
  test::FakeStoreConnection& last_connection() { return *connections_.back(); }

  // Settles these hosts at each moment at which one of them, or the store, has
  // something to do.
  void Advance(absl::Duration time, const std::vector<CoreHost*>& hosts) {
    const int64_t end = clock.NowNanoseconds() + absl::ToInt64Nanoseconds(time);
    while (true) {
      store.Run();
      for (CoreHost* const host : hosts) host->Settle();
      const int64_t now = clock.NowNanoseconds();
      if (now >= end) return;
      int64_t next = std::min(end, store.next_nanoseconds().value_or(end));
      for (CoreHost* const host : hosts) {
        next = std::min(next, host->next_nanoseconds());
      }
      clock.Advance(absl::Nanoseconds(std::max<int64_t>(next - now, 1)));
    }
  }

  test::SimulatedClock clock;
  test::FakeSessionStore store{&clock};

 private:
  std::vector<std::shared_ptr<test::FakeStoreConnection>> connections_;
  uint64_t next_run_ = 1000;
};

}  // namespace internal
}  // namespace store
}  // namespace udpgate

#endif  // UDPGATE_STORE_INTERNAL_CORE_FIXTURE_H_
