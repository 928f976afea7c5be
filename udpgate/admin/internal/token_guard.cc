#include "udpgate/admin/internal/token_guard.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

// An IPv4 address, or the /64 of an IPv6 one.
std::string KeyOf(const SocketAddress& client) {
  const size_t size = client.is_ipv6() ? 8 : 4;
  return std::string(
      client.ip_bytes().begin(),
      client.ip_bytes().begin() + static_cast<std::ptrdiff_t>(size));
}

}  // namespace

bool EqualsSecret(absl::string_view given, absl::string_view secret) {
  if (secret.empty()) return false;
  volatile unsigned difference = given.size() == secret.size() ? 0 : 1;
  for (size_t i = 0; i < given.size(); ++i) {
    const unsigned bits = static_cast<unsigned char>(given[i]) ^
                          static_cast<unsigned char>(secret[i % secret.size()]);
    difference = difference | bits;
  }
  return difference == 0;
}

TokenGuard::Verdict TokenGuard::Check(const SocketAddress& client,
                                      absl::string_view authorization) {
  if (authorization.empty()) return Verdict::kMissing;
  const TimePoint now = now_();
  const std::string key = KeyOf(client);
  udpgate::internal::MutexLock lock(&mutex_);
  auto it = windows_.find(key);
  if (it != windows_.end() && it->second.end <= now) {
    windows_.erase(it);
    it = windows_.end();
  }
  if (it != windows_.end() && it->second.wrong >= wrong_max_) {
    return Verdict::kTooManyWrong;
  }
  absl::string_view given = authorization;
  if (absl::StartsWithIgnoreCase(given, "Bearer ")) {
    given.remove_prefix(7);
    if (EqualsSecret(given, token_)) return Verdict::kRight;
  }
  if (it == windows_.end()) {
    if (windows_.size() >= kAddressesMax) {
      windows_.erase(std::min_element(windows_.begin(), windows_.end(),
                                      [](const auto& a, const auto& b) {
                                        return a.second.end < b.second.end;
                                      }));
    }
    it = windows_.emplace(key, Window{now + absl::ToChronoNanoseconds(window_)})
             .first;
  }
  ++it->second.wrong;
  return Verdict::kWrong;
}

}  // namespace internal
}  // namespace admin
}  // namespace udpgate
