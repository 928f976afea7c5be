// One system call after the other fails, with one errno after the other, while
// two clients play and others come and go; whatever fails, those two play on.
#include <errno.h>

#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/failing_sys_calls.h"
#include "testing/loopback_peer.h"
#include "testing/simulated_clock.h"
#include "udpgate/internal/net/error_queue.h"
#include "udpgate/internal/net/listen_socket.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/internal/shard/reader.h"
#include "udpgate/internal/shard/worker.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace internal {
namespace {

using test::Call;
using test::LoopbackPeer;

constexpr int kErrors[] = {
    EADDRNOTAVAIL, EADDRINUSE,   EAGAIN,      EMFILE, ENFILE, ENOBUFS, ENOMEM,
    ECONNREFUSED,  EHOSTUNREACH, ENETUNREACH, EINVAL, EPERM,  EMSGSIZE};

// What the data path calls once the gate has started.
struct PathCall {
  Call call;
  const char* name;
};
constexpr PathCall kPathCalls[] = {
    {Call::kSocket, "socket"},         {Call::kBind, "bind"},
    {Call::kConnect, "connect"},       {Call::kGetSockName, "getsockname"},
    {Call::kSetSockOpt, "setsockopt"}, {Call::kGetSockOpt, "getsockopt"},
    {Call::kClose, "close"},           {Call::kRecvMmsg, "recvmmsg"},
    {Call::kSendMmsg, "sendmmsg"},     {Call::kEpollControl, "epoll_ctl"},
    {Call::kEpollWait, "epoll_wait"},  {Call::kEventFdAdd, "eventfd write"},
};

// A client and what it is still owed.
struct Client {
  LoopbackPeer peer;
  std::set<std::string> unanswered;
};

// A gate of one shard with real sockets, and peers around it.
class Gate {
 public:
  Gate() {
    ProxyOptions options;
    options.listen_address = SocketAddress::Ipv4Loopback(0);
    options.log_sink = nullptr;
    context_ = std::make_unique<GateContext>(options, &clock_, &sys_calls_,
                                             ClientHash(1), LocalPortRange(),
                                             /*sessions_max=*/100);
    context_->resolver =
        std::make_shared<StaticBackendResolver>(backend_.address());
    context_->listeners =
        *OpenListenSockets(&sys_calls_, options, context_->hash);
    worker_ = *Worker::Create(context_.get(), 0);
    reader_ = *Reader::Create(context_.get(), 0, {worker_.get()});
  }

  // Long enough for the two to be confirmed.
  void LetTwoPlay() {
    for (int i = 0; i < 5; ++i) {
      for (Client& player : players_) Send(&player);
      Settle();
      clock_.Advance(absl::Milliseconds(400));
    }
    ASSERT_EQ(Stats().sessions_confirmed, 2u);
  }

  // What the faults fall into: the two play, one comes and stays, one comes
  // and is disconnected.
  void Play() {
    for (int round = 0; round < 3; ++round) {
      for (Client& player : players_) {
        Send(&player);
        Send(&player);
      }
      Settle();
      others_.push_back(std::make_unique<Client>());
      Send(others_.back().get());
      Settle();
    }
    Disconnect(*others_.back());
    Settle();
  }

  void Send(Client* client) {
    const std::string payload = absl::StrCat("datagram ", ++sent_count_);
    client->unanswered.insert(payload);
    ASSERT_TRUE(
        client->peer.Send(context_->listeners[0].address, payload).ok());
  }

  void Disconnect(const Client& client) {
    ShardMessage message;
    message.kind = ShardMessage::Kind::kDisconnectClient;
    message.client = client.peer.address();
    ASSERT_TRUE(worker_->inbox()->PostDisconnect(std::move(message)));
  }

  // Runs iterations until nothing has moved for longer than any one fault can
  // hide it.
  void Settle() {
    int quiet_count = 0;
    while (quiet_count < 3) {
      ++iteration_count_;
      reader_->ReadBatch();
      worker_->PollOnce(0);
      const bool has_moved = MoveAtPeers();
      quiet_count = has_moved ? 0 : quiet_count + 1;
    }
  }

