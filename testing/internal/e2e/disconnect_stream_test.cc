// Disconnect events from a stream, with the real program.
#include <signal.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/tcp_relay.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace test {
namespace {

constexpr char kStream[] = "udp_gate:disconnects";

class DisconnectStreamTest : public GateTest {
 protected:
  static void Add(const std::string& payload) {
    const auto added = redis().Command(
        {"XADD", kStream, "MAXLEN", "~", "10000", "*", "event", payload});
    ASSERT_TRUE(added.ok()) << added.status();
  }

  // Sessions that ended for an event, with SESSION_LOG=end.
  static size_t CountEnded(const std::string& log) {
    size_t count = 0;
    for (const absl::string_view line : absl::StrSplit(log, '\n')) {
      if (absl::StrContains(line, "disconnected")) ++count;
    }
    return count;
  }
  size_t EndedSessions() { return CountEnded(gate().log()); }
};

TEST_F(DisconnectStreamTest, AnEventEndsASessionOnceHoweverItComes) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  EchoBackend third("third");
  SetBackend(lobby);
  StartGate({{"REDIS_DISCONNECT_STREAM", kStream}});
  LoopbackPeer client;
  LoopbackPeer other;
  ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(AwaitServedBy(&other, address(), "lobby"));
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  SetBackend(arena);
  Add(client.address().ToString());
  ASSERT_TRUE(AwaitServedBy(&client, address(), "arena"));
  SetBackend(third);
  // The same event: the client has come back since. What follows on the channel
  // shows that it has been handled.
  Publish(client.address().ToString());
  Publish(other.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&other, address(), "third"));
  EXPECT_TRUE(IsServedBy(&client, address(), "arena"));
}

TEST_F(DisconnectStreamTest, AnEventOfAnOutageIsReadAfterIt) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  StartGate(
      {{"REDIS_DISCONNECT_STREAM", kStream}, {"REDIS_TIMEOUT_MS", "200"}});
  LoopbackPeer client;
  ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(AwaitSubscriber(&redis()));
  redis().Pause();
  ASSERT_TRUE(gate().AwaitLog("disconnect stream): no reply within"))
      << gate().log();
  redis().Resume();
  SetBackend(arena);
  Add(client.address().ToString());
  EXPECT_TRUE(AwaitServedBy(&client, address(), "arena"));
}

// Each cut is in the middle of a reply to XREAD, and each event is of another
// client.
TEST_F(DisconnectStreamTest, AStreamThatIsCutIsReadOn) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  TcpRelay relay(redis().port());
  StartGate({{"REDIS_ADDR", relay.address()},
             {"REDIS_DISCONNECT_STREAM", kStream},
             {"SESSION_LOG", "end"}});
  // The back-off doubles with each connection that does not last.
  std::vector<LoopbackPeer> clients(5);
  for (LoopbackPeer& client : clients) {
    ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  }
  ASSERT_TRUE(relay.AwaitRequests("XREAD", 1));
  SetBackend(arena);
  for (size_t i = 0; i < clients.size(); ++i) {
    relay.CutAfterReplyBytes(1 + 7 * i);
    Add(clients[i].address().ToString());
    ASSERT_TRUE(AwaitServedBy(&clients[i], address(), "arena")) << i;
  }
  EXPECT_TRUE(AwaitTrue([&] { return EndedSessions() == clients.size(); }));
  EXPECT_TRUE(relay.AwaitConnections(clients.size()));
}

TEST_F(DisconnectStreamTest, AStreamThatIsTrimmedTooFarIsReadFromItsBegin) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  TcpRelay relay(redis().port());
  StartGate({{"REDIS_ADDR", relay.address()},
             {"REDIS_DISCONNECT_STREAM", kStream},
             {"REDIS_TIMEOUT_MS", "200"},
             {"SESSION_LOG", "end"}});
  std::vector<LoopbackPeer> clients(4);
  for (LoopbackPeer& client : clients) {
    ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  }
  SetBackend(arena);
  Add(clients[0].address().ToString());
  ASSERT_TRUE(AwaitServedBy(&clients[0], address(), "arena"));
  relay.HoldReplies();
  ASSERT_TRUE(gate().AwaitLog("disconnect stream): no reply within"))
      << gate().log();
  for (size_t i = 1; i < clients.size(); ++i) {
    Add(clients[i].address().ToString());
  }
  // The event of the second client is lost.
  ASSERT_TRUE(redis().Command({"XTRIM", kStream, "MAXLEN", "2"}).ok());
  relay.ReleaseReplies();
  EXPECT_TRUE(AwaitServedBy(&clients[2], address(), "arena"));
  EXPECT_TRUE(AwaitServedBy(&clients[3], address(), "arena"));
  EXPECT_TRUE(gate().AwaitLog("(disconnect stream): events between"))
      << gate().log();
  EXPECT_TRUE(AwaitTrue([&] { return EndedSessions() == 3; }));
  EXPECT_TRUE(IsServedBy(&clients[1], address(), "lobby"));
}

