// SESSION_FORWARD: a client whose datagrams arrive at another gateway keeps its
// session, as it must if it does not survive that its backend sees a new
// address (RakNet).
#include <signal.h>

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/http_client.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace test {
namespace {

using ::nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kPrefix[] = "udp_gate:session:";
constexpr char kSecret[] = "one-secret-that-all-gateways-of-the-fleet-share\n";
constexpr uint16_t kForwardPort = 7000;

using Environment = std::map<std::string, std::string>;

// A gateway with an id and addresses of its own, as on a host of its own.
class FleetGateway {
 public:
  FleetGateway(std::string id, const std::string& ip, Environment environment)
      : id_(std::move(id)),
        forward_address_(*SocketAddress::FromIpAndPort(ip, kForwardPort)),
        environment_(std::move(environment)) {
    environment_.insert({"GATEWAY_ID", id_});
    environment_.insert({"PROXY_ADDR", absl::StrCat(ip, ":19132")});
    environment_.insert({"ADMIN_ADDR", "127.0.0.1:0"});
    environment_.insert({"SESSION_STORE", "redis"});
    environment_.insert({"SESSION_FORWARD", "on"});
    environment_.insert({"SESSION_FORWARD_ADDR", forward_address_.ToString()});
  }
  void Start() {
    GateProcessOptions options;
    options.environment = environment_;
    process_ = std::make_unique<GateProcess>(GateBinary(), std::move(options));
    const absl::Status started = process_->Start();
    ASSERT_TRUE(started.ok()) << started << process_->log();
  }
  void Kill() {
    process_->Signal(SIGKILL);
    ASSERT_TRUE(process_->AwaitExit().ok());
  }
  // True if it has not run, or has ended as it must.
  void Stop() {
    if (process_ == nullptr || !process_->running()) return;
    const absl::StatusOr<ExitResult> end = process_->Terminate();
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_TRUE(end->exited_with(0)) << process_->log();
    EXPECT_LE(end->duration, kStopTimeMax);
  }

  const std::string& id() const { return id_; }
  const SocketAddress& address() const { return process_->address(); }
  const SocketAddress& forward_address() const { return forward_address_; }
  std::string log() const { return process_->log(); }
  GateProcess& process() { return *process_; }

  json Status() const {
    const HttpReply reply = HttpGet(process_->AdminAddress(), "/api/v1/status")
                                .value_or(HttpReply());
    return json::parse(reply.body, nullptr, /*allow_exceptions=*/false);
  }
  int64_t Stat(const std::string& name) const {
    const json status = Status();
    return status.is_object() ? status["stats"].value(name, int64_t{-1}) : -1;
  }
  int64_t Dropped(const std::string& reason) const {
    const json status = Status();
    return status.is_object()
               ? status["datagrams_dropped"].value(reason, int64_t{-1})
               : -1;
  }
  int64_t DroppedInAll() const {
    const json status = Status();
    if (!status.is_object()) return -1;
    int64_t sum = 0;
    for (const auto& reason : status["datagrams_dropped"].items()) {
      sum += reason.value().get<int64_t>();
    }
    return sum;
  }

 private:
  const std::string id_;
  const SocketAddress forward_address_;
  Environment environment_;
  std::unique_ptr<GateProcess> process_;
};

class ForwardTest : public GateTest {
 protected:
  void SetUp() override {
    GateTest::SetUp();
    SetBackend(lobby_);
    std::random_device random;
    net_ = absl::StrCat("127.", 1 + random() % 250, ".", random() % 256, ".");
  }
  void TearDown() override {
    for (const auto& gateway : gateways_) gateway->Stop();
    GateTest::TearDown();
  }

  FleetGateway& Launch(const std::string& id, Environment environment = {}) {
    environment.merge(RedisEnvironment());
    environment.insert({"SESSION_FORWARD_SECRET_FILE", secret_file_});
    gateways_.push_back(std::make_unique<FleetGateway>(
        id, absl::StrCat(net_, gateways_.size() + 1), std::move(environment)));
    gateways_.back()->Start();
    return *gateways_.back();
  }

  static std::string RecordOf(const LoopbackPeer& player) {
    return redis()
        .Command({"GET", absl::StrCat(kPrefix, player.address().ToString())})
        .value_or("");
  }
  static bool IsOwner(const FleetGateway& gateway, const LoopbackPeer& player) {
    return absl::StrContains(RecordOf(player),
                             absl::StrCat(" ", gateway.id(), " "));
  }
  // Plays at the gateway until the store knows that it has the session.
  void Join(const FleetGateway& gateway) {
    ASSERT_TRUE(AwaitTrue([&] {
      Play(gateway, 1);
      return HasFatalFailure() || IsOwner(gateway, player_);
    })) << gateway.log();
  }
  // Asks, one by one, and expects each answer from where it has asked.
  void Play(const FleetGateway& gateway, int count) {
    for (int i = 0; i < count; ++i) {
      const std::string payload = absl::StrCat("datagram ", ++sent_);
      ASSERT_TRUE(player_.Send(gateway.address(), payload).ok());
      const absl::StatusOr<Datagram> reply = player_.Receive();
      ASSERT_TRUE(reply.ok()) << reply.status() << gateway.log();
      ASSERT_EQ(reply->payload, absl::StrCat("lobby:", payload));
      ASSERT_EQ(reply->from, gateway.address());
    }
  }
  // Sends all at once, and expects all answers in order.
  void Burst(const FleetGateway& gateway, int count) {
    const int first = sent_ + 1;
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(
          player_.Send(gateway.address(), absl::StrCat("datagram ", ++sent_))
              .ok());
    }
    for (int i = first; i <= sent_; ++i) {
      const absl::StatusOr<Datagram> reply = player_.Receive();
      ASSERT_TRUE(reply.ok()) << "the answer to " << i << gateway.log();
      ASSERT_EQ(reply->payload, absl::StrCat("lobby:datagram ", i));
      ASSERT_EQ(reply->from, gateway.address());
    }
  }
  // Unasked datagrams of the backend.
  void Push(const FleetGateway& gateway, int count) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(
          lobby_.Send(lobby_.sources().back(), absl::StrCat("push ", i)).ok());
    }
    for (int i = 0; i < count; ++i) {
      const absl::StatusOr<Datagram> push = player_.Receive();
      ASSERT_TRUE(push.ok()) << push.status() << gateway.log();
      ASSERT_EQ(push->payload, absl::StrCat("push ", i));
      ASSERT_EQ(push->from, gateway.address());
    }
  }
  // Sends to the gateway until an answer comes from it; returns how long that
  // took.
  absl::Duration PlayUntilAnswered(const FleetGateway& gateway) {
    const absl::Time begin = absl::Now();
    EXPECT_TRUE(AwaitTrue([&] {
      EXPECT_TRUE(
          player_.Send(gateway.address(), absl::StrCat("datagram ", ++sent_))
              .ok());
      const absl::StatusOr<Datagram> reply =
          player_.Receive(absl::Milliseconds(20));
      return reply.ok() && reply->from == gateway.address() &&
             absl::StartsWith(reply->payload, "lobby:");
    })) << gateway.log();
    const absl::Duration time = absl::Now() - begin;
    while (player_.Receive(absl::Milliseconds(100)).ok()) {
    }
    return time;
  }
  // All that was sent has reached the backend once, in order, from one address.
  void ExpectNothingIsLost() {
    EXPECT_TRUE(lobby_.AwaitReceived(static_cast<size_t>(sent_)));
    const std::vector<Datagram> received = lobby_.received();
    ASSERT_EQ(received.size(), static_cast<size_t>(sent_));
    for (int i = 0; i < sent_; ++i) {
      ASSERT_EQ(received[static_cast<size_t>(i)].payload,
                absl::StrCat("datagram ", i + 1));
    }
    EXPECT_EQ(lobby_.sources().size(), 1u);
    for (const auto& gateway : gateways_) {
      EXPECT_EQ(gateway->DroppedInAll(), 0) << gateway->id();
    }
  }

  TemporaryDirectory files_;
  const std::string secret_file_ = files_.WriteFile("secret", kSecret);
  EchoBackend lobby_{"lobby"};
  LoopbackPeer player_;
  int sent_ = 0;
  std::string net_;
  std::vector<std::unique_ptr<FleetGateway>> gateways_;
};

