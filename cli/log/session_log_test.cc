#include "cli/log/session_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "testing/simulated_clock.h"
#include "udpgate/backend_resolver.h"

namespace udpgate {
namespace cli {
namespace {

using ::nlohmann::json;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class SessionLogTest : public ::testing::Test {
 protected:
  SessionLogTest() { EXPECT_EQ(pipe2(fds_, O_CLOEXEC | O_NONBLOCK), 0); }
  ~SessionLogTest() override {
    close(fds_[0]);
    close(fds_[1]);
  }

  // The lines since the last call.
  std::vector<std::string> Lines() {
    std::string text;
    char buffer[4096];
    ssize_t count;
    while ((count = read(fds_[0], buffer, sizeof(buffer))) > 0) {
      text.append(buffer, static_cast<size_t>(count));
    }
    std::vector<std::string> lines = absl::StrSplit(text, '\n');
    lines.pop_back();
    return lines;
  }
  int writer() const { return fds_[1]; }

  static SessionEvent Event(SessionEvent::Kind kind) {
    SessionEvent event;
    event.kind = kind;
    event.session_id = 257;
    event.state = SessionState::kConfirmed;
    event.end_reason = EndReason::kIdle;
    event.client = *SocketAddress::Parse("[2001:db8::7]:54321");
    event.local = *SocketAddress::Parse("[2001:db8::1]:19132");
    event.backend = *SocketAddress::Parse("10.0.0.5:19133");
    event.relay = *SocketAddress::Parse("10.0.0.1:40123");
    event.age = absl::Milliseconds(61500);
    event.client_datagrams_forwarded = 1;
    event.client_bytes_forwarded = 2;
    event.backend_datagrams_forwarded = 3;
    event.backend_bytes_forwarded = 4;
    return event;
  }

  test::SimulatedClock clock_;

 private:
  int fds_[2] = {-1, -1};
};

TEST_F(SessionLogTest, AnEndIsALineWithAllThatIsKnown) {
  Logger logger(LogSeverity::kInfo, LogFormat::kText, writer());
  SessionLogger session_log(SessionLog::kEnd, 0, &clock_, &logger);
  session_log.Observe(Event(SessionEvent::Kind::kOpened));
  session_log.Observe(Event(SessionEvent::Kind::kConfirmed));
  EXPECT_THAT(Lines(), IsEmpty());
  session_log.Observe(Event(SessionEvent::Kind::kEnded));
  const std::vector<std::string> lines = Lines();
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_THAT(lines[0],
              HasSubstr("Z info session ended event=session_ended session=257 "
                        "client=[2001:db8::7]:54321 local=[2001:db8::1]:19132 "
                        "backend=10.0.0.5:19133 relay=10.0.0.1:40123 "
                        "relay_port=40123 duration_seconds=61.5 "
                        "client_datagrams=1 client_bytes=2 "
                        "backend_datagrams=3 backend_bytes=4 reason=idle"));
}

TEST_F(SessionLogTest, TheSessionOfAJoinNamesThePlayer) {
  Logger logger(LogSeverity::kInfo, LogFormat::kText, writer());
  SessionLogger session_log(SessionLog::kAll, 0, &clock_, &logger);
  SessionEvent event = Event(SessionEvent::Kind::kOpened);
  event.tag = std::make_shared<SessionTag>("secret", "1234567890");
  session_log.Observe(event);
  event.kind = SessionEvent::Kind::kEnded;
  session_log.Observe(event);
  const std::vector<std::string> lines = Lines();
  ASSERT_THAT(lines, SizeIs(2));
  for (const std::string& line : lines) {
    EXPECT_THAT(line, HasSubstr("relay_port=40123 network_id=1234567890"));
    EXPECT_THAT(line, ::testing::Not(HasSubstr("secret")));
  }
}

TEST_F(SessionLogTest, InJsonTheFieldsAreTyped) {
  Logger logger(LogSeverity::kInfo, LogFormat::kJson, writer());
  SessionLogger session_log(SessionLog::kAll, 0, &clock_, &logger);
  session_log.Observe(Event(SessionEvent::Kind::kOpened));
  session_log.Observe(Event(SessionEvent::Kind::kConfirmed));
  SessionEvent without_backend = Event(SessionEvent::Kind::kEnded);
  without_backend.backend = SocketAddress();
  without_backend.relay = SocketAddress();
  session_log.Observe(without_backend);
  const std::vector<std::string> lines = Lines();
  ASSERT_THAT(lines, SizeIs(3));
  const json opened = json::parse(lines[0], nullptr, false);
  EXPECT_EQ(opened["message"], "session opened");
  EXPECT_EQ(opened["event"], "session_opened");
  EXPECT_EQ(opened["session"], 257);
  EXPECT_EQ(opened["client"], "[2001:db8::7]:54321");
  EXPECT_EQ(opened["relay_port"], 40123);
  EXPECT_FALSE(opened.contains("reason"));
  EXPECT_EQ(json::parse(lines[1], nullptr, false)["message"],
            "session confirmed");
  const json ended = json::parse(lines[2], nullptr, false);
  EXPECT_EQ(ended["duration_seconds"], 61.5);
  EXPECT_EQ(ended["backend_bytes"], 4);
  EXPECT_EQ(ended["reason"], "idle");
  EXPECT_FALSE(ended.contains("backend"));
}

TEST_F(SessionLogTest, AFloodIsCutToSoManyLinesASecond) {
  Logger logger(LogSeverity::kInfo, LogFormat::kText, writer());
  SessionLogger session_log(SessionLog::kEnd, 3, &clock_, &logger);
  const SessionEvent event = Event(SessionEvent::Kind::kEnded);
  for (int i = 0; i < 10; ++i) session_log.Observe(event);
  EXPECT_THAT(Lines(), SizeIs(3));
  EXPECT_EQ(session_log.lines_left_out(), 7u);
  clock_.Advance(absl::Seconds(1));
  session_log.Observe(event);
  const std::vector<std::string> lines = Lines();
  ASSERT_THAT(lines, SizeIs(2));
  EXPECT_THAT(lines[0], HasSubstr("warn 7 session log lines were suppressed"));
  EXPECT_THAT(lines[1], HasSubstr("session ended"));
  clock_.Advance(absl::Seconds(5));
  session_log.Observe(event);
  EXPECT_THAT(Lines(), SizeIs(1));
  EXPECT_EQ(session_log.lines_left_out(), 7u);
}

TEST_F(SessionLogTest, TheEndSaysWhatWasLeftOut) {
  Logger logger(LogSeverity::kInfo, LogFormat::kText, writer());
  {
    SessionLogger session_log(SessionLog::kEnd, 1, &clock_, &logger);
    session_log.Observe(Event(SessionEvent::Kind::kEnded));
    session_log.Observe(Event(SessionEvent::Kind::kEnded));
    EXPECT_THAT(Lines(), SizeIs(1));
  }
  const std::vector<std::string> lines = Lines();
  ASSERT_THAT(lines, SizeIs(1));
  EXPECT_THAT(lines[0], HasSubstr("warn 1 session log lines were suppressed"));
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
