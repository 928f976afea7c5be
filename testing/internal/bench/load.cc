// The load generator: many clients, one thread.
//
//   load --target ADDRESS [options]
//
// Each client is a connected socket of its own. With --window each keeps so
// many datagrams under way (closed loop); with --rate so many datagrams a
// second are sent in all, evenly paced, whether or not replies come (open
// loop). Prints one JSON object. The exit status is 0 unless the run itself
// failed; with --check also unless every datagram came back whole, once and in
// order.
//
// It shares the machine with what it measures, so it is made to cost little.
// A round trip ends when the kernel takes the reply in (SO_TIMESTAMPNS,
// socket(7)), not when this program reads it: what the generator's own thread
// waits for a core is not held against the gateway. In an open loop nothing
// then hurries: the replies of a client are read just before its next turn to
// send, and none of them wakes a thread.
//
// With --cold the clients are newcomers: each sends one datagram and no more,
// at the given rate. With --await-line a program that directs several
// generators says when: `ready` is printed once all is prepared, and the rest
// waits for a line on standard input.
//
// With --join each client is a player of NetherNet: it joins by the signaling
// at that address, and its first datagram is the STUN request of that join.
// What it sends then is no WebRTC; the gateway does not look at it.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "testing/internal/bench/latency_histogram.h"
#include "testing/internal/bench/load_messages.h"
#include "testing/internal/bench/load_options.h"
#include "testing/internal/bench/probe.h"
#include "testing/internal/bench/signaling_client.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace bench {
namespace {

constexpr int64_t kSecondNanoseconds = 1'000'000'000;
constexpr int64_t kMillisecondNanoseconds = 1'000'000;
// A client of a closed loop that got nothing for so long starts anew.
constexpr int64_t kStallNanoseconds = 250 * kMillisecondNanoseconds;
constexpr int64_t kSetupNanosecondsMax = 10 * kSecondNanoseconds;
constexpr int kEventsMax = 128;
constexpr int kClientSocketBufferBytes = 1 << 20;
// An address of loopback serves so many clients, lest its ports run out.
constexpr int kClientsPerAddress = 4096;

int64_t ReadClock(clockid_t clock) {
  timespec now;
  return clock_gettime(clock, &now) == 0 ? ToNanoseconds(now) : -1;
}

int64_t Now() { return ReadClock(CLOCK_MONOTONIC); }

void SleepUntil(int64_t nanoseconds) {
  const timespec until{nanoseconds / kSecondNanoseconds,
                       nanoseconds % kSecondNanoseconds};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
}

// What the kernel's time stamps, of the clock that can be set, are ahead of
// Now().
int64_t StampsAheadNanoseconds() { return ReadClock(CLOCK_REALTIME) - Now(); }

struct Client {
  internal::UniqueFd fd;
  SequenceTracker replies;
  uint64_t next_sequence = 0;
  // Numbers below are not waited for any more.
  uint64_t given_up_before = 0;
  // The numbers that count: sent while measuring.
  uint64_t measured_begin = UINT64_MAX;
  uint64_t measured_end = UINT64_MAX;
  int64_t last_reply_nanoseconds = 0;

  int under_way() const {
    return static_cast<int>(next_sequence -
                            std::max(given_up_before, replies.next()));
  }
};

struct Counts {
  int64_t sent = 0;               // while measuring
  int64_t answered = 0;           // of these
  int64_t replies_in_window = 0;  // that came while measuring
  int64_t reordered = 0;          // these three in the whole run
  int64_t duplicates = 0;
  int64_t corrupt = 0;
  int64_t send_errors = 0;
};

class Load {
 public:
  explicit Load(const LoadOptions& options)
      : options_(options),
        // Its lowest byte comes first; 192 and above is neither STUN nor DTLS
        // (RFC 7983), which a gateway with signaling drops without a join.
        run_(static_cast<uint32_t>(Now() ^ (int64_t{getpid()} << 16)) | 0xc0),
        clients_(static_cast<size_t>(options.client_count)),
        outgoing_(options.size_bytes),
        // A byte more than fits: a datagram that grew is noticed.
        incoming_(options.size_bytes + 1) {}

