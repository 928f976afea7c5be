#include "udpgate/forward/internal/peers.h"

namespace udpgate {
namespace forward {
namespace internal {

using udpgate::internal::MutexLock;

uint16_t Peers::NumberOf(const SocketAddress& address) {
  if (!address.is_unicast() || address.port() == 0) return 0;
  MutexLock lock(&mutex_);
  const auto found = numbers_.find(address);
  if (found != numbers_.end()) return found->second;
  if (count_ == kPeersMax) return 0;
  peers_[++count_].address = address;
  numbers_[address] = count_;
  return count_;
}

void Peers::Forget(const SocketAddress& address) {
  MutexLock lock(&mutex_);
  const auto found = numbers_.find(address);
  if (found == numbers_.end()) return;
  peers_[found->second].epoch.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace internal
}  // namespace forward
}  // namespace udpgate
