// Two gateways of a fleet: one has the session of a client, and the client's
// datagrams come by the other.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/loopback_peer.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/forward/openssl_envelope_keys.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/logging.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_fixture.h"

namespace udpgate {
namespace test {
namespace {

constexpr char kSecret[] = "a secret of all gateways of a fleet";

std::shared_ptr<forward::EnvelopeKeys> Keys(absl::string_view secret) {
  return *forward::OpenSslEnvelopeKeys::FromSecret(secret);
}

// The record of the client's session names its gateway.
ResolveResult ForwardTo(const SocketAddress& owner,
                        const SocketAddress& backend = SocketAddress()) {
  ResolveResult result;
  result.backend = backend;
  result.forward_to = owner;
  return result;
}

ResolveResult ServeBy(const SocketAddress& backend) {
  return {backend, backend.ToString()};
}

// Gives the result that the test has set, or keeps the question until it gives
// one. A mock could not be changed while the Proxy's threads call it.
class SetResolver final : public BackendResolver {
 public:
  void Set(const ResolveResult& result) {
    internal::MutexLock lock(&mutex_);
    result_ = result;
  }
  void Hold() {
    internal::MutexLock lock(&mutex_);
    result_ = absl::nullopt;
  }
  void Give(const ResolveResult& result) {
    Callback done;
    {
      internal::MutexLock lock(&mutex_);
      done = std::move(held_);
    }
    ASSERT_NE(done, nullptr);
    done(result);
  }
  int count() const {
    internal::MutexLock lock(&mutex_);
    return count_;
  }

  void Resolve(const ResolveRequest& /*request*/, Callback done) override {
    absl::optional<ResolveResult> result;
    {
      internal::MutexLock lock(&mutex_);
      ++count_;
      result = result_;
      if (!result.has_value()) held_ = std::move(done);
    }
    if (result.has_value()) done(*std::move(result));
  }

 private:
  mutable internal::Mutex mutex_;
  absl::optional<ResolveResult> result_ ABSL_GUARDED_BY(mutex_);
  Callback held_ ABSL_GUARDED_BY(mutex_);
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
};

// A gateway, and the resolver that it asks.
struct Gateway {
  explicit Gateway(const ThreadCounts& threads) {
    options.worker_count = std::get<0>(threads);
    options.listener_count = std::get<1>(threads);
    options.forward_address = SocketAddress::Ipv4Loopback(0);
  }
  void Start() {
    auto created =
        Proxy::Create(options, {.resolver = resolver, .envelope_keys = keys});
    ASSERT_TRUE(created.ok()) << created.status();
    proxy = *std::move(created);
    ASSERT_TRUE(proxy->Start().ok());
  }
  const SocketAddress& address() const { return proxy->listen_addresses()[0]; }
  ProxyStats stats() const { return proxy->GetStats(); }

  ProxyOptions options = LoopbackOptions();
  std::shared_ptr<forward::EnvelopeKeys> keys = Keys(kSecret);
  std::shared_ptr<SetResolver> resolver = std::make_shared<SetResolver>();
  std::unique_ptr<Proxy> proxy;
};

bool IsAccounted(const ProxyStats& stats) {
  return stats.client_datagrams_received + stats.backend_datagrams_received ==
             stats.client_datagrams_forwarded +
                 stats.backend_datagrams_forwarded + stats.dropped_total() +
                 stats.datagrams_held &&
         stats.sessions_created + stats.sessions_restored ==
             stats.sessions_active + stats.sessions_pending +
                 stats.ended_total();
}

class ProxyForwardTest : public ::testing::TestWithParam<ThreadCounts> {
 protected:
  void SetUp() override { owner_.resolver->Set(ServeBy(backend_.address())); }
  void TearDown() override {
    for (Gateway* gateway : {&owner_, &edge_}) {
      if (gateway->proxy == nullptr) continue;
      EXPECT_TRUE(AwaitTrue([&] { return IsAccounted(gateway->stats()); }));
      gateway->proxy->Stop();
      EXPECT_TRUE(IsAccounted(gateway->stats()));
      EXPECT_EQ(gateway->stats().hop_clients, 0u);
    }
  }
  void Start() {
    owner_.Start();
    edge_.resolver->Set(ForwardTo(owner_.proxy->forward_address()));
    edge_.Start();
  }
  // Sends to a gateway, and returns the reply and whom it is from.
  std::string Ask(LoopbackPeer* client, const Gateway& gateway,
                  absl::string_view payload, SocketAddress* from) {
    EXPECT_TRUE(client->Send(gateway.address(), payload).ok());
    const auto reply = client->Receive();
    if (!reply.ok()) return reply.status().ToString();
    *from = reply->from;
    return reply->payload;
  }
  std::string Ask(LoopbackPeer* client, const Gateway& gateway,
                  absl::string_view payload) {
    SocketAddress from;
    const std::string reply = Ask(client, gateway, payload, &from);
    EXPECT_EQ(from, gateway.address()) << "from whom the client has asked";
    return reply;
  }

