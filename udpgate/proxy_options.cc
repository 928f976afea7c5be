#include "udpgate/proxy_options.h"

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"
#include "udpgate/option_error.h"
#include "udpgate/proxy_option_ranges.h"

namespace udpgate {

namespace ranges = proxy_ranges;

int ProxyOptions::DefaultWorkerCount() {
  const int processors = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(processors - 1, 1,
                    static_cast<int>(ranges::kWorkerCount.maximum));
}

absl::Status ProxyOptions::Validate() const {
  const auto invalid = [](absl::string_view option, absl::string_view problem) {
    return OptionError(absl::StatusCode::kInvalidArgument, option, problem);
  };
  absl::Status status;
  if (!listen_address.is_valid() && listen_fds.empty()) {
    status.Update(invalid("listen_address", " is not set"));
  }
  status.Update(
      ranges::kListenFds.Check(static_cast<int64_t>(listen_fds.size())));
  status.Update(ranges::kListenerCount.Check(listener_count));
  status.Update(ranges::kWorkerCount.Check(worker_count));
  status.Update(ranges::kQueueSizeDatagrams.Check(queue_size_datagrams));
  status.Update(ranges::kBatchSize.Check(batch_size));
  status.Update(ranges::kReceiveBufferBytes.Check(receive_buffer_bytes));
  if (std::count(relay_ports.begin(), relay_ports.end(), 0) > 0) {
    status.Update(invalid("relay_ports", " holds 0; allowed are 1 to 65535"));
  }
  status.Update(ranges::kDisconnectQueueSize.Check(disconnect_queue_size));
  status.Update(ranges::kEventQueueSize.Check(event_queue_size));
  status.Update(ranges::kSessionEventsMax.Check(session_events_max));
  status.Update(limits.Validate());
  status.Update(ranges::kUpstreamBindAddresses.Check(
      static_cast<int64_t>(upstream_bind_addresses.size())));
  for (const SocketAddress& address : upstream_bind_addresses) {
    if (address.is_unicast()) continue;
    status.Update(invalid("upstream_bind_addresses",
                          absl::StrCat(" holds ", address.ToString(),
                                       "; allowed are addresses of this "
                                       "machine")));
  }
  if (forward_address.is_valid() && !forward_address.is_unicast()) {
    status.Update(invalid("forward_address",
                          absl::StrCat(" is ", forward_address.ToString(),
                                       "; allowed is an address of this "
                                       "machine")));
  }
  status.Update(ranges::kForwardedClients.Check(forwarded_clients_max));
  status.Update(ranges::kForwardPatience.Check(forward_patience));
  status.Update(ranges::kPortQuarantine.Check(port_quarantine));
  status.Update(ranges::kBackendHoldoff.Check(backend_holdoff));
  return status;
}

absl::Status ProxyLimits::Validate() const {
  absl::Status status;
  status.Update(ranges::kSessionIdleTimeout.Check(session_idle_timeout));
  status.Update(ranges::kMaxSessions.Check(max_sessions));
  status.Update(ranges::kBackendRefusalsMax.Check(backend_refusals_max));
  status.Update(ranges::kResolveTimeout.Check(resolve_timeout));
  status.Update(ranges::kPendingDatagramsMax.Check(pending_datagrams_max));
  status.Update(ranges::kPendingClientsMax.Check(pending_clients_max));
  status.Update(ranges::kPendingBytesMax.Check(pending_bytes_max));
  status.Update(ranges::kMaxSessionsPerIp.Check(max_sessions_per_ip));
  status.Update(ranges::kMaxUnconfirmedSessionsPerIp.Check(
      max_unconfirmed_sessions_per_ip));
  status.Update(ranges::kNewSessionsPerSecond.Check(new_sessions_per_second));
  status.Update(
      ranges::kNewSessionsPerSecondPerIp.Check(new_sessions_per_second_per_ip));
  status.Update(ranges::kUnconfirmedTimeout.Check(unconfirmed_timeout));
  status.Update(
      ranges::kUnconfirmedReplyFactor.Check(unconfirmed_reply_factor));
  status.Update(ranges::kPausedSessionsMax.Check(paused_sessions_max));
  status.Update(ranges::kBackendSilentTimeout.Check(backend_silent_timeout));
  status.Update(ranges::kClientSilentTimeout.Check(client_silent_timeout));
  return status;
}

}  // namespace udpgate
