#include "udpgate/redis/internal/hash_slot.h"

#include <gtest/gtest.h>

namespace udpgate {
namespace redis {
namespace internal {
namespace {

// https://redis.io/docs/reference/cluster-spec/#appendix-a-crc16-reference-implementation-in-ansi-c
TEST(HashSlotTest, IsCrc16Xmodem) {
  EXPECT_EQ(Crc16("123456789"), 0x31c3);
  EXPECT_EQ(Crc16(""), 0);
}

// By `CLUSTER KEYSLOT` of Redis 7.0; redis_cluster_server_test compares more.
TEST(HashSlotTest, IsTheOneOfRedis) {
  EXPECT_EQ(HashSlotOf("foo"), 12182);
  EXPECT_EQ(HashSlotOf("bar"), 5061);
  EXPECT_EQ(HashSlotOf("123456789"), 12739);
  EXPECT_EQ(HashSlotOf(""), 0);
}

TEST(HashSlotTest, AHashTagDecidesAlone) {
  EXPECT_EQ(HashSlotOf("{foo}.a"), HashSlotOf("foo"));
  EXPECT_EQ(HashSlotOf("a{foo}"), HashSlotOf("foo"));
  EXPECT_EQ(HashSlotOf("a{foo}{bar}"), HashSlotOf("foo"));
  EXPECT_EQ(HashSlotOf("a{{foo}}"), HashSlotOf("{foo"));
  // No tag.
  EXPECT_EQ(HashSlotOf("a{}{foo}"), Crc16("a{}{foo}") % kHashSlots);
  EXPECT_EQ(HashSlotOf("a{foo"), Crc16("a{foo") % kHashSlots);
  EXPECT_EQ(HashSlotOf("a}foo{"), Crc16("a}foo{") % kHashSlots);
}

}  // namespace
}  // namespace internal
}  // namespace redis
}  // namespace udpgate
