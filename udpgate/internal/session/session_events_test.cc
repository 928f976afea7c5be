#include "udpgate/internal/session/session_events.h"

#include <cstdint>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/mock_session_observer.h"
#include "testing/simulated_clock.h"

namespace udpgate {
namespace internal {
namespace {

using test::AwaitTrue;
using ::testing::ElementsAre;

SessionEvent Event(uint64_t id) {
  SessionEvent event;
  event.session_id = id;
  return event;
}

std::vector<uint64_t> Ids(const std::vector<SessionEvent>& events) {
  std::vector<uint64_t> ids;
  for (const SessionEvent& event : events) ids.push_back(event.session_id);
  return ids;
}

class SessionEventsTest : public ::testing::Test {
 protected:
  test::SimulatedClock clock_;
  std::shared_ptr<test::RecordingSessionObserver> observer_ =
      std::make_shared<test::RecordingSessionObserver>();
};

TEST_F(SessionEventsTest, DeliversInOrderAndSaysHowLateItIs) {
  SessionEvents events(observer_, &clock_, 4);
  SessionEventQueue* const first = events.AddShard();
  SessionEventQueue* const second = events.AddShard();
  second->Post(Event(3), clock_.NowNanoseconds());
  clock_.Advance(absl::Seconds(1));
  first->Post(Event(1), clock_.NowNanoseconds());
  first->Post(Event(2), clock_.NowNanoseconds());
  EXPECT_EQ(events.waiting(), 3);
  clock_.Advance(absl::Seconds(2));
  EXPECT_EQ(events.Deliver(), 3);
  EXPECT_EQ(events.waiting(), 0);
  EXPECT_THAT(Ids(observer_->events()), ElementsAre(1, 2, 3));
  EXPECT_EQ(observer_->events()[0].delay, absl::Seconds(2));
  EXPECT_EQ(observer_->events()[2].delay, absl::Seconds(3));
  EXPECT_EQ(events.Deliver(), 0);
}

TEST_F(SessionEventsTest, AFullQueueDropsAndCountsAndTheNextRoundHasRoom) {
  SessionEvents events(observer_, &clock_, 3);
  SessionEventQueue* const queue = events.AddShard();
  SessionEventQueue* const other = events.AddShard();
  for (uint64_t round = 0; round < 3; ++round) {
    for (uint64_t i = 1; i <= 5; ++i) queue->Post(Event(10 * round + i), 0);
    EXPECT_EQ(events.dropped(), 2 * (round + 1));
    EXPECT_EQ(events.Deliver(), 3);
  }
  EXPECT_THAT(Ids(observer_->events()),
              ElementsAre(1, 2, 3, 11, 12, 13, 21, 22, 23));
  other->Post(Event(30), 0);
  EXPECT_EQ(events.waiting(), 1) << "each shard has a queue of its own";
}

TEST_F(SessionEventsTest, TheThreadWakesForEachEvent) {
  SessionEvents events(observer_, &clock_, 4);
  SessionEventQueue* const queue = events.AddShard();
  ASSERT_TRUE(events.Start().ok());
  for (uint64_t i = 1; i <= 1000; ++i) {
    queue->Post(Event(i), 0);
    ASSERT_TRUE(AwaitTrue([&] { return events.waiting() == 0; })) << i;
  }
  events.Stop();
  EXPECT_EQ(observer_->events().size(), 1000u);
  EXPECT_EQ(events.dropped(), 0u);
}

TEST_F(SessionEventsTest, ShardsOfAStoppingGateWaitForRoom) {
  SessionEvents events(observer_, &clock_, 2);
  SessionEventQueue* const queue = events.AddShard();
  ASSERT_TRUE(events.Start().ok());
  events.BeginStop();
  std::vector<uint64_t> expected;
  for (uint64_t i = 1; i <= 1000; ++i) {
    queue->Post(Event(i), 0);
    expected.push_back(i);
  }
  events.Stop();
  EXPECT_EQ(Ids(observer_->events()), expected);
  EXPECT_EQ(events.dropped(), 0u);
}

// An observer whose calls return when the test says so.
class BlockedObserver : public SessionObserver {
 public:
  void Observe(const SessionEvent& /*event*/) override {
    ++calls;
    may_return.wait();
  }

  std::atomic<int> calls{0};
  std::promise<void> go_on;
  std::shared_future<void> may_return = go_on.get_future().share();
};

TEST_F(SessionEventsTest, AStopGivesUpOnASlowObserverAndCounts) {
  const auto observer = std::make_shared<BlockedObserver>();
  SessionEvents events(observer, &clock_, 4);
  SessionEventQueue* const queue = events.AddShard();
  ASSERT_TRUE(events.Start().ok());
  queue->Post(Event(1), 0);
  ASSERT_TRUE(AwaitTrue([&] { return observer->calls == 1; }));
  for (uint64_t i = 2; i <= 10; ++i) queue->Post(Event(i), 0);
  EXPECT_EQ(events.dropped(), 6u) << "one is in the call, three wait";
  events.BeginStop();
  queue->Post(Event(11), 0);
  EXPECT_EQ(events.dropped(), 7u) << "not for longer than a stop may take";
  observer->go_on.set_value();
  events.Stop();
  EXPECT_EQ(observer->calls, 1);
  EXPECT_EQ(events.dropped(), 10u);
}

TEST_F(SessionEventsTest, NothingIsLeftOfAnObserverThatNeverStarted) {
  {
    SessionEvents events(observer_, &clock_, 1);
    SessionEventQueue* const queue = events.AddShard();
    events.BeginStop();
    queue->Post(Event(1), 0);
    queue->Post(Event(2), 0);
    events.Stop();
    EXPECT_EQ(events.dropped(), 1u);
  }
  EXPECT_EQ(observer_.use_count(), 1);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
