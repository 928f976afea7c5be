// The seam for what encrypts a connection to Redis: redis_tls.h.
#ifndef UDPGATE_REDIS_REDIS_TRANSPORT_H_
#define UDPGATE_REDIS_REDIS_TRANSPORT_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/base/export.h"

namespace udpgate {

// Turns the bytes of one connection into those on the wire, and back. It does
// no input and output of its own. Threads: one.
class UDPGATE_EXPORT RedisTransport {
 public:
  virtual ~RedisTransport() = default;

  // Begins the handshake. Appends what the peer must get to `to_peer`.
  virtual absl::Status Start(std::string* to_peer) = 0;

  // Takes bytes from the peer. Appends what they say to `plain`, and what the
  // peer must get to `to_peer`, also with an error, after which the connection
  // must end.
  virtual absl::Status Receive(absl::string_view received, std::string* plain,
                               std::string* to_peer) = 0;

  // Appends `plain` to `to_peer` as it must be sent. Only while `is_ready`.
  virtual void Send(absl::string_view plain, std::string* to_peer) = 0;

  // The handshake is complete.
  virtual bool is_ready() const = 0;
};

// Threads: any.
class UDPGATE_EXPORT RedisTransportFactory {
 public:
  virtual ~RedisTransportFactory() = default;

  // For a new connection to `host`, a name or an IP address without brackets.
  // An error is one of an attempt to connect: the next one calls this again.
  virtual absl::StatusOr<std::unique_ptr<RedisTransport>> Create(
      const std::string& host) const = 0;
};

}  // namespace udpgate

#endif  // UDPGATE_REDIS_REDIS_TRANSPORT_H_
