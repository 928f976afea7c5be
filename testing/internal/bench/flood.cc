// A flood of new clients with forged addresses.
//
//   flood --target 127.0.0.1:PORT [--rate N] [--seconds S] [--size BYTES]
//         [--seed N] [--datagrams N] [--gap-ms MS]
//
// Sends so many datagrams a second, evenly paced, each from a random port and
// a random address in 127.1.0.0 to 127.255.255.255: nearly every one is a new
// client, and nobody sees the replies. With --datagrams each client sends so
// many, about --gap-ms one after the other. The headers are written here and
// sent through a raw socket (raw(7)), for which a process needs CAP_NET_RAW.
//
// Prints one JSON object. The exit status is 0 unless the run itself failed,
// and 77 where raw sockets are not allowed.
#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace bench {
namespace {

constexpr int64_t kSecondNanoseconds = 1'000'000'000;
constexpr int64_t kTurnNanoseconds = 1'000'000;
constexpr int kExitNotAllowed = 77;
// By one system call at most.
constexpr size_t kBatchMax = 256;
constexpr size_t kHeaderBytes = sizeof(iphdr) + sizeof(udphdr);
constexpr uint16_t kPortMin = 1024;
constexpr int kSendBufferBytes = 8 << 20;

struct Options {
  SocketAddress target;
  int64_t rate_per_second = 50'000;
  double seconds = 30;
  size_t size_bytes = 64;
  uint64_t seed = 1;
  uint64_t datagrams = 1;  // of each client
  int64_t gap_milliseconds = 100;
};

// The `i`-th of a sequence of random numbers (SplitMix64 of Steele, Lea and
// Flood, 2014), so that a client can be named again later without its being
// kept.
uint64_t RandomNumber(uint64_t seed, uint64_t i) {
  uint64_t z = seed * 0xd1342543de82ef95 + (i + 1) * 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

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

class Flood {
 public:
  explicit Flood(const Options& options);

  // False with errno where there is no raw socket to be had.
  bool Open();
  void Run();
  void Print() const;

 private:
  char* packet(size_t i) { return &bytes_[i * packet_bytes_]; }
  // A forged client for each of the first `count` packets.
  void Forge(size_t count);
  // Whose the next datagram is.
  uint64_t NextClient();
  void Send(size_t count);

  const Options options_;
  const size_t packet_bytes_;
  // Clients that begin between two datagrams of one.
  const uint64_t clients_per_gap_;
  uint64_t turn_ = 0;
  internal::UniqueFd fd_;
  sockaddr_in target_{};
  std::vector<char> bytes_;
  std::vector<iovec> vectors_;
  std::vector<mmsghdr> messages_;
  int64_t sent_ = 0;
  int64_t errors_ = 0;
  int64_t elapsed_nanoseconds_ = 0;
};

Flood::Flood(const Options& options)
    : options_(options),
      packet_bytes_(kHeaderBytes + options.size_bytes),
      clients_per_gap_(static_cast<uint64_t>(options.rate_per_second) *
                       static_cast<uint64_t>(options.gap_milliseconds) / 1000 /
                       options.datagrams),
      bytes_(kBatchMax * packet_bytes_),
      vectors_(kBatchMax),
      messages_(kBatchMax) {
  sockaddr_storage name;
  options.target.ToSockaddr(AF_INET, &name);
  std::memcpy(&target_, &name, sizeof(target_));

  iphdr ip{};
  ip.version = 4;
  ip.ihl = sizeof(ip) / 4;
  ip.ttl = 64;
  ip.protocol = IPPROTO_UDP;
  ip.tot_len = htons(static_cast<uint16_t>(packet_bytes_));
  ip.daddr = target_.sin_addr.s_addr;
  // The kernel fills in the checksum (raw(7)), and UDP can do without one
  // over IPv4 (RFC 768).
  udphdr udp{};
  udp.dest = target_.sin_port;
  udp.len = htons(static_cast<uint16_t>(sizeof(udp) + options.size_bytes));
  // raw(7) takes no port.
  target_.sin_port = 0;
  for (size_t i = 0; i < kBatchMax; ++i) {
    std::memcpy(packet(i), &ip, sizeof(ip));
    std::memcpy(packet(i) + sizeof(ip), &udp, sizeof(udp));
    vectors_[i] = {packet(i), packet_bytes_};
    messages_[i].msg_hdr.msg_name = &target_;
    messages_[i].msg_hdr.msg_namelen = sizeof(target_);
    messages_[i].msg_hdr.msg_iov = &vectors_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
  }
}

bool Flood::Open() {
  fd_.Reset(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!fd_.is_open()) return false;
  setsockopt(fd_.get(), SOL_SOCKET, SO_SNDBUF, &kSendBufferBytes,
             sizeof(kSendBufferBytes));
  return true;
}

// Of so many datagrams as each client sends, the first is a new client's, the
// next one of a client that began a gap ago, and so on. At the beginning, when
// there is none such, it is a client of its own.
uint64_t Flood::NextClient() {
  const uint64_t round = turn_ / options_.datagrams;
  const uint64_t age = turn_ % options_.datagrams * clients_per_gap_;
  ++turn_;
  return age <= round ? round - age : (uint64_t{1} << 63) + turn_;
}

void Flood::Forge(size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const uint64_t bits = RandomNumber(options_.seed, NextClient());
    // 127.1.0.0 and up: the clients that play have addresses below.
    const uint32_t host = static_cast<uint32_t>(bits & 0xffff);
    const uint32_t network = static_cast<uint32_t>(bits >> 16 & 0xff) % 255 + 1;
    const uint32_t source = htonl(uint32_t{127} << 24 | network << 16 | host);
    const auto port = static_cast<uint16_t>(
        kPortMin + (bits >> 32) % (UINT16_MAX + 1 - kPortMin));
    const uint16_t source_port = htons(port);
    std::memcpy(packet(i) + offsetof(iphdr, saddr), &source, sizeof(source));
    std::memcpy(packet(i) + sizeof(iphdr) + offsetof(udphdr, source),
                &source_port, sizeof(source_port));
    std::memcpy(packet(i) + kHeaderBytes, &bits,
                std::min(options_.size_bytes, sizeof(bits)));
  }
}

void Flood::Send(size_t count) {
  for (size_t begin = 0; begin < count;) {
    const int sent = sendmmsg(fd_.get(), &messages_[begin],
                              static_cast<unsigned int>(count - begin), 0);
    if (sent > 0) {
      sent_ += sent;
      begin += static_cast<size_t>(sent);
    } else {
      ++errors_;
      ++begin;
    }
  }
}

void Flood::Run() {
  const int64_t begin = Now();
  const int64_t end = begin + static_cast<int64_t>(options_.seconds * 1e9);
  int64_t last = begin;
  // What is due in parts of a datagram, each of a billionth.
  int64_t due_billionths = 0;
  for (int64_t now = begin; now < end; now = Now()) {
    const int64_t most = static_cast<int64_t>(kBatchMax) * kSecondNanoseconds;
    due_billionths +=
        std::min(now - last, kSecondNanoseconds) * options_.rate_per_second;
    const auto count = static_cast<size_t>(std::min(due_billionths, most) /
                                           kSecondNanoseconds);
    due_billionths -= static_cast<int64_t>(count) * kSecondNanoseconds;
    last = now;
    Forge(count);
    Send(count);
    if (due_billionths < kSecondNanoseconds) {
      SleepUntil(std::min(end, now + kTurnNanoseconds));
    }
  }
  elapsed_nanoseconds_ = Now() - begin;
}

void Flood::Print() const {
  const double seconds = static_cast<double>(elapsed_nanoseconds_) / 1e9;
  absl::PrintF(
      "{\"seconds\": %.15g, \"sent\": %d, \"errors\": %d, "
      "\"per_second\": %.15g}\n",
      seconds, sent_, errors_, static_cast<double>(sent_) / seconds);
}

bool ParseOption(int name, const char* value, Options* options) {
  switch (name) {
    case 't': {
      const auto target = SocketAddress::Parse(value);
      if (target.ok()) options->target = *target;
      return target.ok() && target->is_ipv4() && target->is_loopback();
    }
    case 'r':
      return absl::SimpleAtoi(value, &options->rate_per_second);
    case 'd':
      return absl::SimpleAtod(value, &options->seconds);
    case 's':
      return absl::SimpleAtoi(value, &options->size_bytes);
    case 'e':
      return absl::SimpleAtoi(value, &options->seed);
    case 'n':
      return absl::SimpleAtoi(value, &options->datagrams);
    case 'g':
      return absl::SimpleAtoi(value, &options->gap_milliseconds);
    default:
      return false;
  }
}

bool ParseOptions(int argc, char** argv, Options* options) {
  static constexpr option kOptions[] = {
      {"target", required_argument, nullptr, 't'},
      {"rate", required_argument, nullptr, 'r'},
      {"seconds", required_argument, nullptr, 'd'},
      {"size", required_argument, nullptr, 's'},
      {"seed", required_argument, nullptr, 'e'},
      {"datagrams", required_argument, nullptr, 'n'},
      {"gap-ms", required_argument, nullptr, 'g'},
      {}};
  int name;
  while ((name = getopt_long(argc, argv, "", kOptions, nullptr)) != -1) {
    if (!ParseOption(name, optarg, options)) return false;
  }
  // Only ever to this machine.
  return optind == argc && options->target.is_valid() &&
         options->rate_per_second >= 1 &&
         options->rate_per_second <= 1'000'000 && options->seconds > 0 &&
         options->seconds <= 3600 && options->size_bytes <= 1400 &&
         options->datagrams >= 1 && options->datagrams <= 1000 &&
         options->gap_milliseconds >= 0 && options->gap_milliseconds <= 60'000;
}

int Main(int argc, char** argv) {
  Options options;
  if (!ParseOptions(argc, argv, &options)) {
    std::fputs(
        "usage: flood --target 127.0.0.1:PORT [--rate N] [--seconds S]\n"
        "  [--size BYTES] [--seed N] [--datagrams N] [--gap-ms MS]\n",
        stderr);
    return 2;
  }
  Flood flood(options);
  if (!flood.Open()) {
    const int error = errno;
    std::fprintf(stderr, "flood: no raw socket: %s\n",
                 internal::ErrnoToText(error).c_str());
    return error == EPERM || error == EACCES ? kExitNotAllowed : 1;
  }
  flood.Run();
  flood.Print();
  return 0;
}

}  // namespace
}  // namespace bench
}  // namespace udpgate

int main(int argc, char** argv) { return udpgate::bench::Main(argc, argv); }
