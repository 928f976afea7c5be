// The turn of a shard, step by step: real sockets on loopback, where a
// datagram has arrived when its send returns, a simulated clock, and system
// calls that fail on demand. Nothing here waits.
#include "udpgate/internal/worker.h"

#include <errno.h>
#include <netinet/in.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/failing_sys_calls.h"
#include "testing/fake_flow_offload.h"
#include "testing/loopback_peer.h"
#include "testing/mock_session_observer.h"
#include "testing/simulated_clock.h"
#include "udpgate/internal/reader.h"

namespace udpgate {
namespace internal {
namespace {

using test::Call;
using test::LoopbackPeer;
using ::testing::ElementsAre;

// Keeps the questions until the test answers them.
class HeldResolver : public BackendResolver {
 public:
  struct Question {
    SocketAddress client;
    std::string first_datagram;
    Callback done;
  };

  void Resolve(const ResolveRequest& request, Callback done) override {
    questions.push_back({request.client,
                         std::string(request.first_datagram.data(),
                                     request.first_datagram.size()),
                         std::move(done)});
    if (on_resolve) on_resolve();
  }

  std::vector<Question> questions;
  std::function<void()> on_resolve;
};

// Lets a test act between two system calls.
class HookedSysCalls : public test::FailingSysCalls {
 public:
  SysCallResult Connect(int fd, const sockaddr* address,
                        socklen_t size) override {
    if (before_connect) before_connect(fd);
    return FailingSysCalls::Connect(fd, address, size);
  }

  SysCallResult Close(int fd) override {
    if (before_close) before_close();
    return FailingSysCalls::Close(fd);
  }

  SysCallResult EpollWait(int epoll_fd, epoll_event* events, int events_max,
                          int64_t timeout_nanoseconds) override {
    last_wait = absl::Nanoseconds(timeout_nanoseconds);
    return FailingSysCalls::EpollWait(epoll_fd, events, events_max, 0);
  }

  SysCallResult RecvMmsg(int fd, mmsghdr* messages, unsigned int count,
                         int flags) override {
    const SysCallResult result =
        FailingSysCalls::RecvMmsg(fd, messages, count, flags);
    if (result.ok() && after_receive) after_receive(&messages[0].msg_hdr);
    return result;
  }

  // What the system's routes choose, in the place of what they really do.
  SysCallResult GetSockName(int fd, sockaddr_storage* address,
                            socklen_t* size) override {
    const SysCallResult result =
        FailingSysCalls::GetSockName(fd, address, size);
    if (result.ok() && route_source.is_valid()) {
      *size = route_source.ToSockaddr(AF_INET, address);
    }
    return result;
  }

  SocketAddress route_source;
  std::function<void(int fd)> before_connect;
  std::function<void()> before_close;
  absl::Duration last_wait;  // what EpollWait was allowed, which never waits
  std::function<void(msghdr* first)> after_receive;
};

class WorkerTest : public ::testing::Test {
 protected:
  // Sessions end by the idle time-out alone.
  static ProxyOptions WithoutUnconfirmedTimeout() {
    ProxyOptions options;
    options.limits.unconfirmed_timeout = absl::Hours(24);
    options.limits.backend_silent_timeout = absl::ZeroDuration();
    options.limits.client_silent_timeout = absl::ZeroDuration();
    return options;
  }

  void Start(ProxyOptions options = ProxyOptions()) {
    if (options.listen_address.port() != 0) {
      options.listen_address = SocketAddress::Ipv4Loopback(0);
    }
    options.log_sink = nullptr;
    const int64_t sessions_max =
        options.limits.max_sessions > 0 ? options.limits.max_sessions : 1000;
    context_ = std::make_unique<GateContext>(options, &clock_, &sys_calls_,
                                             ClientHash(1), local_ports_,
                                             sessions_max);
    context_->resolver = resolver_;
    context_->flow_offload = offload_;
    context_->session_events = std::make_unique<SessionEvents>(
        observer_, &clock_, options.session_events_max);
    auto listeners = OpenListenSockets(&sys_calls_, options, context_->hash);
    ASSERT_TRUE(listeners.ok()) << listeners.status();
    context_->listeners = *std::move(listeners);
    listen_address_ = context_->listeners.front().address;
    worker_ = *Worker::Create(context_.get(), 0);
    context_->inboxes = {worker_->inbox()};
    reader_ = *Reader::Create(context_.get(), 0, {worker_.get()});
    other_reader_ = *Reader::Create(context_.get(), 0, {worker_.get()});
    sys_calls_.Reset();
  }

  // Every datagram must be accounted for, after every test.
  void TearDown() override {
    if (worker_ == nullptr) return;
    const ProxyStats stats = Stats();
    EXPECT_EQ(
        stats.client_datagrams_received + stats.backend_datagrams_received,
        stats.client_datagrams_forwarded + stats.backend_datagrams_forwarded +
            stats.dropped_total() + stats.datagrams_held);
    EXPECT_EQ(
        stats.sessions_created,
        stats.sessions_active + stats.sessions_pending + stats.ended_total());
    EXPECT_EQ(static_cast<uint64_t>(context_->admission.session_count()),
              stats.sessions_active + stats.sessions_pending);
    EXPECT_EQ(static_cast<uint64_t>(context_->relay_ports.in_use()),
              stats.sessions_active);
    worker_->EndAllSessions();
    const ProxyStats end = Stats();
    EXPECT_EQ(end.sessions_created, end.ended_total());
    EXPECT_EQ(end.datagrams_held, 0u);
    EXPECT_EQ(context_->relay_ports.in_use(), 0);
  }

  ProxyStats Stats() const {
    ProxyStats stats;
    reader_->counters().AddTo(&stats);
    other_reader_->counters().AddTo(&stats);
    worker_->counters().AddTo(&stats);
    stats.datagrams_held += worker_->inbox()->datagrams_waiting();
    return stats;
  }

  void Send(const LoopbackPeer& client, absl::string_view payload) {
    ASSERT_TRUE(client.Send(listen_address_, payload).ok());
  }
  // The reader reads what has arrived; the shard is idle, so it handles it.
  void Read() { reader_->ReadBatch(); }
  void Turn() { worker_->PollOnce(0); }
  void SendAndRead(const LoopbackPeer& client, absl::string_view payload) {
    Send(client, payload);
    Read();
  }

  // Answers the oldest question.
  void Answer(absl::StatusOr<ResolveResult> result) {
    ASSERT_FALSE(resolver_->questions.empty());
    HeldResolver::Question question = std::move(resolver_->questions.front());
    resolver_->questions.erase(resolver_->questions.begin());
    question.done(std::move(result));
    Turn();
  }
  void AnswerWith(const SocketAddress& backend) {
    Answer(ResolveResult{backend, backend.ToString()});
  }
  // A session of `client` with `backend_`, and the gate's end of it.
  SocketAddress Connect(const LoopbackPeer& client) {
    SendAndRead(client, "hello");
    AnswerWith(backend_.address());
    absl::StatusOr<test::Datagram> first = backend_.TryReceive();
    EXPECT_TRUE(first.ok()) << first.status();
    return first.ok() ? first->from : SocketAddress();
  }

  // Has the client answer replies for over a second, as one that plays does.
  void Confirm(LoopbackPeer* client) {
    SendAndRead(*client, "hello");
    if (!resolver_->questions.empty()) AnswerWith(backend_.address());
    const auto hello = backend_.TryReceive();
    ASSERT_TRUE(hello.ok()) << hello.status();
    const uint64_t confirmed_before = Stats().sessions_confirmed;
    for (int i = 0; i < 4; ++i) {
      ASSERT_TRUE(backend_.Send(hello->from, "x").ok());
      Turn();
      clock_.Advance(absl::Milliseconds(400));
      SendAndRead(*client, "x");
    }
    EXPECT_EQ(Stats().sessions_confirmed, confirmed_before + 1);
    ReceiveAll(client);
    ReceiveAll(&backend_);
  }

  std::vector<std::string> ReceiveAll(LoopbackPeer* peer) {
    std::vector<std::string> payloads;
    for (auto datagram = peer->TryReceive(); datagram.ok();
         datagram = peer->TryReceive()) {
      payloads.push_back(datagram->payload);
    }
    return payloads;
  }

  void PostDisconnect(ShardMessage::Kind kind, const SocketAddress& client,
                      SessionRef session = {}) {
    ShardMessage message;
    message.kind = kind;
    message.client = client;
    message.session = session;
    worker_->inbox()->PostDisconnect(std::move(message));
    Turn();
  }

  // What the observer has been told so far, and now.
  std::vector<SessionEvent> Events() {
    context_->session_events->Deliver();
    return observer_->events();
  }

  test::SimulatedClock clock_;
  std::shared_ptr<test::RecordingSessionObserver> observer_ =
      std::make_shared<test::RecordingSessionObserver>();
  HookedSysCalls sys_calls_;
  std::shared_ptr<HeldResolver> resolver_ = std::make_shared<HeldResolver>();
  std::shared_ptr<test::FakeFlowOffload> offload_;  // where a test wants one
  std::unique_ptr<GateContext> context_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<Reader> reader_;
  std::unique_ptr<Reader> other_reader_;  // of the same socket
  SocketAddress listen_address_;
  std::vector<uint16_t> local_ports_ = LocalPortRange();
  LoopbackPeer client_;
  LoopbackPeer backend_;
};

TEST_F(WorkerTest, RelaysBothWays) {
  Start();
  const SocketAddress relay = Connect(client_);
  SendAndRead(client_, "one");
  SendAndRead(client_, "");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("one", ""));
  ASSERT_TRUE(backend_.Send(relay, "reply").ok());
  ASSERT_TRUE(backend_.Send(relay, "").ok());
  Turn();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("reply", ""));

  const ProxyStats stats = Stats();
  EXPECT_EQ(stats.client_datagrams_received, 3u);
  EXPECT_EQ(stats.client_bytes_received, 8u);
  EXPECT_EQ(stats.client_datagrams_forwarded, 3u);
  EXPECT_EQ(stats.client_bytes_forwarded, 8u);
  EXPECT_EQ(stats.backend_datagrams_received, 2u);
  EXPECT_EQ(stats.backend_datagrams_forwarded, 2u);
  EXPECT_EQ(stats.backend_bytes_forwarded, 5u);
  EXPECT_EQ(stats.sessions_active, 1u);
  EXPECT_EQ(resolver_->questions.size(), 0u);
}

TEST_F(WorkerTest, EachClientHasASocketOfItsOwn) {
  Start();
  LoopbackPeer other;
  const SocketAddress relay = Connect(client_);
  const SocketAddress other_relay = Connect(other);
  EXPECT_NE(relay, other_relay);
  ASSERT_TRUE(backend_.Send(other_relay, "for other").ok());
  ASSERT_TRUE(backend_.Send(relay, "for client").ok());
  Turn();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("for client"));
  EXPECT_THAT(ReceiveAll(&other), ElementsAre("for other"));
}

TEST_F(WorkerTest, OnlyTheBackendItselfCanReply) {
  Start();
  const SocketAddress relay = Connect(client_);
  LoopbackPeer stranger;
  ASSERT_TRUE(stranger.Send(relay, "forged").ok());
  Turn();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre());
}

// A run of one client, datagrams of others between, more than one batch.
TEST_F(WorkerTest, KeepsOrderInBatches) {
  ProxyOptions options;
  options.batch_size = 4;
  Start(options);
  LoopbackPeer other;
  LoopbackPeer other_backend;
  Connect(client_);
  SendAndRead(other, "hello");
  AnswerWith(other_backend.address());
  std::vector<std::string> expected, other_expected = {"hello"};
  for (int i = 0; i < 25; ++i) {
    Send(client_, absl::StrCat(i));
    expected.push_back(absl::StrCat(i));
    if (i % 3 != 0) continue;
    Send(other, absl::StrCat("o", i));
    other_expected.push_back(absl::StrCat("o", i));
  }
  for (int i = 0; i < 10; ++i) Read();
  EXPECT_EQ(ReceiveAll(&backend_), expected);
  EXPECT_EQ(ReceiveAll(&other_backend), other_expected);
}

// Pending.

TEST_F(WorkerTest, HoldsDatagramsInOrderUntilTheBackendIsKnown) {
  Start();
  SendAndRead(client_, "one");
  SendAndRead(client_, "two");
  ASSERT_EQ(resolver_->questions.size(), 1u) << "one question a session";
  EXPECT_EQ(resolver_->questions[0].client, client_.address());
  EXPECT_EQ(resolver_->questions[0].first_datagram, "one");
  EXPECT_EQ(Stats().datagrams_held, 2u);
  EXPECT_EQ(Stats().sessions_pending, 1u);
  AnswerWith(backend_.address());
  SendAndRead(client_, "three");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("one", "two", "three"));
  EXPECT_EQ(Stats().datagrams_held, 0u);
}

TEST_F(WorkerTest, HoldsNoMoreThanAllowed) {
  ProxyOptions options;
  options.limits.pending_datagrams_max = 3;
  Start(options);
  for (int i = 0; i < 5; ++i) SendAndRead(client_, absl::StrCat(i));
  EXPECT_EQ(Stats().dropped(DropReason::kPendingFull), 2u);
  AnswerWith(backend_.address());
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("0", "1", "2"));
}

TEST_F(WorkerTest, HoldsOneLargestDatagramButNotManyOfThem) {
  Start();
  const std::string largest(test::kDatagramBytesMax, 'x');
  SendAndRead(client_, largest);
  SendAndRead(client_, largest);
  EXPECT_EQ(Stats().datagrams_held, 1u);
  EXPECT_EQ(Stats().dropped(DropReason::kPendingFull), 1u);
  AnswerWith(backend_.address());
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre(largest));
}

TEST_F(WorkerTest, AnErrorIsCountedByItsReasonAndTheNextDatagramAsksAgain) {
  Start();
  const std::pair<absl::Status, DropReason> cases[] = {
      {absl::NotFoundError(""), DropReason::kNoBackend},
      {absl::InvalidArgumentError(""), DropReason::kInvalidBackend},
      {absl::DeadlineExceededError(""), DropReason::kResolveTimedOut},
      {absl::UnavailableError(""), DropReason::kResolveFailed},
      {absl::InternalError(""), DropReason::kResolveFailed},
  };
  for (const auto& [status, reason] : cases) {
    const uint64_t before = Stats().dropped(reason);
    SendAndRead(client_, "one");
    SendAndRead(client_, "two");
    Answer(status);
    EXPECT_EQ(Stats().dropped(reason), before + 2) << status;
  }
  EXPECT_EQ(Stats().resolves_failed, 4u);
  EXPECT_EQ(Stats().ended(EndReason::kResolveFailed), 4u);
  EXPECT_EQ(Stats().resolves_timed_out, 1u);
  EXPECT_EQ(Stats().ended(EndReason::kResolveTimedOut), 1u);
  Connect(client_);
}

TEST_F(WorkerTest, ABackendThatCannotBeSentToIsInvalid) {
  Start();
  const SocketAddress invalid[] = {
      SocketAddress(),
      SocketAddress::Ipv4Loopback(0),
      SocketAddress::Ipv4Any(19132),
      SocketAddress::Ipv6Any(19132),
      *SocketAddress::Parse("224.0.0.1:19132"),
      listen_address_,  // the gate itself
  };
  for (const SocketAddress& backend : invalid) {
    const uint64_t before = Stats().dropped(DropReason::kInvalidBackend);
    SendAndRead(client_, "x");
    AnswerWith(backend);
    EXPECT_EQ(Stats().dropped(DropReason::kInvalidBackend), before + 1)
        << backend.ToString();
  }
}

