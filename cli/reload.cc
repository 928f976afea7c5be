#include "cli/reload.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "cli/report.h"
#include "cli/settings/table.h"
#include "cli/system/system.h"
#include "udpgate/logging.h"

namespace udpgate {
namespace cli {

Reloader::Reloader(SettingSources sources, const CommandLine& running,
                   Validate validate, Parts parts, Proxy* proxy, Logger* logger)
    : sources_(std::move(sources)),
      validate_(std::move(validate)),
      parts_(std::move(parts)),
      proxy_(proxy),
      logger_(logger),
      values_(running.values) {}

absl::StatusOr<std::string> Reloader::Reload() {
  const std::lock_guard<std::mutex> lock(mutex_);
  // Even if the settings are invalid: these are other files.
  if (parts_.reload_names != nullptr) parts_.reload_names();
  absl::StatusOr<std::string> done = Apply();
  if (done.ok()) {
    logger_->Log(LogSeverity::kInfo, *done);
  } else {
    logger_->Log(LogSeverity::kError,
                 absl::StrCat("reload failed, all settings unchanged: ",
                              done.status().message()));
  }
  return done;
}

absl::StatusOr<std::string> Reloader::Apply() {
  absl::StatusOr<CommandLine> fresh = ParseCommandLine(sources_);
  if (!fresh.ok()) return fresh.status();
  if (absl::Status status = validate_(fresh->settings); !status.ok()) {
    return status;
  }
  if (absl::Status status = proxy_->SetLimits(fresh->settings.proxy.limits);
      !status.ok()) {
    return NameSetting(status);
  }
  for (const std::string& warning : fresh->warnings) {
    logger_->Log(LogSeverity::kWarning, warning);
  }
  const std::string limit_warning =
      SessionLimitWarning(fresh->settings.proxy.limits.max_sessions,
                          proxy_->session_limit(), DescriptorLimit());
  std::vector<std::string> applied;
  std::vector<std::string> kept;
  for (const Setting& setting : SettingTable()) {
    const auto before = values_.find(setting.variable);
    const auto after = fresh->values.find(setting.variable);
    const bool had_one = before != values_.end();
    const bool has_one = after != fresh->values.end();
    if (had_one == has_one && (!has_one || before->second == after->second)) {
      continue;
    }
    if (!setting.is_live) {
      kept.push_back(setting.variable);
      continue;
    }
    applied.push_back(setting.variable);
    if (has_one) {
      values_[setting.variable] = after->second;
    } else {
      values_.erase(before);
    }
  }
  // The warning about an unchanged setting was logged before.
  if (!limit_warning.empty() &&
      std::count(applied.begin(), applied.end(), "MAX_SESSIONS") > 0) {
    logger_->Log(LogSeverity::kWarning, limit_warning);
  }
  logger_->SetLevel(fresh->settings.log_level);
  absl::Status others;
  if (parts_.apply != nullptr) others = parts_.apply(fresh->settings);
  std::string text = "reload: ";
  absl::StrAppend(&text,
                  applied.empty()
                      ? "nothing changed"
                      : absl::StrCat("changed ", absl::StrJoin(applied, ", ")));
  if (!kept.empty()) {
    absl::StrAppend(&text, "; restart required for ",
                    absl::StrJoin(kept, ", "));
  }
  if (!others.ok()) {
    logger_->Log(LogSeverity::kError,
                 absl::StrCat("reload: ", others.message()));
    absl::StrAppend(&text, "; failed: ", others.message());
  }
  return text;
}

}  // namespace cli
}  // namespace udpgate