TEST_F(ForwardTest, ASessionSurvivesThatItsClientComesByOtherGateways) {
  const FleetGateway& a = Launch("a");
  const FleetGateway& b = Launch("b");
  const FleetGateway& c = Launch("c");
  EXPECT_THAT(a.log(),
              HasSubstr(absl::StrCat("forwarding between gateways: at ",
                                     a.forward_address().ToString())));
  Join(a);
  const int at_a = sent_;
  for (int round = 0; round < 2; ++round) {
    for (const FleetGateway* gateway : {&b, &c, &a}) {
      // At first while the store is asked, when no more than this may wait.
      Burst(*gateway, round == 0 ? 12 : 30);
      Play(*gateway, 50);
      Push(*gateway, 20);
    }
  }
  ExpectNothingIsLost();
  EXPECT_TRUE(IsOwner(a, player_));
  EXPECT_EQ(a.Stat("sessions_active"), 1);
  for (const FleetGateway* gateway : {&b, &c}) {
    EXPECT_EQ(gateway->Stat("sessions_active"), 0);
    EXPECT_EQ(gateway->Stat("hop_clients"), 1);
    EXPECT_EQ(gateway->Stat("hop_client_datagrams_sent"), 142);
    EXPECT_EQ(gateway->Stat("hop_replies_received"), 182);
    EXPECT_EQ(gateway->Status()["session_store"]["newcomers_forwarded"], 1);
  }
  EXPECT_EQ(a.Stat("hop_client_datagrams_received"), 284);
  EXPECT_EQ(a.Stat("client_datagrams_received"), at_a + 426);
}