TEST_F(WorkerTest, AQuestionTimesOutAndItsLateAnswerIsIgnored) {
  Start();
  SendAndRead(client_, "lost");
  clock_.Advance(absl::Milliseconds(2999));
  Turn();
  EXPECT_EQ(Stats().sessions_pending, 1u);
  clock_.Advance(absl::Milliseconds(1));
  Turn();
  EXPECT_EQ(Stats().resolves_timed_out, 1u);
  EXPECT_EQ(Stats().dropped(DropReason::kResolveTimedOut), 1u);
  EXPECT_EQ(Stats().ended(EndReason::kResolveTimedOut), 1u);

  SendAndRead(client_, "next");
  ASSERT_EQ(resolver_->questions.size(), 2u);
  AnswerWith(backend_.address());  // the late one
  EXPECT_EQ(Stats().sessions_pending, 1u);
  AnswerWith(backend_.address());
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("next"));
}

TEST_F(WorkerTest, AnswersAreCountedByTheTimeTheyTook) {
  Start();
  for (const absl::Duration wait :
       {absl::ZeroDuration(), absl::Milliseconds(30), absl::Seconds(2)}) {
    LoopbackPeer client;
    SendAndRead(client, "x");
    clock_.Advance(wait);
    Answer(absl::NotFoundError(""));
  }
  // The one that times out counts at no bound.
  SendAndRead(client_, "x");
  clock_.Advance(absl::Minutes(1));
  Turn();
  AnswerWith(backend_.address());
  const ProxyStats stats = Stats();
  EXPECT_EQ(stats.resolves_timed_out, 1u);
  EXPECT_EQ(stats.resolve_nanoseconds_total, 2'030'000'000u);
  for (size_t i = 0; i < kResolveBucketCount; ++i) {
    const bool is_one =
        i == 0 ||
        (i + 1 < kResolveBucketCount &&
         (kResolveSecondsBounds[i] == 0.05 || kResolveSecondsBounds[i] == 2.5));
    EXPECT_EQ(stats.resolves_by_duration[i], is_one ? 1u : 0u) << i;
  }
}

TEST_F(WorkerTest, AnAnswerBeyondAllBoundsIsCountedInTheLastBucket) {
  ProxyOptions options;
  options.limits.resolve_timeout = absl::Minutes(2);
  Start(options);
  SendAndRead(client_, "x");
  clock_.Advance(absl::Minutes(1));
  Answer(absl::NotFoundError(""));
  EXPECT_EQ(Stats().resolves_by_duration.back(), 1u);
}

TEST_F(WorkerTest, TimeOutsComeInOrder) {
  Start();
  LoopbackPeer second, third;
  SendAndRead(client_, "1");
  clock_.Advance(absl::Seconds(1));
  SendAndRead(second, "2");
  clock_.Advance(absl::Seconds(1));
  SendAndRead(third, "3");
  // The second, in the middle of the list, leaves it.
  resolver_->questions[1].done(absl::NotFoundError(""));
  Turn();
  clock_.Advance(absl::Seconds(1));
  Turn();
  EXPECT_EQ(Stats().resolves_timed_out, 1u);
  clock_.Advance(absl::Seconds(2));
  Turn();
  EXPECT_EQ(Stats().resolves_timed_out, 2u);
  EXPECT_EQ(Stats().sessions_pending, 0u);
}

TEST_F(WorkerTest, AnAnswerMayComeInline) {
  Start();
  resolver_->on_resolve = [this] {
    resolver_->questions.back().done(ResolveResult{backend_.address(), ""});
  };
  // All in one batch, more than a pending client may have waiting.
  std::vector<std::string> expected;
  for (int i = 0; i < 40; ++i) {
    Send(client_, absl::StrCat(i));
    expected.push_back(absl::StrCat(i));
  }
  Read();
  EXPECT_EQ(ReceiveAll(&backend_), expected);
  resolver_->questions.clear();
}

TEST_F(WorkerTest, AnAnswerMayComeAfterTheEnd) {
  Start();
  SendAndRead(client_, "x");
  worker_->EndAllSessions();
  EXPECT_EQ(Stats().dropped(DropReason::kSessionEnded), 1u);
  resolver_->questions[0].done(ResolveResult{backend_.address(), ""});
  Turn();
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre());
}

// Idle.

TEST_F(WorkerTest, AnIdleSessionEndsBetweenOnceAndOneAndAQuarter) {
  Start(WithoutUnconfirmedTimeout());
  Connect(client_);
  const absl::Duration step = absl::Milliseconds(100);
  absl::Duration idle;
  while (Stats().sessions_active == 1 && idle < absl::Minutes(2)) {
    clock_.Advance(step);
    idle += step;
    Turn();
  }
  EXPECT_GE(idle, absl::Seconds(60));
  EXPECT_LE(idle, absl::Seconds(75));
  EXPECT_EQ(Stats().ended(EndReason::kIdle), 1u);
}

TEST_F(WorkerTest, TrafficOfEitherDirectionKeepsASessionAlive) {
  Start(WithoutUnconfirmedTimeout());
  const SocketAddress relay = Connect(client_);
  for (int i = 0; i < 6; ++i) {
    clock_.Advance(absl::Seconds(50));
    if (i % 2 == 0) {
      SendAndRead(client_, "ping");
    } else {
      ASSERT_TRUE(backend_.Send(relay, "pong").ok());
    }
    Turn();
    EXPECT_EQ(Stats().sessions_active, 1u) << "after datagram " << i;
  }
}

TEST_F(WorkerTest, ManyIdleSessionsEndInSlicesAndInTime) {
  ProxyOptions options;
  options.limits.session_idle_timeout = absl::Seconds(1);
  Start(options);
  std::vector<LoopbackPeer> clients(300);
  for (const LoopbackPeer& client : clients) Connect(client);
  clock_.Advance(absl::Milliseconds(990));
  Turn();
  EXPECT_EQ(Stats().sessions_active, clients.size());
  uint64_t ended_before = 0;
  for (int i = 0; i < 26; ++i) {
    clock_.Advance(absl::Milliseconds(10));
    // Time for several turns: where one leaves something over, the next one
    // does not wait.
    for (int turn = 0; turn < 20; ++turn) {
      Turn();
      const uint64_t ended = Stats().ended(EndReason::kIdle);
      EXPECT_LE(ended - ended_before, 3u) << "too much for one turn";
      ended_before = ended;
    }
  }
  EXPECT_EQ(Stats().sessions_active, 0u);
}

// A burst of answers: the live session's datagrams do not wait for all.
TEST_F(WorkerTest, ManyAnswersAreHandledAFewATurn) {
  Start();
  std::vector<LoopbackPeer> clients(30);
  for (const LoopbackPeer& client : clients) SendAndRead(client, "first");
  ASSERT_EQ(resolver_->questions.size(), clients.size());
  for (HeldResolver::Question& question : resolver_->questions) {
    question.done(ResolveResult{backend_.address(), ""});
  }
  uint64_t active_before = 0;
  for (int turn = 0; turn < 10; ++turn) {
    Turn();
    const uint64_t active = Stats().sessions_active;
    EXPECT_LE(active - active_before, 3u) << "too much for one turn";
    EXPECT_GT(active, active_before);
    active_before = active;
  }
  EXPECT_EQ(active_before, clients.size());
}

// Closing a socket takes its time: a worker that has closed some rests from
// that, and does nothing but relay.
class WorkerRestTest : public WorkerTest {
 protected:
  static constexpr absl::Duration kCloseTime = absl::Microseconds(10);
  // After the three that a turn may close: three times as long.
  static constexpr absl::Duration kRest = absl::Microseconds(90);

  void StartSlow(ProxyOptions options = ProxyOptions()) {
    Start(options);
    for (const LoopbackPeer& client : clients_) Connect(client);
    sys_calls_.before_close = [this] { clock_.Advance(close_time_); };
  }

  void TearDown() override {
    sys_calls_.before_close = nullptr;
    WorkerTest::TearDown();
  }

  void DisconnectAll() {
    for (const LoopbackPeer& client : clients_) {
      ShardMessage message;
      message.kind = ShardMessage::Kind::kDisconnectClient;
      message.client = client.address();
      message.came_nanoseconds = clock_.NowNanoseconds();
      worker_->inbox()->PostDisconnect(std::move(message));
    }
  }

  absl::Duration close_time_ = kCloseTime;
  std::vector<LoopbackPeer> clients_{7};
};

TEST_F(WorkerRestTest, ManyDisconnectsLeaveTimeForLiveSessions) {
  StartSlow();
  const SocketAddress relay = Connect(client_);
  DisconnectAll();
  Turn();
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 3u);

  // Datagrams of both directions pass meanwhile.
  clock_.Advance(kRest - absl::Nanoseconds(1));
  SendAndRead(client_, "ping");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("ping"));
  ASSERT_TRUE(backend_.Send(relay, "pong").ok());
  worker_->PollOnce(INT64_MAX);
  EXPECT_EQ(sys_calls_.last_wait, kRest) << "they wait, the worker sleeps";
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("pong"));
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 3u);

  clock_.Advance(absl::Nanoseconds(1));
  Turn();
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 6u);
  clock_.Advance(kRest);
  Turn();
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 7u);
  EXPECT_EQ(Stats().sessions_active, 1u);
}

TEST_F(WorkerRestTest, ManyIdleSessionsLeaveTimeForLiveOnes) {
  ProxyOptions options = WithoutUnconfirmedTimeout();
  options.limits.session_idle_timeout = absl::Seconds(1);
  StartSlow(options);
  clock_.Advance(absl::Seconds(2));
  Turn();
  EXPECT_EQ(Stats().ended(EndReason::kIdle), 3u);
  worker_->PollOnce(INT64_MAX);
  EXPECT_EQ(sys_calls_.last_wait, kRest);
  EXPECT_EQ(Stats().ended(EndReason::kIdle), 3u);
  clock_.Advance(kRest);
  Turn();
  EXPECT_EQ(Stats().ended(EndReason::kIdle), 6u);
}

TEST_F(WorkerRestTest, ManyUnconfirmedSessionsLeaveTimeForLiveOnes) {
  ProxyOptions options;
  options.limits.unconfirmed_timeout = absl::Seconds(1);
  StartSlow(options);
  clock_.Advance(absl::Seconds(2));
  Turn();
  EXPECT_EQ(Stats().ended(EndReason::kUnconfirmed), 3u);
  Turn();
  EXPECT_EQ(Stats().ended(EndReason::kUnconfirmed), 3u);
  clock_.Advance(kRest);
  Turn();
  EXPECT_EQ(Stats().ended(EndReason::kUnconfirmed), 6u);
}

// The thread had no core for a while: that is no reason to rest for longer.
TEST_F(WorkerRestTest, ARestIsShortHoweverLongTheTurnTook) {
  StartSlow();
  close_time_ = absl::Seconds(1);
  DisconnectAll();
  Turn();
  worker_->PollOnce(INT64_MAX);
  EXPECT_EQ(sys_calls_.last_wait, absl::Milliseconds(1));
}

// Nobody waits longer than allowed because a worker rests.
TEST_F(WorkerRestTest, AQuestionTimesOutAlsoInARest) {
  ProxyOptions options;
  options.limits.resolve_timeout = absl::Milliseconds(1);
  StartSlow(options);
  SendAndRead(client_, "hello");
  close_time_ = absl::Microseconds(200);
  DisconnectAll();
  Turn();
  worker_->PollOnce(INT64_MAX);
  EXPECT_EQ(sys_calls_.last_wait, absl::Microseconds(400));
  clock_.Advance(absl::Microseconds(400));
  Turn();
  EXPECT_EQ(Stats().resolves_timed_out, 1u);
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 3u);
}

// Its disconnect waits behind those of others; the answer comes after it.
class WorkerRestPendingTest
    : public WorkerRestTest,
      public ::testing::WithParamInterface<ShardMessage::Kind> {};

INSTANTIATE_TEST_SUITE_P(
    Kinds, WorkerRestPendingTest,
    ::testing::Values(ShardMessage::Kind::kDisconnectClient,
                      ShardMessage::Kind::kEndClientIp,
                      ShardMessage::Kind::kEndBackend));

TEST_P(WorkerRestPendingTest, AnAnswerIsYoungerThanADisconnectThatWaits) {
  StartSlow();
  LoopbackPeer old_backend;
  LoopbackPeer pending;
  SendAndRead(pending, "hello");
  clock_.Advance(absl::Milliseconds(1));
  DisconnectAll();
  ShardMessage message;
  message.kind = GetParam();
  message.came_nanoseconds = clock_.NowNanoseconds();
  if (message.kind == ShardMessage::Kind::kDisconnectClient) {
    message.client = pending.address();
  } else if (message.kind == ShardMessage::Kind::kEndClientIp) {
    message.address = pending.address().WithPort(0);
  } else {
    message.address = old_backend.address();
  }
  worker_->inbox()->PostDisconnect(std::move(message));
  Turn();
  ASSERT_EQ(Stats().ended(EndReason::kDisconnected), 3u);
  AnswerWith(old_backend.address());
  EXPECT_THAT(ReceiveAll(&old_backend), ::testing::IsEmpty());

  // It asks again, and what it gets then is not taken from it.
  ASSERT_EQ(resolver_->questions.size(), 1u);
  AnswerWith(backend_.address());
  EXPECT_THAT(ReceiveAll(&backend_), ::testing::Contains("hello"));
  for (int i = 0; i < 40; ++i) {
    clock_.Advance(absl::Milliseconds(1));
    Turn();
  }
  EXPECT_FALSE(worker_->inbox()->HasDisconnects());
  SendAndRead(pending, "again");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("again"));
  EXPECT_EQ(Stats().sessions_created, clients_.size() + 1);
}

// A newcomer waits for its room.
TEST_F(WorkerRestTest, MakingRoomIsFollowedByNoRest) {
  ProxyOptions options = WithoutUnconfirmedTimeout();
  options.limits.max_sessions = static_cast<int64_t>(clients_.size());
  StartSlow(options);
  for (int i = 0; i < 2; ++i) {
    LoopbackPeer newcomer;
    Connect(newcomer);
  }
  EXPECT_EQ(Stats().ended(EndReason::kEvicted), 2u);
  EXPECT_EQ(Stats().sessions_active, clients_.size());
}

// Nor is a newcomer's answer handled late.
TEST_F(WorkerRestTest, AnAnswerIsHandledAlsoInARest) {
  StartSlow();
  SendAndRead(client_, "hello");
  DisconnectAll();
  Turn();
  AnswerWith(backend_.address());
  EXPECT_THAT(ReceiveAll(&backend_), ::testing::Contains("hello"));
  EXPECT_EQ(Stats().sessions_active, clients_.size() - 3 + 1);
  // Nor does what a newcomer brings with it end anybody.
  LoopbackPeer newcomer;
  SendAndRead(newcomer, "hello");
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 3u);
}

// However much else the turn did.
TEST_F(WorkerRestTest, TheRestIsAsLongAsTheEndsTook) {
  StartSlow();
  sys_calls_.after_receive = [this](msghdr*) {
    clock_.Advance(absl::Milliseconds(1));
  };
  const SocketAddress relay = Connect(client_);
  DisconnectAll();
  ASSERT_TRUE(backend_.Send(relay, "pong").ok());
  Turn();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("pong"));
  worker_->PollOnce(INT64_MAX);
  EXPECT_EQ(sys_calls_.last_wait, kRest);
}

