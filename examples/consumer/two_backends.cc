#include "two_backends.h"

void TwoBackends::Resolve(const udpgate::ResolveRequest& /*request*/,
                          Callback done) {
  const udpgate::SocketAddress& backend = backends_[client_count_++ % 2];
  done(udpgate::ResolveResult{backend, backend.ToString()});
}
