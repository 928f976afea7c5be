#include "testing/internal/bench/load_options.h"

#include <getopt.h>

#include "absl/strings/numbers.h"
#include "testing/internal/bench/probe.h"

namespace udpgate {
namespace bench {

const char kLoadUsage[] =
    "usage: load --target ADDRESS (--window N | --rate N [--burst N])\n"
    "  [--clients N] [--size BYTES] [--warmup SECONDS] [--seconds SECONDS]\n"
    "  [--drain SECONDS] [--cpu-pid PID]... [--check]\n"
    "  [--cold] [--await-line] [--addresses FILE] [--join ADDRESS]\n";

namespace {

// The clock of all threads of a process, ended ones too, user and system
// (clock_getcpuclockid(3)).
bool AddCpuClock(const char* text, LoadOptions* options) {
  int pid = 0;
  clockid_t clock;
  if (!absl::SimpleAtoi(text, &pid) || clock_getcpuclockid(pid, &clock) != 0) {
    return false;
  }
  options->cpu_clocks.push_back(clock);
  return true;
}

bool ParseOption(int name, const char* value, LoadOptions* options) {
  switch (name) {
    case 't': {
      const auto target = SocketAddress::Parse(value);
      if (target.ok()) options->target = *target;
      return target.ok();
    }
    case 'c':
      return absl::SimpleAtoi(value, &options->client_count);
    case 'w':
      return absl::SimpleAtoi(value, &options->window);
    case 'r':
      return absl::SimpleAtoi(value, &options->rate_per_second);
    case 'b':
      return absl::SimpleAtoi(value, &options->burst);
    case 's':
      return absl::SimpleAtoi(value, &options->size_bytes);
    case 'u':
      return absl::SimpleAtod(value, &options->warmup_seconds);
    case 'd':
      return absl::SimpleAtod(value, &options->seconds);
    case 'n':
      return absl::SimpleAtod(value, &options->drain_seconds);
    case 'p':
      return AddCpuClock(value, options);
    case 'k':
      options->check = true;
      return true;
    case 'l':
      options->is_cold = true;
      return true;
    case 'a':
      options->awaits_line = true;
      return true;
    case 'f':
      options->addresses_path = value;
      return true;
    case 'j': {
      const auto signaling = SocketAddress::Parse(value);
      if (signaling.ok()) options->signaling = *signaling;
      return signaling.ok();
    }
    default:
      return false;
  }
}

}  // namespace

bool ParseLoadOptions(int argc, char** argv, LoadOptions* options) {
  static constexpr option kOptions[] = {
      {"target", required_argument, nullptr, 't'},
      {"clients", required_argument, nullptr, 'c'},
      {"window", required_argument, nullptr, 'w'},
      {"rate", required_argument, nullptr, 'r'},
      {"burst", required_argument, nullptr, 'b'},
      {"size", required_argument, nullptr, 's'},
      {"warmup", required_argument, nullptr, 'u'},
      {"seconds", required_argument, nullptr, 'd'},
      {"drain", required_argument, nullptr, 'n'},
      {"cpu-pid", required_argument, nullptr, 'p'},
      {"check", no_argument, nullptr, 'k'},
      {"cold", no_argument, nullptr, 'l'},
      {"await-line", no_argument, nullptr, 'a'},
      {"addresses", required_argument, nullptr, 'f'},
      {"join", required_argument, nullptr, 'j'},
      {}};
  int name;
  while ((name = getopt_long(argc, argv, "", kOptions, nullptr)) != -1) {
    if (!ParseOption(name, optarg, options)) return false;
  }
  const auto is_between = [](double value, double least, double most) {
    return value >= least && value <= most;
  };
  return optind == argc && options->target.is_valid() &&
         (options->window > 0) != (options->rate_per_second > 0) &&
         !(options->is_cold && options->window > 0) &&
         is_between(options->client_count, 1, 100'000) &&
         is_between(options->window, 0, kLoadBatchMax) &&
         is_between(static_cast<double>(options->rate_per_second), 0, 1e7) &&
         is_between(options->burst, 1, kLoadBatchMax) &&
         is_between(static_cast<double>(options->size_bytes), kProbeBytesMin,
                    65507) &&
         is_between(options->warmup_seconds, 0, 600) &&
         is_between(options->seconds, 0.01, 600) &&
         is_between(options->drain_seconds, 0, 60);
}

}  // namespace bench
}  // namespace udpgate
