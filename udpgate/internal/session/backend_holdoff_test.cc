#include "udpgate/internal/session/backend_holdoff.h"

#include "gtest/gtest.h"

namespace udpgate {
namespace internal {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

SocketAddress Address(uint16_t port) {
  return SocketAddress::Ipv4Loopback(port);
}

TEST(BackendHoldoffTest, TheNextAddressIsChosenForAWhile) {
  BackendHoldoff holdoff(absl::Seconds(10), 4);
  const ResolveResult result{Address(1), "name", {Address(2), Address(3)}};
  EXPECT_EQ(holdoff.Choose(result, 0), Address(1));
  holdoff.Note(Address(1), 0);
  EXPECT_EQ(holdoff.Choose(result, 10 * kSecond - 1), Address(2));
  holdoff.Note(Address(2), kSecond);
  EXPECT_EQ(holdoff.Choose(result, kSecond), Address(3));
  EXPECT_EQ(holdoff.count(kSecond), 2);
  EXPECT_EQ(holdoff.Choose(result, 10 * kSecond), Address(1));
  EXPECT_EQ(holdoff.count(10 * kSecond), 1);
}

TEST(BackendHoldoffTest, TheFirstIsChosenWhereAllAreHeldOff) {
  BackendHoldoff holdoff(absl::Seconds(10), 4);
  const ResolveResult result{Address(1), "name", {Address(2)}};
  holdoff.Note(Address(2), 0);
  holdoff.Note(Address(1), 0);
  EXPECT_EQ(holdoff.Choose(result, 1), Address(1));
  const ResolveResult single{Address(2), "other"};
  EXPECT_EQ(holdoff.Choose(single, 1), Address(2));
}

TEST(BackendHoldoffTest, AnAnswerEndsIt) {
  BackendHoldoff holdoff(absl::Seconds(10), 4);
  const ResolveResult result{Address(1), "name", {Address(2)}};
  holdoff.Note(Address(1), 0);
  holdoff.Clear(Address(2));
  EXPECT_EQ(holdoff.Choose(result, 1), Address(2));
  holdoff.Clear(Address(1));
  EXPECT_EQ(holdoff.Choose(result, 1), Address(1));
}

TEST(BackendHoldoffTest, ItsRoomIsLimited) {
  BackendHoldoff holdoff(absl::Seconds(10), 2);
  for (uint16_t port = 1; port <= 5; ++port) holdoff.Note(Address(port), 0);
  EXPECT_EQ(holdoff.count(0), 2);
  EXPECT_EQ(holdoff.overflows(), 3u);
  holdoff.Note(Address(1), kSecond);  // has its place
  EXPECT_EQ(holdoff.overflows(), 3u);
  // What is over makes room.
  holdoff.Note(Address(9), 10 * kSecond);
  EXPECT_EQ(holdoff.overflows(), 3u);
  EXPECT_EQ(holdoff.count(10 * kSecond), 2);
}

TEST(BackendHoldoffTest, NoTimeMeansNever) {
  BackendHoldoff holdoff(absl::ZeroDuration(), 2);
  holdoff.Note(Address(1), 0);
  EXPECT_EQ(holdoff.count(0), 0);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
