#include "udpgate/redis/redis_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace udpgate {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string ErrorOf(void (*change)(RedisOptions* options)) {
  RedisOptions options;
  change(&options);
  const absl::Status status = options.Validate();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST(RedisOptionsTest, AcceptsTheDefaultsAndTheLimits) {
  RedisOptions options;
  EXPECT_TRUE(options.Validate().ok());
  for (const char* address : {"[::1]:1", "redis.internal:65535", "unix:/a"}) {
    options.address = address;
    EXPECT_TRUE(options.Validate().ok()) << address;
  }
  options.address = "unix:" + std::string(107, 'a');
  EXPECT_TRUE(options.Validate().ok());
}

TEST(RedisOptionsTest, NamesWhatIsOutOfRange) {
  using O = RedisOptions;
  for (const char* address :
       {"", "redis", "redis:0", "unix:", "redis://a:1", "/tmp/redis.sock"}) {
    O options;
    options.address = address;
    EXPECT_THAT(std::string(options.Validate().message()),
                HasSubstr("RedisOptions::address"))
        << address;
  }
  EXPECT_THAT(
      ErrorOf([](O* o) { o->address = "unix:" + std::string(108, 'a'); }),
      HasSubstr("107 bytes"));
  EXPECT_THAT(ErrorOf([](O* o) { o->address = std::string("unix:\0a", 7); }),
              HasSubstr("address"));
  EXPECT_THAT(ErrorOf([](O* o) { o->username.resize(4097); }),
              HasSubstr("username"));
  EXPECT_THAT(ErrorOf([](O* o) { o->database = -1; }), HasSubstr("database"));
  EXPECT_THAT(ErrorOf([](O* o) { o->backend_key = ""; }),
              HasSubstr("backend_key"));
  EXPECT_THAT(ErrorOf([](O* o) { o->disconnect_channel.resize(1025); }),
              HasSubstr("disconnect_channel"));
  EXPECT_THAT(ErrorOf([](O* o) { o->command_timeout = absl::ZeroDuration(); }),
              HasSubstr("command_timeout"));
  EXPECT_THAT(
      ErrorOf([](O* o) { o->reconnect_backoff_min = -absl::Seconds(1); }),
      HasSubstr("reconnect_backoff_min"));
  EXPECT_THAT(
      ErrorOf([](O* o) { o->reconnect_backoff_max = absl::Milliseconds(1); }),
      HasSubstr("reconnect_backoff_max"));
  EXPECT_THAT(ErrorOf([](O* o) { o->reconnect_patience = -absl::Seconds(1); }),
              HasSubstr("reconnect_patience"));
  EXPECT_THAT(
      ErrorOf([](O* o) { o->ping_interval = absl::InfiniteDuration(); }),
      HasSubstr("ping_interval"));
  EXPECT_THAT(ErrorOf([](O* o) { o->gets_in_flight_max = 0; }),
              HasSubstr("gets_in_flight_max"));
  EXPECT_THAT(ErrorOf([](O* o) { o->requests_waiting_max = 0; }),
              HasSubstr("requests_waiting_max"));
  EXPECT_THAT(ErrorOf([](O* o) { o->gets_per_second_max = 0; }),
              HasSubstr("gets_per_second_max"));
  EXPECT_THAT(ErrorOf([](O* o) { o->failure_pause = absl::Seconds(11); }),
              HasSubstr("failure_pause"));
  EXPECT_THAT(
      ErrorOf([](O* o) { o->stale_backend_age_max = -absl::Seconds(1); }),
      HasSubstr("stale_backend_age_max"));
  EXPECT_THAT(ErrorOf([](O* o) { o->stale_backend_age_max = absl::Hours(25); }),
              HasSubstr("stale_backend_age_max"));
  EXPECT_THAT(ErrorOf([](O* o) { o->disconnect_payload_bytes_max = 40000; }),
              HasSubstr("disconnect_payload_bytes_max"));
}

TEST(RedisOptionsTest, DoesNotShowThePassword) {
  EXPECT_THAT(ErrorOf([](RedisOptions* options) {
                for (int i = 0; i < 1000; ++i) options->password += "secret";
              }),
              Not(HasSubstr("secret")));
}

}  // namespace
}  // namespace udpgate
