// FAST_PATH: whether the kernel relays confirmed sessions.
#ifndef UDPGATE_CLI_FAST_PATH_H_
#define UDPGATE_CLI_FAST_PATH_H_

#include <memory>

#include "absl/status/statusor.h"
#include "cli/log/logger.h"
#include "cli/settings/settings.h"
#include "udpgate/flow_offload.h"
#include "udpgate/takeover/predecessor.h"

namespace udpgate {
namespace cli {

// Null if FAST_PATH is off, or if it is auto and the system does not support
// it; the log then has the reason. An error if it is required and the system
// does not support it; it names the setting. `old_process` may be null.
absl::StatusOr<std::shared_ptr<FlowOffload>> MakeFastPath(
    const Settings& settings, takeover::Predecessor* old_process,
    Logger* logger);

}  // namespace cli
}  // namespace udpgate

#endif  // UDPGATE_CLI_FAST_PATH_H_
