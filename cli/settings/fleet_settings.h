// The settings of the session store, of a standby, and of what gateways of a
// fleet send to each other.
#ifndef UDPGATE_CLI_SETTINGS_FLEET_SETTINGS_H_
#define UDPGATE_CLI_SETTINGS_FLEET_SETTINGS_H_

#include <cstddef>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "cli/settings/settings.h"
#include "udpgate/forward/openssl_envelope_keys.h"

namespace udpgate {
namespace cli {

inline constexpr size_t kSessionStorePrefixBytesMax = 128;

// 1 to 128 printable ASCII characters without spaces. A brace is allowed only
// in a hash tag of Redis Cluster, {name}: one that is not closed could be
// closed by what follows the prefix in a key.
bool IsSessionStorePrefix(absl::string_view text);

// The secret of SESSION_FORWARD_SECRET_FILE has 32 to 1024 bytes, printable
// ASCII without spaces.
inline constexpr size_t kForwardSecretBytesMin =
    forward::OpenSslEnvelopeKeys::kSecretBytesMin;
inline constexpr size_t kForwardSecretBytesMax =
    forward::OpenSslEnvelopeKeys::kSecretBytesMax;
bool IsForwardSecret(absl::string_view text);

// Rules between these settings and others. InvalidArgument names the setting.
absl::Status CheckFleetSettings(const Settings& settings);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_SETTINGS_FLEET_SETTINGS_H_