  // Opens the sockets and, unless cold, waits until every client has had a
  // reply.
  bool Setup();
  // Writes the clients' own addresses to the file that the options name.
  bool WriteAddresses() const;
  void Run();
  std::string ToJson() const;
  bool IsFlawless() const {
    return counts_.answered == counts_.sent && counts_.sent > 0 &&
           counts_.reordered == 0 && counts_.duplicates == 0 &&
           counts_.corrupt == 0 && counts_.send_errors == 0;
  }

 private:
  bool Open(size_t index);
  // Each client joins, and gets its STUN request back from the echo backend.
  bool JoinAll();
  bool AwaitReplies();
  void DriveClosedLoop(int64_t until);
  void DriveOpenLoop(int64_t until);
  void RefillStalled();
  void Send(size_t index, int count, int64_t now);
  void Poll(int64_t wait_nanoseconds);
  void ReceiveFrom(size_t index);
  int ReceiveAtMost(size_t index, int count_max);
  // Of all clients that wait for a reply; false if there are none left.
  bool ReceiveWaited();
  void OnReply(size_t index, absl::Span<const char> datagram, int64_t arrival);
  bool is_closed_loop() const { return options_.window > 0; }
  void BeginMeasuring();
  void EndMeasuring();
  void Drain();
  int64_t GateCpuNanoseconds() const;

  const LoadOptions options_;
  const uint32_t run_;
  const int64_t stamps_ahead_nanoseconds_ = StampsAheadNanoseconds();
  internal::UniqueFd epoll_;  // in a closed loop only
  std::vector<Client> clients_;
  Messages outgoing_;
  Messages incoming_;

  bool is_measuring_ = false;
  int64_t pace_begin_ = 0;
  int64_t bursts_sent_ = 0;

  int64_t window_begin_ = INT64_MAX;
  int64_t window_end_ = INT64_MAX;
  int64_t gate_cpu_nanoseconds_ = 0;
  int64_t own_cpu_nanoseconds_ = 0;
  Counts counts_;
  LatencyHistogram round_trips_;
  LatencyHistogram send_delays_;
};

bool Load::Open(size_t index) {
  Client& client = clients_[index];
  const int family = options_.target.family();
  client.fd.Reset(socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!client.fd.is_open()) return false;
  for (const int option : {SO_RCVBUF, SO_SNDBUF}) {
    setsockopt(client.fd.get(), SOL_SOCKET, option, &kClientSocketBufferBytes,
               sizeof(kClientSocketBufferBytes));
  }
  constexpr int kOn = 1;
  setsockopt(client.fd.get(), SOL_SOCKET, SO_TIMESTAMPNS, &kOn, sizeof(kOn));
  if (options_.target.is_ipv4() && options_.target.is_loopback()) {
    sockaddr_in source{};
    source.sin_family = AF_INET;
    // No newcomer has the address of a client before it.
    const uint32_t first = INADDR_LOOPBACK + (options_.is_cold ? 0x100 : 0);
    source.sin_addr.s_addr =
        htonl(first + static_cast<uint32_t>(index / kClientsPerAddress));
    if (bind(client.fd.get(), reinterpret_cast<sockaddr*>(&source),
             sizeof(source)) != 0) {
      return false;
    }
  }
  sockaddr_storage target;
  const socklen_t target_bytes = options_.target.ToSockaddr(family, &target);
  if (connect(client.fd.get(), reinterpret_cast<sockaddr*>(&target),
              target_bytes) != 0) {
    return false;
  }
  if (!is_closed_loop()) return true;
  // Edge-triggered: ReceiveFrom leaves nothing behind that is waited for.
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.u64 = index;
  return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, client.fd.get(), &event) == 0;
}

bool Load::Setup() {
  if (is_closed_loop()) epoll_.Reset(epoll_create1(EPOLL_CLOEXEC));
  for (size_t i = 0; i < clients_.size(); ++i) {
    if (Open(i)) continue;
    std::fprintf(stderr, "load: client %zu: %s\n", i,
                 internal::ErrnoToText(errno).c_str());
    return false;
  }
  if (!options_.addresses_path.empty() && !WriteAddresses()) return false;
  if (options_.signaling.is_valid() && !JoinAll()) return false;
  return options_.is_cold || AwaitReplies();
}

