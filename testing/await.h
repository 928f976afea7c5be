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

#include <algorithm>
#include <cstdlib>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace udpgate {
namespace test {

// How many times longer a test waits on a slow machine, such as an emulated
// one: the environment variable UDPGATE_TEST_TIMEOUT_FACTOR, from 1 to 100. 1
// if it is not set.
inline double TimeoutFactor() {
  static const double factor = [] {
    const char* const text = std::getenv("UDPGATE_TEST_TIMEOUT_FACTOR");
    return text == nullptr
               ? 1.0
               : std::min(100.0, std::max(1.0, std::strtod(text, nullptr)));
  }();
  return factor;
}

// How long a test waits for something that must happen before it gives up.
// Generous: it costs time only where the test fails anyway.
inline const absl::Duration kAwaitTimeout = absl::Seconds(20) * TimeoutFactor();

// Calls `condition` until it returns true, at first at once and then every
// millisecond. False where it has not within `timeout` times `TimeoutFactor`.
template <typename Condition>
bool AwaitTrue(Condition condition,
               absl::Duration timeout = absl::Seconds(20)) {
  const absl::Time deadline = absl::Now() + timeout * TimeoutFactor();
  while (!condition()) {
    if (absl::Now() >= deadline) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_AWAIT_H_
