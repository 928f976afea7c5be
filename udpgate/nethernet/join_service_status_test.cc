// GET /v1/join: whose answer it is, how old, and how often backends are asked.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/nethernet/join_service_fixture.h"

namespace udpgate {
namespace nethernet {
namespace {

using ::testing::HasSubstr;
using ::udpgate::test::AwaitTrue;

constexpr char kStatus[] = "{\"name\":\"Lobby\",  \"players\":3}\n";
constexpr char kMaintenance[] = "{\"name\":\"Maintenance\"}";

class JoinStatusTest : public JoinServiceTest {
 protected:
  // A backend that answers with the number of the question, from 1.
  void UseCountingBackend() {
    UseBackend([this](Connection* connection) {
      requests_.Add(ReadWhole(connection));
      connection->Send(
          RawResponse(200, "application/json", absl::StrCat(requests_.size())));
    });
  }
};

TEST_F(JoinStatusTest, TheBackendsOwnAnswerIsPassedOn) {
  UseBackendWith(RawResponse(203, "application/json; x=y", kStatus));
  Serve();
  for (const char* method : {"GET", "HEAD"}) {
    const http::Response response =
        Send(Request(method, "/v1/join?x=y"))->Await();
    EXPECT_EQ(response.status, 203);
    EXPECT_EQ(response.content_type, "application/json; x=y");
    EXPECT_EQ(response.body, kStatus);
    EXPECT_TRUE(response.headers.empty());
  }
  EXPECT_EQ(requests_.size(), 1u);
  EXPECT_EQ(service_->GetStats().status_questions_answered, 1u);
}

TEST_F(JoinStatusTest, ABackendWithoutNetherNetSaysSoItself) {
  UseBackendWith(RawResponse(404, "text/plain", "no"));
  options_.status_json = kMaintenance;
  Serve();
  EXPECT_EQ(Get().status, 404);
}

TEST_F(JoinStatusTest, TheResolverHearsWhoAsksAndWhy) {
  UseBackendWith(RawResponse(200, "application/json", kStatus));
  EXPECT_CALL(*resolver_, Resolve)
      .WillOnce([this](const ResolveRequest& request,
                       BackendResolver::Callback done) {
        EXPECT_EQ(request.reason, ResolveRequest::Reason::kStatus);
        EXPECT_EQ(request.client.ToString(), "203.0.113.7:5000");
        done(ResolveResult{backend_->address(), "lobby"});
      });
  Serve();
  EXPECT_EQ(Get().status, 200);
}

TEST_F(JoinStatusTest, AnAnswerIsUsedForASecond) {
  UseCountingBackend();
  test::SimulatedClock clock;
  Serve(&clock);
  EXPECT_EQ(Get().body, "1");
  clock.Advance(absl::Milliseconds(999));
  EXPECT_EQ(Get().body, "1");
  clock.Advance(absl::Milliseconds(1));
  EXPECT_EQ(Get().body, "2");
}

// A slow backend's answer counts from the question on.
TEST_F(JoinStatusTest, TheAgeOfAnAnswerIncludesItsWay) {
  test::SimulatedClock clock;
  UseBackend([&](Connection* connection) {
    requests_.Add(ReadWhole(connection));
    clock.Advance(absl::Milliseconds(600));
    connection->Send(
        RawResponse(200, "application/json", absl::StrCat(requests_.size())));
  });
  Serve(&clock);
  EXPECT_EQ(Get().body, "1");
  clock.Advance(absl::Milliseconds(400));
  EXPECT_EQ(Get().body, "2");
}

TEST_F(JoinStatusTest, AllWhoAskMeanwhileShareOneQuestion) {
  constexpr int kPlayers = 200;
  udpgate::internal::Mutex mutex;
  bool may_answer = false;
  UseBackend([&](Connection* connection) {
    requests_.Add(ReadWhole(connection));
    EXPECT_TRUE(AwaitTrue([&] {
      udpgate::internal::MutexLock lock(&mutex);
      return may_answer;
    }));
    connection->Send(RawResponse(200, "application/json", kStatus));
  });
  Serve();
  std::vector<std::shared_ptr<Reply>> replies;
  replies.reserve(kPlayers);
  for (int i = 0; i < kPlayers; ++i) {
    replies.push_back(SendGet(absl::StrCat("203.0.113.", i, ":5000")));
  }
  EXPECT_EQ(service_->GetStats().status_waiters,
            static_cast<uint64_t>(kPlayers));
  {
    udpgate::internal::MutexLock lock(&mutex);
    may_answer = true;
  }
  for (const auto& reply : replies) EXPECT_EQ(reply->Await().body, kStatus);
  EXPECT_EQ(requests_.size(), 1u);
  EXPECT_EQ(backend_->accepted(), 1);
  EXPECT_EQ(service_->GetStats().status_waiters, 0u);
}

TEST_F(JoinStatusTest, AllWhoAskMeanwhileShareOneQuestionToTheResolver) {
  UseBackendWith(RawResponse(200, "application/json", kStatus));
  test::HeldResolves held;
  EXPECT_CALL(*resolver_, Resolve).WillOnce(test::HoldResolveIn(&held));
  Serve();
  const auto first = SendGet();
  const auto second = SendGet("203.0.113.8:5000");
  held.Take()->done(ResolveResult{backend_->address(), "lobby"});
  EXPECT_EQ(first->Await().body, kStatus);
  EXPECT_EQ(second->Await().body, kStatus);
}

TEST_F(JoinStatusTest, EachBackendHasItsOwnAnswer) {
  UseBackendWith(RawResponse(200, "application/json", "1"));
  http::ScriptedServer other([](Connection* connection) {
    ReadWhole(connection);
    connection->Send(RawResponse(200, "application/json", "2"));
  });
  EXPECT_CALL(*resolver_, Resolve)
      .WillOnce(test::ResolveWith(backend_->address()))
      .WillOnce(test::ResolveWith(other.address()))
      .WillOnce(test::ResolveWith(backend_->address()));
  Serve();
  EXPECT_EQ(Get().body, "1");
  EXPECT_EQ(Get().body, "2");  // the current one, at once
  EXPECT_EQ(Get().body, "1");
  EXPECT_EQ(requests_.size(), 1u);
}

TEST_F(JoinStatusTest, TheOldestBackendIsForgottenAtTheLimit) {
  UseCountingBackend();
  http::ScriptedServer other([](Connection* connection) {
    ReadWhole(connection);
    connection->Send(RawResponse(200, "application/json", "other"));
  });
  EXPECT_CALL(*resolver_, Resolve)
      .WillOnce(test::ResolveWith(backend_->address()))
      .WillOnce(test::ResolveWith(other.address()))
      .WillOnce(test::ResolveWith(backend_->address()));
  options_.status_backends_max = 1;
  Serve();
  EXPECT_EQ(Get().body, "1");
  EXPECT_EQ(Get().body, "other");
  EXPECT_EQ(Get().body, "2");
}

TEST_F(JoinStatusTest, WaitersAreLimited) {
  test::HeldResolves held;
  ON_CALL(*resolver_, Resolve).WillByDefault(test::HoldResolveIn(&held));
  options_.status_waiters_max = 2;
  Serve();
  const auto first = SendGet();
  const auto second = SendGet();
  EXPECT_EQ(Get().status, 503);
  EXPECT_EQ(service_->GetStats().status_waiters_refused, 1u);
  held.Take()->done(absl::NotFoundError("none"));
  EXPECT_EQ(first->Await().status, 503);
  EXPECT_EQ(second->Await().status, 503);
}

TEST_F(JoinStatusTest, WithoutABackendTheGatewaysOwnTextIsUsed) {
  ON_CALL(*resolver_, Resolve)
      .WillByDefault(test::ResolveWithError(absl::NotFoundError("none")));
  Serve();
  const http::Response error = Get();
  EXPECT_EQ(error.status, 503);
  EXPECT_THAT(error.body, HasSubstr("\"error\""));
  options_.status_json = kMaintenance;
  ASSERT_TRUE(service_->SetOptions(options_).ok());
  const http::Response text = Get();
  EXPECT_EQ(text.status, 200);
  EXPECT_EQ(text.content_type, "application/json");
  EXPECT_EQ(text.body, kMaintenance);
}

TEST_F(JoinStatusTest, AFailedBackendCountsAsNone) {
  options_.status_json = kMaintenance;
  options_.status_timeout = absl::Milliseconds(100);
  options_.status_failure_age_max = absl::ZeroDuration();
  options_.status_bytes_max = 100;
  const std::vector<http::ScriptedServer::Script> scripts = {
      [](Connection* connection) { connection->AwaitClose(); },
      [](Connection* connection) { ReadWhole(connection); },
      [](Connection* connection) {
        ReadWhole(connection);
        connection->Send("nonsense\r\n\r\n");
      },
      [](Connection* connection) {
        ReadWhole(connection);
        connection->Send(
            RawResponse(200, "application/json", std::string(101, ' ')));
      }};
  uint64_t failures = 0;
  for (const auto& script : scripts) {
    UseBackend(script);
    Serve();
    EXPECT_EQ(Get().body, kMaintenance) << failures;
    EXPECT_EQ(service_->GetStats().status_questions_failed, 1u);
    ++failures;
    service_.reset();
  }
}

TEST_F(JoinStatusTest, AResolverThatNeverAnswersCountsAsNoBackend) {
  options_.status_timeout = absl::Milliseconds(20);
  Serve();
  EXPECT_EQ(Get().status, 503);
  UseBackendWith(RawResponse(200, "application/json", kStatus));
  EXPECT_TRUE(AwaitTrue([&] { return Get().body == kStatus; }));
}

TEST_F(JoinStatusTest, AFailureIsRememberedShortly) {
  test::SimulatedClock clock;
  UseBackendWith(RawResponse(200, "application/json", kStatus));
  EXPECT_CALL(*resolver_, Resolve)
      .WillOnce(test::ResolveWithError(absl::NotFoundError("none")))
      .WillOnce(test::ResolveWith(backend_->address()));
  Serve(&clock);
  EXPECT_EQ(Get().status, 503);
  clock.Advance(absl::Milliseconds(249));
  EXPECT_EQ(Get().status, 503);
  clock.Advance(absl::Milliseconds(1));
  EXPECT_EQ(Get().body, kStatus);
}

TEST_F(JoinStatusTest, TheFleetsStatusComesFirst) {
  UseBackendWith(RawResponse(200, "application/json", kStatus));
  Serve();
  constexpr char kFleet[] = "{\"name\": \"Fleet\"}";
  EXPECT_TRUE(service_->SetFleetStatus(std::string(kFleet)).ok());
  EXPECT_EQ(Get().body, kFleet);
  EXPECT_EQ(Get().content_type, "application/json");
  EXPECT_EQ(requests_.size(), 0u);
  EXPECT_FALSE(service_->SetFleetStatus(std::string("[]")).ok());
  EXPECT_FALSE(
      service_
          ->SetFleetStatus(absl::StrCat(
              "{\"x\":\"", std::string(options_.status_bytes_max, 'x'), "\"}"))
          .ok());
  EXPECT_EQ(Get().body, kFleet);  // no change
  service_->SetDraining(true);
  EXPECT_EQ(Get().status, 503);
  service_->SetDraining(false);
  EXPECT_TRUE(service_->SetFleetStatus(absl::nullopt).ok());
  EXPECT_EQ(Get().body, kStatus);
}

}  // namespace
}  // namespace nethernet
}  // namespace udpgate
