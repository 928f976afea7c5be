#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/echo_backend.h"
#include "testing/failing_sys_calls.h"
#include "testing/loopback_peer.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_fixture.h"
#include "udpgate/proxy_options.h"
#include "udpgate/socket_address.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace test {
namespace {

absl::Status CreateStatus(const ProxyOptions& options) {
  return Proxy::Create(options, FixedBackend()).status();
}

// Returns a bound UDP socket, as a service manager passes it. If the port of
// `address` is 0, the kernel chooses one. `bound` receives the address.
int BoundSocket(const SocketAddress& address, SocketAddress* bound) {
  const int fd = socket(address.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  EXPECT_EQ(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
  sockaddr_storage name;
  socklen_t size = address.ToSockaddr(address.family(), &name);
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&name), size), 0);
  size = sizeof(name);
  EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size), 0);
  *bound =
      SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&name), size);
  return fd;
}

bool IsOpen(int fd) { return fcntl(fd, F_GETFD) != -1; }

struct InvalidOption {
  const char* field;
  std::function<void(ProxyOptions*)> make_invalid;
};

void PrintTo(const InvalidOption& option, std::ostream* out) {
  *out << option.field;
}

class ProxyInvalidOptionTest : public ::testing::TestWithParam<InvalidOption> {
};

TEST_P(ProxyInvalidOptionTest, ErrorNamesTheField) {
  ProxyOptions options = LoopbackOptions();
  ASSERT_TRUE(options.Validate().ok());
  GetParam().make_invalid(&options);
  for (const absl::Status& status :
       {options.Validate(), CreateStatus(options)}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(absl::StrContains(status.message(), GetParam().field))
        << status;
  }
}

#define UDPGATE_INVALID(field, value)                              \
  InvalidOption {                                                  \
#field, [](ProxyOptions * options) { options->field = value; } \
  }

INSTANTIATE_TEST_SUITE_P(
    All, ProxyInvalidOptionTest,
    ::testing::Values(
        UDPGATE_INVALID(listen_address, SocketAddress()),
        UDPGATE_INVALID(listener_count, -1), UDPGATE_INVALID(listener_count, 0),
        UDPGATE_INVALID(listener_count, 65), UDPGATE_INVALID(worker_count, -1),
        UDPGATE_INVALID(worker_count, 257),
        UDPGATE_INVALID(queue_size_datagrams, 0),
        UDPGATE_INVALID(queue_size_datagrams, -1),
        UDPGATE_INVALID(queue_size_datagrams, (1 << 20) + 1),
        UDPGATE_INVALID(disconnect_queue_size, 0),
        UDPGATE_INVALID(disconnect_queue_size, (1 << 20) + 1),
        UDPGATE_INVALID(event_queue_size, 0),
        UDPGATE_INVALID(event_queue_size, (1 << 20) + 1),
        UDPGATE_INVALID(session_events_max, 0),
        UDPGATE_INVALID(session_events_max, (1 << 20) + 1),
        UDPGATE_INVALID(listen_fds, std::vector<int>(65, -1)),
        UDPGATE_INVALID(batch_size, 0), UDPGATE_INVALID(batch_size, 1025),
        UDPGATE_INVALID(receive_buffer_bytes, 4095),
        UDPGATE_INVALID(receive_buffer_bytes, -1),
        UDPGATE_INVALID(receive_buffer_bytes, (int64_t{1} << 30) + 1),
        UDPGATE_INVALID(limits.session_idle_timeout, absl::Milliseconds(9)),
        UDPGATE_INVALID(limits.session_idle_timeout, -absl::Seconds(1)),
        UDPGATE_INVALID(limits.session_idle_timeout, absl::Hours(25)),
        UDPGATE_INVALID(limits.session_idle_timeout, absl::InfiniteDuration()),
        UDPGATE_INVALID(limits.max_sessions, -1),
        UDPGATE_INVALID(limits.backend_refusals_max, 0),
        UDPGATE_INVALID(limits.backend_refusals_max, 1001),
        UDPGATE_INVALID(limits.resolve_timeout, absl::ZeroDuration()),
        UDPGATE_INVALID(limits.resolve_timeout, absl::Hours(2)),
        UDPGATE_INVALID(limits.resolve_timeout, absl::InfiniteDuration()),
        UDPGATE_INVALID(limits.pending_datagrams_max, 0),
        UDPGATE_INVALID(limits.pending_datagrams_max, 1025)));

#undef UDPGATE_INVALID

TEST(ProxyCreateTest, MissingResolverIsAnError) {
  const absl::Status status =
      Proxy::Create(LoopbackOptions(), ProxyDependencies()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(absl::StrContains(status.message(), "resolver")) << status;
}

TEST(ProxyCreateTest, ErrorNamesAnAddressThatIsNotLocal) {
  ProxyOptions options = LoopbackOptions();
  options.listen_address = *SocketAddress::Parse("192.0.2.1:19132");
  const absl::Status status = CreateStatus(options);
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(absl::StrContains(status.message(), "192.0.2.1:19132")) << status;
}

TEST(ProxyCreateTest, FailureClosesAdoptedDescriptors) {
  SocketAddress address;
  const int fd = BoundSocket(SocketAddress::Ipv4Loopback(0), &address);
  ProxyOptions options = LoopbackOptions();
  options.listen_fds = {fd};
  options.batch_size = 0;
  EXPECT_FALSE(CreateStatus(options).ok());
  EXPECT_FALSE(IsOpen(fd));
}

TEST(ProxyCreateTest, AdoptedDescriptorMustBeAUdpSocket) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ProxyOptions options = LoopbackOptions();
  options.listen_fds = {fd};
  EXPECT_FALSE(CreateStatus(options).ok());
  EXPECT_FALSE(IsOpen(fd));
}

