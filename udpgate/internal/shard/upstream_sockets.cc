#include "udpgate/internal/shard/upstream_sockets.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include "udpgate/internal/net/socket_options.h"

namespace udpgate {
namespace internal {

UpstreamSockets::UpstreamSockets(ShardContext* shard)
    : shard_(shard),
      opener_(shard->sys_calls, &shard->gate->relay_ports, shard->traffic) {}

void UpstreamSockets::SetNetworkEpoch(uint32_t epoch) {
  if (network_epoch_ == epoch) return;
  network_epoch_ = epoch;
  opener_.ForgetSources();
}

UpstreamOpener::Result UpstreamSockets::Open(const Session& session,
                                             const SocketAddress& source,
                                             const SocketAddress& backend,
                                             bool takes_busy,
                                             int attempt_count) {
  return WatchOpened(
      session,
      opener_.Open(source, backend, {shard_->number, session.ref()},
                   shard_->gate->options.receive_buffer_bytes,
                   shard_->now_nanoseconds, takes_busy, attempt_count));
}

UpstreamOpener::Result UpstreamSockets::OpenExactly(
    const Session& session, const SocketAddress& relay,
    const SocketAddress& source, const SocketAddress& backend) {
  return WatchOpened(
      session, opener_.OpenExactly(relay, source, backend,
                                   {shard_->number, session.ref()},
                                   shard_->gate->options.receive_buffer_bytes,
                                   shard_->now_nanoseconds));
}

UpstreamOpener::Result UpstreamSockets::WatchOpened(
    const Session& session, UpstreamOpener::Result opened) {
  if (opened.error != 0) return opened;
  RequestReceiveTimes(opened.fd);
  const SysCallResult watched = Watch(session, opened.fd);
  if (watched.ok()) return opened;
  opener_.Close(opened.fd, opened.relay, /*has_answered=*/false,
                shard_->now_nanoseconds);
  opened.error = watched.error;
  opened.failed_call = "epoll_ctl";
  return opened;
}

SysCallResult UpstreamSockets::Adopt(const Session& session,
                                     const SocketAddress& backend, int fd) {
  const SysCallResult watched = Watch(session, fd);
  if (!watched.ok()) return watched;
  SetTrafficOptions(shard_->sys_calls, fd, /*has_ipv4=*/backend.is_ipv4(),
                    /*has_ipv6=*/!backend.is_ipv4(), shard_->traffic)
      .IgnoreError();  // see UpstreamOpener::Open
  RequestReceiveTimes(fd);
  return watched;
}

void UpstreamSockets::Close(Session* session) {
  EndPause(session);
  // If the host program has forked, a copy of the socket may outlive it, and
  // would go on to wake this worker (epoll(7)).
  shard_->sys_calls->EpollControl(shard_->epoll_fd, EPOLL_CTL_DEL,
                                  session->upstream_fd, nullptr);
  shard_->counters->kernel_drops.Add(
      KernelDrops(shard_->sys_calls, session->upstream_fd));
  opener_.Close(session->upstream_fd, session->relay, session->has_answered,
                shard_->now_nanoseconds);
}

void UpstreamSockets::CloseAdopted(Session* session) {
  shard_->sys_calls->EpollControl(shard_->epoll_fd, EPOLL_CTL_DEL,
                                  session->upstream_fd, nullptr);
  shard_->sys_calls->Close(session->upstream_fd);
}

bool UpstreamSockets::Pause(Session* session) {
  if (paused_count_ >= shard_->limits.paused_sessions_max) return false;
  epoll_event event{0, {}};
  event.data.u64 = EventTag(session->ref());
  if (!shard_->sys_calls
           ->EpollControl(shard_->epoll_fd, EPOLL_CTL_MOD, session->upstream_fd,
                          &event)
           .ok()) {
    return false;
  }
  session->is_paused = true;
  ++paused_count_;
  shard_->counters->sessions_paused.Add();
  shard_->counters->reply_pauses.Add();
  return true;
}

void UpstreamSockets::Resume(Session* session) {
  if (!session->is_paused) return;
  epoll_event event{EPOLLIN, {}};
  event.data.u64 = EventTag(session->ref());
  if (!shard_->sys_calls
           ->EpollControl(shard_->epoll_fd, EPOLL_CTL_MOD, session->upstream_fd,
                          &event)
           .ok()) {
    return;  // the client's next datagram tries again
  }
  EndPause(session);
}

SysCallResult UpstreamSockets::Watch(const Session& session, int fd) {
  epoll_event event{EPOLLIN, {}};
  event.data.u64 = EventTag(session.ref());
  return shard_->sys_calls->EpollControl(shard_->epoll_fd, EPOLL_CTL_ADD, fd,
                                         &event);
}

// For the flow offload. If that fails the session stays on its socket: without
// times it is not handed to the offload.
void UpstreamSockets::RequestReceiveTimes(int fd) {
  if (!shard_->offload.is_on()) return;
  const int on = 1;
  shard_->sys_calls->SetSockOpt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on,
                                sizeof(on));
}

void UpstreamSockets::EndPause(Session* session) {
  if (!session->is_paused) return;
  session->is_paused = false;
  --paused_count_;
  shard_->counters->sessions_paused.Subtract();
}

}  // namespace internal
}  // namespace udpgate
