#include "udpgate/http/engine.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/support/threads.h"

namespace udpgate {
namespace http {
namespace {

TEST(EngineTest, RunsTasksInTheirOrder) {
  auto engine = Engine::Create({/*thread_count=*/3});
  ASSERT_TRUE(engine.ok()) << engine.status();
  std::vector<int> order;
  std::promise<void> done;
  for (int i = 0; i < 100; ++i) {
    (*engine)->Post([i, &order] { order.push_back(i); });
  }
  (*engine)->Post([&done] { done.set_value(); });
  done.get_future().wait();
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[i], i);
}

TEST(EngineTest, RunsATaskAfterADelay) {
  auto engine = Engine::Create({});
  ASSERT_TRUE(engine.ok()) << engine.status();
  const absl::Time start = absl::Now();
  std::promise<absl::Time> first;
  std::promise<absl::Time> second;
  (*engine)->PostAfter(absl::Milliseconds(20),
                       [&second] { second.set_value(absl::Now()); });
  (*engine)->PostAfter(absl::ZeroDuration(),
                       [&first] { first.set_value(absl::Now()); });
  EXPECT_LE(first.get_future().get(), second.get_future().get());
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(20));
}

TEST(EngineTest, ThreadsHaveNamesAndBlockSignals) {
  auto engine = Engine::Create({/*thread_count=*/2});
  ASSERT_TRUE(engine.ok()) << engine.status();
  std::promise<bool> blocks_signals;
  (*engine)->Post([&blocks_signals] {
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    blocks_signals.set_value(sigismember(&blocked, SIGPIPE) == 1 &&
                             sigismember(&blocked, SIGTERM) == 1);
  });
  EXPECT_TRUE(blocks_signals.get_future().get());
  const auto threads = test::ThreadsOf(getpid());
  EXPECT_EQ(threads.count("udpgate-http-0"), 1u);
  EXPECT_EQ(threads.count("udpgate-http-1"), 1u);
}

TEST(EngineTest, StopDestroysTasksThatHaveNotRun) {
  const auto token = std::make_shared<int>();
  std::atomic<bool> has_run{false};
  {
    auto engine = Engine::Create({});
    ASSERT_TRUE(engine.ok()) << engine.status();
    (*engine)->PostAfter(absl::Hours(1), [token, &has_run] { has_run = true; });
    (*engine)->Stop();
    (*engine)->Post([token, &has_run] { has_run = true; });
    (*engine)->Stop();
  }
  EXPECT_EQ(token.use_count(), 1);
  EXPECT_FALSE(has_run);
}

}  // namespace
}  // namespace http
}  // namespace udpgate
