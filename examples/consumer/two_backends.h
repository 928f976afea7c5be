// A resolver of our own: spreads new clients over two backends by turns.
#ifndef TWO_BACKENDS_H_
#define TWO_BACKENDS_H_

#include <atomic>

#include "udpgate/backend_resolver.h"

class TwoBackends final : public udpgate::BackendResolver {
 public:
  TwoBackends(const udpgate::SocketAddress& first,
              const udpgate::SocketAddress& second)
      : backends_{first, second} {}

  void Resolve(const udpgate::ResolveRequest& request, Callback done) override;

 private:
  const udpgate::SocketAddress backends_[2];
  std::atomic<unsigned int> client_count_{0};  // several threads ask
};

#endif  // TWO_BACKENDS_H_
