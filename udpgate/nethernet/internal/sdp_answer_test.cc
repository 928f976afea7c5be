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
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {
namespace internal {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kPassword[] = "PasswordOfTwentyTwoChr";

SocketAddress Address(absl::string_view text) {
  return SocketAddress::Parse(text).value();
}

// An answer with these lines in its media section.
std::string AnswerWith(absl::string_view lines) {
  return absl::StrCat("v=0\r\ns=-\r\n", "m=application 9 UDP/DTLS/SCTP x\r\n",
                      "a=ice-ufrag:abcd\r\n", "a=ice-pwd:", kPassword, "\r\n",
                      lines);
}

std::vector<std::string> CandidatesOf(absl::string_view sdp) {
  const absl::StatusOr<Answer> answer = ParseAnswer(sdp);
  if (!answer.ok()) return {std::string(answer.status().message())};
  std::vector<std::string> texts;
  for (const SocketAddress& candidate : answer->candidates) {
    texts.push_back(candidate.ToString());
  }
  return texts;
}

std::string ErrorOf(absl::string_view sdp) {
  const absl::StatusOr<Answer> answer = ParseAnswer(sdp);
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(answer.status().message());
}

constexpr char kCandidate[] =
    "a=candidate:1 1 UDP 5 192.0.2.2 5000 typ host\r\n";

TEST(SdpAnswerTest, IsReadAsLibDataChannelWritesIt) {
  const absl::StatusOr<Answer> answer = ParseAnswer(kLibDataChannelAnswer);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->ufrag, "gKiI");
  EXPECT_EQ(answer->password, kPassword);
  EXPECT_THAT(CandidatesOf(kLibDataChannelAnswer),
              ElementsAre("[fd00::2]:42305", "192.0.2.2:42305"));
}

TEST(SdpAnswerTest, IsReadAsLibWebRtcWritesIt) {
  const absl::StatusOr<Answer> answer = ParseAnswer(kLibWebRtcAnswer);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->ufrag, "bV/L");
  EXPECT_EQ(answer->password, "PasswordOf24Characters+/");
  EXPECT_THAT(CandidatesOf(kLibWebRtcAnswer),
              ElementsAre("[fd00::2]:60621", "192.0.2.2:57908", "[::1]:48482",
                          "127.0.0.1:44638"));
}

TEST(SdpAnswerTest, IsReadAsWeriftWritesIt) {
  const absl::StatusOr<Answer> answer = ParseAnswer(kWeriftAnswer);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->ufrag, "da21");
  EXPECT_EQ(answer->password, "0123456789abcdef012345");
  EXPECT_EQ(answer->candidates.size(), 2u);
}

TEST(SdpAnswerTest, IsReadWithLineFeedsAloneAndWithoutTheLastOne) {
  std::string answer =
      absl::StrReplaceAll(kLibDataChannelAnswer, {{"\r\n", "\n"}});
  EXPECT_THAT(CandidatesOf(answer),
              ElementsAre("[fd00::2]:42305", "192.0.2.2:42305"));
  answer = AnswerWith(kCandidate);
  answer.resize(answer.size() - 2);
  EXPECT_THAT(CandidatesOf(answer), ElementsAre("192.0.2.2:5000"));
}

TEST(SdpAnswerTest, OrdersCandidatesByPriority) {
  EXPECT_THAT(
      CandidatesOf(AnswerWith("a=candidate:1 1 UDP 5 10.0.0.1 1001 typ host\n"
                              "a=candidate:2 1 udp 7 10.0.0.2 1002 typ host\n"
                              "a=candidate:3 1 Udp 7 10.0.0.3 1003 typ srflx "
                              "raddr 0.0.0.0 rport 0\n")),
      ElementsAre("10.0.0.2:1002", "10.0.0.3:1003", "10.0.0.1:1001"));
}

