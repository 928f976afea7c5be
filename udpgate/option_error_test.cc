#include "udpgate/option_error.h"

#include "gtest/gtest.h"

namespace udpgate {
namespace {

constexpr IntegerRange kCount{"count", 1, 64};
constexpr DurationRange kPause{"pause", absl::Milliseconds(10), absl::Hours(1)};
constexpr DurationRange kSilence{"silence", absl::Milliseconds(10),
                                 absl::Hours(1), /*zero_is_never=*/true};

TEST(OptionErrorTest, CarriesTheNameOfTheOptionAsData) {
  const absl::Status status =
      OptionError(absl::StatusCode::kNotFound, "interfaces", ": no eth7");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "interfaces: no eth7");
  EXPECT_EQ(OptionAtFault(status), "interfaces");
  EXPECT_EQ(OptionProblem(status), ": no eth7");
}

TEST(OptionErrorTest, OtherErrorsAreAboutNoOption) {
  const absl::Status status = absl::NotFoundError("interfaces: no eth7");
  EXPECT_EQ(OptionAtFault(status), "");
  EXPECT_EQ(OptionProblem(status), "interfaces: no eth7");
}

TEST(IntegerRangeTest, AllowsBothEnds) {
  EXPECT_TRUE(kCount.Check(1).ok());
  EXPECT_TRUE(kCount.Check(64).ok());
  EXPECT_EQ(kCount.Check(0).message(), "count is 0; allowed are 1 to 64");
  EXPECT_EQ(kCount.Check(65).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(OptionAtFault(kCount.Check(65)), "count");
}

TEST(DurationRangeTest, AllowsBothEndsAndZeroIfItMeansNever) {
  EXPECT_TRUE(kPause.Check(absl::Milliseconds(10)).ok());
  EXPECT_TRUE(kPause.Check(absl::Hours(1)).ok());
  EXPECT_EQ(kPause.Check(absl::ZeroDuration()).message(),
            "pause is 0; allowed are 10ms to 1h");
  EXPECT_TRUE(kSilence.Check(absl::ZeroDuration()).ok());
  EXPECT_EQ(kSilence.Check(absl::Milliseconds(9)).message(),
            "silence is 9ms; allowed are 0 and 10ms to 1h");
  EXPECT_EQ(OptionAtFault(kSilence.Check(absl::InfiniteDuration())), "silence");
}

}  // namespace
}  // namespace udpgate