// A reader need not queue what the worker would not touch anyway.
TEST_F(WorkerRestTest, AReaderRelaysWhileDisconnectsWait) {
  StartSlow();
  Connect(client_);
  DisconnectAll();
  Turn();
  ASSERT_TRUE(worker_->inbox()->HasDisconnects());
  SendAndRead(client_, "ping");
  EXPECT_EQ(worker_->inbox()->datagrams_waiting(), 0);
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("ping"));
}

// Disconnects.

TEST_F(WorkerTest, ADisconnectEndsTheLiveSessionAndOnlyThat) {
  Start();
  LoopbackPeer other;
  const SocketAddress relay = Connect(client_);
  Connect(other);
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  EXPECT_EQ(Stats().sessions_active, 1u);
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 1u);

  // A new session, with a question and a port of its own.
  SendAndRead(client_, "again");
  ASSERT_EQ(resolver_->questions.size(), 1u);
  AnswerWith(backend_.address());
  absl::StatusOr<test::Datagram> again = backend_.TryReceive();
  ASSERT_TRUE(again.ok());
  EXPECT_NE(again->from, relay);
}

TEST_F(WorkerTest, AStaleReferenceEndsNothing) {
  Start();
  const SocketAddress relay = Connect(client_);
  const RelayOwner owner = context_->relay_ports.Find(relay.port()).at(0);
  PostDisconnect(ShardMessage::Kind::kEndSession, {}, owner.session);
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 1u);
  Connect(client_);
  PostDisconnect(ShardMessage::Kind::kEndSession, {}, owner.session);
  EXPECT_EQ(Stats().sessions_active, 1u);
  EXPECT_EQ(Stats().disconnects_unmatched, 1u);
}

TEST_F(WorkerTest, AnUnknownClientIsUnmatched) {
  Start();
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  EXPECT_EQ(Stats().disconnects_unmatched, 1u);
}

TEST_F(WorkerTest, ADisconnectedPendingClientAsksAgain) {
  Start();
  LoopbackPeer old_backend;
  SendAndRead(client_, "one");
  for (int i = 0; i < 3; ++i) {
    PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  }
  ASSERT_EQ(resolver_->questions.size(), 1u) << "one question at a time";
  AnswerWith(old_backend.address());  // asked before the events: stale
  EXPECT_EQ(Stats().sessions_pending, 1u);
  ASSERT_EQ(resolver_->questions.size(), 1u);
  EXPECT_EQ(resolver_->questions[0].first_datagram, "one");
  AnswerWith(backend_.address());
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("one"));
  EXPECT_THAT(ReceiveAll(&old_backend), ElementsAre());
}

// An event that waits while another gate is taken over from; its client may
// have come back meanwhile.
TEST_F(WorkerTest, ADisconnectSparesASessionThatBeganAfterItCame) {
  Start();
  const int64_t came_nanoseconds = clock_.NowNanoseconds();
  clock_.Advance(absl::Milliseconds(1));
  Connect(client_);
  for (const ShardMessage::Kind kind : {ShardMessage::Kind::kDisconnectClient,
                                        ShardMessage::Kind::kEndBackend}) {
    ShardMessage message;
    message.kind = kind;
    message.client = client_.address();
    if (kind == ShardMessage::Kind::kEndBackend) {
      message.address = backend_.address();
    }
    message.came_nanoseconds = came_nanoseconds;
    worker_->inbox()->PostDisconnect(std::move(message));
    Turn();
    EXPECT_EQ(Stats().sessions_active, 1u);
  }
  EXPECT_EQ(Stats().disconnects_unmatched, 1u);
}

// Many sessions end over many turns; a client that comes back meanwhile stays.
TEST_F(WorkerTest, ADisconnectOfManySparesWhatBeginsAfterIt) {
  Start();
  constexpr int kClients = 8;
  std::vector<LoopbackPeer> clients(kClients);
  for (LoopbackPeer& client : clients) Connect(client);
  ShardMessage message;
  message.kind = ShardMessage::Kind::kEndBackend;
  message.address = backend_.address();
  worker_->inbox()->PostDisconnect(std::move(message));
  Turn();
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 3u);
  SendAndRead(clients[0], "hello again");
  Turn();  // ends three more, and then looks at the datagram
  AnswerWith(backend_.address());
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("hello again"));
  for (int i = 0; i < kClients; ++i) Turn();
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), uint64_t{kClients});
  EXPECT_EQ(Stats().sessions_active, 1u);
  EXPECT_FALSE(worker_->inbox()->HasDisconnects());
}

// Events cannot keep a client waiting for ever.
TEST_F(WorkerTest, ADisconnectedPendingClientStillTimesOut) {
  Start();
  SendAndRead(client_, "one");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Stats().sessions_pending, 1u);
    clock_.Advance(absl::Seconds(1));
    PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  }
  EXPECT_EQ(Stats().ended(EndReason::kResolveTimedOut), 1u);
}

// A reply that was read in the same turn is not lost with the session.
TEST_F(WorkerTest, RepliesReadBeforeTheEndStillGoOut) {
  ProxyOptions options;
  options.limits.backend_refusals_max = 1;
  Start(options);
  LoopbackPeer other;
  const SocketAddress relay = Connect(client_);
  Connect(other);
  ASSERT_TRUE(backend_.Send(relay, "last words").ok());
  backend_ = LoopbackPeer();  // the old port is closed now
  SendAndRead(other, "x");    // and refuses
  Turn();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("last words"));
  EXPECT_EQ(Stats().ended(EndReason::kBackendRefused), 1u);
}

// Refusals.

TEST_F(WorkerTest, OneRefusalIsSurvivedAndTheDatagramSentAgain) {
  Start();
  Connect(client_);
  const SocketAddress address = backend_.address();
  backend_ = LoopbackPeer();
  SendAndRead(client_, "into the void");  // its refusal is queued at once
  backend_ = LoopbackPeer(address);
  SendAndRead(client_, "meets the stale error");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("meets the stale error"));
  EXPECT_EQ(Stats().backend_refusals, 1u);
  EXPECT_EQ(Stats().sessions_active, 1u);
  EXPECT_EQ(Stats().client_datagrams_forwarded, 3u);
}

TEST_F(WorkerTest, RefusalsInARowEndTheSession) {
  Start();
  Connect(client_);
  backend_ = LoopbackPeer();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Stats().sessions_active, 1u) << "after " << i << " refusals";
    SendAndRead(client_, "x");
    Turn();
  }
  EXPECT_EQ(Stats().ended(EndReason::kBackendRefused), 1u);
  EXPECT_EQ(Stats().backend_refusals, 3u);
  Connect(client_);  // asks anew
}

// A name with two addresses, of which the first refuses.
TEST_F(WorkerTest, AfterRefusalsTheNextAddressIsTriedForAWhile) {
  Start();
  LoopbackPeer second;
  const SocketAddress address = backend_.address();
  const ResolveResult result{address, "lobby:1", {second.address()}};
  backend_ = LoopbackPeer();
  SendAndRead(client_, "hello");
  Answer(result);
  for (int i = 0; i < 3 && Stats().sessions_active == 1; ++i) {
    SendAndRead(client_, "x");
    Turn();
  }
  ASSERT_EQ(Stats().ended(EndReason::kBackendRefused), 1u);
  EXPECT_THAT(ReceiveAll(&second), ElementsAre());
  SendAndRead(client_, "again");
  Answer(result);
  EXPECT_THAT(ReceiveAll(&second), ElementsAre("again"));
  EXPECT_EQ(Stats().backend_alternatives_used, 1u);
  // Whoever comes later tries the first one again.
  clock_.Advance(absl::Seconds(10));
  backend_ = LoopbackPeer(address);
  LoopbackPeer late;
  SendAndRead(late, "late");
  Answer(result);
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("late"));
  EXPECT_EQ(Stats().backend_alternatives_used, 1u);
}

TEST_F(WorkerTest, AReplyEndsTheHoldOffOfItsAddress) {
  Start();
  LoopbackPeer second;
  const ResolveResult result{backend_.address(), "lobby:1", {second.address()}};
  const SocketAddress relay = Connect(client_);
  context_->backend_holdoff.Note(backend_.address(), clock_.NowNanoseconds());
  ASSERT_TRUE(backend_.Send(relay, "alive").ok());
  Turn();
  LoopbackPeer other;
  SendAndRead(other, "hello");
  Answer(result);
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("hello"));
}

// A stranger whose datagrams a backend ignores cannot divert new clients from
// it while it serves others.
TEST_F(WorkerTest, AReplyToAnOlderSessionEndsTheHoldOffToo) {
  Start();
  LoopbackPeer second;
  const ResolveResult result{backend_.address(), "lobby:1", {second.address()}};
  const SocketAddress relay = Connect(client_);
  ASSERT_TRUE(backend_.Send(relay, "first").ok());
  Turn();
  clock_.Advance(absl::Seconds(1));
  context_->backend_holdoff.Note(backend_.address(), clock_.NowNanoseconds());
  ASSERT_TRUE(backend_.Send(relay, "still alive").ok());
  Turn();
  LoopbackPeer other;
  SendAndRead(other, "hello");
  Answer(result);
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("hello"));
}

TEST_F(WorkerTest, AfterSilenceTheNextAddressIsTriedForAWhile) {
  Start();
  LoopbackPeer second;
  const ResolveResult result{backend_.address(), "lobby:1", {second.address()}};
  SendAndRead(client_, "hello");
  Answer(result);
  for (int i = 0; i < 120 && Stats().sessions_active == 1; ++i) {
    clock_.Advance(absl::Milliseconds(500));
    SendAndRead(client_, "x");
    Turn();
  }
  ASSERT_EQ(Stats().ended(EndReason::kBackendSilent), 1u);
  ReceiveAll(&backend_);
  LoopbackPeer other;
  SendAndRead(other, "again");
  Answer(result);
  EXPECT_THAT(ReceiveAll(&second), ElementsAre("again"));
  EXPECT_EQ(Stats().backend_alternatives_used, 1u);
}

// Behind one NAT, with the default limits.
TEST_F(WorkerTest, HundredsOfNewClientsOfOneAddressAreServed) {
  Start();
  std::vector<LoopbackPeer> clients(300);
  for (const LoopbackPeer& client : clients) Connect(client);
  EXPECT_EQ(Stats().sessions_active, 300u);
  EXPECT_EQ(Stats().dropped_total(), 0u);
}

TEST_F(WorkerTest, ADisconnectByTextEndsWhatWasOpenedByIt) {
  Start();
  LoopbackPeer other, pending, address;
  LoopbackPeer other_backend;
  SendAndRead(client_, "one");
  Answer(ResolveResult{backend_.address(), "Lobby.test:1"});
  // The name leads elsewhere by now.
  SendAndRead(other, "two");
  Answer(ResolveResult{other_backend.address(), "lobby.test:1"});
  SendAndRead(address, "three");
  AnswerWith(backend_.address());
  SendAndRead(pending, "four");
  clock_.Advance(absl::Milliseconds(1));
  ShardMessage message;
  message.kind = ShardMessage::Kind::kEndBackendText;
  message.text = std::make_shared<const std::string>("lobby.test:1");
  message.came_nanoseconds = clock_.NowNanoseconds();
  worker_->inbox()->PostDisconnect(std::move(message));
  Turn();
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 2u);
  EXPECT_EQ(Stats().sessions_active, 1u);
  // What the pending one waits for may be the backend that it must not get.
  Answer(ResolveResult{backend_.address(), "lobby.test:1"});
  EXPECT_EQ(Stats().sessions_pending, 1u);
  ASSERT_EQ(resolver_->questions.size(), 1u);
}

TEST_F(WorkerTest, AReplyBetweenThemStartsTheCountOfRefusalsAnew) {
  Start();
  const SocketAddress relay = Connect(client_);
  const SocketAddress address = backend_.address();
  for (int round = 0; round < 3; ++round) {
    backend_ = LoopbackPeer();
    for (int i = 0; i < 2; ++i) {
      SendAndRead(client_, "x");
      Turn();
    }
    backend_ = LoopbackPeer(address);
    ASSERT_TRUE(backend_.Send(relay, "back").ok());
    Turn();
  }
  EXPECT_EQ(Stats().backend_refusals, 6u);
  EXPECT_EQ(Stats().sessions_active, 1u);
}

TEST_F(WorkerTest, ARefusalInAHeldRunIsSurvived) {
  Start();
  const SocketAddress address = backend_.address();
  backend_ = LoopbackPeer();
  for (int i = 0; i < 10; ++i) SendAndRead(client_, "x");
  AnswerWith(address);
  for (int i = 0; i < 10; ++i) Turn();
  EXPECT_GE(Stats().backend_refusals, 1u);
}

// Errors of system calls.

TEST_F(WorkerTest, AFailedSendLosesOneDatagramAndNothingElse) {
  Start();
  const SocketAddress relay = Connect(client_);
  for (const int error : {EAGAIN, ENOBUFS, ENOMEM, EPERM, EINVAL, ENETDOWN}) {
    Send(client_, "lost");
    Send(client_, "passes");
    sys_calls_.FailNext(Call::kSendMmsg, error);
    Read();
    EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("passes"));
    // Those that say that there is no way count as refusals in a row.
    ASSERT_TRUE(backend_.Send(relay, "reply").ok());
    Turn();
  }
  EXPECT_EQ(Stats().dropped(DropReason::kBackendSendFailed), 6u);
  EXPECT_EQ(Stats().sessions_active, 1u);
}

// What an ICMP message leaves on the socket is found by the next datagram's
// send. Found twice, it is that datagram's own.
TEST_F(WorkerTest, AnErrorOfAnEarlierDatagramCostsTheNextOneNothing) {
  Start();
  const SocketAddress relay = Connect(client_);
  for (const int error :
       {ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ENOPROTOOPT, EPROTO, EMSGSIZE,
        EACCES, EHOSTDOWN, ENONET, EOPNOTSUPP}) {
    sys_calls_.FailNext(Call::kSendMmsg, error);
    SendAndRead(client_, "sent again");
    EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("sent again"));
    ASSERT_TRUE(backend_.Send(relay, "reply").ok());
    Turn();
  }
  EXPECT_EQ(Stats().dropped_total(), 0u);
  sys_calls_.FailNext(Call::kSendMmsg, EHOSTUNREACH, 2);
  Send(client_, "lost");
  Send(client_, "passes");
  Read();
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("passes"));
  EXPECT_EQ(Stats().dropped(DropReason::kBackendSendFailed), 1u);
  EXPECT_EQ(Stats().sessions_active, 1u);
}

// A route of type unreachable, prohibit or blackhole, and a firewall of this
// host.
TEST_F(WorkerTest, ASessionThatCanSendNothingEndsWhateverItsClientSends) {
  for (const int error : {ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL, EPERM}) {
    if (worker_ == nullptr) Start();
    Connect(client_);
    const uint64_t ended_before = Stats().ended(EndReason::kBackendRefused);
    sys_calls_.FailAll(Call::kSendMmsg, error);
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(Stats().ended(EndReason::kBackendRefused), ended_before);
      SendAndRead(client_, "lost");
    }
    EXPECT_EQ(Stats().ended(EndReason::kBackendRefused), ended_before + 1)
        << ErrnoToText(error);
    sys_calls_.Reset();
  }
}

