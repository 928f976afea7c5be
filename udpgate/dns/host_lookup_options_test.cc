#include "udpgate/dns/host_lookup_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "udpgate/dns/host_lookup.h"

namespace udpgate {
namespace {

using ::testing::HasSubstr;

TEST(HostLookupOptionsTest, NamesWhatIsOutOfRange) {
  const auto error = [](auto change) {
    HostLookupOptions options;
    change(&options);
    const auto lookup = HostLookup::Create(options);
    EXPECT_EQ(lookup.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(lookup.status().message());
  };
  using O = HostLookupOptions;
  EXPECT_THAT(error([](O* o) { o->success_cache_time = -absl::Seconds(1); }),
              HasSubstr("success_cache_time"));
  EXPECT_THAT(
      error([](O* o) { o->failure_cache_time = absl::InfiniteDuration(); }),
      HasSubstr("failure_cache_time"));
  EXPECT_THAT(error([](O* o) { o->cache_entries_max = 0; }),
              HasSubstr("cache_entries_max"));
  EXPECT_THAT(error([](O* o) { o->lookups_waiting_max = 0; }),
              HasSubstr("lookups_waiting_max"));
  EXPECT_THAT(error([](O* o) { o->attempt_timeout = absl::ZeroDuration(); }),
              HasSubstr("attempt_timeout"));
  EXPECT_THAT(error([](O* o) { o->attempts_max = 11; }),
              HasSubstr("attempts_max"));
  EXPECT_THAT(error([](O* o) { o->dns_servers = "not a server"; }),
              HasSubstr("dns_servers"));
  EXPECT_TRUE(HostLookupOptions().Validate().ok());
}

}  // namespace
}  // namespace udpgate