  EchoBackend backend_{"echo"};
  EchoBackend other_backend_{"other"};
  Gateway owner_{GetParam()};
  Gateway edge_{GetParam()};
  LoopbackPeer client_;
};

INSTANTIATE_TEST_SUITE_P(Threads, ProxyForwardTest, AllThreadCounts(), NameOf);

TEST_P(ProxyForwardTest, TheSessionGoesOnByAnotherGateway) {
  Start();
  EXPECT_EQ(Ask(&client_, owner_, "1"), "echo:1");
  for (const char* payload : {"2", "3", "", "4"}) {
    EXPECT_EQ(Ask(&client_, edge_, payload), absl::StrCat("echo:", payload));
  }
  EXPECT_EQ(backend_.sources().size(), 1u) << "for the backend it is the same";
  // A datagram is counted after it was sent.
  EXPECT_TRUE(AwaitTrue([&] {
    return edge_.stats().backend_datagrams_forwarded == 4 &&
           owner_.stats().hop_replies_sent == 4;
  }));
  EXPECT_EQ(edge_.resolver->count(), 1);
  const ProxyStats edge = edge_.stats();
  EXPECT_EQ(edge.hop_clients, 1u);
  EXPECT_EQ(edge.sessions_active, 0u);
  EXPECT_EQ(edge.ended(EndReason::kForwarded), 1u);
  EXPECT_EQ(edge.hop_client_datagrams_sent, 4u);
  EXPECT_EQ(edge.hop_replies_received, 4u);
  EXPECT_EQ(edge.client_datagrams_forwarded, 4u);
  EXPECT_EQ(edge.backend_datagrams_forwarded, 4u);
  const ProxyStats owner = owner_.stats();
  EXPECT_EQ(owner.sessions_created, 1u);
  EXPECT_EQ(owner.hop_client_datagrams_received, 4u);
  EXPECT_EQ(owner.hop_replies_sent, 4u);
  EXPECT_EQ(owner.dropped_total() + edge.dropped_total(), 0u);
}

TEST_P(ProxyForwardTest, RepliesTakeTheWayOfTheClientsLastDatagram) {
  Start();
  EXPECT_EQ(Ask(&client_, owner_, "1"), "echo:1");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Ask(&client_, edge_, "by the edge"), "echo:by the edge");
    ASSERT_TRUE(backend_.Send(backend_.sources()[0], "push").ok());
    auto push = client_.Receive();
    ASSERT_TRUE(push.ok()) << push.status();
    EXPECT_EQ(push->from, edge_.address());
    EXPECT_EQ(Ask(&client_, owner_, "direct"), "echo:direct");
    ASSERT_TRUE(backend_.Send(backend_.sources()[0], "push").ok());
    push = client_.Receive();
    ASSERT_TRUE(push.ok()) << push.status();
    EXPECT_EQ(push->from, owner_.address());
  }
}

TEST_P(ProxyForwardTest, OrderIsKeptAlsoOfWhatWaitsForTheAnswer) {
  edge_.resolver->Hold();
  owner_.Start();
  edge_.Start();
  EXPECT_EQ(Ask(&client_, owner_, "first"), "echo:first");
  constexpr int kHeld = 10, kAll = 500;
  for (int i = 0; i < kHeld; ++i) {
    ASSERT_TRUE(client_.Send(edge_.address(), absl::StrCat(i)).ok());
  }
  ASSERT_TRUE(AwaitTrue([&] {
    const ProxyStats stats = edge_.stats();
    return stats.datagrams_held - stats.datagrams_queued == kHeld;
  }));
  edge_.resolver->Give(ForwardTo(owner_.proxy->forward_address()));
  for (int i = kHeld; i < kAll; ++i) {
    ASSERT_TRUE(client_.Send(edge_.address(), absl::StrCat(i)).ok());
    // No faster than the socket's buffer can take.
    if (i % 50 == 0) {
      ASSERT_TRUE(backend_.AwaitReceived(static_cast<size_t>(i)));
    }
  }
  ASSERT_TRUE(backend_.AwaitReceived(kAll + 1));
  const std::vector<Datagram> received = backend_.received();
  for (int i = 0; i < kAll; ++i) {
    ASSERT_EQ(received[static_cast<size_t>(i) + 1].payload, absl::StrCat(i));
  }
  for (int i = 0; i < kAll; ++i) {
    const auto reply = client_.Receive();
    ASSERT_TRUE(reply.ok()) << reply.status();
    ASSERT_EQ(reply->payload, absl::StrCat("echo:", i));
  }
}

TEST_P(ProxyForwardTest, IfTheOwnerHasNoSessionTheClientIsResolvedAgain) {
  Start();
  ASSERT_TRUE(client_.Send(edge_.address(), "lost").ok());
  EXPECT_TRUE(AwaitTrue([&] {
    return owner_.stats().dropped(DropReason::kHopNoSession) == 1 &&
           edge_.stats().hop_refusals == 1;
  }));
  edge_.resolver->Set(ServeBy(other_backend_.address()));
  EXPECT_EQ(Ask(&client_, edge_, "again"), "other:again");
  EXPECT_EQ(owner_.resolver->count(), 0);
  EXPECT_EQ(owner_.stats().sessions_created, 0u);
}

// The store is wrong for a while.
TEST_P(ProxyForwardTest, AnOwnerWithoutTheSessionIsNotBelievedAtOnce) {
  Start();
  edge_.resolver->Set(
      ForwardTo(owner_.proxy->forward_address(), other_backend_.address()));
  ASSERT_TRUE(client_.Send(edge_.address(), "lost").ok());
  EXPECT_TRUE(AwaitTrue([&] { return edge_.stats().hop_refusals == 1; }));
  EXPECT_EQ(Ask(&client_, edge_, "again"), "other:again");
  EXPECT_EQ(Ask(&client_, edge_, "and again"), "other:and again");
  EXPECT_EQ(edge_.stats().hop_clients, 0u);
  EXPECT_EQ(owner_.stats().hop_client_datagrams_received, 1u);
}

// Each of two gateways believes that the other one has the session.
TEST_P(ProxyForwardTest, NothingGoesInACircle) {
  Start();
  owner_.resolver->Set(ForwardTo(edge_.proxy->forward_address()));
  ASSERT_TRUE(client_.Send(edge_.address(), "x").ok());
  EXPECT_TRUE(AwaitTrue([&] {
    return owner_.stats().dropped(DropReason::kHopNoSession) == 1 &&
           edge_.stats().hop_refusals == 1;
  }));
  ASSERT_TRUE(client_.Send(owner_.address(), "x").ok());
  EXPECT_TRUE(AwaitTrue([&] {
    return edge_.stats().dropped(DropReason::kHopNoSession) == 1 &&
           owner_.stats().hop_refusals == 1;
  }));
  EXPECT_EQ(owner_.stats().hop_client_datagrams_received, 1u);
  EXPECT_EQ(edge_.stats().hop_client_datagrams_received, 1u);
}

TEST_P(ProxyForwardTest, AForgottenOwnerIsAskedForAgain) {
  Start();
  EXPECT_EQ(Ask(&client_, owner_, "1"), "echo:1");
  EXPECT_EQ(Ask(&client_, edge_, "2"), "echo:2");
  edge_.resolver->Set(ServeBy(other_backend_.address()));
  edge_.proxy->ForgetOwner(SocketAddress::Ipv4Loopback(1));
  EXPECT_EQ(Ask(&client_, edge_, "3"), "echo:3");
  edge_.proxy->ForgetOwner(owner_.proxy->forward_address());
  EXPECT_EQ(Ask(&client_, edge_, "4"), "other:4");
}

TEST_P(ProxyForwardTest, ASilentOwnerIsAskedForAgain) {
  edge_.options.forward_patience = absl::Milliseconds(10);
  Start();
  EXPECT_EQ(Ask(&client_, owner_, "1"), "echo:1");
  EXPECT_EQ(Ask(&client_, edge_, "2"), "echo:2");
  owner_.proxy->Stop();
  edge_.resolver->Set(ServeBy(other_backend_.address()));
  EXPECT_TRUE(AwaitTrue([&] {
    EXPECT_TRUE(client_.Send(edge_.address(), "3").ok());
    return other_backend_.received_count() > 0;
  }));
}

TEST_P(ProxyForwardTest, ASilentBackendIsNoSilentOwner) {
  edge_.options.forward_patience = absl::Seconds(1);
  Start();
  EXPECT_EQ(Ask(&client_, owner_, "1"), "echo:1");
  backend_.set_silent(true);
  size_t count = 1;
  const absl::Time end = absl::Now() + absl::Milliseconds(2500);
  while (absl::Now() < end) {
    ASSERT_TRUE(client_.Send(edge_.address(), "x").ok());
    ASSERT_TRUE(backend_.AwaitReceived(++count));
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_EQ(edge_.resolver->count(), 1);
  EXPECT_EQ(backend_.sources().size(), 1u);
}

TEST_P(ProxyForwardTest, AnOwnerThatIsSilentForLongIsGivenUp) {
  edge_.options.forward_patience = absl::Milliseconds(100);
  edge_.keys = Keys("another secret, since a file is old");
  Start();
  edge_.resolver->Set(
      ForwardTo(owner_.proxy->forward_address(), backend_.address()));
  EXPECT_EQ(Ask(&client_, owner_, "1"), "echo:1");
  EXPECT_TRUE(AwaitTrue([&] {
    EXPECT_TRUE(client_.Send(edge_.address(), "2").ok());
    return backend_.sources().size() == 2;
  }));
  EXPECT_EQ(edge_.stats().hop_silences, 1u);
  EXPECT_GE(edge_.resolver->count(), 2) << "it is asked again before";
  EXPECT_GE(owner_.stats().dropped(DropReason::kHopInvalid), 3u);
}

TEST_P(ProxyForwardTest, AnUnusedClientIsForgotten) {
  edge_.options.limits.session_idle_timeout = absl::Milliseconds(50);
  Start();
  EXPECT_EQ(Ask(&client_, owner_, "1"), "echo:1");
  EXPECT_EQ(Ask(&client_, edge_, "2"), "echo:2");
  EXPECT_TRUE(AwaitTrue([&] { return edge_.stats().hop_clients == 0; }));
  ASSERT_TRUE(backend_.Send(backend_.sources()[0], "push").ok());
  EXPECT_TRUE(AwaitTrue(
      [&] { return edge_.stats().dropped(DropReason::kHopNoSession) == 1; }));
}

TEST_P(ProxyForwardTest, AnotherSecretIsNoGateway) {
  edge_.keys = Keys("another secret, since a file is old");
  Start();
  EXPECT_EQ(Ask(&client_, owner_, "1"), "echo:1");
  ASSERT_TRUE(client_.Send(edge_.address(), "2").ok());
  EXPECT_TRUE(AwaitTrue(
      [&] { return owner_.stats().dropped(DropReason::kHopInvalid) == 1; }));
  // Nor is a stranger.
  const LoopbackPeer stranger;
  for (const size_t size : {0, 1, 51, 52, 200, 2000}) {
    ASSERT_TRUE(
        stranger.Send(owner_.proxy->forward_address(), std::string(size, 0x11))
            .ok());
  }
  EXPECT_TRUE(AwaitTrue(
      [&] { return owner_.stats().dropped(DropReason::kHopInvalid) == 7; }));
  EXPECT_EQ(backend_.received_count(), 1u);
}

// Somebody on the network between them sends what he has heard once more.
TEST_P(ProxyForwardTest, WhatIsRepeatedCountsOnce) {
  Start();
  EXPECT_EQ(Ask(&client_, owner_, "1"), "echo:1");
  LoopbackPeer eavesdropper;
  edge_.resolver->Set(ForwardTo(eavesdropper.address()));
  ASSERT_TRUE(client_.Send(edge_.address(), "2").ok());
  const auto envelope = eavesdropper.Receive();
  ASSERT_TRUE(envelope.ok()) << envelope.status();
  EXPECT_EQ(envelope->payload.size(), 1u + 52);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(
        eavesdropper.Send(owner_.proxy->forward_address(), envelope->payload)
            .ok());
  }
  EXPECT_TRUE(AwaitTrue(
      [&] { return owner_.stats().dropped(DropReason::kHopReplayed) == 2; }));
  ASSERT_TRUE(backend_.AwaitReceived(2));
  EXPECT_EQ(owner_.stats().hop_client_datagrams_received, 1u);
  EXPECT_EQ(backend_.received_count(), 2u);
}

TEST_P(ProxyForwardTest, WithoutRoomTheClientGetsTheSameBackendFromHere) {
  edge_.options.forwarded_clients_max = 1;
  Start();
  LoopbackPeer second, third;
  for (LoopbackPeer* client : {&client_, &second, &third}) {
    EXPECT_EQ(Ask(client, owner_, "1"), "echo:1");
  }
  EXPECT_EQ(Ask(&client_, edge_, "2"), "echo:2");
  edge_.resolver->Set(
      ForwardTo(owner_.proxy->forward_address(), backend_.address()));
  EXPECT_EQ(Ask(&second, edge_, "2"), "echo:2");
  EXPECT_EQ(edge_.stats().sessions_active, 1u);
  EXPECT_EQ(edge_.stats().hop_clients_refused, 1u);
  edge_.resolver->Set(ForwardTo(owner_.proxy->forward_address()));
  ASSERT_TRUE(third.Send(edge_.address(), "2").ok());
  EXPECT_TRUE(AwaitTrue(
      [&] { return edge_.stats().dropped(DropReason::kHopLimit) == 1; }));
}

TEST_P(ProxyForwardTest, AResultThatNamesThisGatewayIsOfNoUse) {
  Start();
  edge_.resolver->Set(
      ForwardTo(edge_.proxy->forward_address(), backend_.address()));
  EXPECT_EQ(Ask(&client_, edge_, "1"), "echo:1");
  EXPECT_EQ(edge_.stats().sessions_active, 1u);
}

TEST_P(ProxyForwardTest, TheReplyComesFromTheVeryAddressThatTheClientUsed) {
  edge_.options.listen_address = SocketAddress::Ipv4Any(0);
  Start();
  EXPECT_EQ(Ask(&client_, owner_, "1"), "echo:1");
  const SocketAddress used =
      *SocketAddress::Parse(absl::StrCat("127.0.0.9:", edge_.address().port()));
  ASSERT_TRUE(client_.Send(used, "2").ok());
  const auto reply = client_.Receive();
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->from, used);
}