TEST_F(WorkerTest, WhatCameBeforeTheConnectIsNotTheBackends) {
  Start();
  LoopbackPeer stranger;
  SendAndRead(client_, "hello");
  int forged_count = 0;
  sys_calls_.before_connect = [&](int fd) {
    sockaddr_storage storage;
    socklen_t size = sizeof(storage);
    getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size);
    const SocketAddress relay = SocketAddress::FromSockaddr(
        reinterpret_cast<const sockaddr*>(&storage), size);
    if (relay.port() == 0) return;  // the probe for the source address
    ASSERT_TRUE(stranger.Send(relay, "forged").ok());
    ++forged_count;
  };
  AnswerWith(backend_.address());
  Turn();
  EXPECT_EQ(forged_count, 1);
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre());
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("hello"));
  EXPECT_EQ(Stats().backend_datagrams_received, 0u);
}

TEST_F(WorkerTest, PartialSendsGoOnWhereTheyStopped) {
  Start();
  const SocketAddress relay = Connect(client_);
  sys_calls_.LimitMessages(Call::kSendMmsg, 1);
  for (const char* payload : {"1", "2", "3"}) {
    Send(client_, payload);
    ASSERT_TRUE(backend_.Send(relay, payload).ok());
  }
  Read();
  Turn();
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("1", "2", "3"));
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("1", "2", "3"));
}

TEST_F(WorkerTest, AClientThatCannotBeReachedCostsNoOtherItsReply) {
  Start();
  LoopbackPeer other;
  const SocketAddress relay = Connect(client_);
  const SocketAddress other_relay = Connect(other);
  ASSERT_TRUE(backend_.Send(relay, "lost").ok());
  ASSERT_TRUE(backend_.Send(other_relay, "passes").ok());
  sys_calls_.FailNext(Call::kSendMmsg, EPERM);
  Turn();
  EXPECT_EQ(ReceiveAll(&client_).size() + ReceiveAll(&other).size(), 1u);
  EXPECT_EQ(Stats().dropped(DropReason::kReplySendFailed), 1u);
  EXPECT_EQ(Stats().sessions_active, 2u);
}

// An ICMP error that another client's reply has met (IP_RECVERR) costs nobody
// his.
TEST_F(WorkerTest, AnErrorOfAnotherClientsReplyCostsNoReply) {
  Start();
  const SocketAddress relay = Connect(client_);
  ASSERT_TRUE(backend_.Send(relay, "passes").ok());
  // As many as a reader takes from the queue at once: each one that it takes
  // makes the next one the error of the next call.
  sys_calls_.FailNext(Call::kSendMmsg, ECONNREFUSED, 16);
  Turn();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("passes"));
  // One that does not pass is this client's own.
  ASSERT_TRUE(backend_.Send(relay, "lost").ok());
  sys_calls_.FailAll(Call::kSendMmsg, EHOSTUNREACH);
  Turn();
  EXPECT_EQ(Stats().dropped(DropReason::kReplySendFailed), 1u);
}

TEST_F(WorkerTest, WhatIsTruncatedIsNeverForwarded) {
  Start();
  const SocketAddress relay = Connect(client_);
  sys_calls_.TruncateNext();
  SendAndRead(client_, "cut");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre());
  EXPECT_EQ(Stats().dropped(DropReason::kTruncated), 1u);
  sys_calls_.TruncateNext();
  ASSERT_TRUE(backend_.Send(relay, "cut").ok());
  Turn();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre());
  EXPECT_EQ(Stats().dropped(DropReason::kReplyTruncated), 1u);
}

TEST_F(WorkerTest, AFailedReadIsTriedAgain) {
  Start();
  const SocketAddress relay = Connect(client_);
  for (const int error : {ENOBUFS, ENOMEM, EHOSTUNREACH, EAGAIN}) {
    sys_calls_.FailNext(Call::kRecvMmsg, error);
    Send(client_, "request");
    Read();
    Read();
    EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("request"));
    sys_calls_.FailNext(Call::kRecvMmsg, error);
    ASSERT_TRUE(backend_.Send(relay, "reply").ok());
    Turn();
    Turn();
    EXPECT_THAT(ReceiveAll(&client_), ElementsAre("reply"));
  }
}

TEST_F(WorkerTest, WithoutAnUpstreamSocketTheClientIsShedAndTheNextTryWorks) {
  Start();
  const std::pair<Call, int> cases[] = {
      {Call::kSocket, EMFILE},      {Call::kSocket, ENFILE},
      {Call::kSocket, ENOBUFS},     {Call::kSocket, ENOMEM},
      {Call::kBind, EADDRNOTAVAIL}, {Call::kConnect, ENETUNREACH},
      {Call::kConnect, EAGAIN},     {Call::kGetSockName, ENOBUFS},
      {Call::kEpollControl, ENOSPC}};
  uint64_t shed_count = 0;
  for (const auto& [call, error] : cases) {
    for (const int n : {1, 2}) {  // the probe of the source, then the socket
      clock_.Advance(absl::Seconds(2));  // forgets the known source
      sys_calls_.Reset();
      sys_calls_.FailNth(call, n, error);
      SendAndRead(client_, "x");
      AnswerWith(backend_.address());
      if (sys_calls_.failures(call) == 0) {
        // Called once only, so it worked.
        PostDisconnect(ShardMessage::Kind::kDisconnectClient,
                       client_.address());
        continue;
      }
      ++shed_count;
      EXPECT_EQ(Stats().dropped(DropReason::kNoUpstreamSocket), shed_count)
          << static_cast<int>(call) << " number " << n;
      EXPECT_EQ(context_->relay_ports.in_use(), 0);
    }
  }
  EXPECT_GE(shed_count, 9u);
  sys_calls_.Reset();
  ReceiveAll(&backend_);
  Connect(client_);
}

TEST_F(WorkerTest, APortThatAStrangerHoldsIsPassedOver) {
  Start();
  sys_calls_.FailNext(Call::kBind, EADDRINUSE, 3);
  Connect(client_);
  EXPECT_EQ(sys_calls_.calls(Call::kBind), 4);
}

TEST_F(WorkerTest, GivesUpWhenAllPortsAreTaken) {
  Start();
  sys_calls_.FailAll(Call::kBind, EADDRINUSE);
  SendAndRead(client_, "x");
  AnswerWith(backend_.address());
  EXPECT_EQ(Stats().dropped(DropReason::kNoUpstreamSocket), 1u);
  EXPECT_LE(sys_calls_.calls(Call::kBind), 64);
}

// What runs out first is the limit at which unconfirmed sessions give way.

TEST_F(WorkerTest, AnUnconfirmedSessionGivesItsPortToANewcomer) {
  local_ports_ = {LoopbackPeer().address().port(),
                  LoopbackPeer().address().port()};
  Start();
  LoopbackPeer player, silent;
  Confirm(&player);
  Connect(silent);
  for (int i = 0; i < 20; ++i) {
    LoopbackPeer newcomer;
    Connect(newcomer);
    EXPECT_EQ(Stats().ended(EndReason::kEvicted), i + 1u);
  }
  EXPECT_EQ(Stats().dropped_total(), 0u);
  SendAndRead(player, "live");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("live"));
}

// Ports of other programs are no reason to keep a newcomer out, nor are they
// tried one after the other as long as somebody can give way.
TEST_F(WorkerTest, OneWhosePortIsOfUseGivesWayBeforeBusyPortsAreTried) {
  std::vector<LoopbackPeer> strangers(3);
  local_ports_ = {LoopbackPeer().address().port()};
  for (const LoopbackPeer& stranger : strangers) {
    local_ports_.push_back(stranger.address().port());
  }
  Start();
  Connect(client_);
  {
    LoopbackPeer newcomer;  // finds out which are busy
    Connect(newcomer);
  }
  EXPECT_EQ(sys_calls_.calls(Call::kBind), 1 + 3 + 1);
  LoopbackPeer newcomer;
  Connect(newcomer);
  EXPECT_EQ(sys_calls_.calls(Call::kBind), 1 + 3 + 1 + 1);
  EXPECT_EQ(Stats().ended(EndReason::kEvicted), 2u);
  EXPECT_EQ(Stats().dropped_total(), 0u);
}

// A port at another address is of no use.
TEST_F(WorkerTest, ASessionOfTheOtherFamilyKeepsItsPort) {
  local_ports_ = {LoopbackPeer().address().port()};
  Start();
  LoopbackPeer ipv6_backend(SocketAddress::Ipv6Loopback(0));
  LoopbackPeer other, newcomer;
  SendAndRead(client_, "hello");
  AnswerWith(ipv6_backend.address());
  clock_.Advance(absl::Seconds(1));
  Connect(other);
  Connect(newcomer);
  EXPECT_EQ(Stats().ended(EndReason::kEvicted), 1u);
  ReceiveAll(&ipv6_backend);
  SendAndRead(client_, "still");
  EXPECT_THAT(ReceiveAll(&ipv6_backend), ElementsAre("still"));
}

TEST_F(WorkerTest, AnUnconfirmedSessionGivesWayWhereDescriptorsOrMemoryRunOut) {
  Start();
  std::vector<LoopbackPeer> clients(40);
  size_t next = 0;
  uint64_t evicted_count = 0;
  Connect(clients[next++]);
  for (const Call call : {Call::kSocket, Call::kEpollControl}) {
    for (const int error : {EMFILE, ENFILE, ENOMEM, ENOBUFS, ENOSPC}) {
      // The second socket is the session's own: the first one is for the route.
      for (int n = 1; n <= 2; ++n) {
        clock_.Advance(absl::Seconds(2));  // the route is asked for again
        SendAndRead(clients[next], "hello");
        sys_calls_.Reset();
        sys_calls_.FailNth(call, call == Call::kSocket ? n : 1, error);
        AnswerWith(backend_.address());
        EXPECT_EQ(Stats().ended(EndReason::kEvicted), ++evicted_count)
            << static_cast<int>(call) << " " << error << " " << n;
        EXPECT_EQ(Stats().sessions_active, 1u);
        EXPECT_THAT(ReceiveAll(&backend_), ::testing::Contains("hello"));
        ++next;
      }
    }
  }
  EXPECT_EQ(Stats().dropped_total(), 0u);
  // It is no use where it lasts, and then not everybody has to go.
  clients.resize(next + 10);
  for (int i = 0; i < 9; ++i) Connect(clients[next++]);
  sys_calls_.FailAll(Call::kSocket, EMFILE);
  SendAndRead(clients[next], "refused");
  AnswerWith(backend_.address());
  EXPECT_EQ(Stats().dropped(DropReason::kNoUpstreamSocket), 1u);
  EXPECT_GE(Stats().sessions_active, 6u);
}

TEST_F(WorkerTest, AConfirmedSessionKeepsItsPort) {
  local_ports_ = {LoopbackPeer().address().port()};
  Start();
  Confirm(&client_);
  LoopbackPeer newcomer;
  SendAndRead(newcomer, "refused");
  AnswerWith(backend_.address());
  EXPECT_EQ(Stats().dropped(DropReason::kNoUpstreamSocket), 1u);
  SendAndRead(client_, "live");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("live"));
}

// Limits.

TEST_F(WorkerTest, UnconfirmedSessionsOfOneAddressAreLimited) {
  ProxyOptions options;
  options.limits.max_unconfirmed_sessions_per_ip = 2;
  Start(options);
  LoopbackPeer other, third;
  Connect(client_);
  SendAndRead(other, "pending");
  SendAndRead(third, "refused");
  EXPECT_EQ(Stats().dropped(DropReason::kUnconfirmedLimitPerIp), 1u);
  AnswerWith(backend_.address());
  ReceiveAll(&backend_);
  // Those that are confirmed make room.
  Confirm(&client_);
  Connect(third);
  LoopbackPeer fourth;
  SendAndRead(fourth, "refused");
  EXPECT_EQ(Stats().dropped(DropReason::kUnconfirmedLimitPerIp), 2u);
  // So do those that end.
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, third.address());
  Connect(fourth);
  // And a reload.
  context_->admission.SetLimits(ProxyLimits(), 1000);
  LoopbackPeer fifth;
  Connect(fifth);
}

// A gateway whose backend leads back to it: each of its own sockets is a new
// client, for ever, without a limit.
TEST_F(WorkerTest, ALoopEnds) {
  ProxyOptions options;
  options.limits.max_unconfirmed_sessions_per_ip = 50;
  options.limits.new_sessions_per_second = 0;
  Start(options);
  SendAndRead(client_, "round and round");
  for (int i = 0; i < 200; ++i) {
    while (!resolver_->questions.empty()) AnswerWith(backend_.address());
    // NAT: what the backend gets comes back to the gateway, from where it came.
    for (auto datagram = backend_.TryReceive(); datagram.ok();
         datagram = backend_.TryReceive()) {
      auto relay = LoopbackPeer();
      SendAndRead(relay, datagram->payload);
    }
  }
  EXPECT_EQ(Stats().sessions_created, 50u);
  EXPECT_EQ(Stats().dropped(DropReason::kUnconfirmedLimitPerIp), 1u);
  clock_.Advance(absl::Minutes(1));
  for (int i = 0; i < 100; ++i) {
    clock_.Advance(absl::Milliseconds(10));
    Turn();
    Read();
  }
  EXPECT_EQ(Stats().sessions_active, 0u);
  EXPECT_EQ(Stats().sessions_created, 50u) << "nothing goes round any more";
}

class WorkerPerIpTest : public WorkerTest {
 protected:
  void StartWithLimit(int64_t sessions_per_ip_max) {
    ProxyOptions options = WithoutUnconfirmedTimeout();
    options.limits.max_sessions_per_ip = sessions_per_ip_max;
    options.limits.session_idle_timeout = absl::Hours(1);
    Start(options);
  }
  bool IsLive(const LoopbackPeer& client) {
    bool is_live = false;
    ShardMessage message;
    message.kind = ShardMessage::Kind::kListSessions;
    message.list_done = [&](std::vector<SessionInfo> sessions, uint32_t) {
      for (const SessionInfo& session : sessions) {
        is_live = is_live || session.client == client.address();
      }
    };
    worker_->inbox()->Post(std::move(message));
    Turn();
    return is_live;
  }
};

TEST_F(WorkerPerIpTest, TheOneThatIsSilentLongestGivesWay) {
  StartWithLimit(3);
  LoopbackPeer first, second, third, back;
  Confirm(&first);
  Confirm(&second);
  Confirm(&third);
  SendAndRead(first, "plays on");
  clock_.Advance(absl::Seconds(10));
  SendAndRead(first, "plays on");
  ReceiveAll(&backend_);
  Connect(back);
  EXPECT_EQ(Stats().ended(EndReason::kReplaced), 1u);
  EXPECT_EQ(Stats().dropped_total(), 0u);
  EXPECT_FALSE(IsLive(second));
  EXPECT_TRUE(IsLive(first));
  EXPECT_TRUE(IsLive(third));
  EXPECT_TRUE(IsLive(back));
}

TEST_F(WorkerPerIpTest, AnUnconfirmedOneGivesWayBeforeAConfirmedOne) {
  StartWithLimit(2);
  LoopbackPeer confirmed, unconfirmed, back;
  Confirm(&confirmed);
  clock_.Advance(absl::Minutes(1));
  Connect(unconfirmed);
  clock_.Advance(absl::Seconds(2));
  Connect(back);
  EXPECT_FALSE(IsLive(unconfirmed));
  EXPECT_TRUE(IsLive(confirmed));
}

