#include "cli/reload.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
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

sigset_t ReloadSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGHUP);
  return signals;
}

}  // namespace

Reloader::Reloader(SettingSources sources, CommandLine running,
                   Validate validate, Proxy* proxy, Logger* logger)
    : sources_(std::move(sources)),
      validate_(std::move(validate)),
      proxy_(proxy),
      logger_(logger),
      watches_addresses_(HasLimitsPerAddress(running.settings)),
      running_(std::move(running)) {}

absl::StatusOr<std::string> Reloader::Reload() {
  const std::lock_guard<std::mutex> lock(mutex_);
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
  std::vector<std::string> applied;
  std::vector<std::string> kept;
  for (const Setting& setting : SettingTable()) {
    const auto before = running_.values.find(setting.variable);
    const auto after = fresh->values.find(setting.variable);
    const bool had_one = before != running_.values.end();
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
      running_.values[setting.variable] = after->second;
    } else {
      running_.values.erase(before);
    }
  }
  if (absl::Status status = proxy_->SetLimits(fresh->settings.proxy.limits);
      !status.ok()) {
    return status;
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
  if (!watches_addresses_ && absl::EndsWith(setting.variable, "_PER_IP") &&
      absl::StrContains(setting.variable, "SESSIONS")) {
    return false;
  }
  return setting.is_live;
}

void BlockReloadSignal() {
  const sigset_t signals = ReloadSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

ReloadSignal::ReloadSignal(std::function<void()> on_signal) {
  const sigset_t signals = ReloadSignals();
  signal_fd_ = signalfd(-1, &signals, SFD_CLOEXEC);
  finished_fd_ = eventfd(0, EFD_CLOEXEC);
  if (signal_fd_ < 0 || finished_fd_ < 0) std::abort();
  thread_ =
      std::thread([this, on_signal = std::move(on_signal)] { Run(on_signal); });
  pthread_setname_np(thread_.native_handle(), "udpgate-reload");
}

ReloadSignal::~ReloadSignal() {
  const uint64_t one = 1;
  if (write(finished_fd_, &one, sizeof(one)) != sizeof(one)) std::abort();
  thread_.join();
  close(signal_fd_);
  close(finished_fd_);
}

void ReloadSignal::Run(const std::function<void()>& on_signal) {
  sigset_t all_signals;
  sigfillset(&all_signals);
  pthread_sigmask(SIG_BLOCK, &all_signals, nullptr);
  for (;;) {
    pollfd events[] = {{signal_fd_, POLLIN, 0}, {finished_fd_, POLLIN, 0}};
    if (poll(events, 2, -1) < 0) continue;
    if (events[1].revents != 0) return;
    signalfd_siginfo info;
    if (read(signal_fd_, &info, sizeof(info)) == sizeof(info)) on_signal();
  }
}

}  // namespace cli
}  // namespace udpgate
