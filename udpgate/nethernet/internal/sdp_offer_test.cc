#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "udpgate/nethernet/internal/sample_sdp.h"
#include "udpgate/nethernet/internal/sdp.h"

namespace udpgate {
namespace nethernet {
namespace internal {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// The lines that do not begin with what names a candidate.
std::string WithoutCandidates(absl::string_view sdp) {
  std::string expected;
  for (const absl::string_view line : absl::StrSplit(sdp, "\r\n")) {
    if (!line.empty() && !absl::StartsWith(line, "a=candidate:") &&
        line != "a=end-of-candidates") {
      absl::StrAppend(&expected, line, "\r\n");
    }
  }
  return expected;
}

std::string Strip(absl::string_view offer) {
  const absl::StatusOr<std::string> stripped = StripCandidates(offer);
  return stripped.ok() ? *stripped : stripped.status().ToString();
}

std::string ErrorOf(absl::string_view offer) {
  const absl::StatusOr<std::string> stripped = StripCandidates(offer);
  EXPECT_EQ(stripped.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(stripped.status().message());
}

class SampleOfferTest : public ::testing::TestWithParam<const char*> {};

TEST_P(SampleOfferTest, LosesItsCandidatesAndNothingElse) {
  const std::string offer = GetParam();
  ASSERT_THAT(offer, HasSubstr("a=candidate:"));
  EXPECT_EQ(Strip(offer), WithoutCandidates(offer));
  EXPECT_EQ(Strip(WithoutCandidates(offer)), WithoutCandidates(offer));
}

TEST_P(SampleOfferTest, KeepsItsLineFeeds) {
  const std::string offer = absl::StrReplaceAll(GetParam(), {{"\r\n", "\n"}});
  EXPECT_EQ(Strip(offer), absl::StrReplaceAll(WithoutCandidates(GetParam()),
                                              {{"\r\n", "\n"}}));
}

TEST_P(SampleOfferTest, NeedsNoLineEndAtTheEnd) {
  std::string offer = GetParam();
  offer.resize(offer.size() - 2);
  const std::string stripped = Strip(offer);
  EXPECT_THAT(stripped, Not(HasSubstr("candidate")));
  EXPECT_TRUE(absl::StartsWith(WithoutCandidates(GetParam()), stripped));
}

INSTANTIATE_TEST_SUITE_P(Stacks, SampleOfferTest,
                         ::testing::Values(kLibDataChannelOffer,
                                           kLibWebRtcOffer, kWeriftOffer));

TEST(SdpOfferTest, LosesCandidatesHoweverTheyAreWritten) {
  for (const char* line :
       {"a=candidate:1 1 UDP 1 192.0.2.1 5 typ host",
        "a=candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active",
        "a=candidate:1 1 UDP 1 8a4e.local 5 typ host",
        "a=candidate:1 2 UDP 1 fd00::1 5 typ host", "a=candidate:",
        "a=candidate", "A=CANDIDATE:1 1 UDP 1 192.0.2.1 5 typ host",
        " a=candidate:1 1 UDP 1 192.0.2.1 5 typ host",
        "a = candidate:1 1 UDP 1 192.0.2.1 5 typ host",
        "a=candidate 1 1 UDP 1 192.0.2.1 5 typ host", "a=end-of-candidates",
        "a=End-Of-Candidates "}) {
    EXPECT_EQ(
        Strip(absl::StrCat("v=0\r\n", line, "\r\nm=x 9 y z\r\n", line, "\r\n")),
        "v=0\r\nm=x 9 y z\r\n")
        << line;
  }
}

TEST(SdpOfferTest, KeepsLinesThatOnlyResembleCandidates) {
  const std::string offer =
      "v=0\n"
      "s=a=candidate:1\n"
      "a=candidates:1\n"
      "a=remote-candidates:1 192.0.2.1 5\n"
      "a=identity:candidate:\n"
      "\n"
      "b=candidate:1\n";
  EXPECT_EQ(Strip(offer), offer);
}

TEST(SdpOfferTest, IsRefusedIfItIsNoSdp) {
  for (const char* text :
       {"", "v", "v=0x\r\n", "v=1\r\n", "\r\nv=0\r\n", " v=0\r\n",
        "{\"sdp\": \"v=0\"}", "GET / HTTP/1.1"}) {
    EXPECT_EQ(ErrorOf(text),
              "the offer is not an SDP: it does not begin with v=0")
        << text;
  }
  EXPECT_EQ(Strip("v=0"), "v=0");
}

TEST(SdpOfferTest, IsRefusedWithACarriageReturnAlone) {
  EXPECT_EQ(ErrorOf("v=0\r\ns=-\ra=candidate:1 1 UDP 1 192.0.2.1 5 typ host"),
            "the offer has a carriage return without line feed in line 2");
  EXPECT_THAT(ErrorOf("v=0\r\ns=-\r\r\n"), HasSubstr("line 2"));
  EXPECT_THAT(ErrorOf("v=0\r\ns=-\r\nt=0 0\r"), HasSubstr("line 3"));
  EXPECT_THAT(ErrorOf(absl::StrReplaceAll(kWeriftOffer, {{"\r\n", "\r"}})),
              HasSubstr("not an SDP"));
}

TEST(SdpOfferTest, IsRefusedWithAZeroByte) {
  EXPECT_EQ(ErrorOf(absl::string_view("v=0\ns=\0\n", 8)),
            "the offer has a zero byte in line 2");
}

TEST(SdpOfferTest, IsRefusedWithTooManyCandidates) {
  const auto offer = [](int count) {
    std::string text = "v=0\n";
    for (int i = 0; i < count; ++i) absl::StrAppend(&text, "a=candidate:\n");
    return text;
  };
  EXPECT_EQ(Strip(offer(1000)), "v=0\n");
  EXPECT_EQ(ErrorOf(offer(1001)),
            "the offer has 1001 candidates; at most 1000 are allowed");
  EXPECT_THAT(ErrorOf(offer(10000)), HasSubstr("10000 candidates"));
}

TEST(SdpOfferTest, IsRefusedIfItIsTooLong) {
  std::string offer = "v=0\n";
  offer.resize(kSdpBytesMax, 'a');
  EXPECT_TRUE(StripCandidates(offer).ok());
  offer += 'a';
  EXPECT_THAT(ErrorOf(offer), HasSubstr("longer than 262144 bytes"));
}

}  // namespace
}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
