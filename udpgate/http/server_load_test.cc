// Everything at once, for ThreadSanitizer: several threads, responses from
// elsewhere, late and never, limits that are reached, and a stop amid all.
#include <sys/socket.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "udpgate/http/server_fixture.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace http {
namespace {

using ::udpgate::internal::Mutex;
using ::udpgate::internal::MutexLock;
using ::udpgate::test::HttpReply;

// Responses that another thread gives, some of them late.
class Elsewhere {
 public:
  Elsewhere() : thread_([this] { Loop(); }) {}
  ~Elsewhere() {
    stops_ = true;
    thread_.join();
  }

  void Add(Respond respond) {
    MutexLock lock(&mutex_);
    waiting_.push_back(std::move(respond));
  }

 private:
  void Loop() {
    while (!stops_) {
      std::vector<Respond> taken;
      {
        MutexLock lock(&mutex_);
        taken.swap(waiting_);
      }
      for (Respond& respond : taken) respond({200, "", "elsewhere"});
      std::this_thread::yield();
    }
  }

  std::atomic<bool> stops_{false};
  Mutex mutex_;
  std::vector<Respond> waiting_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

class ServerLoadTest : public ServerTest {
 protected:
  ServerLoadTest() {
    // Abseil's library fills a table at its first use, which ThreadSanitizer
    // cannot see to be guarded: before there are threads.
    (void)absl::ErrnoToStatus(ECONNREFUSED, "");
    options_.connections_max = 6;
    options_.read_timeout = options_.idle_timeout = options_.response_timeout =
        options_.write_timeout = absl::Milliseconds(20);
    handler_ = [this](Request request, Respond respond) {
      if (request.target == "/now") {
        respond({200, "", "now"});
      } else if (request.target == "/elsewhere") {
        elsewhere_.Add(std::move(respond));
      } else if (request.target == "/never") {
        MutexLock lock(&mutex_);
        kept_.push_back(std::move(respond));
      }  // else: dropped
    };
  }

  // A client that does anything, until the server has stopped.
  void Play(unsigned seed) {
    std::mt19937 random(seed);
    const std::vector<std::string> targets = {"/now", "/elsewhere", "/never",
                                              "/dropped"};
    const std::set<int> statuses = {0, 200, 400, 408, 500, 503};
    while (!stops_) {
      absl::StatusOr<udpgate::internal::UniqueFd> fd =
          test::TcpConnect(address_);
      if (!fd.ok()) continue;  // it has stopped
      RawClient client(*std::move(fd));
      for (unsigned i = random() % 4; i > 0; --i) {
        const std::string text = GetText(targets[random() % targets.size()]);
        // Some requests are unfinished.
        if (!client.Send(text.substr(0, random() % 8 == 0 ? 20 : 1000))) break;
        if (random() % 4 == 0) continue;  // pipelined, or abandoned
        const HttpReply reply = client.Receive();
        EXPECT_EQ(statuses.count(reply.status), 1u) << reply.head;
        if (reply.status == 0) break;
      }
    }
  }

  Elsewhere elsewhere_;
  std::atomic<bool> stops_{false};

 private:
  Mutex mutex_;
  std::vector<Respond> kept_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(ServerLoadTest, SurvivesClientsOfAllKindsAndAStop) {
  Serve(/*thread_count=*/3);
  std::vector<std::thread> clients;
  for (unsigned i = 0; i < 10; ++i) {
    clients.emplace_back([this, i] { Play(i); });
  }
  EXPECT_TRUE(test::AwaitTrue([this] {
    const ServerStats stats = server_->stats();
    return stats.requests > 300 && stats.closed_at_limit > 0 &&
           stats.evicted > 0 && stats.read_timeouts > 3 &&
           stats.response_timeouts > 3;
  }));
  server_->Stop();
  stops_ = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(server_->stats().open, 0u);
}

TEST_F(ServerLoadTest, EvictsUnderLoad) {
  options_.evicts_oldest = true;
  Serve(/*thread_count=*/3);
  std::vector<std::thread> clients;
  for (unsigned i = 0; i < 10; ++i) {
    clients.emplace_back([this, i] { Play(i); });
  }
  EXPECT_TRUE(test::AwaitTrue([this] {
    const ServerStats stats = server_->stats();
    return stats.requests > 300 && stats.evicted > 20;
  }));
  server_->Stop();
  stops_ = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(server_->stats().open, 0u);
}

}  // namespace
}  // namespace http
}  // namespace udpgate
