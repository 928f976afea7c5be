#include "udpgate/proxy_options.h"

#include <algorithm>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace {

using ::testing::HasSubstr;

TEST(ProxyOptionsTest, TheDefaultsAreValid) {
  EXPECT_TRUE(ProxyOptions().Validate().ok());
  const int processors = static_cast<int>(std::thread::hardware_concurrency());
  EXPECT_EQ(ProxyOptions::DefaultWorkerCount(), std::max(processors - 1, 1));
}

// Sets one field of the defaults and returns what Validate says.
template <typename Field, typename Value>
absl::Status With(Field ProxyOptions::*field, Value value) {
  ProxyOptions options;
  options.*field = value;
  return options.Validate();
}

template <typename Field, typename Value>
absl::Status WithLimit(Field ProxyLimits::*field, Value value) {
  ProxyOptions options;
  options.limits.*field = value;
  return options.Validate();
}

TEST(ProxyOptionsTest, AcceptsTheBoundsAndNamesWhatIsBeyond) {
  EXPECT_TRUE(With(&ProxyOptions::listener_count, 1).ok());
  EXPECT_TRUE(With(&ProxyOptions::listener_count, 64).ok());
  EXPECT_EQ(With(&ProxyOptions::listener_count, 0).message(),
            "listener_count is 0; allowed are 1 to 64");
  EXPECT_EQ(With(&ProxyOptions::listener_count, 65).message(),
            "listener_count is 65; allowed are 1 to 64");
  EXPECT_TRUE(With(&ProxyOptions::worker_count, 0).ok());
  EXPECT_THAT(With(&ProxyOptions::worker_count, -1).message(),
              HasSubstr("worker_count is -1"));
  EXPECT_THAT(With(&ProxyOptions::worker_count, 257).message(),
              HasSubstr("worker_count is 257"));
  EXPECT_THAT(With(&ProxyOptions::queue_size_datagrams, 0).message(),
              HasSubstr("queue_size_datagrams is 0"));
  EXPECT_THAT(With(&ProxyOptions::batch_size, 1025).message(),
              HasSubstr("batch_size is 1025; allowed are 1 to 1024"));
  EXPECT_THAT(With(&ProxyOptions::receive_buffer_bytes, 4095).message(),
              HasSubstr("receive_buffer_bytes is 4095"));
  EXPECT_THAT(With(&ProxyOptions::disconnect_queue_size, 0).message(),
              HasSubstr("disconnect_queue_size is 0"));
  EXPECT_THAT(With(&ProxyOptions::event_queue_size, 0).message(),
              HasSubstr("event_queue_size is 0"));
  EXPECT_THAT(With(&ProxyOptions::session_events_max, 0).message(),
              HasSubstr("session_events_max is 0"));
  EXPECT_THAT(With(&ProxyOptions::listen_address, SocketAddress()).message(),
              HasSubstr("listen_address is not set"));
}

TEST(ProxyOptionsTest, ChecksTheLimits) {
  EXPECT_TRUE(
      WithLimit(&ProxyLimits::session_idle_timeout, absl::Milliseconds(10))
          .ok());
  EXPECT_EQ(WithLimit(&ProxyLimits::session_idle_timeout, absl::Milliseconds(9))
                .message(),
            "limits.session_idle_timeout is 9ms; allowed are 10ms to 24h");
  EXPECT_THAT(
      WithLimit(&ProxyLimits::session_idle_timeout, absl::InfiniteDuration())
          .message(),
      HasSubstr("limits.session_idle_timeout is inf"));
  EXPECT_THAT(WithLimit(&ProxyLimits::max_sessions, -1).message(),
              HasSubstr("limits.max_sessions is -1"));
  EXPECT_THAT(WithLimit(&ProxyLimits::backend_refusals_max, 0).message(),
              HasSubstr("limits.backend_refusals_max is 0"));
  EXPECT_THAT(
      WithLimit(&ProxyLimits::resolve_timeout, absl::ZeroDuration()).message(),
      HasSubstr("limits.resolve_timeout is 0"));
  EXPECT_THAT(WithLimit(&ProxyLimits::pending_datagrams_max, 1025).message(),
              HasSubstr("limits.pending_datagrams_max is 1025"));
}

}  // namespace
}  // namespace udpgate
