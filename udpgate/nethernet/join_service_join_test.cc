// Joins that succeed: what backend and player get, byte for byte.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "testing/internal/support/http_client.h"
#include "udpgate/http/proxy_header.h"
#include "udpgate/nethernet/internal/sample_sdp.h"
#include "udpgate/nethernet/join_service_fixture.h"

namespace udpgate {
namespace nethernet {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using ::udpgate::internal::Mutex;
using ::udpgate::internal::MutexLock;

constexpr const char* kOffer = internal::kLibDataChannelOffer;
constexpr const char* kAnswer = internal::kLibDataChannelAnswer;

// `kOffer` as the backend must get it.
std::string OfferWithoutCandidates() {
  return absl::StrReplaceAll(
      kOffer,
      {{"a=candidate:2 1 UDP 2116026111 fd00::2 60954 typ host\r\n", ""},
       {"a=candidate:1 1 UDP 2114977791 192.0.2.2 60954 typ host\r\n", ""},
       {"a=end-of-candidates\r\n", ""}});
}

// The lines of `answer` that must be the same for player and backend.
std::vector<std::string> LinesWithoutAddresses(const std::string& answer) {
  std::vector<std::string> lines;
  for (const absl::string_view line : absl::StrSplit(answer, "\r\n")) {
    if (absl::StartsWith(line, "a=candidate") || absl::StartsWith(line, "c=") ||
        absl::StartsWith(line, "m=")) {
      continue;
    }
    lines.emplace_back(line);
  }
  return lines;
}

TEST_F(JoinServiceTest, TheBackendGetsTheOfferWithoutItsCandidates) {
  UseBackendWith(RawResponse(200, "application/sdp", kAnswer));
  Serve();
  EXPECT_EQ(Post(kOffer).status, 200);
  ASSERT_EQ(requests_.size(), 1u);
  const std::string request = requests_.all()[0];
  const size_t end = request.find("\r\n\r\n");
  const std::string head = request.substr(0, end + 2);
  EXPECT_THAT(head, StartsWith("POST /v1/join/123 HTTP/1.1\r\n"));
  EXPECT_THAT(head, HasSubstr("Content-Type: application/sdp\r\n"));
  EXPECT_THAT(head, HasSubstr("X-Forwarded-For: 203.0.113.7\r\n"));
  EXPECT_EQ(request.substr(end + 4), OfferWithoutCandidates());
}

TEST_F(JoinServiceTest, ThePlayerGetsTheAnswerWithTheGatewaysCandidates) {
  UseBackendWith(RawResponse(201, "application/sdp;x=y", kAnswer));
  Serve();
  const http::Response response = Post(kOffer);
  EXPECT_EQ(response.status, 201);
  EXPECT_EQ(response.content_type, "application/sdp;x=y");
  EXPECT_EQ(LinesWithoutAddresses(response.body),
            LinesWithoutAddresses(kAnswer));
  EXPECT_THAT(response.body, HasSubstr("\r\nc=IN IP4 198.51.100.1\r\n"));
  EXPECT_THAT(response.body, HasSubstr("\r\nm=application 19132 "));
  EXPECT_THAT(response.body, HasSubstr(" 198.51.100.1 19132 typ host"));
  EXPECT_THAT(response.body, Not(HasSubstr("192.0.2.2")));
  EXPECT_THAT(response.body, Not(HasSubstr("fd00::2")));
  EXPECT_THAT(response.body, Not(HasSubstr("42305")));
}

TEST_F(JoinServiceTest, TheJoinIsRememberedBeforeTheAnswerLeaves) {
  UseBackendWith(RawResponse(200, "application/sdp", kAnswer));
  Serve();
  auto reply = std::make_shared<Reply>();
  std::vector<JoinInfo> joins;
  service_->Handle(JoinRequest(), [&](http::Response response) {
    joins = joins_->List();
    reply->Set(std::move(response));
  });
  EXPECT_EQ(reply->Await().status, 200);
  ASSERT_EQ(joins.size(), 1u);
  EXPECT_EQ(joins[0].network_id, "123");
  EXPECT_EQ(joins[0].player, "203.0.113.7");
  EXPECT_EQ(joins[0].backend, backend_->address().ToString());
  EXPECT_EQ(joins[0].backend_label, "lobby");
  // The backend's IP address, and the port of the answer's candidate.
  EXPECT_EQ(joins[0].media, "127.0.0.1:42305");
  EXPECT_EQ(JoinCount(JoinResult::kJoined), 1u);
  EXPECT_EQ(JoinCount(), 1u);
  const JoinServiceStats stats = service_->GetStats();
  uint64_t answers = 0;
  for (const uint64_t count : stats.answers_by_duration) answers += count;
  EXPECT_EQ(answers, 1u);
  EXPECT_GT(stats.answer_seconds_total, 0);
}

TEST_F(JoinServiceTest, ThePlayersAddressIsForwardedAsConfigured) {
  const SocketAddress player = *SocketAddress::Parse("203.0.113.7:5000");
  const SocketAddress local = *SocketAddress::Parse("198.51.100.1:19132");
  const struct {
    ForwardClient forward_client;
    std::string preamble;
    bool has_header;
  } cases[] = {
      {ForwardClient::kOff, "", false},
      {ForwardClient::kXForwardedFor, "", true},
      {ForwardClient::kProxyV1, http::ProxyHeader::WriteV1(player, local),
       false},
      {ForwardClient::kProxyV2, http::ProxyHeader::WriteV2(player, local),
       false},
  };
  for (const auto& one : cases) {
    Requests requests;
    options_.forward_client = one.forward_client;
    options_.status_age_max = absl::ZeroDuration();
    UseBackend([&](Connection* connection) {
      requests.Add(ReadWhole(connection, one.preamble.size()));
      connection->Send(RawResponse(200, "application/sdp", kAnswer));
    });
    Serve();
    EXPECT_EQ(Post(kOffer).status, 200);
    EXPECT_EQ(Get().status, 200);  // a backend wants the header of all
    ASSERT_EQ(requests.size(), 2u);
    EXPECT_THAT(requests.all()[0],
                StartsWith(absl::StrCat(one.preamble, "POST ")));
    EXPECT_THAT(requests.all()[1],
                StartsWith(absl::StrCat(one.preamble, "GET /v1/join ")));
    for (const std::string& request : requests.all()) {
      EXPECT_EQ(absl::StrContains(request, "X-Forwarded-For: 203.0.113.7\r\n"),
                one.has_header);
    }
    service_.reset();
  }
}

TEST_F(JoinServiceTest, PlayersAreToldThePublicAddresses) {
  UseBackendWith(RawResponse(200, "application/sdp", kAnswer));
  options_.proxy_port = 20000;
  options_.public_addresses = {*SocketAddress::Parse("192.0.2.200:0"),
                               *SocketAddress::Parse("[2001:db8::5]:30000")};
  Serve();
  const http::Response response = Post(kOffer);
  EXPECT_THAT(response.body, HasSubstr(" 192.0.2.200 20000 typ host"));
  EXPECT_THAT(response.body, HasSubstr(" 2001:db8::5 30000 typ host"));
  EXPECT_THAT(response.body, Not(HasSubstr("198.51.100.1")));
}

TEST_F(JoinServiceTest, SignalingMayHaveAPortOfItsOwn) {
  UseBackendWith(RawResponse(200, "application/sdp", kAnswer));
  ON_CALL(*resolver_, Resolve)
      .WillByDefault(test::ResolveWith(SocketAddress::Ipv4Loopback(9)));
  options_.backend_port = backend_->address().port();
  Serve();
  EXPECT_EQ(Post(kOffer).status, 200);
  ASSERT_EQ(joins_->List().size(), 1u);
  EXPECT_EQ(joins_->List()[0].backend, "127.0.0.1:9");
}

TEST_F(JoinServiceTest, AnAlternativeIsAskedIfThePreferredAddressRefuses) {
  UseBackendWith(RawResponse(200, "application/sdp", kAnswer));
  // Nobody listens at the first one.
  const SocketAddress refusing = *SocketAddress::Parse("127.0.0.2:9");
  ON_CALL(*resolver_, Resolve)
      .WillByDefault([&](const ResolveRequest& /*request*/,
                         BackendResolver::Callback done) {
        ResolveResult result = {refusing, "lobby"};
        result.alternatives = {refusing, backend_->address()};
        done(result);
      });
  Serve();
  EXPECT_EQ(Post(kOffer).status, 200);
  ASSERT_EQ(joins_->List().size(), 1u);
  EXPECT_EQ(joins_->List()[0].backend, refusing.ToString());
  // The address that answered gets the media.
  EXPECT_EQ(joins_->List()[0].media, "127.0.0.1:42305");
}

TEST_F(JoinServiceTest, AnAlternativeIsAskedIfThePreferredAddressIsSilent) {
  UseBackendWith(RawResponse(200, "application/sdp", kAnswer));
  // Linux queues one connection more than the backlog, and ignores others.
  http::ScriptedServer full(nullptr, /*backlog=*/0);
  const auto queued = test::TcpConnect(full.address());
  ASSERT_TRUE(queued.ok()) << queued.status();
  ON_CALL(*resolver_, Resolve)
      .WillByDefault([&](const ResolveRequest& /*request*/,
                         BackendResolver::Callback done) {
        ResolveResult result = {full.address(), "lobby"};
        result.alternatives = {backend_->address()};
        done(result);
      });
  options_.connect_timeout = absl::Milliseconds(50);
  Serve();
  EXPECT_EQ(Post(kOffer).status, 200);
  EXPECT_EQ(Get().status, 200);
  EXPECT_EQ(requests_.size(), 2u);
}

TEST_F(JoinServiceTest, EachJoinAsksForTheBackendWithThePlayersAddress) {
  UseBackendWith(RawResponse(200, "application/sdp", kAnswer));
  std::vector<ResolveRequest> questions;
  EXPECT_CALL(*resolver_, Resolve)
      .Times(2)
      .WillRepeatedly(
          [&](const ResolveRequest& request, BackendResolver::Callback done) {
            questions.push_back(request);
            done(ResolveResult{backend_->address(), "lobby"});
          });
  Serve();
  EXPECT_EQ(Post(kOffer).status, 200);
  EXPECT_EQ(Post(kOffer).status, 200);
  for (const ResolveRequest& question : questions) {
    EXPECT_EQ(question.reason, ResolveRequest::Reason::kJoin);
    EXPECT_EQ(question.client.ToString(), "203.0.113.7:5000");
    EXPECT_TRUE(question.first_datagram.empty());
    EXPECT_GT(question.timeout, absl::ZeroDuration());
  }
}

TEST_F(JoinServiceTest, TheContentTypeMayHaveParametersOrBeAbsent) {
  UseBackendWith(RawResponse(200, "", kAnswer));
  Serve();
  for (const char* type : {"application/sdp; charset=utf-8", "Application/SDP",
                           " application/sdp "}) {
    http::Request request = JoinRequest();
    request.headers[0].value = type;
    EXPECT_EQ(Send(std::move(request))->Await().status, 200) << type;
  }
  http::Request request = JoinRequest();
  request.headers.clear();
  const http::Response response = Send(std::move(request))->Await();
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.content_type, "application/sdp");
}

TEST_F(JoinServiceTest, NetworkIdsAreOfOneTo128UnreservedBytes) {
  UseBackendWith(RawResponse(200, "application/sdp", kAnswer));
  Serve();
  for (const std::string& id : {std::string("a"), std::string("AZaz09._~-"),
                                std::string(128, '7'), std::string("...")}) {
    http::Request request = JoinRequest();
    request.target = absl::StrCat("/v1/join/", id);
    EXPECT_EQ(Send(std::move(request))->Await().status, 200) << id;
  }
  for (const std::string& id :
       {std::string(), std::string(129, '7'), std::string("."),
        std::string(".."), std::string("a/b"), std::string("%31"),
        std::string("a b"), std::string("\xc3\xa4"), std::string(1, '\0')}) {
    http::Request request = JoinRequest();
    request.target = absl::StrCat("/v1/join/", id);
    EXPECT_EQ(Send(std::move(request))->Await().status, 400) << id;
  }
  EXPECT_EQ(JoinCount(JoinResult::kBadRequest), 9u);
}

TEST_F(JoinServiceTest, FiftyJoinsAtOnceGetTheirOwnAnswers) {
  constexpr int kJoins = 50;
  Mutex mutex;
  int waiting = 0;
  // Answers nobody before all have asked, each with a port of its own.
  UseBackend([&](Connection* connection) {
    const std::string request = ReadWhole(connection);
    const std::string id = request.substr(sizeof("POST /v1/join/") - 1, 2);
    {
      MutexLock lock(&mutex);
      ++waiting;
    }
    EXPECT_TRUE(test::AwaitTrue([&] {
      MutexLock lock(&mutex);
      return waiting == kJoins;
    }));
    connection->Send(RawResponse(
        200, "application/sdp",
        absl::StrReplaceAll(kAnswer, {{"gKiI", absl::StrCat("ufrag", id)},
                                      {"42305", absl::StrCat("423", id)}})));
  });
  Serve();
  std::vector<std::shared_ptr<Reply>> replies;
  for (int i = 0; i < kJoins; ++i) {
    http::Request request = JoinRequest();
    request.target = absl::StrCat("/v1/join/", 10 + i);
    replies.push_back(Send(std::move(request)));
  }
  for (int i = 0; i < kJoins; ++i) {
    EXPECT_THAT(replies[static_cast<size_t>(i)]->Await().body,
                HasSubstr(absl::StrCat("a=ice-ufrag:ufrag", 10 + i, "\r\n")));
  }
  std::set<std::string> joins;
  for (const JoinInfo& join : joins_->List()) {
    joins.insert(absl::StrCat(join.network_id, " ", join.media));
  }
  ASSERT_EQ(joins.size(), static_cast<size_t>(kJoins));
  for (int i = 0; i < kJoins; ++i) {
    EXPECT_EQ(joins.count(absl::StrCat(10 + i, " 127.0.0.1:423", 10 + i)), 1u);
  }
  EXPECT_EQ(service_->GetStats().joins_in_progress, 0u);
}

}  // namespace
}  // namespace nethernet
}  // namespace udpgate
