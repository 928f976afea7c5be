#include "udpgate/proxy_options.h"

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace {

absl::Status CheckRange(absl::string_view name, int64_t value, int64_t least,
                        int64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " is ", value, "; allowed are ", least, " to ", most));
}

absl::Status CheckRange(absl::string_view name, absl::Duration value,
                        absl::Duration least, absl::Duration most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      name, " is ", absl::FormatDuration(value), "; allowed are ",
      absl::FormatDuration(least), " to ", absl::FormatDuration(most)));
}

// Zero stands for never.
absl::Status CheckRangeOrZero(absl::string_view name, absl::Duration value) {
  constexpr absl::Duration kLeast = absl::Milliseconds(10);
  constexpr absl::Duration kMost = absl::Hours(24);
  if (value == absl::ZeroDuration() || (value >= kLeast && value <= kMost)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      name, " is ", absl::FormatDuration(value), "; allowed are 0 and ",
      absl::FormatDuration(kLeast), " to ", absl::FormatDuration(kMost)));
}

constexpr int64_t kQueueSizeMax = 1 << 20;
// As the library's ids have room for; far beyond any machine's use.
constexpr int64_t kListenersMax = 64;
constexpr int64_t kWorkersMax = 256;
constexpr int64_t kBindAddressesMax = 64;
constexpr int64_t kRateMax = 1'000'000;

}  // namespace

int ProxyOptions::DefaultWorkerCount() {
  const int processors = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(processors - 1, 1, static_cast<int>(kWorkersMax));
}

absl::Status ProxyOptions::Validate() const {
  absl::Status status;
  if (!listen_address.is_valid() && listen_fds.empty()) {
    status.Update(absl::InvalidArgumentError("listen_address is not set"));
  }
  status.Update(CheckRange("listen_fds.size()",
                           static_cast<int64_t>(listen_fds.size()), 0,
                           kListenersMax));
  status.Update(CheckRange("listener_count", listener_count, 1, kListenersMax));
  status.Update(CheckRange("worker_count", worker_count, 0, kWorkersMax));
  status.Update(CheckRange("queue_size_datagrams", queue_size_datagrams, 1,
                           kQueueSizeMax));
  status.Update(CheckRange("batch_size", batch_size, 1, 1024));
  status.Update(
      CheckRange("receive_buffer_bytes", receive_buffer_bytes, 4096, 1 << 30));
  if (std::count(relay_ports.begin(), relay_ports.end(), 0) > 0) {
    status.Update(absl::InvalidArgumentError(
        "relay_ports holds 0; allowed are 1 to 65535"));
  }
  status.Update(CheckRange("disconnect_queue_size", disconnect_queue_size, 1,
                           kQueueSizeMax));
  status.Update(
      CheckRange("event_queue_size", event_queue_size, 1, kQueueSizeMax));
  status.Update(
      CheckRange("session_events_max", session_events_max, 1, kQueueSizeMax));
  status.Update(CheckRange("limits.session_idle_timeout",
                           limits.session_idle_timeout, absl::Milliseconds(10),
                           absl::Hours(24)));
  status.Update(
      CheckRange("limits.max_sessions", limits.max_sessions, 0, UINT32_MAX));
  status.Update(CheckRange("limits.backend_refusals_max",
                           limits.backend_refusals_max, 1, 1000));
  status.Update(CheckRange("limits.resolve_timeout", limits.resolve_timeout,
                           absl::Milliseconds(1), absl::Hours(1)));
  status.Update(CheckRange("limits.pending_datagrams_max",
                           limits.pending_datagrams_max, 1, 1024));
  status.Update(CheckRange("limits.pending_clients_max",
                           limits.pending_clients_max, 1, 1 << 20));
  status.Update(CheckRange("limits.pending_bytes_max", limits.pending_bytes_max,
                           65536, int64_t{1} << 40));
  status.Update(CheckRange("limits.max_sessions_per_ip",
                           limits.max_sessions_per_ip, 0, UINT32_MAX));
  status.Update(CheckRange("limits.max_unconfirmed_sessions_per_ip",
                           limits.max_unconfirmed_sessions_per_ip, 0,
                           UINT32_MAX));
  status.Update(CheckRange("limits.new_sessions_per_second",
                           limits.new_sessions_per_second, 0, kRateMax));
  status.Update(CheckRange("limits.new_sessions_per_second_per_ip",
                           limits.new_sessions_per_second_per_ip, 0, kRateMax));
  status.Update(CheckRange("limits.unconfirmed_timeout",
                           limits.unconfirmed_timeout, absl::Milliseconds(10),
                           absl::Hours(24)));
  status.Update(CheckRange("limits.unconfirmed_reply_factor",
                           limits.unconfirmed_reply_factor, 0, kRateMax));
  status.Update(CheckRange("limits.paused_sessions_max",
                           limits.paused_sessions_max, 0, 65536));
  status.Update(CheckRangeOrZero("limits.backend_silent_timeout",
                                 limits.backend_silent_timeout));
  status.Update(CheckRangeOrZero("limits.client_silent_timeout",
                                 limits.client_silent_timeout));
  status.Update(CheckRange("upstream_bind_addresses.size()",
                           static_cast<int64_t>(upstream_bind_addresses.size()),
                           0, kBindAddressesMax));
  for (const SocketAddress& address : upstream_bind_addresses) {
    if (address.is_unicast()) continue;
    status.Update(absl::InvalidArgumentError(
        absl::StrCat("upstream_bind_addresses holds ", address.ToString(),
                     "; allowed are addresses of this machine")));
  }
  status.Update(CheckRange("port_quarantine", port_quarantine,
                           absl::ZeroDuration(), absl::Hours(1)));
  status.Update(CheckRange("backend_holdoff", backend_holdoff,
                           absl::ZeroDuration(), absl::Hours(1)));
  return status;
}

}  // namespace udpgate