TEST_P(ProxyForwardTest, LargeDatagramsPassAndAreCounted) {
  Start();
  EXPECT_EQ(Ask(&client_, owner_, "1"), "echo:1");
  const std::string fits(1500 - 28 - 52 - 5, 'x');  // with "echo:"
  EXPECT_EQ(Ask(&client_, edge_, fits), "echo:" + fits);
  EXPECT_EQ(edge_.stats().hop_envelopes_large, 0u);
  EXPECT_EQ(owner_.stats().hop_envelopes_large, 0u);
  const std::string large = fits + "x";
  EXPECT_EQ(Ask(&client_, edge_, large), "echo:" + large);
  // Counted once it is sent.
  EXPECT_TRUE(
      AwaitTrue([&] { return owner_.stats().hop_envelopes_large == 1; }));
  // An envelope is a datagram, too.
  const std::string largest(65507, 'x');
  ASSERT_TRUE(client_.Send(edge_.address(), largest).ok());
  EXPECT_TRUE(AwaitTrue(
      [&] { return edge_.stats().dropped(DropReason::kHopSendFailed) == 1; }));
}

TEST_P(ProxyForwardTest, InStandbyNothingIsForwarded) {
  Start();
  EXPECT_EQ(Ask(&client_, owner_, "1"), "echo:1");
  EXPECT_EQ(Ask(&client_, edge_, "2"), "echo:2");
  edge_.proxy->SetStandby(true);
  EXPECT_TRUE(AwaitTrue([&] { return edge_.stats().hop_clients == 0; }));
  ASSERT_TRUE(client_.Send(edge_.address(), "3").ok());
  EXPECT_TRUE(AwaitTrue(
      [&] { return edge_.stats().dropped(DropReason::kStandby) == 1; }));
}

