#include "udpgate/redis/internal/entry_fields.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int64_t kSecond = 1'000'000'000;

// Redis Cluster hashes what is between the first "{" and the next "}" after it,
// if that is not empty: `{KEY}:ID` is in the slot of KEY.
TEST(KeyInSlotOfTest, TheKeyItselfIsTheTag) {
  EXPECT_EQ(KeyInSlotOf("udp_gate:gateways", "gateway-1"),
            "{udp_gate:gateways}:gateway-1");
  EXPECT_EQ(KeyInSlotOf("a{b", "1"), "{a{b}:1");
}

TEST(KeyInSlotOfTest, AHashTagOfTheKeyStays) {
  EXPECT_EQ(KeyInSlotOf("udp_gate:{fleet}", "1"), "udp_gate:{fleet}:1");
  EXPECT_EQ(KeyInSlotOf("a}b{c}", "1"), "a}b{c}:1");
  EXPECT_EQ(KeyInSlotOf("{a}{b}", "1"), "{a}{b}:1");
}

TEST(KeyInSlotOfTest, AnEmptyTagIsNone) {
  EXPECT_EQ(KeyInSlotOf("{}a", "1"), absl::nullopt);
  EXPECT_EQ(KeyInSlotOf("a}", "1"), absl::nullopt);
  EXPECT_EQ(KeyInSlotOf("}{", "1"), absl::nullopt);
}

TEST(BackendFieldsTest, BackendsBeyondTheLimitAreOne) {
  std::vector<BackendSessionCount> backends;
  for (uint16_t i = 1; i <= 4; ++i) {
    backends.push_back({SocketAddress::Ipv4Loopback(i), 10 - i});
  }
  std::vector<std::string> fields;
  AddBackendFields(backends, 2, &fields);
  EXPECT_THAT(fields,
              ElementsAre("backend:127.0.0.1:1", "9", "backend:127.0.0.1:2",
                          "8", "backend:other", "13"));
  fields.clear();
  AddBackendFields(backends, 0, &fields);
  EXPECT_THAT(fields, ElementsAre("backend:other", "30"));
  fields.clear();
  AddBackendFields({}, 2, &fields);
  EXPECT_THAT(fields, IsEmpty());
}

TEST(SessionRateTest, IsKnownAfterTwoSamples) {
  SessionRate rate;
  EXPECT_EQ(rate.ToString(), "0.00");
  rate.Note(kSecond, 1000, 5 * kSecond);
  EXPECT_FALSE(rate.is_known());
  rate.Note(6 * kSecond, 1012, 5 * kSecond);
  EXPECT_TRUE(rate.is_known());
  EXPECT_EQ(rate.ToString(), "2.40");
}

TEST(SessionRateTest, AMomentGivesNoNewRate) {
  SessionRate rate;
  rate.Note(0, 0, 5 * kSecond);
  rate.Note(5 * kSecond, 1, 5 * kSecond);
  EXPECT_EQ(rate.ToString(), "0.20");
  rate.Note(6 * kSecond, 100, 5 * kSecond);
  EXPECT_EQ(rate.ToString(), "0.20");
  // Since the last sample that counted.
  rate.Note(10 * kSecond, 501, 5 * kSecond);
  EXPECT_EQ(rate.ToString(), "100.00");
}

TEST(SessionRateTest, ACounterThatGoesBackGivesNoNewRate) {
  SessionRate rate;
  rate.Note(0, 10, kSecond);
  rate.Note(kSecond, 9, kSecond);
  EXPECT_FALSE(rate.is_known());
  rate.Note(2 * kSecond, 1'000'009, kSecond);
  EXPECT_EQ(rate.ToString(), "1000000.00");
}

}  // namespace
}  // namespace internal
}  // namespace redis
}  // namespace udpgate
