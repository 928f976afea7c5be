// What all threads of a gateway share to exchange the datagrams of clients with
// the other gateways of its fleet.
#ifndef UDPGATE_INTERNAL_SHARD_HOP_H_
#define UDPGATE_INTERNAL_SHARD_HOP_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "udpgate/clock.h"
#include "udpgate/forward/envelope_keys.h"
#include "udpgate/forward/internal/peers.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/logging.h"
#include "udpgate/proxy_options.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// Threads: any, but for Open: one at a time.
class Hop {
 public:
  // Between two log lines that say the same.
  static constexpr absl::Duration kLogInterval = absl::Minutes(1);

  // `keys` is not null. The pointers must outlive it.
  Hop(SysCalls* sys_calls, const Clock* clock, const ProxyOptions* options,
      std::shared_ptr<forward::EnvelopeKeys> keys);
  Hop(const Hop&) = delete;
  Hop& operator=(const Hop&) = delete;

  // Binds the socket to `ProxyOptions::forward_address`. In a takeover that
  // fails until the old process has closed its own. The error names the
  // address.
  absl::Status Open();
  // After the threads have stopped. Another process may open it then.
  void Close();
  bool is_open() const { return fd() >= 0; }
  // -1 until it is open.
  int fd() const { return fd_.load(std::memory_order_acquire); }
  // As bound; not before it is open.
  const SocketAddress& address() const { return address_; }

  forward::EnvelopeKeys* keys() const { return keys_.get(); }
  forward::internal::Peers& peers() { return peers_; }

  // Takes a place for a client that is forwarded; false if all are taken.
  bool TakeClient();
  void GiveBackClient() {
    client_count_.fetch_sub(1, std::memory_order_relaxed);
  }

  // At most one line about a gateway that does not answer is written at a time.
  LogRateLimiter& silence_log() { return silence_log_; }

  // The wall clock, and a number for a new sender. Tests replace them before
  // the first thread starts.
  std::function<int64_t()> unix_seconds;
  std::function<uint64_t()> new_sender_id;

 private:
  SysCalls* const sys_calls_;
  const ProxyOptions* const options_;
  const std::shared_ptr<forward::EnvelopeKeys> keys_;
  UniqueFd owned_fd_;
  std::atomic<int> fd_{-1};
  SocketAddress address_;
  forward::internal::Peers peers_;
  std::atomic<int64_t> client_count_{0};
  LogRateLimiter silence_log_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_HOP_H_