TEST_F(ForwardTest, AKilledOwnersSessionIsAdopted) {
  FleetGateway& a = Launch("a");
  const FleetGateway& b = Launch("b");
  Join(a);
  Play(b, 10);
  a.Kill();
  // The lease is 3 seconds, and b looks twice a second.
  EXPECT_LE(PlayUntilAnswered(b), kSlowness * absl::Seconds(5));
  EXPECT_TRUE(AwaitTrue([&] { return IsOwner(b, player_); }));
  Play(b, 10);
  EXPECT_EQ(lobby_.sources().size(), 1u) << "b has the port of a, too";
  EXPECT_EQ(b.Stat("sessions_active"), 1);
  EXPECT_EQ(b.Stat("hop_clients"), 0);
}

TEST_F(ForwardTest, AnOwnerThatStartsAgainGoesOn) {
  FleetGateway& a = Launch("a");
  const FleetGateway& b = Launch("b");
  Join(a);
  Play(b, 10);
  a.Kill();
  a.Start();
  PlayUntilAnswered(b);
  Play(b, 10);
  Play(a, 10);
  EXPECT_EQ(lobby_.sources().size(), 1u);
  EXPECT_TRUE(IsOwner(a, player_));
  EXPECT_EQ(b.Stat("sessions_active"), 0);
}

TEST_F(ForwardTest, WithAnotherSecretTheClientGetsItsBackendFromHere) {
  const FleetGateway& a = Launch("a");
  FleetGateway& b =
      Launch("b", {{"SESSION_FORWARD_SECRET_FILE",
                    files_.WriteFile("other", std::string(40, 's') + "\n")}});
  Join(a);
  // New clients go elsewhere by now.
  const EchoBackend arena("arena");
  SetBackend(arena);
  EXPECT_LE(PlayUntilAnswered(b), kSlowness * absl::Seconds(6));
  EXPECT_EQ(lobby_.sources().size(), 2u);
  EXPECT_EQ(arena.received_count(), 0u);
  Play(b, 10);
  EXPECT_GE(a.Dropped("hop_invalid"), 3);
  EXPECT_THAT(a.log(),
              HasSubstr(absl::StrCat(
                  "what comes from ", b.forward_address().ToString(),
                  " is sealed with another secret than this gateway's")));
  EXPECT_EQ(b.Stat("hop_silences"), 1);
  EXPECT_TRUE(b.process().AwaitLog(
      absl::StrCat(a.forward_address().ToString(), " does not answer")));
  for (const FleetGateway* gateway :
       {&a, static_cast<const FleetGateway*>(&b)}) {
    EXPECT_THAT(gateway->log(), Not(HasSubstr("sssss")));
    EXPECT_THAT(gateway->log(), Not(HasSubstr("one-secret")));
  }
}

