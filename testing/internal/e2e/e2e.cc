#include "testing/internal/e2e/e2e.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "testing/internal/support/network_namespace.h"
#include "udpgate/dns/named_backend_resolver.h"
#include "udpgate/fastpath/kernel_flow_offload.h"
#include "udpgate/redis/redis_backend_resolver.h"
#include "udpgate/redis/redis_disconnect_source.h"
#include "udpgate/static_backend_resolver.h"

namespace udpgate {
namespace test {
namespace {

// Ends the process where `result` is an error: nothing can be tested then.
template <typename T>
T OrAbort(absl::StatusOr<T> result) {
  if (!result.ok()) {
    std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
    std::abort();
  }
  return *std::move(result);
}

// Whether the target wants every gate on the kernel's fast path; its `env`.
bool IsOnFastPath() { return std::getenv("UDPGATE_FAST_PATH") != nullptr; }

// The whole test is then in a network namespace of its own, and so are its
// children: its filters are nobody else's.
class FastPathEnvironment : public ::testing::Environment {
 public:
  void SetUp() override {
    if (!IsOnFastPath()) return;
    const absl::StatusOr<std::unique_ptr<NetworkNamespace>> space =
        NetworkNamespace::Create();
    if (absl::IsPermissionDenied(space.status()) &&
        std::getenv("CI") == nullptr) {
      GTEST_SKIP() << space.status();
    }
    ASSERT_TRUE(space.ok()) << space.status();
    (*space)->Command("ip link set lo up");
    (*space)->Enter();
  }
};

const ::testing::Environment* const kEnvironment =
    ::testing::AddGlobalTestEnvironment(new FastPathEnvironment);

}  // namespace

std::string GateBinary() {
  // The target's `env`; relative to the runfiles, in which a test starts.
  const char* path = std::getenv("UDPGATE_BINARY");
  return path != nullptr ? path : "cli/udp-gate";
}

std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  return out << shape.worker_count << " workers, " << shape.listener_count
             << " listeners";
}

std::string ShapeName(const ::testing::TestParamInfo<Shape>& info) {
  return absl::StrCat("Workers", info.param.worker_count, "Listeners",
                      info.param.listener_count);
}

bool IsServedBy(LoopbackPeer* client, const SocketAddress& gate,
                absl::string_view name, int count) {
  for (int i = 0; i < count; ++i) {
    const std::string payload = absl::StrCat("ask ", i);
    absl::StatusOr<std::string> reply = client->Ask(gate, payload);
    if (!reply.ok() || *reply != absl::StrCat(name, ":", payload)) {
      std::fprintf(
          stderr, "no. %d: %s\n", i,
          reply.ok() ? reply->c_str() : reply.status().ToString().c_str());
      return false;
    }
  }
  return true;
}

std::string Describe(const ProxyStats& stats) {
  std::string text;
  for (const ProxyStatField& field : ProxyStatFields()) {
    absl::StrAppend(&text, "\n", field.name, " ", stats.*field.value);
  }
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    absl::StrAppend(&text, "\ndropped, ",
                    DropReasonName(static_cast<DropReason>(i)), ": ",
                    stats.datagrams_dropped[i]);
  }
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    absl::StrAppend(&text, "\nended, ",
                    EndReasonName(static_cast<EndReason>(i)), ": ",
                    stats.sessions_ended[i]);
  }
  return text;
}

