// The keeper with its thread, between a real Proxy and a store in memory.
#include "udpgate/store/session_keeper.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/fake_session_store.h"
#include "testing/loopback_peer.h"
#include "testing/mock_backend_resolver.h"
#include "testing/mock_session_observer.h"
#include "testing/mock_session_store.h"
#include "udpgate/clock.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_fixture.h"

namespace udpgate {
namespace test {
namespace {

using ::testing::HasSubstr;
using ::testing::NiceMock;
using ::testing::Not;
using StopReason = SessionKeeper::StopReason;

// A gateway with a keeper.
class Gate {
 public:
  explicit Gate(std::shared_ptr<SessionStore> store, absl::string_view id = "a",
                bool is_standby = false) {
    SessionKeeperOptions options;
    options.gateway_id = std::string(id);
    options.is_standby = is_standby;
    options.log_sink = [this](LogSeverity /*severity*/,
                              absl::string_view line) {
      internal::MutexLock lock(&mutex_);
      absl::StrAppend(&log_, line, "\n");
    };
    options.lease_interval = absl::Milliseconds(100);
    options.lease_lifetime = absl::Milliseconds(300);
    options.follow_interval = absl::Milliseconds(100);
    options.recovery_connect_timeout = absl::Milliseconds(200);
    keeper = SessionKeeper::Create(options, std::move(store)).value();
  }
  ~Gate() { Stop(); }

  void Create(std::shared_ptr<BackendResolver> resolver,
              const SocketAddress& listen) {
    ProxyOptions proxy_options = LoopbackOptions();
    proxy_options.listen_address = listen;
    ProxyDependencies dependencies;
    dependencies.resolver = keeper->WrapResolver(std::move(resolver));
    dependencies.session_observer = keeper->WrapObserver(observer);
    auto created = Proxy::Create(proxy_options, dependencies);
    ASSERT_TRUE(created.ok()) << created.status();
    proxy = *std::move(created);
  }
  void Start(std::shared_ptr<BackendResolver> resolver,
             const SocketAddress& listen = SocketAddress::Ipv4Loopback(0)) {
    Create(std::move(resolver), listen);
    recovery = keeper->Recover(proxy.get());
    ASSERT_TRUE(proxy->Start().ok());
    ASSERT_TRUE(keeper->Start(proxy.get()).ok());
  }
  void Stop() {
    if (proxy != nullptr) proxy->Stop();
    keeper->Stop(StopReason::kShutdown);
  }
  std::string log() const {
    internal::MutexLock lock(&mutex_);
    return log_;
  }
  SocketAddress address() const { return proxy->listen_addresses().front(); }

  const std::shared_ptr<RecordingSessionObserver> observer =
      std::make_shared<RecordingSessionObserver>();
  std::unique_ptr<SessionKeeper> keeper;
  std::unique_ptr<Proxy> proxy;
  SessionKeeper::Recovery recovery;

 private:
  mutable internal::Mutex mutex_;
  std::string log_ ABSL_GUARDED_BY(mutex_);
};

class SessionKeeperTest : public ::testing::Test {
 protected:
  SessionKeeperTest() {
    ON_CALL(*resolver_, Resolve)
        .WillByDefault(
            [this](const ResolveRequest&, BackendResolver::Callback done) {
              ResolveResult result{backend_.address(), "lobby"};
              result.is_client_proven = true;
              done(std::move(result));
            });
  }
  std::string Ask(const Gate& gate) {
    const auto reply = client_.Ask(gate.address(), "hello");
    return reply.ok() ? *reply : reply.status().ToString();
  }
  bool AwaitOwner(absl::string_view id) {
    return AwaitTrue([&] {
      const auto record = store_.Find(client_.address());
      return (record.has_value() ? record->gateway_id : "") == id;
    });
  }

