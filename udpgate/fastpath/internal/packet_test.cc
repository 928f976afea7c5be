// Feeds the program packets of every shape, made from seeds, and compares what
// comes out, byte for byte, with a simple model of what should
// (BPF_PROG_TEST_RUN, bpf(2)).
//
// Another seed: --test_env=UDPGATE_SEED=7.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "udpgate/clock.h"
#include "udpgate/fastpath/internal/flow_table.h"
#include "udpgate/fastpath/internal/program.h"
#include "udpgate/fastpath/kernel_rights.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

using Bytes = std::vector<uint8_t>;

constexpr int kSessions = 8;  // even ones are IPv4
constexpr int kPackets = 60'000;
constexpr uint32_t kMtuBytes = 1200;
constexpr int kEthernetBytes = 14;
constexpr uint32_t kLoopbackIndex = 1;  // where a test run's packets come in
constexpr uint32_t kOtherIndex = 2;

constexpr uint32_t kContinue = 0xFFFFFFFF;  // TC_ACT_UNSPEC
constexpr uint32_t kAccept = 0;             // TC_ACT_OK
constexpr uint32_t kRedirect = 7;           // TC_ACT_REDIRECT

// --- Bytes on the wire.

uint16_t Get16(const Bytes& bytes, size_t at) {
  return static_cast<uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}

void Put16(Bytes* bytes, size_t at, int value) {
  (*bytes)[at] = static_cast<uint8_t>(value >> 8);
  (*bytes)[at + 1] = static_cast<uint8_t>(value);
}

// Sum of 16-bit words in ones' complement (RFC 1071).
uint16_t Sum(const uint8_t* data, size_t bytes, uint32_t sum = 0) {
  for (size_t i = 0; i < bytes; ++i) {
    sum += i % 2 == 0 ? static_cast<uint32_t>(data[i] << 8) : data[i];
    sum = (sum & 0xFFFF) + (sum >> 16);
  }
  return static_cast<uint16_t>(sum);
}

