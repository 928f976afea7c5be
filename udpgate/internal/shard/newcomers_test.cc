// From a first datagram to an open upstream socket: buffering, resolution, and
// the limits on new sessions.
#include "udpgate/internal/shard/newcomers.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/shard/shard_fixture.h"

namespace udpgate {
namespace internal {
namespace {

using test::LoopbackPeer;
using ::testing::ElementsAre;

class NewcomersTest : public ShardTest {};

TEST_F(NewcomersTest, BuffersDatagramsInOrderUntilTheBackendIsKnown) {
  Start();
  SendAndRead(client_, "one");
  SendAndRead(client_, "two");
  ASSERT_EQ(resolver_->pending.size(), 1u) << "one resolution a session";
  EXPECT_EQ(resolver_->pending[0].client, client_.address());
  EXPECT_EQ(resolver_->pending[0].first_datagram, "one");
  EXPECT_EQ(Stats().datagrams_held, 2u);
  EXPECT_EQ(Stats().sessions_pending, 1u);
  ResolveTo(backend_.address());
  SendAndRead(client_, "three");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("one", "two", "three"));
  EXPECT_EQ(Stats().datagrams_held, 0u);
}

TEST_F(NewcomersTest, BuffersNoMoreDatagramsThanAllowed) {
  ProxyOptions options;
  options.limits.pending_datagrams_max = 3;
  Start(options);
  for (int i = 0; i < 5; ++i) SendAndRead(client_, absl::StrCat(i));
  EXPECT_EQ(Stats().dropped(DropReason::kPendingFull), 2u);
  ResolveTo(backend_.address());
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("0", "1", "2"));
}

TEST_F(NewcomersTest, BuffersOneDatagramOfMaximumSizeButNotTwo) {
  Start();
  const std::string largest(test::kDatagramBytesMax, 'x');
  SendAndRead(client_, largest);
  SendAndRead(client_, largest);
  EXPECT_EQ(Stats().datagrams_held, 1u);
  EXPECT_EQ(Stats().dropped(DropReason::kPendingFull), 1u);
  ResolveTo(backend_.address());
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre(largest));
}

TEST_F(NewcomersTest, ForwardingBufferedDatagramsFreesTheirBytes) {
  ProxyOptions options;
  options.limits.pending_bytes_max = 65536;
  Start(options);
  for (int i = 0; i < 3; ++i) {
    LoopbackPeer client;
    SendAndRead(client, std::string(60000, 'x'));
    ResolveTo(backend_.address());
  }
  EXPECT_EQ(ReceiveAll(&backend_).size(), 3u);
}

TEST_F(NewcomersTest,
       CountsFailedResolutionsByReasonAndRetriesWithTheNextDatagram) {
  Start();
  const std::pair<absl::Status, DropReason> cases[] = {
      {absl::NotFoundError(""), DropReason::kNoBackend},
      {absl::InvalidArgumentError(""), DropReason::kInvalidBackend},
      {absl::DeadlineExceededError(""), DropReason::kResolveTimedOut},
      {absl::UnavailableError(""), DropReason::kResolveFailed},
      {absl::InternalError(""), DropReason::kResolveFailed},
  };
  for (const auto& [status, reason] : cases) {
    const uint64_t before = Stats().dropped(reason);
    SendAndRead(client_, "one");
    SendAndRead(client_, "two");
    FinishResolve(status);
    EXPECT_EQ(Stats().dropped(reason), before + 2) << status;
  }
  EXPECT_EQ(Stats().resolves_failed, 4u);
  EXPECT_EQ(Stats().ended(EndReason::kResolveFailed), 4u);
  EXPECT_EQ(Stats().resolves_timed_out, 1u);
  EXPECT_EQ(Stats().ended(EndReason::kResolveTimedOut), 1u);
  Connect(client_);
}

TEST_F(NewcomersTest, RejectsBackendAddressesThatCannotBeSentTo) {
  Start();
  const SocketAddress invalid[] = {
      SocketAddress(),
      SocketAddress::Ipv4Loopback(0),
      SocketAddress::Ipv4Any(19132),
      SocketAddress::Ipv6Any(19132),
      *SocketAddress::Parse("224.0.0.1:19132"),
      listen_address_,  // the gateway itself
  };
  for (const SocketAddress& backend : invalid) {
    const uint64_t before = Stats().dropped(DropReason::kInvalidBackend);
    SendAndRead(client_, "x");
    ResolveTo(backend);
    EXPECT_EQ(Stats().dropped(DropReason::kInvalidBackend), before + 1)
        << backend.ToString();
  }
}

