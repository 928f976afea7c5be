#include "udpgate/internal/shard/hop.h"

#include <sys/socket.h>

#include <ctime>
#include <random>

#include "absl/strings/str_cat.h"
#include "udpgate/internal/net/socket_options.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace internal {

Hop::Hop(SysCalls* sys_calls, const Clock* clock, const ProxyOptions* options,
         std::shared_ptr<forward::EnvelopeKeys> keys)
    : unix_seconds([] { return static_cast<int64_t>(std::time(nullptr)); }),
      new_sender_id([] {
        std::random_device device;
        return uint64_t{device()} << 32 | device();
      }),
      sys_calls_(sys_calls),
      options_(options),
      keys_(std::move(keys)),
      silence_log_(clock, kLogInterval) {}

absl::Status Hop::Open() {
  const SocketAddress& wanted = options_->forward_address;
  const SysCallResult opened = sys_calls_->Socket(
      wanted.family(), SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (!opened.ok()) return ErrnoToStatus(opened.error, "socket");
  UniqueFd fd(opened.value);
  // Marks of the datagram travel inside of the envelope.
  absl::Status status = SetTrafficOptions(
      sys_calls_, fd.get(), wanted.is_ipv4(), wanted.is_ipv6(),
      {options_->dont_fragment, /*copies_traffic_class=*/false});
  if (!status.ok()) return status;
  SetReceiveBufferBytes(sys_calls_, fd.get(), options_->receive_buffer_bytes);
  SetSendBufferBytes(sys_calls_, fd.get(), options_->receive_buffer_bytes);
  sockaddr_storage storage;
  socklen_t size = wanted.ToSockaddr(wanted.family(), &storage);
  const SysCallResult bound = sys_calls_->Bind(
      fd.get(), reinterpret_cast<const sockaddr*>(&storage), size);
  if (!bound.ok()) {
    status =
        ErrnoToStatus(bound.error, absl::StrCat("bind ", wanted.ToString()));
    return OptionError(status.code(), "forward_address",
                       absl::StrCat(": ", status.message()));
  }
  size = sizeof(storage);
  const SysCallResult named =
      sys_calls_->GetSockName(fd.get(), &storage, &size);
  if (!named.ok()) return ErrnoToStatus(named.error, "getsockname");
  address_ = SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&storage), size);
  owned_fd_ = std::move(fd);
  fd_.store(owned_fd_.get(), std::memory_order_release);
  return absl::OkStatus();
}

void Hop::Close() {
  fd_.store(-1, std::memory_order_release);
  owned_fd_.Reset();
}

bool Hop::TakeClient() {
  if (client_count_.fetch_add(1, std::memory_order_relaxed) <
      options_->forwarded_clients_max) {
    return true;
  }
  GiveBackClient();
  return false;
}

}  // namespace internal
}  // namespace udpgate
