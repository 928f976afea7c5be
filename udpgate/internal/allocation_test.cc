// The path of a live session allocates nothing, whatever passes.
#include <cstdlib>
#include <memory>
#include <new>
#include <string>

#include "gtest/gtest.h"
#include "testing/loopback_peer.h"
#include "testing/mock_session_observer.h"
#include "udpgate/internal/reader.h"
#include "udpgate/static_backend_resolver.h"

namespace {

thread_local int64_t allocation_count = 0;

void* Allocate(size_t size) {
  ++allocation_count;
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

void* operator new(size_t size) { return Allocate(size); }
void* operator new[](size_t size) { return Allocate(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept {
  return Allocate(size);
}
void* operator new[](size_t size, const std::nothrow_t&) noexcept {
  return Allocate(size);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace udpgate {
namespace internal {
namespace {

TEST(AllocationTest, ADatagramOfALiveSessionAllocatesNothing) {
  const test::LoopbackPeer client, backend;
  ProxyOptions options;
  options.listen_address = SocketAddress::Ipv4Any(0);
  GateContext context(options, Clock::Monotonic(), SysCalls::Real(),
                      ClientHash(1), LocalPortRange(), /*sessions_max=*/10);
  context.resolver = std::make_shared<StaticBackendResolver>(backend.address());
  context.session_events = std::make_unique<SessionEvents>(
      std::make_shared<test::RecordingSessionObserver>(), Clock::Monotonic(),
      options.session_events_max);
  context.listeners =
      *OpenListenSockets(SysCalls::Real(), options, context.hash);
  const std::unique_ptr<Worker> worker = *Worker::Create(&context, 0);
  const std::unique_ptr<Reader> reader =
      *Reader::Create(&context, 0, {worker.get()});
  const SocketAddress gate =
      SocketAddress::Ipv4Loopback(context.listeners[0].address.port());

  const std::string payload(1200, 'x');
  char buffer[2048];
  sockaddr_storage relay;
  const auto relay_pairs = [&](int count) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(client.Send(gate, payload).ok());
      reader->ReadBatch();
      socklen_t size = sizeof(relay);
      ASSERT_EQ(::recvfrom(backend.fd(), buffer, sizeof(buffer), 0,
                           reinterpret_cast<sockaddr*>(&relay), &size),
                1200);
      ASSERT_EQ(::sendto(backend.fd(), buffer, 1200, 0,
                         reinterpret_cast<sockaddr*>(&relay), size),
                1200);
      worker->PollOnce(0);
      ASSERT_EQ(::recv(client.fd(), buffer, sizeof(buffer), 0), 1200);
    }
  };
  const auto relay_queued = [&](int count) {
    ClientDatagram datagram;
    datagram.client = client.address();
    datagram.local = SocketAddress::Ipv4Loopback(0);
    datagram.hash = context.hash(client.address());
    datagram.payload = payload;
    for (int i = 0; i < count; ++i) {
      ASSERT_EQ(worker->inbox()->Push(absl::MakeConstSpan(&datagram, 1)), 1);
      worker->PollOnce(0);
      ASSERT_EQ(::recv(backend.fd(), buffer, sizeof(buffer), 0), 1200);
    }
  };
  relay_pairs(10);
  relay_queued(10);

  const int64_t before = allocation_count;
  relay_pairs(1000);
  EXPECT_EQ(allocation_count, before);
  const int64_t before_queued = allocation_count;
  relay_queued(1000);
  EXPECT_EQ(allocation_count, before_queued);
}

TEST(AllocationTest, AnEventOfASessionAllocatesNothing) {
  SessionEvents events(std::make_shared<test::RecordingSessionObserver>(),
                       Clock::Monotonic(), /*queue_size=*/100);
  SessionEventQueue* const queue = events.AddShard();
  const int64_t before = allocation_count;
  for (int i = 0; i < 1000; ++i) queue->Post(SessionEvent(), i);
  EXPECT_EQ(allocation_count, before);
  EXPECT_EQ(events.waiting(), 100);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
