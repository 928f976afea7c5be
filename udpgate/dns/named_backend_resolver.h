// One fixed backend by its name: `BACKEND_ADDR=lobby-3.internal:19132`.
#ifndef UDPGATE_DNS_NAMED_BACKEND_RESOLVER_H_
#define UDPGATE_DNS_NAMED_BACKEND_RESOLVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/dns/host_lookup.h"

namespace udpgate {

// The name is looked up anew for each new client, through the cache of the
// `HostLookup`; so when the name moves to another server, new clients follow
// within `HostLookupOptions::success_cache_time`, and old ones stay. An IP
// address is answered inline; where the backend is always one,
// `StaticBackendResolver` does without the HostLookup.
//
//   auto lookup = udpgate::HostLookup::Create({});
//   auto resolver = udpgate::NamedBackendResolver::Create(
//       "lobby-3.internal:19132", *lookup);
//
// Threads: any number at once.
class NamedBackendResolver final : public BackendResolver {
 public:
  // `backend` as `HostPort::Parse` takes it; InvalidArgument says what is
  // wrong with it. Does not look the name up yet.
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
