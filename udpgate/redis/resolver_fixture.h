// What the tests of RedisBackendResolver share.
#ifndef UDPGATE_REDIS_RESOLVER_FIXTURE_H_
#define UDPGATE_REDIS_RESOLVER_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "testing/await.h"
#include "testing/internal/support/redis_server.h"
#include "testing/simulated_clock.h"
#include "udpgate/dns/fake_dns_server.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/redis/internal/log_collector.h"
#include "udpgate/redis/internal/scripted_peer.h"
#include "udpgate/redis/redis_backend_resolver.h"

namespace udpgate {
namespace test {

inline constexpr char kKey[] = "udp_gate:backend";
// Longer than any test.
inline constexpr absl::Duration kLongTimeout = absl::Minutes(10);
// The documented limit is 100 ms; the rest is for a busy machine.
inline constexpr absl::Duration kStopTimeMax = absl::Seconds(1);

inline constexpr char kBackend[] = "1.2.3.4:5 1.2.3.4:5";

inline constexpr auto kUnavailable = absl::StatusCode::kUnavailable;
inline constexpr auto kFailedPrecondition =
    absl::StatusCode::kFailedPrecondition;

// A resolution and its result.
class Resolution {
 public:
  explicit Resolution(BackendResolver* resolver,
                      absl::Duration timeout = kLongTimeout) {
    Begin(resolver, RequestWith(timeout));
  }
  Resolution(BackendResolver* resolver, const ResolveRequest& request) {
    Begin(resolver, request);
  }

  int count() const {
    internal::MutexLock lock(&state_->mutex);
    return state_->count;
  }
  bool is_done() const { return count() > 0; }
  // The address and the label, or the error.
  std::string Await() const {
    const absl::StatusOr<ResolveResult> result = AwaitResult();
    if (!result.ok()) return result.status().ToString();
    return absl::StrCat(result->backend.ToString(), " ", result->label);
  }
  absl::StatusCode AwaitCode() const { return AwaitResult().status().code(); }

 private:
  struct State {
    internal::Mutex mutex;
    int count ABSL_GUARDED_BY(mutex) = 0;
    absl::StatusOr<ResolveResult> result ABSL_GUARDED_BY(mutex);
  };

  static ResolveRequest RequestWith(absl::Duration timeout) {
    ResolveRequest request;
    request.timeout = timeout;
    return request;
  }
  void Begin(BackendResolver* resolver, const ResolveRequest& request) {
    resolver->Resolve(request,
                      [state = state_](absl::StatusOr<ResolveResult> result) {
                        internal::MutexLock lock(&state->mutex);
                        ++state->count;
                        state->result = std::move(result);
                      });
  }

  absl::StatusOr<ResolveResult> AwaitResult() const {
    if (!AwaitTrue([this] { return is_done(); })) {
      return absl::UnknownError("no result");
    }
    internal::MutexLock lock(&state_->mutex);
    return state_->result;
  }

  std::shared_ptr<State> state_ = std::make_shared<State>();
};

class RedisBackendResolverTest : public ::testing::Test {
 protected:
  RedisBackendResolverTest() {
    HostLookupOptions lookup_options;
    lookup_options.dns_servers = dns_.address();
    lookup_ = *HostLookup::Create(lookup_options);
    options_.log_sink = log_.Sink();
    options_.command_timeout = absl::Seconds(10);
    options_.reconnect_backoff_min = absl::Milliseconds(5);
    options_.reconnect_backoff_max = absl::Milliseconds(50);
    // Short, since most tests do not need it.
    options_.failure_pause = absl::Milliseconds(1);
  }

  std::shared_ptr<RedisBackendResolver> Make(absl::string_view address) {
    options_.address = std::string(address);
    auto resolver = RedisBackendResolver::Create(options_, lookup_);
    EXPECT_TRUE(resolver.ok()) << resolver.status();
    return *std::move(resolver);
  }
  std::shared_ptr<RedisBackendResolver> MakeConnected(
      absl::string_view address) {
    auto resolver = Make(address);
    EXPECT_TRUE(AwaitHealthy(resolver.get())) << resolver->Health();
    return resolver;
  }
  static bool AwaitHealthy(RedisBackendResolver* resolver) {
    return AwaitTrue([&] { return resolver->Health().ok(); });
  }
  // Resolves until the result is `wanted`.
  static bool AwaitBackend(RedisBackendResolver* resolver,
                           absl::string_view wanted) {
    return AwaitTrue([&] { return Resolution(resolver).Await() == wanted; });
  }
  // Starts a Redis server.
  static std::unique_ptr<RedisServer> StartRedis(
      RedisServerOptions options = {}) {
    auto redis = std::make_unique<RedisServer>(std::move(options));
    const absl::Status status = redis->Start();
    EXPECT_TRUE(status.ok()) << status;
    return redis;
  }
  static void Set(const RedisServer& redis, absl::string_view value,
                  absl::string_view key = kKey) {
    const auto done =
        redis.Command({"SET", std::string(key), std::string(value)});
    EXPECT_TRUE(done.ok()) << done.status();
  }
  // Waits until the thread has read all earlier resolutions, and so has
  // completed one with a timeout of 0.
  static bool AwaitAllQueued(RedisBackendResolver* resolver) {
    const Resolution short_lived(resolver, absl::ZeroDuration());
    return AwaitTrue([&] { return short_lived.is_done(); });
  }
  static absl::Duration TimeToStop(
      std::shared_ptr<RedisBackendResolver> resolver) {
    const absl::Time before = absl::Now();
    resolver.reset();
    return absl::Now() - before;
  }

  FakeDnsServer dns_;
  LogCollector log_;
  // Used if a test sets `options_.clock`.
  SimulatedClock clock_;
  std::shared_ptr<HostLookup> lookup_;
  RedisOptions options_;
};

// Replies to GET with the bytes that were set last.
class ScriptedRedis {
 public:
  explicit ScriptedRedis(absl::string_view bytes) { Say(bytes); }

  void Say(absl::string_view bytes) {
    internal::MutexLock lock(&mutex_);
    bytes_ = std::string(bytes);
    is_disconnected_ = false;
  }
  void ReplyWithBackend(absl::string_view value) {
    Say(ScriptedPeer::Bulk(value));
  }
  // Closes the existing connections, and new ones at once.
  void Disconnect() {
    {
      internal::MutexLock lock(&mutex_);
      is_disconnected_ = true;
    }
    peer_.CloseAll();
  }

  // Closes the existing connections only.
  void CloseConnections() { peer_.CloseAll(); }

  std::string address() const { return peer_.address(); }
  int gets() const { return peer_.command_count("GET"); }
  bool AwaitGets(int count) const {
    return AwaitTrue([&] { return gets() == count; });
  }

 private:
  ScriptedPeer::Action Reply(const ScriptedPeer::Command& command) {
    internal::MutexLock lock(&mutex_);
    if (is_disconnected_) return ScriptedPeer::SayAndClose("");
    if (command[0] != "GET") return ScriptedPeer::Healthy(command);
    return ScriptedPeer::Say(bytes_);
  }

  internal::Mutex mutex_;
  std::string bytes_ ABSL_GUARDED_BY(mutex_);
  bool is_disconnected_ ABSL_GUARDED_BY(mutex_) = false;
  ScriptedPeer peer_{
      [this](const ScriptedPeer::Command& command) { return Reply(command); }};
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_REDIS_RESOLVER_FIXTURE_H_
