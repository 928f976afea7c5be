#include <atomic>
#include <cstddef>
#include <future>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/loopback_peer.h"
#include "testing/mock_backend_resolver.h"
#include "testing/mock_session_observer.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_fixture.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"
#include "udpgate/session_observer.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

using ::testing::NiceMock;

using ProxyMonitoringTest = ProxyTest;

INSTANTIATE_TEST_SUITE_P(ThreadCounts, ProxyMonitoringTest, AllThreadCounts(),
                         NameOf);

TEST_P(ProxyMonitoringTest, ForEachSessionVisitsEachSessionOnce) {
  ON_CALL(*resolver_, Resolve)
      .WillByDefault(ResolveWith(backend_.address(), "lobby"));
  Start();
  EXPECT_TRUE(Sessions().empty());
  std::vector<LoopbackPeer> clients(10);
  for (LoopbackPeer& client : clients) EXPECT_EQ(Ask(client, "12"), "echo:12");
  ASSERT_TRUE(AwaitTrue([&] {
    return proxy_->GetStats().backend_datagrams_forwarded == clients.size();
  }));
  const std::vector<SessionInfo> sessions = Sessions();
  ASSERT_EQ(sessions.size(), clients.size());
  std::vector<SocketAddress> relays = backend_.sources();
  for (const LoopbackPeer& client : clients) {
    int match_count = 0;
    for (const SessionInfo& session : sessions) {
      if (session.client != client.address()) continue;
      ++match_count;
      EXPECT_EQ(session.local, proxy_->listen_addresses().front());
      EXPECT_EQ(session.backend, backend_.address());
      EXPECT_EQ(session.label, "lobby");
      EXPECT_THAT(relays, ::testing::Contains(session.relay));
      EXPECT_EQ(session.client_datagrams_forwarded, 1u);
      EXPECT_EQ(session.client_bytes_forwarded, 2u);
      EXPECT_EQ(session.backend_datagrams_forwarded, 1u);
      EXPECT_EQ(session.backend_bytes_forwarded, 7u);
      EXPECT_GE(session.age, session.idle);
      EXPECT_GE(session.idle, absl::ZeroDuration());
    }
    EXPECT_EQ(match_count, 1);
  }
}

TEST_P(ProxyMonitoringTest, ForEachSessionVisitsNoneBeforeStart) {
  Create();
  EXPECT_TRUE(Sessions().empty());
}

TEST_P(ProxyMonitoringTest, CountsSessionsByBackend) {
  EchoBackend other("other");
  const auto counts = [this] {
    std::vector<std::pair<SocketAddress, int64_t>> pairs;
    for (const BackendSessionCount& count : proxy_->CountSessionsByBackend()) {
      pairs.emplace_back(count.backend, count.sessions);
    }
    return pairs;
  };
  // Other threads call the mock, so it is not changed later.
  std::atomic<bool> names_other{false};
  ON_CALL(*resolver_, Resolve)
      .WillByDefault(
          [&](const ResolveRequest&, BackendResolver::Callback done) {
            ResolveResult result{backend_.address(), ""};
            if (names_other) {
              result = {other.address(), "other"};
              result.is_client_proven = true;
            }
            done(result);
          });
  Start();
  EXPECT_THAT(counts(), ::testing::IsEmpty());
  std::vector<LoopbackPeer> clients(3);
  EXPECT_EQ(Ask(clients[0], "a"), "echo:a");
  EXPECT_EQ(Ask(clients[1], "a"), "echo:a");
  // A session that is confirmed counts once, too.
  names_other = true;
  EXPECT_EQ(Ask(clients[2], "a"), "other:a");
  EXPECT_EQ(proxy_->GetStats().sessions_confirmed, 1u);
  EXPECT_THAT(counts(),
              ::testing::ElementsAre(::testing::Pair(backend_.address(), 2),
                                     ::testing::Pair(other.address(), 1)));
  proxy_->Disconnect(DisconnectTarget::ForBackend(backend_.address()));
  EXPECT_TRUE(AwaitTrue([&] { return counts().size() == 1; }));
  proxy_->Stop();
  EXPECT_THAT(counts(), ::testing::IsEmpty());
}

TEST_P(ProxyMonitoringTest, StatisticsMayBeReadFromSeveralThreads) {
  Start();
  std::atomic<bool> stopping{false};
  std::atomic<int> backward_count{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      ProxyStats before;
      while (!stopping) {
        const ProxyStats now = proxy_->GetStats();
        for (const ProxyStatField& field : ProxyStatFields()) {
          if (field.kind == ProxyStatField::Kind::kCounter &&
              now.*field.value < before.*field.value) {
            ++backward_count;
          }
        }
        before = now;
      }
    });
  }
  readers.emplace_back([&] {
    while (!stopping) Sessions();
  });
  std::vector<LoopbackPeer> clients(5);
  for (int i = 0; i < 50; ++i) {
    for (LoopbackPeer& client : clients) {
      EXPECT_EQ(Ask(client, "hello"), "echo:hello");
    }
  }
  stopping = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(backward_count, 0);
  EXPECT_TRUE(AwaitTrue([&] {
    const ProxyStats stats = proxy_->GetStats();
    return stats.backend_datagrams_forwarded == 250 && IsAccounted(stats);
  }));
}

TEST_P(ProxyMonitoringTest, ObserverReceivesEventsWhileRunningAndAtStop) {
  const auto observer = std::make_shared<RecordingSessionObserver>();
  dependencies_.session_observer = observer;
  options_.session_events_max = 2;  // fewer than the sessions that end at once
  Start();
  LoopbackPeer clients[10];
  for (LoopbackPeer& client : clients) {
    EXPECT_EQ(Ask(client, "hello"), "echo:hello");
    const size_t opened = &client - clients + 1;
    ASSERT_TRUE(AwaitTrue([&] { return observer->events().size() == opened; }));
  }
  EXPECT_EQ(observer->events()[0].kind, SessionEvent::Kind::kOpened);
  EXPECT_EQ(observer->events()[0].client, clients[0].address());
  EXPECT_EQ(observer->events()[0].backend, backend_.address());
  EXPECT_EQ(observer->events()[0].local, listen_address());
  proxy_->Stop();
  const std::vector<SessionEvent> events = observer->events();
  EXPECT_EQ(events.size(), 20u);
  for (size_t i = 10; i < events.size(); ++i) {
    EXPECT_EQ(events[i].kind, SessionEvent::Kind::kEnded);
    EXPECT_EQ(events[i].end_reason, EndReason::kStopped);
    EXPECT_EQ(events[i].client_bytes_forwarded, 5u);
    EXPECT_EQ(events[i].backend_bytes_forwarded, 10u);
  }
  EXPECT_EQ(proxy_->GetStats().session_events_dropped, 0u);
}

TEST_P(ProxyMonitoringTest, BlockedObserverLosesEventsAndDelaysNothing) {
  std::promise<void> may_return;
  const std::shared_future<void> returns = may_return.get_future().share();
  const auto observer = std::make_shared<NiceMock<MockSessionObserver>>();
  ON_CALL(*observer, Observe).WillByDefault([returns] { returns.wait(); });
  dependencies_.session_observer = observer;
  options_.session_events_max = 1;
  Start();
  LoopbackPeer client;
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Ask(client, "hello"), "echo:hello");
    EXPECT_EQ(Disconnect(DisconnectTarget::ForClient(client.address())), 1);
  }
  // One event is queued or in the call.
  EXPECT_EQ(proxy_->GetStats().session_events_dropped, 19u);
  may_return.set_value();
}

}  // namespace
}  // namespace test
}  // namespace udpgate