TEST_P(ProxyForwardTest, ManyClientsHaveTheirOwnSessions) {
  Start();
  std::vector<LoopbackPeer> clients(60);
  for (size_t i = 0; i < clients.size(); ++i) {
    EXPECT_EQ(Ask(&clients[i], owner_, absl::StrCat(i)),
              absl::StrCat("echo:", i));
  }
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < clients.size(); ++i) {
      ASSERT_TRUE(clients[i].Send(edge_.address(), absl::StrCat(i)).ok());
    }
    for (size_t i = 0; i < clients.size(); ++i) {
      const auto reply = clients[i].Receive();
      ASSERT_TRUE(reply.ok()) << reply.status();
      EXPECT_EQ(reply->payload, absl::StrCat("echo:", i));
    }
  }
  EXPECT_EQ(backend_.sources().size(), clients.size());
  EXPECT_EQ(edge_.stats().hop_clients, clients.size());
}

TEST_P(ProxyForwardTest, ClientsOfIpv6Too) {
  for (Gateway* gateway : {&owner_, &edge_}) {
    gateway->options.listen_address = SocketAddress::Ipv6Loopback(0);
    gateway->options.forward_address = SocketAddress::Ipv6Loopback(0);
  }
  Start();
  LoopbackPeer client(SocketAddress::Ipv6Loopback(0));
  EXPECT_EQ(Ask(&client, owner_, "1"), "echo:1");
  EXPECT_EQ(Ask(&client, edge_, "2"), "echo:2");
  EXPECT_EQ(backend_.sources().size(), 1u);
}

