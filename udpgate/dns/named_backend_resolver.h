// One backend, given by its name: `BACKEND_ADDR=lobby-3.internal:19132`.
#ifndef UDPGATE_DNS_NAMED_BACKEND_RESOLVER_H_
#define UDPGATE_DNS_NAMED_BACKEND_RESOLVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/base/export.h"
#include "udpgate/dns/host_lookup.h"

namespace udpgate {

// The name is looked up for each new session, through the cache of the
// `HostLookup`. If the name moves to another server, new sessions follow within
// `HostLookupOptions::success_cache_time`; existing ones stay. An IP address is
// resolved inline; if the backend is always an IP address,
// `StaticBackendResolver` needs no HostLookup.
//
//   auto lookup = udpgate::HostLookup::Create({});
//   auto resolver = udpgate::NamedBackendResolver::Create(
//       "lobby-3.internal:19132", *lookup);
//
// Threads: `Resolve` may be called from any thread.
class UDPGATE_EXPORT NamedBackendResolver final : public BackendResolver {
 public:
  // `backend` as in `HostPort::Parse`. Does not look the name up yet. Errors:
  // those of `HostPort::Parse`.
  static absl::StatusOr<std::shared_ptr<NamedBackendResolver>> Create(
      absl::string_view backend, std::shared_ptr<HostLookup> lookup);

  // Errors: those of `ResolveBackendText`.
  void Resolve(const ResolveRequest& request, Callback done) override;

 private:
  NamedBackendResolver(absl::string_view backend,
                       std::shared_ptr<HostLookup> lookup);

  const std::string backend_;
  const std::shared_ptr<HostLookup> lookup_;
};

}  // namespace udpgate

#endif  // UDPGATE_DNS_NAMED_BACKEND_RESOLVER_H_
