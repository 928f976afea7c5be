// Players join by NetherNet through the real program.
#include "testing/internal/e2e/nethernet.h"

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/support/http_client.h"
#include "udpgate/stun/request_builder.h"

namespace udpgate {
namespace test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

std::string DropsFor(absl::string_view reason) {
  return absl::StrCat("udpgate_datagrams_dropped_total{reason=\"", reason,
                      "\"}");
}

std::string JoinsWith(absl::string_view result) {
  return absl::StrCat("udpgate_nethernet_joins_total{result=\"", result, "\"}");
}

// An offer as the backend is to get it.
std::string WithoutCandidates(absl::string_view sdp) {
  std::string kept;
  for (absl::string_view line : absl::StrSplit(sdp, "\r\n")) {
    if (line.empty() || absl::StartsWith(line, "a=candidate:") ||
        line == "a=end-of-candidates") {
      continue;
    }
    absl::StrAppend(&kept, line, "\r\n");
  }
  return kept;
}

class NetherNetJoinTest
    : public NetherNetTest,
      public ::testing::WithParamInterface<std::tuple<int, bool, IcePorts>> {
 protected:
  int worker_count() const { return std::get<0>(GetParam()); }
  bool is_ipv6() const { return std::get<1>(GetParam()); }
  IcePorts ports() const { return std::get<2>(GetParam()); }
};

TEST_P(NetherNetJoinTest, PlayersReachTheBackendThatAnswered) {
  const SocketAddress host = is_ipv6() ? SocketAddress::Ipv6Loopback(0)
                                       : SocketAddress::Ipv4Loopback(0);
  IceBackend lobby({"lobby", ports(), host});
  IceBackend arena({"arena", ports(), host});
  StartSignaling({{"WORKER_COUNT", absl::StrCat(worker_count())},
                  {"PROXY_ADDR", host.ToString()}});
  IcePlayerOptions options;
  options.addresses = {host.IpToString()};
  IcePlayer first(options), second(options), third(options);
  SetBackend(lobby);
  ASSERT_TRUE(first.Offer(signaling()).ok()) << gate().log();
  SetBackend(arena);
  ASSERT_TRUE(second.Offer(signaling()).ok()) << gate().log();
  // The answer decides, not what the key names when the media comes.
  SetBackend(lobby);
  ASSERT_TRUE(second.StartMedia().ok());
  ASSERT_TRUE(first.StartMedia().ok());
  ASSERT_TRUE(third.Join(signaling()).ok()) << gate().log();
  EXPECT_TRUE(first.Ask("lobby").ok()) << first.Ask("lobby");
  EXPECT_TRUE(second.Ask("arena").ok()) << second.Ask("arena");
  EXPECT_TRUE(third.Ask("lobby").ok()) << third.Ask("lobby");
  EXPECT_EQ(Metric(JoinsWith("joined")), 3);
  EXPECT_EQ(Metric(DropsFor("unconfirmed_reply_limit")), 0);
  EXPECT_THAT(first.answer().candidates, ElementsAre(address()));
}

INSTANTIATE_TEST_SUITE_P(
    All, NetherNetJoinTest,
    ::testing::Combine(::testing::Values(1, 8), ::testing::Bool(),
                       ::testing::Values(IcePorts::kOneForAll,
                                         IcePorts::kOneForEach)),
    [](const auto& shape) {
      return absl::StrCat("Workers", std::get<0>(shape.param),
                          std::get<1>(shape.param) ? "Ipv6" : "Ipv4",
                          std::get<2>(shape.param) == IcePorts::kOneForAll
                              ? "OnePort"
                              : "PortForEach");
    });

TEST_F(NetherNetTest, OffersAndAnswersKeepAllButTheirAddresses) {
  IceBackend backend;
  SetBackend(backend);
  StartSignaling();
  IcePlayer player;
  ASSERT_TRUE(player.Join(signaling()).ok()) << gate().log();
  const std::string offer = ToSdp(player.agent().description(), true);
  ASSERT_THAT(backend.offers(), SizeIs(1));
  const StubRequest request = backend.offers()[0];
  EXPECT_EQ(request.body, WithoutCandidates(offer));
  EXPECT_EQ(request.target, "/v1/join/4611686018427387904");
  EXPECT_EQ(HeaderOf(request, "X-Forwarded-For"), "127.0.0.1");
  // Nothing names the backend.
  const std::string answer = player.reply().body;
  EXPECT_EQ(FromSdp(answer)->candidates, std::vector<SocketAddress>{address()});
  EXPECT_THAT(answer, HasSubstr(absl::StrCat("m=application ", address().port(),
                                             " UDP/DTLS/SCTP")));
  EXPECT_THAT(answer, HasSubstr("a=end-of-candidates\r\n"));
  EXPECT_THAT(answer, HasSubstr("a=fingerprint:sha-256 8A:5F:11"));
}

TEST_F(NetherNetTest, BackendLearnsTheClientByAProxyHeader) {
  IceBackend backend;
  SetBackend(backend);
  StartSignaling({{"NETHERNET_FORWARD_CLIENT", "proxy-v1"}});
  IcePlayer player;
  ASSERT_TRUE(player.Join(signaling()).ok()) << gate().log();
  ASSERT_THAT(backend.offers(), SizeIs(1));
  EXPECT_THAT(backend.offers()[0].preamble, HasSubstr("PROXY TCP4 127.0.0.1 "));
}

TEST_F(NetherNetTest, EachAddressOfAPlayerHasOneSessionWithTheSameBackend) {
  IceBackend backend;
  SetBackend(backend);
  StartSignaling();
  IcePlayerOptions options;
  options.addresses = {"127.0.0.1", "127.0.0.2", "127.0.0.3"};
  IcePlayer player(options);
  ASSERT_TRUE(player.Join(signaling()).ok()) << gate().log();
  ASSERT_TRUE(player.Ask("backend").ok());
  // libnice checks as many of them as it needs.
  const std::string ufrag = backend.ufrags()[0];
  EXPECT_TRUE(AwaitTrue([&] {
    const int64_t created = Metric("udpgate_sessions_created_total");
    return created <= 3 &&
           created == static_cast<int64_t>(backend.SourcesOf(ufrag).size());
  }));
  EXPECT_TRUE(player.Ask("backend").ok());
  const absl::StatusOr<HttpReply> sessions =
      HttpGet(admin(), "/api/v1/sessions");
  ASSERT_TRUE(sessions.ok());
  EXPECT_THAT(sessions->body, HasSubstr("4611686018427387904"));
  const absl::StatusOr<HttpReply> joins = HttpGet(admin(), "/api/v1/joins");
  ASSERT_TRUE(joins.ok());
  EXPECT_EQ(joins->status, 200);
  EXPECT_THAT(joins->body, HasSubstr("4611686018427387904"));
  // Secrets are shown nowhere.
  const std::string password = player.answer().password;
  EXPECT_THAT(joins->body, Not(HasSubstr(password)));
  EXPECT_THAT(sessions->body, Not(HasSubstr(password)));
  EXPECT_THAT(gate().log(), Not(HasSubstr(password)));
}

TEST_F(NetherNetTest, DisconnectEndsTheJoinAndThePlayerAsksAgain) {
  IceBackend lobby({"lobby"});
  IceBackend arena({"arena"});
  SetBackend(lobby);
  StartSignaling();
  IcePlayer player;
  ASSERT_TRUE(player.Join(signaling()).ok()) << gate().log();
  ASSERT_TRUE(player.Ask("lobby").ok());
  SetBackend(arena);
  Publish(absl::StrCat("backend ", lobby.address().ToString()));
  // Its ufrag is refused from then on.
  EXPECT_TRUE(
      AwaitTrue([&] { return Metric("udpgate_sessions_active") == 0; }));
  EXPECT_FALSE(player.Ask("lobby", absl::Seconds(1)).ok());
  EXPECT_EQ(Metric("udpgate_sessions_active"), 0);
  IcePlayer again;
  ASSERT_TRUE(again.Join(signaling()).ok()) << gate().log();
  EXPECT_TRUE(again.Ask("arena").ok());
}

TEST_F(NetherNetTest, DisconnectEndsAJoinThatWaits) {
  IceBackend backend;
  SetBackend(backend);
  StartSignaling();
  IcePlayer player;
  ASSERT_TRUE(player.Offer(signaling()).ok()) << gate().log();
  ASSERT_EQ(Metric("udpgate_nethernet_joins_waiting"), 1);
  Publish("ip 127.0.0.1");
  EXPECT_TRUE(AwaitTrue(
      [&] { return Metric("udpgate_nethernet_joins_waiting") == 0; }));
  ASSERT_TRUE(player.StartMedia().ok());
  EXPECT_TRUE(
      AwaitTrue([&] { return Metric(DropsFor("stun_unknown_ufrag")) > 0; }));
  EXPECT_EQ(Metric("udpgate_sessions_active"), 0);
}

TEST_F(NetherNetTest, ForgedFirstDatagramsAreDroppedWithoutAskingRedis) {
  IceBackend backend;
  SetBackend(backend);
  StartSignaling();
  IcePlayer player;
  ASSERT_TRUE(player.Offer(signaling()).ok()) << gate().log();
  const int64_t asked = Metric("udpgate_resolves_started_total");
  stun::BindingRequestOptions check;
  check.username = absl::StrCat(player.answer().ufrag, ":x");
  check.password = "guessedPasswordGuessedPassword";
  LoopbackPeer forger;
  ASSERT_TRUE(forger.Send(address(), stun::BuildBindingRequest(check)).ok());
  check.username = "neverHeardOf:x";
  ASSERT_TRUE(forger.Send(address(), stun::BuildBindingRequest(check)).ok());
  ASSERT_TRUE(forger.Send(address(), std::string("\x16\xfe\xfd\0\0", 5)).ok());
  EXPECT_TRUE(AwaitTrue([&] {
    return Metric(DropsFor("stun_wrong_integrity")) == 1 &&
           Metric(DropsFor("stun_unknown_ufrag")) == 1 &&
           Metric(DropsFor("dtls_without_session")) == 1;
  }));
  EXPECT_EQ(Metric("udpgate_resolves_started_total"), asked);
  EXPECT_EQ(Metric("udpgate_sessions_created_total"), 0);
  // The player is not affected.
  ASSERT_TRUE(player.StartMedia().ok());
  EXPECT_TRUE(player.agent().AwaitConnected());
  EXPECT_TRUE(player.Ask("backend").ok());
}

TEST_F(NetherNetTest, OtherDatagramsGoToTheBackendThatTheKeyNames) {
  EchoBackend old_backend("raknet");
  IceBackend backend;
  StartSignaling();
  SetBackend(backend);
  IcePlayer player;
  ASSERT_TRUE(player.Join(signaling()).ok()) << gate().log();
  SetBackendText(old_backend.address().ToString());
  LoopbackPeer old_player;
  EXPECT_TRUE(IsServedBy(&old_player, address(), "raknet", 10));
  EXPECT_TRUE(player.Ask("backend").ok());
}

TEST_F(NetherNetTest, NobodyLooksAtDatagramsWithoutSignaling) {
  EchoBackend backend("any");
  SetBackendText(backend.address().ToString());
  StartGate();
  stun::BindingRequestOptions check;
  check.username = "a:b";
  check.password = "c";
  LoopbackPeer client;
  const std::string request = stun::BuildBindingRequest(check);
  EXPECT_EQ(*client.Ask(address(), request), absl::StrCat("any:", request));
  LoopbackPeer other;
  const std::string dtls("\x16\xfe\xfd\0\0", 5);
  EXPECT_EQ(*other.Ask(address(), dtls), absl::StrCat("any:", dtls));
}

TEST_F(NetherNetTest, StatusIsThatOfTheBackend) {
  IceBackend backend({"lobby"});
  StartSignaling({{"NETHERNET_STATUS", R"({"name":"closed"})"}});
  absl::StatusOr<HttpReply> reply = HttpGet(signaling(), "/v1/join");
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->status, 200);
  EXPECT_THAT(reply->body, HasSubstr("closed"));
  SetBackend(backend);
  EXPECT_TRUE(AwaitTrue([&] {
    reply = HttpGet(signaling(), "/v1/join");
    return reply.ok() && absl::StrContains(reply->body, "\"lobby\"");
  }));
  // One question for all who ask within a second.
  const int before = backend.gets();
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(HttpGet(signaling(), "/v1/join").ok());
  }
  EXPECT_LE(backend.gets() - before, 2);
}

