// The smallest program with a gateway inside: every client goes to one backend.
//
//   bazel run //examples:embed -- 127.0.0.1:19132 10.0.0.5:19132
//
// Exits on SIGINT, SIGTERM or the end of its input.
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <iostream>
#include <memory>

#include "udpgate/proxy.h"
#include "udpgate/static_backend_resolver.h"

// Blocks the signals for the whole process; later threads inherit that. The
// library does not handle signals.
int OpenStopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  return signalfd(-1, &signals, SFD_CLOEXEC);
}

void AwaitStop(int signal_fd) {
  for (;;) {
    pollfd entries[2] = {{signal_fd, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    poll(entries, 2, /*timeout=*/-1);
    char skipped[256];
    if (entries[0].revents != 0) return;
    if (entries[1].revents != 0 &&
        read(STDIN_FILENO, skipped, sizeof(skipped)) <= 0) {
      return;
    }
  }
}

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: embed LISTEN_IP:PORT BACKEND_IP:PORT\n";
    return 2;
  }
  const int signal_fd = OpenStopSignals();

  // From here on: the twenty lines that embed a gateway.
  auto listen = udpgate::SocketAddress::Parse(argv[1]);
  auto backend = udpgate::SocketAddress::Parse(argv[2]);
  if (!listen.ok() || !backend.ok()) {
    std::cerr << (listen.ok() ? backend : listen).status() << "\n";
    return 2;
  }
  udpgate::ProxyOptions options;
  options.listen_address = *listen;
  udpgate::ProxyDependencies dependencies;
  dependencies.resolver =
      std::make_shared<udpgate::StaticBackendResolver>(*backend);

  auto proxy = udpgate::Proxy::Create(options, dependencies);
  absl::Status status = proxy.ok() ? (*proxy)->Start() : proxy.status();
  if (!status.ok()) {
    std::cerr << status << "\n";
    return 1;
  }
  std::cout << "listening on " << (*proxy)->listen_addresses()[0].ToString()
            << std::endl;
  AwaitStop(signal_fd);  // the gateway works on threads of its own
  (*proxy)->Stop();

  const udpgate::ProxyStats stats = (*proxy)->GetStats();
  std::cout << "sessions: " << stats.sessions_created
            << ", datagrams to the backend: "
            << stats.client_datagrams_forwarded
            << ", back: " << stats.backend_datagrams_forwarded << std::endl;
  return 0;
}