bool Load::JoinAll() {
  for (size_t i = 0; i < clients_.size(); ++i) {
    absl::StatusOr<SignalingClient> player =
        SignalingClient::Connect(options_.signaling);
    const absl::StatusOr<JoinAnswer> answer =
        player.ok() ? player->Join(i + 1) : player.status();
    if (!answer.ok()) {
      std::fprintf(stderr, "load: client %zu: %s\n", i,
                   answer.status().ToString().c_str());
      return false;
    }
    const std::string first = FirstDatagramOf(*answer);
    const int fd = clients_[i].fd.get();
    std::string reply(first.size() + 1, '\0');
    pollfd readable{fd, POLLIN, 0};
    if (send(fd, first.data(), first.size(), 0) < 0 ||
        poll(&readable, 1, 1000) != 1 ||
        recv(fd, &reply[0], reply.size(), 0) !=
            static_cast<ssize_t>(first.size())) {
      std::fprintf(stderr, "load: client %zu: no reply to its STUN request\n",
                   i);
      return false;
    }
  }
  return true;
}

bool Load::WriteAddresses() const {
  std::string text;
  for (const Client& client : clients_) {
    sockaddr_storage name;
    socklen_t name_bytes = sizeof(name);
    auto* const raw_name = reinterpret_cast<sockaddr*>(&name);
    if (getsockname(client.fd.get(), raw_name, &name_bytes) != 0) return false;
    absl::StrAppend(
        &text, SocketAddress::FromSockaddr(raw_name, name_bytes).ToString(),
        "\n");
  }
  FILE* const file = std::fopen(options_.addresses_path.c_str(), "we");
  if (file == nullptr) return false;
  const bool is_written =
      std::fwrite(text.data(), 1, text.size(), file) == text.size();
  return std::fclose(file) == 0 && is_written;
}

bool Load::AwaitReplies() {
  // Thirty-two first datagrams a millisecond; again for whom no reply came.
  const int64_t deadline = Now() + kSetupNanosecondsMax;
  while (Now() < deadline) {
    int waiting = 0;
    for (size_t i = 0; i < clients_.size(); ++i) {
      if (clients_[i].replies.next() > 0) continue;
      Send(i, 1, Now());
      if (++waiting % 32 == 0) SleepUntil(Now() + kMillisecondNanoseconds);
    }
    if (waiting == 0) {
      counts_ = {};
      return true;
    }
    const int64_t again = Now() + 100 * kMillisecondNanoseconds;
    while (ReceiveWaited() && Now() < again) {
      SleepUntil(Now() + kMillisecondNanoseconds);
    }
  }
  std::fprintf(stderr, "load: a client got no reply from %s\n",
               options_.target.ToString().c_str());
  return false;
}

void Load::Run() {
  if (options_.is_cold) {
    pace_begin_ = Now();
    BeginMeasuring();
    DriveOpenLoop(INT64_MAX);
    EndMeasuring();
    Drain();
    return;
  }
  const auto drive = [this](int64_t begin, double seconds) {
    const int64_t until = begin + static_cast<int64_t>(seconds * 1e9);
    is_closed_loop() ? DriveClosedLoop(until) : DriveOpenLoop(until);
  };
  pace_begin_ = Now();
  for (Client& client : clients_) client.given_up_before = client.next_sequence;
  if (is_closed_loop()) {
    for (size_t i = 0; i < clients_.size(); ++i) {
      Send(i, options_.window, Now());
    }
  }
  drive(pace_begin_, options_.warmup_seconds);
  BeginMeasuring();
  drive(window_begin_, options_.seconds);
  EndMeasuring();
  Drain();
}

void Load::DriveClosedLoop(int64_t until) {
  int64_t next_look = 0;
  for (int64_t now = Now(); now < until; now = Now()) {
    if (now >= next_look) {
      RefillStalled();
      next_look = now + 50 * kMillisecondNanoseconds;
    }
    Poll(std::min(until, next_look) - now);
  }
}

void Load::DriveOpenLoop(int64_t until) {
  const int64_t spacing_per_billion = kSecondNanoseconds * options_.burst;
  for (int64_t now = Now(); now < until; now = Now()) {
    if (options_.is_cold && bursts_sent_ == options_.client_count) return;
    const int64_t due = pace_begin_ + bursts_sent_ * spacing_per_billion /
                                          options_.rate_per_second;
    if (due > now) {
      SleepUntil(std::min(due, until));
      continue;
    }
    if (is_measuring_) send_delays_.Record(now - due);
    Send(static_cast<size_t>(bursts_sent_ % options_.client_count),
         options_.burst, now);
    ++bursts_sent_;
    ReceiveFrom(static_cast<size_t>(bursts_sent_ % options_.client_count));
  }
}

