// What the tests of http::Client share.
#ifndef UDPGATE_HTTP_CLIENT_FIXTURE_H_
#define UDPGATE_HTTP_CLIENT_FIXTURE_H_

#include <future>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "udpgate/http/client.h"
#include "udpgate/http/client_options.h"
#include "udpgate/http/engine.h"
#include "udpgate/http/message.h"
#include "udpgate/http/scripted_server.h"

namespace udpgate {
namespace http {

inline constexpr char kHello[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n"
    "hello";

// Reads the request and sends `text`, then closes.
inline ScriptedServer::Script Answer(std::string text) {
  return [text = std::move(text)](ScriptedServer::Connection* connection) {
    connection->ReadRequest();
    connection->Send(text);
  };
}

// The same, but leaves the connection open.
inline ScriptedServer::Script AnswerAndStay(std::string text) {
  return [text = std::move(text)](ScriptedServer::Connection* connection) {
    connection->ReadRequest();
    connection->Send(text);
    connection->AwaitClose();
  };
}

// A client of an engine with two threads.
class ClientTest : public ::testing::Test {
 protected:
  using Result = absl::StatusOr<Response>;

  void SetUp() override {
    EngineOptions options;
    options.thread_count = 2;
    absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(options);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }
  void TearDown() override {
    client_.reset();
    engine_->Stop();
  }

  Client& client() {
    if (client_ == nullptr) {
      absl::StatusOr<std::unique_ptr<Client>> client =
          Client::Create(engine_.get(), options_);
      EXPECT_TRUE(client.ok()) << client.status();
      client_ = *std::move(client);
    }
    return *client_;
  }

  static ClientRequest Get(const ScriptedServer& server) {
    ClientRequest request;
    request.server = server.address();
    request.target = "/v1/join";
    request.timeout = test::kAwaitTimeout;
    return request;
  }
  std::future<Result> Begin(ClientRequest request) {
    auto promise = std::make_shared<std::promise<Result>>();
    std::future<Result> future = promise->get_future();
    client().Send(std::move(request), [promise](Result result) {
      promise->set_value(std::move(result));
    });
    return future;
  }
  Result Send(ClientRequest request) { return Begin(std::move(request)).get(); }
  // Of a response with this text, and then the end of the stream.
  Result Receive(const std::string& text) {
    ScriptedServer server(Answer(text));
    return Send(Get(server));
  }
  void ExpectError(const Result& result, absl::StatusCode code,
                   const std::string& text) {
    EXPECT_EQ(result.status().code(), code) << result.status();
    EXPECT_THAT(std::string(result.status().message()),
                ::testing::HasSubstr(text));
  }

  ClientOptions options_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Client> client_;
};

}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_CLIENT_FIXTURE_H_