// RFC 1624, equation 3, for one word.
uint16_t Adjust(uint16_t checksum, uint16_t before, uint16_t after) {
  uint32_t sum = static_cast<uint16_t>(~checksum);
  sum += static_cast<uint16_t>(~before);
  sum += after;
  while (sum > 0xFFFF) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

// What the sum over UDP header, payload and pseudo-header is; 0xFFFF where the
// checksum is right.
uint16_t UdpSum(const Bytes& frame, size_t ip_bytes, size_t udp_bytes) {
  const size_t addresses = kEthernetBytes + (ip_bytes == 20 ? 12 : 8);
  uint16_t sum = Sum(&frame[addresses], ip_bytes == 20 ? 8 : 32);
  const uint8_t rest[] = {0, 17, static_cast<uint8_t>(udp_bytes >> 8),
                          static_cast<uint8_t>(udp_bytes)};
  sum = Sum(rest, 4, sum);
  return Sum(&frame[kEthernetBytes + ip_bytes], udp_bytes, sum);
}

// --- The model.

struct State {
  bool lease_is_good = true;
  uint32_t gso_bytes = 0;
  uint64_t received_nanoseconds = 0;
};

struct Verdict {
  // Why it goes up, or UDPGATE_REASONS: it is relayed.
  int reason = UDPGATE_REASONS;
  int index = -1;  // of the flow, once it is known
  size_t ip_bytes = 0;
  size_t total_bytes = 0;
  size_t udp_bytes = 0;
};

Verdict Up(int reason, int index = -1) {
  Verdict verdict;
  verdict.reason = reason;
  verdict.index = index;
  return verdict;
}

int FindFlow(const FlowTable& table, const udpgate_tuple& tuple) {
  for (uint32_t slot = 0; slot < kSessions; ++slot) {
    for (uint32_t direction = 0; direction < 2; ++direction) {
      const udpgate_tuple& expected =
          table.flow(slot, static_cast<FlowDirection>(direction)).expected;
      if (std::memcmp(&expected, &tuple, sizeof(tuple)) == 0) {
        return static_cast<int>(slot * 2 + direction);
      }
    }
  }
  return -1;
}

udpgate_tuple TupleOf(const Bytes& frame, size_t ip_bytes) {
  udpgate_tuple tuple;
  std::memset(&tuple, 0, sizeof(tuple));
  const size_t bytes = ip_bytes == 20 ? 4 : 16;
  const size_t at = kEthernetBytes + (ip_bytes == 20 ? 12 : 8);
  std::memcpy(tuple.source, &frame[at], bytes);
  std::memcpy(tuple.destination, &frame[at + bytes], bytes);
  std::memcpy(&tuple.source_port, &frame[kEthernetBytes + ip_bytes], 4);
  tuple.family = ip_bytes == 20 ? 4 : 6;
  return tuple;
}

// What a packet is, without regard to the state of its flow.
Verdict Classify(const Bytes& frame, const FlowTable& table) {
  const uint16_t type = Get16(frame, 12);
  for (int i = 0; i < 6; ++i) {
    if (frame[i] != 0) return Up(UDPGATE_OTHER_HOST);
  }
  if (type == 0x8100 || type == 0x88A8) return Up(UDPGATE_TAGGED);
  if (type != 0x0800 && type != 0x86DD) return Up(UDPGATE_OTHER_PROTOCOL);
  const size_t ip_bytes = type == 0x0800 ? 20 : 40;
  const size_t udp = kEthernetBytes + ip_bytes;
  if (frame.size() < udp + 8) return Up(UDPGATE_MALFORMED);
  const uint8_t* const ip = &frame[kEthernetBytes];
  size_t total_bytes = 0;
  bool first_fragment = false;
  if (type == 0x0800) {
    if (ip[9] != 17) return Up(UDPGATE_OTHER_PROTOCOL);
    if (ip[0] >= 0x46 && ip[0] <= 0x4F) return Up(UDPGATE_OPTIONS);
    if (ip[0] != 0x45) return Up(UDPGATE_MALFORMED);
    const uint16_t fragment = Get16(frame, kEthernetBytes + 6);
    if ((fragment & 0x1FFF) != 0) return Up(UDPGATE_FRAGMENT);
    first_fragment = (fragment & 0x2000) != 0;
    total_bytes = Get16(frame, kEthernetBytes + 2);
  } else {
    if (ip[0] >> 4 != 6) return Up(UDPGATE_MALFORMED);
    if (ip[6] != 17) return Up(UDPGATE_EXTENSION_HEADERS);
    total_bytes = Get16(frame, kEthernetBytes + 4) + 40U;
  }
  const size_t udp_bytes = Get16(frame, udp + 4);
  if (!first_fragment &&
      (udp_bytes < 8 || udp_bytes + ip_bytes != total_bytes ||
       kEthernetBytes + total_bytes > frame.size())) {
    return Up(UDPGATE_MALFORMED);
  }
  const int index = FindFlow(table, TupleOf(frame, ip_bytes));
  if (index < 0) return Up(UDPGATE_NO_FLOW);
  if (first_fragment) return Up(UDPGATE_FRAGMENT, index);
  if (ip[type == 0x0800 ? 8 : 7] <= 1) return Up(UDPGATE_HOP_LIMIT, index);
  if (type == 0x86DD && Get16(frame, udp + 6) == 0) {
    return Up(UDPGATE_NO_CHECKSUM, index);
  }
  Verdict verdict;
  verdict.index = index;
  verdict.ip_bytes = ip_bytes;
  verdict.total_bytes = total_bytes;
  verdict.udp_bytes = udp_bytes;
  return verdict;
}

// The frame that leaves.
Bytes Relayed(Bytes frame, const Verdict& verdict, const udpgate_flow& flow,
              bool is_super_packet, const udpgate_rewriting& rewriting) {
  const bool is_ipv4 = verdict.ip_bytes == 20;
  const size_t ip = kEthernetBytes;
  const size_t udp = ip + verdict.ip_bytes;
  if (!is_super_packet) frame.resize(ip + verdict.total_bytes);
  const Bytes before = frame;
  const size_t address_bytes = is_ipv4 ? 4 : 16;
  const size_t addresses = ip + (is_ipv4 ? 12 : 8);
  std::memcpy(&frame[addresses], flow.rewritten.source, address_bytes);
  std::memcpy(&frame[addresses + address_bytes], flow.rewritten.destination,
              address_bytes);
  std::memcpy(&frame[udp], &flow.rewritten.source_port, 4);
  --frame[ip + (is_ipv4 ? 8 : 7)];
  if (is_ipv4) {
    const uint16_t flags = Get16(frame, ip + 6);
    if (rewriting.dont_fragment != 0) {
      Put16(&frame, ip + 6, flags | 0x4000);
    } else if ((flags & 0x4000) != 0) {
      Put16(&frame, ip + 6, flags & ~0x4000);
      // Of the first datagram that the flow relays.
      const auto identification = static_cast<uint16_t>(
          flow.rewritten.source_port + flow.rewritten.destination_port);
      std::memcpy(&frame[ip + 4], &identification, 2);
    }
  }
  if (rewriting.clears_traffic_class != 0) {
    frame[ip] &= is_ipv4 ? 0xFF : 0xF0;
    frame[ip + 1] &= is_ipv4 ? 0x00 : 0x0F;
  }
  uint16_t udp_checksum = Get16(before, udp + 6);
  uint16_t ip_checksum = Get16(before, ip + 10);
  for (size_t at = ip; at < udp + 4; at += 2) {
    if (is_ipv4 && (at == ip + 10)) continue;
    const uint16_t old_word = Get16(before, at), new_word = Get16(frame, at);
    if (at < udp) ip_checksum = Adjust(ip_checksum, old_word, new_word);
    if (at >= addresses) {
      udp_checksum = Adjust(udp_checksum, old_word, new_word);
    }
  }
  if (is_ipv4) Put16(&frame, ip + 10, ip_checksum);
  if (Get16(before, udp + 6) != 0) {
    Put16(&frame, udp + 6, udp_checksum == 0 ? 0xFFFF : udp_checksum);
  }
  return frame;
}

// --- The generator.

// Newer kernels refuse to feed a program what ends within the IP header; such
// frames come in from an interface in namespace_test.cc.
bool CanBeFed(const Bytes& frame) {
  const uint16_t type = Get16(frame, 12);
  const size_t ip_bytes = type == 0x0800 ? 20 : type == 0x86DD ? 40 : 1;
  return frame.size() >= kEthernetBytes + ip_bytes;
}

class Generator {
 public:
  Generator(uint32_t seed, const FlowTable* table)
      : random_(seed), table_(table) {}

  bool OneIn(int n) { return Below(n) == 0; }
  int Below(int n) {
    return std::uniform_int_distribution<int>(0, n - 1)(random_);
  }

  Bytes Packet() {
    Bytes frame = OneIn(50) ? Noise() : Good();
    for (int mutations = Below(4) - 1; mutations > 0; --mutations) {
      Mutate(&frame);
    }
    return CanBeFed(frame) ? frame : Packet();
  }

 private:
  Bytes Noise() {
    Bytes frame(static_cast<size_t>(kEthernetBytes + Below(200)));
    for (uint8_t& byte : frame) byte = static_cast<uint8_t>(Below(256));
    if (!OneIn(4)) std::fill(frame.begin(), frame.begin() + 6, uint8_t{0});
    if (!OneIn(4)) Put16(&frame, 12, OneIn(2) ? 0x0800 : 0x86DD);
    return frame;
  }

  // A plain datagram of a session.
  Bytes Good() {
    const udpgate_tuple& tuple =
        table_
            ->flow(static_cast<uint32_t>(Below(kSessions)),
                   static_cast<FlowDirection>(Below(2)))
            .expected;
    const bool is_ipv4 = tuple.family == 4;
    const int payload_bytes = OneIn(8) ? Below(1400) : Below(100);
    const size_t ip = kEthernetBytes, ip_bytes = is_ipv4 ? 20 : 40;
    const size_t udp = ip + ip_bytes;
    Bytes frame(udp + 8 + static_cast<size_t>(payload_bytes));
    for (size_t i = 6; i < frame.size(); ++i) {
      frame[i] = static_cast<uint8_t>(Below(256));
    }
    Put16(&frame, 12, is_ipv4 ? 0x0800 : 0x86DD);
    const size_t address_bytes = is_ipv4 ? 4 : 16;
    const size_t addresses = ip + (is_ipv4 ? 12 : 8);
    std::memcpy(&frame[addresses], tuple.source, address_bytes);
    std::memcpy(&frame[addresses + address_bytes], tuple.destination,
                address_bytes);
    std::memcpy(&frame[udp], &tuple.source_port, 4);
    Put16(&frame, udp + 4, 8 + payload_bytes);
    frame[ip] =
        is_ipv4 ? 0x45 : static_cast<uint8_t>(0x60 | (frame[ip] & 0x0F));
    if (is_ipv4) {
      Put16(&frame, ip + 2, static_cast<int>(ip_bytes) + 8 + payload_bytes);
      Put16(&frame, ip + 6, OneIn(2) ? 0x4000 : 0);
      frame[ip + 9] = 17;
    } else {
      Put16(&frame, ip + 4, 8 + payload_bytes);
      frame[ip + 6] = 17;
    }
    FillChecksums(&frame, is_ipv4, static_cast<size_t>(payload_bytes) + 8);
    return frame;
  }

  void FillChecksums(Bytes* frame, bool is_ipv4, size_t udp_bytes) {
    const size_t ip = kEthernetBytes, ip_bytes = is_ipv4 ? 20 : 40;
    const size_t udp = ip + ip_bytes;
    // One that brings the sum to where 0 and 0xFFFF are told apart.
    if (OneIn(3) && udp_bytes >= 10) {
      Put16(frame, udp + 6, 0);
      Put16(frame, udp + 8, 0);
      Put16(frame, udp + 8,
            static_cast<uint16_t>(~UdpSum(*frame, ip_bytes, udp_bytes) +
                                  Below(5) - 2));
    }
    Put16(frame, udp + 6, 0);
    const auto checksum =
        static_cast<uint16_t>(~UdpSum(*frame, ip_bytes, udp_bytes));
    Put16(frame, udp + 6, checksum == 0 ? 0xFFFF : checksum);
    if (!is_ipv4) return;
    if (OneIn(5)) Put16(frame, udp + 6, 0);
    Put16(frame, ip + 10, 0);
    Put16(frame, ip + 10, static_cast<uint16_t>(~Sum(&(*frame)[ip], 20)));
  }

  void Mutate(Bytes* frame) {
    const size_t ip = kEthernetBytes;
    const bool is_ipv4 = Get16(*frame, 12) == 0x0800;
    const size_t udp = ip + (is_ipv4 ? 20 : 40);
    switch (Below(16)) {
      case 0:  // cut off
        frame->resize(static_cast<size_t>(
            kEthernetBytes +
            Below(static_cast<int>(frame->size()) - kEthernetBytes + 1)));
        return;
      case 1:  // padding
        frame->resize(frame->size() + static_cast<size_t>(1 + Below(46)), 0xEE);
        return;
      case 2:  // a VLAN tag
        frame->insert(frame->begin() + 12,
                      {static_cast<uint8_t>(OneIn(2) ? 0x81 : 0x88), 0x00, 0,
                       static_cast<uint8_t>(Below(256))});
        if ((*frame)[12] == 0x88) (*frame)[13] = 0xA8;
        return;
      case 3:  // to another host, or to all
        (*frame)[static_cast<size_t>(Below(6))] =
            static_cast<uint8_t>(1 + Below(255));
        return;
      default:
        break;
    }
    if (frame->size() < udp + 8) return;
    switch (Below(12)) {
      case 0:  // header size, version
        (*frame)[ip] = static_cast<uint8_t>(Below(256));
        return;
      case 1:
        (*frame)[ip] = static_cast<uint8_t>(0x40 | Below(16));
        return;
      case 2:  // fragments; a hop-by-hop, routing, fragment header
        if (is_ipv4) {
          Put16(frame, ip + 6, OneIn(2) ? 0x2000 : 1 + Below(0xFFFF));
        } else {
          constexpr uint8_t kHeaders[] = {0, 43, 44, 51, 60};
          frame->insert(frame->begin() + static_cast<int>(udp),
                        {17, 0, 0, 0, 0, 0, 0, 0});
          (*frame)[ip + 6] = kHeaders[Below(5)];
          Put16(frame, ip + 4, Get16(*frame, ip + 4) + 8);
        }
        return;
      case 3:  // time to live
        (*frame)[ip + (is_ipv4 ? 8U : 7U)] = static_cast<uint8_t>(Below(3));
        return;
      case 4:  // another protocol
        (*frame)[ip + (is_ipv4 ? 9U : 6U)] = static_cast<uint8_t>(Below(256));
        return;
      case 5:  // lengths that contradict
        Put16(frame, ip + (is_ipv4 ? 2U : 4U),
              OneIn(2)
                  ? Below(0x10000)
                  : Get16(*frame, ip + (is_ipv4 ? 2U : 4U)) + Below(5) - 2);
        return;
      case 6:
        Put16(frame, udp + 4, OneIn(2) ? Below(0x10000) : Below(12));
        return;
      case 7:  // one bit of addresses or ports
        (*frame)[ip + (is_ipv4 ? 12U : 8U) +
                 static_cast<size_t>(Below(is_ipv4 ? 12 : 36))] ^=
            static_cast<uint8_t>(1 << Below(8));
        return;
      case 8:  // a checksum that is wrong, or says that there is none
        Put16(frame, udp + 6, OneIn(2) ? 0 : Below(0x10000));
        return;
      case 9:
        if (is_ipv4) Put16(frame, ip + 10, Below(0x10000));
        return;
      case 10:  // the other family's type, or any
        Put16(frame, 12,
              OneIn(2) ? (is_ipv4 ? 0x86DD : 0x0800) : Below(0x10000));
        return;
      default:
        (*frame)[static_cast<size_t>(Below(static_cast<int>(frame->size())))] =
            static_cast<uint8_t>(Below(256));
        return;
    }
  }

  std::mt19937 random_;
  const FlowTable* const table_;
};

// --- The test.

SessionAddresses SessionNumber(uint32_t number) {
  const bool is_ipv4 = number % 2 == 0;
  const auto ip = [&](int host) {
    return is_ipv4 ? absl::StrCat("10.", number, ".0.", host)
                   : absl::StrCat("fd00:", number, "::", host);
  };
  const auto port = static_cast<uint16_t>(40000 + number);
  return {*SocketAddress::FromIpAndPort(ip(2), port),
          *SocketAddress::FromIpAndPort(ip(1), 19132),
          *SocketAddress::FromIpAndPort(ip(101), port),
          *SocketAddress::FromIpAndPort(ip(102), 19133)};
}

class PacketTest : public ::testing::Test {
 protected:
  explicit PacketTest(const udpgate_rewriting& rewriting = {})
      : rewriting_(rewriting) {}

  void SetUp() override {
    absl::StatusOr<std::unique_ptr<Program>> program =
        Program::Load(kSessions, /*verifier_log=*/nullptr, rewriting_);
    UDPGATE_NEEDS_RIGHTS(program.status());
    program_ = *std::move(program);
    table_ = std::make_unique<FlowTable>(program_.get(), kSessions);
    for (uint32_t number = 0; number < kSessions; ++number) {
      Exit exit;
      exit.packet_bytes_max = kMtuBytes;
      // The last two sessions stay on lo.
      exit.is_loopback = number >= kSessions - 2;
      exit.interface_index = exit.is_loopback ? kLoopbackIndex : kOtherIndex;
      ASSERT_EQ(table_->Take(SessionNumber(number)), number);
      ASSERT_EQ(NextRequest(), absl::StrCat("add ", number));
      ASSERT_TRUE(table_->Add(number, exit, exit).ok());
    }
  }

  std::string NextRequest() {
    const absl::optional<FlowTable::Request> request = table_->NextRequest();
    if (!request.has_value()) return "";
    return absl::StrCat(request->is_given_back ? "clear " : "add ",
                        request->slot);
  }

  struct Outcome {
    uint32_t verdict = 0;
    Bytes frame;
  };

  Outcome Feed(const Bytes& frame, const State& state) {
    *program_->lease_nanoseconds() =
        static_cast<uint64_t>(Clock::Monotonic()->NowNanoseconds() -
                              (state.lease_is_good ? 0 : 2'000'000'001));
    __sk_buff context;
    std::memset(&context, 0, sizeof(context));
    context.tstamp = state.received_nanoseconds;
    context.gso_size = state.gso_bytes;
    Outcome outcome;
    outcome.frame.resize(frame.size() + 256);
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(),
                .data_out = outcome.frame.data(),
                .data_size_in = static_cast<uint32_t>(frame.size()),
                .data_size_out = static_cast<uint32_t>(outcome.frame.size()),
                .ctx_in = &context, .ctx_size_in = sizeof(context));
    const int error = bpf_prog_test_run_opts(program_->program_fd(), &options);
    EXPECT_EQ(error, 0) << std::strerror(-error);
    outcome.frame.resize(options.data_size_out);
    outcome.verdict = options.retval;
    return outcome;
  }

  const udpgate_rewriting rewriting_;
  std::unique_ptr<Program> program_;
  std::unique_ptr<FlowTable> table_;
};

class RewritingTest : public PacketTest,
                      public ::testing::WithParamInterface<udpgate_rewriting> {
 protected:
  RewritingTest() : PacketTest(GetParam()) {}
};
INSTANTIATE_TEST_SUITE_P(All, RewritingTest,
                         ::testing::Values(udpgate_rewriting{0, 0},
                                           udpgate_rewriting{1, 1},
                                           udpgate_rewriting{1, 0},
                                           udpgate_rewriting{0, 1}));

// How far the hand-over of a flow is.
enum class HandOver {
  kComplete,
  kCompleteAndKnown,  // that the other direction was seen is noted
  kNothingSeen,
  kUnderWay,  // the process has not dealt with the last one
  kOtherDirectionNotSeen,
  kOtherInterface,
};
constexpr int kHandOvers = 6;

void Prepare(HandOver hand_over, uint64_t received, udpgate_flow* flow,
             udpgate_activity* own, udpgate_activity* other) {
  std::memset(own, 0, sizeof(*own));
  std::memset(other, 0, sizeof(*other));
  own->passed_up_nanoseconds = flow->handled_nanoseconds = received;
  own->seen_interface = other->seen_interface = kLoopbackIndex;
  switch (hand_over) {
    case HandOver::kComplete:
      break;
    case HandOver::kCompleteAndKnown:
      own->peer_was_seen = 1;
      break;
    case HandOver::kNothingSeen:
      own->passed_up_nanoseconds = flow->handled_nanoseconds = 0;
      own->seen_interface = 0;
      break;
    case HandOver::kUnderWay:
      flow->handled_nanoseconds -= 1;
      break;
    case HandOver::kOtherDirectionNotSeen:
      other->seen_interface = 0;
      break;
    case HandOver::kOtherInterface:
      own->seen_interface = kOtherIndex;
      break;
  }
}

// The whole verdict: what the packet is, and the state of its flow.
Verdict Decide(Verdict verdict, const State& state, HandOver hand_over) {
  if (verdict.reason != UDPGATE_REASONS) return verdict;
  const size_t bytes = state.gso_bytes == 0
                           ? verdict.total_bytes
                           : verdict.ip_bytes + 8 + state.gso_bytes;
  if (bytes > kMtuBytes) {
    verdict.reason = UDPGATE_TOO_BIG;
  } else if (!state.lease_is_good) {
    verdict.reason = UDPGATE_LEASE;
  } else if (hand_over != HandOver::kComplete &&
             hand_over != HandOver::kCompleteAndKnown) {
    verdict.reason = UDPGATE_OBSERVING;
  }
  return verdict;
}

TEST_P(RewritingTest, AgreesWithTheModelOnPacketsOfEveryShape) {
  const char* const text = std::getenv("UDPGATE_SEED");
  const auto seed = static_cast<uint32_t>(text == nullptr ? 1 : atoi(text));
  Generator generator(seed, table_.get());
  const auto begin_nanoseconds =
      static_cast<uint64_t>(Clock::Monotonic()->NowNanoseconds());
  std::array<uint64_t, UDPGATE_REASONS + 1> verdicts{};
  std::array<uint64_t, UDPGATE_REASONS> counted = program_->PassedUp();
  for (int number = 0; number < kPackets; ++number) {
    const Bytes frame = generator.Packet();
    State state;
    state.lease_is_good = !generator.OneIn(20);
    if (generator.OneIn(20)) {
      state.gso_bytes = static_cast<uint32_t>(1 + generator.Below(1500));
    }
    const auto hand_over = static_cast<HandOver>(
        generator.OneIn(3) ? generator.Below(kHandOvers) : 0);
    const uint64_t before = 1'000'000 + static_cast<uint64_t>(number);
    state.received_nanoseconds = generator.OneIn(10)   ? 0
                                 : generator.OneIn(10) ? before
                                                       : before + 1000;
    const Verdict is = Classify(frame, *table_);
    const auto index = static_cast<uint32_t>(std::max(is.index, 0));
    udpgate_activity& own = program_->activity(index);
    udpgate_flow& flow = program_->flow(index);
    Prepare(hand_over, before, &flow, &own, &program_->activity(index ^ 1));
    const uint64_t passed_up_before = own.passed_up_nanoseconds;
    const Verdict expected = Decide(is, state, hand_over);

    const Outcome outcome = Feed(frame, state);

    SCOPED_TRACE(absl::StrCat(
        "seed ", seed, " packet ", number, " reason ", expected.reason, ": ",
        absl::BytesToHexString(absl::string_view(
            reinterpret_cast<const char*>(frame.data()), frame.size()))));
    ++verdicts[static_cast<size_t>(expected.reason)];
    if (expected.reason == UDPGATE_REASONS) {
      ASSERT_EQ(outcome.verdict, flow.is_loopback ? kAccept : kRedirect);
      ASSERT_EQ(outcome.frame, Relayed(frame, expected, flow,
                                       state.gso_bytes != 0, rewriting_));
      const uint64_t payload_bytes = expected.udp_bytes - 8;
      ASSERT_EQ(own.payload_bytes, payload_bytes);
      ASSERT_EQ(own.datagrams,
                state.gso_bytes == 0
                    ? 1
                    : (payload_bytes + state.gso_bytes - 1) / state.gso_bytes);
      ASSERT_GT(own.last_relayed_nanoseconds, begin_nanoseconds);
      ASSERT_LE(own.last_relayed_nanoseconds,
                static_cast<uint64_t>(Clock::Monotonic()->NowNanoseconds()));
      ASSERT_EQ(own.passed_up_nanoseconds, passed_up_before);
    } else {
      ASSERT_EQ(outcome.verdict, kContinue);
      ASSERT_EQ(outcome.frame, frame);
      ASSERT_EQ(own.datagrams, 0u);
      ++counted[static_cast<size_t>(expected.reason)];
      ASSERT_EQ(program_->PassedUp(), counted);
      if (expected.index < 0) continue;
      const uint64_t received =
          state.gso_bytes == 0 ? state.received_nanoseconds : 0;
      ASSERT_EQ(own.passed_up_nanoseconds,
                received == passed_up_before ? 0 : received);
      ASSERT_EQ(own.seen_interface, kLoopbackIndex);
    }
  }
  // The generator reaches every verdict; none of the kernel's helpers refused.
  for (size_t reason = 0; reason < verdicts.size(); ++reason) {
    if (reason == UDPGATE_FAILED) continue;
    EXPECT_GT(verdicts[reason], 20u) << "reason " << reason;
  }
}

// --- One packet at a time.

class OnePacketTest : public PacketTest {
 protected:
  // A plain datagram of this flow with a right checksum.
  Bytes Good(uint32_t index) {
    Generator generator(index, table_.get());
    for (;;) {
      Bytes frame = generator.Packet();
      const Verdict verdict = Classify(frame, *table_);
      if (verdict.reason == UDPGATE_REASONS &&
          verdict.index == static_cast<int>(index) &&
          verdict.total_bytes <= kMtuBytes &&
          UdpSum(frame, verdict.ip_bytes, verdict.udp_bytes) == 0xFFFF &&
          Sum(&frame[kEthernetBytes], 20) ==
              (verdict.ip_bytes == 20 ? 0xFFFF
                                      : Sum(&frame[kEthernetBytes], 20))) {
        return frame;
      }
    }
  }
  State At(uint64_t received_nanoseconds) {
    State state;
    state.received_nanoseconds = received_nanoseconds;
    return state;
  }
};

TEST_F(OnePacketTest, RightChecksumsStayRight) {
  for (uint32_t index = 0; index < 2 * kSessions; ++index) {
    const Bytes frame = Good(index);
    Prepare(HandOver::kComplete, 7, &program_->flow(index),
            &program_->activity(index), &program_->activity(index ^ 1));
    const Outcome outcome = Feed(frame, At(8));
    ASSERT_NE(outcome.verdict, kContinue);
    const size_t ip_bytes = index / 2 % 2 == 0 ? 20 : 40;
    EXPECT_EQ(UdpSum(outcome.frame, ip_bytes,
                     Get16(outcome.frame, kEthernetBytes + ip_bytes + 4)),
              0xFFFF);
    if (ip_bytes == 20) {
      EXPECT_EQ(Sum(&outcome.frame[kEthernetBytes], 20), 0xFFFF);
    }
  }
}

// A direction is relayed once the process has dealt with the last datagram that
// was passed up, and both directions were seen.
TEST_F(OnePacketTest, HandsOverWithoutOvertaking) {
  const Bytes there = Good(0), back = Good(1);
  udpgate_flow& flow = program_->flow(0);
  EXPECT_EQ(Feed(there, At(100)).verdict, kContinue);
  EXPECT_EQ(Feed(there, At(101)).verdict, kContinue);
  flow.handled_nanoseconds = 100;
  EXPECT_EQ(Feed(there, At(102)).verdict, kContinue) << "101 is under way";
  flow.handled_nanoseconds = 102;
  EXPECT_EQ(Feed(there, At(103)).verdict, kContinue) << "no reply was seen";
  flow.handled_nanoseconds = 103;
  EXPECT_EQ(Feed(back, At(104)).verdict, kContinue);
  EXPECT_EQ(Feed(there, At(105)).verdict, kRedirect);
  EXPECT_EQ(Feed(back, At(106)).verdict, kContinue) << "104 is under way";
  program_->flow(1).handled_nanoseconds = 106;
  EXPECT_EQ(Feed(back, At(107)).verdict, kRedirect);

  // What falls back holds back those behind it, until it has been dealt with.
  Bytes last_hop = there;
  last_hop[kEthernetBytes + 8] = 1;
  EXPECT_EQ(Feed(last_hop, At(108)).verdict, kContinue);
  EXPECT_EQ(Feed(there, At(109)).verdict, kContinue);
  flow.handled_nanoseconds = 108;
  EXPECT_EQ(Feed(there, At(110)).verdict, kContinue);
  flow.handled_nanoseconds = 110;
  EXPECT_EQ(Feed(there, At(111)).verdict, kRedirect);
}

// A step of the clock, or none at all, only ever keeps a flow on the sockets.
TEST_F(OnePacketTest, TrustsNoReceiveTimeThatNamesTwoDatagrams) {
  const Bytes there = Good(0);
  EXPECT_EQ(Feed(Good(1), At(1)).verdict, kContinue);
  udpgate_flow& flow = program_->flow(0);
  EXPECT_EQ(Feed(there, At(0)).verdict, kContinue);
  flow.handled_nanoseconds = 0;
  EXPECT_EQ(Feed(there, At(500)).verdict, kContinue) << "there was no time";
  EXPECT_EQ(Feed(there, At(500)).verdict, kContinue);
  flow.handled_nanoseconds = 500;
  EXPECT_EQ(Feed(there, At(400)).verdict, kContinue) << "500 names two";
  EXPECT_EQ(Feed(there, At(401)).verdict, kContinue) << "500 is not 400";
  flow.handled_nanoseconds = 401;
  EXPECT_EQ(Feed(there, At(402)).verdict, kRedirect);
}

// The index may lead elsewhere while a session takes over another's element.
TEST_F(OnePacketTest, SendsNothingToAStranger) {
  const Bytes frame = Good(0);
  Prepare(HandOver::kComplete, 7, &program_->flow(4), &program_->activity(4),
          &program_->activity(5));
  ASSERT_TRUE(program_->RemoveFromIndex(program_->flow(0).expected).ok());
  ASSERT_TRUE(program_->AddToIndex(program_->flow(0).expected, 4).ok());
  const Outcome outcome = Feed(frame, At(8));
  EXPECT_EQ(outcome.verdict, kContinue);
  EXPECT_EQ(outcome.frame, frame);
  EXPECT_EQ(program_->PassedUp()[UDPGATE_NO_FLOW], 1u);
}

TEST_F(OnePacketTest, KeepsToTheLimitOfItsFlow) {
  const Bytes frame = Good(0);
  Prepare(HandOver::kComplete, 7, &program_->flow(0), &program_->activity(0),
          &program_->activity(1));
  program_->flow(0).packet_bytes_max =
      static_cast<uint32_t>(Get16(frame, kEthernetBytes + 2));
  EXPECT_EQ(Feed(frame, At(8)).verdict, kRedirect);
  --program_->flow(0).packet_bytes_max;
  EXPECT_EQ(Feed(frame, At(9)).verdict, kContinue);
  EXPECT_EQ(program_->PassedUp()[UDPGATE_TOO_BIG], 1u);
}

// From the moment on in which its session gives it back, whether or not the
// index has followed.
TEST_F(OnePacketTest, PassesUpWhatWasGivenBack) {
  const Bytes frame = Good(0);
  Prepare(HandOver::kComplete, 7, &program_->flow(0), &program_->activity(0),
          &program_->activity(1));
  EXPECT_EQ(Feed(frame, At(8)).verdict, kRedirect);
  EXPECT_EQ(table_->GiveBack(0).from_client.datagrams, 1u);
  const Outcome outcome = Feed(frame, At(9));
  EXPECT_EQ(outcome.verdict, kContinue);
  EXPECT_EQ(outcome.frame, frame);
  EXPECT_EQ(program_->PassedUp()[UDPGATE_NO_FLOW], 1u);
  EXPECT_EQ(program_->activity(0).passed_up_nanoseconds, 7u) << "not noted";
}

// --- The life of a slot, without packets.

class SlotTest : public OnePacketTest {
 protected:
  void SetUp() override {
    OnePacketTest::SetUp();
    exit_.packet_bytes_max = kMtuBytes;
  }
  bool IsInIndex(const SessionAddresses& addresses) {
    const udpgate_tuple tuple = MakeTuple(addresses.client, addresses.listen);
    if (!program_->RemoveFromIndex(tuple).ok()) return false;
    EXPECT_TRUE(program_->AddToIndex(tuple, 0).ok());
    return true;
  }

  Exit exit_;
};

TEST_F(SlotTest, RestsBeforeItIsUsedAgain) {
  program_->activity(6).datagrams = 5;
  EXPECT_EQ(table_->GiveBack(3).from_client.datagrams, 5u);
  EXPECT_EQ(NextRequest(), "clear 3");
  table_->Clear(3, 1000);
  table_->FreeRested(1000 + FlowTable::kRestNanoseconds - 1);
  EXPECT_EQ(table_->Take(SessionNumber(3)), absl::nullopt);
  EXPECT_EQ(program_->activity(6).datagrams, 5u);
  table_->FreeRested(1000 + FlowTable::kRestNanoseconds);
  EXPECT_EQ(table_->Take(SessionNumber(3)), 3u);
  EXPECT_EQ(table_->state(3), FlowState::kWaiting);
  EXPECT_EQ(table_->ReadActivity(3).from_client.datagrams, 0u);
}

// What a program that was at work counts after the session has looked.
TEST_F(SlotTest, CountsWhatComesLate) {
  program_->activity(6).datagrams = 5;
  program_->activity(7).payload_bytes = 500;
  EXPECT_EQ(table_->GiveBack(3).from_backend.payload_bytes, 500u);
  EXPECT_EQ(table_->LateActivity().from_client.datagrams, 0u);
  program_->activity(6).datagrams = 7;
  EXPECT_EQ(table_->LateActivity().from_client.datagrams, 2u);
  EXPECT_EQ(NextRequest(), "clear 3");
  table_->Clear(3, 0);
  program_->activity(7).payload_bytes = 540;
  EXPECT_EQ(table_->LateActivity().from_backend.payload_bytes, 40u);
  table_->FreeRested(FlowTable::kRestNanoseconds);
  EXPECT_EQ(table_->Take(SessionNumber(3)), 3u);
  const SessionActivity late = table_->LateActivity();
  EXPECT_EQ(late.from_client.datagrams, 2u);
  EXPECT_EQ(late.from_backend.payload_bytes, 40u);
}

// Install is asked for and taken back before anybody has looked.
TEST_F(SlotTest, IsNeverInstalledOnceItWasGivenBack) {
  table_->GiveBack(3);
  EXPECT_EQ(NextRequest(), "clear 3");
  table_->Clear(3, 0);
  table_->FreeRested(FlowTable::kRestNanoseconds);
  ASSERT_EQ(table_->Take(SessionNumber(3)), 3u);
  table_->GiveBack(3);
  EXPECT_EQ(NextRequest(), "clear 3") << "and nothing to add";
  table_->Clear(3, 0);
  EXPECT_FALSE(IsInIndex(SessionNumber(3)));
  // The program has never seen it, so it need not rest.
  EXPECT_EQ(table_->Take(SessionNumber(3)), 3u);
  EXPECT_EQ(NextRequest(), "add 3");
  // While the owner is at it.
  table_->GiveBack(3);
  EXPECT_TRUE(table_->Add(3, exit_, exit_).ok());
  EXPECT_EQ(program_->flow(6).packet_bytes_max, 0u);
  EXPECT_EQ(program_->flow(7).packet_bytes_max, 0u);
  EXPECT_NE(table_->state(3), FlowState::kInstalled);
  EXPECT_EQ(NextRequest(), "clear 3");
  table_->Clear(3, 0);
  EXPECT_FALSE(IsInIndex(SessionNumber(3)));
  EXPECT_EQ(table_->Take(SessionNumber(3)), absl::nullopt) << "it rests";
}

// The path may become narrower before the flow is there.
TEST_F(SlotTest, KeepsTheLowestLimit) {
  table_->GiveBack(3);
  EXPECT_EQ(NextRequest(), "clear 3");
  table_->Clear(3, 0);
  table_->FreeRested(FlowTable::kRestNanoseconds);
  ASSERT_EQ(table_->Take(SessionNumber(3)), 3u);
  table_->LowerPacketBytesMax(3, FlowDirection::kFromClient, 600);
  table_->LowerPacketBytesMax(3, FlowDirection::kFromClient, 900);
  ASSERT_TRUE(table_->Add(3, exit_, exit_).ok());
  EXPECT_EQ(program_->flow(6).packet_bytes_max, 600u);
  EXPECT_EQ(program_->flow(7).packet_bytes_max, kMtuBytes);
}

TEST_F(SlotTest, WithdrawingEndsTheFlowsAndKeepsTheSlot) {
  program_->activity(6).datagrams = 5;
  const auto concerns = [](const SessionAddresses& addresses, const Exit&,
                           const Exit&) {
    return addresses.client == SessionNumber(3).client;
  };
  EXPECT_EQ(table_->WithdrawWhere(concerns), 1);
  EXPECT_EQ(table_->state(3), FlowState::kWithdrawn);
  EXPECT_FALSE(IsInIndex(SessionNumber(3)));
  EXPECT_EQ(program_->flow(6).packet_bytes_max, 0u);
  EXPECT_EQ(table_->ReadActivity(3).from_client.datagrams, 5u);
  EXPECT_EQ(table_->WithdrawWhere(concerns), 0);
  EXPECT_EQ(table_->Take(SessionNumber(3)), absl::nullopt);
}

TEST_F(SlotTest, TakesATupleOnce) {
  table_->GiveBack(7);
  EXPECT_EQ(NextRequest(), "clear 7");
  table_->Clear(7, 0);
  table_->FreeRested(FlowTable::kRestNanoseconds);
  SessionAddresses addresses = SessionNumber(6);
  addresses.client = *SocketAddress::Parse("10.6.0.3:1");
  ASSERT_EQ(table_->Take(addresses), 7u);
  // From the backend it would be the same tuple as session 6.
  EXPECT_TRUE(absl::IsAlreadyExists(table_->Add(7, exit_, exit_)));
  EXPECT_EQ(table_->state(7), FlowState::kRefused);
  // And nothing is left of the half that was there.
  EXPECT_FALSE(IsInIndex(addresses));
}

}  // namespace
}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
