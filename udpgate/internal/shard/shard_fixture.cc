#include "udpgate/internal/shard/shard_fixture.h"

#include <netinet/in.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "udpgate/internal/net/client_hash.h"
#include "udpgate/internal/net/listen_socket.h"
#include "udpgate/internal/session/relay_ports.h"

namespace udpgate {
namespace internal {

using test::LoopbackPeer;

void HeldResolver::Resolve(const ResolveRequest& request, Callback done) {
  pending.push_back({request.client,
                     std::string(request.first_datagram.data(),
                                 request.first_datagram.size()),
                     std::move(done)});
  if (on_resolve) on_resolve();
}

Screening HeldResolver::Screen(const SocketAddress& /*client*/,
                               absl::Span<const char> datagram) {
  screened.emplace_back(datagram.data(), datagram.size());
  return screening;
}

void RecordingTag::OnBegin(const SocketAddress& client,
                           const SocketAddress& relay) {
  calls.push_back(BeginText(client, relay));
}

void RecordingTag::OnEnd(const SocketAddress& client,
                         const SocketAddress& relay, EndReason reason) {
  calls.push_back(EndText(client, relay, reason));
}

std::string BeginText(const SocketAddress& client, const SocketAddress& relay) {
  return absl::StrCat("begin ", client.ToString(), " ", relay.ToString());
}

std::string EndText(const SocketAddress& client, const SocketAddress& relay,
                    EndReason reason) {
  return absl::StrCat("end ", client.ToString(), " ", relay.ToString(), " ",
                      EndReasonName(reason));
}

SysCallResult HookedSysCalls::Connect(int fd, const sockaddr* address,
                                      socklen_t size) {
  if (before_connect) before_connect(fd);
  return FailingSysCalls::Connect(fd, address, size);
}

SysCallResult HookedSysCalls::Close(int fd) {
  if (before_close) before_close();
  return FailingSysCalls::Close(fd);
}

SysCallResult HookedSysCalls::EpollWait(int epoll_fd, epoll_event* events,
                                        int events_max,
                                        int64_t timeout_nanoseconds) {
  last_wait = absl::Nanoseconds(timeout_nanoseconds);
  return FailingSysCalls::EpollWait(epoll_fd, events, events_max, 0);
}

SysCallResult HookedSysCalls::RecvMmsg(int fd, mmsghdr* messages,
                                       unsigned int count, int flags) {
  const SysCallResult result =
      FailingSysCalls::RecvMmsg(fd, messages, count, flags);
  if (result.ok() && after_receive) after_receive(&messages[0].msg_hdr);
  return result;
}

SysCallResult HookedSysCalls::GetSockName(int fd, sockaddr_storage* address,
                                          socklen_t* size) {
  const SysCallResult result = FailingSysCalls::GetSockName(fd, address, size);
  if (result.ok() && route_source.is_valid()) {
    *size = route_source.ToSockaddr(AF_INET, address);
  }
  return result;
}

ProxyOptions ShardTest::IdleTimeoutOnly() {
  ProxyOptions options;
  options.limits.unconfirmed_timeout = absl::Hours(24);
  options.limits.backend_silent_timeout = absl::ZeroDuration();
  options.limits.client_silent_timeout = absl::ZeroDuration();
  return options;
}

void ShardTest::Start(ProxyOptions options) {
  if (options.listen_address.port() != 0) {
    options.listen_address = SocketAddress::Ipv4Loopback(0);
  }
  options.log_sink = nullptr;
  const int64_t sessions_max =
      options.limits.max_sessions > 0 ? options.limits.max_sessions : 1000;
  context_ = std::make_unique<GateContext>(
      options, &clock_, &sys_calls_, ClientHash(1), local_ports_, sessions_max);
  context_->resolver = resolver_;
  context_->flow_offload = offload_;
  context_->session_events = std::make_unique<SessionEvents>(
      observer_, &clock_, options.session_events_max);
  auto listeners = OpenListenSockets(&sys_calls_, options, context_->hash);
  ASSERT_TRUE(listeners.ok()) << listeners.status();
  context_->listeners = *std::move(listeners);
  listen_address_ = context_->listeners.front().address;
  worker_ = *Worker::Create(context_.get(), 0);
  context_->inboxes = {worker_->inbox()};
  reader_ = *Reader::Create(context_.get(), 0, {worker_.get()});
  other_reader_ = *Reader::Create(context_.get(), 0, {worker_.get()});
  sys_calls_.Reset();
}

void ShardTest::TearDown() {
  if (worker_ == nullptr) return;
  const ProxyStats stats = Stats();
  EXPECT_EQ(stats.client_datagrams_received + stats.backend_datagrams_received,
            stats.client_datagrams_forwarded +
                stats.backend_datagrams_forwarded + stats.dropped_total() +
                stats.datagrams_held);
  EXPECT_EQ(
      stats.sessions_created + stats.sessions_restored,
      stats.sessions_active + stats.sessions_pending + stats.ended_total());
  EXPECT_EQ(static_cast<uint64_t>(context_->admission.session_count()),
            stats.sessions_active + stats.sessions_pending);
  EXPECT_EQ(static_cast<uint64_t>(context_->relay_ports.in_use()),
            stats.sessions_active);
  worker_->EndAllSessions();
  const ProxyStats end = Stats();
  EXPECT_EQ(end.sessions_created + end.sessions_restored, end.ended_total());
  EXPECT_EQ(end.datagrams_held, 0u);
  EXPECT_EQ(context_->relay_ports.in_use(), 0);
}

ProxyStats ShardTest::Stats() const {
  ProxyStats stats;
  reader_->counters().AddTo(&stats);
  other_reader_->counters().AddTo(&stats);
  worker_->counters().AddTo(&stats);
  stats.datagrams_held += worker_->inbox()->datagrams_waiting();
  return stats;
}

std::vector<SessionEvent> ShardTest::Events() {
  context_->session_events->Deliver();
  return observer_->events();
}

std::vector<SessionInfo> ShardTest::ListSessions() {
  std::vector<SessionInfo> infos;
  uint32_t next_slot = UINT32_MAX;
  ShardMessage message;
  message.kind = ShardMessage::Kind::kListSessions;
  message.list_done = [&](std::vector<SessionInfo> sessions, uint32_t next) {
    infos = std::move(sessions);
    next_slot = next;
  };
  worker_->inbox()->Post(std::move(message));
  Poll();
  EXPECT_EQ(next_slot, 0u) << "one slice lists all";
  return infos;
}

void ShardTest::Send(const LoopbackPeer& client, absl::string_view payload) {
  ASSERT_TRUE(client.Send(listen_address_, payload).ok());
}

void ShardTest::SendAndRead(const LoopbackPeer& client,
                            absl::string_view payload) {
  Send(client, payload);
  Read();
}

void ShardTest::FinishResolve(absl::StatusOr<ResolveResult> result) {
  ASSERT_FALSE(resolver_->pending.empty());
  HeldResolver::Resolution resolution = std::move(resolver_->pending.front());
  resolver_->pending.erase(resolver_->pending.begin());
  resolution.done(std::move(result));
  Poll();
}

void ShardTest::ResolveTo(const SocketAddress& backend) {
  FinishResolve(ResolveResult{backend, backend.ToString()});
}

SocketAddress ShardTest::Connect(const LoopbackPeer& client) {
  SendAndRead(client, "hello");
  ResolveTo(backend_.address());
  absl::StatusOr<test::Datagram> first = backend_.TryReceive();
  EXPECT_TRUE(first.ok()) << first.status();
  return first.ok() ? first->from : SocketAddress();
}

void ShardTest::Confirm(LoopbackPeer* client) {
  SendAndRead(*client, "hello");
  if (!resolver_->pending.empty()) ResolveTo(backend_.address());
  const auto hello = backend_.TryReceive();
  ASSERT_TRUE(hello.ok()) << hello.status();
  const uint64_t confirmed_before = Stats().sessions_confirmed;
  for (int i = 0; i < kConfirmExchanges; ++i) {
    ASSERT_TRUE(backend_.Send(hello->from, "x").ok());
    Poll();
    clock_.Advance(kConfirmInterval);
    SendAndRead(*client, "x");
  }
  EXPECT_EQ(Stats().sessions_confirmed, confirmed_before + 1);
  ReceiveAll(client);
  ReceiveAll(&backend_);
}

std::vector<std::string> ShardTest::ReceiveAll(LoopbackPeer* peer) {
  std::vector<std::string> payloads;
  for (auto datagram = peer->TryReceive(); datagram.ok();
       datagram = peer->TryReceive()) {
    payloads.push_back(datagram->payload);
  }
  return payloads;
}

std::vector<RestoreTask> ShardTest::Restore(
    absl::Span<const RestorableSession> sessions, bool takes_other_relays) {
  std::vector<RestoreTask> tasks(sessions.size());
  ShardMessage message;
  message.kind = ShardMessage::Kind::kRestore;
  message.restore = std::make_unique<RestoreOrder>();
  message.restore->takes_other_relays = takes_other_relays;
  bool is_finished = false;
  message.restore->finished = {nullptr,
                               [&is_finished](void*) { is_finished = true; }};
  for (size_t i = 0; i < sessions.size(); ++i) {
    tasks[i].session = &sessions[i];
    tasks[i].tag = sessions[i].tag;
    message.restore->tasks.push_back(&tasks[i]);
  }
  worker_->inbox()->Post(std::move(message));
  for (size_t i = 0; i <= sessions.size() && !is_finished; ++i) Poll();
  EXPECT_TRUE(is_finished);
  return tasks;
}

void ShardTest::PostDisconnect(ShardMessage::Kind kind,
                               const SocketAddress& client,
                               SessionRef session) {
  ShardMessage message;
  message.kind = kind;
  message.client = client;
  message.session = session;
  worker_->inbox()->PostDisconnect(std::move(message));
  Poll();
}

}  // namespace internal
}  // namespace udpgate
