// A load of newcomers: each opens a session, and confirms it.
//
//   newcomers --target ADDRESS --clients N --under-way N [--cpu-pid PID]
//             [--trips-later N]
//
// Each client is a connected socket of its own. First each does one round trip,
// and a second later some more, with which a gateway confirms the session
// (docs/behaviour.md). So many are under way at a time (a closed loop); when
// one is done, the next one begins. Prints one JSON object. With --trips-later
// it then waits for a line on standard input, each client does so many more
// round trips, and another object follows. The exit status is 0 if all round
// trips were done. UDPGATE_TEST_TIMEOUT_FACTOR says how many times longer than
// usual they may take.
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "testing/await.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace bench {
namespace {

// Of the datagrams three come after a reply. They must spread over a second;
// the pause is a little longer.
constexpr int kTrips = 2;
constexpr int64_t kPauseNanoseconds = 1'050'000'000;
// 192 and above is neither STUN nor DTLS (RFC 7983).
constexpr char kPayloadByte = static_cast<char>(0xc0);
constexpr size_t kPayloadBytes = 128;
constexpr int kEventsMax = 128;
// An address of loopback serves so many clients, lest its ports run out.
constexpr int kClientsPerAddress = 4096;
constexpr int64_t kRetryNanoseconds = 200'000'000;
constexpr int64_t kGiveUpNanoseconds = 30'000'000'000;

int64_t ReadClock(clockid_t clock) {
  timespec now;
  if (clock_gettime(clock, &now) != 0) return -1;
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

int64_t Now() { return ReadClock(CLOCK_MONOTONIC); }

struct Options {
  SocketAddress target;
  int client_count = 0;
  int under_way_max = 0;
  int trips_later = 0;
  bool has_cpu_clock = false;
  clockid_t cpu_clock = 0;
};

bool Parse(int argc, char** argv, Options* options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const char* const value = argv[i + 1];
    int pid = 0;
    if (name == "--target") {
      options->target = SocketAddress::Parse(value).value_or(SocketAddress());
    } else if (name == "--clients") {
      if (!absl::SimpleAtoi(value, &options->client_count)) return false;
    } else if (name == "--under-way") {
      if (!absl::SimpleAtoi(value, &options->under_way_max)) return false;
    } else if (name == "--trips-later") {
      if (!absl::SimpleAtoi(value, &options->trips_later)) return false;
    } else if (name == "--cpu-pid") {
      options->has_cpu_clock = true;
      if (!absl::SimpleAtoi(value, &pid) ||
          clock_getcpuclockid(pid, &options->cpu_clock) != 0) {
        return false;
      }
    } else {
      return false;
    }
  }
  return argc % 2 == 1 && options->target.is_valid() &&
         options->client_count > 0 && options->under_way_max > 0;
}

class Newcomers {
 public:
  explicit Newcomers(const Options& options)
      : options_(options),
        payload_(kPayloadBytes, kPayloadByte),
        epoll_(epoll_create1(EPOLL_CLOEXEC)),
        clients_(static_cast<size_t>(options.client_count)) {}

  // False, and a line on standard error, if a socket cannot be opened.
  bool Open();
  // False if not all have got their replies.
  bool Run() { return RunPhase(kTrips, &open_) && RunPhase(kTrips, &confirm_); }
  bool RunLater() {
    DropLateReplies();
    return RunPhase(options_.trips_later, &later_);
  }
  void Print() const;
  void PrintLater() const;

 private:
  struct Client {
    internal::UniqueFd fd;
    int trips_left = 0;
    int64_t sent_nanoseconds = 0;
  };
  // What all clients do, one after the other.
  struct Phase {
    int64_t nanoseconds = 0;
    int64_t cpu_nanoseconds = 0;
  };

  bool RunPhase(int trips, Phase* phase);
  // Of the gateway so far.
  int64_t CpuNanoseconds() const {
    return options_.has_cpu_clock ? ReadClock(options_.cpu_clock) : 0;
  }
  bool OpenOne(size_t index);
  void BeginNext();
  void Send(size_t index);
  void Receive(size_t index);
  void SendAgain();
  // To datagrams that were sent again.
  void DropLateReplies();

  const Options options_;
  const std::string payload_;
  internal::UniqueFd epoll_;
  std::vector<Client> clients_;
  std::vector<size_t> under_way_;
  int trips_ = 0;  // of a client in this phase
  size_t begun_ = 0;
  size_t done_ = 0;
  int64_t sent_again_ = 0;
  Phase open_;
  Phase confirm_;
  Phase later_;
};

bool Newcomers::OpenOne(size_t index) {
  Client& client = clients_[index];
  const int family = options_.target.family();
  client.fd.Reset(socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!client.fd.is_open()) return false;
  sockaddr_storage address;
  if (options_.target.is_loopback() && options_.target.is_ipv4()) {
    sockaddr_in source{};
    source.sin_family = AF_INET;
    source.sin_addr.s_addr =
        htonl(INADDR_LOOPBACK + 0x100 +
              static_cast<uint32_t>(index / kClientsPerAddress));
    if (bind(client.fd.get(), reinterpret_cast<sockaddr*>(&source),
             sizeof(source)) != 0) {
      return false;
    }
  }
  const socklen_t size = options_.target.ToSockaddr(family, &address);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = index;
  return connect(client.fd.get(), reinterpret_cast<sockaddr*>(&address),
                 size) == 0 &&
         epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, client.fd.get(), &event) == 0;
}

