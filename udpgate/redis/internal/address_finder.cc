#include "udpgate/redis/internal/address_finder.h"

#include <utility>

#include "udpgate/dns/host_port.h"

namespace udpgate {
namespace redis {
namespace internal {

using udpgate::internal::ErrnoToStatus;
using udpgate::internal::MutexLock;
using udpgate::internal::SysCallResult;
using udpgate::internal::SysCalls;

absl::Status AddressFinder::Start() {
  const SysCallResult wakeup = sys_calls_->EventFd();
  if (!wakeup.ok()) return ErrnoToStatus(wakeup.error, "eventfd");
  mailbox_->wakeup.Reset(wakeup.value);
  return absl::OkStatus();
}

void AddressFinder::Wake() { sys_calls_->EventFdAdd(wakeup_fd()); }

void AddressFinder::ResetWakeup() { sys_calls_->EventFdReset(wakeup_fd()); }

void AddressFinder::Begin(const std::string& host_port,
                          absl::Duration timeout) {
  const absl::StatusOr<HostPort> parsed = HostPort::Parse(host_port);
  ++lookup_number_;
  {
    MutexLock lock(&mailbox_->mutex);
    mailbox_->awaited_number = lookup_number_;
    mailbox_->found.reset();
  }
  lookup_->Lookup(parsed->host, timeout,
                  [mailbox = mailbox_, port = parsed->port,
                   number = lookup_number_](absl::StatusOr<Addresses> found) {
                    if (found.ok()) {
                      for (SocketAddress& address : *found) {
                        address = address.WithPort(port);
                      }
                    }
                    {
                      MutexLock lock(&mailbox->mutex);
                      if (mailbox->awaited_number != number) return;
                      mailbox->found = std::move(found);
                    }
                    SysCalls::Real()->EventFdAdd(mailbox->wakeup.get());
                  });
}

absl::optional<absl::StatusOr<AddressFinder::Addresses>> AddressFinder::Take() {
  MutexLock lock(&mailbox_->mutex);
  return std::exchange(mailbox_->found, absl::nullopt);
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
