// From the text of a setting to its value. Each `Apply...` stores an allowed
// value in `settings`; for any other it returns false and changes nothing.
#ifndef UDPGATE_CLI_SETTINGS_PARSERS_H_
#define UDPGATE_CLI_SETTINGS_PARSERS_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "cli/settings/settings.h"

namespace udpgate {
namespace cli {

// An admin token has 16 to 1024 bytes, printable ASCII without spaces.
inline constexpr size_t kTokenBytesMin = 16;
inline constexpr size_t kTokenBytesMax = 1024;
bool IsToken(absl::string_view text);

// sun_path of unix(7), whose last byte is 0.
inline constexpr size_t kUnixPathBytesMax = 107;

// What GET /v1/join responds has at most so many bytes.
inline constexpr size_t kNetherNetStatusBytesMax = 16384;

// Digits only: no sign, no white space, no overflow, unlike absl::SimpleAtoi.
bool ParseInteger(absl::string_view text, int64_t minimum, int64_t maximum,
                  int64_t* value);

// An integer, or an integer followed by KiB, MiB or GiB.
bool ParseByteCount(absl::string_view text, int64_t minimum, int64_t maximum,
                    int64_t* value);

// `host:port`, `1.2.3.4:port` or `[v6]:port`, neither wildcard nor multicast;
// `result` is its plain form.
bool ParseRemoteAddress(absl::string_view text, std::string* result);

bool ApplyGatewayId(absl::string_view value, Settings* settings);
bool ApplyListenAddress(absl::string_view value, Settings* settings);
bool ApplyRedisAddress(absl::string_view value, Settings* settings);
bool ApplyRedisUrl(absl::string_view value, Settings* settings);
bool ApplyRedisTls(absl::string_view value, Settings* settings);
bool ApplyRedisTlsServerName(absl::string_view value, Settings* settings);
bool ApplyRedisSentinels(absl::string_view value, Settings* settings);
bool ApplyRedisSentinelMaster(absl::string_view value, Settings* settings);
// `off` is an empty name, because an empty value means "not set".
bool ApplyRedisJoinsKey(absl::string_view value, Settings* settings);
bool ApplyBindAddresses(absl::string_view value, Settings* settings);
bool ApplyNetherNetAddress(absl::string_view value, Settings* settings);
bool ApplyNetherNetPublicAddresses(absl::string_view value, Settings* settings);
bool ApplyNetherNetForwardClient(absl::string_view value, Settings* settings);
bool ApplyNetherNetStatus(absl::string_view value, Settings* settings);
bool ApplyAdminAddress(absl::string_view value, Settings* settings);
bool ApplyAdminToken(absl::string_view value, Settings* settings);
bool ApplyInterfaces(absl::string_view value, Settings* settings);
bool ApplyFastPath(absl::string_view value, Settings* settings);
bool ApplyReadyzDisconnects(absl::string_view value, Settings* settings);
bool ApplyDontFragment(absl::string_view value, Settings* settings);
bool ApplyTrafficClass(absl::string_view value, Settings* settings);
bool ApplyLogLevel(absl::string_view value, Settings* settings);
bool ApplyLogFormat(absl::string_view value, Settings* settings);
bool ApplySessionLog(absl::string_view value, Settings* settings);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SETTINGS_PARSERS_H_
