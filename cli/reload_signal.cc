#include "cli/reload_signal.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <utility>

namespace udpgate {
namespace cli {
namespace {

sigset_t ReloadSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGHUP);
  return signals;
}

}  // namespace

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
