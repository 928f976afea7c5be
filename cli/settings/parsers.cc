#include "cli/settings/parsers.h"

#include <net/if.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/types/optional.h"
#include "cli/settings/gateway_id.h"
#include "nlohmann/json.hpp"
#include "udpgate/dns/host_port.h"
#include "udpgate/redis/redis_option_ranges.h"
#include "udpgate/redis/redis_options.h"
#include "udpgate/redis/redis_url.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace cli {
namespace {

// fe80::/10 (RFC 4291 section 2.4) without the interface that makes it one
// address; bind(2) refuses it.
bool LacksInterface(const SocketAddress& address) {
  return address.is_ipv6() && address.ip_bytes()[0] == 0xfe &&
         (address.ip_bytes()[1] & 0xc0) == 0x80 && address.scope_id() == 0;
}

// An address to bind, or `:port` for all addresses. False for any other text;
// the results are then unchanged.
bool ParseListenAddress(absl::string_view text, SocketAddress* result,
                        bool* is_on_all_addresses) {
  int64_t port;
  if (text[0] == ':' && ParseInteger(text.substr(1), 0, 65535, &port)) {
    *is_on_all_addresses = true;
    *result = SocketAddress::Ipv4Any(static_cast<uint16_t>(port));
    return true;
  }
  const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text);
  if (!address.ok() || !(address->is_any() || address->is_unicast()) ||
      LacksInterface(*address)) {
    return false;
  }
  *is_on_all_addresses = false;
  *result = *address;
  return true;
}

// `1.2.3.4`, `1.2.3.4:port`, `2001:db8::1` or `[2001:db8::1]:port`. Port 0 of
// the result: the text has none.
absl::optional<SocketAddress> ParsePublicAddress(absl::string_view text) {
  absl::StatusOr<SocketAddress> address = SocketAddress::FromIpAndPort(text, 0);
  if (!address.ok()) {
    address = SocketAddress::Parse(text);
    if (!address.ok() || address->port() == 0) return absl::nullopt;
  }
  // An address with an interface means nothing to others (RFC 4007 section 6).
  if (!address->is_unicast() || LacksInterface(*address) ||
      address->scope_id() != 0) {
    return absl::nullopt;
  }
  return *address;
}

}  // namespace

bool IsToken(absl::string_view text) {
  return text.size() >= kTokenBytesMin && text.size() <= kTokenBytesMax &&
         std::all_of(text.begin(), text.end(), absl::ascii_isgraph);
}

bool ParseInteger(absl::string_view text, int64_t minimum, int64_t maximum,
                  int64_t* value) {
  if (text.empty() ||
      !std::all_of(text.begin(), text.end(), absl::ascii_isdigit)) {
    return false;
  }
  int64_t parsed;
  if (!absl::SimpleAtoi(text, &parsed)) return false;
  if (parsed < minimum || parsed > maximum) return false;
  *value = parsed;
  return true;
}

bool ParseByteCount(absl::string_view text, int64_t minimum, int64_t maximum,
                    int64_t* value) {
  int64_t unit = 1;
  if (absl::ConsumeSuffix(&text, "KiB")) {
    unit = int64_t{1} << 10;
  } else if (absl::ConsumeSuffix(&text, "MiB")) {
    unit = int64_t{1} << 20;
  } else if (absl::ConsumeSuffix(&text, "GiB")) {
    unit = int64_t{1} << 30;
  }
  int64_t count;
  if (!ParseInteger(text, 0, maximum / unit, &count)) return false;
  if (count * unit < minimum) return false;
  *value = count * unit;
  return true;
}

bool ParseRemoteAddress(absl::string_view text, std::string* result) {
  const absl::StatusOr<HostPort> host_port = HostPort::Parse(text);
  if (!host_port.ok()) return false;
  const absl::StatusOr<SocketAddress> address =
      SocketAddress::FromIpAndPort(host_port->host, host_port->port);
  if (address.ok() && !address->is_unicast()) return false;
  *result = host_port->ToString();
  return true;
}

namespace {

// Separated by commas or white space; 1 to `count_max`.
bool ParseRemoteAddresses(absl::string_view text, size_t count_max,
                          std::vector<std::string>* result) {
  std::vector<std::string> addresses;
  for (const absl::string_view part :
       absl::StrSplit(text, absl::ByAnyChar(", \t"), absl::SkipEmpty())) {
    std::string address;
    if (!ParseRemoteAddress(part, &address) || addresses.size() == count_max) {
      return false;
    }
    addresses.push_back(std::move(address));
  }
  if (addresses.empty()) return false;
  *result = std::move(addresses);
  return true;
}

}  // namespace

