#include "udpgate/dns/named_backend_resolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/types/optional.h"
#include "testing/await.h"
#include "testing/simulated_clock.h"
#include "udpgate/dns/backend_text.h"
#include "udpgate/dns/fake_dns_server.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace {

class Resolution {
 public:
  BackendResolver::Callback Catch() {
    return [this](absl::StatusOr<ResolveResult> result) {
      internal::MutexLock lock(&mutex_);
      result_ = std::move(result);
    };
  }
  bool is_done() {
    internal::MutexLock lock(&mutex_);
    return result_.has_value();
  }
  absl::StatusOr<ResolveResult> Await() {
    EXPECT_TRUE(test::AwaitTrue([this] { return is_done(); }));
    internal::MutexLock lock(&mutex_);
    return *result_;
  }

 private:
  internal::Mutex mutex_;
  absl::optional<absl::StatusOr<ResolveResult>> result_ ABSL_GUARDED_BY(mutex_);
};

class NamedBackendResolverTest : public ::testing::Test {
 protected:
  NamedBackendResolverTest() {
    HostLookupOptions options;
    options.dns_servers = dns_.address();
    options.clock = &clock_;
    options.has_route = [this](const SocketAddress& ip) {
      return ip.family() != unreachable_family_.load();
    };
    lookup_ = *HostLookup::Create(options);
  }

  absl::StatusOr<ResolveResult> Resolve(absl::string_view backend) {
    const auto resolver = NamedBackendResolver::Create(backend, lookup_);
    if (!resolver.ok()) return resolver.status();
    return Ask(resolver->get());
  }
  static absl::StatusOr<ResolveResult> Ask(BackendResolver* resolver) {
    ResolveRequest request;
    request.timeout = absl::Minutes(1);
    Resolution resolution;
    resolver->Resolve(request, resolution.Catch());
    return resolution.Await();
  }

  test::FakeDnsServer dns_;
  test::SimulatedClock clock_;
  std::atomic<int> unreachable_family_{0};
  std::shared_ptr<HostLookup> lookup_;
};

TEST_F(NamedBackendResolverTest, ReturnsAnIpAddressInline) {
  for (const char* text : {"10.0.0.5:19132", "[fd00::5]:19132"}) {
    const auto resolver = NamedBackendResolver::Create(text, lookup_);
    ASSERT_TRUE(resolver.ok()) << resolver.status();
    Resolution resolution;
    (*resolver)->Resolve({SocketAddress(), {}, absl::Seconds(1)},
                         resolution.Catch());
    ASSERT_TRUE(resolution.is_done());
    const absl::StatusOr<ResolveResult> result = resolution.Await();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->backend.ToString(), text);
    EXPECT_EQ(result->label, text);
  }
}

TEST_F(NamedBackendResolverTest, LooksTheNameUpAndKeepsItAsLabel) {
  dns_.Set("lobby.test", {"fd00::5", "10.0.0.5", "10.0.0.6"});
  const absl::StatusOr<ResolveResult> result = Resolve(" Lobby.test:19132\n");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->backend.ToString(), "10.0.0.5:19132");
  EXPECT_EQ(result->label, "Lobby.test:19132");
  ASSERT_EQ(result->alternatives.size(), 2u);
  EXPECT_EQ(result->alternatives[0].ToString(), "10.0.0.6:19132");
  EXPECT_EQ(result->alternatives[1].ToString(), "[fd00::5]:19132");
}

TEST_F(NamedBackendResolverTest, PrefersAReachableFamily) {
  dns_.Set("lobby.test", {"10.0.0.5", "fd00::5"});
  unreachable_family_.store(AF_INET);
  EXPECT_EQ(Resolve("lobby.test:1")->backend.ToString(), "[fd00::5]:1");
  clock_.Advance(absl::Seconds(5));
  unreachable_family_.store(AF_INET6);
  EXPECT_EQ(Resolve("lobby.test:1")->backend.ToString(), "10.0.0.5:1");
}

TEST_F(NamedBackendResolverTest, TakesTheFirstUnicastAddress) {
  dns_.Set("lobby.test", {"0.0.0.0", "224.0.0.1", "10.0.0.5", "10.0.0.6"});
  const absl::StatusOr<ResolveResult> result = Resolve("lobby.test:1");
  EXPECT_EQ(result->backend.ToString(), "10.0.0.5:1");
  EXPECT_EQ(result->alternatives.size(), 1u);
}

TEST_F(NamedBackendResolverTest, FollowsANameThatMoves) {
  dns_.Set("lobby.test", {"10.0.0.5"});
  const auto resolver =
      NamedBackendResolver::Create("lobby.test:19132", lookup_);
  ASSERT_TRUE(resolver.ok()) << resolver.status();
  EXPECT_EQ(Ask(resolver->get())->backend.ToString(), "10.0.0.5:19132");
  dns_.Set("lobby.test", {"fd00::6"});
  clock_.Advance(absl::Seconds(5));
  EXPECT_EQ(Ask(resolver->get())->backend.ToString(), "[fd00::6]:19132");
}

TEST_F(NamedBackendResolverTest, PassesErrorsOn) {
  EXPECT_TRUE(absl::IsNotFound(Resolve("missing.test:19132").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Resolve("lobby.test").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Resolve("lobby.test:0").status()));
}

TEST_F(NamedBackendResolverTest, RejectsOtherThanUnicastAddresses) {
  dns_.Set("any.test", {"0.0.0.0"});
  for (const char* text : {"0.0.0.0:5", "[::]:5", "224.0.0.1:5", "[ff02::1]:5",
                           "255.255.255.255:5", "any.test:5"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Resolve(text).status())) << text;
  }
}

}  // namespace
}  // namespace udpgate
