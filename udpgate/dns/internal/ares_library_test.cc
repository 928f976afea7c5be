#include "udpgate/dns/internal/ares_library.h"

#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace dns {
namespace internal {
namespace {

using ::testing::HasSubstr;

TEST(AresToStatusTest, ClassifiesTheResultAndNamesTheHost) {
  const auto code = [](int result) {
    const absl::Status status = AresToStatus(result, "lobby.test");
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("host \"lobby.test\": "));
    return status.code();
  };
  EXPECT_EQ(code(ARES_ENOTFOUND), absl::StatusCode::kNotFound);
  EXPECT_EQ(code(ARES_ENODATA), absl::StatusCode::kNotFound);
  EXPECT_EQ(code(ARES_ETIMEOUT), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(code(ARES_EDESTRUCTION), absl::StatusCode::kCancelled);
  EXPECT_EQ(code(ARES_ECANCELLED), absl::StatusCode::kCancelled);
  EXPECT_EQ(code(ARES_EREFUSED), absl::StatusCode::kUnavailable);
  EXPECT_EQ(code(ARES_EBADNAME), absl::StatusCode::kUnavailable);
}

TEST(CombineFamilyResultsTest, NoSuchNameHoldsForBothFamilies) {
  EXPECT_EQ(CombineFamilyResults(ARES_ENOTFOUND, ARES_ENODATA), ARES_ENOTFOUND);
  EXPECT_EQ(CombineFamilyResults(ARES_ENODATA, ARES_ENOTFOUND), ARES_ENOTFOUND);
  EXPECT_EQ(CombineFamilyResults(ARES_ETIMEOUT, ARES_ENOTFOUND),
            ARES_ENOTFOUND);
}

TEST(CombineFamilyResultsTest, AnErrorPrevailsOverNoAddress) {
  EXPECT_EQ(CombineFamilyResults(ARES_ENODATA, ARES_EREFUSED), ARES_EREFUSED);
  EXPECT_EQ(CombineFamilyResults(ARES_EREFUSED, ARES_ENODATA), ARES_EREFUSED);
  EXPECT_EQ(CombineFamilyResults(ARES_ENODATA, ARES_ENODATA), ARES_ENODATA);
}

TEST(TriesNextNameTest, AsResSearchDoes) {
  EXPECT_TRUE(TriesNextName(ARES_ENOTFOUND));
  EXPECT_TRUE(TriesNextName(ARES_ENODATA));
  EXPECT_TRUE(TriesNextName(ARES_ESERVFAIL));
  EXPECT_FALSE(TriesNextName(ARES_ETIMEOUT));
  EXPECT_FALSE(TriesNextName(ARES_EREFUSED));
}

}  // namespace
}  // namespace internal
}  // namespace dns
}  // namespace udpgate
