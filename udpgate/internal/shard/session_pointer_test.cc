// The calls that may end a session: the caller's pointer is null afterwards, so
// that a read of an ended session cannot go unnoticed.
#include <errno.h>

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "testing/failing_sys_calls.h"
#include "testing/loopback_peer.h"
#include "testing/simulated_clock.h"
#include "udpgate/internal/net/listen_socket.h"
#include "udpgate/internal/shard/relay.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace internal {
namespace {

using test::Call;
using test::LoopbackPeer;

class SessionPointerTest : public ::testing::Test {
 protected:
  static ProxyOptions Options() {
    ProxyOptions options;
    options.listen_address = SocketAddress::Ipv4Loopback(0);
    options.log_sink = nullptr;
    options.limits.backend_refusals_max = 1;
    options.limits.unconfirmed_reply_factor = 0;  // reads without a look
    return options;
  }

  SessionPointerTest()
      : gate_(Options(), &clock_, &sys_calls_, ClientHash(1), LocalPortRange(),
              /*sessions_max=*/10),
        epoll_fd_(sys_calls_.EpollCreate().value) {
    gate_.listeners =
        *OpenListenSockets(&sys_calls_, gate_.options, gate_.hash);
    shard_ = std::make_unique<ShardContext>(
        &gate_, 0, epoll_fd_.get(), *Inbox::Create(&sys_calls_, {10, 10}),
        &counters_);
    hop_sender_ = std::make_unique<HopSender>(shard_.get());
    replies_ = std::make_unique<ReplyBatch>(shard_.get(), hop_sender_.get());
    upstreams_ = std::make_unique<UpstreamSockets>(shard_.get());
    lifecycle_ = std::make_unique<Lifecycle>(shard_.get(), upstreams_.get(),
                                             replies_.get());
    validation_ = std::make_unique<AddressValidation>(
        shard_.get(), upstreams_.get(), lifecycle_.get());
    recovery_ = std::make_unique<UpstreamRecovery>(
        shard_.get(), upstreams_.get(), lifecycle_.get());
    relay_ =
        std::make_unique<Relay>(shard_.get(), upstreams_.get(), replies_.get(),
                                validation_.get(), recovery_.get());
  }

  // A pending session of `client_`.
  Session* Create() {
    EXPECT_FALSE(
        gate_.admission
            .Begin(client_.address(), /*held_bytes=*/0, 0, [] { return false; })
            .has_value());
    Session* session =
        lifecycle_->Create(client_.address(), gate_.hash(client_.address()));
    session->held = std::make_unique<HeldDatagrams>();
    return session;
  }

  // An unconfirmed session of `client_` with `backend_`.
  Session* Open() {
    Session* session = Create();
    const SocketAddress source = SocketAddress::Ipv4Loopback(0);
    const UpstreamOpener::Result opened =
        upstreams_->Open(*session, source, backend_.address());
    EXPECT_EQ(opened.error, 0) << opened.failed_call;
    session->upstream_fd = opened.fd;
    session->relay = opened.relay;
    session->backend = backend_.address();
    lifecycle_->MoveTo(SessionState::kUnconfirmed, session);
    return session;
  }

  ClientDatagram DatagramOf(const LoopbackPeer& client) const {
    ClientDatagram datagram;
    datagram.client = client.address();
    datagram.hash = gate_.hash(datagram.client);
    datagram.payload = absl::MakeConstSpan("x", 1);
    return datagram;
  }

  uint64_t dropped(DropReason reason) const {
    return counters_.datagrams_dropped[static_cast<size_t>(reason)].value();
  }

  test::SimulatedClock clock_;
  test::FailingSysCalls sys_calls_;
  GateContext gate_;
  Counters counters_;
  UniqueFd epoll_fd_;
  std::unique_ptr<ShardContext> shard_;
  std::unique_ptr<HopSender> hop_sender_;
  std::unique_ptr<ReplyBatch> replies_;
  std::unique_ptr<UpstreamSockets> upstreams_;
  std::unique_ptr<Lifecycle> lifecycle_;
  std::unique_ptr<AddressValidation> validation_;
  std::unique_ptr<UpstreamRecovery> recovery_;
  std::unique_ptr<Relay> relay_;
  LoopbackPeer client_;
  LoopbackPeer other_;
  LoopbackPeer backend_;
};

TEST_F(SessionPointerTest, SendsTheDatagramsOfOneClientAndKeepsTheSession) {
  Session* session = Open();
  Session* const opened = session;
  const std::vector<ClientDatagram> datagrams = {
      DatagramOf(client_), DatagramOf(client_), DatagramOf(other_)};
  EXPECT_EQ(relay_->SendToBackend(datagrams, &session), 2u);
  EXPECT_EQ(session, opened);
  EXPECT_EQ(counters_.client_datagrams_forwarded.value(), 2u);
  EXPECT_TRUE(backend_.TryReceive().ok());
  lifecycle_->End(EndReason::kStopped, DropReason::kSessionEnded, &session);
}

TEST_F(SessionPointerTest, ASendThatEndsTheSessionNullsThePointer) {
  Session* session = Open();
  sys_calls_.FailNext(Call::kSendMmsg, ECONNREFUSED);
  const std::vector<ClientDatagram> datagrams = {DatagramOf(client_),
                                                 DatagramOf(client_)};
  EXPECT_EQ(relay_->SendToBackend(datagrams, &session), 2u);
  EXPECT_EQ(session, nullptr);
  EXPECT_EQ(shard_->sessions.size(), 0u);
  EXPECT_EQ(dropped(DropReason::kBackendRefused), 2u);
}

TEST_F(SessionPointerTest, HeldDatagramsThatEndTheSessionNullThePointer) {
  Session* session = Open();
  sys_calls_.FailNext(Call::kSendMmsg, ECONNREFUSED);
  // More than one batch: what is left when the session ends is dropped, too.
  HeldDatagrams held;
  const size_t count = static_cast<size_t>(gate_.options.batch_size) + 1;
  held.bytes = std::string(count, 'x');
  held.size_bytes.assign(count, 1);
  held.traffic_classes.assign(count, 0);
  relay_->SendHeld(held, &session);
  EXPECT_EQ(session, nullptr);
  EXPECT_EQ(dropped(DropReason::kBackendRefused), count);
}

TEST_F(SessionPointerTest, AReadThatEndsTheSessionNullsThePointer) {
  Session* session = Open();
  sys_calls_.FailNext(Call::kRecvMmsg, ECONNREFUSED);
  relay_->HandleReadySocket(/*has_errors=*/true, &session);
  EXPECT_EQ(session, nullptr);
  EXPECT_EQ(shard_->sessions.size(), 0u);
}

TEST_F(SessionPointerTest, EndOfAPendingSessionNullsThePointer) {
  Session* session = Create();
  lifecycle_->End(EndReason::kResolveFailed, DropReason::kNoBackend, &session);
  EXPECT_EQ(session, nullptr);
  EXPECT_EQ(shard_->sessions.size(), 0u);
  EXPECT_EQ(gate_.admission.session_count(), 0);
  EXPECT_EQ(counters_.sessions_pending.value(), 0u);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
