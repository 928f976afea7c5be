// Decides which client may create a session.
#ifndef UDPGATE_INTERNAL_SESSION_ADMISSION_H_
#define UDPGATE_INTERNAL_SESSION_ADMISSION_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/types/optional.h"
#include "udpgate/internal/net/client_network.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/rate.h"
#include "udpgate/proxy_options.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// The limits of the whole gateway, shared by all shards and used only when a
// session is created, confirmed or ended. A refusal allocates nothing.
//
// Sessions are counted by address (ClientNetwork) even without a limit, so that
// a limit per address that is set later applies at once. Memory: some 50
// bytes an address, at most 65,536 of them and twice as many as sessions.
//
// Threads: any. Per address there is a lock, one of several.
class Admission {
 public:
  // An address gets at most one search in this period for a session to replace.
  static constexpr int64_t kLookPeriodNanoseconds = 100'000'000;

  // `sessions_max` replaces `limits.max_sessions`.
  Admission(const ProxyLimits& limits, int64_t sessions_max);

  // Applies to new clients; no session is ended.
  void SetLimits(const ProxyLimits& limits, int64_t sessions_max);

  // Takes a place for a pending session of `client`, and room for the
  // `held_bytes` that it begins with, or says why there is none. At the
  // session limit `evict` is called to end another session (which calls `End`);
  // it returns whether it did.
  absl::optional<DropReason> Begin(const SocketAddress& client,
                                   size_t held_bytes, int64_t now_nanoseconds,
                                   absl::FunctionRef<bool()> evict);
  // Takes a place for a confirmed session that is restored. False if the
  // session limit is reached, see Begin; the other limits count it, but do not
  // apply.
  bool Restore(const SocketAddress& client, absl::FunctionRef<bool()> evict);
  // Takes a place for a session of another process, and room for what it holds,
  // regardless of the limits.
  void Adopt(const SocketAddress& client, SessionState state,
             size_t held_bytes);
  // The session has a backend now, or is about to end.
  void EndPending() { pending_count_.fetch_sub(1, std::memory_order_relaxed); }
  // The session is confirmed now.
  void Confirm(const SocketAddress& client);
  // The session has ended in this state; its place is free.
  void End(const SocketAddress& client, SessionState state);

  // Whether to search for a session of the address of `client` that may be
  // replaced. At most ten times a second for one address, which limits the work
  // that one address can cause in the shards.
  bool MayLookForSilent(const SocketAddress& client, int64_t now_nanoseconds);

  // Takes room for datagrams of pending sessions. False, and nothing taken, if
  // there is not enough.
  bool TakeHeldBytes(size_t bytes);
  void GiveBackHeldBytes(size_t bytes) {
    held_bytes_.fetch_sub(static_cast<int64_t>(bytes),
                          std::memory_order_relaxed);
  }

  int64_t sessions_max() const {
    return sessions_max_.load(std::memory_order_relaxed);
  }
  // Places that are taken now.
  int64_t session_count() const {
    return session_count_.load(std::memory_order_relaxed);
  }

 private:
  static constexpr size_t kStripes = 16;
  static constexpr size_t kRecentPerStripeMax = 4096;

  struct Watched {
    uint32_t session_count = 0;
    uint32_t unconfirmed_count = 0;  // of them, pending ones included
    int64_t full_nanoseconds = 0;    // see Rate
    int64_t next_look_nanoseconds = INT64_MIN;
  };
  struct Stripe {
    Mutex mutex;
    // Networks that have a session, or created one within the last second.
    absl::flat_hash_map<ClientNetwork, Watched> watched ABSL_GUARDED_BY(mutex);
    int64_t next_sweep_nanoseconds ABSL_GUARDED_BY(mutex) = 0;
  };

  absl::optional<DropReason> TakeRate(int64_t now_nanoseconds);
  bool TakePlace(absl::FunctionRef<bool()> evict);
  void CountOfNetwork(const SocketAddress& client, SessionState state);
  absl::optional<DropReason> TakePlaceOfNetwork(const SocketAddress& client,
                                                int64_t now_nanoseconds);
  bool MakeRoom(int64_t now_nanoseconds, Stripe* stripe) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe->mutex);
  void GiveBackPlaceOfNetwork(const SocketAddress& client, SessionState state);
  bool IsDenied(const SocketAddress& client);
  Rate rate_per_ip() const {
    return Rate(rate_per_ip_per_second_.load(std::memory_order_relaxed));
  }
  Stripe& StripeOf(const ClientNetwork& network);

  // Read without the lock where there are none.
  std::atomic<bool> has_cidrs_{false};
  Mutex cidrs_mutex_;
  CidrList allow_ ABSL_GUARDED_BY(cidrs_mutex_);
  CidrList deny_ ABSL_GUARDED_BY(cidrs_mutex_);
  std::atomic<int64_t> sessions_max_{0};
  std::atomic<size_t> watched_per_stripe_max_{0};
  std::atomic<int64_t> sessions_per_ip_max_{0};
  std::atomic<int64_t> unconfirmed_per_ip_max_{0};
  std::atomic<int64_t> pending_max_{0};
  std::atomic<int64_t> held_bytes_max_{0};
  std::atomic<int64_t> rate_per_second_{0};
  std::atomic<int64_t> rate_per_ip_per_second_{0};

  std::atomic<int64_t> session_count_{0};
  std::atomic<int64_t> pending_count_{0};
  std::atomic<int64_t> held_bytes_{0};
  std::atomic<int64_t> full_nanoseconds_{0};  // see Rate
  std::array<Stripe, kStripes> stripes_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SESSION_ADMISSION_H_
