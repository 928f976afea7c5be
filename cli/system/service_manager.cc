#include "cli/system/service_manager.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace udpgate {
namespace cli {
namespace {

// A lost message is not a reason to stop serving.
void Notify(const std::string& text) { sd_notify(0, text.c_str()); }

// A line break would begin another assignment.
std::string OneLine(absl::string_view text) {
  return absl::StrReplaceAll(text, {{"\n", " "}});
}

}  // namespace

absl::StatusOr<std::vector<int>> TakeActivationSockets() {
  const int count = sd_listen_fds(/*unset_environment=*/1);
  if (count < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("LISTEN_FDS: ", std::strerror(-count)));
  }
  std::vector<int> sockets(static_cast<size_t>(count));
  std::iota(sockets.begin(), sockets.end(), SD_LISTEN_FDS_START);
  return sockets;
}

ServiceManager::ServiceManager() : stopping_fd_(eventfd(0, EFD_CLOEXEC)) {
  // Among the first descriptors of the process.
  if (stopping_fd_ < 0) std::abort();
}

ServiceManager::~ServiceManager() {
  StopWatchdog();
  close(stopping_fd_);
}

void ServiceManager::NotifyWaiting(absl::string_view status,
                                   absl::Duration time_max) {
  Notify(
      absl::StrCat("EXTEND_TIMEOUT_USEC=", absl::ToInt64Microseconds(time_max),
                   "\nSTATUS=", OneLine(status)));
}

void ServiceManager::NotifyReady(absl::string_view status) {
  Notify(absl::StrCat("READY=1\nSTATUS=", OneLine(status)));
}

void ServiceManager::NotifyTakenOver(absl::string_view status) {
  constexpr uint64_t kWaitMaxMicroseconds = 5'000'000;
  Notify(absl::StrCat("MAINPID=", getpid(),
                      "\nREADY=1\nSTATUS=", OneLine(status)));
  sd_notify_barrier(0, kWaitMaxMicroseconds);
}

void ServiceManager::NotifyStopping(absl::string_view status,
                                    absl::Duration stop_time_max) {
  Notify(absl::StrCat("STOPPING=1\nEXTEND_TIMEOUT_USEC=",
                      absl::ToInt64Microseconds(stop_time_max),
                      "\nSTATUS=", OneLine(status)));
}

absl::Status ServiceManager::StartWatchdog(
    std::function<bool(absl::Duration within)> is_alive) {
  uint64_t timeout_microseconds = 0;
  if (sd_watchdog_enabled(0, &timeout_microseconds) <= 0) {
    return absl::OkStatus();
  }
  const absl::Duration interval = absl::Microseconds(
      std::min<uint64_t>(timeout_microseconds / 2, INT64_MAX / 2));
  try {
    watchdog_ = std::thread([this, interval, is_alive = std::move(is_alive)] {
      FeedWatchdog(interval, is_alive);
    });
  } catch (const std::system_error& error) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot start the watchdog thread: ", error.what()));
  }
  pthread_setname_np(watchdog_.native_handle(), "udpgate-systemd");
  return absl::OkStatus();
}

void ServiceManager::StopWatchdog() {
  if (!watchdog_.joinable()) return;
  const uint64_t one = 1;
  if (write(stopping_fd_, &one, sizeof(one)) != sizeof(one)) std::abort();
  watchdog_.join();
}

void ServiceManager::FeedWatchdog(
    absl::Duration interval,
    const std::function<bool(absl::Duration)>& is_alive) {
  sigset_t signals;
  sigfillset(&signals);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  pollfd stopping{stopping_fd_, POLLIN, 0};
  int wait_milliseconds = 0;
  while (poll(&stopping, 1, wait_milliseconds) == 0) {
    const auto begin = std::chrono::steady_clock::now();
    if (is_alive(interval)) Notify("WATCHDOG=1");
    const absl::Duration left =
        interval - absl::FromChrono(std::chrono::steady_clock::now() - begin);
    wait_milliseconds = static_cast<int>(
        std::clamp<int64_t>(absl::ToInt64Milliseconds(left), 1, INT_MAX));
  }
}

}  // namespace cli
}  // namespace udpgate