TEST(SdpAnswerTest, IgnoresCandidatesThatTheGatewayCannotUse) {
  for (const char* line :
       {"a=candidate:1 1 tcp 5 192.0.2.2 5000 typ host tcptype passive",
        "a=candidate:1 2 UDP 5 192.0.2.2 5000 typ host",
        "a=candidate:1 1 UDP 5 6a1d.local 5000 typ host",
        "a=candidate:1 1 UDP 5 192.0.2.2 5000 typ relay",
        "a=candidate:1 1 UDP 5 192.0.2.2 0 typ host",
        "a=candidate:1 1 UDP 5 192.0.2.2 9 typ host",
        "a=candidate:1 1 UDP 5 192.0.2.2 65536 typ host",
        "a=candidate:1 1 UDP 5 192.0.2.2 -1 typ host",
        "a=candidate:1 1 UDP 4294967296 192.0.2.2 5000 typ host",
        "a=candidate:1 1 UDP 5 192.0.2.2 5000", "a=candidate:", ""}) {
    const std::string bad = absl::StrCat(line, "\r\n");
    EXPECT_EQ(ErrorOf(AnswerWith(bad)),
              "the answer has no UDP candidate with an IP address")
        << line;
    EXPECT_THAT(CandidatesOf(AnswerWith(absl::StrCat(bad, kCandidate))),
                ElementsAre("192.0.2.2:5000"))
        << line;
  }
}

TEST(SdpAnswerTest, IsRefusedWithTooManyCandidatesOrACarriageReturnAlone) {
  std::string candidates;
  for (int i = 0; i < 10000; ++i)
    absl::StrAppend(&candidates, "a=candidate:\n");
  EXPECT_EQ(ErrorOf(AnswerWith(candidates)),
            "the answer has 10000 candidates; at most 1000 are allowed");
  EXPECT_THAT(ErrorOf(AnswerWith(absl::StrCat(kCandidate, "a=x\ry\r\n"))),
              HasSubstr("carriage return"));
  EXPECT_THAT(ErrorOf("<html>"), HasSubstr("not an SDP"));
}

TEST(SdpAnswerTest, TakesCredentialsOfTheSessionUnlessTheMediaHasItsOwn) {
  const std::string session =
      absl::StrCat("v=0\na=ice-ufrag:sess\na=ice-pwd:", kPassword, "\n");
  const std::string media = "m=application 5000 UDP/DTLS/SCTP x\n";
  absl::StatusOr<Answer> answer =
      ParseAnswer(absl::StrCat(session, media, kCandidate));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->ufrag, "sess");
  answer = ParseAnswer(absl::StrCat(session, media, kCandidate,
                                    "a=ice-ufrag:media\n"
                                    "a=ice-pwd:AnotherPasswordOf24Chars\n"));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->ufrag, "media");
  EXPECT_EQ(answer->password, "AnotherPasswordOf24Chars");
}

TEST(SdpAnswerTest, UsesTheFirstMediaSectionThatIsNotRejected) {
  const std::string answer = absl::StrCat(
      "v=0\n",
      "m=audio 0 UDP/TLS/RTP/SAVPF 0\na=ice-ufrag:rejected\n"
      "a=candidate:1 1 UDP 5 192.0.2.2 4000 typ host\n",
      "m=video 9 UDP/TLS/RTP/SAVPF 0\na=ice-ufrag:without\n",
      "m=application 9 UDP/DTLS/SCTP x\na=ice-ufrag:used\na=ice-pwd:",
      kPassword, "\n", kCandidate,
      "m=application 9 UDP/DTLS/SCTP x\na=ice-ufrag:later\n"
      "a=candidate:1 1 UDP 5 192.0.2.2 6000 typ host\n");
  EXPECT_THAT(CandidatesOf(answer), ElementsAre("192.0.2.2:5000"));
  EXPECT_EQ(ParseAnswer(answer)->ufrag, "used");
}