bool ApplyListenAddress(absl::string_view value, Settings* settings) {
  return ParseListenAddress(value, &settings->proxy.listen_address,
                            &settings->listen_on_all_addresses);
}

bool ApplyGatewayId(absl::string_view value, Settings* settings) {
  if (!IsGatewayId(value)) return false;
  settings->gateway_id = std::string(value);
  return true;
}

bool ApplyRedisAddress(absl::string_view value, Settings* settings) {
  absl::string_view path = value;
  if (!absl::ConsumePrefix(&path, "unix:")) {
    std::vector<std::string> addresses;
    if (!ParseRemoteAddresses(value, redis_ranges::kSeedsMax, &addresses)) {
      return false;
    }
    settings->redis_address = absl::StrJoin(addresses, ",");
    return true;
  }
  if (!absl::StartsWith(path, "/") || path.size() > kUnixPathBytesMax)
    return false;
  settings->redis_address = std::string(value);
  return true;
}

bool ApplyRedisUrl(absl::string_view value, Settings* settings) {
  const absl::StatusOr<RedisUrl> url = RedisUrl::Parse(value);
  Settings unused;
  if (!url.ok() || !ApplyRedisAddress(url->address, &unused)) return false;
  settings->redis_url = std::string(value);
  return true;
}

bool ApplyRedisTls(absl::string_view value, Settings* settings) {
  if (value != "on" && value != "off") return false;
  settings->redis_tls = value == "on";
  return true;
}

bool ApplyRedisTlsServerName(absl::string_view value, Settings* settings) {
  if (!ValidateHostName(value).ok() &&
      !SocketAddress::FromIpAndPort(value, 1).ok()) {
    return false;
  }
  settings->redis_tls_server_name = std::string(value);
  return true;
}

bool ApplyLogLevel(absl::string_view value, Settings* settings) {
  for (const LogSeverity severity :
       {LogSeverity::kDebug, LogSeverity::kInfo, LogSeverity::kWarning,
        LogSeverity::kError}) {
    if (value == LogSeverityName(severity)) {
      settings->log_level = severity;
      return true;
    }
  }
  return false;
}

bool ApplyLogFormat(absl::string_view value, Settings* settings) {
  if (value != "text" && value != "json") return false;
  settings->log_format = value == "json" ? LogFormat::kJson : LogFormat::kText;
  return true;
}

bool ApplySessionLog(absl::string_view value, Settings* settings) {
  if (value == "off") {
    settings->session_log = SessionLog::kOff;
  } else if (value == "end") {
    settings->session_log = SessionLog::kEnd;
  } else if (value == "all") {
    settings->session_log = SessionLog::kAll;
  } else {
    return false;
  }
  return true;
}

bool ApplyBindAddresses(absl::string_view value, Settings* settings) {
  constexpr size_t kAddressesMax = 64;
  std::vector<SocketAddress> addresses;
  for (const absl::string_view text :
       absl::StrSplit(value, absl::ByAnyChar(", \t"), absl::SkipEmpty())) {
    const absl::StatusOr<SocketAddress> address =
        SocketAddress::FromIpAndPort(text, 0);
    if (!address.ok() || !address->is_unicast() || LacksInterface(*address) ||
        addresses.size() == kAddressesMax) {
      return false;
    }
    addresses.push_back(*address);
  }
  if (addresses.empty()) return false;
  settings->proxy.upstream_bind_addresses = std::move(addresses);
  return true;
}

bool ApplyRedisSentinels(absl::string_view value, Settings* settings) {
  return ParseRemoteAddresses(value, redis_ranges::kSentinelsMax,
                              &settings->redis_sentinels);
}

bool ApplyRedisSentinelMaster(absl::string_view value, Settings* settings) {
  if (!IsRedisMasterName(value)) return false;
  settings->redis_sentinel_master = std::string(value);
  return true;
}

bool ApplyRedisJoinsKey(absl::string_view value, Settings* settings) {
  if (value.size() > redis_ranges::kNameBytesMax) return false;
  settings->redis_joins_key = value == "off" ? "" : std::string(value);
  return true;
}

