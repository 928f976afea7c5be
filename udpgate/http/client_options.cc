#include "udpgate/http/client_options.h"

#include "udpgate/option_error.h"

namespace udpgate {
namespace http {

absl::Status ClientOptions::Validate() const {
  absl::Status status =
      IntegerRange{"connections_max", 1, 100'000}.Check(connections_max);
  if (!status.ok()) return status;
  status = IntegerRange{"queue_size", 0, 100'000}.Check(queue_size);
  if (!status.ok()) return status;
  status = IntegerRange{"header_bytes_max", 256, 65536}.Check(
      static_cast<int64_t>(header_bytes_max));
  if (!status.ok()) return status;
  return DurationRange{"close_timeout", absl::ZeroDuration(), absl::Minutes(1)}
      .Check(close_timeout);
}

}  // namespace http
}  // namespace udpgate
