// Waiting for a condition in a test, with a deadline: the one place that polls.
//
//   EXPECT_TRUE(udpgate::test::AwaitTrue([&] {
//     return proxy->GetStats().sessions_active == 1;
//   }));
//
// Never sleep for a fixed time instead: that is either too short on a busy
// machine or too long on every other one.
#ifndef UDPGATE_TESTING_AWAIT_H_
#define UDPGATE_TESTING_AWAIT_H_

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace udpgate {
namespace test {

// How long a test waits for something that must happen before it gives up.
// Generous: it costs time only where the test fails anyway.
inline constexpr absl::Duration kAwaitTimeout = absl::Seconds(20);

// Calls `condition` until it returns true, at first at once and then every
// millisecond. False where it has not within `timeout`.
template <typename Condition>
bool AwaitTrue(Condition condition, absl::Duration timeout = kAwaitTimeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!condition()) {
    if (absl::Now() >= deadline) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_AWAIT_H_