// Whoever forges a player's address must not end its session.
TEST_F(WorkerPerIpTest, WhoeverPlaysStays) {
  StartWithLimit(1);
  Confirm(&client_);
  LoopbackPeer forger;
  for (int i = 0; i < 100; ++i) {
    clock_.Advance(absl::Milliseconds(9999));
    SendAndRead(forger, "mine");
    SendAndRead(client_, "plays");
  }
  EXPECT_EQ(Stats().dropped(DropReason::kSessionLimitPerIp), 100u);
  EXPECT_EQ(Stats().ended(EndReason::kReplaced), 0u);
  EXPECT_EQ(Stats().sessions_confirmed, 1u);
  // What the backend sends is no sign of the player.
  const auto last = backend_.TryReceive();
  clock_.Advance(absl::Seconds(10));
  ASSERT_TRUE(backend_.Send(last->from, "push").ok());
  Turn();
  ReceiveAll(&backend_);
  Connect(forger);
  EXPECT_EQ(Stats().ended(EndReason::kReplaced), 1u);
}

TEST_F(WorkerPerIpTest, OfWhoIsNotConfirmedTwoSecondsAreEnough) {
  StartWithLimit(1);
  Connect(client_);
  LoopbackPeer back;
  clock_.Advance(absl::Milliseconds(1999));
  SendAndRead(back, "too early");
  EXPECT_EQ(Stats().dropped(DropReason::kSessionLimitPerIp), 1u);
  clock_.Advance(absl::Milliseconds(100));
  Connect(back);
  EXPECT_EQ(Stats().ended(EndReason::kReplaced), 1u);
}

// What the kernel has relayed counts.
TEST_F(WorkerPerIpTest, WhoeverPlaysOnTheFastPathStays) {
  offload_ = std::make_shared<test::FakeFlowOffload>();
  StartWithLimit(1);
  Confirm(&client_);
  ASSERT_EQ(offload_->flows().size(), 1u);
  clock_.Advance(absl::Seconds(20));
  DirectionActivity activity;
  activity.datagrams = 1;
  activity.last_relayed_nanoseconds = clock_.NowNanoseconds();
  offload_->SetActivity(0, FlowDirection::kFromClient, activity);
  LoopbackPeer forger;
  SendAndRead(forger, "mine");
  EXPECT_EQ(Stats().dropped(DropReason::kSessionLimitPerIp), 1u);
  EXPECT_EQ(Stats().ended(EndReason::kReplaced), 0u);
}

// Also where the limit came by a reload, after the sessions.
TEST_F(WorkerPerIpTest, ALimitThatComesLaterFindsThem) {
  StartWithLimit(0);
  LoopbackPeer other, back;
  Connect(client_);
  Connect(other);
  clock_.Advance(absl::Seconds(3));
  SendAndRead(other, "plays");
  ReceiveAll(&backend_);
  {
    MutexLock lock(&context_->limits_mutex);
    context_->limits.max_sessions_per_ip = 2;
    context_->admission.SetLimits(context_->limits, 1000);
  }
  context_->limits_version.fetch_add(1);
  Turn();
  Connect(back);
  EXPECT_FALSE(IsLive(client_));
  EXPECT_TRUE(IsLive(other));
}

TEST_F(WorkerTest, AFullGateRefusesNewClientsOnly) {
  ProxyOptions options;
  options.limits.max_sessions = 1;
  Start(options);
  LoopbackPeer other;
  Confirm(&client_);
  SendAndRead(other, "refused");
  EXPECT_EQ(Stats().dropped(DropReason::kSessionLimit), 1u);
  EXPECT_TRUE(resolver_->questions.empty());
  SendAndRead(client_, "live");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("live"));
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  Connect(other);
}

TEST_F(WorkerTest, ADrainingGateRefusesNewClientsOnly) {
  Start();
  LoopbackPeer other;
  Connect(client_);
  context_->is_draining = true;
  SendAndRead(other, "refused");
  EXPECT_EQ(Stats().dropped(DropReason::kDraining), 1u);
  SendAndRead(client_, "live");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("live"));
}

// The hand-over.

// A reader that finds the shard owned by another thread queues; what is queued
// goes out before what comes later.
TEST_F(WorkerTest, WhatMeetsABusyShardIsQueuedInOrder) {
  Start();
  Connect(client_);
  LoopbackPeer newcomer;
  resolver_->on_resolve = [this] {
    // Here the turn of this thread owns the shard.
    std::thread([this] {
      for (const char* payload : {"queued 1", "queued 2"}) {
        Send(client_, payload);
        other_reader_->ReadBatch();
      }
    }).join();
    EXPECT_EQ(worker_->inbox()->datagrams_waiting(), 2);
    EXPECT_EQ(Stats().datagrams_held, 3u) << "with the newcomer's";
  };
  SendAndRead(newcomer, "x");
  resolver_->on_resolve = nullptr;
  SendAndRead(client_, "later");
  EXPECT_THAT(ReceiveAll(&backend_),
              ElementsAre("queued 1", "queued 2", "later"));
}

// A reader with a long queue before it waits for the shard and helps, instead
// of filling the queue until it drops.
TEST_F(WorkerTest, AReaderHelpsAWorkerThatCannotKeepUp) {
  ProxyOptions options;
  options.queue_size_datagrams = 4;
  Start(options);
  Connect(client_);
  LoopbackPeer newcomer;
  std::thread reader;
  std::atomic<int> read_count{0};
  resolver_->on_resolve = [&] {
    reader = std::thread([&] {
      for (const char* payload : {"1", "2", "3"}) Send(client_, payload);
      other_reader_->ReadBatch();
      ++read_count;
      for (const char* payload : {"4", "5"}) Send(client_, payload);
      other_reader_->ReadBatch();
      ++read_count;
    });
    EXPECT_TRUE(test::AwaitTrue([&] { return read_count == 1; }));
    // It waits until this turn lets go of the shard.
    EXPECT_FALSE(test::AwaitTrue([&] { return read_count == 2; },
                                 absl::Milliseconds(50)));
  };
  SendAndRead(newcomer, "x");
  resolver_->on_resolve = nullptr;
  reader.join();
  EXPECT_EQ(Stats().dropped(DropReason::kQueueFull), 0u);
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("1", "2", "3", "4", "5"));
}

TEST_F(WorkerTest, AFullQueueDropsAndCounts) {
  ProxyOptions options;
  options.queue_size_datagrams = 2;
  Start(options);
  Connect(client_);
  LoopbackPeer newcomer;
  resolver_->on_resolve = [this] {
    std::thread([this] {
      for (const char* payload : {"1", "2", "3", "4"}) Send(client_, payload);
      other_reader_->ReadBatch();
    }).join();
  };
  SendAndRead(newcomer, "x");
  resolver_->on_resolve = nullptr;
  EXPECT_EQ(Stats().dropped(DropReason::kQueueFull), 2u);
  Turn();
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("1", "2"));
}

TEST_F(WorkerTest, MoreThanOneTurnTakesIsStillInOrder) {
  ProxyOptions options;
  options.batch_size = 2;
  Start(options);
  Connect(client_);
  LoopbackPeer newcomer;
  std::vector<std::string> expected;
  resolver_->on_resolve = [&] {
    std::thread([&] {
      for (int i = 0; i < 21; ++i) {
        Send(client_, absl::StrCat(i));
        other_reader_->ReadBatch();
        expected.push_back(absl::StrCat(i));
      }
    }).join();
  };
  SendAndRead(newcomer, "x");
  resolver_->on_resolve = nullptr;
  for (int i = 0; i < 3; ++i) {
    SendAndRead(client_, absl::StrCat("late", i));
    expected.push_back(absl::StrCat("late", i));
  }
  for (int i = 0; i < 5; ++i) Turn();
  EXPECT_EQ(ReceiveAll(&backend_), expected);
}

// Proof.

// Unconfirmed sessions.

TEST_F(WorkerTest, AnUnconfirmedSessionEndsWhenItsClientFallsSilent) {
  ProxyOptions options;
  options.limits.session_idle_timeout = absl::Hours(1);
  options.limits.backend_silent_timeout = absl::ZeroDuration();
  Start(options);
  LoopbackPeer steady, player;
  const SocketAddress relay = Connect(client_);
  Connect(steady);
  Confirm(&player);
  for (int i = 0; i < 3; ++i) {
    clock_.Advance(absl::Seconds(12));
    // What the backend sends does not keep it.
    ASSERT_TRUE(backend_.Send(relay, "anybody there?").ok());
    SendAndRead(steady, "here I am");
    Turn();
    Turn();  // after so long a pause what waits is read first
    EXPECT_EQ(Stats().sessions_active, i < 2 ? 3u : 2u);
  }
  EXPECT_EQ(Stats().ended(EndReason::kUnconfirmed), 1u);
  clock_.Advance(absl::Seconds(30));
  Turn();
  EXPECT_EQ(Stats().ended(EndReason::kUnconfirmed), 2u);
  EXPECT_EQ(Stats().sessions_confirmed, 1u) << "the player stays";
}

TEST_F(WorkerTest, AFullGateEvictsTheLeastProvenThenTheLongestSilent) {
  ProxyOptions options;
  options.limits.max_sessions = 4;
  Start(options);
  LoopbackPeer player, proven, older, younger;
  Confirm(&player);
  const SocketAddress relay = Connect(proven);
  ASSERT_TRUE(backend_.Send(relay, "x").ok());
  Turn();
  SendAndRead(proven, "y");
  clock_.Advance(absl::Seconds(1));
  Connect(older);
  clock_.Advance(absl::Seconds(1));
  Connect(younger);
  // It came first, but has sent last.
  clock_.Advance(absl::Seconds(1));
  SendAndRead(older, "still here");
  const auto is_live = [this](const LoopbackPeer& client) {
    ReceiveAll(&backend_);
    SendAndRead(client, "?");
    return ReceiveAll(&backend_).size() == 1;
  };
  std::vector<LoopbackPeer> newcomers(4);
  for (const LoopbackPeer* evicted : {&younger, &older}) {
    const LoopbackPeer& newcomer = newcomers[evicted == &older];
    Connect(newcomer);
    EXPECT_EQ(Stats().sessions_active, 4u);
    EXPECT_TRUE(is_live(player));
  }
  EXPECT_EQ(Stats().ended(EndReason::kEvicted), 2u);
  EXPECT_TRUE(is_live(proven)) << "it has proven more than the newcomers";
}

TEST_F(WorkerTest, ALongSilentSessionWithProofsGivesWayBeforeAFreshOneWithout) {
  ProxyOptions options;
  options.limits.max_sessions = 3;
  Start(options);
  // As forgers that send a few datagrams each: they have a proof.
  LoopbackPeer forgers[2];
  for (const LoopbackPeer& forger : forgers) {
    const SocketAddress relay = Connect(forger);
    ASSERT_TRUE(backend_.Send(relay, "x").ok());
    Turn();
    SendAndRead(forger, "y");
    ReceiveAll(&backend_);
  }
  clock_.Advance(absl::Seconds(4));
  LoopbackPeer fresh;
  Connect(fresh);
  ReceiveAll(&backend_);
  // Four seconds are not long.
  LoopbackPeer second;
  Connect(second);
  ReceiveAll(&backend_);
  SendAndRead(forgers[0], "still here");
  SendAndRead(forgers[1], "still here");
  EXPECT_EQ(ReceiveAll(&backend_).size(), 2u) << "the fresh one gave way";
  clock_.Advance(absl::Seconds(6));
  // The one without a proof has had its chance: it goes before the forgers.
  LoopbackPeer third;
  Connect(third);
  ReceiveAll(&backend_);
  // That one has not, and the forgers are silent for six seconds.
  LoopbackPeer fourth, fifth;
  Connect(fourth);
  Connect(fifth);
  ReceiveAll(&backend_);
  for (const LoopbackPeer* client : {&third, &fourth, &fifth}) {
    SendAndRead(*client, "?");
  }
  EXPECT_EQ(ReceiveAll(&backend_).size(), 3u);
  EXPECT_EQ(Stats().ended(EndReason::kEvicted), 4u);
  EXPECT_EQ(Stats().sessions_active, 3u);
}

// The same where source ports run out before MAX_SESSIONS.
TEST_F(WorkerTest, ALongSilentSessionWithProofsGivesItsPortToANewcomer) {
  local_ports_ = {LoopbackPeer().address().port(),
                  LoopbackPeer().address().port()};
  Start();
  LoopbackPeer forger, fresh, newcomer;
  const SocketAddress relay = Connect(forger);
  ASSERT_TRUE(backend_.Send(relay, "x").ok());
  Turn();
  SendAndRead(forger, "y");
  clock_.Advance(absl::Seconds(6));
  Connect(fresh);
  Connect(newcomer);
  ReceiveAll(&backend_);
  EXPECT_EQ(Stats().ended(EndReason::kEvicted), 1u);
  SendAndRead(fresh, "still here");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("still here"));
}

class WorkerReplyLimitTest : public WorkerTest {
 protected:
  // How many of `count` replies of `bytes` reach the client.
  size_t Replies(const SocketAddress& relay, int count, size_t bytes = 1000) {
    for (int i = 0; i < count; ++i) {
      EXPECT_TRUE(backend_.Send(relay, std::string(bytes, 'r')).ok());
    }
    return Received();
  }
  size_t Received() {
    Turn();
    Turn();
    return ReceiveAll(&client_).size();
  }
};

TEST_F(WorkerReplyLimitTest, AClientThatHasNotAnsweredGetsNoMoreThanItsShare) {
  ProxyOptions options;
  options.limits.unconfirmed_reply_factor = 10;
  options.limits.paused_sessions_max = 0;
  Start(options);
  SendAndRead(client_, std::string(300, 'q'));
  AnswerWith(backend_.address());
  const SocketAddress relay = backend_.TryReceive()->from;
  EXPECT_EQ(Replies(relay, 5), 3u) << "ten times what it sent";
  EXPECT_EQ(Stats().dropped(DropReason::kUnconfirmedReplyLimit), 2u);
  Confirm(&client_);
  EXPECT_EQ(Replies(relay, 20), 20u);
}

// A program that downloads with its first datagram (kcptun): nothing is lost.
TEST_F(WorkerReplyLimitTest, RepliesBeyondTheLimitWaitForTheClient) {
  Start();
  const SocketAddress relay = Connect(client_);
  EXPECT_EQ(Replies(relay, 100), 2u) << "2048 bytes in any case";
  EXPECT_EQ(Stats().sessions_paused, 1u);
  EXPECT_EQ(Stats().reply_pauses, 1u);
  SendAndRead(client_, "x");
  EXPECT_EQ(Received(), 98u);
  EXPECT_EQ(Stats().sessions_paused, 0u);
  EXPECT_EQ(Stats().dropped_total(), 0u);
}

// Round trips count, and no time: whoever forges can wait a second, too.
TEST_F(WorkerReplyLimitTest, ThreeAnswersLiftTheLimitAtOnce) {
  ProxyOptions options;
  options.limits.paused_sessions_max = 0;
  Start(options);
  const SocketAddress relay = Connect(client_);
  constexpr size_t kBytes = 60000;
  uint64_t passed_bytes = 0;
  const auto pass = [&] {
    EXPECT_EQ(Replies(relay, 1), 1u);
    SendAndRead(client_, "x");
  };
  pass();
  for (int i = 0; i < 300; ++i)
    passed_bytes += Replies(relay, 1, kBytes) * kBytes;
  EXPECT_LE(passed_bytes, 16u << 20) << "after one answer";
  EXPECT_GE(passed_bytes, (16u << 20) - 2 * kBytes);
  SendAndRead(client_, "x");
  passed_bytes = 0;
  EXPECT_EQ(Replies(relay, 1), 1u);
  SendAndRead(client_, "x");
  for (int i = 0; i < 300; ++i)
    passed_bytes += Replies(relay, 1, kBytes) * kBytes;
  EXPECT_EQ(passed_bytes, 300 * kBytes) << "after three";
  EXPECT_EQ(Stats().sessions_confirmed, 0u) << "which still takes a second";
}

