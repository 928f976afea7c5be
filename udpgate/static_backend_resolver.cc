#include "udpgate/static_backend_resolver.h"

namespace udpgate {

void StaticBackendResolver::Resolve(const ResolveRequest& /*request*/,
                                    Callback done) {
  done(ResolveResult{backend_, backend_.ToString()});
}

}  // namespace udpgate
