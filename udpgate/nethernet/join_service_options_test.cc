#include "udpgate/nethernet/join_service_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/option_error.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {
namespace {

std::string FaultAfter(const std::function<void(JoinServiceOptions*)>& change) {
  JoinServiceOptions options;
  change(&options);
  return OptionAtFault(options.Validate());
}

TEST(JoinServiceOptionsTest, DefaultsAreValid) {
  EXPECT_TRUE(JoinServiceOptions().Validate().ok());
}

TEST(JoinServiceOptionsTest, ErrorsNameTheOption) {
  using Options = JoinServiceOptions;
  EXPECT_EQ(FaultAfter([](Options* o) { o->proxy_port = 0; }), "proxy_port");
  EXPECT_EQ(FaultAfter([](Options* o) {
              o->public_addresses = {SocketAddress::Ipv4Any(19132)};
            }),
            "public_addresses");
  EXPECT_EQ(FaultAfter([](Options* o) {
              o->public_addresses.assign(17, SocketAddress::Ipv4Loopback(1));
            }),
            "public_addresses.size()");
  EXPECT_EQ(
      FaultAfter([](Options* o) { o->answer_timeout = absl::Milliseconds(9); }),
      "answer_timeout");
  EXPECT_EQ(FaultAfter([](Options* o) { o->resolve_timeout = absl::Hours(2); }),
            "resolve_timeout");
  EXPECT_EQ(
      FaultAfter([](Options* o) { o->connect_timeout = absl::ZeroDuration(); }),
      "connect_timeout");
  EXPECT_EQ(FaultAfter([](Options* o) { o->status_age_max = absl::Hours(1); }),
            "status_age_max");
  EXPECT_EQ(FaultAfter([](Options* o) { o->status_waiters_max = 0; }),
            "status_waiters_max");
  EXPECT_EQ(FaultAfter([](Options* o) { o->status_backends_max = 0; }),
            "status_backends_max");
  EXPECT_EQ(FaultAfter([](Options* o) { o->status_bytes_max = 0; }),
            "status_bytes_max");
  EXPECT_EQ(FaultAfter([](Options* o) { o->answer_bytes_max = 0; }),
            "answer_bytes_max");
  EXPECT_EQ(FaultAfter([](Options* o) { o->joins_in_progress_max = 0; }),
            "joins_in_progress_max");
  EXPECT_EQ(FaultAfter([](Options* o) { o->joins_per_second_per_ip = -1; }),
            "joins_per_second_per_ip");
  EXPECT_EQ(FaultAfter([](Options* o) { o->rate_addresses_max = 0; }),
            "rate_addresses_max");
}

TEST(JoinServiceOptionsTest, AStatusIsAJsonObjectWithinItsLimit) {
  for (const char* text : {"x", "[]", "1", "{} {}", "{\"name\":}"}) {
    EXPECT_EQ(FaultAfter([&](JoinServiceOptions* options) {
                options->status_json = text;
              }),
              "status_json")
        << text;
  }
  JoinServiceOptions options;
  options.status_json = "{\"name\": \"maintenance\"}";
  EXPECT_TRUE(options.Validate().ok());
  options.status_bytes_max = options.status_json.size() - 1;
  EXPECT_EQ(OptionAtFault(options.Validate()), "status_json");
}

// The names are a contract with dashboards and alerts.
TEST(JoinServiceOptionsTest, EachResultHasANameAndAHelpText) {
  std::set<absl::string_view> names;
  for (size_t i = 0; i < kJoinResultCount; ++i) {
    names.insert(JoinResultName(static_cast<JoinResult>(i)));
    EXPECT_FALSE(JoinResultHelp(static_cast<JoinResult>(i)).empty());
  }
  EXPECT_THAT(names, ::testing::ElementsAre(
                         "backend_error", "backend_timeout",
                         "backend_unreachable", "bad_answer", "bad_offer",
                         "bad_request", "denied", "disconnected", "draining",
                         "joined", "no_backend", "rate_limited",
                         "resolve_failed", "sessions_full", "table_full"));
}

}  // namespace
}  // namespace nethernet
}  // namespace udpgate
