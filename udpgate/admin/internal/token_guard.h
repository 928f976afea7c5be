// Bearer-token check that rate-limits failed attempts per client.
#ifndef UDPGATE_ADMIN_INTERNAL_TOKEN_GUARD_H_
#define UDPGATE_ADMIN_INTERNAL_TOKEN_GUARD_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {
namespace internal {

// Takes the same time whichever part of `given` is right. False if `secret` is
// empty.
bool EqualsSecret(absl::string_view given, absl::string_view secret);

// Threads: any.
class TokenGuard {
 public:
  enum class Verdict { kRight, kMissing, kWrong, kTooManyWrong };
  using TimePoint = std::chrono::steady_clock::time_point;

  // Clients whose failed attempts are counted. Beyond them the one whose window
  // ends first is forgotten.
  static constexpr size_t kAddressesMax = 1024;

  // `wrong_max` failed attempts of one IPv4 address or IPv6 /64 within
  // `window`, which the first of them opens; further attempts are not checked
  // until the window ends. `now` is for tests.
  TokenGuard(std::string token, int wrong_max, absl::Duration window,
             std::function<TimePoint()> now = std::chrono::steady_clock::now)
      : token_(std::move(token)),
        wrong_max_(wrong_max),
        window_(window),
        now_(std::move(now)) {}

  // `authorization` is the value of the header, empty if there is none: that is
  // not a failed attempt.
  Verdict Check(const SocketAddress& client, absl::string_view authorization);

 private:
  struct Window {
    TimePoint end;
    int wrong = 0;
  };

  const std::string token_;
  const int wrong_max_;
  const absl::Duration window_;
  const std::function<TimePoint()> now_;
  udpgate::internal::Mutex mutex_;
  std::map<std::string, Window> windows_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_TOKEN_GUARD_H_