void Load::RefillStalled() {
  const int64_t now = Now();
  for (size_t i = 0; i < clients_.size(); ++i) {
    Client& client = clients_[i];
    if (now - client.last_reply_nanoseconds < kStallNanoseconds) continue;
    client.given_up_before = client.next_sequence;
    client.last_reply_nanoseconds = now;
    Send(i, options_.window, now);
  }
}

void Load::Send(size_t index, int count, int64_t now) {
  Client& client = clients_[index];
  Probe probe;
  probe.run = run_;
  probe.client = static_cast<uint32_t>(index);
  probe.sent_nanoseconds = now;
  for (int i = 0; i < count; ++i) {
    probe.sequence = client.next_sequence + static_cast<uint64_t>(i);
    WriteProbe(probe, outgoing_.buffer(i));
  }
  for (int begin = 0; begin < count;) {
    const int sent = outgoing_.Send(client.fd.get(), begin, count);
    // The number of a datagram that the kernel did not take is not used
    // again; it counts as lost, and as an error too.
    if (sent <= 0) ++counts_.send_errors;
    begin += sent > 0 ? sent : 1;
  }
  client.next_sequence += static_cast<uint64_t>(count);
  if (is_measuring_) counts_.sent += count;
}

// Closed loop: replies let the next ones go.
void Load::Poll(int64_t wait_nanoseconds) {
  epoll_event events[kEventsMax];
  const timespec wait{wait_nanoseconds / kSecondNanoseconds,
                      wait_nanoseconds % kSecondNanoseconds};
  const int count =
      epoll_pwait2(epoll_.get(), events, kEventsMax, &wait, nullptr);
  for (int i = 0; i < count; ++i) {
    const size_t index = events[i].data.u64;
    ReceiveFrom(index);
    const int room = options_.window - clients_[index].under_way();
    if (room > 0) Send(index, room, Now());
  }
}

// As long as there is something to wait for, which spares most calls that
// would find nothing.
void Load::ReceiveFrom(size_t index) {
  for (int count_max; (count_max = std::min(clients_[index].under_way(),
                                            kLoadBatchMax)) > 0;) {
    if (ReceiveAtMost(index, count_max) < count_max) return;
  }
}

int Load::ReceiveAtMost(size_t index, int count_max) {
  Client& client = clients_[index];
  const int count = incoming_.Receive(client.fd.get(), count_max);
  for (int i = 0; i < count; ++i) {
    const int64_t stamp = incoming_.stamp_nanoseconds(i);
    const int64_t arrival =
        stamp == 0 ? Now() : stamp - stamps_ahead_nanoseconds_;
    client.last_reply_nanoseconds = arrival;
    OnReply(index, incoming_.received(i), arrival);
  }
  return count;
}

bool Load::ReceiveWaited() {
  bool is_waiting = false;
  for (size_t i = 0; i < clients_.size(); ++i) {
    ReceiveFrom(i);
    is_waiting |= clients_[i].under_way() > 0;
  }
  return is_waiting;
}

void Load::OnReply(size_t index, absl::Span<const char> datagram,
                   int64_t arrival) {
  Client& client = clients_[index];
  const absl::optional<Probe> probe = ReadProbe(datagram);
  if (datagram.size() != options_.size_bytes || !probe.has_value() ||
      probe->run != run_ || probe->client != index ||
      probe->sequence >= client.next_sequence) {
    ++counts_.corrupt;
    return;
  }
  switch (client.replies.Note(probe->sequence)) {
    case SequenceTracker::Verdict::kDuplicate:
      ++counts_.duplicates;
      return;
    case SequenceTracker::Verdict::kReordered:
      ++counts_.reordered;
      break;
    case SequenceTracker::Verdict::kInOrder:
      break;
  }
  if (arrival >= window_begin_ && arrival < window_end_) {
    ++counts_.replies_in_window;
  }
  if (probe->sequence < client.measured_begin ||
      probe->sequence >= client.measured_end) {
    return;
  }
  ++counts_.answered;
  round_trips_.Record(arrival - probe->sent_nanoseconds);
}

