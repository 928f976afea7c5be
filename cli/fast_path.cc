#include "cli/fast_path.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/settings/table.h"
#include "cli/system/system.h"
#include "udpgate/fastpath/kernel_flow_offload.h"
#include "udpgate/logging.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace cli {
namespace {

fastpath::KernelFlowOffload::Options MakeOptions(
    const Settings& settings, takeover::Predecessor* old_process) {
  // Each takes 384 bytes immediately; further sessions stay on sockets.
  constexpr int64_t kSessionsMax = 65536;
  const int64_t sessions_max = settings.proxy.limits.max_sessions > 0
                                   ? settings.proxy.limits.max_sessions
                                   : DescriptorLimit();
  fastpath::KernelFlowOffload::Options options;
  options.sessions_max = static_cast<int>(std::min(sessions_max, kSessionsMax));
  options.interfaces = settings.fast_path_interfaces;
  options.listen_addresses = {settings.proxy.listen_address};
  options.dont_fragment = settings.proxy.dont_fragment;
  options.copies_traffic_class = settings.proxy.copies_traffic_class;
  options.log_sink = settings.proxy.log_sink;
  if (old_process != nullptr) {
    options.adopted = old_process->TakeFlowDescriptors();
  }
  return options;
}

}  // namespace

absl::StatusOr<std::shared_ptr<FlowOffload>> MakeFastPath(
    const Settings& settings, takeover::Predecessor* old_process,
    Logger* logger) {
  if (settings.fast_path == FastPath::kOff) return nullptr;
  absl::StatusOr<std::unique_ptr<fastpath::KernelFlowOffload>> offload =
      fastpath::KernelFlowOffload::Create(MakeOptions(settings, old_process));
  if (offload.ok()) {
    logger->Log(
        LogSeverity::kInfo,
        absl::StrCat("fast path: the kernel relays confirmed sessions ",
                     (*offload)->has_adopted() ? "without a break, on " : "on ",
                     absl::StrJoin((*offload)->AttachedInterfaces(), ", ")));
    return std::shared_ptr<FlowOffload>(*std::move(offload));
  }
  const absl::Status& status = offload.status();
  const std::string why = OptionAtFault(status).empty()
                              ? absl::StrCat("FAST_PATH: ", status.message())
                              : std::string(NameSetting(status).message());
  if (settings.fast_path == FastPath::kRequired) {
    return absl::Status(status.code(), why);
  }
  logger->Log(LogSeverity::kWarning,
              absl::StrCat(why, "; all sessions stay on sockets"));
  return nullptr;
}

}  // namespace cli
}  // namespace udpgate
