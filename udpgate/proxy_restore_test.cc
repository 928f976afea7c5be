// Sessions of another process or gateway that are continued, before Start and
// while the Proxy runs.
#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/loopback_peer.h"
#include "testing/mock_session_observer.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/internal/control/proxy_handover.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_fixture.h"
#include "udpgate/session_restore.h"

namespace udpgate {
namespace test {
namespace {

using ::testing::Each;
using ::testing::Field;
using ::testing::NiceMock;
using ::testing::SizeIs;
using Outcome = RestoredSession::Outcome;

// Has a tag of its own for every player.
class TagResolver final : public NiceMock<MockBackendResolver> {
 public:
  explicit TagResolver(std::shared_ptr<SessionTag> tag)
      : tag_(std::move(tag)) {}
  std::shared_ptr<SessionTag> RestoreTag(const SessionTag& /*tag*/) override {
    return tag_;
  }

 private:
  const std::shared_ptr<SessionTag> tag_;
};

class ProxyRestoreTest : public ProxyTest {
 protected:
  static constexpr uint16_t kFirstPort = 23000;
  static constexpr size_t kPorts = 400;

  ProxyRestoreTest() {
    options_.upstream_bind_addresses = {own_address_};
    for (size_t i = 0; i < kPorts; ++i) {
      options_.relay_ports.push_back(static_cast<uint16_t>(kFirstPort + i));
    }
    EXPECT_CALL(*resolver_, Resolve).Times(0);
  }

  SocketAddress Relay(size_t number) const {
    return own_address_.WithPort(static_cast<uint16_t>(kFirstPort + number));
  }
  // With `backend_`, each on a port of its own.
  std::vector<RestorableSession> SessionsOf(
      const std::vector<LoopbackPeer>& clients) {
    std::vector<RestorableSession> sessions(clients.size());
    for (size_t i = 0; i < clients.size(); ++i) {
      sessions[i].client = clients[i].address();
      sessions[i].local = listen_address();
      sessions[i].backend = backend_.address();
      sessions[i].relay = Relay(i);
      sessions[i].label = "lobby";
      sessions[i].age = absl::Seconds(10);
    }
    return sessions;
  }
  void ExpectServed(std::vector<LoopbackPeer>* clients) {
    for (LoopbackPeer& client : *clients) {
      EXPECT_EQ(Ask(client, "x"), "echo:x");
    }
  }