  FakeSessionStore store_{Clock::Monotonic()};
  EchoBackend backend_{"echo"};
  std::shared_ptr<NiceMock<MockBackendResolver>> resolver_ =
      std::make_shared<NiceMock<MockBackendResolver>>();
  LoopbackPeer client_;
};

TEST_F(SessionKeeperTest, ASessionHasARecordWhileItLives) {
  Gate gate(store_.Connect());
  gate.Start(resolver_);
  EXPECT_TRUE(gate.recovery.status.ok()) << gate.recovery.status;
  EXPECT_EQ(Ask(gate), "echo:hello");
  ASSERT_TRUE(AwaitOwner("a"));
  const StoredSession record = *store_.Find(client_.address());
  EXPECT_EQ(record.backend, backend_.address());
  EXPECT_EQ(record.label, "lobby");
  EXPECT_EQ(record.local, gate.address());
  EXPECT_TRUE(gate.keeper->Health().ok());
  gate.proxy->Disconnect(DisconnectTarget::ForClient(client_.address()));
  EXPECT_TRUE(AwaitOwner(""));
  EXPECT_TRUE(AwaitTrue([&] { return gate.observer->events().size() == 3; }));
  EXPECT_TRUE(AwaitTrue([&] { return gate.keeper->GetStats().removed == 1; }));
}

TEST_F(SessionKeeperTest, AStopLeavesTheRecordAndEndsTheLease) {
  Gate gate(store_.Connect());
  gate.Start(resolver_);
  Ask(gate);
  ASSERT_TRUE(AwaitOwner("a"));
  EXPECT_TRUE(store_.HasLease("a"));
  gate.Stop();
  EXPECT_TRUE(AwaitOwner("a"));
  EXPECT_FALSE(store_.HasLease("a"));
}

TEST_F(SessionKeeperTest, AnotherGatewayContinuesTheSessionOfADeadOne) {
  Gate dead(store_.Connect(), "dead");
  dead.Start(resolver_);
  Ask(dead);
  ASSERT_TRUE(AwaitOwner("dead"));
  const SocketAddress relay = store_.Find(client_.address())->relay;
  dead.Stop();
  Gate gate(store_.Connect());
  gate.Start(resolver_);
  ON_CALL(*resolver_, Resolve)
      .WillByDefault(ResolveWithError(absl::NotFoundError("no backend")));
  EXPECT_EQ(Ask(gate), "echo:hello");
  EXPECT_TRUE(AwaitOwner("a"));
  EXPECT_EQ(backend_.sources().back(), relay);
  EXPECT_TRUE(AwaitTrue(
      [&] { return gate.keeper->GetStats().newcomers_adopted == 1; }));
}

TEST_F(SessionKeeperTest, AProcessThatStartsAgainContinuesItsSessions) {
  auto dead = std::make_unique<Gate>(store_.Connect());
  dead->Start(resolver_);
  const SocketAddress listen = dead->address();
  Ask(*dead);
  ASSERT_TRUE(AwaitOwner("a"));
  const StoredSession former = *store_.Find(client_.address());
  dead.reset();
  ON_CALL(*resolver_, Resolve)
      .WillByDefault(ResolveWithError(absl::NotFoundError("no backend")));
  Gate gate(store_.Connect());
  gate.Start(resolver_, listen);
  EXPECT_TRUE(gate.recovery.status.ok()) << gate.recovery.status;
  EXPECT_EQ(gate.recovery.session_count, 1);
  EXPECT_EQ(gate.recovery.on_other_port_count, 0);
  EXPECT_EQ(Ask(gate), "echo:hello");
  EXPECT_EQ(backend_.sources().back(), former.relay);
  EXPECT_TRUE(AwaitTrue([&] {
    const auto record = store_.Find(client_.address());
    return record.has_value() && record->token.run != former.token.run;
  }));
  EXPECT_EQ(gate.keeper->GetStats().newcomers_adopted, 0u);
}

TEST_F(SessionKeeperTest, APromotedStandbyServesTheSessionsOfTheOther) {
  auto active = std::make_unique<Gate>(store_.Connect(), "active");
  active->Start(resolver_);
  const SocketAddress listen = active->address();
  Ask(*active);
  ASSERT_TRUE(AwaitOwner("active"));
  const SocketAddress relay = store_.Find(client_.address())->relay;
  active.reset();
  Gate gate(store_.Connect(), "a", /*is_standby=*/true);
  gate.Start(resolver_, listen);
  EXPECT_TRUE(gate.proxy->is_standby());
  ASSERT_TRUE(
      AwaitTrue([&] { return gate.keeper->GetStats().standby_sessions == 1; }));
  gate.keeper->Promote();
  ASSERT_TRUE(AwaitTrue([&] { return !gate.proxy->is_standby(); }));
  EXPECT_EQ(Ask(gate), "echo:hello");
  EXPECT_EQ(backend_.sources().back(), relay);
  EXPECT_TRUE(AwaitOwner("a"));
}

TEST_F(SessionKeeperTest, WithoutTheStoreTheGatewayStartsAndServes) {
  const auto connection = store_.Connect();
  FakeSessionStore::Link link;
  link.is_cut = true;
  connection->SetLink(link);
  Gate gate(connection);
  gate.Start(resolver_);
  EXPECT_EQ(gate.recovery.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Ask(gate), "echo:hello");
  EXPECT_FALSE(gate.keeper->Health().ok());
}

TEST_F(SessionKeeperTest, TheLogSaysWhatIsContinuedAlsoInTheBackground) {
  auto dead = std::make_unique<Gate>(store_.Connect());
  dead->Start(resolver_);
  const SocketAddress listen = dead->address();
  Ask(*dead);
  ASSERT_TRUE(AwaitOwner("a"));
  EXPECT_THAT(dead->log(), HasSubstr("session store: continues 0 sessions"));
  dead.reset();
  const auto connection = store_.Connect();
  FakeSessionStore::Link link;
  link.is_cut = true;
  link.timeout = absl::Milliseconds(10);
  connection->SetLink(link);
  Gate gate(connection);
  gate.Start(resolver_, listen);
  EXPECT_EQ(gate.recovery.status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(gate.log(), Not(HasSubstr("continues")));
  connection->SetLink({});
  EXPECT_TRUE(AwaitTrue([&] {
    store_.Run();
    return absl::StrContains(
        gate.log(),
        "session store: continues 1 sessions of the former process, 0 of them "
        "on another source port, and lost 0, in ");
  })) << gate.log();
  EXPECT_EQ(gate.proxy->GetStats().sessions_active, 1);
}

TEST_F(SessionKeeperTest, AStoreThatGivesNoResultHoldsUpNobody) {
  const auto store = std::make_shared<NiceMock<MockSessionStore>>();
  std::vector<SessionStore::Done<MockSessionStore::Lease>> held;
  internal::Mutex mutex;
  ON_CALL(*store, RenewLease).WillByDefault([&](auto, auto, auto done) {
    internal::MutexLock lock(&mutex);
    held.push_back(std::move(done));
  });
  {
    Gate gate(store);
    gate.Start(resolver_);
    EXPECT_EQ(Ask(gate), "echo:hello");
  }
  held.clear();  // results that come after the end
}

TEST_F(SessionKeeperTest, NewcomersAreServedAfterTheKeeperHasStopped) {
  Gate gate(store_.Connect());
  gate.Start(resolver_);
  gate.keeper->Stop(StopReason::kTakenOver);
  EXPECT_EQ(Ask(gate), "echo:hello");
  EXPECT_TRUE(store_.HasLease("a"));
}

TEST_F(SessionKeeperTest, ANewProcessContinuesTheRun) {
  Gate old(store_.Connect());
  old.Start(resolver_);
  ASSERT_TRUE(AwaitTrue([&] { return store_.HasLease("a"); }));
  const std::string run = old.keeper->ExportRun();
  old.keeper->Stop(StopReason::kTakenOver);
  Gate gate(store_.Connect());
  EXPECT_EQ(gate.keeper->ContinueRun("nonsense").code(),
            absl::StatusCode::kInvalidArgument);
  ASSERT_TRUE(gate.keeper->ContinueRun(run).ok());
  EXPECT_EQ(gate.keeper->ExportRun(), run);
  gate.Create(resolver_, SocketAddress::Ipv4Loopback(0));
  ASSERT_TRUE(gate.proxy->Start().ok());
  ASSERT_TRUE(gate.keeper->Start(gate.proxy.get()).ok());
  Ask(gate);
  EXPECT_TRUE(AwaitOwner("a"));
  EXPECT_FALSE(gate.keeper->GetStats().is_fenced);
  EXPECT_EQ(gate.keeper->Start(gate.proxy.get()).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(SessionKeeperTest, AStandbyIsPromotedAndDemoted) {
  Gate gate(store_.Connect(), "a", /*is_standby=*/true);
  gate.Start(resolver_);
  EXPECT_TRUE(gate.keeper->is_standby());
  gate.keeper->Promote();
  EXPECT_TRUE(AwaitTrue([&] { return !gate.keeper->is_standby(); }));
  EXPECT_EQ(Ask(gate), "echo:hello");
  gate.keeper->Demote();
  EXPECT_TRUE(AwaitTrue([&] { return gate.keeper->is_standby(); }));
}

TEST_F(SessionKeeperTest, CreateNamesWhatIsWrong) {
  EXPECT_EQ(SessionKeeper::Create({}, store_.Connect()).status().code(),
            absl::StatusCode::kInvalidArgument);
  SessionKeeperOptions options;
  options.gateway_id = "a";
  EXPECT_EQ(SessionKeeper::Create(options, nullptr).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
