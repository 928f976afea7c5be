#include "cli/standby_switch.h"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/simulated_clock.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class StandbySwitchTest : public ::testing::Test {
 protected:
  StandbySwitchTest()
      : log_(std::tmpfile()),
        logger_(LogSeverity::kInfo, LogFormat::kText, fileno(log_)) {
    options_.promote = [this] {
      Note("promote");
      if (serves_at_once_) is_standby_ = false;
    };
    options_.demote = [this] {
      Note("demote");
      is_standby_ = true;
    };
    options_.is_standby = [this] {
      ++looks_;
      return is_standby_.load();
    };
    options_.on_change = [this] { Note(is_standby_ ? "standby" : "serving"); };
    options_.addresses = "192.0.2.1:19132";
    options_.clock = &clock_;
  }
  ~StandbySwitchTest() override {
    switch_.reset();
    std::fclose(log_);
  }

  void Start() {
    switch_ = std::make_unique<StandbySwitch>(std::move(options_), &logger_);
  }
  void SetAddresses(bool are_here) {
    switch_->SetAddresses(are_here, clock_.NowNanoseconds());
  }
  void Note(const std::string& call) {
    std::lock_guard<std::mutex> lock(mutex_);
    calls_.push_back(call);
  }
  std::vector<std::string> calls() {
    std::lock_guard<std::mutex> lock(mutex_);
    return calls_;
  }
  bool AwaitCalls(size_t count) {
    return test::AwaitTrue([&] { return calls().size() >= count; });
  }
  std::string Log() {
    std::string text(4096, 0);
    text.resize(pread(fileno(log_), text.data(), text.size(), 0));
    return text;
  }

  test::SimulatedClock clock_;
  std::FILE* const log_;
  Logger logger_;
  StandbySwitchOptions options_;
  std::atomic<bool> is_standby_{true};
  std::atomic<bool> serves_at_once_{true};
  std::atomic<int> looks_{0};
  std::mutex mutex_;
  std::vector<std::string> calls_;
  std::unique_ptr<StandbySwitch> switch_;
};

TEST_F(StandbySwitchTest, WaitsForTheAddresses) {
  Start();
  SetAddresses(false);
  ASSERT_TRUE(AwaitCalls(2));
  EXPECT_THAT(calls(), ElementsAre("demote", "standby"));
  EXPECT_THAT(Log(), HasSubstr("standby: waiting for 192.0.2.1:19132"));
  EXPECT_EQ(switch_->GetStats().demotions, 0u);
}

TEST_F(StandbySwitchTest, FollowsTheAddresses) {
  Start();
  SetAddresses(true);
  ASSERT_TRUE(AwaitCalls(2));
  SetAddresses(false);
  ASSERT_TRUE(AwaitCalls(4));
  SetAddresses(true);
  ASSERT_TRUE(AwaitCalls(6));
  EXPECT_THAT(calls(), ElementsAre("promote", "serving", "demote", "standby",
                                   "promote", "serving"));
  EXPECT_THAT(Log(), HasSubstr("this machine has lost 192.0.2.1:19132"));
  EXPECT_TRUE(
      test::AwaitTrue([this] { return switch_->GetStats().promotions == 2; }));
  EXPECT_EQ(switch_->GetStats().demotions, 1u);
}

TEST_F(StandbySwitchTest, MeasuresThePromotion) {
  serves_at_once_ = false;
  Start();
  SetAddresses(true);
  ASSERT_TRUE(AwaitCalls(1));
  clock_.Advance(absl::Milliseconds(120));
  is_standby_ = false;
  ASSERT_TRUE(AwaitCalls(2));
  ASSERT_TRUE(
      test::AwaitTrue([this] { return switch_->GetStats().promotions == 1; }));
  EXPECT_EQ(switch_->GetStats().promotion_time, absl::Milliseconds(120));
  EXPECT_THAT(Log(),
              AllOf(HasSubstr("serving 192.0.2.1:19132, 120ms after it came"),
                    Not(HasSubstr("not served yet"))));
  const std::vector<HostMetric> metrics = StandbyMetrics(switch_->GetStats());
  ASSERT_EQ(metrics.size(), 3u);
  EXPECT_EQ(metrics[2].name, "udpgate_standby_promotion_seconds");
  EXPECT_DOUBLE_EQ(metrics[2].value, 0.12);
}

TEST_F(StandbySwitchTest, SaysOnceThatAPromotionTakesLong) {
  serves_at_once_ = false;
  Start();
  SetAddresses(true);
  ASSERT_TRUE(AwaitCalls(1));
  clock_.Advance(absl::Seconds(2));
  EXPECT_TRUE(test::AwaitTrue([this] {
    return Log().find("came 2s ago, and clients are not served yet") !=
           std::string::npos;
  }));
  const int looks = looks_;
  EXPECT_TRUE(test::AwaitTrue([&] { return looks_ > looks + 3; }));
  const std::string log = Log();
  EXPECT_EQ(log.find("not served yet"), log.rfind("not served yet"));
}

TEST_F(StandbySwitchTest, AnAddressThatGoesDuringAPromotionEndsIt) {
  serves_at_once_ = false;
  Start();
  SetAddresses(true);
  ASSERT_TRUE(AwaitCalls(1));
  SetAddresses(false);
  ASSERT_TRUE(AwaitCalls(3));
  EXPECT_THAT(calls(), ElementsAre("promote", "demote", "standby"));
  EXPECT_EQ(switch_->GetStats().promotions, 0u);
}

TEST_F(StandbySwitchTest, TheSameReportTwiceChangesNothing) {
  Start();
  SetAddresses(true);
  ASSERT_TRUE(AwaitCalls(2));
  SetAddresses(true);
  SetAddresses(false);
  ASSERT_TRUE(AwaitCalls(4));
  EXPECT_THAT(calls(), ElementsAre("promote", "serving", "demote", "standby"));
}

TEST_F(StandbySwitchTest, EndsDuringAPromotion) {
  serves_at_once_ = false;
  Start();
  SetAddresses(true);
  ASSERT_TRUE(AwaitCalls(1));
  switch_.reset();
  EXPECT_THAT(calls(), ElementsAre("promote"));
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
