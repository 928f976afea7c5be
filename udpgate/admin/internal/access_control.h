// Decides which requests to the admin endpoint are served: the token, and what
// keeps web pages out.
#ifndef UDPGATE_ADMIN_INTERNAL_ACCESS_CONTROL_H_
#define UDPGATE_ADMIN_INTERNAL_ACCESS_CONTROL_H_

#include <atomic>
#include <cstdint>

#include "absl/time/time.h"
#include "udpgate/admin/admin_options.h"
#include "udpgate/admin/internal/token_guard.h"
#include "udpgate/http/message.h"

namespace udpgate {
namespace admin {
namespace internal {

// The rules are those of README.md, "Access control". A browser sends a
// cross-site POST without asking only if it has one of three content types
// (https://fetch.spec.whatwg.org/#cors-safelisted-request-header), which are
// refused here.
//
// Threads: any.
class AccessControl {
 public:
  explicit AccessControl(const AdminOptions& options);

  // True if the request may be served. Else `response` is the refusal.
  bool Admit(const http::Request& request, http::Response* response);

  // Requests refused since the token was wrong, and since the client's address
  // had too many wrong ones before.
  uint64_t wrong_tokens() const { return wrong_tokens_; }
  uint64_t rate_limited() const { return rate_limited_; }

 private:
  bool CheckToken(const http::Request& request, http::Response* response);

  const bool has_token_;
  const bool needs_token_;
  const absl::Duration wrong_token_window_;
  TokenGuard token_guard_;
  std::atomic<uint64_t> wrong_tokens_{0};
  std::atomic<uint64_t> rate_limited_{0};
};

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_ACCESS_CONTROL_H_
