// Players of a gateway that another program kills, and their backend.
//
//   crash_load GATEWAY CLIENTS
//
// Prints the address of the backend, and `joined` when all sessions are
// confirmed. Then it reads commands, one a line:
//
//   served   waits until all are served, and prints the longest silence since
//            the last command, in milliseconds
//   end      prints how many clients have lost their session, how many are
//            served, and how many hear the backend
#include <cstdio>
#include <iostream>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "testing/internal/e2e/crowd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

// A session is confirmed by datagrams over more than a second.
constexpr absl::Duration kConfirmationTime = absl::Seconds(3);

int Main(int argc, char** argv) {
  if (argc != 3) return 2;
  const absl::StatusOr<SocketAddress> gate = SocketAddress::Parse(argv[1]);
  Crowd::Options options;
  if (!gate.ok() || !absl::SimpleAtoi(argv[2], &options.client_count)) return 2;
  options.gate = *gate;
  Crowd crowd(options);
  std::printf("%s\n", crowd.backend_address().ToString().c_str());
  std::fflush(stdout);
  std::string line;
  // The backend can be told to the gateway now.
  if (!std::getline(std::cin, line)) return 1;
  const absl::Time end = absl::Now() + kConfirmationTime;
  if (!crowd.Join([&] { return absl::Now() > end; }, absl::Seconds(120))) {
    std::printf("not joined\n");
    return 1;
  }
  std::printf("joined\n");
  std::fflush(stdout);
  crowd.Start();
  while (std::getline(std::cin, line) && line == "served") {
    const bool are_served = crowd.AwaitAllServed();
    std::printf("%s %lld\n", are_served ? "served" : "unserved",
                static_cast<long long>(
                    absl::ToInt64Milliseconds(crowd.TakeLongestSilence())));
    std::fflush(stdout);
  }
  const Crowd::Report report = crowd.Stop();
  const int served = crowd.CountServed();
  std::printf("%d %d %d\n", report.moved, served, crowd.CountHeard());
  return 0;
}

}  // namespace
}  // namespace test
}  // namespace udpgate

int main(int argc, char** argv) { return udpgate::test::Main(argc, argv); }
