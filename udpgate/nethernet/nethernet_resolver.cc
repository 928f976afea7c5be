#include "udpgate/nethernet/nethernet_resolver.h"

#include "absl/status/statusor.h"
#include "absl/types/optional.h"

namespace udpgate {
namespace nethernet {

void NetherNetResolver::Resolve(const ResolveRequest& request, Callback done) {
  if (request.reason == ResolveRequest::Reason::kDatagram) {
    absl::optional<absl::StatusOr<ResolveResult>> result =
        joins_->Resolve(request.client, request.first_datagram);
    if (result.has_value()) return done(*std::move(result));
  }
  inner_->Resolve(request, std::move(done));
}

Screening NetherNetResolver::Screen(const SocketAddress& client,
                                    absl::Span<const char> datagram) {
  const absl::optional<Screening> screening = joins_->Screen(client, datagram);
  return screening.has_value() ? *screening : inner_->Screen(client, datagram);
}

std::vector<SocketAddress> NetherNetResolver::HandleDisconnect(
    const DisconnectTarget& target) {
  // First what `inner_` remembers: a join that asks again gets nothing
  // outdated.
  const std::vector<SocketAddress> others = inner_->HandleDisconnect(target);
  std::vector<SocketAddress> clients = joins_->HandleDisconnect(target);
  clients.insert(clients.end(), others.begin(), others.end());
  return clients;
}

std::shared_ptr<SessionTag> NetherNetResolver::RestoreTag(
    const SessionTag& tag) {
  std::shared_ptr<SessionTag> restored = joins_->FindTag(tag.key());
  return restored != nullptr ? restored : inner_->RestoreTag(tag);
}

}  // namespace nethernet
}  // namespace udpgate