TEST_F(WorkerReplyLimitTest, OneReplyPassesNowAndThenInAnyCase) {
  Start();
  const SocketAddress relay = Connect(client_);
  EXPECT_EQ(Replies(relay, 50, 1500), 1u);
  size_t passed = 0;
  for (int i = 0; i < 28; ++i) {
    clock_.Advance(absl::Seconds(1));
    passed += Received();
  }
  EXPECT_GE(passed, 5u);
  EXPECT_LE(passed, 9u) << "some four seconds each";
  EXPECT_EQ(Stats().dropped_total(), 0u);
}

// Also a reply that is larger than all of the limit.
TEST_F(WorkerReplyLimitTest, ALargeReplyIsNoDeadlock) {
  Start();
  const SocketAddress relay = Connect(client_);
  EXPECT_EQ(Replies(relay, 1, 60000), 0u);
  for (int i = 0; i < 5; ++i) {
    clock_.Advance(absl::Seconds(1));
    Turn();
  }
  EXPECT_EQ(ReceiveAll(&client_).size(), 1u);
}

// What waits for forged addresses takes the kernel's memory.
TEST_F(WorkerReplyLimitTest, OnlySoManySessionsWait) {
  ProxyOptions options;
  options.limits.paused_sessions_max = 1;
  Start(options);
  const SocketAddress relay = Connect(client_);
  LoopbackPeer other;
  const SocketAddress other_relay = Connect(other);
  EXPECT_EQ(Replies(relay, 5), 2u);
  EXPECT_EQ(Replies(other_relay, 5), 0u);
  EXPECT_EQ(ReceiveAll(&other).size(), 2u);
  EXPECT_EQ(Stats().dropped(DropReason::kUnconfirmedReplyLimit), 3u);
  // An end makes room.
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  EXPECT_EQ(Stats().sessions_paused, 0u);
  EXPECT_EQ(Replies(other_relay, 5), 0u);
  EXPECT_EQ(Stats().sessions_paused, 1u);
}

// An error on a socket that is not watched must not keep the worker awake.
TEST_F(WorkerReplyLimitTest, APausedSessionHearsOfRefusals) {
  Start();
  auto backend = std::make_unique<LoopbackPeer>();
  SendAndRead(client_, "hello");
  AnswerWith(backend->address());
  const SocketAddress relay = backend->TryReceive()->from;
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(backend->Send(relay, std::string(1000, 'r')).ok());
  }
  Turn();
  Turn();
  ASSERT_EQ(Stats().sessions_paused, 1u);
  backend.reset();
  sys_calls_.FailAll(Call::kEpollControl, EIO);  // it stays paused
  SendAndRead(client_, "x");
  Turn();
  EXPECT_EQ(Stats().backend_refusals, 1u);
  for (int i = 0; i < 10; ++i) worker_->PollOnce(INT64_MAX);
  EXPECT_GT(sys_calls_.last_wait, absl::Milliseconds(100));
  sys_calls_.Reset();
}

// The kernel has no room for it in the error queue then: replies take it all.
TEST_F(WorkerReplyLimitTest, APausedSessionWithAFullBufferHearsOfRefusals) {
  ProxyOptions options;
  options.receive_buffer_bytes = 65536;
  Start(options);
  auto backend = std::make_unique<LoopbackPeer>();
  SendAndRead(client_, "hello");
  AnswerWith(backend->address());
  const SocketAddress relay = backend->TryReceive()->from;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(backend->Send(relay, std::string(1000, 'r')).ok());
  }
  Turn();
  Turn();
  ASSERT_EQ(Stats().sessions_paused, 1u);
  // What was read has made room.
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(backend->Send(relay, "r").ok());
  }
  backend.reset();
  sys_calls_.FailAll(Call::kEpollControl, EIO);  // it stays paused
  SendAndRead(client_, "x");
  Turn();
  EXPECT_EQ(Stats().backend_refusals, 1u);
  for (int i = 0; i < 10; ++i) worker_->PollOnce(INT64_MAX);
  EXPECT_GT(sys_calls_.last_wait, absl::Milliseconds(100));
  sys_calls_.Reset();
}

TEST_F(WorkerTest, WithoutAFactorRepliesAreUnlimited) {
  ProxyOptions options;
  options.limits.unconfirmed_reply_factor = 0;
  Start(options);
  const SocketAddress relay = Connect(client_);
  ASSERT_TRUE(backend_.Send(relay, std::string(60000, 'r')).ok());
  Turn();
  EXPECT_EQ(ReceiveAll(&client_).size(), 1u);
}

// A shed datagram is dropped before anything is asked or kept.
TEST_F(WorkerTest, AShedClientAsksForNothing) {
  ProxyOptions options;
  options.limits.new_sessions_per_second = 2;
  options.limits.pending_bytes_max = 65536;
  Start(options);
  std::vector<LoopbackPeer> clients(5);
  for (const LoopbackPeer& client : clients) SendAndRead(client, "x");
  EXPECT_EQ(resolver_->questions.size(), 2u);
  EXPECT_EQ(Stats().sessions_created, 2u);
  EXPECT_EQ(Stats().dropped(DropReason::kNewSessionRate), 3u);
  SendAndRead(clients[0], std::string(60000, 'x'));
  SendAndRead(clients[1], std::string(60000, 'x'));
  EXPECT_EQ(Stats().dropped(DropReason::kPendingLimit), 1u);
  // Nor one whose first datagram there is no room for.
  clock_.Advance(absl::Seconds(1));
  SendAndRead(clients[2], std::string(60000, 'x'));
  EXPECT_EQ(Stats().dropped(DropReason::kPendingLimit), 2u);
  EXPECT_EQ(resolver_->questions.size(), 2u);
  EXPECT_EQ(Stats().sessions_created, 2u);
}

// A reply that was not passed on proves nothing: nobody has seen it.
TEST_F(WorkerTest, ADroppedReplyConfirmsNobody) {
  ProxyOptions options;
  options.limits.paused_sessions_max = 0;
  options.limits.session_idle_timeout = absl::Hours(1);
  options.limits.backend_silent_timeout = absl::ZeroDuration();
  options.limits.client_silent_timeout = absl::ZeroDuration();
  Start(options);
  const SocketAddress relay = Connect(client_);
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(backend_.Send(relay, std::string(60000, 'r')).ok());
    Turn();
    clock_.Advance(absl::Seconds(1));
    SendAndRead(client_, "x");
  }
  EXPECT_EQ(Stats().dropped(DropReason::kUnconfirmedReplyLimit), 10u);
  EXPECT_EQ(Stats().sessions_confirmed, 0u);
  // Yet the backend knows the port: it rests in quarantine.
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  EXPECT_EQ(context_->relay_ports.quarantined(clock_.NowNanoseconds()), 1);
}

TEST_F(WorkerTest, AClientThatAnswersRepliesOverASecondIsConfirmed) {
  Start();
  const SocketAddress relay = Connect(client_);
  // Datagrams without replies between them prove nothing.
  for (int i = 0; i < 10; ++i) {
    clock_.Advance(absl::Seconds(1));
    SendAndRead(client_, "x");
  }
  EXPECT_EQ(Stats().sessions_confirmed, 0u);
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(backend_.Send(relay, "x").ok());
    Turn();
    SendAndRead(client_, "x");
    EXPECT_EQ(Stats().sessions_confirmed, 0u) << "within a second";
  }
  clock_.Advance(absl::Seconds(1));
  ASSERT_TRUE(backend_.Send(relay, "x").ok());
  Turn();
  SendAndRead(client_, "x");
  EXPECT_EQ(Stats().sessions_confirmed, 1u);
  EXPECT_EQ(Stats().sessions_active, 1u);
}

// The kernel's own drops, which SO_RXQ_OVFL reports as a running total.
TEST_F(WorkerTest, CountsWhatTheKernelDropped) {
  ProxyOptions options;
  options.receive_buffer_bytes = 4096;
  Start(options);
  Connect(client_);
  uint64_t sent_count = 1;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 200; ++i) Send(client_, std::string(100, 'x'));
    sent_count += 200;
    for (uint64_t before = 0; before != Stats().client_datagrams_received;) {
      before = Stats().client_datagrams_received;
      Read();
    }
    // The total travels with the next datagram that is queued.
    SendAndRead(client_, "x");
    ++sent_count;
  }
  EXPECT_GT(Stats().kernel_drops, 0u);
  EXPECT_EQ(Stats().client_datagrams_received + Stats().kernel_drops,
            sent_count);
}

// The kernel's number wraps, and begins where an adopted socket was.
TEST_F(WorkerTest, ReadsTheKernelsDropsAsADifference) {
  Start();
  Connect(client_);
  uint32_t total = 0;
  sys_calls_.after_receive = [&](msghdr* header) {
    if (header->msg_control == nullptr) return;  // a reply's
    auto* entry = static_cast<cmsghdr*>(header->msg_control);
    entry->cmsg_level = SOL_SOCKET;
    entry->cmsg_type = SO_RXQ_OVFL;
    entry->cmsg_len = CMSG_LEN(sizeof(total));
    std::memcpy(CMSG_DATA(entry), &total, sizeof(total));
    header->msg_controllen = CMSG_SPACE(sizeof(total));
  };
  const std::pair<uint32_t, uint64_t> steps[] = {
      {UINT32_MAX - 1, UINT32_MAX - 1}, {3, 5}, {3, 0}, {4, 1}};
  for (const auto& [reported, expected] : steps) {
    const uint64_t before = Stats().kernel_drops;
    total = reported;
    SendAndRead(client_, "x");
    EXPECT_EQ(Stats().kernel_drops - before, expected);
  }
}

// A source port of 0 is legal on the wire (RFC 768), but has no way back.
TEST_F(WorkerTest, WhatCannotBeAnsweredIsDropped) {
  Start();
  sys_calls_.after_receive = [](msghdr* header) {
    static_cast<sockaddr_in*>(header->msg_name)->sin_port = 0;
  };
  SendAndRead(client_, "x");
  EXPECT_EQ(Stats().dropped(DropReason::kInvalidSource), 1u);
  EXPECT_TRUE(resolver_->questions.empty());
  sys_calls_.after_receive = nullptr;
  Connect(client_);
}

// Otherwise a socket that comes later could receive a session's replies.
TEST_F(WorkerTest, NobodyCanShareASessionsPort) {
  Start();
  const SocketAddress relay = Connect(client_);
  const UniqueFd other(::socket(AF_INET, SOCK_DGRAM, 0));
  const int on = 1;
  for (const int option : {SO_REUSEADDR, SO_REUSEPORT}) {
    ASSERT_EQ(::setsockopt(other.get(), SOL_SOCKET, option, &on, sizeof(on)),
              0);
  }
  sockaddr_storage storage;
  const socklen_t size = relay.ToSockaddr(AF_INET, &storage);
  EXPECT_EQ(
      ::bind(other.get(), reinterpret_cast<const sockaddr*>(&storage), size),
      -1);
  EXPECT_EQ(errno, EADDRINUSE);
}

TEST_F(WorkerTest, ShedsNewClientsWhileNoRelayPortIsFree) {
  const SocketAddress spare = LoopbackPeer().address();
  local_ports_ = {spare.port()};
  Start();
  LoopbackPeer other;
  Confirm(&client_);
  SendAndRead(other, "refused");
  AnswerWith(backend_.address());
  EXPECT_EQ(Stats().dropped(DropReason::kNoUpstreamSocket), 1u);
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  Connect(other);
}

// A client that waited longer than the idle time-out for its backend.
TEST_F(WorkerTest, TheWaitForTheBackendIsNoIdleTime) {
  ProxyOptions options;
  options.limits.session_idle_timeout = absl::Seconds(1);
  Start(options);
  SendAndRead(client_, "x");
  clock_.Advance(absl::Seconds(2));
  sys_calls_.FailAll(Call::kSendMmsg, EAGAIN);
  AnswerWith(backend_.address());
  Turn();
  EXPECT_EQ(Stats().sessions_active, 1u);
}

TEST_F(WorkerTest, CountsRepliesThatTheKernelDropped) {
  ProxyOptions options;
  options.receive_buffer_bytes = 4096;
  Start(options);
  const SocketAddress relay = Connect(client_);
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(backend_.Send(relay, std::string(100, 'x')).ok());
  }
  for (int i = 0; i < 5; ++i) Turn();
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  EXPECT_GT(Stats().kernel_drops, 0u);
  EXPECT_EQ(Stats().backend_datagrams_received + Stats().kernel_drops, 200u);
}

// A backend on the gate's own host, within the range of its relay ports, that
// is down: the gate must not take its place.
TEST_F(WorkerTest, NeverTakesItsBackendsPort) {
  const SocketAddress dead_backend = backend_.address();
  backend_ = LoopbackPeer();
  local_ports_ = {dead_backend.port()};
  Start();
  SendAndRead(client_, "x");
  AnswerWith(dead_backend);
  EXPECT_EQ(Stats().dropped(DropReason::kNoUpstreamSocket), 1u);
  EXPECT_TRUE(LoopbackPeer::Bind(dead_backend).ok());
}

TEST_F(WorkerTest, RepliesLeaveFromWhereTheClientWroteToLast) {
  ProxyOptions options;
  options.listen_address = SocketAddress::Ipv4Any(0);
  Start(options);
  const auto gate = [&](absl::string_view ip) {
    return *SocketAddress::FromIpAndPort(ip, listen_address_.port());
  };
  SocketAddress relay;
  for (const char* ip : {"127.0.0.2", "127.0.0.3", "127.0.0.2"}) {
    ASSERT_TRUE(client_.Send(gate(ip), "x").ok());
    Read();
    if (!relay.is_valid()) AnswerWith(backend_.address());
    const auto datagram = backend_.TryReceive();
    ASSERT_TRUE(datagram.ok()) << datagram.status();
    relay = datagram->from;
    ASSERT_TRUE(backend_.Send(relay, "reply").ok());
    Turn();
    const auto reply = client_.TryReceive();
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->from, gate(ip));
  }
}

TEST_F(WorkerTest, WhatWasHeldMakesRoomWhenItIsSent) {
  ProxyOptions options;
  options.limits.pending_bytes_max = 65536;
  Start(options);
  for (int i = 0; i < 3; ++i) {
    LoopbackPeer client;
    SendAndRead(client, std::string(60000, 'x'));
    AnswerWith(backend_.address());
  }
  EXPECT_EQ(ReceiveAll(&backend_).size(), 3u);
}

// The session that an event is of may have ended by the time its turn comes.
TEST_F(WorkerTest, AnEventOfAnEndedSessionIsNotItsSuccessors) {
  Start();
  const SocketAddress relay = Connect(client_);
  ASSERT_TRUE(backend_.Send(relay, "too late").ok());
  ShardMessage message;
  message.kind = ShardMessage::Kind::kDisconnectClient;
  message.client = client_.address();
  ASSERT_TRUE(worker_->inbox()->PostDisconnect(std::move(message)));
  // Behind the message, so it waits for the same turn and gets the same slot.
  LoopbackPeer newcomer;
  SendAndRead(newcomer, "x");
  ASSERT_EQ(worker_->inbox()->datagrams_waiting(), 1);
  sys_calls_.Reset();
  Turn();
  EXPECT_EQ(Stats().ended(EndReason::kDisconnected), 1u);
  EXPECT_EQ(Stats().sessions_pending, 1u);
  EXPECT_EQ(sys_calls_.calls(Call::kRecvMmsg), 0) << "nobody's reply is read";
}