TEST(SdpAnswerTest, IsRefusedIfItsCredentialsAreMissingOrMalformed) {
  const auto answer = [](const std::string& ufrag, const std::string& pwd) {
    return absl::StrCat("v=0\nm=application 9 UDP/DTLS/SCTP x\n", kCandidate,
                        ufrag, "\n", pwd, "\n");
  };
  const std::string ufrag = "a=ice-ufrag:abcd";
  const std::string pwd = absl::StrCat("a=ice-pwd:", kPassword);
  EXPECT_THAT(CandidatesOf(answer(ufrag, pwd)), ElementsAre("192.0.2.2:5000"));
  for (const std::string& bad :
       {std::string("a=x"), std::string("a=ice-ufrag:abc"),
        std::string("a=ice-ufrag:ab:cd"), std::string("a=ice-ufrag:abcd "),
        "a=ice-ufrag:" + std::string(257, 'a')}) {
    EXPECT_EQ(ErrorOf(answer(bad, pwd)),
              "the answer's ice-ufrag is missing or malformed");
  }
  for (const std::string& bad :
       {std::string("a=x"), std::string("a=ice-pwd:TooShortToBeAllowed12"),
        std::string("a=ice-pwd:with spaces in the text !"),
        "a=ice-pwd:" + std::string(257, 'a')}) {
    const std::string error = ErrorOf(answer(ufrag, bad));
    EXPECT_EQ(error, "the answer's ice-pwd is missing or malformed");
  }
}

TEST(SdpAnswerTest, SendsMediaToTheBackendThatAnswered) {
  const Answer answer = *ParseAnswer(kLibWebRtcAnswer);
  // The candidate of the same address.
  EXPECT_EQ(ChooseMedia(answer, Address("192.0.2.2:19132")),
            Address("192.0.2.2:57908"));
  EXPECT_EQ(ChooseMedia(answer, Address("127.0.0.1:19132")),
            Address("127.0.0.1:44638"));
  EXPECT_EQ(ChooseMedia(answer, Address("[fd00::2]:19132")),
            Address("[fd00::2]:60621"));
  // Behind a network address translation: the best one of the family.
  EXPECT_EQ(ChooseMedia(answer, Address("203.0.113.7:19132")),
            Address("203.0.113.7:57908"));
  EXPECT_EQ(ChooseMedia(answer, Address("[2001:db8::1]:19132")),
            Address("[2001:db8::1]:60621"));
  // A single candidate of another host and family gives its port alone.
  EXPECT_EQ(ChooseMedia(*ParseAnswer(AnswerWith(kCandidate)),
                        Address("[2001:db8::1]:19132")),
            Address("[2001:db8::1]:5000"));
}

// What a client may see of the backend, and what it gets in its place.
TEST(SdpAnswerTest, GetsTheGatewaysAddressesAndKeepsAllElse) {
  const std::vector<SocketAddress> gateway = {Address("203.0.113.5:19132"),
                                              Address("[2001:db8::5]:19133")};
  const std::string candidates =
      "a=candidate:1 1 UDP 2130706431 203.0.113.5 19132 typ host\r\n"
      "a=candidate:2 1 UDP 2130706175 2001:db8::5 19133 typ host\r\n"
      "a=end-of-candidates\r\n";
  std::string expected = kLibDataChannelAnswer;
  const size_t begin = expected.find("a=candidate:");
  expected.replace(begin, std::string::npos, candidates);
  expected = absl::StrReplaceAll(
      expected, {{"m=application 42305 ", "m=application 19132 "},
                 {"c=IN IP4 192.0.2.2\r\n", "c=IN IP4 203.0.113.5\r\n"}});
  EXPECT_EQ(RewriteAnswer(kLibDataChannelAnswer, gateway), expected);
}

class SampleAnswerTest : public ::testing::TestWithParam<const char*> {};

TEST_P(SampleAnswerTest, NamesNoAddressOfTheBackendAfterwards) {
  const std::string rewritten =
      RewriteAnswer(GetParam(), {Address("[2001:db8::5]:19133")});
  for (const char* text :
       {"192.0.2.2", "fd00::2", "::1", "generation", " 9 UDP/DTLS"}) {
    EXPECT_THAT(rewritten, Not(HasSubstr(text)));
  }
  EXPECT_THAT(rewritten, HasSubstr("m=application 19133 UDP/DTLS/SCTP"));
  EXPECT_THAT(rewritten, HasSubstr("\r\nc=IN IP6 2001:db8::5\r\n"));
  const absl::StatusOr<Answer> before = ParseAnswer(GetParam());
  const absl::StatusOr<Answer> after = ParseAnswer(rewritten);
  ASSERT_TRUE(after.ok()) << after.status();
  EXPECT_EQ(after->ufrag, before->ufrag);
  EXPECT_EQ(after->password, before->password);
  EXPECT_THAT(after->candidates, ElementsAre(Address("[2001:db8::5]:19133")));
}

