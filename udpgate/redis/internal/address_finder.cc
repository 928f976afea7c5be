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

AddressFinder::AddressFinder(std::shared_ptr<HostLookup> lookup,
                             std::shared_ptr<RedisAddressSource> source)
    : lookup_(std::move(lookup)), source_(std::move(source)) {}

absl::Status AddressFinder::Start() {
  const SysCallResult wakeup = sys_calls_->EventFd();
  if (!wakeup.ok()) return ErrnoToStatus(wakeup.error, "eventfd");
  mailbox_->wakeup.Reset(wakeup.value);
  if (source_ == nullptr) return absl::OkStatus();
  watcher_ = std::make_shared<const RedisAddressSource::Watcher>(
      [mailbox = mailbox_](const std::string& host_port) {
        {
          MutexLock lock(&mailbox->mutex);
          mailbox->named = host_port;
        }
        SysCalls::Real()->EventFdAdd(mailbox->wakeup.get());
      });
  source_->Watch(watcher_);
  return absl::OkStatus();
}

void AddressFinder::Wake() { sys_calls_->EventFdAdd(wakeup_fd()); }

void AddressFinder::ResetWakeup() { sys_calls_->EventFdReset(wakeup_fd()); }

void AddressFinder::Begin(const std::string& host_port,
                          absl::Duration timeout) {
  ++lookup_number_;
  {
    MutexLock lock(&mailbox_->mutex);
    mailbox_->awaited_number = lookup_number_;
    mailbox_->found.reset();
  }
  if (source_ == nullptr) {
    LookUp(mailbox_, lookup_.get(), lookup_number_, host_port, timeout);
    return;
  }
  source_->Find(timeout,
                [mailbox = mailbox_, lookup = lookup_, number = lookup_number_,
                 timeout](const absl::StatusOr<std::string>& found) {
                  if (found.ok()) {
                    LookUp(mailbox, lookup.get(), number, *found, timeout);
                  } else {
                    Deliver(mailbox, number, "", found.status());
                  }
                });
}

void AddressFinder::LookUp(const std::shared_ptr<Mailbox>& mailbox,
                           HostLookup* lookup, uint64_t number,
                           const std::string& host_port,
                           absl::Duration timeout) {
  const absl::StatusOr<HostPort> parsed = HostPort::Parse(host_port);
  lookup->Lookup(parsed->host, timeout,
                 [mailbox, number, host_port,
                  port = parsed->port](absl::StatusOr<Addresses> found) {
                   if (found.ok()) {
                     for (SocketAddress& address : *found) {
                       address = address.WithPort(port);
                     }
                   }
                   Deliver(mailbox, number, host_port, std::move(found));
                 });
}

void AddressFinder::Deliver(const std::shared_ptr<Mailbox>& mailbox,
                            uint64_t number, const std::string& host_port,
                            absl::StatusOr<Addresses> found) {
  {
    MutexLock lock(&mailbox->mutex);
    if (mailbox->awaited_number != number) return;
    mailbox->found = std::move(found);
    mailbox->target = host_port;
  }
  SysCalls::Real()->EventFdAdd(mailbox->wakeup.get());
}

absl::optional<absl::StatusOr<AddressFinder::Addresses>> AddressFinder::Take() {
  MutexLock lock(&mailbox_->mutex);
  if (mailbox_->found.has_value() && mailbox_->found->ok()) {
    target_ = mailbox_->target;
  }
  return std::exchange(mailbox_->found, absl::nullopt);
}

bool AddressFinder::TakeMove() {
  if (source_ == nullptr) return false;
  MutexLock lock(&mailbox_->mutex);
  const std::string named = std::exchange(mailbox_->named, "");
  return !named.empty() && named != target_;
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
