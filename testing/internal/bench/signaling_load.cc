// Players that join: each asks for the status and sends an offer, over a TCP
// connection of its own.
//
//   signaling_load --target ADDRESS --rate N --seconds S [--threads T]
//
// So many joins a second begin, evenly paced, whether or not answers come.
// Prints one JSON object: `joined`, `failed`, the time from the offer to the
// answer, and how late joins began.
#include <getopt.h>
#include <time.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "testing/internal/bench/latency_histogram.h"
#include "testing/internal/bench/signaling_client.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace bench {
namespace {

constexpr int64_t kSecondNanoseconds = 1'000'000'000;

struct Options {
  SocketAddress target;
  int64_t rate_per_second = 0;
  double seconds = 5;
  int threads = 64;
};

struct Counts {
  int64_t joined = 0;
  int64_t failed = 0;
  std::string error;  // of the last one that failed
  LatencyHistogram answers;
  LatencyHistogram delays;
};

int64_t Now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kSecondNanoseconds + now.tv_nsec;
}

void SleepUntil(int64_t nanoseconds) {
  const timespec until{nanoseconds / kSecondNanoseconds,
                       nanoseconds % kSecondNanoseconds};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
}

absl::Status JoinOnce(const SocketAddress& target, uint64_t network_id,
                      Counts* counts) {
  absl::StatusOr<SignalingClient> client = SignalingClient::Connect(target);
  if (!client.ok()) return client.status();
  if (absl::Status status = client->GetStatus(); !status.ok()) return status;
  const int64_t begin = Now();
  absl::StatusOr<JoinAnswer> answer = client->Join(network_id);
  if (!answer.ok()) return answer.status();
  if (answer->ufrag.empty()) return absl::InternalError("an empty answer");
  counts->answers.Record(Now() - begin);
  return absl::OkStatus();
}

// Takes the joins that nobody has begun, until all have.
void Work(const Options& options, int64_t begin, std::atomic<int64_t>* next,
          Counts* counts) {
  const auto total = static_cast<int64_t>(
      static_cast<double>(options.rate_per_second) * options.seconds);
  for (int64_t number = (*next)++; number < total; number = (*next)++) {
    const int64_t due =
        begin + number * kSecondNanoseconds / options.rate_per_second;
    SleepUntil(due);
    counts->delays.Record(Now() - due);
    const absl::Status status =
        JoinOnce(options.target, static_cast<uint64_t>(number + 1), counts);
    ++(status.ok() ? counts->joined : counts->failed);
    if (!status.ok()) counts->error = std::string(status.message());
  }
}

int Run(const Options& options) {
  std::vector<Counts> counts(static_cast<size_t>(options.threads));
  std::vector<std::thread> threads;
  std::atomic<int64_t> next{0};
  const int64_t begin = Now();
  for (Counts& own : counts) {
    threads.emplace_back(
        [&options, begin, &next, &own] { Work(options, begin, &next, &own); });
  }
  for (std::thread& thread : threads) thread.join();
  const double seconds = static_cast<double>(Now() - begin) / 1e9;
  Counts all;
  for (const Counts& own : counts) {
    all.joined += own.joined;
    all.failed += own.failed;
    all.answers.Add(own.answers);
    all.delays.Add(own.delays);
    if (!own.error.empty()) all.error = own.error;
  }
  if (!all.error.empty()) {
    std::fprintf(stderr, "signaling_load: %s\n", all.error.c_str());
  }
  absl::PrintF(
      "{\"seconds\": %.6f, \"joined\": %d, \"failed\": %d, "
      "\"joins_per_second\": %.1f, \"answer_p50_ns\": %d, "
      "\"answer_p99_ns\": %d, \"answer_max_ns\": %d, \"delay_p99_ns\": %d}\n",
      seconds, all.joined, all.failed,
      static_cast<double>(all.joined) / seconds,
      all.answers.PercentileNanoseconds(50),
      all.answers.PercentileNanoseconds(99), all.answers.max_nanoseconds(),
      all.delays.PercentileNanoseconds(99));
  return 0;
}

bool Parse(int argc, char** argv, Options* options) {
  static constexpr option kOptions[] = {
      {"target", required_argument, nullptr, 't'},
      {"rate", required_argument, nullptr, 'r'},
      {"seconds", required_argument, nullptr, 's'},
      {"threads", required_argument, nullptr, 'n'},
      {}};
  int name;
  while ((name = getopt_long(argc, argv, "", kOptions, nullptr)) != -1) {
    bool is_good = false;
    if (name == 't') {
      const absl::StatusOr<SocketAddress> target = SocketAddress::Parse(optarg);
      is_good = target.ok();
      if (is_good) options->target = *target;
    } else if (name == 'r') {
      is_good = absl::SimpleAtoi(optarg, &options->rate_per_second);
    } else if (name == 's') {
      is_good = absl::SimpleAtod(optarg, &options->seconds);
    } else if (name == 'n') {
      is_good = absl::SimpleAtoi(optarg, &options->threads);
    }
    if (!is_good) return false;
  }
  return optind == argc && options->target.is_valid() &&
         options->rate_per_second > 0 && options->seconds > 0 &&
         options->threads > 0 && options->threads <= 1000;
}

}  // namespace
}  // namespace bench
}  // namespace udpgate

int main(int argc, char** argv) {
  udpgate::bench::Options options;
  if (!udpgate::bench::Parse(argc, argv, &options)) {
    std::fputs(
        "usage: signaling_load --target ADDRESS --rate N --seconds S "
        "[--threads T]\n",
        stderr);
    return 2;
  }
  return udpgate::bench::Run(options);
}
