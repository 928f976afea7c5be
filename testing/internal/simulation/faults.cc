#include "testing/internal/simulation/faults.h"

#include <errno.h>

#include "testing/internal/simulation/payload.h"

namespace udpgate {
namespace internal {
namespace simulation {

using test::Call;

int Faults::OnCall(Call call, int fd) {
  observation_->NoteOutcome();
  if (call == Call::kClose)
    state_->has_unread = state_->sys_calls.queued(fd) > 0;
  if (!state_->is_calm && state_->interrupt_interval > 0 &&
      state_->random.OneIn(state_->interrupt_interval) &&
      (call == Call::kSendMmsg || call == Call::kRecvMmsg ||
       call == Call::kSocket || call == Call::kClose)) {
    actions_->Interrupt();
  }
  // Somebody still sends to the port that is about to be connected.
  if (call == Call::kConnect && state_->sys_calls.local(fd).is_valid() &&
      state_->random.OneIn(4)) {
    state_->sys_calls.Arrive(Address("203.0.113.66", 6),
                             state_->sys_calls.local(fd), PayloadOf(Tag()));
  }
  state_->injected_error =
      state_->fault_interval > 0 && state_->random.OneIn(state_->fault_interval)
          ? ErrorOf(call)
          : 0;
  return state_->injected_error;
}

int Faults::ErrorOf(Call call) {
  switch (call) {
    case Call::kSocket:
      return state_->random.OneOf<int>({EMFILE, ENFILE, ENOBUFS, ENOMEM});
    case Call::kBind:
      return state_->random.OneOf<int>({EADDRINUSE, EADDRNOTAVAIL, ENOMEM});
    case Call::kConnect:
      return state_->random.OneOf<int>({EAGAIN, ENETUNREACH, EPERM, EINVAL});
    case Call::kSendMmsg:
      return state_->random.OneOf<int>({ECONNREFUSED, EHOSTUNREACH, ENETUNREACH,
                                        EINVAL, EPERM, EMSGSIZE, ENOBUFS,
                                        EAGAIN, ENOMEM});
    case Call::kRecvMmsg:
      return state_->random.OneOf<int>(
          {ECONNREFUSED, EHOSTUNREACH, EMSGSIZE, ENOMEM});
    case Call::kGetSockName:
    case Call::kSetSockOpt:
    case Call::kGetSockOpt:
      return ENOBUFS;
    case Call::kEpollControl:
      return ENOMEM;
    case Call::kClose:
      return EIO;
    default:
      return 0;
  }
}

unsigned Faults::OnBatch(unsigned count) {
  return state_->fault_interval > 0 && state_->random.OneIn(3)
             ? static_cast<unsigned>(state_->random.Between(1, count))
             : count;
}

void Faults::NetworkError() {
  const int session = state_->LiveSession();
  if (session == kNone) return;
  const int error = state_->random.OneOf<int>(
      {ECONNREFUSED, ECONNREFUSED, ECONNREFUSED, EHOSTUNREACH, ENETUNREACH,
       EHOSTDOWN, ENOPROTOOPT, EACCES, EMSGSIZE});
  state_->Note("ICMP error for session ", session, ": ", error);
  state_->had_faults = true;
  state_->sys_calls.FailSocket(state_->sessions[session].fd, error,
                               state_->sessions[session].backend);
}

void Faults::ClientUnreachable() {
  const int client = static_cast<int>(
      state_->random.Below(static_cast<int64_t>(state_->clients.size())));
  state_->Note("ICMP error for client ", client);
  state_->had_faults = true;
  state_->sys_calls.FailSocket(state_->random.OneOf(state_->listener_fds),
                               ECONNREFUSED, state_->clients[client].address);
}

void Faults::ChangeNetwork() {
  const SocketAddress old = state_->sys_calls.host_address();
  const SocketAddress ip = state_->random.OneOf<SocketAddress>(
      {Address("10.0.0.1", 0), Address("10.0.0.4", 0), Address("10.0.0.5", 0)});
  // The clients write to the first one.
  const bool is_lost =
      ip != old && old != Address("10.0.0.1", 0) && state_->random.OneIn(2);
  const bool is_told = state_->random.OneIn(2);
  state_->Note("the source address is ", ip.IpToString(),
               " now, the old one is lost: ", is_lost, ", told: ", is_told);
  state_->had_faults = state_->had_network_changes = true;
  state_->sys_calls.RegainAddress(ip, is_told);
  state_->sys_calls.SetHostAddress(ip);
  if (!is_lost) return;
  state_->sys_calls.LoseAddress(old, is_told);
  state_->lost_addresses.push_back(old);
}

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
