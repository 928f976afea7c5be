// One fixed backend for every client: no Redis, no thread, no waiting.
#ifndef UDPGATE_STATIC_BACKEND_RESOLVER_H_
#define UDPGATE_STATIC_BACKEND_RESOLVER_H_

#include "udpgate/backend_resolver.h"
#include "udpgate/base/export.h"
#include "udpgate/socket_address.h"

namespace udpgate {

//   auto backend = udpgate::SocketAddress::Parse("10.0.0.5:19132");
//   auto resolver =
//       std::make_shared<udpgate::StaticBackendResolver>(*backend);
//
// Threads: any number at once; it never changes. Answers inline, without error.
class UDPGATE_EXPORT StaticBackendResolver final : public BackendResolver {
 public:
  explicit StaticBackendResolver(const SocketAddress& backend)
      : backend_(backend) {}

  void Resolve(const ResolveRequest& request, Callback done) override;

 private:
  const SocketAddress backend_;
};

}  // namespace udpgate

#endif  // UDPGATE_STATIC_BACKEND_RESOLVER_H_
