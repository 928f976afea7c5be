#include "udpgate/redis/internal/frame_checker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "udpgate/redis/internal/reply_reader.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

std::string Bulk(size_t size) {
  return absl::StrCat("$", size, "\r\n", std::string(size, 'x'), "\r\n");
}

const std::vector<std::string>& GoodFrames() {
  static const auto* const frames = new std::vector<std::string>{
      "+OK\r\n",
      "+\r\n",
      "-ERR unknown command\r\n",
      ":0\r\n",
      ":-9223372036854775808\r\n",
      "$-1\r\n",
      "$0\r\n\r\n",
      "$5\r\nlobby\r\n",
      "$4\r\n\r\n\r\n\r\n",
      "*-1\r\n",
      "*0\r\n",
      "*1\r\n$-1\r\n",
      "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n",
      "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\n12345\r\n",
      "*2\r\n*2\r\n+a\r\n*0\r\n*1\r\n*1\r\n:1\r\n",
      absl::StrCat("*8\r\n",
                   ":1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n:8\r\n"),
      // The longest frame, including header and end.
      Bulk(FrameChecker::kFrameBytesMax - 10),
      absl::StrCat("+", std::string(FrameChecker::kFrameBytesMax - 3, 'x'),
                   "\r\n"),
  };
  return *frames;
}

TEST(FrameCheckerTest, AcceptsValidFramesHoweverSplit) {
  for (const std::string& frame : GoodFrames()) {
    const size_t step = frame.size() > 1000 ? 997 : 1;
    for (size_t cut = 0; cut <= frame.size(); cut += step) {
      FrameChecker checker;
      // Twice, to check the state after a whole frame.
      for (int round = 0; round < 2; ++round) {
        for (const std::string& part :
             {frame.substr(0, cut), frame.substr(cut)}) {
          size_t safe_bytes;
          ASSERT_TRUE(checker.Check(part, &safe_bytes).ok())
              << frame.substr(0, 100) << " cut at " << cut;
          ASSERT_EQ(safe_bytes, part.size());
        }
      }
    }
  }
}

TEST(FrameCheckerTest, AcceptsValidFramesByteByByte) {
  FrameChecker checker;
  for (const std::string& frame : GoodFrames()) {
    for (const char byte : frame) {
      size_t safe_bytes;
      ASSERT_TRUE(checker.Check({&byte, 1}, &safe_bytes).ok()) << frame;
    }
  }
}

struct BadFrame {
  std::string bytes;
  absl::StatusCode code = absl::StatusCode::kDataLoss;
};

std::vector<BadFrame> BadFrames() {
  constexpr auto kTooLong = absl::StatusCode::kResourceExhausted;
  return {
      {"*2000000000\r\n"},
      {"*9\r\n"},
      {"*-2\r\n"},
      {"+a\rb\r\n"},
      {"+a\nb\r\n"},
      {"-ERR a\r\r\n"},
      {"*\r\n"},
      {"*1x\r\n"},
      {"* 1\r\n"},
      {"*+1\r\n"},
      {"*1\rx"},
      {"*1\n"},
      {"*--1\r\n"},
      {"*999999999999999999999"},
      {":12a\r\n"},
      {":\r\n"},
      {":99999999999999999999\r\n"},
      {":007\r\n"},
      {":-0\r\n"},
      {"*01\r\n"},
      {"$05\r\n"},
      {"$-01\r\n"},
      {"$-2\r\n"},
      {"$\r\n"},
      {"$5\r\nlobbyX\n"},
      {"$5\r\nlobby\rX"},
      {"$65537\r\n", kTooLong},
      {"$1048576\r\n", kTooLong},
      {"$2147483647\r\n", kTooLong},
      {"$9223372036854775807\r\n", kTooLong},
      {absl::StrCat("$", FrameChecker::kFrameBytesMax - 9, "\r\n"), kTooLong},
      {absl::StrCat("+", std::string(FrameChecker::kFrameBytesMax - 2, 'x'),
                    "\r\n"),
       kTooLong},
      // Each element is short enough, but the frame is too long.
      {absl::StrCat("*3\r\n", Bulk(30000), Bulk(30000), "$30000\r\n"),
       kTooLong},
      {"*1\r\n*1\r\n*1\r\n*1\r\n"},
      {"*1\r\n*1\r\n*1\r\n*0\r\n"},
      {"*1\r\n*1\r\n*1\r\n*-1\r\n"},
      {"HTTP/1.1 400 Bad Request\r\n"},
      {"\r\n"},
      {std::string(1, '\0')},
      {"\xff"},
      {"%1\r\n"},  // RESP3
      {"_\r\n"},
  };
}

TEST(FrameCheckerTest, RejectsInvalidFramesHoweverSplit) {
  for (const BadFrame& bad : BadFrames()) {
    const size_t step = bad.bytes.size() > 1000 ? 997 : 1;
    for (size_t cut = 0; cut <= bad.bytes.size(); cut += step) {
      FrameChecker checker;
      size_t safe_bytes;
      absl::Status status =
          checker.Check(bad.bytes.substr(0, cut), &safe_bytes);
      if (status.ok()) {
        status = checker.Check(bad.bytes.substr(cut), &safe_bytes);
      }
      EXPECT_EQ(status.code(), bad.code)
          << bad.bytes.substr(0, 100) << " cut at " << cut;
      EXPECT_EQ(safe_bytes, 0u) << bad.bytes.substr(0, 100);
    }
  }
}

TEST(FrameCheckerTest, AcceptsTheFramesBeforeAnInvalidOne) {
  const std::string good = "$5\r\nlobby\r\n+OK\r\n";
  for (const BadFrame& bad : BadFrames()) {
    FrameChecker checker;
    size_t safe_bytes;
    EXPECT_EQ(checker.Check(good + bad.bytes, &safe_bytes).code(), bad.code);
    EXPECT_EQ(safe_bytes, good.size());
  }
}

TEST(ReplyReaderTest, ReadsEveryValidFrameInPieces) {
  ReplyReader reader;
  for (const std::string& frame : GoodFrames()) {
    const size_t step = frame.size() > 1000 ? 997 : 1;
    int replies = 0;
    for (size_t begin = 0; begin < frame.size(); begin += step) {
      ASSERT_TRUE(reader.Feed(frame.substr(begin, step)).ok());
      absl::StatusOr<Reply> reply = reader.Next();
      ASSERT_TRUE(reply.ok()) << reply.status();
      if (*reply != nullptr) ++replies;
    }
    EXPECT_EQ(replies, 1) << frame.substr(0, 100);
  }
}

TEST(ReplyReaderTest, ReturnsTheRepliesBeforeAnInvalidFrame) {
  ReplyReader reader;
  EXPECT_FALSE(reader.Feed("$5\r\nlobby\r\n*2000000000\r\n").ok());
  absl::StatusOr<Reply> reply = reader.Next();
  ASSERT_TRUE(reply.ok() && *reply != nullptr);
  EXPECT_EQ(ReplyText(**reply), "lobby");
  reply = reader.Next();
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(*reply, nullptr);
}

}  // namespace
}  // namespace internal
}  // namespace redis
}  // namespace udpgate