int64_t Load::GateCpuNanoseconds() const {
  int64_t sum = 0;
  for (const clockid_t clock : options_.cpu_clocks) {
    const int64_t nanoseconds = ReadClock(clock);
    if (nanoseconds < 0) return -1;
    sum += nanoseconds;
  }
  return sum;
}

void Load::BeginMeasuring() {
  for (Client& client : clients_) client.measured_begin = client.next_sequence;
  is_measuring_ = true;
  own_cpu_nanoseconds_ = ReadClock(CLOCK_PROCESS_CPUTIME_ID);
  gate_cpu_nanoseconds_ = GateCpuNanoseconds();
  window_begin_ = Now();
}

void Load::EndMeasuring() {
  const int64_t gate_cpu_nanoseconds = GateCpuNanoseconds();
  window_end_ = Now();
  own_cpu_nanoseconds_ =
      ReadClock(CLOCK_PROCESS_CPUTIME_ID) - own_cpu_nanoseconds_;
  // A process that ended meanwhile has no clock any more.
  gate_cpu_nanoseconds_ = gate_cpu_nanoseconds < 0 || gate_cpu_nanoseconds_ < 0
                              ? -1
                              : gate_cpu_nanoseconds - gate_cpu_nanoseconds_;
  is_measuring_ = false;
  for (Client& client : clients_) client.measured_end = client.next_sequence;
}

// Reads what is still expected, and then what no client waits for.
void Load::Drain() {
  const int64_t deadline =
      Now() + static_cast<int64_t>(options_.drain_seconds * 1e9);
  ReceiveWaited();
  while (counts_.answered < counts_.sent && Now() < deadline) {
    SleepUntil(Now() + kMillisecondNanoseconds);
    ReceiveWaited();
  }
  for (size_t i = 0; i < clients_.size(); ++i) {
    while (ReceiveAtMost(i, kLoadBatchMax) == kLoadBatchMax) {
    }
  }
}

std::string Load::ToJson() const {
  const double seconds = static_cast<double>(window_end_ - window_begin_) / 1e9;
  std::string json = "{";
  const auto add = [&json](absl::string_view name, double value) {
    absl::StrAppendFormat(&json, "%s\"%s\": %.15g", json.size() > 1 ? ", " : "",
                          name, value);
  };
  const auto add_count = [&add](absl::string_view name, int64_t value) {
    add(name, static_cast<double>(value));
  };
  add("seconds", seconds);
  add_count("sent", counts_.sent);
  add_count("answered", counts_.answered);
  add_count("lost", counts_.sent - counts_.answered);
  add_count("replies", counts_.replies_in_window);
  add("replies_per_second",
      static_cast<double>(counts_.replies_in_window) / seconds);
  add_count("reordered", counts_.reordered);
  add_count("duplicates", counts_.duplicates);
  add_count("corrupt", counts_.corrupt);
  add_count("send_errors", counts_.send_errors);
  add_count("gate_cpu_ns", gate_cpu_nanoseconds_);
  add_count("own_cpu_ns", own_cpu_nanoseconds_);
  add_count("p50_ns", round_trips_.PercentileNanoseconds(50));
  add_count("p99_ns", round_trips_.PercentileNanoseconds(99));
  add_count("p99_9_ns", round_trips_.PercentileNanoseconds(99.9));
  add_count("max_ns", round_trips_.max_nanoseconds());
  add_count("send_delay_p99_ns", send_delays_.PercentileNanoseconds(99));
  return json + "}";
}

int Main(int argc, char** argv) {
  LoadOptions options;
  if (!ParseLoadOptions(argc, argv, &options)) {
    std::fputs(kLoadUsage, stderr);
    return 2;
  }
  rlimit descriptors;
  if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
  }
  // Else a timer may fire 50 us late (prctl(2)).
  prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);

  // Large for a stack.
  const auto load = std::make_unique<Load>(options);
  if (!load->Setup()) return 1;
  if (options.awaits_line) {
    std::puts("ready");
    std::fflush(stdout);
    if (std::getchar() == EOF) return 1;
  }
  load->Run();
  std::printf("%s\n", load->ToJson().c_str());
  if (options.check && !load->IsFlawless()) {
    std::fputs("load: not every datagram came back whole, once and in order\n",
               stderr);
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace bench
}  // namespace udpgate

int main(int argc, char** argv) { return udpgate::bench::Main(argc, argv); }