  ProxyStats Stats() const {
    ProxyStats stats;
    reader_->counters().AddTo(&stats);
    worker_->counters().AddTo(&stats);
    stats.datagrams_held += worker_->inbox()->datagrams_waiting();
    return stats;
  }

  void ExpectAccounted() const {
    const ProxyStats stats = Stats();
    EXPECT_EQ(
        stats.client_datagrams_received + stats.backend_datagrams_received,
        stats.client_datagrams_forwarded + stats.backend_datagrams_forwarded +
            stats.dropped_total() + stats.datagrams_held);
    EXPECT_EQ(
        stats.sessions_created + stats.sessions_restored,
        stats.sessions_active + stats.sessions_pending + stats.ended_total());
    EXPECT_EQ(static_cast<uint64_t>(context_->admission.session_count()),
              stats.sessions_active + stats.sessions_pending);
    EXPECT_EQ(static_cast<uint64_t>(context_->relay_ports.in_use()),
              stats.sessions_active);
    EXPECT_EQ(stats.datagrams_held, 0u);
    EXPECT_EQ(stats.sessions_pending, 0u);
  }

  // What nobody got an answer to.
  uint64_t UnansweredByAll() const {
    uint64_t count = UnansweredByPlayers();
    for (const auto& other : others_) count += other->unanswered.size();
    return count;
  }
  uint64_t UnansweredByPlayers() const {
    return players_[0].unanswered.size() + players_[1].unanswered.size();
  }

  // All is well again: the players and a newcomer are served.
  void ExpectServesAll() {
    for (Client& player : players_) player.unanswered.clear();
    for (const auto& other : others_) other->unanswered.clear();
    others_.push_back(std::make_unique<Client>());
    Send(others_.back().get());
    for (Client& player : players_) Send(&player);
    Settle();
    EXPECT_EQ(UnansweredByAll(), 0u);
    EXPECT_EQ(Stats().sessions_pending, 0u);
  }

  int64_t AllCalls() const {
    int64_t count = 0;
    for (const PathCall& path : kPathCalls)
      count += sys_calls_.calls(path.call);
    return count;
  }

  test::FailingSysCalls& sys_calls() { return sys_calls_; }
  int64_t iteration_count() const { return iteration_count_; }
  void AdvanceClock(absl::Duration duration) { clock_.Advance(duration); }

 private:
  // Backend and clients take what is there. The backend answers.
  bool MoveAtPeers() {
    bool has_moved = false;
    for (auto datagram = backend_.TryReceive(); datagram.ok();
         datagram = backend_.TryReceive()) {
      EXPECT_TRUE(backend_.Send(datagram->from, datagram->payload).ok());
      has_moved = true;
    }
    for (Client& player : players_) has_moved |= TakeReplies(&player);
    for (const auto& other : others_) has_moved |= TakeReplies(other.get());
    return has_moved;
  }

  static bool TakeReplies(Client* client) {
    bool has_moved = false;
    for (auto datagram = client->peer.TryReceive(); datagram.ok();
         datagram = client->peer.TryReceive()) {
      EXPECT_EQ(client->unanswered.erase(datagram->payload), 1u)
          << datagram->payload << " is a stranger's, or came twice";
      has_moved = true;
    }
    return has_moved;
  }

