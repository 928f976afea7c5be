#include "cli/reload.h"

#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "udpgate/logging.h"

namespace udpgate {
namespace cli {
namespace {

bool HasLimitsPerAddress(const Settings& settings) {
  return settings.proxy.limits.max_sessions_per_ip > 0 ||
         settings.proxy.limits.new_sessions_per_second_per_ip > 0;
}

}  // namespace

Reloader::Reloader(SettingSources sources, const CommandLine& running,
                   Validate validate, std::function<void()> reload_names,
                   Proxy* proxy, Logger* logger)
    : sources_(std::move(sources)),
      validate_(std::move(validate)),
      reload_names_(std::move(reload_names)),
      proxy_(proxy),
      logger_(logger),
      watches_addresses_(HasLimitsPerAddress(running.settings)),
      values_(running.values) {}

absl::StatusOr<std::string> Reloader::Reload() {
  const std::lock_guard<std::mutex> lock(mutex_);
  // Whether or not the settings are valid: the files are others'.
  if (reload_names_ != nullptr) reload_names_();
  absl::StatusOr<std::string> done = Apply();
  if (done.ok()) {
    logger_->Log(LogSeverity::kInfo, *done);
  } else {
    logger_->Log(LogSeverity::kError,
                 absl::StrCat("reload: the settings stay as they are: ",
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
    return status;
  }
  for (const std::string& warning : fresh->warnings) {
    logger_->Log(LogSeverity::kWarning, warning);
  }
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
    if (!IsLive(setting)) {
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
  logger_->SetLevel(fresh->settings.log_level);
  std::string text = "reload: ";
  absl::StrAppend(&text,
                  applied.empty()
                      ? "nothing changed"
                      : absl::StrCat("changed ", absl::StrJoin(applied, ", ")));
  if (!kept.empty()) {
    absl::StrAppend(&text, "; a restart is needed for ",
                    absl::StrJoin(kept, ", "));
  }
  return text;
}

bool Reloader::IsLive(const Setting& setting) const {
  return setting.is_live &&
         (watches_addresses_ || !absl::EndsWith(setting.variable, "_PER_IP"));
}

}  // namespace cli
}  // namespace udpgate
