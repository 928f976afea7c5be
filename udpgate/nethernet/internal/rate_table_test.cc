#include "udpgate/nethernet/internal/rate_table.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {
namespace internal {
namespace {

using Verdict = RateTable::Verdict;

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kNow = 3600 * kSecond;

SocketAddress Client(const char* text) { return *SocketAddress::Parse(text); }

TEST(RateTableTest, TheBurstIsOneSecondsWorth) {
  RateTable table;
  const SocketAddress client = Client("192.0.2.1:1");
  EXPECT_EQ(table.Take(client, 2, 10, kNow), Verdict::kFits);
  EXPECT_EQ(table.Take(client, 2, 10, kNow), Verdict::kFits);
  EXPECT_EQ(table.Take(client, 2, 10, kNow), Verdict::kTooMany);
  EXPECT_EQ(table.Take(client, 2, 10, kNow + kSecond / 2), Verdict::kFits);
  EXPECT_EQ(table.Take(client, 2, 10, kNow + kSecond / 2), Verdict::kTooMany);
  EXPECT_EQ(table.Take(client, 0, 10, kNow), Verdict::kFits);  // no limit
}

TEST(RateTableTest, CountsByIpv4AddressAndIpv6Network) {
  RateTable table;
  const auto take = [&table](const char* client) {
    return table.Take(Client(client), 1, 10, kNow);
  };
  EXPECT_EQ(take("192.0.2.1:1"), Verdict::kFits);
  EXPECT_EQ(take("192.0.2.1:2"), Verdict::kTooMany);
  EXPECT_EQ(take("192.0.2.2:1"), Verdict::kFits);
  EXPECT_EQ(take("[2001:db8::1]:1"), Verdict::kFits);
  EXPECT_EQ(take("[2001:db8::ffff]:1"), Verdict::kTooMany);
  EXPECT_EQ(take("[2001:db8:0:1::1]:1"), Verdict::kFits);
}

TEST(RateTableTest, AFullTableRefusesStrangersUntilOthersAreForgotten) {
  RateTable table;
  const SocketAddress first = Client("192.0.2.1:1");
  const SocketAddress second = Client("192.0.2.2:1");
  EXPECT_EQ(table.Take(first, 2, 1, kNow), Verdict::kFits);
  EXPECT_EQ(table.Take(second, 2, 1, kNow), Verdict::kTableFull);
  EXPECT_EQ(table.Take(first, 2, 1, kNow), Verdict::kFits);
  EXPECT_EQ(table.Take(second, 2, 1, kNow + kSecond), Verdict::kFits);
}

}  // namespace
}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
