// The `Proxy` that a keeper keeps.
#ifndef UDPGATE_STORE_INTERNAL_PROXY_GATEWAY_H_
#define UDPGATE_STORE_INTERNAL_PROXY_GATEWAY_H_

#include <atomic>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "udpgate/proxy.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"
#include "udpgate/store/internal/kept_gateway.h"
#include "udpgate/store/session_keeper_options.h"

namespace udpgate {
namespace store {
namespace internal {

class ProxyGateway final : public KeptGateway {
 public:
  // Both must outlive it.
  ProxyGateway(Proxy* proxy, const SessionKeeperOptions* options)
      : proxy_(proxy), options_(options) {}

  absl::StatusOr<std::vector<RestoredSession>> Restore(
      absl::Span<const RestorableSession> sessions) override {
    return proxy_->Restore(sessions);
  }
  void SetStandby(bool is_standby) override { proxy_->SetStandby(is_standby); }
  void Supersede(absl::Span<const uint64_t> session_ids) override {
    proxy_->Supersede(session_ids);
  }

  absl::optional<std::vector<SessionInfo>> ListSessions() override {
    std::vector<SessionInfo> sessions;
    proxy_->ForEachSession([&sessions](const SessionInfo& session) {
      sessions.push_back(session);
    });
    // One that stops lists what it has left.
    if (!proxy_->IsAlive(kAliveTime)) return absl::nullopt;
    return sessions;
  }

  uint64_t DroppedEvents() override {
    return proxy_->GetStats().session_events_dropped;
  }

  bool IsOwnAddress(const SocketAddress& local) override {
    if (options_->is_own_address != nullptr) {
      return options_->is_own_address(local);
    }
    for (const SocketAddress& own : proxy_->listen_addresses()) {
      if (own == local || (own.is_any() && own.port() == local.port() &&
                           (own.is_ipv6() || local.is_ipv4()))) {
        return true;
      }
    }
    return false;
  }

 private:
  static constexpr absl::Duration kAliveTime = absl::Seconds(1);

  Proxy* const proxy_;
  const SessionKeeperOptions* const options_;
};

}  // namespace internal
}  // namespace store
}  // namespace udpgate

#endif  // UDPGATE_STORE_INTERNAL_PROXY_GATEWAY_H_
