// An old and a new gateway in one process, for tests of the takeover.
#ifndef UDPGATE_TAKEOVER_TAKEOVER_FIXTURE_H_
#define UDPGATE_TAKEOVER_TAKEOVER_FIXTURE_H_

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/internal/support/temporary_directory.h"
#include "testing/loopback_peer.h"
#include "testing/mock_backend_resolver.h"
#include "testing/mock_disconnect_source.h"
#include "testing/mock_flow_offload.h"
#include "udpgate/clock.h"
#include "udpgate/internal/session/handover.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/proxy.h"
#include "udpgate/static_backend_resolver.h"
#include "udpgate/takeover/internal/channel.h"
#include "udpgate/takeover/internal/messages.h"
#include "udpgate/takeover/predecessor.h"
#include "udpgate/takeover/takeover_server.h"

namespace udpgate {
namespace test {

using ::testing::_;
using ::testing::HasSubstr;
using ::testing::NiceMock;
using ::testing::Return;
using ::udpgate::internal::UniqueFd;
using ::udpgate::takeover::Predecessor;
using ::udpgate::takeover::TakenOver;
using ::udpgate::takeover::TakeoverServer;
using ::udpgate::takeover::TakeoverServerOptions;
using ::udpgate::takeover::internal::Channel;
using ::udpgate::takeover::internal::Incoming;
using ::udpgate::takeover::internal::NewMessage;
using ::udpgate::takeover::internal::ReceiveMessage;
using ::udpgate::takeover::internal::SendMessage;
using ::udpgate::takeover::internal::ToUnixAddress;

// Workers and listeners.
struct Shape {
  int worker_count;
  int listener_count;
};

// A gateway that another one can take over.
class Gate {
 public:
  explicit Gate(const std::string& path) : path_(path) {}

  void Create(ProxyOptions options, std::shared_ptr<BackendResolver> resolver,
              std::shared_ptr<DisconnectSource> disconnects = nullptr,
              std::shared_ptr<FlowOffload> offload = nullptr) {
    options.log_sink = Sink();
    ProxyDependencies dependencies;
    dependencies.resolver = std::move(resolver);
    dependencies.disconnects = std::move(disconnects);
    dependencies.flow_offload = std::move(offload);
    absl::StatusOr<std::unique_ptr<Proxy>> proxy =
        Proxy::Create(std::move(options), std::move(dependencies));
    ASSERT_TRUE(proxy.ok()) << proxy.status();
    proxy_ = *std::move(proxy);
  }
  void Serve(TakeoverServerOptions options = {}) {
    options.socket_path = path_;
    options.log_sink = Sink();
    absl::StatusOr<std::unique_ptr<TakeoverServer>> server =
        TakeoverServer::Create(options, proxy_.get(),
                               [this] { is_handed_over_ = true; });
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    ASSERT_TRUE(server_->Start().ok());
  }

  Proxy* operator->() { return proxy_.get(); }
  Proxy* get() { return proxy_.get(); }
  TakeoverServer* server() { return server_.get(); }
  bool is_handed_over() const { return is_handed_over_; }
  std::string log() {
    internal::MutexLock lock(&mutex_);
    return log_;
  }
  std::vector<SessionInfo> Sessions() const {
    std::vector<SessionInfo> sessions;
    proxy_->ForEachSession(
        [&](const SessionInfo& session) { sessions.push_back(session); });
    std::sort(
        sessions.begin(), sessions.end(),
        [](const SessionInfo& a, const SessionInfo& b) { return a.id < b.id; });
    return sessions;
  }

 private:
  LogSink Sink() {
    return [this](LogSeverity, absl::string_view text) {
      internal::MutexLock lock(&mutex_);
      absl::StrAppend(&log_, text, "\n");
    };
  }

  const std::string path_;
  std::atomic<bool> is_handed_over_{false};
  internal::Mutex mutex_;
  std::string log_;
  std::unique_ptr<Proxy> proxy_;
  std::unique_ptr<TakeoverServer> server_;
};

class TakeoverTest : public ::testing::Test {
 protected:
  TakeoverTest() : old_(path_), new_(path_) {}

