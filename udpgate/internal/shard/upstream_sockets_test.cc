// Each session has an upstream socket of its own, which only its backend can
// reach.
#include "udpgate/internal/shard/upstream_sockets.h"

#include <errno.h>
#include <sys/socket.h>

#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/failing_sys_calls.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/session/upstream.h"
#include "udpgate/internal/shard/shard_fixture.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace internal {
namespace {

using test::Call;
using test::LoopbackPeer;
using ::testing::ElementsAre;

class UpstreamSocketsTest : public ShardTest {};

TEST_F(UpstreamSocketsTest, EachClientHasItsOwnSocket) {
  Start();
  LoopbackPeer other;
  const SocketAddress relay = Connect(client_);
  const SocketAddress other_relay = Connect(other);
  EXPECT_NE(relay, other_relay);
  ASSERT_TRUE(backend_.Send(other_relay, "for other").ok());
  ASSERT_TRUE(backend_.Send(relay, "for client").ok());
  Poll();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre("for client"));
  EXPECT_THAT(ReceiveAll(&other), ElementsAre("for other"));
}

TEST_F(UpstreamSocketsTest, AcceptsRepliesOfTheBackendOnly) {
  Start();
  const SocketAddress relay = Connect(client_);
  LoopbackPeer stranger;
  ASSERT_TRUE(stranger.Send(relay, "forged").ok());
  Poll();
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre());
}

TEST_F(UpstreamSocketsTest, DiscardsDatagramsFromBeforeTheConnect) {
  Start();
  LoopbackPeer stranger;
  SendAndRead(client_, "hello");
  int forged_count = 0;
  sys_calls_.before_connect = [&](int fd) {
    sockaddr_storage storage;
    socklen_t size = sizeof(storage);
    getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size);
    const SocketAddress relay = SocketAddress::FromSockaddr(
        reinterpret_cast<const sockaddr*>(&storage), size);
    if (relay.port() == 0) return;  // looks up the source address
    ASSERT_TRUE(stranger.Send(relay, "forged").ok());
    ++forged_count;
  };
  ResolveTo(backend_.address());
  Poll();
  EXPECT_EQ(forged_count, 1);
  EXPECT_THAT(ReceiveAll(&client_), ElementsAre());
  EXPECT_THAT(ReceiveAll(&backend_), ElementsAre("hello"));
  EXPECT_EQ(Stats().backend_datagrams_received, 0u);
}

// Otherwise a later socket could receive the replies of a session.
TEST_F(UpstreamSocketsTest, NoOtherSocketCanBindTheSourcePort) {
  Start();
  const SocketAddress relay = Connect(client_);
  const UniqueFd other(::socket(AF_INET, SOCK_DGRAM, 0));
  const int on = 1;
  for (const int option : {SO_REUSEADDR, SO_REUSEPORT}) {
    ASSERT_EQ(::setsockopt(other.get(), SOL_SOCKET, option, &on, sizeof(on)),
              0);
  }
  sockaddr_storage storage;
  const socklen_t size = relay.ToSockaddr(AF_INET, &storage);
  EXPECT_EQ(
      ::bind(other.get(), reinterpret_cast<const sockaddr*>(&storage), size),
      -1);
  EXPECT_EQ(errno, EADDRINUSE);
}

// A backend that is down, on this host and within the range of source ports.
TEST_F(UpstreamSocketsTest, NeverBindsThePortOfItsBackend) {
  const SocketAddress dead_backend = backend_.address();
  backend_ = LoopbackPeer();
  local_ports_ = {dead_backend.port()};
  Start();
  SendAndRead(client_, "x");
  ResolveTo(dead_backend);
  EXPECT_EQ(Stats().dropped(DropReason::kNoUpstreamSocket), 1u);
  EXPECT_TRUE(LoopbackPeer::Bind(dead_backend).ok());
}

TEST_F(UpstreamSocketsTest, SkipsPortsOfOtherPrograms) {
  Start();
  sys_calls_.FailNext(Call::kBind, EADDRINUSE, 3);
  Connect(client_);
  EXPECT_EQ(sys_calls_.calls(Call::kBind), 4);
}

TEST_F(UpstreamSocketsTest, StopsTryingIfAllPortsAreTaken) {
  Start();
  sys_calls_.FailAll(Call::kBind, EADDRINUSE);
  SendAndRead(client_, "x");
  ResolveTo(backend_.address());
  EXPECT_EQ(Stats().dropped(DropReason::kNoUpstreamSocket), 1u);
  EXPECT_LE(sys_calls_.calls(Call::kBind), UpstreamOpener::kAttemptsMax);
}

TEST_F(UpstreamSocketsTest, RejectsNewClientsWhileNoSourcePortIsFree) {
  const SocketAddress spare = LoopbackPeer().address();
  local_ports_ = {spare.port()};
  Start();
  LoopbackPeer other;
  Confirm(&client_);
  SendAndRead(other, "refused");
  ResolveTo(backend_.address());
  EXPECT_EQ(Stats().dropped(DropReason::kNoUpstreamSocket), 1u);
  PostDisconnect(ShardMessage::Kind::kDisconnectClient, client_.address());
  Connect(other);
}

TEST_F(UpstreamSocketsTest,
       RejectsTheClientIfASystemCallFailsAndRetriesWithTheNextDatagram) {
  Start();
  const std::pair<Call, int> cases[] = {
      {Call::kSocket, EMFILE},      {Call::kSocket, ENFILE},
      {Call::kSocket, ENOBUFS},     {Call::kSocket, ENOMEM},
      {Call::kBind, EADDRNOTAVAIL}, {Call::kConnect, ENETUNREACH},
      {Call::kConnect, EAGAIN},     {Call::kGetSockName, ENOBUFS},
      {Call::kEpollControl, ENOSPC}};
  uint64_t shed_count = 0;
  for (const auto& [call, error] : cases) {
    for (const int n : {1, 2}) {  // the probe of the source, then the socket
      clock_.Advance(absl::Seconds(2));  // forgets the known source
      sys_calls_.Reset();
      sys_calls_.FailNth(call, n, error);
      SendAndRead(client_, "x");
      ResolveTo(backend_.address());
      if (sys_calls_.failures(call) == 0) {
        // Called once only, so it worked.
        PostDisconnect(ShardMessage::Kind::kDisconnectClient,
                       client_.address());
        continue;
      }
      ++shed_count;
      EXPECT_EQ(Stats().dropped(DropReason::kNoUpstreamSocket), shed_count)
          << static_cast<int>(call) << " number " << n;
      EXPECT_EQ(context_->relay_ports.in_use(), 0);
    }
  }
  EXPECT_GE(shed_count, 9u);
  sys_calls_.Reset();
  ReceiveAll(&backend_);
  Connect(client_);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
