#include "udpgate/fastpath/internal/flow_installer.h"

#include <cstring>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/clock.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

constexpr absl::Duration kRefusalLogInterval = absl::Seconds(10);

bool IsLinkLocal(const SocketAddress& address) {
  return address.is_ipv6() && address.ip_bytes()[0] == 0xFE &&
         (address.ip_bytes()[1] & 0xC0) == 0x80;
}

// True if the packets to `destination` go to the neighbour of `change`, which
// forwards them.
bool IsRouter(const NetworkChange& change, const Exit& exit,
              const SocketAddress& destination) {
  const udpgate_next_hop& hop = exit.next_hop;
  return exit.interface_index == static_cast<uint32_t>(change.link.index) &&
         hop.family == static_cast<uint32_t>(change.family) &&
         std::memcmp(hop.address, change.prefix.data(), 16) == 0 &&
         (destination.family() != change.family ||
          destination.ip_bytes() != change.prefix);
}

}  // namespace

absl::Status CheckAddresses(const SessionAddresses& addresses) {
  const SocketAddress* const all[] = {&addresses.client, &addresses.listen,
                                      &addresses.relay, &addresses.backend};
  for (const SocketAddress* address : all) {
    if (!address->is_unicast() || address->port() == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(address->ToString(), " does not identify one socket"));
    }
    if (address->family() != addresses.client.family()) {
      return absl::UnimplementedError(
          "client and backend are of different address families");
    }
    if (IsLinkLocal(*address)) {
      return absl::UnimplementedError(
          absl::StrCat(address->ToString(),
                       " is a link-local address, which identifies "
                       "another host on each interface"));
    }
  }
  return absl::OkStatus();
}

FlowInstaller::FlowInstaller(FlowTable* table,
                             std::unique_ptr<Attachments> attachments,
                             int sessions_max, LogSink log_sink)
    : table_(table),
      attachments_(std::move(attachments)),
      log_sink_(std::move(log_sink)),
      statuses_(static_cast<size_t>(sessions_max)),
      refusal_log_limiter_(Clock::Monotonic(), kRefusalLogInterval) {}

bool FlowInstaller::HandleNext(int64_t now_nanoseconds) {
  table_->FreeRested(now_nanoseconds);
  const absl::optional<FlowTable::Request> request = table_->NextRequest();
  if (!request.has_value()) return false;
  if (request->is_given_back) {
    table_->Clear(request->slot, now_nanoseconds);
    return true;
  }
  absl::Status& status = statuses_[request->slot];
  status = Install(request->slot);
  if (!status.ok()) LogRefusal(request->slot, status);
  return true;
}

// The thread that reads network changes also looks up routes and adds flows. A
// change after the lookup is therefore read later, and finds the flow.
absl::Status FlowInstaller::Install(uint32_t slot) {
  const SessionAddresses& addresses = table_->addresses(slot);
  absl::Status status = CheckAddresses(addresses);
  absl::StatusOr<Exit> to_backend, to_client;
  if (status.ok()) {
    to_backend = attachments_->FindExit(addresses.relay, addresses.backend);
    status = to_backend.status();
  }
  if (status.ok()) {
    to_client = attachments_->FindExit(addresses.listen, addresses.client);
    status = to_client.status();
  }
  if (status.ok()) return table_->Add(slot, *to_backend, *to_client);
  table_->Refuse(slot);
  return status;
}

void FlowInstaller::LogRefusal(uint32_t slot, const absl::Status& status) {
  int64_t suppressed = 0;
  if (!log_sink_ || !refusal_log_limiter_.Admit(&suppressed)) return;
  log_sink_(
      LogSeverity::kWarning,
      absl::StrCat("fast path: the session of ",
                   table_->addresses(slot).client.ToString(),
                   " stays on sockets: ", status.message(),
                   suppressed > 0 ? absl::StrCat(" (", suppressed,
                                                 " similar lines suppressed)")
                                  : ""));
}

int FlowInstaller::Apply(const NetworkChange& change) {
  int withdrawn = 0;
  switch (change.kind) {
    case NetworkChange::Kind::kEverything:
      withdrawn = table_->WithdrawWhere([](const SessionAddresses&, const Exit&,
                                           const Exit&) { return true; });
      attachments_->ReadAgain();
      break;
    case NetworkChange::Kind::kPrefix:
      withdrawn = WithdrawPrefix(change);
      break;
    case NetworkChange::Kind::kLink:
      // A new link carries no flows.
      if (attachments_->Apply(change.link)) {
        withdrawn = WithdrawLink(change.link.index);
      }
      break;
    case NetworkChange::Kind::kLinkRemoved:
      withdrawn = WithdrawLink(change.link.index);
      attachments_->Forget(change.link.index);
      break;
    case NetworkChange::Kind::kNeighbourFailed:
      withdrawn = WithdrawRouter(change);
      break;
  }
  return withdrawn;
}

int FlowInstaller::WithdrawLink(int interface_index) {
  const auto index = static_cast<uint32_t>(interface_index);
  return table_->WithdrawWhere([index](const SessionAddresses&,
                                       const Exit& to_backend,
                                       const Exit& to_client) {
    return to_backend.interface_index == index ||
           to_client.interface_index == index;
  });
}

int FlowInstaller::WithdrawPrefix(const NetworkChange& change) {
  return table_->WithdrawWhere(
      [&change](const SessionAddresses& addresses, const Exit&, const Exit&) {
        return addresses.client.family() == change.family &&
               (IsInPrefix(change, addresses.client.ip_bytes()) ||
                IsInPrefix(change, addresses.backend.ip_bytes()));
      });
}

int FlowInstaller::WithdrawRouter(const NetworkChange& change) {
  return table_->WithdrawWhere([&change](const SessionAddresses& addresses,
                                         const Exit& to_backend,
                                         const Exit& to_client) {
    return IsRouter(change, to_backend, addresses.backend) ||
           IsRouter(change, to_client, addresses.client);
  });
}

void FlowInstaller::FinishAdoption(int64_t now_nanoseconds) {
  table_->FinishAdoption(now_nanoseconds);
  attachments_->FinishAdoption(table_->ExitInterfaces());
}

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
