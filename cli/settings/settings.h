// The values of all settings of `udp-gate`. table.h fills them in.
#ifndef UDPGATE_CLI_SETTINGS_SETTINGS_H_
#define UDPGATE_CLI_SETTINGS_SETTINGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "cli/log/log_options.h"
#include "udpgate/cidr.h"
#include "udpgate/logging.h"
#include "udpgate/nethernet/join_service_options.h"
#include "udpgate/proxy_options.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace cli {

// Whether the kernel relays confirmed sessions (udpgate/fastpath).
enum class FastPath { kOff, kAuto, kRequired };

struct Settings {
  ProxyOptions proxy;
  // `PROXY_ADDR=:port`: the port of `proxy.listen_address` on all addresses,
  // of IPv6 too if the machine has it.
  bool listen_on_all_addresses = false;

  // How long the start waits for addresses of this machine.
  absl::Duration address_wait;  // 0: no wait

  // `host:port` or `ip:port`; empty: resolve through Redis.
  std::string backend_address;

  // The name of this gateway among those that use the same Redis.
  std::string gateway_id;

  std::string redis_url;      // its parts are in the others; never logged
  std::string redis_address;  // `host:port`, several with commas, `unix:/path`
  std::string redis_username;
  std::string redis_password;  // never logged
  std::string redis_password_file;
  int redis_database = 0;
  bool redis_tls = false;
  std::string redis_tls_ca_file;           // empty: the system's authorities
  std::string redis_tls_server_name;       // empty: the host of the address
  std::string redis_tls_certificate_file;  // empty: no client certificate
  std::string redis_tls_key_file;
  std::vector<std::string> redis_sentinels;  // empty: no Sentinel
  std::string redis_sentinel_master;
  std::string redis_sentinel_username;
  std::string redis_sentinel_password;  // never logged
  std::string redis_sentinel_password_file;
  std::string redis_backend_key;
  std::string redis_disconnect_channel;
  std::string redis_disconnect_stream;  // empty: none
  absl::Duration redis_disconnect_age_max;
  std::string redis_status_key;    // empty: the backend's own response
  std::string redis_joins_key;     // empty: joins are not shared
  std::string redis_gateway_key;   // empty: no entry of this gateway
  std::string redis_event_stream;  // empty: no stream of session events
  int64_t redis_event_stream_entries_max = 0;
  absl::Duration redis_timeout;
  absl::Duration backend_stale_max;  // 0: no stale backend
  int resolves_per_second = 0;
  int redis_key_sets_max = 0;

  bool has_session_store = false;  // in the same Redis
  std::string session_store_prefix;
  absl::Duration session_store_lifetime;  // of a record
  // Whether it serves only while this machine has the addresses.
  bool is_standby = false;
  bool forwards_sessions = false;
  SocketAddress session_forward_address;  // invalid: none
  std::string session_forward_secret_file;
  std::string session_forward_secret;  // its content; never logged

  FastPath fast_path = FastPath::kOff;
  std::vector<std::string> fast_path_interfaces;  // empty: detected

  SocketAddress nethernet_address;  // invalid: no signaling
  // `NETHERNET_ADDR=:port`, as `listen_on_all_addresses`.
  bool nethernet_on_all_addresses = false;
  // A listening socket of that address, which the start passes on; -1: none.
  int nethernet_listen_fd = -1;
  std::string nethernet_certificate_file;  // empty: HTTP alone
  std::string nethernet_private_key_file;
  // What players are told. Port 0: that of PROXY_ADDR.
  std::vector<SocketAddress> nethernet_public_addresses;
  uint16_t nethernet_backend_port = 0;  // 0: the port of the backend's address
  nethernet::ForwardClient nethernet_forward_client =
      nethernet::ForwardClient::kXForwardedFor;
  CidrList nethernet_trusted_proxies;
  int64_t nethernet_joins_max = 0;
  absl::Duration nethernet_join_timeout;
  std::string nethernet_status;  // a JSON object; empty: none

  SocketAddress admin_address;  // invalid: no admin endpoint
  std::string admin_token;      // never logged
  std::string admin_token_file;
  // Whether the gateway is not ready while disconnect events cannot arrive.
  bool is_unready_without_disconnects = false;

  absl::Duration drain_timeout;  // 0: no drain

  std::string takeover_socket;  // empty: takeover is disabled

  LogSeverity log_level = LogSeverity::kInfo;
  LogFormat log_format = LogFormat::kText;
  SessionLog session_log = SessionLog::kOff;
  int64_t session_log_lines_per_second_max = 0;  // 0: no limit
};

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SETTINGS_SETTINGS_H_
