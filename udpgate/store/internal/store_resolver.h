// A decorator of `BackendResolver` that also asks for the record of the client.
#ifndef UDPGATE_STORE_INTERNAL_STORE_RESOLVER_H_
#define UDPGATE_STORE_INTERNAL_STORE_RESOLVER_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/socket_address.h"
#include "udpgate/store/internal/newcomers.h"

namespace udpgate {
namespace store {
namespace internal {

// What the resolver needs of the keeper. Threads: any.
class RecordSource {
 public:
  virtual ~RecordSource() = default;

  // As Newcomers::Ask, which does not block either. `answer` may be destroyed
  // uncalled.
  virtual void Ask(const SocketAddress& client, absl::Duration timeout,
                   Newcomers::Answer answer) = 0;
  virtual void OnDisconnect(const DisconnectTarget& target) = 0;
};

// A usable record wins over the result of the wrapped resolver; the exception
// is a result with a tag, whose resolver knows the player.
//
// Threads: any.
class StoreResolver final : public BackendResolver {
 public:
  // `timeout` as SessionKeeperOptions::newcomer_timeout.
  StoreResolver(std::shared_ptr<BackendResolver> inner,
                std::shared_ptr<RecordSource> source, absl::Duration timeout)
      : inner_(std::move(inner)),
        source_(std::move(source)),
        timeout_(timeout) {}

  void Resolve(const ResolveRequest& request, Callback done) override;
  udpgate::Screening Screen(const SocketAddress& client,
                            absl::Span<const char> datagram) override {
    return inner_->Screen(client, datagram);
  }
  std::vector<SocketAddress> HandleDisconnect(
      const DisconnectTarget& target) override;
  std::shared_ptr<SessionTag> RestoreTag(const SessionTag& tag) override {
    return inner_->RestoreTag(tag);
  }
  absl::Status Health() const override { return inner_->Health(); }

 private:
  const std::shared_ptr<BackendResolver> inner_;
  const std::shared_ptr<RecordSource> source_;
  const absl::Duration timeout_;
};

}  // namespace internal
}  // namespace store
}  // namespace udpgate

#endif  // UDPGATE_STORE_INTERNAL_STORE_RESOLVER_H_
