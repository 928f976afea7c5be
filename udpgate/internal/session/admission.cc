#include "udpgate/internal/session/admission.h"

#include <algorithm>
#include <utility>

#include "absl/hash/hash.h"

namespace udpgate {
namespace internal {
namespace {

constexpr int64_t kSweepPeriodNanoseconds = 100'000'000;

// Adds `amount` to `sum` unless that would exceed `limit`.
bool AddWithin(int64_t limit, int64_t amount, std::atomic<int64_t>* sum) {
  if (sum->fetch_add(amount, std::memory_order_relaxed) + amount <= limit) {
    return true;
  }
  sum->fetch_sub(amount, std::memory_order_relaxed);
  return false;
}

}  // namespace

Admission::Admission(const ProxyLimits& limits, int64_t sessions_max) {
  SetLimits(limits, sessions_max);
}

void Admission::SetLimits(const ProxyLimits& limits, int64_t sessions_max) {
  // Copied and freed without the lock: new clients wait for it.
  CidrList allow = limits.allow_cidrs;
  CidrList deny = limits.deny_cidrs;
  {
    MutexLock lock(&cidrs_mutex_);
    std::swap(allow_, allow);
    std::swap(deny_, deny);
    has_cidrs_ = !allow_.empty() || !deny_.empty();
  }
  sessions_max_ = sessions_max;
  // Twice the sessions, since they do not spread evenly, and those of the last
  // second.
  watched_per_stripe_max_ =
      kRecentPerStripeMax + 2 * static_cast<size_t>(sessions_max) / kStripes;
  unconfirmed_per_ip_max_ = limits.max_unconfirmed_sessions_per_ip;
  sessions_per_ip_max_ = limits.max_sessions_per_ip;
  pending_max_ = limits.pending_clients_max;
  held_bytes_max_ = limits.pending_bytes_max;
  rate_per_second_ = limits.new_sessions_per_second;
  rate_per_ip_per_second_ = limits.new_sessions_per_second_per_ip;
}

// From what costs least to what costs most, so that a flood is refused early.
absl::optional<DropReason> Admission::Begin(const SocketAddress& client,
                                            size_t held_bytes,
                                            int64_t now_nanoseconds,
                                            absl::FunctionRef<bool()> evict) {
  if (IsDenied(client)) return DropReason::kDenied;
  if (!AddWithin(pending_max_, 1, &pending_count_)) {
    return DropReason::kPendingLimit;
  }
  if (!TakeHeldBytes(held_bytes)) {
    EndPending();
    return DropReason::kPendingLimit;
  }
  absl::optional<DropReason> refusal =
      TakePlaceOfNetwork(client, now_nanoseconds);
  if (!refusal.has_value() && !TakePlace(evict)) {
    refusal = DropReason::kSessionLimit;
    GiveBackPlaceOfNetwork(client, SessionState::kPending);
  }
  if (refusal.has_value()) {
    GiveBackHeldBytes(held_bytes);
    EndPending();
  }
  return refusal;
}

bool Admission::Restore(const SocketAddress& client,
                        absl::FunctionRef<bool()> evict) {
  if (!TakePlace(evict)) return false;
  CountOfNetwork(client, SessionState::kConfirmed);
  return true;
}

void Admission::Adopt(const SocketAddress& client, SessionState state,
                      size_t held_bytes) {
  session_count_.fetch_add(1, std::memory_order_relaxed);
  if (state == SessionState::kPending) {
    pending_count_.fetch_add(1, std::memory_order_relaxed);
  }
  held_bytes_.fetch_add(static_cast<int64_t>(held_bytes),
                        std::memory_order_relaxed);
  CountOfNetwork(client, state);
}

void Admission::CountOfNetwork(const SocketAddress& client,
                               SessionState state) {
  const ClientNetwork network(client);
  Stripe& stripe = StripeOf(network);
  MutexLock lock(&stripe.mutex);
  Watched& watched = stripe.watched[network];
  ++watched.session_count;
  if (state != SessionState::kConfirmed) ++watched.unconfirmed_count;
}

void Admission::Confirm(const SocketAddress& client) {
  const ClientNetwork network(client);
  Stripe& stripe = StripeOf(network);
  MutexLock lock(&stripe.mutex);
  const auto found = stripe.watched.find(network);
  if (found != stripe.watched.end()) --found->second.unconfirmed_count;
}

bool Admission::IsDenied(const SocketAddress& client) {
  if (!has_cidrs_.load(std::memory_order_relaxed)) return false;
  MutexLock lock(&cidrs_mutex_);
  return deny_.Contains(client) ||
         (!allow_.empty() && !allow_.Contains(client));
}

void Admission::End(const SocketAddress& client, SessionState state) {
  session_count_.fetch_sub(1, std::memory_order_relaxed);
  GiveBackPlaceOfNetwork(client, state);
}

bool Admission::MayLookForSilent(const SocketAddress& client,
                                 int64_t now_nanoseconds) {
  const ClientNetwork network(client);
  Stripe& stripe = StripeOf(network);
  MutexLock lock(&stripe.mutex);
  const auto found = stripe.watched.find(network);
  if (found == stripe.watched.end() ||
      now_nanoseconds < found->second.next_look_nanoseconds) {
    return false;
  }
  found->second.next_look_nanoseconds =
      now_nanoseconds + kLookPeriodNanoseconds;
  return true;
}

bool Admission::TakeHeldBytes(size_t bytes) {
  return AddWithin(held_bytes_max_, static_cast<int64_t>(bytes), &held_bytes_);
}

absl::optional<DropReason> Admission::TakeRate(int64_t now_nanoseconds) {
  const Rate rate(rate_per_second_.load(std::memory_order_relaxed));
  if (!rate.is_limited()) return absl::nullopt;
  int64_t before = full_nanoseconds_.load(std::memory_order_relaxed);
  int64_t after;
  do {
    after = before;
    if (!rate.Fits(now_nanoseconds, &after)) {
      return DropReason::kNewSessionRate;
    }
  } while (!full_nanoseconds_.compare_exchange_weak(before, after,
                                                    std::memory_order_relaxed));
  return absl::nullopt;
}

bool Admission::TakePlace(absl::FunctionRef<bool()> evict) {
  if (AddWithin(sessions_max_, 1, &session_count_)) return true;
  return evict() && AddWithin(sessions_max_, 1, &session_count_);
}

absl::optional<DropReason> Admission::TakePlaceOfNetwork(
    const SocketAddress& client, int64_t now_nanoseconds) {
  const ClientNetwork network(client);
  Stripe& stripe = StripeOf(network);
  MutexLock lock(&stripe.mutex);
  Watched after;
  const auto found = stripe.watched.find(network);
  if (found != stripe.watched.end()) {
    after = found->second;
  } else if (!MakeRoom(now_nanoseconds, &stripe)) {
    return DropReason::kNewSessionRatePerIp;
  }
  const int64_t sessions_max =
      sessions_per_ip_max_.load(std::memory_order_relaxed);
  if (sessions_max > 0 && after.session_count >= sessions_max) {
    return DropReason::kSessionLimitPerIp;
  }
  const int64_t unconfirmed_max =
      unconfirmed_per_ip_max_.load(std::memory_order_relaxed);
  if (unconfirmed_max > 0 && after.unconfirmed_count >= unconfirmed_max) {
    return DropReason::kUnconfirmedLimitPerIp;
  }
  const Rate rate = rate_per_ip();
  if (rate.is_limited() &&
      !rate.Fits(now_nanoseconds, &after.full_nanoseconds)) {
    return DropReason::kNewSessionRatePerIp;
  }
  // Last, so that an address beyond its own limits takes no share of it.
  absl::optional<DropReason> refusal = TakeRate(now_nanoseconds);
  if (refusal.has_value()) return refusal;
  ++after.session_count;
  ++after.unconfirmed_count;
  stripe.watched[network] = after;
  return absl::nullopt;
}

// Whether one more network can be watched; forgets those whose second is over.
bool Admission::MakeRoom(int64_t now_nanoseconds, Stripe* stripe) const {
  const size_t watched_max =
      watched_per_stripe_max_.load(std::memory_order_relaxed);
  if (stripe->watched.size() < watched_max) return true;
  // It visits all of them, so not for each client of a flood.
  if (now_nanoseconds < stripe->next_sweep_nanoseconds) return false;
  stripe->next_sweep_nanoseconds = now_nanoseconds + kSweepPeriodNanoseconds;
  for (auto it = stripe->watched.begin(); it != stripe->watched.end();) {
    const auto current = it++;
    if (current->second.session_count == 0 &&
        current->second.full_nanoseconds <= now_nanoseconds) {
      stripe->watched.erase(current);
    }
  }
  return stripe->watched.size() < watched_max;
}

void Admission::GiveBackPlaceOfNetwork(const SocketAddress& client,
                                       SessionState state) {
  const ClientNetwork network(client);
  Stripe& stripe = StripeOf(network);
  MutexLock lock(&stripe.mutex);
  const auto found = stripe.watched.find(network);
  if (found == stripe.watched.end()) return;
  if (state != SessionState::kConfirmed) --found->second.unconfirmed_count;
  // If there is a rate limit the entry stays, and is freed when its stripe is
  // full.
  if (--found->second.session_count == 0 && !rate_per_ip().is_limited()) {
    stripe.watched.erase(found);
  }
}

Admission::Stripe& Admission::StripeOf(const ClientNetwork& network) {
  return stripes_[absl::Hash<ClientNetwork>()(network) % kStripes];
}

}  // namespace internal
}  // namespace udpgate
