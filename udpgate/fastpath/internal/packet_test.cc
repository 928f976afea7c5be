// Feeds the program packets of every shape, made from seeds, and compares what
// comes out, byte for byte, with a simple model of what should
// (BPF_PROG_TEST_RUN, bpf(2)).
//
// Another seed, and fewer packets on a slow machine:
// --test_env=UDPGATE_SEED=7 --test_env=UDPGATE_PACKETS=6000.
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "testing/await.h"
#include "udpgate/clock.h"
#include "udpgate/fastpath/internal/packet_generator.h"
#include "udpgate/fastpath/internal/packet_model.h"
#include "udpgate/fastpath/internal/program_fixture.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

constexpr int kPackets = 60'000;
// Of the coarse clock, in nanoseconds: a few ticks, and more on an emulated
// machine.
const auto kClockLagMax =
    static_cast<int64_t>(50'000'000 * test::TimeoutFactor());

// The environment variable as a number; `otherwise` if it is not set.
int NumberOf(const char* variable, int otherwise) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? otherwise : std::atoi(text);
}

class PacketTest : public ProgramTest {
 protected:
  using ProgramTest::ProgramTest;

  struct Outcome {
    uint32_t verdict = 0;
    Bytes frame;
  };

  Outcome Feed(const Bytes& frame, const State& state) {
    *program_->lease_nanoseconds() = static_cast<uint64_t>(
        Clock::Monotonic()->NowNanoseconds() -
        (state.lease_is_good ? 0 : 2'000'000'000 + kClockLagMax));
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

// State of a flow's promotion.
enum class Promotion {
  kComplete,
  kCompleteAndKnown,  // and the flow records that the other direction was seen
  kNothingSeen,
  kNotHandled,  // the process has not handled the last datagram
  kOtherDirectionNotSeen,
  kOtherInterface,
};
constexpr int kPromotions = 6;

void Prepare(Promotion promotion, uint64_t received, udpgate_flow* flow,
             udpgate_activity* own, udpgate_activity* other) {
  std::memset(own, 0, sizeof(*own));
  std::memset(other, 0, sizeof(*other));
  own->passed_up_nanoseconds = flow->handled_nanoseconds = received;
  own->seen_interface = other->seen_interface = kLoopbackIndex;
  switch (promotion) {
    case Promotion::kComplete:
      break;
    case Promotion::kCompleteAndKnown:
      own->peer_was_seen = 1;
      break;
    case Promotion::kNothingSeen:
      own->passed_up_nanoseconds = flow->handled_nanoseconds = 0;
      own->seen_interface = 0;
      break;
    case Promotion::kNotHandled:
      flow->handled_nanoseconds -= 1;
      break;
    case Promotion::kOtherDirectionNotSeen:
      other->seen_interface = 0;
      break;
    case Promotion::kOtherInterface:
      own->seen_interface = kOtherIndex;
      break;
  }
}

// The verdict with the state of its flow.
Verdict Decide(Verdict verdict, const State& state, Promotion promotion) {
  if (verdict.reason != UDPGATE_REASONS) return verdict;
  const size_t bytes = state.gso_bytes == 0
                           ? verdict.total_bytes
                           : verdict.ip_bytes + 8 + state.gso_bytes;
  if (bytes > kMtuBytes) {
    verdict.reason = UDPGATE_TOO_BIG;
  } else if (!state.lease_is_good) {
    verdict.reason = UDPGATE_LEASE;
  } else if (promotion != Promotion::kComplete &&
             promotion != Promotion::kCompleteAndKnown) {
    verdict.reason = UDPGATE_OBSERVING;
  }
  return verdict;
}

TEST_P(RewritingTest, AgreesWithTheModel) {
  const auto seed = static_cast<uint32_t>(NumberOf("UDPGATE_SEED", 1));
  const int packet_count = NumberOf("UDPGATE_PACKETS", kPackets);
  Generator generator(seed, table_.get());
  const auto begin_nanoseconds =
      static_cast<uint64_t>(Clock::Monotonic()->NowNanoseconds()) -
      kClockLagMax;
  std::array<uint64_t, UDPGATE_REASONS + 1> verdicts{};
  std::array<uint64_t, UDPGATE_REASONS> counted = program_->PassedUp();
  for (int number = 0; number < packet_count; ++number) {
    const Bytes frame = generator.Packet();
    State state;
    state.lease_is_good = !generator.OneIn(20);
    if (generator.OneIn(20)) {
      state.gso_bytes = static_cast<uint32_t>(1 + generator.Below(1500));
    }
    const auto promotion = static_cast<Promotion>(
        generator.OneIn(3) ? generator.Below(kPromotions) : 0);
    const uint64_t before = 1'000'000 + static_cast<uint64_t>(number);
    state.received_nanoseconds = generator.OneIn(10)   ? 0
                                 : generator.OneIn(10) ? before
                                                       : before + 1000;
    const Verdict is = Classify(frame, *table_);
    const auto index = static_cast<uint32_t>(std::max(is.index, 0));
    udpgate_activity& own = program_->activity(index);
    udpgate_flow& flow = program_->flow(index);
    Prepare(promotion, before, &flow, &own, &program_->activity(index ^ 1));
    const uint64_t passed_up_before = own.passed_up_nanoseconds;
    const Verdict expected = Decide(is, state, promotion);

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
    EXPECT_GT(verdicts[reason], static_cast<uint64_t>(packet_count) / 3000)
        << "reason " << reason;
  }
}

class OnePacketTest : public PacketTest {
 protected:
  // A plain datagram of this flow with correct checksums.
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

TEST_F(OnePacketTest, KeepsChecksumsCorrect) {
  for (uint32_t index = 0; index < 2 * kSessions; ++index) {
    const Bytes frame = Good(index);
    Prepare(Promotion::kComplete, 7, &program_->flow(index),
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

// A direction is relayed once the process has handled the last datagram that
// was passed up, and both directions were seen.
TEST_F(OnePacketTest, PromotesWithoutReordering) {
  const Bytes there = Good(0), back = Good(1);
  udpgate_flow& flow = program_->flow(0);
  EXPECT_EQ(Feed(there, At(100)).verdict, kContinue);
  EXPECT_EQ(Feed(there, At(101)).verdict, kContinue);
  flow.handled_nanoseconds = 100;
  EXPECT_EQ(Feed(there, At(102)).verdict, kContinue) << "101 is not handled";
  flow.handled_nanoseconds = 102;
  EXPECT_EQ(Feed(there, At(103)).verdict, kContinue) << "no reply was seen";
  flow.handled_nanoseconds = 103;
  EXPECT_EQ(Feed(back, At(104)).verdict, kContinue);
  EXPECT_EQ(Feed(there, At(105)).verdict, kRedirect);
  EXPECT_EQ(Feed(back, At(106)).verdict, kContinue) << "104 is not handled";
  program_->flow(1).handled_nanoseconds = 106;
  EXPECT_EQ(Feed(back, At(107)).verdict, kRedirect);

  // A datagram that is passed up makes the next ones wait until it is handled.
  Bytes last_hop = there;
  last_hop[kEthernetBytes + 8] = 1;
  EXPECT_EQ(Feed(last_hop, At(108)).verdict, kContinue);
  EXPECT_EQ(Feed(there, At(109)).verdict, kContinue);
  flow.handled_nanoseconds = 108;
  EXPECT_EQ(Feed(there, At(110)).verdict, kContinue);
  flow.handled_nanoseconds = 110;
  EXPECT_EQ(Feed(there, At(111)).verdict, kRedirect);
}

// A missing receive time or a step of the clock keeps the flow on the sockets.
TEST_F(OnePacketTest, IgnoresReceiveTimesOfTwoDatagrams) {
  const Bytes there = Good(0);
  EXPECT_EQ(Feed(Good(1), At(1)).verdict, kContinue);
  udpgate_flow& flow = program_->flow(0);
  EXPECT_EQ(Feed(there, At(0)).verdict, kContinue);
  flow.handled_nanoseconds = 0;
  EXPECT_EQ(Feed(there, At(500)).verdict, kContinue) << "the first had no time";
  EXPECT_EQ(Feed(there, At(500)).verdict, kContinue);
  flow.handled_nanoseconds = 500;
  EXPECT_EQ(Feed(there, At(400)).verdict, kContinue)
      << "two datagrams have 500";
  EXPECT_EQ(Feed(there, At(401)).verdict, kContinue) << "500 is not 400";
  flow.handled_nanoseconds = 401;
  EXPECT_EQ(Feed(there, At(402)).verdict, kRedirect);
}

// While the kernel reuses an element, the index may lead to another session.
TEST_F(OnePacketTest, NeverUsesTheFlowOfAnotherSession) {
  const Bytes frame = Good(0);
  Prepare(Promotion::kComplete, 7, &program_->flow(4), &program_->activity(4),
          &program_->activity(5));
  ASSERT_TRUE(program_->RemoveFromIndex(program_->flow(0).expected).ok());
  ASSERT_TRUE(program_->AddToIndex(program_->flow(0).expected, 4).ok());
  const Outcome outcome = Feed(frame, At(8));
  EXPECT_EQ(outcome.verdict, kContinue);
  EXPECT_EQ(outcome.frame, frame);
  EXPECT_EQ(program_->PassedUp()[UDPGATE_NO_FLOW], 1u);
}

TEST_F(OnePacketTest, AppliesTheLimitOfTheFlow) {
  const Bytes frame = Good(0);
  Prepare(Promotion::kComplete, 7, &program_->flow(0), &program_->activity(0),
          &program_->activity(1));
  program_->flow(0).packet_bytes_max =
      static_cast<uint32_t>(Get16(frame, kEthernetBytes + 2));
  EXPECT_EQ(Feed(frame, At(8)).verdict, kRedirect);
  --program_->flow(0).packet_bytes_max;
  EXPECT_EQ(Feed(frame, At(9)).verdict, kContinue);
  EXPECT_EQ(program_->PassedUp()[UDPGATE_TOO_BIG], 1u);
}

// Immediately, even if the index still has the flow.
TEST_F(OnePacketTest, PassesUpAfterGiveBack) {
  const Bytes frame = Good(0);
  Prepare(Promotion::kComplete, 7, &program_->flow(0), &program_->activity(0),
          &program_->activity(1));
  EXPECT_EQ(Feed(frame, At(8)).verdict, kRedirect);
  EXPECT_EQ(table_->GiveBack(0).from_client.datagrams, 1u);
  const Outcome outcome = Feed(frame, At(9));
  EXPECT_EQ(outcome.verdict, kContinue);
  EXPECT_EQ(outcome.frame, frame);
  EXPECT_EQ(program_->PassedUp()[UDPGATE_NO_FLOW], 1u);
  EXPECT_EQ(program_->activity(0).passed_up_nanoseconds, 7u) << "not recorded";
}

}  // namespace
}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