TEST_F(NewcomersTest, ResolutionTimesOutAndItsLateResultIsIgnored) {
  const ProxyOptions options;
  Start(options);
  SendAndRead(client_, "lost");
  clock_.Advance(options.limits.resolve_timeout - absl::Milliseconds(1));
  Poll();
  EXPECT_EQ(Stats().sessions_pending, 1u);
  clock_.Advance(absl::Milliseconds(1));
  Poll();
  EXPECT_EQ(Stats().resolves_timed_out, 1u);
  EXPECT_EQ(Stats().dropped(DropReason::kResolveTimedOut), 1u);
  EXPECT_EQ(Stats().ended(EndReason::kResolveTimedOut), 1u);

  SendAndRead(client_, "next");
  ASSERT_EQ(resolver_->pending.size(), 2u);
  ResolveTo(backend_.address());  // the late one
  EXPECT_EQ(Stats().sessions_pending, 1u);
  ResolveTo(backend_.address());
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("next"));
}

TEST_F(NewcomersTest, CountsResolutionsByDuration) {
  Start();
  for (const absl::Duration wait :
       {absl::ZeroDuration(), absl::Milliseconds(30), absl::Seconds(2)}) {
    LoopbackPeer client;
    SendAndRead(client, "x");
    clock_.Advance(wait);
    FinishResolve(absl::NotFoundError(""));
  }
  // The one that times out counts at no bound.
  SendAndRead(client_, "x");
  clock_.Advance(absl::Minutes(1));
  Poll();
  ResolveTo(backend_.address());
  const ProxyStats stats = Stats();
  EXPECT_EQ(stats.resolves_timed_out, 1u);
  EXPECT_EQ(stats.resolve_nanoseconds_total, 2'030'000'000u);
  for (size_t i = 0; i < kResolveBucketCount; ++i) {
    const bool is_one =
        i == 0 ||
        (i + 1 < kResolveBucketCount &&
         (kResolveSecondsBounds[i] == 0.05 || kResolveSecondsBounds[i] == 2.5));
    EXPECT_EQ(stats.resolves_by_duration[i], is_one ? 1u : 0u) << i;
  }
}

TEST_F(NewcomersTest, CountsTheSlowestResolutionsInTheLastBucket) {
  ProxyOptions options;
  options.limits.resolve_timeout = absl::Minutes(2);
  Start(options);
  SendAndRead(client_, "x");
  clock_.Advance(absl::Minutes(1));
  FinishResolve(absl::NotFoundError(""));
  EXPECT_EQ(Stats().resolves_by_duration.back(), 1u);
}

TEST_F(NewcomersTest, PendingSessionsTimeOutInOrder) {
  Start();
  const absl::Duration step = ProxyLimits().resolve_timeout / 3;
  LoopbackPeer second, third;
  SendAndRead(client_, "1");
  clock_.Advance(step);
  SendAndRead(second, "2");
  clock_.Advance(step);
  SendAndRead(third, "3");
  // The second, in the middle of the list, leaves it.
  resolver_->pending[1].done(absl::NotFoundError(""));
  Poll();
  clock_.Advance(step);
  Poll();
  EXPECT_EQ(Stats().resolves_timed_out, 1u);
  clock_.Advance(2 * step);
  Poll();
  EXPECT_EQ(Stats().resolves_timed_out, 2u);
  EXPECT_EQ(Stats().sessions_pending, 0u);
}

TEST_F(NewcomersTest, AcceptsAResultWithinResolve) {
  Start();
  resolver_->on_resolve = [this] {
    resolver_->pending.back().done(ResolveResult{backend_.address(), ""});
  };
  // All in one batch, more than a pending client may have waiting.
  std::vector<std::string> expected;
  for (int i = 0; i <= 2 * ProxyLimits().pending_datagrams_max; ++i) {
    Send(client_, absl::StrCat(i));
    expected.push_back(absl::StrCat(i));
  }
  Read();
  EXPECT_EQ(ReceiveAll(&backend_), expected);
  resolver_->pending.clear();
}

TEST_F(NewcomersTest, IgnoresAResultAfterShutdown) {
  Start();
  SendAndRead(client_, "x");
  worker_->EndAllSessions();
  EXPECT_EQ(Stats().dropped(DropReason::kSessionEnded), 1u);
  resolver_->pending[0].done(ResolveResult{backend_.address(), ""});
  Poll();
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre());
}

TEST_F(NewcomersTest, DisconnectRestartsTheResolutionOfAPendingClient) {
  Start();
  LoopbackPeer old_backend;
  SendAndRead(client_, "one");
  for (int i = 0; i < 3; ++i) {
    PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  }
  ASSERT_EQ(resolver_->pending.size(), 1u) << "one resolution at a time";
  ResolveTo(old_backend.address());  // started before the events: stale
  EXPECT_EQ(Stats().sessions_pending, 1u);
  ASSERT_EQ(resolver_->pending.size(), 1u);
  EXPECT_EQ(resolver_->pending[0].first_datagram, "one");
  ResolveTo(backend_.address());
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("one"));
  EXPECT_THAT(ReceiveAll(&old_backend), ElementsAre());
}

