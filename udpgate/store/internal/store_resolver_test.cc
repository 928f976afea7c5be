#include "udpgate/store/internal/store_resolver.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/types/optional.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/mock_backend_resolver.h"

namespace udpgate {
namespace store {
namespace internal {
namespace {

using ::testing::_;
using ::testing::ElementsAre;
using ::testing::NiceMock;
using ::testing::Return;

const SocketAddress kClient = SocketAddress::Ipv4Loopback(1000);
const SocketAddress kBackend = SocketAddress::Ipv4Loopback(9);
const SocketAddress kRecordBackend = SocketAddress::Ipv4Loopback(10);
const SocketAddress kRelay = SocketAddress::Ipv4Loopback(40000);

class Inner : public test::MockBackendResolver {
 public:
  MOCK_METHOD(udpgate::Screening, Screen,
              (const SocketAddress& client, absl::Span<const char> datagram),
              (override));
  MOCK_METHOD(std::vector<SocketAddress>, HandleDisconnect,
              (const DisconnectTarget& target), (override));
  MOCK_METHOD(std::shared_ptr<SessionTag>, RestoreTag, (const SessionTag& tag),
              (override));
};

class Source : public RecordSource {
 public:
  void Ask(const SocketAddress& client, absl::Duration timeout,
           Newcomers::Answer given) override {
    EXPECT_EQ(client, kClient);
    asked_timeout = timeout;
    answer = std::move(given);
  }
  void OnDisconnect(const DisconnectTarget& target) override {
    disconnects.push_back(target.ToString());
  }

  absl::Duration asked_timeout;
  Newcomers::Answer answer;
  std::vector<std::string> disconnects;
};

class StoreResolverTest : public ::testing::Test {
 protected:
  void Resolve(
      ResolveRequest::Reason reason = ResolveRequest::Reason::kDatagram) {
    ResolveRequest request;
    request.client = kClient;
    request.timeout = absl::Seconds(3);
    request.reason = reason;
    resolver_.Resolve(request, [this](absl::StatusOr<ResolveResult> result) {
      result_ = std::move(result);
    });
  }
  void Answer(Verdict::Kind kind,
              const SocketAddress& forward_to = SocketAddress()) {
    Verdict verdict;
    verdict.kind = kind;
    verdict.forward_to = forward_to;
    verdict.record.client = kClient;
    verdict.record.backend = kRecordBackend;
    verdict.record.label = "lobby";
    verdict.record.relay = kRelay;
    verdict.record.tag_key = "key";
    verdict.age = absl::Seconds(7);
    source_->answer(std::move(verdict));
  }

