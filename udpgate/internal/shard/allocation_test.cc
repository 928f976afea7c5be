// The path of a live session allocates nothing, whatever passes.
#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "testing/internal/support/allocation_count.h"
#include "testing/loopback_peer.h"
#include "testing/mock_session_observer.h"
#include "testing/simulated_clock.h"
#include "udpgate/internal/shard/reader.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace internal {
namespace {

using test::AllocationCount;

// One slot, and whatever state the test wants it to be in.
class OneFlowOffload final : public FlowOffload {
 public:
  absl::optional<uint32_t> Install(const SessionAddresses&) override {
    ++install_count;
    flow_state = FlowState::kInstalled;
    return 0;
  }
  FlowState state(uint32_t) const override { return flow_state; }
  void PublishHandled(uint32_t, FlowDirection, int64_t) override {
    ++publish_count;
  }
  void LowerPacketBytesMax(uint32_t, FlowDirection, uint32_t) override {}
  SessionActivity ReadActivity(uint32_t) const override { return {}; }
  SessionActivity Remove(uint32_t) override {
    ++remove_count;
    return {};
  }
  SessionActivity LateActivity() const override { return {}; }

  FlowState flow_state = FlowState::kWaiting;
  int install_count = 0;
  int publish_count = 0;
  int remove_count = 0;
};

// Drops each datagram of a client without a session.
class ScreeningResolver final : public BackendResolver {
 public:
  void Resolve(const ResolveRequest& /*request*/, Callback /*done*/) override {}
  Screening Screen(const SocketAddress& /*client*/,
                   absl::Span<const char> /*datagram*/) override {
    Screening screening;
    screening.drop = DropReason::kStunUnknownUfrag;
    return screening;
  }
};

class AllocationTest : public ::testing::Test {
 protected:
  void Start(std::shared_ptr<FlowOffload> offload) {
    ProxyOptions options;
    options.listen_address = SocketAddress::Ipv4Any(0);
    context_ = std::make_unique<GateContext>(options, &clock_, SysCalls::Real(),
                                             ClientHash(1), LocalPortRange(),
                                             /*sessions_max=*/10);
    context_->resolver =
        std::make_shared<StaticBackendResolver>(backend_.address());
    context_->session_events = std::make_unique<SessionEvents>(
        std::make_shared<test::RecordingSessionObserver>(), &clock_,
        options.session_events_max);
    context_->flow_offload = std::move(offload);
    context_->listeners =
        *OpenListenSockets(SysCalls::Real(), options, context_->hash);
    worker_ = *Worker::Create(context_.get(), 0);
    reader_ = *Reader::Create(context_.get(), 0, {worker_.get()});
    if (context_->flow_offload != nullptr) {  // as Proxy does
      const int on = 1;
      ASSERT_EQ(::setsockopt(reader_->fd(), SOL_SOCKET, SO_TIMESTAMPNS, &on,
                             sizeof(on)),
                0);
    }
    gate_ = SocketAddress::Ipv4Loopback(context_->listeners[0].address.port());
  }

  void RelayPair() {
    ASSERT_TRUE(client_.Send(gate_, payload_).ok());
    reader_->ReadBatch();
    socklen_t size = sizeof(relay_);
    ASSERT_EQ(::recvfrom(backend_.fd(), buffer_, sizeof(buffer_), 0,
                         reinterpret_cast<sockaddr*>(&relay_), &size),
              1200);
    ASSERT_EQ(::sendto(backend_.fd(), buffer_, 1200, 0,
                       reinterpret_cast<sockaddr*>(&relay_), size),
              1200);
    worker_->PollOnce(0);
    ASSERT_EQ(::recv(client_.fd(), buffer_, sizeof(buffer_), 0), 1200);
  }
  void RelayQueued() {
    ClientDatagram datagram;
    datagram.client = client_.address();
    datagram.local = SocketAddress::Ipv4Loopback(0);
    datagram.hash = context_->hash(client_.address());
    datagram.payload = payload_;
    ASSERT_EQ(worker_->inbox()->Push(absl::MakeConstSpan(&datagram, 1)), 1);
    worker_->PollOnce(0);
    ASSERT_EQ(::recv(backend_.fd(), buffer_, sizeof(buffer_), 0), 1200);
  }

  test::SimulatedClock clock_;
  const test::LoopbackPeer client_, backend_;
  const std::string payload_ = std::string(1200, 'x');
  char buffer_[2048];
  sockaddr_storage relay_;
  std::unique_ptr<GateContext> context_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<Reader> reader_;
  SocketAddress gate_;
};

TEST_F(AllocationTest, ADatagramOfALiveSessionAllocatesNothing) {
  Start(nullptr);
  for (int i = 0; i < 10; ++i) RelayPair();
  for (int i = 0; i < 10; ++i) RelayQueued();
  const int64_t before = AllocationCount();
  for (int i = 0; i < 1000; ++i) RelayPair();
  for (int i = 0; i < 1000; ++i) RelayQueued();
  EXPECT_EQ(AllocationCount(), before);
}

TEST_F(AllocationTest, ADatagramThatTheResolverDropsAllocatesNothing) {
  Start(nullptr);
  context_->resolver = std::make_shared<ScreeningResolver>();
  const auto drop_one = [&] {
    ASSERT_TRUE(client_.Send(gate_, payload_).ok());
    reader_->ReadBatch();
  };
  for (int i = 0; i < 10; ++i) drop_one();
  const int64_t before = AllocationCount();
  for (int i = 0; i < 1000; ++i) drop_one();
  EXPECT_EQ(AllocationCount(), before);
  ProxyStats stats;
  worker_->counters().AddTo(&stats);
  EXPECT_EQ(stats.dropped(DropReason::kStunUnknownUfrag), 1010u);
}

// Nor what the shard does to have it relayed elsewhere; what the kernel's fast
// path does for that is in //udpgate/fastpath:offload_allocation_test.
TEST_F(AllocationTest, AFlowOffloadAllocatesNothing) {
  auto offload = std::make_shared<OneFlowOffload>();
  Start(offload);
  for (int i = 0; i < 10; ++i) {
    clock_.Advance(absl::Milliseconds(400));
    RelayPair();
  }
  ASSERT_EQ(offload->install_count, 1) << "it is confirmed";
  RelayQueued();
  const int64_t before = AllocationCount();
  const int published = offload->publish_count;
  for (int i = 0; i < 100; ++i) {
    for (int k = 0; k < 10; ++k) RelayPair();
    RelayQueued();
    offload->flow_state =
        i % 2 == 0 ? FlowState::kWithdrawn : FlowState::kRefused;
    // The idle sweep takes the session back and tries again.
    clock_.Advance(absl::Seconds(4));
    worker_->PollOnce(0);
  }
  EXPECT_EQ(AllocationCount(), before);
  EXPECT_GE(offload->publish_count - published, 2000);
  EXPECT_GE(offload->install_count, 50);
  EXPECT_EQ(offload->remove_count, offload->install_count - 1);
}

TEST_F(AllocationTest, AnEventOfASessionAllocatesNothing) {
  SessionEvents events(std::make_shared<test::RecordingSessionObserver>(),
                       Clock::Monotonic(), /*queue_size=*/100);
  SessionEventQueue* const queue = events.AddShard();
  const int64_t before = AllocationCount();
  for (int i = 0; i < 1000; ++i) queue->Post(SessionEvent(), i);
  EXPECT_EQ(AllocationCount(), before);
  EXPECT_EQ(events.waiting(), 100);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
