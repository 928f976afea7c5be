// What the tests of Proxy share.
#ifndef UDPGATE_PROXY_FIXTURE_H_
#define UDPGATE_PROXY_FIXTURE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/loopback_peer.h"
#include "testing/mock_backend_resolver.h"
#include "testing/mock_disconnect_source.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/logging.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_options.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace test {

inline void IgnoreLog(LogSeverity /*severity*/, absl::string_view /*message*/) {
}

// One worker, and a port that the kernel chooses.
inline ProxyOptions LoopbackOptions() {
  ProxyOptions options;
  options.listen_address = SocketAddress::Ipv4Loopback(0);
  options.worker_count = 1;
  options.log_sink = IgnoreLog;
  return options;
}

// An address of this host (127.0.0.0/8) that no other test uses at the same
// time, so that all of its ports are free.
inline SocketAddress OwnLoopbackAddress() {
  std::random_device device;
  const uint32_t id = device();
  return *SocketAddress::FromIpAndPort(
      absl::StrCat("127.", 1 + (id >> 16) % 250, ".", (id >> 8) & 255, ".",
                   1 + (id & 127)),
      0);
}

// For tests that forward nothing: the backend is the discard port (RFC 863).
inline ProxyDependencies FixedBackend() {
  ProxyDependencies dependencies;
  dependencies.resolver =
      std::make_shared<StaticBackendResolver>(SocketAddress::Ipv4Loopback(9));
  return dependencies;
}

// The numbers of workers and of listeners.
using ThreadCounts = std::tuple<int, int>;

inline auto AllThreadCounts() {
  return ::testing::Combine(::testing::Values(0, 1, 4),
                            ::testing::Values(1, 2));
}
inline std::string NameOf(const ::testing::TestParamInfo<ThreadCounts>& info) {
  return absl::StrCat("Workers", std::get<0>(info.param), "Listeners",
                      std::get<1>(info.param));
}

// A proxy on the loopback interface, with an echo backend.
class ProxyTest : public ::testing::TestWithParam<ThreadCounts> {
 protected:
  ProxyTest() {
    options_ = LoopbackOptions();
    options_.worker_count = std::get<0>(GetParam());
    options_.listener_count = std::get<1>(GetParam());
    dependencies_.resolver = resolver_;
    dependencies_.disconnects = disconnects_;
    ON_CALL(*resolver_, Resolve).WillByDefault(ResolveWith(backend_.address()));
    ON_CALL(*disconnects_, Start)
        .WillByDefault(CaptureHandlerIn(&disconnect_handler_));
  }

  // Creates `proxy_` from `options_` and `dependencies_`.
  void Create() {
    auto proxy = Proxy::Create(options_, dependencies_);
    ASSERT_TRUE(proxy.ok()) << proxy.status();
    proxy_ = *std::move(proxy);
  }
  void Start() {
    Create();
    ASSERT_NE(proxy_, nullptr);
    const absl::Status status = proxy_->Start();
    ASSERT_TRUE(status.ok()) << status;
  }

  const SocketAddress& listen_address() const {
    return proxy_->listen_addresses()[0];
  }

  // Returns the payload of the reply, or the error.
  std::string Ask(LoopbackPeer& client, absl::string_view payload) {
    const absl::StatusOr<std::string> reply =
        client.Ask(listen_address(), payload);
    return reply.ok() ? *reply : reply.status().ToString();
  }
  void Send(const LoopbackPeer& client, absl::string_view payload) {
    const absl::Status sent = client.Send(listen_address(), payload);
    ASSERT_TRUE(sent.ok()) << sent;
  }

  std::vector<SessionInfo> Sessions() const {
    std::vector<SessionInfo> sessions;
    proxy_->ForEachSession(
        [&](const SessionInfo& session) { sessions.push_back(session); });
    return sessions;
  }

  // Disconnects `target` and returns the number of ended sessions.
  int64_t Disconnect(const DisconnectTarget& target) {
    auto count = std::make_shared<std::atomic<int64_t>>(-1);
    proxy_->Disconnect(target, [count](int64_t ended) { *count = ended; });
    EXPECT_TRUE(AwaitTrue([&] { return *count != -1; }));
    return *count;
  }

  bool AwaitDropped(DropReason reason, uint64_t count) {
    return AwaitTrue(
        [&] { return proxy_->GetStats().dropped(reason) == count; });
  }
  bool AwaitEnded(EndReason reason, uint64_t count) {
    return AwaitTrue([&] { return proxy_->GetStats().ended(reason) == count; });
  }

  // True if every datagram and every session is counted exactly once.
  static bool IsAccounted(const ProxyStats& stats) {
    return stats.client_datagrams_received + stats.backend_datagrams_received ==
               stats.client_datagrams_forwarded +
                   stats.backend_datagrams_forwarded + stats.dropped_total() +
                   stats.datagrams_held &&
           stats.sessions_created + stats.sessions_restored ==
               stats.sessions_active + stats.sessions_pending +
                   stats.ended_total();
  }

  ProxyOptions options_;
  ProxyDependencies dependencies_;
  EchoBackend backend_{"echo"};
  std::shared_ptr<::testing::NiceMock<MockBackendResolver>> resolver_ =
      std::make_shared<::testing::NiceMock<MockBackendResolver>>();
  std::shared_ptr<::testing::NiceMock<MockDisconnectSource>> disconnects_ =
      std::make_shared<::testing::NiceMock<MockDisconnectSource>>();
  DisconnectSource::Handler disconnect_handler_;
  HeldResolves held_;
  std::unique_ptr<Proxy> proxy_;  // last: it uses all of the above
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_PROXY_FIXTURE_H_