  std::shared_ptr<NiceMock<Inner>> inner_ = std::make_shared<NiceMock<Inner>>();
  std::shared_ptr<Source> source_ = std::make_shared<Source>();
  StoreResolver resolver_{inner_, source_, absl::ZeroDuration()};
  absl::optional<absl::StatusOr<ResolveResult>> result_;
};

TEST_F(StoreResolverTest, BothAreAskedAtOnceAndTheStoreIsWaitedFor) {
  EXPECT_CALL(*inner_, Resolve).WillOnce(test::ResolveWith(kBackend));
  Resolve();
  EXPECT_FALSE(result_.has_value());
  EXPECT_EQ(source_->asked_timeout, absl::Milliseconds(1500));
  Answer(Verdict::Kind::kNothing);
  ASSERT_TRUE(result_.has_value());
  EXPECT_EQ((*result_)->backend, kBackend);
}

TEST_F(StoreResolverTest, WithoutARecordTheResultIsWaitedFor) {
  BackendResolver::Callback callback;
  EXPECT_CALL(*inner_, Resolve).WillOnce(test::HoldResolveIn(&callback));
  Resolve();
  Answer(Verdict::Kind::kNothing);
  EXPECT_FALSE(result_.has_value());
  callback(absl::NotFoundError("none"));
  EXPECT_EQ(result_->status().code(), absl::StatusCode::kNotFound);
}

TEST_F(StoreResolverTest, AnAdoptedSessionIsContinued) {
  BackendResolver::Callback callback;
  EXPECT_CALL(*inner_, Resolve).WillOnce(test::HoldResolveIn(&callback));
  const auto tag = std::make_shared<SessionTag>("key", "text");
  EXPECT_CALL(*inner_, RestoreTag).WillOnce(Return(tag));
  Resolve();
  Answer(Verdict::Kind::kAdopted);
  ASSERT_TRUE(result_.has_value());
  EXPECT_EQ((*result_)->backend, kRecordBackend);
  EXPECT_EQ((*result_)->label, "lobby");
  EXPECT_EQ((*result_)->relay, kRelay);
  EXPECT_TRUE((*result_)->is_client_proven);
  EXPECT_EQ((*result_)->age, absl::Seconds(7));
  EXPECT_EQ((*result_)->tag, tag);
  result_.reset();
  callback(ResolveResult{kBackend, ""});  // too late
  EXPECT_FALSE(result_.has_value());
}

TEST_F(StoreResolverTest, OfALiveOwnerOnlyTheBackendIsTaken) {
  EXPECT_CALL(*inner_, Resolve)
      .WillOnce(test::ResolveWithError(absl::NotFoundError("none")));
  EXPECT_CALL(*inner_, RestoreTag).Times(0);
  Resolve();
  Answer(Verdict::Kind::kSameBackend);
  ASSERT_TRUE(result_->ok());
  EXPECT_EQ((*result_)->backend, kRecordBackend);
  EXPECT_EQ((*result_)->label, "lobby");
  EXPECT_FALSE((*result_)->relay.is_valid());
  EXPECT_FALSE((*result_)->is_client_proven);
}

TEST_F(StoreResolverTest, ALiveOwnerMayGetTheDatagrams) {
  const SocketAddress owner = SocketAddress::Ipv4Loopback(7);
  EXPECT_CALL(*inner_, Resolve).WillOnce(test::ResolveWith(kBackend));
  Resolve();
  Answer(Verdict::Kind::kSameBackend, owner);
  ASSERT_TRUE(result_->ok());
  EXPECT_EQ((*result_)->forward_to, owner);
  EXPECT_EQ((*result_)->backend, kRecordBackend) << "if it does not answer";
  EXPECT_FALSE((*result_)->is_client_proven);
}

TEST_F(StoreResolverTest, AResolverThatKnowsThePlayerWins) {
  EXPECT_CALL(*inner_, Resolve)
      .WillOnce([](const ResolveRequest&, BackendResolver::Callback done) {
        ResolveResult result{kRecordBackend, "join"};
        result.tag = std::make_shared<SessionTag>("key", "text");
        done(std::move(result));
      });
  Resolve();
  Answer(Verdict::Kind::kAdopted);
  EXPECT_EQ((*result_)->label, "join");
  EXPECT_NE((*result_)->tag, nullptr);
  EXPECT_EQ((*result_)->relay, kRelay);
}

TEST_F(StoreResolverTest, OnlyDatagramsAreAskedFor) {
  EXPECT_CALL(*inner_, Resolve).WillOnce(test::ResolveWith(kBackend));
  Resolve(ResolveRequest::Reason::kStatus);
  EXPECT_EQ((*result_)->backend, kBackend);
  EXPECT_EQ(source_->answer, nullptr);
}

TEST_F(StoreResolverTest, DisconnectsReachTheKeeperWithAllClients) {
  EXPECT_CALL(*inner_, HandleDisconnect)
      .WillOnce(Return(std::vector<SocketAddress>{kClient}));
  EXPECT_THAT(
      resolver_.HandleDisconnect(DisconnectTarget::ForBackend(kBackend)),
      ElementsAre(kClient));
  EXPECT_THAT(source_->disconnects,
              ElementsAre("backend 127.0.0.1:9", "127.0.0.1:1000"));
}

TEST_F(StoreResolverTest, TheRestIsThatOfTheWrappedResolver) {
  EXPECT_CALL(*inner_, Health).WillOnce(Return(absl::UnavailableError("x")));
  EXPECT_EQ(resolver_.Health().code(), absl::StatusCode::kUnavailable);
  udpgate::Screening known;
  known.is_known_player = true;
  EXPECT_CALL(*inner_, Screen).WillOnce(Return(known));
  EXPECT_TRUE(resolver_.Screen(kClient, {}).is_known_player);
  EXPECT_CALL(*inner_, RestoreTag).WillOnce(Return(nullptr));
  EXPECT_EQ(resolver_.RestoreTag(SessionTag("key", "text")), nullptr);
}

}  // namespace
}  // namespace internal
}  // namespace store
}  // namespace udpgate
