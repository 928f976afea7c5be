#include "cli/system/signal_calls.h"

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

sigset_t CalledSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGHUP);
  sigaddset(&signals, SIGUSR2);
  return signals;
}

}  // namespace

void BlockCalledSignals() {
  const sigset_t signals = CalledSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

SignalCalls::SignalCalls(std::map<int, std::function<void()>> calls)
    : calls_(std::move(calls)) {
  const sigset_t signals = CalledSignals();
  signal_fd_ = signalfd(-1, &signals, SFD_CLOEXEC);
  finished_fd_ = eventfd(0, EFD_CLOEXEC);
  if (signal_fd_ < 0 || finished_fd_ < 0) std::abort();
  thread_ = std::thread([this] { Run(); });
  pthread_setname_np(thread_.native_handle(), "udpgate-reload");
}

SignalCalls::~SignalCalls() {
  const uint64_t one = 1;
  if (write(finished_fd_, &one, sizeof(one)) != sizeof(one)) std::abort();
  thread_.join();
  close(signal_fd_);
  close(finished_fd_);
}

void SignalCalls::Run() {
  sigset_t all_signals;
  sigfillset(&all_signals);
  pthread_sigmask(SIG_BLOCK, &all_signals, nullptr);
  for (;;) {
    pollfd events[] = {{signal_fd_, POLLIN, 0}, {finished_fd_, POLLIN, 0}};
    if (poll(events, 2, -1) < 0) continue;
    if (events[1].revents != 0) return;
    signalfd_siginfo info;
    if (read(signal_fd_, &info, sizeof(info)) != sizeof(info)) continue;
    const auto call = calls_.find(static_cast<int>(info.ssi_signo));
    if (call != calls_.end()) call->second();
  }
}

}  // namespace cli
}  // namespace udpgate
