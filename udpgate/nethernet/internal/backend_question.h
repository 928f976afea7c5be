// A request to the signaling of a backend, on behalf of a player.
#ifndef UDPGATE_NETHERNET_INTERNAL_BACKEND_QUESTION_H_
#define UDPGATE_NETHERNET_INTERNAL_BACKEND_QUESTION_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/http/message.h"
#include "udpgate/nethernet/internal/service_context.h"
#include "udpgate/nethernet/join_service_options.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace nethernet {
namespace internal {

// The signaling of this backend, preferred address first, without duplicates.
std::vector<SocketAddress> SignalingAddresses(const ResolveResult& backend,
                                              uint16_t backend_port);

// Who asks, and where it reached the gateway.
struct Asker {
  SocketAddress client;
  SocketAddress local;
};

struct BackendQuestion {
  std::vector<SocketAddress> addresses;
  Asker asker;
  ForwardClient forward_client = ForwardClient::kOff;
  std::string method;
  std::string target;
  std::string body;  // application/sdp, unless empty
  size_t response_bytes_max = 0;
  int64_t deadline_nanoseconds = 0;  // on the clock of the context
};

struct BackendAnswer {
  // Errors of http::Client.
  absl::StatusOr<http::Response> response;
  SocketAddress address;  // that was asked last
};

// Asks the addresses one after the other, until one accepts the connection.
// `done` is called once, on a thread of the Engine or before this returns. If
// the gate of the context is closed it is destroyed without a call.
void Ask(std::shared_ptr<ServiceContext> context, BackendQuestion question,
         absl::AnyInvocable<void(BackendAnswer)> done);

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_INTERNAL_BACKEND_QUESTION_H_