  static ProxyOptions Options(const Shape& shape = {1, 1}) {
    ProxyOptions options;
    options.listen_address = SocketAddress::Ipv4Loopback(0);
    options.worker_count = shape.worker_count;
    options.listener_count = shape.listener_count;
    return options;
  }
  static std::shared_ptr<BackendResolver> Fixed(const EchoBackend& backend) {
    return std::make_shared<StaticBackendResolver>(backend.address());
  }

  void StartOld(const Shape& shape = {1, 1}, TakeoverServerOptions options = {},
                std::shared_ptr<BackendResolver> resolver = nullptr,
                std::shared_ptr<FlowOffload> offload = nullptr) {
    old_.Create(Options(shape), resolver != nullptr ? resolver : Fixed(first_),
                nullptr, std::move(offload));
    ASSERT_TRUE(old_->Start().ok());
    address_ = old_->listen_addresses().front();
    old_.Serve(std::move(options));
  }
  // The new gateway takes over. Its backend for new clients is another one.
  absl::StatusOr<TakenOver> TakeOver(
      const Shape& shape = {1, 1},
      std::shared_ptr<BackendResolver> resolver = nullptr,
      std::shared_ptr<DisconnectSource> disconnects = nullptr,
      std::shared_ptr<FlowOffload> offload = nullptr) {
    return TakeOverWith(Options(shape), std::move(resolver),
                        std::move(disconnects), std::move(offload));
  }
  absl::StatusOr<TakenOver> TakeOverWith(
      ProxyOptions options, std::shared_ptr<BackendResolver> resolver = nullptr,
      std::shared_ptr<DisconnectSource> disconnects = nullptr,
      std::shared_ptr<FlowOffload> offload = nullptr) {
    absl::StatusOr<std::unique_ptr<Predecessor>> predecessor =
        Predecessor::Connect({path_});
    if (!predecessor.ok()) return predecessor.status();
    (*predecessor)->FillIn(&options);
    new_.Create(std::move(options),
                resolver != nullptr ? resolver : Fixed(second_),
                std::move(disconnects), std::move(offload));
    return (*predecessor)->TakeOver(new_.get());
  }
  // The old gateway still serves.
  void ExpectTheOldServes() {
    EXPECT_FALSE(old_.is_handed_over());
    EXPECT_THAT(client_.Ask(address_, "still").value_or("nothing"),
                HasSubstr("still"));
    LoopbackPeer newcomer;
    EXPECT_EQ(newcomer.Ask(address_, "new").value_or("nothing"), "first:new");
  }
  // A process that is not a gateway.
  std::unique_ptr<Channel> ConnectRaw() {
    UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const sockaddr_un name = *ToUnixAddress(path_);
    EXPECT_EQ(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&name),
                        sizeof(name)),
              0);
    auto channel = std::make_unique<Channel>(std::move(socket));
    channel->BeginStage(kAwaitTimeout);
    return channel;
  }
  static nlohmann::json Hello() {
    nlohmann::json hello = NewMessage("hello");
    hello["version"] = takeover::internal::kVersion;
    return hello;
  }
  // The conversation up to the pause.
  void AskForPause(Channel* channel, bool keeps_flows = false) {
    ASSERT_TRUE(SendMessage(Hello(), channel).ok());
    ASSERT_TRUE(ReceiveMessage("gate", channel).ok());
    ASSERT_TRUE(SendMessage(NewMessage("sockets"), channel).ok());
    for (;;) {
      const absl::StatusOr<Incoming> message = ReceiveMessage(channel);
      ASSERT_TRUE(message.ok()) << message.status();
      if (message->type == "sockets_end") break;
    }
    nlohmann::json pause = NewMessage("pause");
    if (keeps_flows) pause["keeps_flows"] = true;
    ASSERT_TRUE(SendMessage(pause, channel).ok());
  }

  // Everything that is sent in the pause.
  static void AwaitState(Channel* channel) {
    for (;;) {
      const absl::StatusOr<Incoming> message = ReceiveMessage(channel);
      ASSERT_TRUE(message.ok()) << message.status();
      if (message->type == "state") break;
    }
  }

  TemporaryDirectory directory_;
  const std::string path_ = directory_.path() + "/takeover.sock";
  EchoBackend first_{"first"};
  EchoBackend second_{"second"};
  LoopbackPeer client_;
  HeldResolves held_;  // outlives the gateways, whose threads write to it
  Gate old_;
  Gate new_;
  SocketAddress address_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TAKEOVER_TAKEOVER_FIXTURE_H_
