// A relay that makes a Redis on this machine as slow as one further away.
//
//   slow_redis PORT DELAY_MILLISECONDS
//
// Relays to 127.0.0.1:PORT and passes on what comes back so much later. Prints
// its own address as one line and runs until a signal ends it.
#include <unistd.h>

#include <cstdint>
#include <cstdio>

#include "absl/strings/numbers.h"
#include "absl/time/time.h"
#include "testing/internal/support/tcp_relay.h"

namespace udpgate {
namespace bench {
namespace {

int Run(int argc, char** argv) {
  uint32_t port = 0;
  int64_t delay_milliseconds = 0;
  if (argc != 3 || !absl::SimpleAtoi(argv[1], &port) || port == 0 ||
      port > UINT16_MAX || !absl::SimpleAtoi(argv[2], &delay_milliseconds) ||
      delay_milliseconds < 0) {
    std::fputs("usage: slow_redis PORT DELAY_MILLISECONDS\n", stderr);
    return 2;
  }
  test::TcpRelay relay(static_cast<uint16_t>(port));
  relay.set_reply_delay(absl::Milliseconds(delay_milliseconds));
  std::printf("%s\n", relay.address().c_str());
  std::fflush(stdout);
  while (true) pause();
}

}  // namespace
}  // namespace bench
}  // namespace udpgate

int main(int argc, char** argv) { return udpgate::bench::Run(argc, argv); }