bool Newcomers::Open() {
  for (size_t i = 0; i < clients_.size(); ++i) {
    if (OpenOne(i)) continue;
    std::fprintf(stderr, "newcomers: client %zu: %s\n", i,
                 internal::ErrnoToText(errno).c_str());
    return false;
  }
  return true;
}

void Newcomers::Send(size_t index) {
  Client& client = clients_[index];
  client.sent_nanoseconds = Now();
  // What is lost is sent again.
  const ssize_t sent =
      send(client.fd.get(), payload_.data(), payload_.size(), 0);
  static_cast<void>(sent);
}

void Newcomers::BeginNext() {
  if (begun_ == clients_.size()) return;
  clients_[begun_].trips_left = trips_;
  under_way_.push_back(begun_);
  Send(begun_++);
}

void Newcomers::Receive(size_t index) {
  Client& client = clients_[index];
  char buffer[kPayloadBytes + 1];
  for (;;) {
    const ssize_t size = recv(client.fd.get(), buffer, sizeof(buffer), 0);
    if (size < 0) return;
    if (client.trips_left == 0) continue;  // to a datagram that was sent again
    if (--client.trips_left > 0) {
      Send(index);
      continue;
    }
    ++done_;
    under_way_.erase(std::find(under_way_.begin(), under_way_.end(), index));
    BeginNext();
  }
}

void Newcomers::SendAgain() {
  const int64_t before = Now() - kRetryNanoseconds;
  for (const size_t index : under_way_) {
    if (clients_[index].sent_nanoseconds > before) continue;
    ++sent_again_;
    Send(index);
  }
}

void Newcomers::DropLateReplies() {
  for (size_t i = 0; i < clients_.size(); ++i) Receive(i);
}

bool Newcomers::RunPhase(int trips, Phase* phase) {
  trips_ = trips;
  begun_ = done_ = 0;
  const auto give_up_nanoseconds =
      static_cast<int64_t>(kGiveUpNanoseconds * test::TimeoutFactor());
  const int64_t begin = Now();
  const int64_t cpu_begin = CpuNanoseconds();
  for (int i = 0; i < options_.under_way_max; ++i) BeginNext();
  int64_t next_look = begin + kRetryNanoseconds;
  while (done_ < clients_.size() && Now() - begin < give_up_nanoseconds) {
    epoll_event events[kEventsMax];
    const int count = epoll_wait(epoll_.get(), events, kEventsMax, 50);
    for (int i = 0; i < count; ++i) Receive(events[i].data.u64);
    if (Now() < next_look) continue;
    SendAgain();
    next_look = Now() + kRetryNanoseconds / 4;
  }
  phase->nanoseconds = Now() - begin;
  // What a gateway does afterwards belongs to it.
  const timespec pause{kPauseNanoseconds / 1'000'000'000,
                       kPauseNanoseconds % 1'000'000'000};
  nanosleep(&pause, nullptr);
  phase->cpu_nanoseconds = CpuNanoseconds() - cpu_begin;
  return done_ == clients_.size();
}

void Newcomers::Print() const {
  const double count = static_cast<double>(clients_.size());
  const auto per_second = [count](const Phase& phase) {
    return count * 1e9 / static_cast<double>(phase.nanoseconds);
  };
  std::printf(
      "{\"clients\": %zu, \"sent_again\": %lld, \"newcomers_per_second\": "
      "%.9g, "
      "\"open_cpu_ns\": %.9g, \"confirmed_per_second\": %.9g, "
      "\"confirm_cpu_ns\": %.9g}\n",
      clients_.size(), static_cast<long long>(sent_again_), per_second(open_),
      static_cast<double>(open_.cpu_nanoseconds) / count, per_second(confirm_),
      static_cast<double>(confirm_.cpu_nanoseconds) / count);
}

void Newcomers::PrintLater() const {
  std::printf("{\"clients\": %zu, \"sent_again\": %lld, \"seconds\": %.9g}\n",
              clients_.size(), static_cast<long long>(sent_again_),
              static_cast<double>(later_.nanoseconds) / 1e9);
}

int Main(int argc, char** argv) {
  Options options;
  if (!Parse(argc, argv, &options)) {
    std::fputs(
        "usage: newcomers --target ADDRESS --clients N --under-way N "
        "[--cpu-pid PID] [--trips-later N]\n",
        stderr);
    return 2;
  }
  rlimit descriptors;
  if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
  }
  Newcomers newcomers(options);
  if (!newcomers.Open()) return 1;
  if (!newcomers.Run()) {
    std::fputs("newcomers: not all got replies\n", stderr);
    return 1;
  }
  newcomers.Print();
  std::fflush(stdout);
  if (options.trips_later == 0 || std::getchar() == EOF) return 0;
  if (!newcomers.RunLater()) {
    std::fputs("newcomers: not all got replies later\n", stderr);
    return 1;
  }
  newcomers.PrintLater();
  return 0;
}

}  // namespace
}  // namespace bench
}  // namespace udpgate

int main(int argc, char** argv) { return udpgate::bench::Main(argc, argv); }
