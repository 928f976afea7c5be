#include "udpgate/store/session_keeper_options.h"

#include <string>

#include "gtest/gtest.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace test {
namespace {

SessionKeeperOptions Good() {
  SessionKeeperOptions options;
  options.gateway_id = "gateway-1";
  return options;
}

template <typename T>
std::string FaultOf(T SessionKeeperOptions::*member, T value) {
  SessionKeeperOptions options = Good();
  options.*member = value;
  const absl::Status status = options.Validate();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return OptionAtFault(status);
}

TEST(SessionKeeperOptionsTest, TheDefaultsWithAnIdAreValid) {
  EXPECT_TRUE(Good().Validate().ok()) << Good().Validate();
  EXPECT_EQ(OptionAtFault(SessionKeeperOptions().Validate()),
            "SessionKeeperOptions::gateway_id");
}

TEST(SessionKeeperOptionsTest, WhatIsWrongIsNamed) {
  using Options = SessionKeeperOptions;
  const auto name = [](const char* field) {
    return std::string("SessionKeeperOptions::") + field;
  };
  EXPECT_EQ(FaultOf(&Options::gateway_id, std::string("a b")),
            name("gateway_id"));
  EXPECT_EQ(FaultOf(&Options::gateway_id, std::string(65, 'g')),
            name("gateway_id"));
  EXPECT_EQ(FaultOf(&Options::forward_address, std::string(129, 'f')),
            name("forward_address"));
  EXPECT_EQ(FaultOf(&Options::record_lifetime, absl::Seconds(9)),
            name("record_lifetime"));
  EXPECT_EQ(FaultOf(&Options::lease_interval, absl::Milliseconds(99)),
            name("lease_interval"));
  EXPECT_EQ(FaultOf(&Options::lease_lifetime, absl::Milliseconds(1999)),
            name("lease_lifetime"));
  EXPECT_EQ(FaultOf(&Options::sweep_interval, absl::ZeroDuration()),
            name("sweep_interval"));
  EXPECT_EQ(FaultOf(&Options::queue_max, 0), name("queue_max"));
  EXPECT_EQ(FaultOf(&Options::calls_per_second_max, 9),
            name("calls_per_second_max"));
  EXPECT_EQ(FaultOf(&Options::disconnects_max, 65'537),
            name("disconnects_max"));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
