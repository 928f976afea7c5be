#include "udpgate/dns/internal/result_cache.h"

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace dns {
namespace internal {
namespace {

constexpr absl::Duration kSuccess = absl::Nanoseconds(50);
constexpr absl::Duration kFailure = absl::Nanoseconds(10);

absl::StatusOr<Addresses> Found() {
  return Addresses{*SocketAddress::FromIpAndPort("10.0.0.5", 0)};
}

TEST(ResultCacheTest, KeepsAResultAndAFailureForTheirTimes) {
  ResultCache cache(kSuccess, kFailure, 8);
  cache.Insert("found.test", Found(), 100);
  cache.Insert("missing.test", absl::NotFoundError("no such name"), 100);
  ASSERT_NE(cache.Find("found.test", 149), nullptr);
  EXPECT_EQ(**cache.Find("found.test", 149), *Found());
  EXPECT_EQ(cache.Find("found.test", 150), nullptr);
  ASSERT_NE(cache.Find("missing.test", 109), nullptr);
  EXPECT_TRUE(absl::IsNotFound(cache.Find("missing.test", 109)->status()));
  EXPECT_EQ(cache.Find("missing.test", 110), nullptr);
}

TEST(ResultCacheTest, KeepsNothingIfTheTimeIsZero) {
  ResultCache cache(absl::ZeroDuration(), kFailure, 8);
  cache.Insert("found.test", Found(), 100);
  EXPECT_EQ(cache.size(), 0u);
  cache.Insert("missing.test", absl::NotFoundError("no such name"), 100);
  EXPECT_EQ(cache.size(), 1u);
}

TEST(ResultCacheTest, ReplacesAnOldResultOfTheSameName) {
  ResultCache cache(kSuccess, kFailure, 1);
  cache.Insert("lobby.test", absl::NotFoundError("no such name"), 100);
  cache.Insert("lobby.test", Found(), 105);
  EXPECT_TRUE(cache.Find("lobby.test", 130)->ok());
}

TEST(ResultCacheTest, EvictsExpiredResultsFirst) {
  ResultCache cache(kSuccess, kFailure, 3);
  cache.Insert("old1.test", Found(), 100);
  cache.Insert("fresh.test", Found(), 140);
  cache.Insert("old2.test", Found(), 100);
  cache.Insert("new.test", Found(), 160);
  EXPECT_EQ(cache.size(), 2u);
  EXPECT_NE(cache.Find("fresh.test", 160), nullptr);
  EXPECT_NE(cache.Find("new.test", 160), nullptr);
}

TEST(ResultCacheTest, NeverHoldsMoreThanItsLimit) {
  ResultCache cache(kSuccess, kFailure, 4);
  for (int i = 0; i < 20; ++i) {
    const std::string host = absl::StrCat("lobby", i, ".test");
    cache.Insert(host, Found(), 100);
    EXPECT_NE(cache.Find(host, 100), nullptr);
    EXPECT_LE(cache.size(), 4u);
  }
  EXPECT_EQ(cache.size(), 4u);
}

TEST(ResultCacheTest, ClearForgetsEverything) {
  ResultCache cache(kSuccess, kFailure, 4);
  cache.Insert("lobby.test", Found(), 100);
  cache.Clear();
  EXPECT_EQ(cache.Find("lobby.test", 100), nullptr);
}

}  // namespace
}  // namespace internal
}  // namespace dns
}  // namespace udpgate
