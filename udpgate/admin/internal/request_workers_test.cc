#include "udpgate/admin/internal/request_workers.h"

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "udpgate/http/message.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using http::Request;
using http::Response;
using ::testing::HasSubstr;
using ::udpgate::test::AwaitTrue;

// Handles requests only while the gate is open.
class HandlerGate {
 public:
  Response Handle(const Request& request) {
    ++handling_;
    opened_.wait();
    ++handled_;
    Response response;
    response.body = request.body;
    return response;
  }
  int handling() const { return handling_; }
  int handled() const { return handled_; }
  void Open() { promise_.set_value(); }

 private:
  std::atomic<int> handling_{0};
  std::atomic<int> handled_{0};
  std::promise<void> promise_;
  const std::shared_future<void> opened_ = promise_.get_future().share();
};

class RequestWorkersTest : public ::testing::Test {
 protected:
  void Start(int worker_count, int queue_size) {
    workers_ = std::make_unique<RequestWorkers>(
        worker_count, queue_size,
        [this](const Request& request) { return gate_.Handle(request); });
    ASSERT_TRUE(workers_->Start().ok());
  }
  // Of a request with this body. Broken, if it is dropped.
  std::future<Response> Begin(const std::string& body) {
    std::promise<Response> promise;
    std::future<Response> future = promise.get_future();
    Request request;
    request.body = body;
    workers_->Handle(std::move(request),
                     [promise = std::move(promise)](Response r) mutable {
                       promise.set_value(std::move(r));
                     });
    return future;
  }

  HandlerGate gate_;
  std::unique_ptr<RequestWorkers> workers_;
};

TEST_F(RequestWorkersTest, HandleAsManyRequestsAtATimeAsThereAreWorkers) {
  Start(2, 8);
  std::future<Response> first = Begin("a");
  std::future<Response> second = Begin("b");
  std::future<Response> third = Begin("c");
  EXPECT_TRUE(AwaitTrue([this] { return gate_.handling() == 2; }));
  gate_.Open();
  EXPECT_EQ(first.get().body, "a");
  EXPECT_EQ(second.get().body, "b");
  EXPECT_EQ(third.get().body, "c");
  EXPECT_EQ(workers_->refused(), 0u);
}

TEST_F(RequestWorkersTest, RefuseRequestsIfTheQueueIsFull) {
  Start(1, 1);
  std::future<Response> handled = Begin("a");
  EXPECT_TRUE(AwaitTrue([this] { return gate_.handling() == 1; }));
  std::future<Response> waits = Begin("b");
  const Response refusal = Begin("c").get();
  EXPECT_EQ(refusal.status, 503);
  EXPECT_THAT(refusal.body, HasSubstr("too many queued requests"));
  EXPECT_EQ(workers_->refused(), 1u);
  gate_.Open();
  EXPECT_EQ(handled.get().body, "a");
  EXPECT_EQ(waits.get().body, "b");
}

TEST_F(RequestWorkersTest, StopWaitsForTheHandlerAndDropsWhatWaits) {
  Start(1, 8);
  std::future<Response> handled = Begin("a");
  EXPECT_TRUE(AwaitTrue([this] { return gate_.handling() == 1; }));
  std::future<Response> waits = Begin("b");
  std::future<void> stop =
      std::async(std::launch::async, [this] { workers_->Stop(); });
  EXPECT_THROW(waits.get(), std::future_error);
  gate_.Open();
  stop.get();
  EXPECT_EQ(gate_.handled(), 1);
  EXPECT_EQ(handled.get().body, "a");
  EXPECT_EQ(Begin("c").get().status, 503);
  workers_->Stop();
}

}  // namespace
}  // namespace internal
}  // namespace admin
}  // namespace udpgate
