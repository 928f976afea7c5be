#include "cli/system/stop_signal.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <utility>

namespace udpgate {
namespace cli {
namespace {

void Raise(int event_fd) {
  const uint64_t one = 1;
  // An eventfd never blocks here, unless it was raised 2^64 times.
  if (write(event_fd, &one, sizeof(one)) != sizeof(one)) std::abort();
}

// As poll(2) takes it.
int ToPollTimeout(absl::Duration timeout) {
  return static_cast<int>(
      std::clamp<int64_t>(absl::ToInt64Milliseconds(timeout), 0, INT_MAX));
}

// The signals that end the process, taken away from the default handlers.
sigset_t BlockStopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

}  // namespace

StopSignal::StopSignal(absl::Duration grace, std::function<void()> on_overdue) {
  const sigset_t signals = BlockStopSignals();
  signal_fd_ = signalfd(-1, &signals, SFD_CLOEXEC);
  finished_fd_ = eventfd(0, EFD_CLOEXEC);
  received_fd_ = eventfd(0, EFD_CLOEXEC);
  stopping_fd_ = eventfd(0, EFD_CLOEXEC);
  // The first descriptors of the process: without them nothing works at all.
  if (signal_fd_ < 0 || finished_fd_ < 0 || received_fd_ < 0 ||
      stopping_fd_ < 0) {
    std::abort();
  }
  watcher_ = std::thread([this, grace, on_overdue = std::move(on_overdue)] {
    Watch(grace, on_overdue);
  });
  pthread_setname_np(watcher_.native_handle(), "udpgate-signal");
}

StopSignal::~StopSignal() {
  Raise(finished_fd_);
  watcher_.join();
  close(signal_fd_);
  close(finished_fd_);
  close(received_fd_);
  close(stopping_fd_);
}

absl::string_view StopSignal::Wait() {
  pollfd received{received_fd_, POLLIN, 0};
  while (poll(&received, 1, -1) != 1) {
  }
  switch (signal_number_) {
    case SIGINT:
      return "SIGINT";
    case SIGTERM:
      return "SIGTERM";
    default:
      return "";
  }
}

bool StopSignal::AwaitSignal(absl::Duration timeout) {
  pollfd received{received_fd_, POLLIN, 0};
  return poll(&received, 1, ToPollTimeout(timeout)) == 1;
}

void StopSignal::Cancel() {
  SetDrainTimeout(absl::ZeroDuration());
  Raise(received_fd_);
}

void StopSignal::SetDrainTimeout(absl::Duration timeout) {
  drain_timeout_milliseconds_ = ToPollTimeout(timeout);
}

bool StopSignal::AwaitStop(absl::Duration timeout) {
  pollfd stopping{stopping_fd_, POLLIN, 0};
  return poll(&stopping, 1, ToPollTimeout(timeout)) == 1;
}

void StopSignal::BeginStop() { Raise(stopping_fd_); }

bool StopSignal::WatchDrain() {
  pollfd events[] = {{finished_fd_, POLLIN, 0},
                     {signal_fd_, POLLIN, 0},
                     {stopping_fd_, POLLIN, 0}};
  // This thread blocks all signals: nothing interrupts the wait.
  poll(events, 3, drain_timeout_milliseconds_);
  if (events[0].revents != 0) return false;
  Raise(stopping_fd_);
  return true;
}

void StopSignal::Watch(absl::Duration grace,
                       const std::function<void()>& on_overdue) {
  sigset_t all_signals;
  sigfillset(&all_signals);
  pthread_sigmask(SIG_BLOCK, &all_signals, nullptr);
  pollfd events[] = {{signal_fd_, POLLIN, 0}, {finished_fd_, POLLIN, 0}};
  while (poll(events, 2, -1) < 0) {
  }
  if (events[1].revents != 0) return;
  signalfd_siginfo info{};
  if (read(signal_fd_, &info, sizeof(info)) == sizeof(info)) {
    signal_number_ = static_cast<int>(info.ssi_signo);
  }
  Raise(received_fd_);
  if (!WatchDrain()) return;
  if (poll(&events[1], 1, ToPollTimeout(grace)) == 1) return;
  on_overdue();
  _exit(0);
}

}  // namespace cli
}  // namespace udpgate