TEST_F(NetherNetTest, WithoutABackendTheStatusAndJoinsFail) {
  StartSignaling();
  EXPECT_EQ(HttpGet(signaling(), "/v1/join")->status, 503);
  IcePlayer player;
  EXPECT_THAT(player.Offer(signaling()).ToString(), HasSubstr("503"));
  EXPECT_THAT(player.reply().body, HasSubstr("\"error\""));
  EXPECT_EQ(Metric(JoinsWith("no_backend")), 1);
}

TEST_F(NetherNetTest, FailuresOfABackendAreCountedByReasonAndTheNextJoinWorks) {
  IceBackend backend;
  SetBackend(backend);
  StartSignaling();
  IcePlayer player;
  backend.SetFailure(500);
  EXPECT_FALSE(player.Offer(signaling()).ok());
  EXPECT_EQ(player.reply().status, 502);
  backend.SetFailure(200);  // and a body that is no answer
  EXPECT_FALSE(player.Offer(signaling()).ok());
  EXPECT_EQ(player.reply().status, 502);
  SetBackendText(SocketAddress::Ipv4Loopback(FreeTcpPort()).ToString());
  EXPECT_FALSE(player.Offer(signaling()).ok());
  EXPECT_EQ(player.reply().status, 502);
  EXPECT_EQ(Metric(JoinsWith("backend_error")), 1);
  EXPECT_EQ(Metric(JoinsWith("bad_answer")), 1);
  EXPECT_EQ(Metric(JoinsWith("backend_unreachable")), 1);
  backend.SetFailure(0);
  SetBackend(backend);
  EXPECT_TRUE(player.Join(signaling()).ok());
  EXPECT_TRUE(player.Ask("backend").ok());
}

TEST_F(NetherNetTest, DrainingRefusesNewPlayersAndKeepsLiveOnes) {
  IceBackend backend;
  SetBackend(backend);
  StartSignaling({{"DRAIN_TIMEOUT_SECS", "600"}});
  IcePlayer player;
  ASSERT_TRUE(player.Join(signaling()).ok()) << gate().log();
  gate().Signal(SIGTERM);
  EXPECT_TRUE(AwaitTrue(
      [&] { return HttpGet(signaling(), "/v1/join")->status == 503; }));
  IcePlayer late;
  EXPECT_THAT(late.Offer(signaling()).ToString(), HasSubstr("503"));
  EXPECT_TRUE(player.Ask("backend").ok());
  gate().Signal(SIGTERM);  // ends the drain
  EXPECT_TRUE(gate().AwaitExit().ok());
  StartSignaling();  // for the end of the test
}

}  // namespace
}  // namespace test
}  // namespace udpgate