TEST_P(SampleAnswerTest, KeepsEachOtherLine) {
  const std::string rewritten =
      RewriteAnswer(GetParam(), {Address("203.0.113.5:19132")});
  const auto others = [](absl::string_view sdp) {
    std::vector<std::string> lines;
    for (const absl::string_view line : absl::StrSplit(sdp, "\r\n")) {
      if (!absl::StartsWith(line, "c=") && !absl::StartsWith(line, "m=") &&
          !absl::StartsWith(line, "a=candidate:")) {
        lines.emplace_back(line);
      }
    }
    return lines;
  };
  EXPECT_EQ(others(rewritten), others(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Stacks, SampleAnswerTest,
                         ::testing::Values(kLibDataChannelAnswer,
                                           kLibWebRtcAnswer, kWeriftAnswer));

TEST(SdpAnswerTest, IsRewrittenInEachMediaSectionThatHasCandidates) {
  const std::string answer =
      "v=0\n"
      "c=IN IP4 192.0.2.2\n"
      "m=audio 0 RTP 0\n"
      "m=application 5000/2 UDP x\n"
      "a=rtcp:5001 IN IP4 192.0.2.2\n"
      "a=rtcp-mux\n"
      "a=candidate:1 1 UDP 5 192.0.2.2 5000 typ host\n"
      "a=end-of-candidates\n"
      "a=mid:1\n"
      "a=candidate:1 2 UDP 5 192.0.2.2 5001 typ host\n"
      "m=application 5000 UDP x\n"
      "a=candidate:1 1 UDP 5 192.0.2.2 5000 typ host\n"
      "m=application 5000 UDP x\n"
      "a=end-of-candidates";
  EXPECT_EQ(RewriteAnswer(answer, {Address("203.0.113.5:19132")}),
            "v=0\n"
            "c=IN IP4 203.0.113.5\n"
            "m=audio 0 RTP 0\n"
            "m=application 19132/2 UDP x\n"
            "a=rtcp-mux\n"
            "a=candidate:1 1 UDP 2130706431 203.0.113.5 19132 typ host\n"
            "a=end-of-candidates\n"
            "a=mid:1\n"
            "m=application 19132 UDP x\n"
            "a=candidate:1 1 UDP 2130706431 203.0.113.5 19132 typ host\n"
            "m=application 19132 UDP x\n"
            "a=end-of-candidates");
}

TEST(SdpAnswerTest, LosesOtherLinesOnlyIfTheyNameAnAddressOfTheBackend) {
  const auto rewritten = [](absl::string_view line) {
    return RewriteAnswer(AnswerWith(absl::StrCat(kCandidate, line, "\r\n")),
                         {Address("203.0.113.5:19132")});
  };
  for (const char* line :
       {"a=rtcp:5001 IN IP4 192.0.2.2", "a=rtcp:9 IN IP6 fd00::2",
        "a=rtcp:9 in ip4\thost.internal", "a = rtcp : 9 IN IP4 192.0.2.2",
        "a=remote-candidates:1 192.0.2.2 5000",
        "a=remote-candidates:1 10.0.0.1 5 2 192.0.2.2 5001"}) {
    EXPECT_EQ(rewritten(line) + "\r\n", rewritten("")) << line;
  }
  for (const char* line :
       {"a=rtcp:9 IN IP4 0.0.0.0", "a=rtcp:9 IN IP6 ::", "a=rtcp:9",
        "a=rtcp:9 IN IP4", "a=rtcp-mux", "a=end-of-candidates",
        "a=remote-candidates:1 10.0.0.1 40000"}) {
    EXPECT_THAT(rewritten(line), EndsWith(absl::StrCat("\r\n", line, "\r\n")));
  }
}

}  // namespace
}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