::testing::AssertionResult AccountsForAll(const ProxyStats& stats) {
  const uint64_t received =
      stats.client_datagrams_received + stats.backend_datagrams_received;
  const uint64_t accounted = stats.client_datagrams_forwarded +
                             stats.backend_datagrams_forwarded +
                             stats.dropped_total() + stats.datagrams_held;
  const uint64_t sessions =
      stats.sessions_active + stats.sessions_pending + stats.ended_total();
  if (received == accounted && stats.sessions_created == sessions) {
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure()
         << "received " << received << ", accounted for " << accounted
         << "; sessions created " << stats.sessions_created
         << ", accounted for " << sessions << Describe(stats);
}

RedisServer* GateTest::redis_ = nullptr;

void GateTest::SetUpTestSuite() {
  redis_ = new RedisServer;
  const absl::Status started = redis_->Start();
  ASSERT_TRUE(started.ok()) << started;
}

void GateTest::TearDownTestSuite() {
  delete redis_;
  redis_ = nullptr;
}

void GateTest::SetUp() {
  // A test may have left it killed or paused.
  if (redis_->running()) {
    redis_->Resume();
  } else {
    ASSERT_TRUE(redis_->Start().ok());
  }
  ASSERT_TRUE(redis_->Command({"FLUSHALL"}).ok());
}

void GateTest::TearDown() {
  if (gate_ != nullptr) StopGate();
}

std::map<std::string, std::string> GateTest::RedisEnvironment() {
  return {{"REDIS_ADDR", redis_->tcp_address()}};
}

void GateTest::SetBackend(const EchoBackend& backend) {
  SetBackendText(backend.address().ToString());
}

void GateTest::SetBackendText(absl::string_view text) {
  const absl::StatusOr<std::string> reply =
      redis_->Command({"SET", kBackendKey, std::string(text)});
  ASSERT_TRUE(reply.ok()) << reply.status();
}

bool GateTest::AwaitSubscriber(RedisServer* server, absl::string_view channel) {
  return AwaitTrue([&] {
    const absl::StatusOr<std::string> reply =
        server->Command({"PUBSUB", "NUMSUB", std::string(channel)});
    return reply.ok() && absl::EndsWith(*reply, "\n1");
  });
}

void GateTest::Publish(absl::string_view payload) {
  ASSERT_TRUE(AwaitSubscriber(redis_));
  const absl::StatusOr<std::string> receivers =
      redis_->Command({"PUBLISH", kDisconnectChannel, std::string(payload)});
  ASSERT_TRUE(receivers.ok()) << receivers.status();
  EXPECT_EQ(*receivers, "1");
}

void GateTest::StartGate(std::map<std::string, std::string> environment) {
  GateProcessOptions options;
  options.environment = std::move(environment);
  // Keeps what is there already.
  options.environment.merge(RedisEnvironment());
  if (IsOnFastPath()) options.environment.insert({"FAST_PATH", "required"});
  gate_ = std::make_unique<GateProcess>(GateBinary(), std::move(options));
  const absl::Status started = gate_->Start();
  ASSERT_TRUE(started.ok()) << started;
}

void GateTest::StartGate(const Shape& shape,
                         std::map<std::string, std::string> environment) {
  environment["WORKER_COUNT"] = absl::StrCat(shape.worker_count);
  environment["LISTENER_COUNT"] = absl::StrCat(shape.listener_count);
  StartGate(std::move(environment));
}

void GateTest::StopGate() {
  const std::unique_ptr<GateProcess> gate = std::move(gate_);
  ASSERT_TRUE(gate->running()) << "ended by itself:\n" << gate->log();
  const absl::StatusOr<ExitResult> result = gate->Terminate();
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->status, 0) << "signal " << result->signal << "\n"
                               << gate->log();
  EXPECT_LT(result->duration, kStopTimeMax);
  if (HasFailure()) std::fprintf(stderr, "%s", gate->log().c_str());
}

InProcessGate::InProcessGate(const Options& options) {
  ProxyOptions proxy_options = options.proxy;
  if (proxy_options.listen_address == ProxyOptions().listen_address) {
    proxy_options.listen_address = SocketAddress::Ipv4Loopback(0);
  }
  ProxyDependencies dependencies;
  if (options.backend.is_valid()) {
    dependencies.resolver =
        std::make_shared<StaticBackendResolver>(options.backend);
  } else if (!options.named_backend.empty()) {
    dependencies.resolver = OrAbort(NamedBackendResolver::Create(
        options.named_backend, OrAbort(HostLookup::Create(options.lookup))));
  } else {
    const std::shared_ptr<HostLookup> lookup =
        OrAbort(HostLookup::Create(options.lookup));
    dependencies.resolver =
        OrAbort(RedisBackendResolver::Create(options.redis, lookup));
    dependencies.disconnects =
        OrAbort(RedisDisconnectSource::Create(options.redis, lookup));
  }
  if (IsOnFastPath()) {
    fastpath::KernelFlowOffload::Options offload_options;
    offload_options.sessions_max = 4096;
    offload_options.listen_addresses = {proxy_options.listen_address};
    offload_options.log_sink = proxy_options.log_sink;
    dependencies.flow_offload =
        OrAbort(fastpath::KernelFlowOffload::Create(offload_options));
  }
  proxy_ = OrAbort(Proxy::Create(proxy_options, std::move(dependencies)));
  if (absl::Status started = proxy_->Start(); !started.ok()) {
    OrAbort<int>(started);
  }
}

void InProcessGateTest::SetUp() {
  GateTest::SetUp();
  options_.redis.address = redis().tcp_address();
  // What goes wrong on purpose is no news.
  options_.redis.log_sink = [](LogSeverity, absl::string_view) {};
  options_.proxy.log_sink = options_.redis.log_sink;
}

void InProcessGateTest::TearDown() {
  GateTest::TearDown();
  if (in_process_ == nullptr) return;
  const absl::Time begin = absl::Now();
  in_process_->proxy().Stop();
  EXPECT_LT(absl::Now() - begin, kStopTimeMax);
  EXPECT_TRUE(AccountsForAll(in_process_->stats()));
  EXPECT_EQ(in_process_->stats().datagrams_held, 0u);
}

void InProcessGateTest::StartInProcess() {
  in_process_ = std::make_unique<InProcessGate>(options_);
}

}  // namespace test
}  // namespace udpgate
