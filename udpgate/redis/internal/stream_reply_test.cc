#include "udpgate/redis/internal/stream_reply.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "udpgate/redis/internal/reply_reader.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

Reply ReplyOf(const std::string& bytes) {
  FrameLimits limits;
  limits.depth_max = 5;
  ReplyReader reader(limits);
  EXPECT_TRUE(reader.Feed(bytes).ok()) << bytes;
  auto reply = reader.Next();
  EXPECT_TRUE(reply.ok() && *reply != nullptr) << bytes;
  return *std::move(reply);
}

std::string EntryBytes(const std::string& id) {
  return "*2\r\n$" + std::to_string(id.size()) + "\r\n" + id +
         "\r\n*4\r\n$1\r\na\r\n$1\r\n1\r\n$5\r\nevent\r\n$1\r\n8\r\n";
}

TEST(StreamIdTest, ReadsWhatItWrites) {
  StreamId id;
  for (const std::string text : {"0-0", "1764457501000-7",
                                 "18446744073709551615-18446744073709551615"}) {
    ASSERT_TRUE(id.Parse(text)) << text;
    EXPECT_EQ(id.ToString(), text);
  }
  for (const char* text :
       {"", "-", "5", "5-", "-5", "5-6-7", " 5-6", "5- 6", "5-6 ", "+5-6",
        "5-+6", "18446744073709551616-0", "a-b"}) {
    EXPECT_FALSE(id.Parse(text)) << text;
  }
}

TEST(StreamIdTest, AreOrderedByTimeFirst) {
  EXPECT_TRUE((StreamId{1, 9} < StreamId{2, 0}));
  EXPECT_TRUE((StreamId{2, 0} < StreamId{2, 1}));
  EXPECT_FALSE((StreamId{2, 1} < StreamId{2, 1}));
}

TEST(StreamReplyTest, ReadsHowManyEntriesThereHaveBeen) {
  StreamInfo info;
  ASSERT_TRUE(ReadStreamInfo(
      *ReplyOf("*6\r\n$6\r\nlength\r\n:2\r\n$6\r\ngroups\r\n:0\r\n"
               "$13\r\nentries-added\r\n:5\r\n"),
      &info));
  EXPECT_EQ(info.length, 2u);
  EXPECT_EQ(info.entries_added, 5u);
  // The first is that of Redis 6.
  for (const char* bytes :
       {"*2\r\n$6\r\nlength\r\n:2\r\n", "*0\r\n", "+OK\r\n",
        "*4\r\n$6\r\nlength\r\n:-2\r\n$13\r\nentries-added\r\n:5\r\n",
        "*4\r\n$6\r\nlength\r\n:2\r\n$13\r\nentries-added\r\n$1\r\n5\r\n",
        "*3\r\n$6\r\nlength\r\n:2\r\n$13\r\nentries-added\r\n"}) {
    EXPECT_FALSE(ReadStreamInfo(*ReplyOf(bytes), &info)) << bytes;
  }
}

TEST(StreamReplyTest, ReadsEntriesAndTheirFields) {
  const Reply reply = ReplyOf("*1\r\n*2\r\n$1\r\nk\r\n*2\r\n" +
                              EntryBytes("5-1") + EntryBytes("5-2"));
  std::vector<StreamEntry> entries;
  ASSERT_TRUE(ReadStreamReply(*reply, &entries));
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[1].id, (StreamId{5, 2}));
  absl::string_view value;
  ASSERT_TRUE(entries[1].Find("event", &value));
  EXPECT_EQ(value, "8");
  EXPECT_FALSE(entries[1].Find("1", &value));
}

TEST(StreamReplyTest, NoEntryInTimeIsNoError) {
  std::vector<StreamEntry> entries;
  EXPECT_TRUE(ReadStreamReply(*ReplyOf("*-1\r\n"), &entries));
  EXPECT_TRUE(entries.empty());
}

TEST(StreamReplyTest, RejectsOtherReplies) {
  for (const std::string& bytes :
       {std::string("+OK\r\n"), std::string("*0\r\n"),
        std::string("*1\r\n*2\r\n$1\r\nk\r\n*0\r\n"),
        std::string("*1\r\n*2\r\n$1\r\nk\r\n$1\r\nx\r\n"),
        std::string("*1\r\n*2\r\n$1\r\nk\r\n*1\r\n*1\r\n$3\r\n5-1\r\n"),
        "*1\r\n*2\r\n$1\r\nk\r\n*1\r\n" + EntryBytes("x-1"),
        "*1\r\n*2\r\n$1\r\nk\r\n*2\r\n" + EntryBytes("5-1") +
            EntryBytes("5-1")}) {
    std::vector<StreamEntry> entries;
    EXPECT_FALSE(ReadStreamReply(*ReplyOf(bytes), &entries)) << bytes;
  }
}

TEST(StreamReplyTest, ReadsTheTimeOfRedis) {
  int64_t milliseconds = 0;
  ASSERT_TRUE(ReadRedisTime(
      *ReplyOf("*2\r\n$10\r\n1764457501\r\n$6\r\n123456\r\n"), &milliseconds));
  EXPECT_EQ(milliseconds, 1764457501123);
  for (const char* bytes :
       {"*2\r\n$2\r\n-1\r\n$1\r\n0\r\n", "*2\r\n$1\r\n1\r\n$7\r\n1000000\r\n",
        "*1\r\n$1\r\n1\r\n", "$1\r\n1\r\n", "*2\r\n:1\r\n:1\r\n"}) {
    EXPECT_FALSE(ReadRedisTime(*ReplyOf(bytes), &milliseconds)) << bytes;
  }
}

}  // namespace
}  // namespace internal
}  // namespace redis
}  // namespace udpgate
