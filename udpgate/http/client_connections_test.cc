// The connections of http::Client: how many, and how they end.
#include <atomic>
#include <chrono>
#include <fstream>
#include <future>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "udpgate/http/client.h"
#include "udpgate/http/client_fixture.h"
#include "udpgate/http/client_options.h"
#include "udpgate/http/scripted_server.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {
namespace {

using ::udpgate::test::AwaitTrue;
using Connection = ScriptedServer::Connection;
using ClientConnectionsTest = ClientTest;

// Sockets to `server` on the client's side that are in TIME_WAIT.
int CountTimeWait(const SocketAddress& server) {
  std::ifstream table("/proc/net/tcp");
  const std::string remote = absl::StrFormat(":%04X", server.port());
  int count = 0;
  for (std::string line; std::getline(table, line);) {
    const std::vector<std::string> words =
        absl::StrSplit(line, ' ', absl::SkipEmpty());
    if (words.size() > 3 && absl::EndsWith(words[2], remote) &&
        words[3] == "06") {
      ++count;
    }
  }
  return count;
}

TEST_F(ClientConnectionsTest, FurtherRequestsWaitInABoundedQueue) {
  options_.connections_max = 2;
  options_.queue_size = 3;
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  ScriptedServer server([released](Connection* connection) {
    connection->ReadRequest();
    released.wait();
    connection->Send(kHello);
  });
  std::vector<std::future<Result>> results;
  for (int i = 0; i < 5; ++i) results.push_back(Begin(Get(server)));
  EXPECT_TRUE(AwaitTrue([&] { return server.accepted() == 2; }));
  EXPECT_EQ(client().stats().open, 2u);
  EXPECT_EQ(client().stats().waiting, 3u);
  ExpectError(Send(Get(server)), absl::StatusCode::kResourceExhausted,
              "wait for a connection");
  release.set_value();
  for (std::future<Result>& result : results) EXPECT_TRUE(result.get().ok());
  EXPECT_EQ(server.accepted(), 5);
  EXPECT_LE(server.open_max(), 4);  // two may still close
  EXPECT_EQ(client().stats().refused, 1u);
  EXPECT_EQ(client().stats().responses, 5u);
}

TEST_F(ClientConnectionsTest, TheDeadlineHoldsInTheQueueToo) {
  options_.connections_max = 1;
  ScriptedServer server(AnswerAndStay(""));
  std::future<Result> first = Begin(Get(server));
  ClientRequest request = Get(server);
  request.timeout = absl::Milliseconds(100);
  ExpectError(Send(std::move(request)), absl::StatusCode::kDeadlineExceeded,
              "no connection in 100ms");
  EXPECT_EQ(client().stats().waiting, 0u);
  EXPECT_EQ(client().stats().open, 1u);
  client().Stop();
  EXPECT_TRUE(absl::IsCancelled(first.get().status()));
}

TEST_F(ClientConnectionsTest, StopCancelsWhatIsUnderWay) {
  options_.connections_max = 4;
  ScriptedServer server(AnswerAndStay("HTTP/1.1 200 OK\r\nContent-"));
  std::vector<std::future<Result>> results;
  for (int i = 0; i < 10; ++i) results.push_back(Begin(Get(server)));
  EXPECT_TRUE(AwaitTrue([&] { return server.accepted() == 4; }));
  client().Stop();
  for (std::future<Result>& result : results) {
    ASSERT_EQ(result.wait_for(std::chrono::seconds(0)),
              std::future_status::ready);
    EXPECT_TRUE(absl::IsCancelled(result.get().status()));
  }
  EXPECT_TRUE(absl::IsCancelled(Send(Get(server)).status()));
  const ClientStats stats = client().stats();
  EXPECT_EQ(stats.cancelled, 11u);
  EXPECT_EQ(stats.open, 0u);
  EXPECT_EQ(stats.waiting, 0u);
  client().Stop();
}

TEST_F(ClientConnectionsTest, StopDoesNotWaitForServersToClose) {
  options_.close_timeout = absl::Minutes(1);
  ScriptedServer server(AnswerAndStay(kHello));
  EXPECT_TRUE(Send(Get(server)).ok());
  client().Stop();
  EXPECT_EQ(client().stats().resets, 1u);
}

TEST_F(ClientConnectionsTest, AConnectionThatTheServerLeavesOpenIsReset) {
  options_.close_timeout = absl::Milliseconds(50);
  std::atomic<int> closed{0};
  ScriptedServer server([&closed](Connection* connection) {
    connection->ReadRequest();
    connection->Send(kHello);
    if (connection->AwaitClose()) ++closed;
  });
  EXPECT_TRUE(Send(Get(server)).ok());
  EXPECT_TRUE(AwaitTrue([&] { return closed == 1; }));
  EXPECT_EQ(client().stats().resets, 1u);
  EXPECT_EQ(CountTimeWait(server.address()), 0);
}

TEST_F(ClientConnectionsTest, WhatFollowsTheResponseIsNotRead) {
  ScriptedServer server(AnswerAndStay(
      absl::StrCat(kHello, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbye")));
  const Result response = Send(Get(server));
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->body, "hello");
  EXPECT_TRUE(AwaitTrue([&] { return client().stats().resets == 1; }));
}

TEST_F(ClientConnectionsTest, AThousandRequestsLeaveNoPortInTimeWait) {
  options_.connections_max = 50;
  ScriptedServer server(Answer(kHello));
  std::vector<std::future<Result>> results;
  for (int i = 0; i < 1000; ++i) results.push_back(Begin(Get(server)));
  for (std::future<Result>& result : results) {
    const Result response = result.get();
    ASSERT_TRUE(response.ok()) << response.status();
    EXPECT_EQ(response->body, "hello");
  }
  EXPECT_TRUE(AwaitTrue([&] { return client_->stats().closing == 0; }));
  EXPECT_EQ(client().stats().resets, 0u);
  EXPECT_EQ(server.accepted(), 1000);
  EXPECT_LE(server.open_max(), 100);
  EXPECT_EQ(client().stats().responses, 1000u);
  EXPECT_EQ(CountTimeWait(server.address()), 0);
}

TEST_F(ClientConnectionsTest, TheResultMaySendTheNextRequest) {
  options_.connections_max = 1;
  options_.queue_size = 0;
  ScriptedServer server(Answer(kHello));
  std::promise<Result> second;
  const ClientRequest request = Get(server);
  client().Send(request, [&](Result first) {
    EXPECT_TRUE(first.ok()) << first.status();
    client().Send(request,
                  [&](Result result) { second.set_value(std::move(result)); });
  });
  const Result result = second.get_future().get();
  EXPECT_TRUE(result.ok()) << result.status();
}

}  // namespace
}  // namespace http
}  // namespace udpgate