  test::SimulatedClock clock_;
  test::FailingSysCalls sys_calls_;
  LoopbackPeer backend_;
  std::unique_ptr<GateContext> context_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<Reader> reader_;
  Client players_[2];
  std::vector<std::unique_ptr<Client>> others_;
  int64_t sent_count_ = 0;
  int64_t iteration_count_ = 0;
};

// How many calls of each kind `Play` makes where nothing fails.
int64_t CallsOfPlay(Call call) {
  Gate gate;
  gate.LetTwoPlay();
  gate.sys_calls().Reset();
  gate.Play();
  EXPECT_EQ(gate.UnansweredByAll(), 0u);
  return gate.sys_calls().calls(call);
}

class WorkerFaultTest : public ::testing::TestWithParam<PathCall> {};

// The first, the second and any other call fails, once.
TEST_P(WorkerFaultTest, OneFailureCostsOneDatagramAtMost) {
  const PathCall& path = GetParam();
  const int64_t call_count = CallsOfPlay(path.call);
  ASSERT_GE(call_count, 1) << "not on the path";
  const auto seed =
      static_cast<uint64_t>(::testing::UnitTest::GetInstance()->random_seed());
  std::mt19937_64 random(seed);
  for (const int error : kErrors) {
    const int64_t any = 1 + static_cast<int64_t>(random() % call_count);
    for (const int64_t n : {int64_t{1}, int64_t{2}, any}) {
      if (n > call_count) continue;
      SCOPED_TRACE(absl::StrCat(path.name, " number ", n, " of ", call_count,
                                ": ", ErrnoToText(error), "; seed ", seed));
      Gate gate;
      gate.LetTwoPlay();
      const uint64_t dropped_before = gate.Stats().dropped_total();
      gate.sys_calls().Reset();
      gate.sys_calls().FailNth(path.call, n, error);
      gate.Play();
      // A port that another program has costs a bind and a close more, and
      // may have when the calls were counted.
      const bool has_come = gate.sys_calls().calls(path.call) >= n;
      EXPECT_EQ(gate.sys_calls().failures(path.call), has_come ? 1 : 0);
      EXPECT_TRUE(has_come || n > 1);
      EXPECT_EQ(gate.Stats().sessions_confirmed, 2u) << "of those who play";
      // What was lost is what was counted. Only a send can lose what a player
      // sent, and only the very datagram.
      const uint64_t dropped = gate.Stats().dropped_total() - dropped_before;
      EXPECT_EQ(gate.UnansweredByAll(), dropped);
      EXPECT_LE(dropped, 1u);
      if (path.call != Call::kSendMmsg) {
        EXPECT_EQ(gate.UnansweredByPlayers(), 0u);
      }
      gate.ExpectAccounted();
      gate.ExpectServesAll();
    }
  }
}

// A call that always fails, for a while: no iteration does more than a few
// times what it does otherwise, and everything recovers.
TEST_P(WorkerFaultTest, AFailureThatLastsIsSurvivedWithoutSpinning) {
  const PathCall& path = GetParam();
  // An attempt to bind each of 64 ports for each of three newcomers, and what
  // goes with it, is the most that one iteration can be made to do.
  constexpr int64_t kCallsPerIterationMax = 3 * 64 * 4;
  for (const int error : kErrors) {
    SCOPED_TRACE(absl::StrCat(path.name, ": ", ErrnoToText(error)));
    Gate gate;
    gate.LetTwoPlay();
    gate.sys_calls().Reset();
    gate.sys_calls().FailAll(path.call, error);
    for (int i = 0; i < 3; ++i) {
      const int64_t iterations_before = gate.iteration_count();
      const int64_t calls_before = gate.AllCalls();
      gate.Play();
      EXPECT_LE(
          gate.AllCalls() - calls_before,
          kCallsPerIterationMax * (gate.iteration_count() - iterations_before));
    }
    EXPECT_GT(gate.sys_calls().failures(path.call), 0);
    gate.sys_calls().Reset();
    // What waited in the kernel comes now.
    gate.Settle();
    gate.ExpectAccounted();
    // Long enough for ports that looked busy to be tried again.
    gate.AdvanceClock(absl::Seconds(5));
    gate.ExpectServesAll();
    gate.ExpectAccounted();
    // Only refusals in a row, or a socket that cannot be opened, may have cost
    // a player its session.
    if (!IsUnreachable(error)) {
      EXPECT_EQ(gate.Stats().ended(EndReason::kBackendRefused), 0u);
      EXPECT_EQ(gate.Stats().sessions_confirmed, 2u);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Calls, WorkerFaultTest,
                         ::testing::ValuesIn(kPathCalls),
                         [](const ::testing::TestParamInfo<PathCall>& test) {
                           std::string name = test.param.name;
                           for (char& c : name) {
                             if (c == ' ') c = '_';
                           }
                           return name;
                         });

}  // namespace
}  // namespace internal
}  // namespace udpgate
