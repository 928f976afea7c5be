#include "cli/log/logger.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace udpgate {
namespace cli {
namespace {

using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

// A pipe that is read without waiting.
class Pipe {
 public:
  Pipe() { EXPECT_EQ(pipe2(fds_, O_CLOEXEC), 0); }
  ~Pipe() {
    CloseReader();
    close(fds_[1]);
  }

  int writer() const { return fds_[1]; }
  void CloseReader() {
    if (fds_[0] >= 0) close(fds_[0]);
    fds_[0] = -1;
  }
  std::string ReadAll() {
    fcntl(fds_[0], F_SETFL, O_NONBLOCK);
    std::string text;
    char buffer[4096];
    ssize_t count;
    while ((count = read(fds_[0], buffer, sizeof(buffer))) > 0) {
      text.append(buffer, static_cast<size_t>(count));
    }
    return text;
  }

 private:
  int fds_[2] = {-1, -1};
};

TEST(LoggerTest, WritesTimeSeverityAndMessage) {
  Pipe pipe;
  Logger logger(LogSeverity::kDebug, LogFormat::kText, pipe.writer());
  logger.Log(LogSeverity::kDebug, "a debug line");
  EXPECT_THAT(pipe.ReadAll(),
              ContainsRegex("^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:"
                            "[0-9]{2}\\.[0-9]{3}Z debug a debug line\n$"));
  logger.Log(LogSeverity::kInfo, "x");
  EXPECT_THAT(pipe.ReadAll(), HasSubstr("Z info x\n"));
  logger.Log(LogSeverity::kWarning, "x");
  EXPECT_THAT(pipe.ReadAll(), HasSubstr("Z warn x\n"));
  logger.Log(LogSeverity::kError, "x");
  EXPECT_THAT(pipe.ReadAll(), HasSubstr("Z error x\n"));
}

TEST(LoggerTest, LeavesOutWhatIsLessSevere) {
  Pipe pipe;
  Logger logger(LogSeverity::kWarning, LogFormat::kText, pipe.writer());
  logger.Log(LogSeverity::kDebug, "x");
  logger.Log(LogSeverity::kInfo, "x");
  EXPECT_THAT(pipe.ReadAll(), IsEmpty());
  logger.Log(LogSeverity::kWarning, "x");
  EXPECT_THAT(pipe.ReadAll(), HasSubstr("warn x"));
}

TEST(LoggerTest, BracesAreNoFormat) {
  Pipe pipe;
  Logger logger(LogSeverity::kInfo, LogFormat::kText, pipe.writer());
  logger.Log(LogSeverity::kInfo, "{} {0} %s %n");
  EXPECT_THAT(pipe.ReadAll(), HasSubstr("info {} {0} %s %n\n"));
}

TEST(LoggerTest, MessageStaysOneLine) {
  Pipe pipe;
  Logger logger(LogSeverity::kInfo, LogFormat::kText, pipe.writer());
  logger.Log(LogSeverity::kInfo,
             absl::string_view("a\nb\r\x1b[31m\x7f\0c \xc3\xa4", 15));
  EXPECT_THAT(pipe.ReadAll(),
              HasSubstr("info a\\x0ab\\x0d\\x1b[31m\\x7f\\x00c \xc3\xa4\n"));
}

TEST(LoggerTest, LongMessageIsCutToOnePieceOfAPipe) {
  Pipe pipe;
  Logger logger(LogSeverity::kInfo, LogFormat::kText, pipe.writer());
  logger.Log(LogSeverity::kInfo, std::string(100000, '\n'));
  const std::string line = pipe.ReadAll();
  EXPECT_THAT(line, SizeIs(::testing::Le(4096u)));
  EXPECT_TRUE(absl::EndsWith(line, "...\n")) << line;
}

TEST(LoggerTest, SinkOutlivesTheLogger) {
  Pipe pipe;
  LogSink sink;
  {
    Logger logger(LogSeverity::kInfo, LogFormat::kText, pipe.writer());
    sink = logger.Sink();
  }
  sink(LogSeverity::kInfo, "still here");
  EXPECT_THAT(pipe.ReadAll(), HasSubstr("info still here\n"));
}

TEST(LoggerTest, FullPipeDropsCountsAndSaysSoLater) {
  Pipe pipe;
  Logger logger(LogSeverity::kInfo, LogFormat::kText, pipe.writer());
  constexpr int kLines = 3000;  // of 100 bytes: more than a pipe's 64 KiB
  for (int i = 0; i < kLines; ++i) {
    logger.Log(LogSeverity::kInfo, std::string(100, 'x'));
  }
  const int64_t dropped = logger.dropped_lines();
  EXPECT_GT(dropped, 0);
  const std::string text = pipe.ReadAll();
  int64_t whole = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::EndsWith(line, std::string(100, 'x'))) ++whole;
  }
  EXPECT_EQ(whole + dropped, kLines);

  logger.Log(LogSeverity::kInfo, "room again");
  EXPECT_THAT(pipe.ReadAll(),
              ContainsRegex(absl::StrCat("warn ", dropped,
                                         " log lines were dropped here\n[^\n]*"
                                         " info room again\n")));
  logger.Log(LogSeverity::kInfo, "and again");
  EXPECT_THAT(pipe.ReadAll(), Not(HasSubstr("dropped")));
  EXPECT_EQ(logger.dropped_lines(), dropped);
}

