// Joins that fail: each with a status, a JSON error, and one result.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "udpgate/cidr.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/nethernet/internal/sample_sdp.h"
#include "udpgate/nethernet/join_service_fixture.h"

namespace udpgate {
namespace nethernet {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::udpgate::test::AwaitTrue;

constexpr const char* kAnswer = internal::kLibDataChannelAnswer;

class JoinFailureTest : public JoinServiceTest {
 protected:
  // Checks status, text and count of the only join so far.
  void ExpectFailure(const http::Response& response, int status,
                     JoinResult result) const {
    EXPECT_EQ(response.status, status) << response.body;
    EXPECT_EQ(response.content_type, "application/json");
    const auto body = nlohmann::json::parse(response.body, nullptr,
                                            /*allow_exceptions=*/false);
    ASSERT_TRUE(body.is_object()) << response.body;
    EXPECT_FALSE(body.value("error", "").empty()) << response.body;
    EXPECT_EQ(JoinCount(result), 1u) << JoinResultName(result);
    EXPECT_EQ(JoinCount(), 1u);
    const JoinServiceStats stats = service_->GetStats();
    ASSERT_EQ(stats.requests.size(), 1u);
    EXPECT_EQ(stats.requests[0].path, RequestPath::kJoin);
    EXPECT_EQ(stats.requests[0].status, status);
    EXPECT_TRUE(
        AwaitTrue([&] { return service_->GetStats().joins_in_progress == 0; }));
    EXPECT_EQ(joins_->stats().joins_waiting, 0);
  }
};

TEST_F(JoinFailureTest, ABodyThatIsNoSdpIsABadOffer) {
  UseBackendWith(RawResponse(200, "application/sdp", kAnswer));
  for (const std::string& offer :
       {std::string("{}"), std::string(), std::string("v=0\rs=-\r")}) {
    Serve();
    ExpectFailure(Post(offer), 400, JoinResult::kBadOffer);
  }
  EXPECT_EQ(requests_.size(), 0u);
}

TEST_F(JoinFailureTest, AnotherContentTypeIsABadRequest) {
  Serve();
  http::Request request = JoinRequest();
  request.headers[0].value = "application/sdp2";
  ExpectFailure(Send(std::move(request))->Await(), 415,
                JoinResult::kBadRequest);
}

TEST_F(JoinFailureTest, DeniedPlayersMayNotJoin) {
  options_.deny_cidrs = *ParseCidrList("203.0.113.0/24");
  Serve();
  ExpectFailure(Post(), 403, JoinResult::kDenied);
  options_.deny_cidrs = CidrList();
  options_.allow_cidrs = *ParseCidrList("192.0.2.0/24");
  Serve();
  ExpectFailure(Post(), 403, JoinResult::kDenied);
  EXPECT_EQ(Get().status, 403);
}

TEST_F(JoinFailureTest, ManyJoinsOfOneAddressAreTooMany) {
  UseBackendWith(RawResponse(200, "application/sdp", kAnswer));
  test::SimulatedClock clock;
  options_.joins_per_second_per_ip = 2;
  Serve(&clock);
  EXPECT_EQ(Post().status, 200);
  EXPECT_EQ(Post().status, 200);
  EXPECT_EQ(Post().status, 429);
  http::Request other = JoinRequest();
  other.client = *SocketAddress::Parse("203.0.113.8:5000");
  EXPECT_EQ(Send(std::move(other))->Await().status, 200);
  clock.Advance(absl::Milliseconds(500));
  EXPECT_EQ(Post().status, 200);
  EXPECT_EQ(JoinCount(JoinResult::kRateLimited), 1u);
}

TEST_F(JoinFailureTest, ADrainingGatewayTakesNoJoins) {
  UseBackendWith(RawResponse(200, "application/sdp", kAnswer));
  Serve();
  service_->SetDraining(true);
  ExpectFailure(Post(), 503, JoinResult::kDraining);
  EXPECT_EQ(Get().status, 503);
  service_->SetDraining(false);
  EXPECT_EQ(Post().status, 200);
}

TEST_F(JoinFailureTest, AFullTableTakesNoJoins) {
  UseBackendWith(RawResponse(200, "application/sdp", kAnswer));
  JoinTableOptions options;
  options.joins_max = 1;
  joins_ = std::make_shared<JoinTable>(options, Clock::Monotonic());
  Serve();
  EXPECT_EQ(Post().status, 200);
  EXPECT_EQ(Post().status, 503);
  EXPECT_EQ(JoinCount(JoinResult::kTableFull), 1u);
}

TEST_F(JoinFailureTest, JoinsInProgressAreLimited) {
  test::HeldResolves held;
  ON_CALL(*resolver_, Resolve).WillByDefault(test::HoldResolveIn(&held));
  options_.joins_in_progress_max = 1;
  Serve();
  const auto first = Send(JoinRequest());
  EXPECT_EQ(service_->GetStats().joins_in_progress, 1u);
  EXPECT_EQ(Post().status, 503);
  EXPECT_EQ(JoinCount(JoinResult::kTableFull), 1u);
  held.Take()->done(absl::NotFoundError("none"));
  EXPECT_EQ(first->Await().status, 503);
  EXPECT_EQ(service_->GetStats().joins_in_progress, 0u);
}

TEST_F(JoinFailureTest, WithoutABackendThereIsNoJoin) {
  ON_CALL(*resolver_, Resolve)
      .WillByDefault(test::ResolveWithError(absl::NotFoundError("none")));
  Serve();
  ExpectFailure(Post(), 503, JoinResult::kNoBackend);
}

TEST_F(JoinFailureTest, AFailedBackendSourceIsNamed) {
  ON_CALL(*resolver_, Resolve)
      .WillByDefault(test::ResolveWithError(absl::UnavailableError("secret")));
  Serve();
  const http::Response response = Post();
  ExpectFailure(response, 503, JoinResult::kResolveFailed);
  EXPECT_THAT(response.body, Not(HasSubstr("secret")));
}

TEST_F(JoinFailureTest, AResolverThatNeverAnswersTimesOut) {
  test::HeldResolves held;
  ON_CALL(*resolver_, Resolve).WillByDefault(test::HoldResolveIn(&held));
  options_.resolve_timeout = absl::Milliseconds(20);
  Serve();
  ExpectFailure(Post(), 503, JoinResult::kResolveFailed);
  // A late result changes nothing.
  held.Take()->done(ResolveResult{SocketAddress::Ipv4Loopback(9), "late"});
  EXPECT_EQ(JoinCount(), 1u);
}

TEST_F(JoinFailureTest, AResolverThatDropsTheQuestionTimesOut) {
  options_.resolve_timeout = absl::Milliseconds(20);
  Serve();
  ExpectFailure(Post(), 503, JoinResult::kResolveFailed);
}

TEST_F(JoinFailureTest, ABackendThatRefusesTheConnectionIsUnreachable) {
  UseBackend([](Connection*) {});
  const SocketAddress address = backend_->address();
  backend_.reset();
  ON_CALL(*resolver_, Resolve).WillByDefault(test::ResolveWith(address));
  Serve();
  ExpectFailure(Post(), 502, JoinResult::kBackendUnreachable);
}

TEST_F(JoinFailureTest, ABackendThatHangsUpIsUnreachable) {
  UseBackend([](Connection* connection) { ReadWhole(connection); });
  Serve();
  ExpectFailure(Post(), 502, JoinResult::kBackendUnreachable);
}

TEST_F(JoinFailureTest, ABackendThatIsSilentTimesOut) {
  UseBackend([](Connection* connection) { connection->AwaitClose(); });
  options_.answer_timeout = absl::Milliseconds(100);
  Serve();
  ExpectFailure(Post(), 504, JoinResult::kBackendTimeout);
}

TEST_F(JoinFailureTest, ABackendsRefusalIsItsError) {
  for (const int status : {302, 404, 500}) {
    UseBackendWith(RawResponse(status, "text/plain", "why: internal"));
    Serve();
    const http::Response response = Post();
    ExpectFailure(response, 502, JoinResult::kBackendError);
    EXPECT_THAT(response.body, HasSubstr(absl::StrCat(status)));
    EXPECT_THAT(response.body, Not(HasSubstr("internal")));
    service_.reset();
  }
}

TEST_F(JoinFailureTest, AMalformedOrCutResponseIsTheBackendsError) {
  for (const std::string& response :
       {std::string("SSH-2.0-x\r\n\r\n"),
        std::string("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nv=0")}) {
    UseBackendWith(response);
    Serve();
    ExpectFailure(Post(), 502, JoinResult::kBackendError);
    service_.reset();
  }
}

TEST_F(JoinFailureTest, AnAnswerBeyondItsLimitIsTheBackendsError) {
  options_.answer_bytes_max = 1000;
  UseBackendWith(RawResponse(200, "application/sdp", std::string(1001, 'x')));
  Serve();
  ExpectFailure(Post(), 502, JoinResult::kBackendError);
}

TEST_F(JoinFailureTest, AnAnswerThatLacksSomethingIsBad) {
  for (const std::string& answer : {
           std::string("{\"error\": \"full\"}"),
           std::string(),
           absl::StrReplaceAll(kAnswer, {{"a=ice-ufrag:gKiI\r\n", ""}}),
           absl::StrReplaceAll(kAnswer,
                               {{"a=ice-pwd:PasswordOfTwentyTwoChr\r\n", ""}}),
           absl::StrReplaceAll(kAnswer, {{"a=candidate", "a=x-candidate"}}),
       }) {
    UseBackendWith(RawResponse(200, "application/sdp", answer));
    Serve();
    const http::Response response = Post();
    ExpectFailure(response, 502, JoinResult::kBadAnswer);
    EXPECT_THAT(response.body, Not(HasSubstr("PasswordOfTwentyTwoChr")));
    service_.reset();
  }
}

TEST_F(JoinFailureTest, ADisconnectOfTheBackendEndsAJoinUnderWay) {
  UseBackend([this](Connection* connection) {
    ReadWhole(connection);
    joins_->HandleDisconnect(DisconnectTarget::ForBackend(backend_->address()));
    connection->Send(RawResponse(200, "application/sdp", kAnswer));
  });
  Serve();
  ExpectFailure(Post(), 503, JoinResult::kDisconnected);
}

TEST_F(JoinFailureTest, ADisconnectMakesAJoinAskAgainForItsBackend) {
  UseBackendWith(RawResponse(200, "application/sdp", kAnswer));
  std::vector<BackendResolver::Callback> questions;
  EXPECT_CALL(*resolver_, Resolve)
      .Times(2)
      .WillRepeatedly([&](const ResolveRequest&, auto done) {
        questions.push_back(std::move(done));
      });
  Serve();
  const std::shared_ptr<Reply> reply = Send(JoinRequest());
  ASSERT_EQ(questions.size(), 1u);
  joins_->HandleDisconnect(DisconnectTarget::ForClientIp(JoinRequest().client));
  ResolveResult outdated;
  outdated.backend = *SocketAddress::Parse("192.0.2.200:19132");
  questions[0](outdated);
  ASSERT_EQ(questions.size(), 2u);
  ResolveResult current;
  current.backend = backend_->address();
  questions[1](current);
  EXPECT_EQ(reply->Await().status, 200);
}

// An endless row of disconnects must not make a join ask for ever.
TEST_F(JoinFailureTest, AJoinAsksForItsBackendThreeTimesAtMost) {
  EXPECT_CALL(*resolver_, Resolve)
      .Times(3)
      .WillRepeatedly([&](const ResolveRequest&, auto done) {
        joins_->HandleDisconnect(
            DisconnectTarget::ForClientIp(JoinRequest().client));
        ResolveResult result;
        result.backend = *SocketAddress::Parse("192.0.2.200:19132");
        done(result);
      });
  Serve();
  ExpectFailure(Post(), 503, JoinResult::kDisconnected);
  EXPECT_EQ(joins_->stats().joins_waiting, 0);
}

TEST_F(JoinFailureTest, TheNextJoinAsksAnew) {
  UseBackendWith(RawResponse(200, "application/sdp", kAnswer));
  EXPECT_CALL(*resolver_, Resolve)
      .WillOnce(test::ResolveWithError(absl::NotFoundError("none")))
      .WillOnce(test::ResolveWith(backend_->address()));
  Serve();
  EXPECT_EQ(Post().status, 503);
  EXPECT_EQ(Post().status, 200);
}

TEST_F(JoinFailureTest, OtherMethodsAndPathsAreNamed) {
  Serve();
  const auto expect = [this](const char* method, const char* target, int status,
                             const char* allow) {
    const http::Response response = Send(Request(method, target))->Await();
    EXPECT_EQ(response.status, status) << method << " " << target;
    const std::string* header = response.FindHeader("Allow");
    EXPECT_EQ(header == nullptr ? "" : *header, allow);
  };
  expect("GET", "/v1/join/123", 405, "POST");
  expect("POST", "/v1/join", 405, "GET, HEAD");
  expect("OPTIONS", "/v1/join?x", 405, "GET, HEAD");
  expect("GET", "/", 404, "");
  expect("GET", "/v1/joins", 404, "");
  expect("POST", "/V1/join/1", 404, "");
  EXPECT_EQ(JoinCount(), 0u);
}

TEST_F(JoinFailureTest, ALateResultOfTheResolverMeetsNothingAfterTheEnd) {
  test::HeldResolves held;
  ON_CALL(*resolver_, Resolve).WillByDefault(test::HoldResolveIn(&held));
  Serve();
  const auto join = Send(JoinRequest());
  const auto status = SendGet();
  auto first = held.Take();
  auto second = held.Take();
  StopAll();
  service_.reset();
  client_.reset();
  engine_.reset();
  first->done(ResolveResult{SocketAddress::Ipv4Loopback(9), "late"});
  second->done(ResolveResult{SocketAddress::Ipv4Loopback(9), "late"});
  EXPECT_FALSE(join->has_come());
  EXPECT_FALSE(status->has_come());
  client_ = nullptr;
  engine_ = *http::Engine::Create({});
  client_ = *http::Client::Create(engine_.get(), {});  // for the destructor
}

TEST_F(JoinFailureTest, ChangedOptionsApplyToFurtherJoins) {
  UseBackendWith(RawResponse(200, "application/sdp", kAnswer));
  Serve();
  EXPECT_EQ(Post().status, 200);
  options_.deny_cidrs = *ParseCidrList("203.0.113.0/24");
  EXPECT_TRUE(service_->SetOptions(options_).ok());
  EXPECT_EQ(Post().status, 403);
  options_.deny_cidrs = CidrList();
  options_.proxy_port = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(service_->SetOptions(options_)));
  EXPECT_EQ(Post().status, 403);  // no change
}

}  // namespace
}  // namespace nethernet
}  // namespace udpgate
