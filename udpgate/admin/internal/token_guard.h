// Lets those in that know the token, and slows down those that guess.
#ifndef UDPGATE_ADMIN_INTERNAL_TOKEN_GUARD_H_
#define UDPGATE_ADMIN_INTERNAL_TOKEN_GUARD_H_

#include <chrono>
#include <cstddef>
#include <map>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/internal/mutex.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {
namespace internal {

// Takes the same time whatever part of `given` is right.
bool EqualsSecret(absl::string_view given, absl::string_view secret);

// Threads: any.
class TokenGuard {
 public:
  enum class Verdict { kRight, kMissing, kWrong, kTooManyWrong };

  TokenGuard(std::string token, int wrong_max, absl::Duration window)
      : token_(std::move(token)), wrong_max_(wrong_max), window_(window) {}

  // `authorization` is the value of the header, empty where there is none.
  Verdict Check(const SocketAddress& client, absl::string_view authorization);

 private:
  struct Window {
    std::chrono::steady_clock::time_point end;
    int wrong = 0;
  };
  // Addresses that are remembered; beyond them the one whose window ends first
  // is forgotten.
  static constexpr size_t kAddressesMax = 1024;

  const std::string token_;
  const int wrong_max_;
  const absl::Duration window_;
  udpgate::internal::Mutex mutex_;
  std::map<std::string, Window> windows_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_TOKEN_GUARD_H_