// A client cannot be kept pending for ever by disconnect events.
TEST_F(NewcomersTest, DisconnectsDoNotExtendTheResolveTimeout) {
  Start();
  SendAndRead(client_, "one");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Stats().sessions_pending, 1u);
    clock_.Advance(ProxyLimits().resolve_timeout / 3);
    PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  }
  EXPECT_EQ(Stats().ended(EndReason::kResolveTimedOut), 1u);
}

// Behind one NAT, with the default limits.
TEST_F(NewcomersTest, ServesHundredsOfNewClientsOfOneAddress) {
  Start();
  std::vector<LoopbackPeer> clients(300);
  for (const LoopbackPeer& client : clients) Connect(client);
  EXPECT_EQ(Stats().sessions_active, 300u);
  EXPECT_EQ(Stats().dropped_total(), 0u);
}

TEST_F(NewcomersTest, DrainRejectsNewClientsOnly) {
  Start();
  LoopbackPeer other;
  Connect(client_);
  context_->is_draining = true;
  SendAndRead(other, "refused");
  EXPECT_EQ(Stats().dropped(DropReason::kDraining), 1u);
  SendAndRead(client_, "live");
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("live"));
}

// A rejected datagram is dropped before anything is resolved or buffered.
TEST_F(NewcomersTest, RejectedClientStartsNoResolution) {
  ProxyOptions options;
  options.limits.new_sessions_per_second = 2;
  options.limits.pending_bytes_max = 65536;
  Start(options);
  std::vector<LoopbackPeer> clients(5);
  for (const LoopbackPeer& client : clients) SendAndRead(client, "x");
  EXPECT_EQ(resolver_->pending.size(), 2u);
  EXPECT_EQ(Stats().sessions_created, 2u);
  EXPECT_EQ(Stats().dropped(DropReason::kNewSessionRate), 3u);
  SendAndRead(clients[0], std::string(60000, 'x'));
  SendAndRead(clients[1], std::string(60000, 'x'));
  EXPECT_EQ(Stats().dropped(DropReason::kPendingLimit), 1u);
  // Nor one whose first datagram there is no room for.
  clock_.Advance(absl::Seconds(1));
  SendAndRead(clients[2], std::string(60000, 'x'));
  EXPECT_EQ(Stats().dropped(DropReason::kPendingLimit), 2u);
  EXPECT_EQ(resolver_->pending.size(), 2u);
  EXPECT_EQ(Stats().sessions_created, 2u);
}

TEST_F(NewcomersTest, LimitsUnconfirmedSessionsPerAddress) {
  ProxyOptions options;
  options.limits.max_unconfirmed_sessions_per_ip = 2;
  Start(options);
  LoopbackPeer other, third;
  Connect(client_);
  SendAndRead(other, "pending");
  SendAndRead(third, "refused");
  EXPECT_EQ(Stats().dropped(DropReason::kUnconfirmedLimitPerIp), 1u);
  ResolveTo(backend_.address());
  ReceiveAll(&backend_);
  // Confirmed sessions do not count.
  Confirm(&client_);
  Connect(third);
  LoopbackPeer fourth;
  SendAndRead(fourth, "refused");
  EXPECT_EQ(Stats().dropped(DropReason::kUnconfirmedLimitPerIp), 2u);
  // Neither do ended ones.
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, third.address());
  Connect(fourth);
  // A reload lifts the limit.
  context_->admission.SetLimits(ProxyLimits(), 1000);
  LoopbackPeer fifth;
  Connect(fifth);
}

// The backend leads back to the gateway: without a limit each upstream socket
// would be a new client, for ever.
TEST_F(NewcomersTest, ForwardingLoopEndsAtTheUnconfirmedLimit) {
  constexpr uint64_t kSessionsMax = 50;
  ProxyOptions options;
  options.limits.max_unconfirmed_sessions_per_ip = kSessionsMax;
  options.limits.new_sessions_per_second = 0;
  Start(options);
  SendAndRead(client_, "round and round");
  for (int i = 0; i < 200; ++i) {
    while (!resolver_->pending.empty()) ResolveTo(backend_.address());
    // NAT: what the backend gets comes back to the gateway, from where it came.
    for (auto datagram = backend_.TryReceive(); datagram.ok();
         datagram = backend_.TryReceive()) {
      auto relay = LoopbackPeer();
      SendAndRead(relay, datagram->payload);
    }
  }
  EXPECT_EQ(Stats().sessions_created, kSessionsMax);
  EXPECT_EQ(Stats().dropped(DropReason::kUnconfirmedLimitPerIp), 1u);
  clock_.Advance(2 * options.limits.unconfirmed_timeout);
  for (int i = 0; i < 100; ++i) {
    clock_.Advance(absl::Milliseconds(10));
    Poll();
    Read();
  }
  EXPECT_EQ(Stats().sessions_active, 0u);
  EXPECT_EQ(Stats().sessions_created, kSessionsMax) << "the loop has ended";
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
