#include "udpgate/internal/util/thread.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>

#include <thread>

#include "absl/status/statusor.h"

namespace udpgate {
namespace internal {
namespace {

// Of a thread of that role, -1 where there was none.
int PolicyOf(ThreadRole role) {
  int policy = -1;
  absl::StatusOr<std::thread> thread = StartThread("test", role, [&policy] {
    sched_param parameters;
    pthread_getschedparam(pthread_self(), &policy, &parameters);
  });
  EXPECT_TRUE(thread.ok()) << thread.status();
  if (thread.ok()) thread->join();
  return policy;
}

TEST(ThreadTest, TheControlPlaneGivesWay) {
  if (sched_getscheduler(0) != SCHED_OTHER) GTEST_SKIP() << "another policy";
  EXPECT_EQ(PolicyOf(ThreadRole::kControlPlane), SCHED_BATCH);
  EXPECT_EQ(PolicyOf(ThreadRole::kDataPlane), SCHED_OTHER);
}

// As after a takeover that fails.
TEST(ThreadTest, AThreadOfTheControlPlaneStartsOthersAsTheyShouldBe) {
  if (sched_getscheduler(0) != SCHED_OTHER) GTEST_SKIP() << "another policy";
  absl::StatusOr<std::thread> thread =
      StartThread("test", ThreadRole::kControlPlane, [] {
        EXPECT_EQ(PolicyOf(ThreadRole::kDataPlane), SCHED_OTHER);
        EXPECT_EQ(PolicyOf(ThreadRole::kControlPlane), SCHED_BATCH);
      });
  ASSERT_TRUE(thread.ok()) << thread.status();
  thread->join();
}

TEST(ThreadTest, APolicyThatSomebodyChoseRemains) {
  std::thread chosen([] {
    const sched_param parameters{};
    ASSERT_EQ(pthread_setschedparam(pthread_self(), SCHED_IDLE, &parameters),
              0);
    EXPECT_EQ(PolicyOf(ThreadRole::kControlPlane), SCHED_IDLE);
    EXPECT_EQ(PolicyOf(ThreadRole::kDataPlane), SCHED_IDLE);
  });
  chosen.join();
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
