// One `POST /v1/join/{networkId}`, from the request to its response.
#ifndef UDPGATE_NETHERNET_INTERNAL_JOIN_ATTEMPT_H_
#define UDPGATE_NETHERNET_INTERNAL_JOIN_ATTEMPT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/http/message.h"
#include "udpgate/nethernet/internal/backend_question.h"
#include "udpgate/nethernet/internal/deadlines.h"
#include "udpgate/nethernet/internal/service_context.h"
#include "udpgate/nethernet/join_service_options.h"
#include "udpgate/nethernet/join_table.h"

namespace udpgate {
namespace nethernet {
namespace internal {

// 1 to 128 bytes of [A-Za-z0-9._~-], and neither "." nor "..", which a path
// must not end with (RFC 3986 section 3.3).
bool IsNetworkId(absl::string_view text);

// Threads: one at a time; each step hands over to the next one.
class JoinAttempt : public std::enable_shared_from_this<JoinAttempt> {
 public:
  using Done = absl::AnyInvocable<void(JoinResult, http::Response)>;

  // Begins the attempt. `done` is called once, at once or later, or destroyed
  // without a call after the gate of the context has closed.
  static void Start(std::shared_ptr<ServiceContext> context,
                    std::string network_id, http::Request request, Done done);

  ~JoinAttempt();

 private:
  JoinAttempt(std::shared_ptr<ServiceContext> context, std::string network_id,
              http::Request request, Done done);

  void Begin();
  void Resolve();
  // `resolution` is the number of the question.
  void OnResolved(int resolution, absl::StatusOr<ResolveResult> result);
  void AskBackend();
  void OnAnswer(BackendAnswer answer);
  // Remembers the join, and gives the player the answer with the gateway's
  // addresses.
  void Join(http::Response response, const SocketAddress& signaling);
  std::vector<SocketAddress> PublicAddresses() const;
  void Finish(JoinResult result, http::Response response);
  void Fail(JoinResult result, int status, absl::string_view error);

  const std::shared_ptr<ServiceContext> context_;
  const std::shared_ptr<const JoinServiceOptions> options_;
  const std::string network_id_;
  const Asker asker_;
  const int64_t deadline_nanoseconds_;
  const bool fits_;  // within joins_in_progress_max
  std::string offer_;
  Done done_;  // null: called
  // A result of the resolver and its time-out may come at the same time.
  std::atomic<int> awaited_resolution_{0};
  int resolution_count_ = 0;
  ResolveResult backend_;
  absl::optional<JoinTable::Reservation> reservation_;
};

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_JOIN_ATTEMPT_H_
