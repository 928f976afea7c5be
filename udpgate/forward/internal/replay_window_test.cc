#include "udpgate/forward/internal/replay_window.h"

#include <cstdint>
#include <random>
#include <set>

#include "gtest/gtest.h"

namespace udpgate {
namespace forward {
namespace internal {
namespace {

bool Take(ReplayWindow* window, uint64_t counter) {
  if (!window->IsNew(counter)) return false;
  window->Note(counter);
  return true;
}

TEST(ReplayWindowTest, EachCounterPassesOnce) {
  ReplayWindow window;
  for (const uint64_t counter : {5u, 3u, 4u, 6u, 0u}) {
    EXPECT_TRUE(Take(&window, counter)) << counter;
    EXPECT_FALSE(Take(&window, counter)) << counter;
  }
}

TEST(ReplayWindowTest, ZeroIsACounterLikeOthers) {
  ReplayWindow window;
  EXPECT_TRUE(Take(&window, 0));
  EXPECT_FALSE(Take(&window, 0));
  EXPECT_TRUE(Take(&window, 1));
}

TEST(ReplayWindowTest, WhatIsTooOldToKnowDoesNotPass) {
  ReplayWindow window;
  const uint64_t last = 10 * ReplayWindow::kWindow;
  EXPECT_TRUE(Take(&window, last));
  EXPECT_FALSE(Take(&window, last - ReplayWindow::kWindow));
  EXPECT_TRUE(Take(&window, last - ReplayWindow::kWindow + 1));
  EXPECT_FALSE(Take(&window, 0));
}

TEST(ReplayWindowTest, AJumpForgetsNothingThatIsStillInIt) {
  ReplayWindow window;
  EXPECT_TRUE(Take(&window, 100));
  EXPECT_TRUE(Take(&window, 100 + ReplayWindow::kWindow - 1));
  EXPECT_FALSE(Take(&window, 100));
  EXPECT_TRUE(Take(&window, 101));
  EXPECT_TRUE(Take(&window, UINT64_MAX));
  EXPECT_FALSE(Take(&window, UINT64_MAX));
  EXPECT_FALSE(Take(&window, 101));
}

TEST(ReplayWindowTest, ItAgreesWithAModel) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 200; ++round) {
    ReplayWindow window;
    std::set<uint64_t> seen;
    uint64_t highest = 0;
    const uint64_t spread = 1 + random() % (3 * ReplayWindow::kWindow);
    uint64_t base = random() % 1000;
    for (int i = 0; i < 2000; ++i) {
      base += random() % 4;
      const uint64_t counter = base + random() % spread;
      const bool is_too_old =
          counter < highest && highest - counter >= ReplayWindow::kWindow;
      const bool is_new = seen.count(counter) == 0 && !is_too_old;
      ASSERT_EQ(Take(&window, counter), is_new) << counter << " in " << round;
      if (!is_new) continue;
      seen.insert(counter);
      highest = std::max(highest, counter);
    }
  }
}

}  // namespace
}  // namespace internal
}  // namespace forward
}  // namespace udpgate