TEST_F(DisconnectStreamTest, AStreamThatIsReadAgainEndsNoLaterSession) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  SetBackend(lobby);
  LoopbackPeer client;
  LoopbackPeer other;
  const std::map<std::string, std::string> settings = {
      {"REDIS_DISCONNECT_STREAM", kStream}, {"SESSION_LOG", "end"}};
  StartGate(settings);
  ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  Add(client.address().ToString());
  ASSERT_TRUE(AwaitTrue([&] { return EndedSessions() == 1; }));
  StopGate();
  // Another gateway, which knows no last entry, reads those of the last minute.
  StartGate(settings);
  ASSERT_TRUE(AwaitServedBy(&client, address(), "lobby"));
  ASSERT_TRUE(AwaitServedBy(&other, address(), "lobby"));
  SetBackend(arena);
  Add(other.address().ToString());
  ASSERT_TRUE(AwaitServedBy(&other, address(), "arena"));
  EXPECT_TRUE(IsServedBy(&client, address(), "lobby"));
  EXPECT_TRUE(AwaitTrue([&] { return EndedSessions() > 0; }));
  EXPECT_EQ(EndedSessions(), 1u);
}

// The process that takes over, which is nobody's child.
class NewProcess {
 public:
  // Waits for the line of the old process that names it.
  static pid_t StartedBy(GateProcess* old_process) {
    constexpr absl::string_view kLine = "SIGUSR2: started process ";
    int id = 0;
    EXPECT_TRUE(AwaitTrue([&] {
      const std::string log = old_process->log();
      const std::vector<std::string> parts = absl::StrSplit(log, kLine);
      return parts.size() == 2 &&
             absl::SimpleAtoi(
                 parts[1].substr(0, parts[1].find_first_of(" \n,:")), &id);
    })) << old_process->log();
    return id;
  }
  explicit NewProcess(pid_t id) : id_(id) {}
  ~NewProcess() {
    if (id_ <= 0) return;
    ::kill(id_, SIGTERM);
    EXPECT_TRUE(AwaitTrue([&] { return ::kill(id_, 0) != 0; }));
  }
  NewProcess(const NewProcess&) = delete;
  NewProcess& operator=(const NewProcess&) = delete;

 private:
  const pid_t id_;
};

// One event after the other, each for another client, from before the upgrade
// until after it: both processes read the stream.
TEST_F(DisconnectStreamTest, AnEventDuringAnUpgradeEndsItsSessionOnce) {
  EchoBackend lobby("lobby");
  EchoBackend arena("arena");
  EchoBackend third("third");
  SetBackend(lobby);
  TemporaryDirectory directory;
  GateProcessOptions options;
  options.environment = RedisEnvironment();
  options.environment["REDIS_DISCONNECT_STREAM"] = kStream;
  options.environment["SESSION_LOG"] = "end";
  options.environment["TAKEOVER_SOCKET"] = directory.path() + "/takeover.sock";
  options.environment["MAX_UNCONFIRMED_SESSIONS_PER_IP"] = "0";
  options.environment["UNCONFIRMED_TIMEOUT_SECS"] = "3600";
  options.environment["SESSION_IDLE_TIMEOUT_SECS"] = "3600";
  GateProcess old_process(GateBinary(), options);
  const absl::Status started = old_process.Start();
  ASSERT_TRUE(started.ok()) << started;
  const SocketAddress gate = old_process.address();
  std::vector<LoopbackPeer> clients(1000);
  for (LoopbackPeer& client : clients) {
    ASSERT_TRUE(client.Send(gate, "hello").ok());
  }
  for (LoopbackPeer& client : clients) {
    const auto reply = client.Receive();
    ASSERT_TRUE(reply.ok() && reply->payload == "lobby:hello");
  }
  SetBackend(arena);
  size_t told = 0;
  const auto tell_next = [&] {
    Add(clients[told++].address().ToString());
    absl::SleepFor(absl::Milliseconds(5));  // the pace of the events
  };
  const auto ended = [&] { return CountEnded(old_process.log()); };
  tell_next();
  ASSERT_TRUE(AwaitTrue([&] { return ended() == 1; })) << old_process.log();
  old_process.Signal(SIGUSR2);
  const NewProcess new_process(NewProcess::StartedBy(&old_process));
  while (old_process.running() && told + 21 < clients.size()) tell_next();
  ASSERT_FALSE(old_process.running()) << told << old_process.log();
  for (int i = 0; i < 20; ++i) tell_next();
  std::printf("%d events, from before the upgrade until after it\n",
              static_cast<int>(told));
  for (size_t i = 0; i < told; ++i) {
    ASSERT_TRUE(AwaitServedBy(&clients[i], gate, "arena")) << i;
  }
  // Who was not told stays; and when the last event has been handled, who has
  // come back is still there.
  SetBackend(third);
  LoopbackPeer& last = clients[told];
  ASSERT_TRUE(IsServedBy(&last, gate, "lobby"));
  Add(last.address().ToString());
  ASSERT_TRUE(AwaitServedBy(&last, gate, "third"));
  for (size_t i = 0; i < told; ++i) {
    ASSERT_TRUE(IsServedBy(&clients[i], gate, "arena")) << i;
  }
  EXPECT_TRUE(AwaitTrue([&] { return ended() >= told + 1; }));
  EXPECT_EQ(ended(), told + 1);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
