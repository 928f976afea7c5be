// Player and backend of libnice against each other, without a gateway.
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/ice/ice_backend.h"
#include "testing/internal/ice/ice_player.h"

namespace udpgate {
namespace test {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

class IceTest : public ::testing::TestWithParam<IcePorts> {
 protected:
  static IceBackendOptions Options() {
    IceBackendOptions options;
    options.ports = GetParam();
    return options;
  }
};

TEST_P(IceTest, PlayerJoinsAndGetsAnEcho) {
  IceBackend backend(Options());
  IcePlayer player;
  ASSERT_TRUE(player.Join(backend.address()).ok());
  EXPECT_TRUE(player.Ask("backend").ok());
  EXPECT_THAT(backend.offers(), SizeIs(1));
}

TEST_P(IceTest, PlayersJoinAtOnce) {
  IceBackend backend(Options());
  std::vector<std::unique_ptr<IcePlayer>> players;
  for (int i = 0; i < 10; ++i) {
    players.push_back(std::make_unique<IcePlayer>());
    ASSERT_TRUE(players.back()->Offer(backend.address()).ok());
  }
  for (auto& player : players) ASSERT_TRUE(player->StartMedia().ok());
  for (auto& player : players) {
    ASSERT_TRUE(player->agent().AwaitConnected()) << player->agent().state();
    EXPECT_TRUE(player->Ask("backend").ok());
  }
}

TEST_P(IceTest, PlayerWithSeveralAddressesJoins) {
  IceBackend backend(Options());
  IcePlayerOptions options;
  options.addresses = {"127.0.0.1", "127.0.0.2", "127.0.0.3"};
  IcePlayer player(options);
  ASSERT_TRUE(player.Join(backend.address()).ok());
  EXPECT_THAT(player.agent().description().candidates, SizeIs(3));
  EXPECT_TRUE(player.Ask("backend").ok());
}

TEST_P(IceTest, PlayerJoinsOverIpv6) {
  IceBackendOptions backend_options = Options();
  backend_options.address = SocketAddress::Ipv6Loopback(0);
  IceBackend backend(backend_options);
  IcePlayerOptions options;
  options.addresses = {"::1"};
  IcePlayer player(options);
  ASSERT_TRUE(player.Join(backend.address()).ok());
  EXPECT_TRUE(player.Ask("backend").ok());
}

TEST_P(IceTest, OfferWithoutCandidatesJoins) {
  IceBackend backend(Options());
  auto agent = IceAgent::Create({});
  ASSERT_TRUE(agent.ok());
  IceDescription bare = (*agent)->description();
  bare.candidates.clear();
  const auto reply =
      HttpPost(backend.address(), "/v1/join/1", ToSdp(bare, true));
  ASSERT_TRUE(reply.ok()) << reply.status();
  ASSERT_TRUE((*agent)->SetRemote(*FromSdp(reply->body)).ok());
  ASSERT_TRUE((*agent)->AwaitConnected()) << (*agent)->state();
  EXPECT_TRUE((*agent)->Ask("backend:").ok());
}

TEST_P(IceTest, PlayerWithWrongPasswordGetsNoPath) {
  IceBackend backend(Options());
  IcePlayer player;
  ASSERT_TRUE(player.Offer(backend.address()).ok());
  IceDescription wrong = player.answer();
  wrong.password = "anotherPasswordThanThat";
  ASSERT_TRUE(player.agent().SetRemote(wrong).ok());
  EXPECT_FALSE(player.agent().AwaitConnected(absl::Seconds(1)));
}

INSTANTIATE_TEST_SUITE_P(Ports, IceTest,
                         ::testing::Values(IcePorts::kOneForAll,
                                           IcePorts::kOneForEach),
                         [](const auto& ports) {
                           return ports.param == IcePorts::kOneForAll
                                      ? "OneForAll"
                                      : "OneForEach";
                         });

TEST(IceBackendTest, FailsAsIsSet) {
  IceBackend backend;
  backend.SetFailure(503);
  IcePlayer player;
  EXPECT_THAT(player.Offer(backend.address()).ToString(), HasSubstr("503"));
  backend.SetFailure(0);
  EXPECT_TRUE(player.Join(backend.address()).ok());
}

}  // namespace
}  // namespace test
}  // namespace udpgate
