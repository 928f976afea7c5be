#include "udpgate/dns/named_backend_resolver.h"

#include <utility>

#include "udpgate/dns/backend_text.h"
#include "udpgate/dns/host_port.h"

namespace udpgate {

absl::StatusOr<std::shared_ptr<NamedBackendResolver>>
NamedBackendResolver::Create(absl::string_view backend,
                             std::shared_ptr<HostLookup> lookup) {
  const absl::StatusOr<HostPort> parsed = HostPort::Parse(backend);
  if (!parsed.ok()) return parsed.status();
  return std::shared_ptr<NamedBackendResolver>(
      new NamedBackendResolver(backend, std::move(lookup)));
}

NamedBackendResolver::NamedBackendResolver(absl::string_view backend,
                                           std::shared_ptr<HostLookup> lookup)
    : backend_(backend), lookup_(std::move(lookup)) {}

void NamedBackendResolver::Resolve(const ResolveRequest& request,
                                   Callback done) {
  ResolveBackendText(backend_, request.timeout, lookup_.get(), std::move(done));
}

}  // namespace udpgate
