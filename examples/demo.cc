// A demonstration of a few seconds: a private redis-server, two sample game
// servers, the gateway, three players, and one more server and player that
// speak NetherNet as Bedrock does today. Each step is printed.
//
//   ./tools/run.sh --demo
//
// The exit status is 0 if every check passed, else 1.
#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/internal/ice/ice_backend.h"
#include "testing/internal/ice/ice_player.h"
#include "testing/internal/support/gate_process.h"
#include "testing/internal/support/redis_server.h"
#include "testing/loopback_peer.h"

namespace {

using udpgate::SocketAddress;
using udpgate::test::AwaitServedBy;
using udpgate::test::AwaitTrue;
using udpgate::test::EchoBackend;
using udpgate::test::ExitResult;
using udpgate::test::GateProcess;
using udpgate::test::GateProcessOptions;
using udpgate::test::IceBackend;
using udpgate::test::IcePlayer;
using udpgate::test::LoopbackPeer;
using udpgate::test::RedisServer;

constexpr char kKey[] = "udp_gate:backend";
constexpr char kChannel[] = "udp_gate:disconnect";
constexpr absl::Duration kIdleTimeout = absl::Seconds(2);

struct Player {
  const char* name;
  LoopbackPeer peer;
};

class Demo {
 public:
  explicit Demo(const std::string& gate_path)
      : gate_(gate_path, GateOptions(redis_, signaling_)) {}

  // True if every check passed.
  bool Run();

 private:
  static GateProcessOptions GateOptions(const RedisServer& redis,
                                        const SocketAddress& signaling);

  // Each returns false if the demonstration cannot continue.
  bool StartAll();
  void AssignBackends();
  void ChangeTheKey();
  void DisconnectByAddress();
  void DisconnectByPort();
  void EndAnIdleSession();
  void JoinByNetherNet();
  void Stop();

  void Step(absl::string_view title);
  void Say(absl::string_view text) const;
  // Prints a check and its result.
  void Check(bool seen, absl::string_view promise);

  void SetKey(const EchoBackend& server);
  void SetKey(const std::string& name, const SocketAddress& address);
  void Publish(const std::string& payload);
  // Sends a datagram and checks which backend replies.
  void ExpectAnswerFrom(Player* player, const EchoBackend& server);

