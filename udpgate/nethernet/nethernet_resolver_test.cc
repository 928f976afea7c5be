#include "udpgate/nethernet/nethernet_resolver.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/mock_backend_resolver.h"
#include "testing/simulated_clock.h"
#include "udpgate/nethernet/join_fixture.h"
#include "udpgate/nethernet/join_table.h"

namespace udpgate {
namespace nethernet {
namespace test {
namespace {

using ::testing::ElementsAre;
using ::testing::NiceMock;
using ::testing::Return;
using ::udpgate::test::ResolveWith;

const SocketAddress kClient = Address("192.0.2.1:1000");

class InnerResolver : public ::udpgate::test::MockBackendResolver {
 public:
  MOCK_METHOD(Screening, Screen,
              (const SocketAddress& client, absl::Span<const char> datagram),
              (override));
  MOCK_METHOD(std::vector<SocketAddress>, HandleDisconnect,
              (const DisconnectTarget& target), (override));
  MOCK_METHOD(std::shared_ptr<SessionTag>, RestoreTag, (const SessionTag& tag),
              (override));
};

class NetherNetResolverTest : public ::testing::Test {
 protected:
  NetherNetResolverTest() {
    EXPECT_TRUE(Add(JoinWith("abcd"), joins_.get()).ok());
  }

  absl::StatusOr<ResolveResult> Resolve(
      const std::string& datagram,
      ResolveRequest::Reason reason = ResolveRequest::Reason::kDatagram) {
    ResolveRequest request;
    request.client = kClient;
    request.first_datagram = datagram;
    request.reason = reason;
    absl::StatusOr<ResolveResult> result = absl::InternalError("no result");
    resolver_.Resolve(request, [&](absl::StatusOr<ResolveResult> given) {
      result = std::move(given);
    });
    return result;
  }

  ::udpgate::test::SimulatedClock clock_;
  std::shared_ptr<JoinTable> joins_ =
      std::make_shared<JoinTable>(JoinTableOptions(), &clock_);
  std::shared_ptr<NiceMock<InnerResolver>> inner_ =
      std::make_shared<NiceMock<InnerResolver>>();
  NetherNetResolver resolver_{inner_, joins_};
};

TEST_F(NetherNetResolverTest, AsksTheOtherResolverForTheOtherClientsOnly) {
  EXPECT_CALL(*inner_, Resolve)
      .Times(1)
      .WillOnce(ResolveWith(Address("10.0.0.9:1"), "inner"));
  EXPECT_EQ(Resolve(CheckOf("abcd"))->backend, Address("10.0.0.5:19133"));
  EXPECT_EQ(Resolve(CheckOf("efgh")).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(Resolve("RakNet")->label, "inner");
}

// Signaling asks for the backend by which a join begins.
TEST_F(NetherNetResolverTest, AsksTheOtherResolverForJoins) {
  EXPECT_CALL(*inner_, Resolve)
      .WillRepeatedly(ResolveWith(Address("10.0.0.9:1"), "inner"));
  EXPECT_EQ(Resolve("", ResolveRequest::Reason::kJoin)->label, "inner");
  EXPECT_EQ(Resolve("", ResolveRequest::Reason::kStatus)->label, "inner");
}

TEST_F(NetherNetResolverTest, LetsTheOtherResolverScreenTheOtherClients) {
  Screening denied;
  denied.drop = DropReason::kDenied;
  EXPECT_CALL(*inner_, Screen).Times(1).WillOnce(Return(denied));
  EXPECT_EQ(resolver_.Screen(kClient, absl::string_view("RakNet")).drop,
            DropReason::kDenied);
  const Screening known = resolver_.Screen(kClient, CheckOf("abcd"));
  EXPECT_FALSE(known.drop.has_value());
  EXPECT_TRUE(known.is_known_player);
}

TEST_F(NetherNetResolverTest, TellsBothOfADisconnect) {
  const auto tag = Resolve(CheckOf("abcd"))->tag;
  tag->OnBegin(kClient, Address("10.0.0.1:40000"));
  EXPECT_CALL(*inner_, HandleDisconnect)
      .WillOnce(Return(std::vector<SocketAddress>{Address("192.0.2.7:1")}));
  EXPECT_THAT(
      resolver_.HandleDisconnect(DisconnectTarget::ForClientIp(kClient)),
      ElementsAre(kClient, Address("192.0.2.7:1")));
}

TEST_F(NetherNetResolverTest, RestoresTagsOfJoinsAndOfTheOtherResolver) {
  const auto tag = Resolve(CheckOf("abcd"))->tag;
  EXPECT_EQ(resolver_.RestoreTag(SessionTag(tag->key(), "")), tag);
  const auto inner_tag = std::make_shared<SessionTag>("inner", "");
  EXPECT_CALL(*inner_, RestoreTag).WillOnce(Return(inner_tag));
  EXPECT_EQ(resolver_.RestoreTag(SessionTag("inner", "")), inner_tag);
}

TEST_F(NetherNetResolverTest, IsAsHealthyAsTheOtherResolver) {
  EXPECT_CALL(*inner_, Health)
      .WillOnce(Return(absl::OkStatus()))
      .WillOnce(Return(absl::UnavailableError("down")));
  EXPECT_TRUE(resolver_.Health().ok());
  EXPECT_EQ(resolver_.Health().message(), "down");
}

}  // namespace
}  // namespace test
}  // namespace nethernet
}  // namespace udpgate
