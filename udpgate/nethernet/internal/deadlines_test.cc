#include "udpgate/nethernet/internal/deadlines.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/time/time.h"
#include "testing/await.h"
#include "testing/simulated_clock.h"
#include "udpgate/http/engine.h"
#include "udpgate/nethernet/internal/call_gate.h"

namespace udpgate {
namespace nethernet {
namespace internal {
namespace {

using ::udpgate::test::AwaitTrue;

class DeadlinesTest : public ::testing::Test {
 protected:
  ~DeadlinesTest() override {
    gate_.Close();
    engine_->Stop();
  }

  int64_t In(absl::Duration time) const {
    return clock_.NowNanoseconds() + absl::ToInt64Nanoseconds(time);
  }

  test::SimulatedClock clock_;
  CallGate gate_;
  std::unique_ptr<http::Engine> engine_ = *http::Engine::Create({});
  std::shared_ptr<Deadlines> deadlines_ =
      std::make_shared<Deadlines>(engine_.get(), &gate_, &clock_);
};

TEST_F(DeadlinesTest, CallsAreDueByTheClockInAnyOrder) {
  std::atomic<int> late{0};
  std::atomic<int> early{0};
  deadlines_->Add(In(absl::Milliseconds(20)), [&late] { ++late; });
  deadlines_->Add(In(absl::Milliseconds(10)), [&early] { ++early; });
  clock_.Advance(absl::Milliseconds(10));
  EXPECT_TRUE(AwaitTrue([&] { return early == 1; }));
  EXPECT_EQ(late, 0);
  clock_.Advance(absl::Milliseconds(10));
  EXPECT_TRUE(AwaitTrue([&] { return late == 1; }));
  EXPECT_EQ(early, 1);
}

TEST_F(DeadlinesTest, WhatIsRemovedIsNotCalled) {
  std::atomic<int> removed{0};
  std::atomic<int> other{0};
  const auto key =
      deadlines_->Add(In(absl::Milliseconds(10)), [&removed] { ++removed; });
  deadlines_->Remove(key);
  deadlines_->Remove(key);
  deadlines_->Add(In(absl::Milliseconds(10)), [&other] { ++other; });
  clock_.Advance(absl::Milliseconds(10));
  EXPECT_TRUE(AwaitTrue([&] { return other == 1; }));
  EXPECT_EQ(removed, 0);
}

TEST_F(DeadlinesTest, WhatWaitsIsDestroyedByClear) {
  auto kept = std::make_shared<int>(1);
  deadlines_->Add(In(absl::Seconds(1)), [kept] {});
  EXPECT_EQ(kept.use_count(), 2);
  deadlines_->Clear();
  EXPECT_EQ(kept.use_count(), 1);
}

TEST_F(DeadlinesTest, AClosedGateKeepsItFromTheEngine) {
  gate_.Close();
  engine_->Stop();
  engine_.reset();
  deadlines_->Add(In(absl::ZeroDuration()), [] { FAIL(); });
  deadlines_->Clear();
  engine_ = *http::Engine::Create({});
}

}  // namespace
}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