TEST_F(ForwardTest, ForgedDatagramsAreDroppedAndCounted) {
  const FleetGateway& a = Launch("a");
  const FleetGateway& b = Launch("b");
  Join(a);
  Play(b, 10);
  const LoopbackPeer stranger;
  // As an envelope begins, and garbage.
  const std::string begin("\x11\x00\x00\x00", 4);
  std::string now(4, '\0');
  const int64_t seconds = absl::ToUnixSeconds(absl::Now());
  for (size_t i = 0; i < now.size(); ++i) {
    now[i] = static_cast<char>(seconds >> (24 - 8 * i) & 0xff);
  }
  for (const std::string& forged :
       {std::string(), std::string("hello"), std::string(1400, '\x11'),
        begin + now + std::string(100, 'x')}) {
    ASSERT_TRUE(stranger.Send(a.forward_address(), forged).ok());
  }
  EXPECT_TRUE(AwaitTrue([&] {
    return a.Dropped("hop_invalid") + a.Dropped("hop_replayed") == 4;
  })) << a.Status();
  EXPECT_GE(a.Dropped("hop_invalid"), 3);
  Play(b, 10);
  EXPECT_EQ(lobby_.received_count(), static_cast<size_t>(sent_));
  EXPECT_EQ(lobby_.sources().size(), 1u);
}

TEST_F(ForwardTest, IfOneDoesNotForwardTheClientGetsItsBackendFromHere) {
  const FleetGateway& a = Launch("a");
  const FleetGateway& b = Launch("b", {{"SESSION_FORWARD", "off"}});
  Join(a);
  const EchoBackend arena("arena");
  SetBackend(arena);
  Play(b, 10);
  EXPECT_EQ(lobby_.sources().size(), 2u);
  EXPECT_EQ(b.Stat("hop_client_datagrams_sent"), 0);
}

TEST_F(ForwardTest, ADisconnectEventEndsTheSessionForEverybody) {
  const FleetGateway& a = Launch("a");
  const FleetGateway& b = Launch("b");
  Join(a);
  Play(b, 10);
  EchoBackend arena("arena");
  SetBackend(arena);
  EXPECT_TRUE(AwaitTrue([this] {
    return redis()
               .Command({"PUBLISH", kDisconnectChannel,
                         player_.address().ToString()})
               .value_or("") == "2";
  }));
  EXPECT_TRUE(AwaitTrue([&] { return a.Stat("sessions_active") == 0; }));
  EXPECT_TRUE(AwaitServedBy(&player_, b.address(), "arena"));
  EXPECT_EQ(b.Stat("sessions_active"), 1);
}

TEST_F(ForwardTest, WrongSettingsAreSaid) {
  FleetGateway& a = Launch("a");
  const auto problem = [&](Environment changes) {
    GateProcessOptions options;
    options.environment = std::move(changes);
    options.environment.merge(RedisEnvironment());
    options.environment.insert({"PROXY_ADDR", absl::StrCat(net_, "9:19132")});
    options.environment.insert({"SESSION_STORE", "redis"});
    options.environment.insert({"SESSION_FORWARD", "on"});
    GateProcess gate(GateBinary(), std::move(options));
    EXPECT_TRUE(gate.Launch().ok());
    const absl::StatusOr<ExitResult> end = gate.AwaitExit();
    EXPECT_TRUE(end.ok() && !end->exited_with(0)) << gate.log();
    return gate.log();
  };
  const std::string own_address = absl::StrCat(net_, "9:7000");
  EXPECT_THAT(problem({}),
              HasSubstr("SESSION_FORWARD=on needs SESSION_FORWARD_ADDR"));
  EXPECT_THAT(
      problem({{"SESSION_FORWARD_ADDR", own_address}}),
      HasSubstr("SESSION_FORWARD=on needs SESSION_FORWARD_SECRET_FILE"));
  EXPECT_THAT(problem({{"SESSION_FORWARD_ADDR", own_address},
                       {"SESSION_FORWARD_SECRET_FILE",
                        files_.WriteFile("short", "tooshort")}}),
              AllOf(HasSubstr("SESSION_FORWARD_SECRET_FILE"),
                    Not(HasSubstr("tooshort"))));
  EXPECT_THAT(problem({{"SESSION_FORWARD_ADDR", a.forward_address().ToString()},
                       {"SESSION_FORWARD_SECRET_FILE", secret_file_}}),
              HasSubstr(absl::StrCat("SESSION_FORWARD_ADDR: bind ",
                                     a.forward_address().ToString(),
                                     ": Address already in use")));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