TEST(ForwardOptionsTest, AnAddressNeedsKeysAndIsOneOfThisHost) {
  ProxyOptions options = LoopbackOptions();
  options.forward_address = SocketAddress::Ipv4Loopback(0);
  EXPECT_EQ(Proxy::Create(options, FixedBackend()).status().code(),
            absl::StatusCode::kInvalidArgument);
  ProxyDependencies dependencies = FixedBackend();
  dependencies.envelope_keys = Keys(kSecret);
  auto proxy = Proxy::Create(options, dependencies);
  ASSERT_TRUE(proxy.ok()) << proxy.status();
  options.forward_address = (*proxy)->forward_address();
  EXPECT_FALSE(Proxy::Create(options, dependencies).ok()) << "it is in use";
  options.forward_address = SocketAddress::Ipv4Any(0);
  EXPECT_EQ(Proxy::Create(options, dependencies).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE((*Proxy::Create(LoopbackOptions(), FixedBackend()))
                   ->forward_address()
                   .is_valid());
}

TEST(ForwardOptionsTest, ATakeoverSaysIfTheAddressIsNotGivenUp) {
  LoopbackPeer listen, other;
  internal::Mutex mutex;
  std::string log;
  Gateway gateway(ThreadCounts{1, 1});
  gateway.options.listen_fds = {::dup(listen.fd())};
  gateway.options.client_hash_seed = 1;  // with sockets: a takeover
  gateway.options.forward_address = other.address();
  gateway.options.log_sink = [&](LogSeverity, absl::string_view line) {
    internal::MutexLock lock(&mutex);
    absl::StrAppend(&log, line, "\n");
  };
  gateway.Start();
  EXPECT_FALSE(gateway.proxy->forward_address().is_valid());
  EXPECT_TRUE(AwaitTrue([&] {
    internal::MutexLock lock(&mutex);
    return absl::StrContains(
        log, absl::StrCat("forwarding between gateways is off, and is tried "
                          "again: forward_address: bind ",
                          other.address().ToString(), ": "));
  })) << log;
  gateway.proxy->Stop();
}

TEST(ForwardOptionsTest, ASeedAloneIsNoTakeover) {
  LoopbackPeer other;
  ProxyOptions options = LoopbackOptions();
  options.client_hash_seed = 1;
  options.forward_address = other.address();
  ProxyDependencies dependencies = FixedBackend();
  dependencies.envelope_keys = Keys(kSecret);
  EXPECT_FALSE(Proxy::Create(options, dependencies).ok());
}

}  // namespace
}  // namespace test
}  // namespace udpgate