TEST(ProxyCreateTest, HandlesFailureOfEverySystemCall) {
  // Counts the calls of a Create that succeeds, then fails each in turn.
  constexpr Call kCalls[] = {Call::kSocket, Call::kBind, Call::kGetSockName,
                             Call::kEpollCreate, Call::kEventFd};
  for (const Call call : kCalls) {
    FailingSysCalls sys_calls;
    ProxyDependencies dependencies = FixedBackend();
    dependencies.sys_calls = &sys_calls;
    ASSERT_TRUE(Proxy::Create(LoopbackOptions(), dependencies).ok());
    const int64_t call_count = sys_calls.calls(call);
    // The watcher of the host's addresses is optional.
    int survived_count = 0;
    for (int64_t n = 1; n <= call_count; ++n) {
      sys_calls.Reset();
      sys_calls.FailNth(call, n, EMFILE);
      const absl::Status status =
          Proxy::Create(LoopbackOptions(), dependencies).status();
      if (status.ok()) ++survived_count;
      EXPECT_EQ(sys_calls.failures(call), 1);
    }
    const bool is_watchers = call == Call::kSocket || call == Call::kBind;
    EXPECT_EQ(survived_count, is_watchers ? 1 : 0)
        << "call " << static_cast<int>(call);
  }
}

TEST(ProxyCreateTest, ReportsTheGrantedReceiveBuffer) {
  ProxyOptions options = LoopbackOptions();
  options.receive_buffer_bytes = 65536;
  auto proxy = Proxy::Create(options, FixedBackend());
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  EXPECT_EQ((*proxy)->receive_buffer_bytes(), 65536);
}

using ProxyListenTest = ProxyTest;

INSTANTIATE_TEST_SUITE_P(ThreadCounts, ProxyListenTest, AllThreadCounts(),
                         NameOf);

TEST_P(ProxyListenTest, PortZeroLetsTheKernelChoose) {
  Create();
  const std::vector<SocketAddress>& addresses = proxy_->listen_addresses();
  ASSERT_EQ(addresses.size(), std::get<1>(GetParam()));
  EXPECT_NE(addresses[0].port(), 0);
  for (const SocketAddress& address : addresses) {
    EXPECT_EQ(address, SocketAddress::Ipv4Loopback(addresses[0].port()));
  }
}

TEST_P(ProxyListenTest, SecondProxyOnTheSameAddressIsRefused) {
  Create();
  ProxyOptions second = options_;
  second.listen_address = listen_address();
  const absl::Status status = CreateStatus(second);
  EXPECT_FALSE(status.ok());
  EXPECT_TRUE(absl::StrContains(status.message(), listen_address().ToString()))
      << status;
}

TEST_P(ProxyListenTest, AddressIsFreeAfterDestruction) {
  Start();
  options_.listen_address = listen_address();
  proxy_.reset();
  Start();
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "hello"), "echo:hello");
}

TEST_P(ProxyListenTest, AdoptsListenDescriptors) {
  // The number of descriptors overrides listener_count.
  SocketAddress address;
  const int first = BoundSocket(SocketAddress::Ipv4Loopback(0), &address);
  options_.listen_fds = {first, BoundSocket(address, &address)};
  options_.listen_address = SocketAddress();
  Start();
  ASSERT_EQ(proxy_->listen_addresses().size(), 2u);
  EXPECT_EQ(proxy_->listen_addresses()[0], address);
  EXPECT_EQ(proxy_->listen_addresses()[1], address);
  std::vector<LoopbackPeer> clients(8);
  for (LoopbackPeer& client : clients) {
    EXPECT_EQ(Ask(client, "hello"), "echo:hello");
  }
  proxy_.reset();
  EXPECT_FALSE(IsOpen(first));
}

TEST_P(ProxyListenTest, SeveralProxiesShareOneProcess) {
  Start();
  EchoBackend other_backend("other");
  ProxyDependencies dependencies;
  dependencies.resolver =
      std::make_shared<StaticBackendResolver>(other_backend.address());
  auto other = Proxy::Create(options_, dependencies);
  ASSERT_TRUE(other.ok()) << other.status();
  ASSERT_TRUE((*other)->Start().ok());
  LoopbackPeer client;
  EXPECT_EQ(Ask(client, "1"), "echo:1");
  EXPECT_EQ(client.Ask((*other)->listen_addresses()[0], "2").value_or(""),
            "other:2");
  (*other)->Stop();
  EXPECT_EQ(Ask(client, "3"), "echo:3");
}

}  // namespace
}  // namespace test
}  // namespace udpgate
