#include "udpgate/redis/internal/session_replies.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "udpgate/redis/internal/reply_reader.h"
#include "udpgate/redis/internal/session_pipe.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

// The bytes as a reply.
Reply ReplyOf(const std::string& bytes) {
  FrameLimits limits;
  limits.elements_max = 64;
  ReplyReader reader(limits);
  EXPECT_TRUE(reader.Feed(bytes).ok());
  absl::StatusOr<Reply> reply = reader.Next();
  EXPECT_TRUE(reply.ok() && *reply != nullptr);
  return *std::move(reply);
}

TEST(SessionRepliesTest, ReadsOutcomes) {
  using Outcome = SessionStore::Outcome;
  std::vector<Outcome> outcomes;
  EXPECT_TRUE(ReadOutcomes(*ReplyOf("$4\r\ndaol\r\n"), 4, "daol", &outcomes));
  EXPECT_EQ(outcomes,
            (std::vector<Outcome>{Outcome::kDone, Outcome::kAbsent,
                                  Outcome::kOtherOwner, Outcome::kOwnerLives}));
  EXPECT_FALSE(ReadOutcomes(*ReplyOf("$4\r\ndaol\r\n"), 4, "dao", &outcomes));
  EXPECT_FALSE(ReadOutcomes(*ReplyOf("$4\r\ndaol\r\n"), 3, "daol", &outcomes));
  EXPECT_FALSE(ReadOutcomes(*ReplyOf(":1\r\n"), 1, "daol", &outcomes));
}

TEST(SessionRepliesTest, ReadsTexts) {
  std::vector<absl::string_view> texts;
  const Reply reply = ReplyOf("*2\r\n$1\r\na\r\n$0\r\n\r\n");
  EXPECT_TRUE(ReadTexts(*reply, 2, &texts));
  EXPECT_EQ(texts, (std::vector<absl::string_view>{"a", ""}));
  EXPECT_FALSE(ReadTexts(*reply, 1, &texts));
  EXPECT_FALSE(ReadTexts(*ReplyOf("*1\r\n$-1\r\n"), 1, &texts));
  EXPECT_FALSE(ReadTexts(
      *ReplyOf(absl::StrCat("*1\r\n$513\r\n", std::string(513, 'x'), "\r\n")),
      1, &texts));
}

TEST(SessionRepliesTest, ReadsPagesOfSets) {
  SetPage page;
  EXPECT_TRUE(ReadSetPage(
      *ReplyOf("*2\r\n$2\r\n17\r\n*2\r\n$1\r\na\r\n$3\r\nbbb\r\n"), 2, &page));
  EXPECT_EQ(page.cursor, "17");
  EXPECT_EQ(page.members, std::vector<std::string>{"a"});  // one is too long
  EXPECT_FALSE(ReadSetPage(*ReplyOf("*2\r\n$1\r\nx\r\n*0\r\n"), 2, &page));
  EXPECT_FALSE(ReadSetPage(*ReplyOf("*2\r\n$1\r\n0\r\n:1\r\n"), 2, &page));
}

TEST(SessionRepliesTest, FindsTheErrorOfAScript) {
  EXPECT_EQ(ErrorOfScript("READONLY You can't write script: f00, on "
                          "@user_script:3."),
            "READONLY You can't write");
  EXPECT_EQ(ErrorOfScript("ERR ACL failure in script: User gate has no "
                          "permissions to run the 'mget' command script: f00, "
                          "on @user_script:1."),
            "ERR ACL failure in script: User gate has no permissions to run "
            "the 'mget' command");
  EXPECT_EQ(ErrorOfScript("ERR Error running script (call to f_0a): "
                          "@user_script:7: @user_script: 7: OOM command not "
                          "allowed"),
            "OOM command not allowed");
  EXPECT_EQ(ErrorOfScript("NOPERM this user"), "NOPERM this user");
  EXPECT_EQ(ErrorOfScript("ERR Error running script"),
            "ERR Error running script");
  EXPECT_EQ(ErrorOfScript("ERR in script: x"), "ERR in script: x");
}

}  // namespace
}  // namespace internal
}  // namespace redis
}  // namespace udpgate
