#include "udpgate/forward/internal/envelope_opener.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "udpgate/forward/internal/plain_cipher.h"

namespace udpgate {
namespace forward {
namespace internal {
namespace {

using Verdict = EnvelopeOpener::Verdict;

constexpr int64_t kNow = 1'700'000'000;

// Counts how often a key was asked for.
class CountingKeys final : public EnvelopeKeys {
 public:
  std::unique_ptr<EnvelopeCipher> CipherOf(uint64_t /*sender_id*/) override {
    ++count;
    return has_ciphers ? std::make_unique<PlainCipher>() : nullptr;
  }
  int count = 0;
  bool has_ciphers = true;
};

std::vector<char> Seal(uint64_t sender, uint64_t counter,
                       int64_t seconds = kNow) {
  Envelope envelope;
  envelope.client = *SocketAddress::Parse("203.0.113.7:54321");
  envelope.local = *SocketAddress::Parse("198.51.100.1:19132");
  const std::string payload = "hello";
  envelope.payload = payload;
  std::vector<char> bytes(200);
  PlainCipher cipher;
  bytes.resize(SealEnvelope(envelope, static_cast<uint32_t>(seconds), sender,
                            counter, &cipher, absl::MakeSpan(bytes)));
  return bytes;
}

class EnvelopeOpenerTest : public ::testing::Test {
 protected:
  Verdict Open(std::vector<char> bytes, int64_t now = kNow) {
    Envelope envelope;
    return opener_.Open(absl::MakeSpan(bytes), now, &envelope);
  }

  CountingKeys keys_;
  EnvelopeOpener opener_{&keys_};
};

TEST_F(EnvelopeOpenerTest, EachEnvelopeIsOpenedOnce) {
  for (uint64_t counter : {3u, 1u, 2u}) {
    EXPECT_EQ(Open(Seal(7, counter)), Verdict::kOpened);
    EXPECT_EQ(Open(Seal(7, counter)), Verdict::kReplayed);
  }
  EXPECT_EQ(Open(Seal(8, 1)), Verdict::kOpened) << "another sender";
  EXPECT_EQ(keys_.count, 2) << "a sender's key is derived once";
}

TEST_F(EnvelopeOpenerTest, AForgedOneChangesNothing) {
  EXPECT_EQ(Open(Seal(7, 1)), Verdict::kOpened);
  std::vector<char> forged = Seal(7, 1000);
  forged.back() = static_cast<char>(forged.back() ^ 1);
  EXPECT_EQ(Open(forged), Verdict::kWrongSeal);
  EXPECT_EQ(Open(Seal(7, 2)), Verdict::kOpened) << "the window has not moved";
  forged = Seal(9, 1);
  forged.back() = static_cast<char>(forged.back() ^ 1);
  EXPECT_EQ(Open(forged), Verdict::kWrongSeal);
  EXPECT_EQ(opener_.sender_count(), 1u) << "a stranger is not remembered";
  EXPECT_EQ(Open({}), Verdict::kInvalid);
}

TEST_F(EnvelopeOpenerTest, ClocksMayDifferByHalfAMinute) {
  constexpr int64_t kMax = EnvelopeOpener::kClockSecondsMax;
  EXPECT_EQ(Open(Seal(7, 1), kNow + kMax), Verdict::kOpened);
  EXPECT_EQ(Open(Seal(7, 2), kNow - kMax), Verdict::kOpened);
  EXPECT_EQ(Open(Seal(7, 3), kNow + kMax + 1), Verdict::kWrongTime);
  EXPECT_EQ(Open(Seal(7, 3), kNow - kMax - 1), Verdict::kWrongTime);
}

TEST_F(EnvelopeOpenerTest, InventedSendersTakeABoundedTime) {
  EXPECT_EQ(Open(Seal(7, 1)), Verdict::kOpened);
  for (int i = 0; i < 2 * EnvelopeOpener::kTrialsPerSecond; ++i) {
    std::vector<char> forged = Seal(1000 + static_cast<uint64_t>(i), 1);
    forged.back() = static_cast<char>(forged.back() ^ 1);
    EXPECT_EQ(Open(forged), i < EnvelopeOpener::kTrialsPerSecond - 1
                                ? Verdict::kWrongSeal
                                : Verdict::kInvalid);
  }
  EXPECT_EQ(keys_.count, EnvelopeOpener::kTrialsPerSecond);
  EXPECT_EQ(Open(Seal(7, 2)), Verdict::kOpened) << "a known one goes on";
  EXPECT_EQ(Open(Seal(8, 1)), Verdict::kInvalid);
  EXPECT_EQ(Open(Seal(8, 1, kNow + 1), kNow + 1), Verdict::kOpened);
}

TEST_F(EnvelopeOpenerTest, TheSenderSilentLongestIsForgotten) {
  int64_t now = kNow;
  for (size_t i = 0; i < EnvelopeOpener::kSendersMax + 1; ++i) {
    if (i % 1000 == 0) ++now;
    ASSERT_EQ(Open(Seal(i, 1, now), now), Verdict::kOpened);
  }
  EXPECT_EQ(opener_.sender_count(), EnvelopeOpener::kSendersMax);
}

TEST_F(EnvelopeOpenerTest, WithoutAKeyNothingIsOpened) {
  keys_.has_ciphers = false;
  EXPECT_EQ(Open(Seal(7, 1)), Verdict::kInvalid);
}

}  // namespace
}  // namespace internal
}  // namespace forward
}  // namespace udpgate
