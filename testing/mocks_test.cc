#include <memory>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/mock_backend_resolver.h"
#include "testing/mock_disconnect_source.h"
#include "testing/mock_flow_offload.h"
#include "testing/mock_session_observer.h"
#include "udpgate/flow_offload.h"
#include "udpgate/session_observer.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

using ::testing::_;
using ::testing::Field;
using ::testing::NiceMock;
using ::testing::StrictMock;

const SocketAddress kBackend = SocketAddress::Ipv4Loopback(19132);
const SocketAddress kClient = SocketAddress::Ipv4Loopback(54321);

using Answer = absl::StatusOr<ResolveResult>;

// What the resolver answers; none where it keeps or drops the callback.
absl::optional<Answer> Ask(BackendResolver& resolver) {
  auto answer = std::make_shared<absl::optional<Answer>>();
  const char datagram[] = {'h', 'i'};
  resolver.Resolve({kClient, datagram, absl::Seconds(3)},
                   [answer](Answer given) { *answer = std::move(given); });
  return *answer;
}

TEST(MockBackendResolverTest, ResolveWithAnswersEachQuestion) {
  StrictMock<MockBackendResolver> resolver;
  EXPECT_CALL(resolver, Resolve)
      .WillOnce(ResolveWith(kBackend, "lobby"))
      .WillRepeatedly(ResolveWith(kBackend));
  const auto first = Ask(resolver);
  ASSERT_TRUE(first.has_value() && first->ok());
  EXPECT_EQ((*first)->backend, kBackend);
  EXPECT_EQ((*first)->label, "lobby");
  for (int i = 0; i < 2; ++i) {
    const auto later = Ask(resolver);
    ASSERT_TRUE(later.has_value() && later->ok());
    EXPECT_EQ((*later)->label, "127.0.0.1:19132");
  }
}

TEST(MockBackendResolverTest, ResolveWithErrorAnswersWithIt) {
  StrictMock<MockBackendResolver> resolver;
  EXPECT_CALL(resolver, Resolve(Field(&ResolveRequest::client, kClient), _))
      .WillOnce(ResolveWithError(absl::NotFoundError("no lobby")));
  const auto answer = Ask(resolver);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->status(), absl::NotFoundError("no lobby"));
}

TEST(MockBackendResolverTest, WithoutExpectationTheCallbackIsDropped) {
  NiceMock<MockBackendResolver> resolver;
  EXPECT_FALSE(Ask(resolver).has_value());
  EXPECT_TRUE(resolver.Health().ok());
}

TEST(MockBackendResolverTest, HoldResolveInKeepsTheCallback) {
  StrictMock<MockBackendResolver> resolver;
  BackendResolver::Callback callback;
  EXPECT_CALL(resolver, Resolve).WillOnce(HoldResolveIn(&callback));
  Answer answer = absl::UnknownError("not answered");
  resolver.Resolve({kClient, {}, absl::Seconds(3)},
                   [&answer](Answer given) { answer = std::move(given); });
  EXPECT_EQ(answer.status(), absl::UnknownError("not answered"));
  callback(ResolveResult{kBackend, "lobby"});
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->backend, kBackend);
}

TEST(MockBackendResolverTest, HeldResolvesBridgeThreads) {
  HeldResolves held;
  StrictMock<MockBackendResolver> resolver;
  EXPECT_CALL(resolver, Resolve).Times(2).WillRepeatedly(HoldResolveIn(&held));
  std::thread asker([&] {
    Ask(resolver);
    Ask(resolver);
  });
  absl::StatusOr<HeldResolve> first = held.Take();
  absl::StatusOr<HeldResolve> second = held.Take();
  asker.join();
  ASSERT_TRUE(first.ok());
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(first->client, kClient);
  EXPECT_EQ(first->first_datagram, "hi");
  first->done(absl::CancelledError());
  EXPECT_EQ(held.size(), 0u);
  EXPECT_EQ(held.Take(absl::ZeroDuration()).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST(MockDisconnectSourceTest, CaptureHandlerInKeepsTheHandler) {
  StrictMock<MockDisconnectSource> source;
  DisconnectSource::Handler handler;
  EXPECT_CALL(source, Start).WillOnce(CaptureHandlerIn(&handler));
  EXPECT_CALL(source, Stop);
  absl::StatusOr<DisconnectTarget> seen = absl::UnknownError("no event");
  ASSERT_TRUE(source
                  .Start([&seen](absl::StatusOr<DisconnectTarget> target) {
                    seen = std::move(target);
                  })
                  .ok());
  handler(DisconnectTarget::ForRelayPort(4000));
  source.Stop();
  ASSERT_TRUE(seen.ok());
  EXPECT_EQ(seen->relay_port(), 4000);
}

TEST(MockDisconnectSourceTest, FailToStartRefuses) {
  NiceMock<MockDisconnectSource> source;
  EXPECT_CALL(source, Start)
      .WillOnce(FailToStart(absl::PermissionDeniedError("no bus")));
  EXPECT_EQ(source.Start(nullptr), absl::PermissionDeniedError("no bus"));
  EXPECT_TRUE(source.Health().ok());
}

TEST(MockFlowOffloadTest, LeavesSessionsOnSocketsUnlessTold) {
  NiceMock<MockFlowOffload> offload;
  const SessionAddresses addresses = {kClient, kBackend, kClient, kBackend};
  EXPECT_FALSE(offload.Install(addresses).has_value());
  EXPECT_EQ(offload.ReadActivity(0).from_client.datagrams, 0u);
  EXPECT_EQ(offload.LateActivity().from_client.datagrams, 0u);

  EXPECT_CALL(offload, Install(Field(&SessionAddresses::client, kClient)))
      .WillOnce(::testing::Return(7u));
  EXPECT_EQ(*offload.Install(addresses), 7u);
}

TEST(MockSessionObserverTest, SeesWhatItIsTold) {
  StrictMock<MockSessionObserver> observer;
  SessionEvent event;
  event.kind = SessionEvent::Kind::kEnded;
  event.client = kClient;
  EXPECT_CALL(observer, Observe(Field(&SessionEvent::client, kClient)));
  observer.Observe(event);
}

TEST(RecordingSessionObserverTest, KeepsWhatItIsTold) {
  RecordingSessionObserver observer;
  EXPECT_TRUE(observer.events().empty());
  SessionEvent event;
  for (const uint64_t id : {1, 2}) {
    event.session_id = id;
    observer.Observe(event);
  }
  ASSERT_EQ(observer.events().size(), 2u);
  EXPECT_EQ(observer.events()[0].session_id, 1u);
  EXPECT_EQ(observer.events()[1].session_id, 2u);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