  RedisServer redis_;
  EchoBackend lobby_{"lobby"};
  EchoBackend arena_{"arena"};
  IceBackend plaza_{{"plaza"}};
  // Where players of NetherNet ask, over TCP.
  const SocketAddress signaling_ =
      SocketAddress::Ipv4Loopback(udpgate::test::FreeTcpPort());
  GateProcess gate_;
  Player ann_{"Ann", LoopbackPeer()};
  Player ben_{"Ben", LoopbackPeer()};
  Player cid_{"Cid", LoopbackPeer()};
  int step_ = 0;
  int failures_ = 0;
};

GateProcessOptions Demo::GateOptions(const RedisServer& redis,
                                     const SocketAddress& signaling) {
  GateProcessOptions options;
  options.environment = {{"REDIS_ADDR", redis.tcp_address()},
                         {"NETHERNET_ADDR", signaling.ToString()},
                         {"SESSION_IDLE_TIMEOUT_SECS",
                          absl::StrCat(absl::ToInt64Seconds(kIdleTimeout))}};
  return options;
}

void Demo::Step(absl::string_view title) {
  std::printf("\n%d. %s\n", ++step_, std::string(title).c_str());
  std::fflush(stdout);
}

void Demo::Say(absl::string_view text) const {
  std::printf("   %s\n", std::string(text).c_str());
  std::fflush(stdout);
}

void Demo::Check(bool seen, absl::string_view promise) {
  Say(absl::StrCat(seen ? "ok      " : "FAILED  ",
                   absl::StripTrailingAsciiWhitespace(promise)));
  if (!seen) ++failures_;
}

void Demo::SetKey(const EchoBackend& server) {
  SetKey(server.name(), server.address());
}

void Demo::SetKey(const std::string& name, const SocketAddress& address) {
  Say(absl::StrCat("$ redis-cli SET ", kKey, " ", address.ToString(), "    (",
                   name, ")"));
  if (!redis_.Command({"SET", kKey, address.ToString()}).ok()) {
    Check(false, "Redis takes the key");
  }
}

void Demo::Publish(const std::string& payload) {
  Say(absl::StrCat("$ redis-cli PUBLISH ", kChannel, " ", payload));
  const absl::StatusOr<std::string> receivers =
      redis_.Command({"PUBLISH", kChannel, payload});
  if (!receivers.ok() || *receivers != "1") {
    Check(false, "the gateway receives it");
  }
}

void Demo::ExpectAnswerFrom(Player* player, const EchoBackend& server) {
  const absl::StatusOr<std::string> answer =
      player->peer.Ask(gate_.address(), "hello");
  Check(answer.ok() && *answer == server.name() + ":hello",
        absl::StrCat(player->name, " says hello; the answer: ",
                     answer.ok() ? *answer : answer.status().ToString()));
}

bool Demo::StartAll() {
  Step("A private Redis, two game servers and the gateway start");
  const absl::Status redis = redis_.Start();
  Check(redis.ok(), absl::StrCat("redis-server on ", redis_.tcp_address(), " ",
                                 redis.message()));
  if (!redis.ok()) return false;
  for (const EchoBackend* server : {&lobby_, &arena_}) {
    Say(absl::StrCat("game server ", server->name(), " on ",
                     server->address().ToString()));
  }
  const absl::Status gate = gate_.Start();
  Check(gate.ok(), absl::StrCat("udp-gate on ", gate_.address().ToString(), " ",
                                gate.message()));
  if (!gate.ok()) return false;
  const bool subscribed = AwaitTrue([&] {
    const absl::StatusOr<std::string> count =
        redis_.Command({"PUBSUB", "NUMSUB", kChannel});
    return count.ok() && *count == absl::StrCat(kChannel, "\n1");
  });
  Check(subscribed, "the gateway is subscribed to disconnects");
  return subscribed;
}

void Demo::AssignBackends() {
  Step("A new player gets the backend that the key names at that moment");
  SetKey(lobby_);
  ExpectAnswerFrom(&ann_, lobby_);
  ExpectAnswerFrom(&ben_, lobby_);
}

void Demo::ChangeTheKey() {
  Step("A changed key affects new players only");
  SetKey(arena_);
  ExpectAnswerFrom(&cid_, arena_);
  ExpectAnswerFrom(&ann_, lobby_);
  ExpectAnswerFrom(&ben_, lobby_);
}

void Demo::DisconnectByAddress() {
  Step("A disconnect by the player's address");
  Publish(ann_.peer.address().ToString());
  Check(AwaitServedBy(&ann_.peer, gate_.address(), arena_.name()),
        "Ann's next datagrams create a new session, with arena");
  ExpectAnswerFrom(&ann_, arena_);
  ExpectAnswerFrom(&ben_, lobby_);
}

void Demo::DisconnectByPort() {
  Step("A disconnect by the gateway's own port, all that a backend sees");
  const uint16_t port = lobby_.sources().back().port();
  Say(absl::StrCat("lobby knows Ben as port ", port, " of the gateway"));
  Publish(absl::StrCat(port));
  Check(AwaitServedBy(&ben_.peer, gate_.address(), arena_.name()),
        "Ben's next datagrams create a new session, with arena");
  ExpectAnswerFrom(&ben_, arena_);
}

void Demo::EndAnIdleSession() {
  Step("The session of a silent player ends; that of an active one stays");
  SetKey(lobby_);
  const absl::Time begin = absl::Now();
  // The session ends after 1.0 to 1.25 times the time-out.
  const absl::Time end = begin + 1.6 * kIdleTimeout;
  Say(absl::StrCat("the idle time-out is ", absl::FormatDuration(kIdleTimeout),
                   "; Cid is silent, Ann and Ben play on..."));
  int answers = 0;
  int datagrams = 0;
  while (absl::Now() < end) {
    for (Player* player : {&ann_, &ben_}) {
      const absl::StatusOr<std::string> answer =
          player->peer.Ask(gate_.address(), "move");
      ++datagrams;
      if (answer.ok() && *answer == "arena:move") ++answers;
    }
    // Waits on purpose: nothing is sent to Cid.
    if (cid_.peer.Receive(kIdleTimeout / 10).ok()) {
      Check(false, "nothing comes for Cid");
    }
  }
  Check(answers == datagrams,
        absl::StrCat("arena answered ", answers, " of ", datagrams, " moves"));
  ExpectAnswerFrom(&cid_, lobby_);
  ExpectAnswerFrom(&ann_, arena_);
}

void Demo::JoinByNetherNet() {
  Step("A current Bedrock client joins by NetherNet, beside the old ones");
  SetKey("plaza", plaza_.address());
  Say(absl::StrCat("$ curl http://", signaling_.ToString(), "/v1/join"));
  const absl::StatusOr<udpgate::test::HttpReply> status =
      udpgate::test::HttpGet(signaling_, "/v1/join");
  Check(status.ok() && status->status == 200,
        status.ok() ? absl::StrCat("the response is plaza's: ", status->body)
                    : status.status().ToString());
  IcePlayer dan;
  Say(absl::StrCat("Dan offers a connection: POST http://",
                   signaling_.ToString(), "/v1/join/4611686018427387904"));
  const absl::Status offered = dan.Offer(signaling_);
  const bool names_gateway = offered.ok() &&
                             dan.answer().candidates.size() == 1 &&
                             dan.answer().candidates[0] == gate_.address();
  Check(names_gateway,
        offered.ok() ? absl::StrCat("plaza's answer names the gateway's UDP "
                                    "address, ",
                                    gate_.address().ToString())
                     : offered.ToString());
  if (!offered.ok()) return;
  Check(dan.StartMedia().ok() && dan.agent().AwaitConnected(),
        "ICE finds the way through the gateway");
  SetKey(lobby_);
  Check(dan.Ask("plaza").ok(), "Dan says hello; plaza answers");
  ExpectAnswerFrom(&ann_, arena_);
}

void Demo::Stop() {
  Step("SIGTERM ends the gateway");
  const absl::StatusOr<ExitResult> end = gate_.Terminate();
  Check(end.ok() && end->status == 0 && end->duration < absl::Seconds(1),
        end.ok() ? absl::StrCat("status ", end->status, " after ",
                                absl::ToInt64Milliseconds(end->duration), " ms")
                 : end.status().ToString());
}

bool Demo::Run() {
  const absl::Time begin = absl::Now();
  if (StartAll()) {
    AssignBackends();
    ChangeTheKey();
    DisconnectByAddress();
    DisconnectByPort();
    EndAnIdleSession();
    JoinByNetherNet();
    Stop();
  }
  if (failures_ == 0) {
    std::printf("\nAll checks passed, in %.1f seconds.\n",
                absl::ToDoubleSeconds(absl::Now() - begin));
    return true;
  }
  std::printf("\n%d of the promises above FAILED.\n", failures_);
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  absl::string_view gate_path;
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (absl::ConsumePrefix(&argument, "--gate=")) gate_path = argument;
  }
  if (gate_path.empty()) {
    std::fprintf(stderr, "usage: demo --gate=PATH_OF_UDP_GATE\n");
    return 2;
  }
  return Demo(std::string(gate_path)).Run() ? 0 : 1;
}
