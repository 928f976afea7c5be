// What the signaling of NetherNet answers: the status of the server, and joins
// (Mojang, NetherNetOnboardingGuide.md, section 4).
//
//   GET  /v1/join               the status, as the current backend gives it
//   POST /v1/join/{networkId}   an offer (SDP); the response is the answer
//
// A join asks the `BackendResolver` for a backend, sends the offer to its
// signaling, and gives the answer back with the gateway's addresses in place of
// the backend's. The `JoinTable` remembers it, so that a `NetherNetResolver`
// can open the player's UDP session.
//
// `SignalingServer` (signaling_server.h) is this with an HTTP server.
#ifndef UDPGATE_NETHERNET_JOIN_SERVICE_H_
#define UDPGATE_NETHERNET_JOIN_SERVICE_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/base/export.h"
#include "udpgate/clock.h"
#include "udpgate/http/message.h"
#include "udpgate/http/server.h"
#include "udpgate/nethernet/join_service_options.h"

namespace udpgate {
namespace http {
class Client;
class Engine;
}  // namespace http
namespace nethernet {
class JoinTable;

// What a `JoinService` uses.
struct UDPGATE_EXPORT JoinServiceDependencies {
  // Asked with the reasons kJoin and kStatus. Required.
  std::shared_ptr<BackendResolver> resolver;
  // Required.
  std::shared_ptr<JoinTable> joins;
  // Both must outlive `Stop`. Required.
  http::Engine* engine = nullptr;
  http::Client* client = nullptr;
  // Must outlive the service, its resolver's callbacks included.
  const Clock* clock = Clock::Monotonic();
  // False: the UDP side would reject a further player, who gets a 503 instead.
  // On any thread; must not block. Null: always true.
  std::function<bool()> has_room = nullptr;
};

// Threads: all methods from any thread, except `Stop`, which must not be called
// on a thread of the Engine. Nothing blocks for longer than microseconds.
class UDPGATE_EXPORT JoinService {
 public:
  // InvalidArgument from `JoinServiceOptions::Validate`, or if a dependency is
  // missing.
  static absl::StatusOr<std::unique_ptr<JoinService>> Create(
      JoinServiceOptions options, JoinServiceDependencies dependencies);

  // Calls `Stop`.
  ~JoinService();
  JoinService(const JoinService&) = delete;
  JoinService& operator=(const JoinService&) = delete;

  // Answers one request, at once or later. A player who leaves meanwhile is not
  // noticed: the join waits for its first datagram until its time is over.
  void Handle(http::Request request, http::Server::Respond respond);

  // Uses neither Engine nor Client any more; requests under way are dropped.
  // Call it after the server has stopped, and before the Client. May be called
  // twice.
  void Stop();

  // While it drains, every request gets a 503.
  void SetDraining(bool is_draining);

  // The status of the whole fleet, which is used instead of any backend's: a
  // JSON object of at most `status_bytes_max` bytes. Null: the backend's own.
  // InvalidArgument, and no change, if it is too large or no JSON object.
  absl::Status SetFleetStatus(absl::optional<std::string> status_json);

  // For further requests. InvalidArgument, and no change, as in `Create`.
  absl::Status SetOptions(JoinServiceOptions options);

  JoinServiceStats GetStats() const;

 private:
  class Impl;
  explicit JoinService(std::unique_ptr<Impl> impl);

  const std::unique_ptr<Impl> impl_;
};

}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_JOIN_SERVICE_H_