bool ApplyNetherNetAddress(absl::string_view value, Settings* settings) {
  if (value == "off") {
    settings->nethernet_address = SocketAddress();
    settings->nethernet_on_all_addresses = false;
    return true;
  }
  return ParseListenAddress(value, &settings->nethernet_address,
                            &settings->nethernet_on_all_addresses);
}

bool ApplyNetherNetPublicAddresses(absl::string_view value,
                                   Settings* settings) {
  constexpr size_t kAddressesMax = 16;
  std::vector<SocketAddress> addresses;
  for (const absl::string_view text :
       absl::StrSplit(value, absl::ByAnyChar(", \t"), absl::SkipEmpty())) {
    const absl::optional<SocketAddress> address = ParsePublicAddress(text);
    if (!address.has_value() || addresses.size() == kAddressesMax) return false;
    addresses.push_back(*address);
  }
  if (addresses.empty()) return false;
  settings->nethernet_public_addresses = std::move(addresses);
  return true;
}

bool ApplyNetherNetForwardClient(absl::string_view value, Settings* settings) {
  if (value == "off") {
    settings->nethernet_forward_client = nethernet::ForwardClient::kOff;
  } else if (value == "x-forwarded-for") {
    settings->nethernet_forward_client =
        nethernet::ForwardClient::kXForwardedFor;
  } else if (value == "proxy-v1") {
    settings->nethernet_forward_client = nethernet::ForwardClient::kProxyV1;
  } else if (value == "proxy-v2") {
    settings->nethernet_forward_client = nethernet::ForwardClient::kProxyV2;
  } else {
    return false;
  }
  return true;
}

bool ApplyNetherNetStatus(absl::string_view value, Settings* settings) {
  if (value.size() > kNetherNetStatusBytesMax) return false;
  const nlohmann::json status =
      nlohmann::json::parse(value.begin(), value.end(), /*cb=*/nullptr,
                            /*allow_exceptions=*/false);
  if (!status.is_object()) return false;
  settings->nethernet_status = std::string(value);
  return true;
}

bool ApplyFastPath(absl::string_view value, Settings* settings) {
  if (value == "off") {
    settings->fast_path = FastPath::kOff;
  } else if (value == "auto") {
    settings->fast_path = FastPath::kAuto;
  } else if (value == "required") {
    settings->fast_path = FastPath::kRequired;
  } else {
    return false;
  }
  return true;
}

bool ApplyReadyzDisconnects(absl::string_view value, Settings* settings) {
  if (value != "warn" && value != "fail") return false;
  settings->is_unready_without_disconnects = value == "fail";
  return true;
}

bool ApplyDontFragment(absl::string_view value, Settings* settings) {
  if (value != "off" && value != "on") return false;
  settings->proxy.dont_fragment = value == "on";
  return true;
}

bool ApplyTrafficClass(absl::string_view value, Settings* settings) {
  if (value != "copy" && value != "clear") return false;
  settings->proxy.copies_traffic_class = value == "copy";
  return true;
}

bool ApplyAdminAddress(absl::string_view value, Settings* settings) {
  if (value == "off") {
    settings->admin_address = SocketAddress();
    return true;
  }
  const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(value);
  if (!address.ok() || !(address->is_any() || address->is_unicast()) ||
      LacksInterface(*address)) {
    return false;
  }
  settings->admin_address = *address;
  return true;
}

bool ApplyAdminToken(absl::string_view value, Settings* settings) {
  if (!IsToken(value)) return false;
  settings->admin_token = std::string(value);
  return true;
}

bool ApplyInterfaces(absl::string_view value, Settings* settings) {
  constexpr size_t kInterfacesMax = 64;
  std::vector<std::string> interfaces;
  for (const absl::string_view name :
       absl::StrSplit(value, absl::ByAnyChar(", \t"), absl::SkipEmpty())) {
    // dev_valid_name in net/core/dev.c of Linux.
    if (name.size() >= IFNAMSIZ || name == "." || name == ".." ||
        absl::StrContains(name, '/') || absl::StrContains(name, ':') ||
        interfaces.size() == kInterfacesMax) {
      return false;
    }
    interfaces.emplace_back(name);
  }
  if (interfaces.empty()) return false;
  settings->fast_path_interfaces = std::move(interfaces);
  return true;
}

}  // namespace cli
}  // namespace udpgate
