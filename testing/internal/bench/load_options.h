#ifndef UDPGATE_TESTING_INTERNAL_BENCH_LOAD_OPTIONS_H_
#define UDPGATE_TESTING_INTERNAL_BENCH_LOAD_OPTIONS_H_

#include <time.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "udpgate/socket_address.h"

namespace udpgate {
namespace bench {

// The largest `window` and `burst`.
inline constexpr int kLoadBatchMax = 64;

// What the command line of `load` says; see load.cc.
struct LoadOptions {
  SocketAddress target;
  int client_count = 64;
  int window = 0;
  int64_t rate_per_second = 0;
  int burst = 1;
  size_t size_bytes = 128;
  double warmup_seconds = 1;
  double seconds = 5;
  double drain_seconds = 0.5;
  std::vector<clockid_t> cpu_clocks;
  bool check = false;
  bool is_cold = false;
  bool awaits_line = false;
  std::string addresses_path;
  // Valid: each client joins here first, and its first datagram is that of the
  // join.
  SocketAddress signaling;
};

extern const char kLoadUsage[];

// False if an option is unknown, or a value is missing or out of range.
bool ParseLoadOptions(int argc, char** argv, LoadOptions* options);

}  // namespace bench
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_BENCH_LOAD_OPTIONS_H_