// Silence, and ways that change.

class WorkerSilenceTest : public WorkerTest {
 protected:
  // The client sends every 500 ms on one socket, as games do, until its session
  // ends for `reason`.
  absl::Duration SendUntil(EndReason reason, absl::Duration at_most) {
    absl::Duration passed;
    while (Stats().ended(reason) == 0 && passed < at_most) {
      clock_.Advance(absl::Milliseconds(500));
      passed += absl::Milliseconds(500);
      SendAndRead(client_, "again");
      Turn();
    }
    return passed;
  }
  uint64_t Reopened() const {
    const ProxyStats stats = Stats();
    return stats.reopened(ReopenReason::kSendFailed) +
           stats.reopened(ReopenReason::kNetworkChange) +
           stats.reopened(ReopenReason::kSilence);
  }
};

TEST_F(WorkerSilenceTest, ASilentBackendLosesItsClients) {
  for (const bool is_confirmed : {false, true}) {
    if (worker_ == nullptr) Start();
    if (is_confirmed) {
      Confirm(&client_);
    } else {
      Connect(client_);
    }
    const uint64_t ended = Stats().ended(EndReason::kBackendSilent);
    absl::Duration passed;
    while (Stats().ended(EndReason::kBackendSilent) == ended &&
           passed < absl::Minutes(2)) {
      clock_.Advance(absl::Milliseconds(500));
      passed += absl::Milliseconds(500);
      SendAndRead(client_, "again");
      Turn();
    }
    EXPECT_GE(passed, absl::Seconds(29.5)) << is_confirmed;
    EXPECT_LE(passed, absl::Seconds(37.5)) << is_confirmed;
    SendAndRead(client_, "again");
    EXPECT_EQ(resolver_->questions.size(), 1u) << "it asks anew";
    AnswerWith(backend_.address());
    ReceiveAll(&backend_);
    PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  }
}

TEST_F(WorkerSilenceTest, ABackendThatAnswersNowAndThenKeepsItsClients) {
  Start();
  const SocketAddress relay = Connect(client_);
  for (int i = 0; i < 20; ++i) {
    SendUntil(EndReason::kBackendSilent, absl::Seconds(28));
    ASSERT_TRUE(backend_.Send(relay, "still here").ok());
    Turn();
  }
  EXPECT_EQ(Stats().sessions_active, 1u);
}

// Its first reply is more than the client may get yet, and waits.
TEST_F(WorkerSilenceTest, ABackendWhoseReplyWaitsIsNotSilent) {
  ProxyOptions options;
  options.limits.backend_silent_timeout = absl::Seconds(1);
  Start(options);
  const SocketAddress relay = Connect(client_);
  ASSERT_TRUE(backend_.Send(relay, std::string(4000, 'r')).ok());
  Turn();
  EXPECT_EQ(Stats().sessions_paused, 1u);
  EXPECT_GE(SendUntil(EndReason::kBackendSilent, absl::Seconds(1.8)),
            absl::Seconds(1.8));
  EXPECT_EQ(Stats().sessions_active, 1u);
  SendUntil(EndReason::kBackendSilent, absl::Seconds(0.8));
  EXPECT_EQ(ReceiveAll(&client_).size(), 1u);
  EXPECT_LE(SendUntil(EndReason::kBackendSilent, absl::Seconds(5)),
            absl::Seconds(1.5));
  EXPECT_EQ(Stats().ended(EndReason::kBackendSilent), 1u);
}

TEST_F(WorkerSilenceTest, TrafficThatGoesOneWayCanBeAllowed) {
  ProxyOptions options;
  options.limits.backend_silent_timeout = absl::ZeroDuration();
  Start(options);
  Connect(client_);
  SendUntil(EndReason::kBackendSilent, absl::Minutes(10));
  EXPECT_EQ(Stats().sessions_active, 1u);
}

TEST_F(WorkerSilenceTest, AReloadChangesTheTimeOut) {
  Start();
  Connect(client_);
  {
    MutexLock lock(&context_->limits_mutex);
    context_->limits.backend_silent_timeout = absl::Seconds(5);
  }
  context_->limits_version.fetch_add(1);
  EXPECT_LE(SendUntil(EndReason::kBackendSilent, absl::Minutes(1)),
            absl::Seconds(6.5));
}

TEST_F(WorkerSilenceTest, AClientThatIsGoneLosesItsSessionWhateverIsSentToIt) {
  Start();
  Confirm(&client_);
  SendAndRead(client_, "x");
  const SocketAddress relay = backend_.TryReceive()->from;
  absl::Duration passed;
  while (Stats().sessions_active == 1 && passed < absl::Minutes(10)) {
    clock_.Advance(absl::Seconds(1));
    passed += absl::Seconds(1);
    ASSERT_TRUE(backend_.Send(relay, "x").ok());
    Turn();
  }
  EXPECT_EQ(Stats().ended(EndReason::kClientSilent), 1u);
  EXPECT_GE(passed, absl::Seconds(300));
  EXPECT_LE(passed, absl::Seconds(375));
}

TEST_F(WorkerSilenceTest, RefusalsOfTheClientsHostEndItSooner) {
  Start();
  Confirm(&client_);
  SendAndRead(client_, "x");
  const SocketAddress relay = backend_.TryReceive()->from;
  client_ = LoopbackPeer();
  absl::Duration passed;
  while (Stats().sessions_active == 1 && passed < absl::Minutes(10)) {
    clock_.Advance(absl::Milliseconds(50));
    passed += absl::Milliseconds(50);
    ASSERT_TRUE(backend_.Send(relay, "x").ok());
    Turn();
    reader_->TakeClientErrors();
    Turn();
  }
  EXPECT_EQ(Stats().ended(EndReason::kClientSilent), 1u);
  EXPECT_GE(passed, absl::Seconds(7)) << "after 5 s of silence one a second";
  EXPECT_LE(passed, absl::Seconds(8));
}

TEST_F(WorkerSilenceTest, TooManyRefusalsOfClientsHostsAreIgnoredForASecond) {
  Start();
  Confirm(&client_);
  SendAndRead(client_, "x");
  const SocketAddress relay = backend_.TryReceive()->from;
  client_ = LoopbackPeer();
  const auto refuse = [&] {
    ASSERT_TRUE(backend_.Send(relay, "x").ok());
    Turn();
    reader_->TakeClientErrors();
    Turn();
  };
  for (int i = 0; i < Reader::kErrorsPerSecondMax; ++i) refuse();
  EXPECT_EQ(context_->client_error_pauses.load(), 0u);
  refuse();
  EXPECT_EQ(context_->client_error_pauses.load(), 1u);
  const uint64_t refusals = context_->client_refusals.load();
  EXPECT_GT(refusals, uint64_t{Reader::kErrorsPerSecondMax});
  refuse();
  Read();
  refuse();
  EXPECT_EQ(context_->client_refusals.load(), refusals);
  clock_.Advance(absl::Seconds(1));
  Read();
  refuse();
  EXPECT_EQ(context_->client_refusals.load(), refusals + 1);
  EXPECT_EQ(Stats().dropped(DropReason::kReplySendFailed), 0u);
}

// Anyone can forge such a message about a client that plays.
TEST_F(WorkerSilenceTest, NoRefusalEndsTheSessionOfAClientThatPlays) {
  Start();
  Confirm(&client_);
  for (int i = 0; i < 100; ++i) {
    clock_.Advance(absl::Seconds(1));
    SendAndRead(client_, "x");
    ShardMessage message;
    message.kind = ShardMessage::Kind::kClientRefused;
    message.client = client_.address();
    context_->client_refusals_under_way.fetch_add(1);
    worker_->inbox()->Post(std::move(message));
    Turn();
    for (const auto& datagram : ReceiveAll(&backend_)) (void)datagram;
    if (i % 20 == 0) {
      SendAndRead(client_, "ping");
      const auto ping = backend_.TryReceive();
      ASSERT_TRUE(ping.ok());
      ASSERT_TRUE(backend_.Send(ping->from, "pong").ok());
      Turn();
    }
  }
  EXPECT_EQ(Stats().sessions_confirmed, 1u);
}

TEST_F(WorkerSilenceTest, ASilentRouteGetsAFreshSocketWithinSeconds) {
  Start();
  const SocketAddress relay = Connect(client_);
  PostDisconnect(ShardMessage::Kind::kEndSession, SocketAddress(), {});
  const uint64_t created = Stats().sessions_created;
  sys_calls_.route_source = *SocketAddress::FromIpAndPort("127.0.0.2", 0);
  absl::Duration passed;
  while (Reopened() == 0 && passed < absl::Minutes(1)) {
    clock_.Advance(absl::Milliseconds(500));
    passed += absl::Milliseconds(500);
    SendAndRead(client_, "again");
  }
  EXPECT_EQ(Stats().reopened(ReopenReason::kSilence), 1u);
  EXPECT_LE(passed, absl::Seconds(4));
  // The same session: it is alive at the new address.
  std::vector<SocketAddress> sources;
  for (auto got = backend_.TryReceive(); got.ok();
       got = backend_.TryReceive()) {
    sources.push_back(got->from);
  }
  ASSERT_FALSE(sources.empty());
  EXPECT_EQ(sources.front(), relay);
  EXPECT_EQ(sources.back().WithPort(0), sys_calls_.route_source);
  ASSERT_TRUE(backend_.Send(sources.back(), "reply").ok());
  Turn();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("reply"));
  EXPECT_EQ(Stats().sessions_created, created);
  EXPECT_EQ(context_->relay_ports.Find(sources.back().port()).size(), 1u);
  EXPECT_EQ(context_->relay_ports.in_use(), 1);
  EXPECT_EQ(resolver_->questions.size(), 0u);
}

TEST_F(WorkerSilenceTest,
       ABackendThatAnswersKeepsTheSocketWhateverTheRoutesSay) {
  Start();
  const SocketAddress relay = Connect(client_);
  sys_calls_.route_source = *SocketAddress::FromIpAndPort("127.0.0.2", 0);
  for (int i = 0; i < 60; ++i) {
    clock_.Advance(absl::Milliseconds(500));
    SendAndRead(client_, "x");
    ASSERT_TRUE(backend_.Send(relay, "y").ok());
    Turn();
  }
  EXPECT_EQ(Reopened(), 0u);
}

TEST_F(WorkerSilenceTest, AnAddressThatHasLeftIsReplacedWithTheNextDatagram) {
  Start();
  const SocketAddress relay = Connect(client_);
  sys_calls_.route_source = *SocketAddress::FromIpAndPort("127.0.0.2", 0);
  context_->network_epoch.fetch_add(1);
  SendAndRead(client_, "stays");
  EXPECT_EQ(Reopened(), 0u) << "the old address is still there";
  EXPECT_EQ(backend_.TryReceive()->from, relay);
  context_->network_epoch.fetch_add(1);
  sys_calls_.FailNext(Call::kBind, EADDRNOTAVAIL);
  SendAndRead(client_, "moves");
  EXPECT_EQ(Stats().reopened(ReopenReason::kNetworkChange), 1u);
  EXPECT_EQ(backend_.TryReceive()->from.WithPort(0), sys_calls_.route_source);
}

// As IPv4 reports it where it was not noticed otherwise.
TEST_F(WorkerSilenceTest, ASendWithoutItsAddressGoesByAFreshSocket) {
  Start();
  Connect(client_);
  sys_calls_.route_source = *SocketAddress::FromIpAndPort("127.0.0.2", 0);
  sys_calls_.FailNext(Call::kSendMmsg, EINVAL);
  SendAndRead(client_, "not lost");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("not lost"));
  EXPECT_EQ(Stats().reopened(ReopenReason::kSendFailed), 1u);
  EXPECT_EQ(Stats().backend_refusals, 0u);
}

// An ICMP error of an earlier datagram has come before, as it does where a way
// breaks; the fresh socket has an attempt of its own.
TEST_F(WorkerSilenceTest, AnEarlierErrorCostsTheFreshSocketNoAttempt) {
  Start();
  Connect(client_);
  sys_calls_.route_source = *SocketAddress::FromIpAndPort("127.0.0.2", 0);
  sys_calls_.FailNext(Call::kSendMmsg, EHOSTUNREACH);
  sys_calls_.FailNext(Call::kSendMmsg, EINVAL);
  sys_calls_.FailNext(Call::kSendMmsg, ECONNREFUSED);
  SendAndRead(client_, "not lost");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("not lost"));
  EXPECT_EQ(Stats().reopened(ReopenReason::kSendFailed), 1u);
  EXPECT_EQ(Stats().dropped_total(), 0u);
}

TEST_F(WorkerSilenceTest, WhereTheOperatorNamesTheAddressItStays) {
  ProxyOptions options;
  options.upstream_bind_addresses = {
      *SocketAddress::FromIpAndPort("127.0.0.3", 0)};
  Start(options);
  Connect(client_);
  sys_calls_.route_source = *SocketAddress::FromIpAndPort("127.0.0.2", 0);
  SendUntil(EndReason::kBackendSilent, absl::Seconds(20));
  EXPECT_EQ(Reopened(), 0u);
}

TEST_F(WorkerSilenceTest, WhatCannotBeReopenedGoesOn) {
  Start();
  Connect(client_);
  sys_calls_.route_source = *SocketAddress::FromIpAndPort("127.0.0.2", 0);
  for (int i = 0; i < 10; ++i) {
    clock_.Advance(absl::Seconds(1));
    sys_calls_.FailAll(Call::kEpollControl, ENOMEM);
    SendAndRead(client_, "x");
    sys_calls_.Reset();
  }
  EXPECT_EQ(Reopened(), 0u);
  EXPECT_EQ(Stats().sessions_active, 1u);
  EXPECT_EQ(ReceiveAll(&backend_).size(), 10u);
}

// A worker that stood still (SIGSTOP, a frozen virtual machine) finds what came
// meanwhile before it ends anybody.
TEST_F(WorkerSilenceTest, AfterAStallWhatWaitsIsReadFirst) {
  ProxyOptions options = WithoutUnconfirmedTimeout();
  options.batch_size = 4;
  Start(options);
  std::vector<LoopbackPeer> clients(200);
  std::vector<SocketAddress> relays;
  for (const LoopbackPeer& client : clients) relays.push_back(Connect(client));
  for (int i = 0; i < 20; ++i) Turn();
  clock_.Advance(absl::Seconds(65));
  for (size_t i = 0; i < clients.size(); ++i) {
    if (i % 2 == 0) {
      Send(clients[i], "x");
    } else {
      ASSERT_TRUE(backend_.Send(relays[i], "x").ok());
    }
  }
  for (int i = 0; i < 300; ++i) {
    Turn();
    Read();
  }
  EXPECT_EQ(Stats().sessions_active, 200u);
  // Who did not send has its end all the same.
  clock_.Advance(absl::Seconds(65));
  for (int i = 0; i < 300; ++i) {
    Turn();
    clock_.Advance(absl::Milliseconds(10));
  }
  EXPECT_EQ(Stats().ended(EndReason::kIdle), 200u);
}

