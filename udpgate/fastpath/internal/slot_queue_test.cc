#include "udpgate/fastpath/internal/slot_queue.h"

#include <atomic>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

TEST(FreeSlotsTest, GivesEachSlotOnce) {
  FreeSlots slots(3);
  EXPECT_EQ(slots.Take(), absl::nullopt);
  slots.Put(2);
  slots.Put(0);
  EXPECT_EQ(slots.Take(), 0u);
  EXPECT_EQ(slots.Take(), 2u);
  EXPECT_EQ(slots.Take(), absl::nullopt);
}

TEST(RequestQueueTest, IsFirstInFirstOut) {
  RequestQueue queue(2);
  for (uint32_t i = 0; i < 10; ++i) {
    EXPECT_EQ(queue.Pop(), absl::nullopt);
    queue.Push(i);
    queue.Push(i + 100);
    EXPECT_EQ(queue.Pop(), i);
    EXPECT_EQ(queue.Pop(), i + 100);
  }
}

// As workers and the offload's thread use them: several threads take slots and
// push two requests for each; one thread frees a slot after both.
TEST(SlotQueueTest, LosesNoSlotAndGivesNoneTwiceBetweenThreads) {
  constexpr uint32_t kSlots = 4;
  constexpr int kThreads = 3;
  constexpr int kTakesEach = 20'000;
  FreeSlots free(kSlots);
  RequestQueue requests(2 * kSlots);
  for (uint32_t slot = 0; slot < kSlots; ++slot) free.Put(slot);
  std::vector<int> holders(kSlots);  // not atomic: one at a time
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int takes = 0; takes < kTakesEach;) {
        const absl::optional<uint32_t> slot = free.Take();
        if (!slot.has_value()) {
          std::this_thread::yield();
          continue;
        }
        EXPECT_EQ(++holders[*slot], 1);
        requests.Push(*slot * 2);
        requests.Push(*slot * 2 + 1);
        ++takes;
      }
    });
  }
  std::vector<bool> has_first_request(kSlots);
  for (int done = 0; done < kThreads * kTakesEach;) {
    const absl::optional<uint32_t> request = requests.Pop();
    if (!request.has_value()) {
      std::this_thread::yield();
      continue;
    }
    const uint32_t slot = *request / 2;
    ASSERT_LT(slot, kSlots);
    ASSERT_EQ(has_first_request[slot], *request % 2 == 1) << "in order";
    has_first_request[slot] = !has_first_request[slot];
    if (*request % 2 == 0) continue;
    EXPECT_EQ(--holders[slot], 0);
    free.Put(slot);
    ++done;
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(requests.Pop(), absl::nullopt);
}

}  // namespace
}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
