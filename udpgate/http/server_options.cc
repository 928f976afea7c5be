#include "udpgate/http/server_options.h"

#include "udpgate/option_error.h"

namespace udpgate {
namespace http {
namespace {

constexpr absl::Duration kTimeoutMin = absl::Milliseconds(10);
constexpr absl::Duration kTimeoutMax = absl::Hours(1);

// The first error of two.
absl::Status Both(absl::Status first, absl::Status second) {
  return first.ok() ? second : first;
}

absl::Status CheckTimeout(absl::string_view option, absl::Duration value) {
  return DurationRange{option, kTimeoutMin, kTimeoutMax}.Check(value);
}

}  // namespace

absl::Status ServerOptions::Validate() const {
  absl::Status status =
      IntegerRange{"connections_max", 1, 1'000'000}.Check(connections_max);
  status =
      Both(status, IntegerRange{"connections_per_ip_max", 0, 1'000'000}.Check(
                       connections_per_ip_max));
  status = Both(status, IntegerRange{"header_bytes_max", 512, 1 << 20}.Check(
                            static_cast<int64_t>(header_bytes_max)));
  status =
      Both(status,
           IntegerRange{"header_count_max", 1, 1000}.Check(header_count_max));
  status = Both(status, IntegerRange{"body_bytes_max", 0, 64 << 20}.Check(
                            static_cast<int64_t>(body_bytes_max)));
  status = Both(status,
                IntegerRange{"requests_per_connection_max", 1, 1'000'000}.Check(
                    requests_per_connection_max));
  status = Both(status, CheckTimeout("read_timeout", read_timeout));
  status = Both(status, CheckTimeout("idle_timeout", idle_timeout));
  status = Both(status, CheckTimeout("handshake_timeout", handshake_timeout));
  status = Both(status, CheckTimeout("response_timeout", response_timeout));
  status = Both(status, CheckTimeout("write_timeout", write_timeout));
  status = Both(status, CheckTimeout("certificate_check_interval",
                                     certificate_check_interval));
  if (!status.ok()) return status;
  if (listen_fd < 0 && !listen_address.is_valid()) {
    return OptionError(absl::StatusCode::kInvalidArgument, "listen_address",
                       " is not set");
  }
  if (certificate_file.empty() != private_key_file.empty()) {
    return OptionError(
        absl::StatusCode::kInvalidArgument,
        certificate_file.empty() ? "certificate_file" : "private_key_file",
        certificate_file.empty() ? " is empty, but private_key_file is set"
                                 : " is empty, but certificate_file is set");
  }
  return absl::OkStatus();
}

}  // namespace http
}  // namespace udpgate
