#include "udpgate/admin/admin_options.h"

#include "absl/strings/string_view.h"

namespace udpgate {
namespace admin {

absl::Status AdminOptions::Validate() const {
  const auto invalid = [](absl::string_view text) {
    return absl::InvalidArgumentError(text);
  };
  if (!listen_address.is_any() && !listen_address.is_unicast()) {
    return invalid("listen_address: must be an address of this machine");
  }
  if (connections_max < 1) return invalid("connections_max: must be above 0");
  if (worker_count < 1) return invalid("worker_count: must be above 0");
  if (queue_size < 1) return invalid("queue_size: must be above 0");
  if (header_bytes_max < 512) {
    return invalid("header_bytes_max: must be at least 512");
  }
  if (read_timeout <= absl::ZeroDuration()) {
    return invalid("read_timeout: must be above 0");
  }
  if (write_timeout <= absl::ZeroDuration()) {
    return invalid("write_timeout: must be above 0");
  }
  if (metric_backends_max < 0) {
    return invalid("metric_backends_max: must not be below 0");
  }
  if (sessions_page_max < 1) {
    return invalid("sessions_page_max: must be above 0");
  }
  if (backends_age_max < absl::ZeroDuration()) {
    return invalid("backends_age_max: must not be below 0");
  }
  if (ends_page_max < 1) return invalid("ends_page_max: must be above 0");
  if (wrong_tokens_max < 1) return invalid("wrong_tokens_max: must be above 0");
  return absl::OkStatus();
}

}  // namespace admin
}  // namespace udpgate