// With a flow offload.
class WorkerOffloadTest : public WorkerTest {
 protected:
  WorkerOffloadTest() {
    offload_ = std::make_shared<test::FakeFlowOffload>();
    ProxyOptions options = WithoutUnconfirmedTimeout();
    options.listen_address = SocketAddress::Ipv4Any(0);
    Start(options);
    // As Proxy does.
    const int on = 1;
    EXPECT_TRUE(sys_calls_
                    .SetSockOpt(reader_->fd(), SOL_SOCKET, SO_TIMESTAMPNS, &on,
                                sizeof(on))
                    .ok());
    listen_address_ = SocketAddress::Ipv4Loopback(listen_address_.port());
  }

  // What was relayed in each direction, and when.
  void Relay(uint64_t from_client, uint64_t from_backend) {
    offload_->SetActivity(
        0, FlowDirection::kFromClient,
        {from_client, 10 * from_client, clock_.NowNanoseconds()});
    offload_->SetActivity(
        0, FlowDirection::kFromBackend,
        {from_backend, 100 * from_backend, clock_.NowNanoseconds()});
  }
  const test::FakeFlowOffload::Flow& flow() { return offload_->flows().at(0); }
  // The idle sweep comes by every session.
  void Sweep() {
    for (int i = 0; i < 2; ++i) {
      clock_.Advance(absl::Seconds(8));
      Turn();
    }
  }
};

TEST_F(WorkerOffloadTest, OnlyAConfirmedSessionIsInstalled) {
  const SocketAddress relay = Connect(client_);
  EXPECT_EQ(offload_->flows().size(), 0u);
  Confirm(&client_);
  ASSERT_EQ(offload_->flows().size(), 1u);
  EXPECT_EQ(flow().addresses.client, client_.address());
  EXPECT_EQ(flow().addresses.listen, listen_address_);
  EXPECT_EQ(flow().addresses.relay, relay);
  EXPECT_EQ(flow().addresses.backend, backend_.address());
  Sweep();
  EXPECT_EQ(Stats().fast_path_sessions, 1u);
}

TEST_F(WorkerOffloadTest, PublishesWhatItHasSentOn) {
  Confirm(&client_);
  const auto before = flow().handled_nanoseconds;
  SendAndRead(client_, "x");
  const auto datagram = backend_.TryReceive();
  ASSERT_TRUE(datagram.ok());
  EXPECT_GT(flow().handled_nanoseconds[0], before[0]);
  EXPECT_EQ(flow().handled_nanoseconds[1], before[1]);
  ASSERT_TRUE(backend_.Send(datagram->from, "reply").ok());
  Turn();
  EXPECT_GT(flow().handled_nanoseconds[1], before[1]);
  EXPECT_GT(flow().handled_nanoseconds[1], flow().handled_nanoseconds[0]);
}

TEST_F(WorkerOffloadTest, AnEndRemovesTheFlowsAndCountsWhatTheyMoved) {
  Confirm(&client_);
  Sweep();
  const ProxyStats before = Stats();
  EXPECT_EQ(before.fast_path_sessions, 1u);
  Relay(3, 4);
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  EXPECT_TRUE(flow().is_removed);
  const ProxyStats stats = Stats();
  EXPECT_EQ(stats.fast_path_sessions, 0u);
  EXPECT_EQ(stats.fast_path_client_datagrams, 3u);
  EXPECT_EQ(stats.fast_path_client_bytes, 30u);
  EXPECT_EQ(stats.fast_path_backend_datagrams, 4u);
  EXPECT_EQ(stats.fast_path_backend_bytes, 400u);
  EXPECT_EQ(stats.client_datagrams_forwarded,
            before.client_datagrams_forwarded + 3);
  EXPECT_EQ(stats.backend_datagrams_received,
            before.backend_datagrams_received + 4);
}

TEST_F(WorkerOffloadTest, WhatTheFlowsMoveKeepsTheSessionAlive) {
  Confirm(&client_);
  for (uint64_t i = 1; i <= 20; ++i) {
    clock_.Advance(absl::Seconds(10));
    Relay(i, 0);
    Turn();
  }
  EXPECT_EQ(Stats().sessions_active, 1u);
  EXPECT_EQ(Stats().fast_path_client_datagrams, 20u);
  for (int i = 0; i < 8; ++i) {
    clock_.Advance(absl::Seconds(10));
    Turn();
  }
  EXPECT_EQ(Stats().ended(EndReason::kIdle), 1u);
  EXPECT_TRUE(flow().is_removed);
}

TEST_F(WorkerOffloadTest, ARelayedReplyEndsARowOfRefusals) {
  Confirm(&client_);
  const int fd_of_nobody = -1;
  for (uint64_t i = 1; i <= 6; ++i) {
    sys_calls_.FailNext(Call::kSendMmsg, ECONNREFUSED, 1, fd_of_nobody);
    Relay(0, i);
    SendAndRead(client_, "x");
  }
  EXPECT_EQ(Stats().backend_refusals, 6u);
  EXPECT_EQ(Stats().sessions_active, 1u);
}

TEST_F(WorkerOffloadTest, AWithdrawnSessionGoesOnOverSocketsAndComesBack) {
  Confirm(&client_);
  Relay(5, 5);
  Sweep();
  offload_->SetState(0, FlowState::kWithdrawn);
  Sweep();
  EXPECT_TRUE(flow().is_removed);
  EXPECT_EQ(Stats().fast_path_withdrawals, 1u);
  EXPECT_EQ(Stats().fast_path_client_datagrams, 5u);
  SendAndRead(client_, "x");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("x"));
  ASSERT_EQ(offload_->flows().size(), 2u);
  Sweep();
  EXPECT_EQ(Stats().fast_path_sessions, 1u);
}

// It goes on over sockets until the offload has decided, and beyond.
TEST_F(WorkerOffloadTest, ALateRefusalLeavesTheSessionOnSockets) {
  offload_->AnswerWith(FlowState::kWaiting);
  Confirm(&client_);
  Sweep();
  EXPECT_EQ(Stats().fast_path_sessions, 0u);
  EXPECT_EQ(Stats().fast_path_refusals, 0u);
  EXPECT_EQ(offload_->flows().size(), 1u);
  SendAndRead(client_, "x");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("x"));
  offload_->SetState(0, FlowState::kRefused);
  Sweep();
  EXPECT_TRUE(flow().is_removed);
  EXPECT_EQ(Stats().fast_path_refusals, 1u);
  EXPECT_EQ(Stats().fast_path_withdrawals, 0u);
  SendAndRead(client_, "y");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("y"));
  ASSERT_EQ(offload_->flows().size(), 2u) << "tried again";
  offload_->SetState(1, FlowState::kInstalled);
  Sweep();
  EXPECT_EQ(Stats().fast_path_sessions, 1u);
}

TEST_F(WorkerOffloadTest, WhereThereIsNoRoomTheSessionIsTriedAgain) {
  offload_->set_has_room(false);
  Confirm(&client_);
  EXPECT_EQ(Stats().fast_path_refusals, 1u);
  EXPECT_EQ(Stats().fast_path_sessions, 0u);
  SendAndRead(client_, "x");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("x"));
  EXPECT_EQ(Stats().fast_path_refusals, 1u) << "not for each datagram";
  offload_->set_has_room(true);
  Sweep();
  Sweep();
  EXPECT_EQ(Stats().fast_path_sessions, 1u);
}

// Over IPv4 the sockets do not believe what ICMP tells of the path, so the
// flows must not either.
TEST_F(WorkerOffloadTest, ASmallerPathThatIsToldOfChangesNoLimit) {
  const SocketAddress relay = Connect(client_);
  Confirm(&client_);
  ASSERT_TRUE(backend_.Send(relay, "reply").ok());
  sys_calls_.FailNext(Call::kRecvMmsg, EMSGSIZE);
  Turn();
  Turn();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("reply"));
  sys_calls_.FailNext(Call::kSendMmsg, EMSGSIZE);
  SendAndRead(client_, "x");
  EXPECT_THAT(ReceiveAll(&backend_), ::testing::Contains("x"));
  EXPECT_EQ(flow().packet_bytes_max, 0u) << "none was set";
}

TEST_F(WorkerOffloadTest, TheEndTellsTheTotalsOfTheFlowsToo) {
  Confirm(&client_);
  ASSERT_EQ(Events().size(), 2u);
  const SessionEvent confirmed = Events().back();
  EXPECT_EQ(confirmed.kind, SessionEvent::Kind::kConfirmed);
  Relay(3, 4);
  const uint64_t client_datagrams = Stats().client_datagrams_forwarded;
  const uint64_t client_bytes = Stats().client_bytes_forwarded;
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  ASSERT_EQ(Events().size(), 3u);
  const SessionEvent ended = Events().back();
  EXPECT_EQ(ended.kind, SessionEvent::Kind::kEnded);
  EXPECT_EQ(ended.state, SessionState::kConfirmed);
  EXPECT_EQ(ended.local, listen_address_);
  EXPECT_EQ(ended.client_datagrams_forwarded, client_datagrams + 3);
  EXPECT_EQ(ended.client_bytes_forwarded, client_bytes + 30);
  EXPECT_EQ(ended.backend_datagrams_forwarded,
            confirmed.backend_datagrams_forwarded + 4);
  EXPECT_EQ(ended.backend_bytes_forwarded,
            confirmed.backend_bytes_forwarded + 400);
}

TEST_F(WorkerTest, TellsOfASessionsLifeInOrder) {
  Start();
  Confirm(&client_);
  clock_.Advance(absl::Seconds(2));
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  const std::vector<SessionEvent> events = Events();
  ASSERT_EQ(events.size(), 3u);
  EXPECT_EQ(events[0].kind, SessionEvent::Kind::kOpened);
  EXPECT_EQ(events[0].state, SessionState::kUnconfirmed);
  EXPECT_EQ(events[0].age, absl::ZeroDuration());
  EXPECT_EQ(events[0].client_datagrams_forwarded, 0u);
  EXPECT_EQ(events[1].kind, SessionEvent::Kind::kConfirmed);
  EXPECT_EQ(events[1].state, SessionState::kConfirmed);
  EXPECT_EQ(events[2].kind, SessionEvent::Kind::kEnded);
  EXPECT_EQ(events[2].end_reason, EndReason::kDisconnected);
  EXPECT_EQ(events[2].age, absl::Milliseconds(3600));
  // As Confirm does.
  EXPECT_EQ(events[2].client_datagrams_forwarded, 5u);
  EXPECT_EQ(events[2].client_bytes_forwarded, 9u);
  EXPECT_EQ(events[2].backend_datagrams_forwarded, 4u);
  EXPECT_EQ(events[2].backend_bytes_forwarded, 4u);
  for (const SessionEvent& event : events) {
    EXPECT_EQ(event.session_id, events[0].session_id);
    EXPECT_EQ(event.client, client_.address());
    EXPECT_EQ(event.local, listen_address_);
    EXPECT_EQ(event.backend, backend_.address());
    EXPECT_TRUE(event.relay.is_loopback());
    EXPECT_NE(event.relay.port(), 0);
  }
}

TEST_F(WorkerTest, TellsOfAnEndWithoutABackend) {
  Start();
  SendAndRead(client_, "hello");
  Answer(absl::NotFoundError("no key"));
  const std::vector<SessionEvent> events = Events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, SessionEvent::Kind::kEnded);
  EXPECT_EQ(events[0].end_reason, EndReason::kResolveFailed);
  EXPECT_EQ(events[0].state, SessionState::kPending);
  EXPECT_EQ(events[0].client, client_.address());
  EXPECT_FALSE(events[0].backend.is_valid());
  EXPECT_FALSE(events[0].relay.is_valid());
}

TEST_F(WorkerTest, AnObserverThatLagsLosesEventsAndNoDatagram) {
  ProxyOptions options;
  options.session_events_max = 2;
  Start(options);
  for (int i = 0; i < 5; ++i) {
    Connect(client_);
    SendAndRead(client_, "x");
    EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("x"));
    PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  }
  EXPECT_EQ(context_->session_events->dropped(), 8u);
  EXPECT_EQ(Events().size(), 2u);
  Connect(client_);
  EXPECT_EQ(Events().size(), 3u);
}

// What an interface cannot carry in one packet, EMSGSIZE says, and again where
// no ICMP message was the cause.
TEST_F(WorkerTest, WhatWouldBeFragmentedIsDroppedAndCountedAsThat) {
  ProxyOptions options;
  options.dont_fragment = true;
  Start(options);
  const SocketAddress relay = Connect(client_);
  sys_calls_.FailNext(Call::kSendMmsg, EMSGSIZE, 2);
  SendAndRead(client_, "too large");
  EXPECT_EQ(Stats().dropped(DropReason::kWouldFragment), 1u);
  ASSERT_TRUE(backend_.Send(relay, "too large").ok());
  sys_calls_.FailNext(Call::kSendMmsg, EMSGSIZE);
  Turn();
  EXPECT_EQ(Stats().dropped(DropReason::kWouldFragment), 2u);
  EXPECT_EQ(Stats().dropped_total(), 2u);
  SendAndRead(client_, "x");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("x"));
}

TEST_F(WorkerTest, WithoutTheOptionASizeErrorIsOneLikeOthers) {
  Start();
  const SocketAddress relay = Connect(client_);
  sys_calls_.FailNext(Call::kSendMmsg, EMSGSIZE, 2);
  SendAndRead(client_, "too large");
  EXPECT_EQ(Stats().dropped(DropReason::kBackendSendFailed), 1u);
  ASSERT_TRUE(backend_.Send(relay, "too large").ok());
  sys_calls_.FailNext(Call::kSendMmsg, EMSGSIZE);
  Turn();
  EXPECT_EQ(Stats().dropped(DropReason::kReplySendFailed), 1u);
}

TEST_F(WorkerTest, ListsItsSessions) {
  Start();
  const SocketAddress relay = Connect(client_);
  SendAndRead(client_, "four");
  ASSERT_TRUE(backend_.Send(relay, "a reply").ok());
  ASSERT_TRUE(backend_.Send(relay, "").ok());
  Turn();
  LoopbackPeer pending;
  SendAndRead(pending, "x");
  clock_.Advance(absl::Seconds(2));
  std::vector<SessionInfo> infos;
  uint32_t next_slot = 99;
  ShardMessage message;
  message.kind = ShardMessage::Kind::kListSessions;
  message.list_done = [&](std::vector<SessionInfo> sessions, uint32_t next) {
    infos = std::move(sessions);
    next_slot = next;
  };
  worker_->inbox()->Post(std::move(message));
  Turn();
  EXPECT_EQ(next_slot, 0u);
  ASSERT_EQ(infos.size(), 2u);
  EXPECT_EQ(infos[0].client, client_.address());
  EXPECT_EQ(infos[0].backend, backend_.address());
  EXPECT_EQ(infos[0].relay, relay);
  EXPECT_EQ(infos[0].state, SessionState::kUnconfirmed);
  EXPECT_EQ(infos[0].client_datagrams_forwarded, 2u);
  EXPECT_EQ(infos[0].client_bytes_forwarded, 9u);
  EXPECT_EQ(infos[0].backend_datagrams_forwarded, 2u);
  EXPECT_EQ(infos[0].backend_bytes_forwarded, 7u);
  EXPECT_EQ(infos[0].age, absl::Seconds(2));
  EXPECT_EQ(infos[1].state, SessionState::kPending);
  EXPECT_FALSE(infos[1].backend.is_valid());
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
