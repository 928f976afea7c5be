// A datagram that is forwarded between gateways, and its reply, allocate
// nothing.
#include <sys/socket.h>

#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "testing/internal/support/allocation_count.h"
#include "testing/loopback_peer.h"
#include "testing/simulated_clock.h"
#include "udpgate/forward/internal/plain_cipher.h"
#include "udpgate/internal/shard/hop.h"
#include "udpgate/internal/shard/hop_reader.h"
#include "udpgate/internal/shard/reader.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace internal {
namespace {

class ForwardingResolver final : public BackendResolver {
 public:
  explicit ForwardingResolver(const SocketAddress& owner) : owner_(owner) {}
  void Resolve(const ResolveRequest& /*request*/, Callback done) override {
    ResolveResult result;
    result.forward_to = owner_;
    done(std::move(result));
  }

 private:
  const SocketAddress owner_;
};

struct Gateway {
  Gateway(const Clock* clock, std::shared_ptr<BackendResolver> resolver) {
    ProxyOptions options;
    options.listen_address = SocketAddress::Ipv4Loopback(0);
    options.forward_address = SocketAddress::Ipv4Loopback(0);
    context = std::make_unique<GateContext>(options, clock, SysCalls::Real(),
                                            ClientHash(1), LocalPortRange(),
                                            /*sessions_max=*/10);
    context->resolver = std::move(resolver);
    context->hop =
        std::make_unique<Hop>(SysCalls::Real(), clock, &context->options,
                              std::make_shared<forward::internal::PlainKeys>());
    EXPECT_TRUE(context->hop->Open().ok());
    context->listeners =
        *OpenListenSockets(SysCalls::Real(), options, context->hash);
    worker = *Worker::Create(context.get(), 0);
    reader = *Reader::Create(context.get(), 0, {worker.get()});
    hop_reader = *HopReader::Create(context.get(), {worker.get()});
  }
  const SocketAddress& address() const { return context->listeners[0].address; }

  std::unique_ptr<GateContext> context;
  std::unique_ptr<Worker> worker;
  std::unique_ptr<Reader> reader;
  std::unique_ptr<HopReader> hop_reader;
};

TEST(HopAllocationTest, AForwardedDatagramAndItsReplyAllocateNothing) {
  test::SimulatedClock clock;
  const test::LoopbackPeer client, backend;
  Gateway owner(&clock,
                std::make_shared<StaticBackendResolver>(backend.address()));
  Gateway edge(&clock, std::make_shared<ForwardingResolver>(
                           owner.context->hop->address()));
  const std::string payload(1200, 'x');
  char buffer[2048];
  ASSERT_TRUE(client.Send(owner.address(), payload).ok());
  owner.reader->ReadBatch();
  ASSERT_EQ(::recv(backend.fd(), buffer, sizeof(buffer), 0), 1200);

  const auto exchange = [&] {
    ASSERT_TRUE(client.Send(edge.address(), payload).ok());
    edge.reader->ReadBatch();
    owner.hop_reader->ReadBatch();
    sockaddr_storage relay;
    socklen_t size = sizeof(relay);
    ASSERT_EQ(::recvfrom(backend.fd(), buffer, sizeof(buffer), 0,
                         reinterpret_cast<sockaddr*>(&relay), &size),
              1200);
    ASSERT_EQ(::sendto(backend.fd(), buffer, 1200, 0,
                       reinterpret_cast<sockaddr*>(&relay), size),
              1200);
    owner.worker->PollOnce(0);
    edge.hop_reader->ReadBatch();
    ASSERT_EQ(::recv(client.fd(), buffer, sizeof(buffer), 0), 1200);
  };
  for (int i = 0; i < 10; ++i) exchange();
  const int64_t before = test::AllocationCount();
  for (int i = 0; i < 1000; ++i) exchange();
  EXPECT_EQ(test::AllocationCount(), before);
  ProxyStats stats;
  edge.worker->counters().AddTo(&stats);
  EXPECT_EQ(stats.hop_client_datagrams_sent, 1010u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