  const SocketAddress own_address_ = OwnLoopbackAddress();
};

INSTANTIATE_TEST_SUITE_P(Threads, ProxyRestoreTest, AllThreadCounts(), NameOf);

TEST_P(ProxyRestoreTest, BeforeStartAllSessionsAreThereWithTheFirstDatagram) {
  Create();
  std::vector<LoopbackPeer> clients(60);
  const std::vector<RestorableSession> sessions = SessionsOf(clients);
  const auto restored = proxy_->Restore(sessions);
  ASSERT_TRUE(restored.ok()) << restored.status();
  ASSERT_THAT(*restored, SizeIs(clients.size()));
  std::set<uint64_t> ids;
  for (size_t i = 0; i < clients.size(); ++i) {
    EXPECT_EQ((*restored)[i].outcome, Outcome::kRestored);
    EXPECT_EQ((*restored)[i].relay, Relay(i));
    ids.insert((*restored)[i].session_id);
  }
  EXPECT_THAT(ids, SizeIs(clients.size()));
  ASSERT_TRUE(proxy_->Start().ok());
  ExpectServed(&clients);
  std::set<uint64_t> live_ids;
  for (const SessionInfo& session : Sessions()) {
    live_ids.insert(session.id);
    EXPECT_EQ(session.state, SessionState::kConfirmed);
    EXPECT_GE(session.age, absl::Seconds(10));
  }
  EXPECT_EQ(live_ids, ids);
  EXPECT_EQ(proxy_->GetStats().sessions_restored, clients.size());
  ASSERT_THAT(proxy_->CountSessionsByBackend(), SizeIs(1));
  EXPECT_EQ(proxy_->CountSessionsByBackend()[0].sessions,
            static_cast<int64_t>(clients.size()));
  EXPECT_TRUE(IsAccounted(proxy_->GetStats()));
}

TEST_P(ProxyRestoreTest, WhileItRunsTheWorkersDoIt) {
  Start();
  std::vector<LoopbackPeer> clients(200);
  const auto restored = proxy_->Restore(SessionsOf(clients));
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_THAT(*restored, SizeIs(clients.size()));
  EXPECT_THAT(*restored,
              Each(Field(&RestoredSession::outcome, Outcome::kRestored)));
  ExpectServed(&clients);
  const auto again = proxy_->Restore(SessionsOf(clients));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_THAT(*again,
              Each(Field(&RestoredSession::outcome, Outcome::kClientPresent)));
  EXPECT_TRUE(AwaitTrue([&] { return IsAccounted(proxy_->GetStats()); }));
}

TEST_P(ProxyRestoreTest, SeveralCallersAtOnceGetTheirOwnResults) {
  Start();
  std::vector<LoopbackPeer> clients(200);
  const std::vector<RestorableSession> sessions = SessionsOf(clients);
  std::vector<std::thread> callers;
  std::atomic<size_t> restored_count{0};
  for (size_t i = 0; i < 4; ++i) {
    callers.emplace_back([&, i] {
      const auto restored =
          proxy_->Restore(absl::MakeConstSpan(sessions).subspan(i * 50, 50));
      ASSERT_TRUE(restored.ok()) << restored.status();
      for (size_t j = 0; j < restored->size(); ++j) {
        EXPECT_EQ((*restored)[j].relay, Relay(i * 50 + j));
        ++restored_count;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(restored_count, clients.size());
  EXPECT_EQ(proxy_->GetStats().sessions_restored, clients.size());
}

// One that has lost its port must not get that of a session after it.
TEST_P(ProxyRestoreTest, OnlySessionsWithoutAPortOfTheirOwnGetAnother) {
  Create();
  std::vector<LoopbackPeer> clients(kPorts);
  std::vector<RestorableSession> sessions = SessionsOf(clients);
  constexpr size_t kLost = 50;
  for (size_t i = 0; i < kLost; ++i) sessions[i].relay = SocketAddress();
  const auto restored = proxy_->Restore(sessions);
  ASSERT_TRUE(restored.ok()) << restored.status();
  for (size_t i = 0; i < sessions.size(); ++i) {
    EXPECT_EQ((*restored)[i].outcome,
              i < kLost ? Outcome::kOnOtherRelay : Outcome::kRestored);
  }
  EXPECT_EQ(proxy_->GetStats().relay_ports_in_use, kPorts);
}

TEST_P(ProxyRestoreTest, TheResolversOwnTagIsUsed) {
  dependencies_.resolver =
      std::make_shared<TagResolver>(std::make_shared<SessionTag>("key", "own"));
  Create();
  std::vector<LoopbackPeer> clients(1);
  std::vector<RestorableSession> sessions = SessionsOf(clients);
  sessions[0].tag = std::make_shared<SessionTag>("key", "stored");
  ASSERT_TRUE(proxy_->Restore(sessions).ok());
  ASSERT_TRUE(proxy_->Start().ok());
  ASSERT_THAT(Sessions(), SizeIs(1));
  EXPECT_EQ(Sessions()[0].tag, "own");
}

TEST_P(ProxyRestoreTest, TheObserverHearsOfTheEndAlone) {
  const auto observer = std::make_shared<RecordingSessionObserver>();
  dependencies_.session_observer = observer;
  Create();
  std::vector<LoopbackPeer> clients(1);
  ASSERT_TRUE(proxy_->Restore(SessionsOf(clients)).ok());
  ASSERT_TRUE(proxy_->Start().ok());
  ExpectServed(&clients);
  EXPECT_EQ(Disconnect(DisconnectTarget::ForClient(clients[0].address())), 1);
  ASSERT_TRUE(AwaitTrue([&] { return !observer->events().empty(); }));
  ASSERT_THAT(observer->events(), SizeIs(1));
  EXPECT_EQ(observer->events()[0].kind, SessionEvent::Kind::kEnded);
  EXPECT_EQ(observer->events()[0].label, "lobby");
}

TEST_P(ProxyRestoreTest, NothingIsRestoredAfterStopOrDuringATakeover) {
  Create();
  std::vector<LoopbackPeer> clients(1);
  const std::vector<RestorableSession> sessions = SessionsOf(clients);
  ASSERT_TRUE(proxy_->handover()->ListenForDisconnects().ok());
  EXPECT_EQ(proxy_->Restore(sessions).status().code(),
            absl::StatusCode::kFailedPrecondition);
  proxy_->Stop();
  EXPECT_EQ(proxy_->Restore(sessions).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_P(ProxyRestoreTest, StopEndsARestorationThatIsUnderWay) {
  Start();
  std::vector<LoopbackPeer> clients(kPorts);
  const std::vector<RestorableSession> sessions = SessionsOf(clients);
  std::thread caller([&] {
    const auto restored = proxy_->Restore(sessions);
    EXPECT_TRUE(restored.ok() ||
                restored.status().code() == absl::StatusCode::kUnavailable)
        << restored.status();
  });
  AwaitTrue([&] { return proxy_->GetStats().sessions_restored > 0; });
  proxy_->Stop();
  caller.join();
  EXPECT_TRUE(IsAccounted(proxy_->GetStats()));
}

TEST_P(ProxyRestoreTest, SupersedeEndsExactlyTheNamedSessions) {
  Create();
  std::vector<LoopbackPeer> clients(40);
  auto restored = proxy_->Restore(SessionsOf(clients));
  ASSERT_TRUE(restored.ok()) << restored.status();
  proxy_->Supersede({(*restored)[0].session_id});  // before Start at once
  EXPECT_EQ(proxy_->GetStats().ended(EndReason::kSuperseded), 1u);
  ASSERT_TRUE(proxy_->Start().ok());
  std::vector<uint64_t> ids = {uint64_t{12345678} << 8};
  for (size_t i = 0; i < 20; ++i) ids.push_back((*restored)[i].session_id);
  proxy_->Supersede(ids);
  EXPECT_TRUE(AwaitEnded(EndReason::kSuperseded, 20));
  std::set<uint64_t> live;
  for (const SessionInfo& session : Sessions()) live.insert(session.id);
  EXPECT_THAT(live, SizeIs(20));
  for (size_t i = 20; i < 40; ++i) {
    EXPECT_EQ(live.count((*restored)[i].session_id), 1u);
  }
  proxy_->Stop();
  proxy_->Supersede(ids);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
