#include "udpgate/internal/util/control_thread.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/simulated_clock.h"

namespace udpgate {
namespace internal {
namespace {

using test::AwaitTrue;
using ::testing::ElementsAre;

const SocketAddress kClient = SocketAddress::Ipv4Loopback(5);

class ControlThreadTest : public ::testing::Test {
 protected:
  LogSink Sink() {
    return [this](LogSeverity, absl::string_view message) {
      MutexLock lock(&mutex_);
      lines_.emplace_back(message);
    };
  }
  std::vector<std::string> lines() {
    MutexLock lock(&mutex_);
    return lines_;
  }
  void Report(ControlThread* control, absl::string_view why) {
    control->ReportRefused(DropReason::kNoBackend, kClient,
                           [why] { return std::string(why); });
  }

  test::SimulatedClock clock_;
  Mutex mutex_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(ControlThreadTest, LogsAReasonOnceInAWhileWithTheNumberLeftOut) {
  ControlThread control(Sink(), &clock_, 10);
  ASSERT_TRUE(control.Start().ok());
  for (int i = 0; i < 8; ++i) Report(&control, "the key is missing");
  ASSERT_TRUE(AwaitTrue([&] { return lines().size() == 1; }));
  clock_.Advance(absl::Seconds(5));
  Report(&control, "still missing");
  ASSERT_TRUE(AwaitTrue([&] { return lines().size() == 2; }));
  EXPECT_THAT(
      lines(),
      ElementsAre(
          "new client 127.0.0.1:5 dropped (no_backend): the key is missing",
          "new client 127.0.0.1:5 dropped (no_backend): still missing (and 7 "
          "more since the last such line)"));
}

TEST_F(ControlThreadTest, SaysWhenSocketsRunOutAndWhenThatIsOver) {
  ControlThread control(Sink(), &clock_, 10);
  ASSERT_TRUE(control.Start().ok());
  const auto report = [&] {
    control.ReportRefused(DropReason::kNoUpstreamSocket, kClient,
                          [] { return std::string("EMFILE"); });
  };
  control.ReportUpstreamOpened();  // nothing was wrong
  for (int i = 0; i < 59; ++i) {
    report();
    control.ReportUpstreamOpened();  // one now and then is no end of it
    clock_.Advance(absl::Seconds(1));
  }
  ASSERT_TRUE(AwaitTrue([&] { return lines().size() == 1; }));
  clock_.Advance(absl::Seconds(1));
  report();
  ASSERT_TRUE(AwaitTrue([&] { return lines().size() == 2; }));
  clock_.Advance(absl::Seconds(10));
  control.ReportUpstreamOpened();
  control.ReportUpstreamOpened();
  ASSERT_TRUE(AwaitTrue([&] { return lines().size() == 3; }));
  report();
  ASSERT_TRUE(AwaitTrue([&] { return lines().size() == 4; }));
  constexpr char kLine[] =
      "new client 127.0.0.1:5 dropped (no_upstream_socket): EMFILE";
  EXPECT_THAT(
      lines(),
      ElementsAre(
          kLine, absl::StrCat(kLine, " (and 58 more since the last such line)"),
          "sockets towards backends can be opened again", kLine));
}

TEST_F(ControlThreadTest, OneReasonDoesNotSilenceAnother) {
  ControlThread control(Sink(), &clock_, 10);
  ASSERT_TRUE(control.Start().ok());
  Report(&control, "x");
  control.ReportRefused(DropReason::kResolveFailed, kClient,
                        [] { return std::string("Redis is away"); });
  EXPECT_TRUE(AwaitTrue([&] { return lines().size() == 2; }));
}

TEST_F(ControlThreadTest, SaysWhyASessionWasEnded) {
  ControlThread control(Sink(), &clock_, 10);
  ASSERT_TRUE(control.Start().ok());
  control.ReportEnded(EndReason::kBackendRefused, kClient,
                      [] { return std::string("three refusals"); });
  ASSERT_TRUE(AwaitTrue([&] { return lines().size() == 1; }));
  EXPECT_EQ(lines()[0],
            "session of 127.0.0.1:5 ended (backend_refused): three refusals");
}

TEST_F(ControlThreadTest, DoesNotAskWhyInVain) {
  ControlThread control(Sink(), &clock_, 10);
  int asked_count = 0;
  for (int i = 0; i < 100; ++i) {
    control.ReportRefused(DropReason::kNoBackend, kClient, [&] {
      ++asked_count;
      return std::string();
    });
  }
  EXPECT_EQ(asked_count, 1);
}

TEST_F(ControlThreadTest, AFullQueueDropsReportsAndCounts) {
  ControlThread control(Sink(), &clock_, 2);
  for (int i = 0; i < 5; ++i) {
    Report(&control, "x");
    clock_.Advance(absl::Seconds(5));
  }
  EXPECT_EQ(control.suppressed(), 3u);
}

TEST_F(ControlThreadTest, MakesCallsInOrder) {
  ControlThread control(nullptr, &clock_, 1);
  ASSERT_TRUE(control.Start().ok());
  std::vector<int> order;
  std::atomic<bool> is_done{false};
  for (int i = 0; i < 100; ++i) {
    control.Post([&order, i] { order.push_back(i); });
  }
  control.Post([&is_done] { is_done = true; });
  ASSERT_TRUE(AwaitTrue([&] { return is_done.load(); }));
  ASSERT_EQ(order.size(), 100u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_F(ControlThreadTest, DropsCallsAfterStop) {
  ControlThread control(Sink(), &clock_, 1);
  ASSERT_TRUE(control.Start().ok());
  control.Stop();
  control.Post([] { ADD_FAILURE() << "called after Stop"; });
  control.Stop();
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
