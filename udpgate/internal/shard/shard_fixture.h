// A worker with its shard and readers, step by step, for tests: real sockets on
// loopback, where a datagram has arrived when its send returns, a simulated
// clock, and system calls that fail on demand. Nothing waits.
#ifndef UDPGATE_INTERNAL_SHARD_SHARD_FIXTURE_H_
#define UDPGATE_INTERNAL_SHARD_SHARD_FIXTURE_H_

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"
#include "testing/failing_sys_calls.h"
#include "testing/fake_flow_offload.h"
#include "testing/loopback_peer.h"
#include "testing/mock_session_observer.h"
#include "testing/simulated_clock.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/internal/shard/address_validation.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/internal/shard/lifecycle.h"
#include "udpgate/internal/shard/reader.h"
#include "udpgate/internal/shard/restore_order.h"
#include "udpgate/internal/shard/worker.h"
#include "udpgate/proxy_options.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"
#include "udpgate/session_observer.h"
#include "udpgate/session_restore.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// Keeps each resolution until the test gives its result.
class HeldResolver : public BackendResolver {
 public:
  struct Resolution {
    SocketAddress client;
    std::string first_datagram;
    Callback done;
  };

  void Resolve(const ResolveRequest& request, Callback done) override;
  Screening Screen(const SocketAddress& client,
                   absl::Span<const char> datagram) override;

  std::vector<Resolution> pending;
  std::function<void()> on_resolve;
  // What `Screen` returns, and the datagrams that it has seen.
  Screening screening;
  std::vector<std::string> screened;
};

// Keeps what it was told, as text: `begin CLIENT RELAY`, `end CLIENT RELAY
// REASON`.
class RecordingTag final : public SessionTag {
 public:
  explicit RecordingTag(const std::string& key)
      : SessionTag(key, key + " text") {}

  void OnBegin(const SocketAddress& client,
               const SocketAddress& relay) override;
  void OnEnd(const SocketAddress& client, const SocketAddress& relay,
             EndReason reason) override;

  std::vector<std::string> calls;
};
std::string BeginText(const SocketAddress& client, const SocketAddress& relay);
std::string EndText(const SocketAddress& client, const SocketAddress& relay,
                    EndReason reason);

// Lets a test act between two system calls.
class HookedSysCalls : public test::FailingSysCalls {
 public:
  SysCallResult Connect(int fd, const sockaddr* address,
                        socklen_t size) override;
  SysCallResult Close(int fd) override;
  SysCallResult EpollWait(int epoll_fd, epoll_event* events, int events_max,
                          int64_t timeout_nanoseconds) override;
  SysCallResult RecvMmsg(int fd, mmsghdr* messages, unsigned int count,
                         int flags) override;
  // Reports `route_source` if it is set.
  SysCallResult GetSockName(int fd, sockaddr_storage* address,
                            socklen_t* size) override;

  SocketAddress route_source;  // what the system's routes choose
  std::function<void(int fd)> before_connect;
  std::function<void()> before_close;
  absl::Duration last_wait;  // what EpollWait was allowed; it never waits
  std::function<void(msghdr* first)> after_receive;
};

// Each test checks at its end that every datagram and every session is
// accounted for.
class ShardTest : public ::testing::Test {
 protected:
  // How `Confirm` confirms a session: an exchange each so often.
  static constexpr int kConfirmExchanges = Lifecycle::kProofCount + 1;
  static constexpr absl::Duration kConfirmInterval = absl::Nanoseconds(
      AddressValidation::kProofNanoseconds / Lifecycle::kProofCount * 6 / 5);

  // Sessions end by the idle timeout alone.
  static ProxyOptions IdleTimeoutOnly();

  void Start(ProxyOptions options = ProxyOptions());
  void TearDown() override;

  ProxyStats Stats() const;
  // What the observer has been told so far, and now.
  std::vector<SessionEvent> Events();
  // The first slice of the list of sessions.
  std::vector<SessionInfo> ListSessions();

  void Send(const test::LoopbackPeer& client, absl::string_view payload);
  // Reads what has arrived; if the shard is idle, it is handled, too.
  void Read() { reader_->ReadBatch(); }
  void SendAndRead(const test::LoopbackPeer& client, absl::string_view payload);
  void Poll() { worker_->PollOnce(0); }

  // Gives the oldest resolution its result.
  void FinishResolve(absl::StatusOr<ResolveResult> result);
  void ResolveTo(const SocketAddress& backend);
  // Creates a session of `client` with `backend_`, and returns its upstream
  // socket's address.
  SocketAddress Connect(const test::LoopbackPeer& client);
  // Has the client answer replies until its session is confirmed.
  void Confirm(test::LoopbackPeer* client);

  std::vector<std::string> ReceiveAll(test::LoopbackPeer* peer);
  // Has the shard restore sessions, and returns what has become of them.
  std::vector<RestoreTask> Restore(absl::Span<const RestorableSession> sessions,
                                   bool takes_other_relays = false);
  void PostDisconnect(ShardMessage::Kind kind, const SocketAddress& client,
                      SessionRef session = {});

  test::SimulatedClock clock_;
  std::shared_ptr<test::RecordingSessionObserver> observer_ =
      std::make_shared<test::RecordingSessionObserver>();
  HookedSysCalls sys_calls_;
  std::shared_ptr<HeldResolver> resolver_ = std::make_shared<HeldResolver>();
  std::shared_ptr<test::FakeFlowOffload>
      offload_;  // null unless a test sets it
  std::unique_ptr<GateContext> context_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<Reader> reader_;
  std::unique_ptr<Reader> other_reader_;  // of the same socket
  SocketAddress listen_address_;
  std::vector<uint16_t> local_ports_ = LocalPortRange();
  test::LoopbackPeer client_;
  test::LoopbackPeer backend_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_SHARD_FIXTURE_H_
