// What the tests of `JoinService` share: the service with a real HTTP client, a
// backend's signaling on a real socket, and a resolver that names it.
#ifndef UDPGATE_NETHERNET_JOIN_SERVICE_FIXTURE_H_
#define UDPGATE_NETHERNET_JOIN_SERVICE_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "testing/await.h"
#include "testing/mock_backend_resolver.h"
#include "testing/simulated_clock.h"
#include "udpgate/http/client.h"
#include "udpgate/http/engine.h"
#include "udpgate/http/message.h"
#include "udpgate/http/scripted_server.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/nethernet/internal/sample_sdp.h"
#include "udpgate/nethernet/join_service.h"
#include "udpgate/nethernet/join_service_options.h"
#include "udpgate/nethernet/join_table.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {

// A response that may come later. Threads: any.
class Reply {
 public:
  void Set(http::Response response) {
    udpgate::internal::MutexLock lock(&mutex_);
    response_ = std::move(response);
  }
  bool has_come() const {
    udpgate::internal::MutexLock lock(&mutex_);
    return response_.has_value();
  }
  // Waits for it. A status of 0 if it does not come.
  http::Response Await() const {
    if (!test::AwaitTrue([this] { return has_come(); })) {
      ADD_FAILURE() << "no response";
      return {0, "", "", {}};
    }
    udpgate::internal::MutexLock lock(&mutex_);
    return *response_;
  }

 private:
  mutable udpgate::internal::Mutex mutex_;
  absl::optional<http::Response> response_ ABSL_GUARDED_BY(mutex_);
};

// A complete response, which ends with its connection.
inline std::string RawResponse(int status, absl::string_view content_type,
                               absl::string_view body) {
  return absl::StrCat("HTTP/1.1 ", status,
                      " Text\r\nContent-Type: ", content_type,
                      "\r\nContent-Length: ", body.size(),
                      "\r\nConnection: close\r\n\r\n", body);
}

// Reads a request with its body, and what came before it.
inline std::string ReadWhole(http::ScriptedServer::Connection* connection,
                             size_t preamble_bytes = 0) {
  size_t size = preamble_bytes + 4;
  size_t head_end = std::string::npos;
  for (;;) {
    const std::string& text = connection->ReadBytes(size);
    if (text.size() < size) return text;  // the client closed
    head_end = text.find("\r\n\r\n", preamble_bytes);
    if (head_end != std::string::npos) break;
    size = text.size() + 1;
  }
  const std::string head = connection->ReadBytes(size).substr(0, head_end);
  constexpr absl::string_view kLength = "Content-Length: ";
  const size_t begin = head.find(std::string(kLength));
  size_t body_size = 0;
  if (begin != std::string::npos) {
    const std::string rest = head.substr(begin + kLength.size());
    (void)absl::SimpleAtoi(rest.substr(0, rest.find('\r')), &body_size);
  }
  return connection->ReadBytes(head_end + 4 + body_size);
}

// Requests that a backend got. Threads: any.
class Requests {
 public:
  void Add(std::string request) {
    udpgate::internal::MutexLock lock(&mutex_);
    all_.push_back(std::move(request));
  }
  std::vector<std::string> all() const {
    udpgate::internal::MutexLock lock(&mutex_);
    return all_;
  }
  size_t size() const { return all().size(); }

 private:
  mutable udpgate::internal::Mutex mutex_;
  std::vector<std::string> all_ ABSL_GUARDED_BY(mutex_);
};

class JoinServiceTest : public ::testing::Test {
 protected:
  using Connection = http::ScriptedServer::Connection;
  using Resolver = ::testing::NiceMock<test::MockBackendResolver>;

  JoinServiceTest()
      : joins_(std::make_shared<JoinTable>(JoinTableOptions(),
                                           Clock::Monotonic())) {
    engine_ = *http::Engine::Create({});
    client_ = *http::Client::Create(engine_.get(), {});
  }
  ~JoinServiceTest() override { StopAll(); }

  void StopAll() {
    if (service_ != nullptr) service_->Stop();
    client_->Stop();
    engine_->Stop();
  }

  // The service with `options_` and the clock.
  void Serve(const Clock* clock = Clock::Monotonic()) {
    JoinServiceDependencies dependencies;
    dependencies.resolver = resolver_;
    dependencies.joins = joins_;
    dependencies.engine = engine_.get();
    dependencies.client = client_.get();
    dependencies.clock = clock;
    auto service = JoinService::Create(options_, std::move(dependencies));
    ASSERT_TRUE(service.ok()) << service.status();
    service_ = *std::move(service);
  }

  // A backend's signaling that the resolver names, with the label "lobby".
  void UseBackend(http::ScriptedServer::Script script) {
    backend_ = std::make_unique<http::ScriptedServer>(std::move(script));
    ON_CALL(*resolver_, Resolve)
        .WillByDefault(test::ResolveWith(backend_->address(), "lobby"));
  }
  // One that gives this answer to everything, and keeps the requests.
  void UseBackendWith(std::string response) {
    UseBackend([this, response](Connection* connection) {
      requests_.Add(ReadWhole(connection));
      connection->Send(response);
    });
  }

  std::shared_ptr<Reply> Send(http::Request request) {
    auto reply = std::make_shared<Reply>();
    service_->Handle(std::move(request), [reply](http::Response response) {
      reply->Set(std::move(response));
    });
    return reply;
  }

  static http::Request Request(absl::string_view method,
                               absl::string_view target,
                               absl::string_view client = "203.0.113.7:5000") {
    http::Request request;
    request.method = std::string(method);
    request.target = std::string(target);
    request.client = *SocketAddress::Parse(client);
    request.peer = request.client;
    request.local = *SocketAddress::Parse("198.51.100.1:19132");
    return request;
  }
  std::shared_ptr<Reply> SendGet(
      absl::string_view client = "203.0.113.7:5000") {
    return Send(Request("GET", "/v1/join", client));
  }
  http::Response Get() { return SendGet()->Await(); }

  static http::Request JoinRequest(
      absl::string_view body = internal::kLibDataChannelOffer) {
    http::Request request = Request("POST", "/v1/join/123");
    request.headers.push_back({"Content-Type", "application/sdp"});
    request.body = std::string(body);
    return request;
  }
  http::Response Post(absl::string_view body = internal::kLibDataChannelOffer) {
    return Send(JoinRequest(body))->Await();
  }

  uint64_t JoinCount(JoinResult result) const {
    return service_->GetStats().joins[static_cast<size_t>(result)];
  }
  uint64_t JoinCount() const {
    uint64_t sum = 0;
    for (const uint64_t count : service_->GetStats().joins) sum += count;
    return sum;
  }

  JoinServiceOptions options_;
  Requests requests_;  // of `UseBackendWith`
  std::shared_ptr<Resolver> resolver_ = std::make_shared<Resolver>();
  std::shared_ptr<JoinTable> joins_;
  std::unique_ptr<http::Engine> engine_;
  std::unique_ptr<http::Client> client_;
  std::unique_ptr<http::ScriptedServer> backend_;
  std::unique_ptr<JoinService> service_;
};

}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_JOIN_SERVICE_FIXTURE_H_