TEST(LoggerTest, FullDeviceIsCounted) {
  const int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  Logger logger(LogSeverity::kInfo, LogFormat::kText, fd);
  logger.Log(LogSeverity::kError, "x");
  EXPECT_EQ(logger.dropped_lines(), 1);
  close(fd);
}

TEST(LoggerTest, PipeWithoutReaderIsCounted) {
  std::signal(SIGPIPE, SIG_IGN);
  Pipe pipe;
  pipe.CloseReader();
  Logger logger(LogSeverity::kInfo, LogFormat::kText, pipe.writer());
  logger.Log(LogSeverity::kError, "x");
  EXPECT_EQ(logger.dropped_lines(), 1);
}

TEST(LoggerTest, FieldsFollowTheMessage) {
  Pipe pipe;
  Logger logger(LogSeverity::kInfo, LogFormat::kText, pipe.writer());
  logger.Log(LogSeverity::kInfo, "a player left",
             {{"client", "[::1]:5"}, {"bytes", uint64_t{7}}, {"hours", 1.5}});
  EXPECT_THAT(pipe.ReadAll(), HasSubstr("Z info a player left client=[::1]:5 "
                                        "bytes=7 hours=1.5\n"));
  logger.Log(LogSeverity::kInfo, std::string(100000, 'x'), {{"name", "a\nb"}});
  const std::string line = pipe.ReadAll();
  EXPECT_THAT(line, SizeIs(::testing::Le(4096u)));
  EXPECT_THAT(line, HasSubstr("xxx... name=a\\x0ab\n"));
}

TEST(LoggerTest, JsonIsOneObjectALine) {
  Pipe pipe;
  Logger logger(LogSeverity::kInfo, LogFormat::kJson, pipe.writer());
  const std::string message("a \"quote\"\n\xff\0 {} %n", 18);
  logger.Log(LogSeverity::kWarning, message,
             {{"client", "[::1]:5"}, {"bytes", uint64_t{7}}, {"hours", 1.5}});
  const std::string line = pipe.ReadAll();
  EXPECT_THAT(line,
              ContainsRegex(
                  "^.\"time\":\"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:"
                  "[0-9]{2}\\.[0-9]{3}Z\",\"severity\":\"warn\",\"message\":"));
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  const auto object = nlohmann::json::parse(line, nullptr, false);
  ASSERT_TRUE(object.is_object()) << line;
  EXPECT_EQ(object.size(), 6u);
  EXPECT_EQ(object["message"],
            std::string("a \"quote\"\n\xef\xbf\xbd\0 {} %n", 20));
  EXPECT_EQ(object["client"], "[::1]:5");
  EXPECT_EQ(object["bytes"], 7);
  EXPECT_EQ(object["hours"], 1.5);
}

TEST(LoggerTest, ALongMessageIsCutToWholeJson) {
  Pipe pipe;
  Logger logger(LogSeverity::kInfo, LogFormat::kJson, pipe.writer());
  for (const char c : {'x', '\x01', '\xff'}) {
    logger.Log(LogSeverity::kInfo, std::string(100000, c),
               {{"n", uint64_t{1}}});
    const std::string line = pipe.ReadAll();
    EXPECT_THAT(line, SizeIs(::testing::Le(4096u)));
    EXPECT_THAT(line, SizeIs(::testing::Ge(3900u)));
    const auto object = nlohmann::json::parse(line, nullptr, false);
    ASSERT_TRUE(object.is_object()) << line;
    EXPECT_TRUE(absl::EndsWith(object["message"].get<std::string>(), "..."));
    EXPECT_EQ(object["n"], 1);
  }
}

TEST(LoggerTest, DroppedLinesAreReportedAsJsonToo) {
  Pipe pipe;
  Logger logger(LogSeverity::kInfo, LogFormat::kJson, pipe.writer());
  while (logger.dropped_lines() == 0) {
    logger.Log(LogSeverity::kInfo, std::string(1000, 'x'));
  }
  pipe.ReadAll();
  logger.Log(LogSeverity::kInfo, "room again");
  const std::vector<std::string> lines = absl::StrSplit(pipe.ReadAll(), '\n');
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(nlohmann::json::parse(lines[0], nullptr, false)["message"],
            "1 log lines were dropped here");
}

TEST(HeldLogTest, WritesWhatItKeptOnceItIsReleased) {
  std::vector<std::string> lines;
  HeldLog held([&lines](LogSeverity severity, absl::string_view message) {
    lines.push_back(absl::StrCat(LogSeverityName(severity), " ", message));
  });
  const LogSink sink = held.Sink();
  sink(LogSeverity::kInfo, "one");
  sink(LogSeverity::kError, "two");
  EXPECT_THAT(lines, IsEmpty());
  held.Release();
  EXPECT_THAT(lines, ElementsAre("info one", "error two"));
  sink(LogSeverity::kWarning, "three");
  EXPECT_THAT(lines, ElementsAre("info one", "error two", "warn three"));
}

TEST(HeldLogTest, KeepsABoundedNumberOfLines) {
  size_t count = 0;
  HeldLog held([&count](LogSeverity, absl::string_view) { ++count; });
  for (size_t i = 0; i < 3 * HeldLog::kLinesMax; ++i) {
    held.Sink()(LogSeverity::kInfo, "x");
  }
  held.Release();
  EXPECT_EQ(count, HeldLog::kLinesMax);
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
