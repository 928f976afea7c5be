// Sends the players of NetherNet to the backends that answered their offers,
// and asks another resolver for everybody else.
//
//   auto joins = std::make_shared<JoinTable>(JoinTableOptions(),
//                                            Clock::Monotonic());
//   auto resolver = std::make_shared<NetherNetResolver>(backends, joins);
//   auto proxy = Proxy::Create(options, {resolver});
#ifndef UDPGATE_NETHERNET_NETHERNET_RESOLVER_H_
#define UDPGATE_NETHERNET_NETHERNET_RESOLVER_H_

#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/base/export.h"
#include "udpgate/disconnect_source.h"
#include "udpgate/nethernet/join_table.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {

// The first datagram of a client decides. STUN and DTLS (RFC 7983) belong to
// joins; a Binding request whose ufrag and integrity are those of a join opens
// a session to its backend, confirmed at once. All else is RakNet or another
// protocol, and goes to `inner`; also a Binding request without a user name of
// ICE. See `JoinTable::Screen`.
//
// Threads: any. Ownership: the Proxy shares it, and with it the table.
class UDPGATE_EXPORT NetherNetResolver final : public BackendResolver {
 public:
  // Neither may be null.
  NetherNetResolver(std::shared_ptr<BackendResolver> inner,
                    std::shared_ptr<JoinTable> joins)
      : inner_(std::move(inner)), joins_(std::move(joins)) {}

  void Resolve(const ResolveRequest& request, Callback done) override;
  Screening Screen(const SocketAddress& client,
                   absl::Span<const char> datagram) override;
  std::vector<SocketAddress> HandleDisconnect(
      const DisconnectTarget& target) override;
  std::shared_ptr<SessionTag> RestoreTag(const SessionTag& tag) override;
  // Of `inner`.
  absl::Status Health() const override { return inner_->Health(); }

 private:
  const std::shared_ptr<BackendResolver> inner_;
  const std::shared_ptr<JoinTable> joins_;
};

}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_NETHERNET_RESOLVER_H_
