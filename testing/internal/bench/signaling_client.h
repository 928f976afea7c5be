// A player's side of NetherNet's signaling, for the load generators.
#ifndef UDPGATE_TESTING_INTERNAL_BENCH_SIGNALING_CLIENT_H_
#define UDPGATE_TESTING_INTERNAL_BENCH_SIGNALING_CLIENT_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace bench {

// What an answer says of how to reach the backend.
struct JoinAnswer {
  std::string ufrag;
  std::string password;
};

// One TCP connection that is kept alive. Threads: one at a time.
class SignalingClient {
 public:
  // Blocks until it is connected.
  static absl::StatusOr<SignalingClient> Connect(const SocketAddress& server);

  // GET /v1/join; an error unless the status is 200.
  absl::Status GetStatus();
  // POST /v1/join/{network_id} with an offer as long as the game's.
  absl::StatusOr<JoinAnswer> Join(uint64_t network_id);

 private:
  SignalingClient(internal::UniqueFd fd, std::string host)
      : fd_(std::move(fd)), host_(std::move(host)) {}
  absl::StatusOr<std::string> Exchange(absl::string_view request);

  internal::UniqueFd fd_;
  std::string host_;
};

// A STUN Binding request of a player that has this answer.
std::string FirstDatagramOf(const JoinAnswer& answer);

}  // namespace bench
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_BENCH_SIGNALING_CLIENT_H_
