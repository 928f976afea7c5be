#include "udpgate/internal/control/handed_gate.h"

#include <cstdint>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "udpgate/internal/session/session_record.h"

namespace udpgate {
namespace internal {
namespace {

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kNow = 1000 * kSecond;

HandedGate ValidGate() {
  HandedGate gate;
  gate.now_nanoseconds = kNow;
  gate.session_number = 5;
  gate.quarantined.emplace_back();
  gate.quarantined.back().since_nanoseconds = kNow - 7 * kSecond;
  HandedSession& session = gate.sessions.emplace_back();
  session.id = 5 << 8;
  session.created_nanoseconds = kNow - 6 * kSecond;
  session.first_proof_nanoseconds = kNow - 5 * kSecond;
  session.last_active_nanoseconds = kNow - 4 * kSecond;
  session.client_active_nanoseconds = kNow - 3 * kSecond;
  session.unanswered_since_nanoseconds = kNow - 2 * kSecond;
  session.resolve_deadline_nanoseconds = kNow + kSecond;
  return gate;
}

TEST(HandedGateTest, ValidTimesAreAccepted) {
  EXPECT_TRUE(CheckRanges(ValidGate()).ok());
  EXPECT_TRUE(CheckRanges(HandedGate()).ok());
}

TEST(HandedGateTest, EachTimeIsChecked) {
  int64_t SessionRecord::*const kTimes[] = {
      &SessionRecord::created_nanoseconds,
      &SessionRecord::first_proof_nanoseconds,
      &SessionRecord::last_active_nanoseconds,
      &SessionRecord::client_active_nanoseconds,
      &SessionRecord::unanswered_since_nanoseconds,
  };
  for (const auto time : kTimes) {
    for (const int64_t wrong : {int64_t{-1}, kNow + 1, INT64_MAX}) {
      HandedGate gate = ValidGate();
      gate.sessions[0].*time = wrong;
      EXPECT_EQ(CheckRanges(gate).code(), absl::StatusCode::kInvalidArgument);
    }
  }
  for (const int64_t wrong : {int64_t{-1}, INT64_MAX}) {
    HandedGate gate = ValidGate();
    gate.sessions[0].resolve_deadline_nanoseconds = wrong;
    EXPECT_FALSE(CheckRanges(gate).ok());
    gate = ValidGate();
    gate.now_nanoseconds = wrong;
    EXPECT_FALSE(CheckRanges(gate).ok());
    gate = ValidGate();
    gate.quarantined[0].since_nanoseconds = wrong;
    EXPECT_FALSE(CheckRanges(gate).ok());
  }
}

TEST(HandedGateTest, IdsAreChecked) {
  HandedGate gate = ValidGate();
  gate.sessions[0].id = UINT64_MAX;
  EXPECT_FALSE(CheckRanges(gate).ok());
  gate = ValidGate();
  gate.session_number = uint64_t{1} << 54;
  EXPECT_FALSE(CheckRanges(gate).ok());
}

TEST(HandedGateTest, TimesOfTheSameClockStay) {
  HandedGate gate = ValidGate();
  ConvertTimes(kNow + kSecond, &gate);
  EXPECT_EQ(gate.sessions[0].record().created_nanoseconds,
            ValidGate().sessions[0].created_nanoseconds);
  EXPECT_EQ(gate.quarantined[0].since_nanoseconds,
            ValidGate().quarantined[0].since_nanoseconds);
}

TEST(HandedGateTest, TimesOfAnotherClockAreConverted) {
  for (const int64_t shift : {int64_t{-500}, int64_t{500}}) {
    HandedGate gate = ValidGate();
    const int64_t now = kNow + shift * kSecond;
    ConvertTimes(now, &gate);
    EXPECT_EQ(gate.quarantined[0].since_nanoseconds, now - 7 * kSecond);
    const HandedSession& session = gate.sessions[0];
    EXPECT_EQ(session.created_nanoseconds, now - 6 * kSecond);
    EXPECT_EQ(session.first_proof_nanoseconds, now - 5 * kSecond);
    EXPECT_EQ(session.last_active_nanoseconds, now - 4 * kSecond);
    EXPECT_EQ(session.client_active_nanoseconds, now - 3 * kSecond);
    EXPECT_EQ(session.unanswered_since_nanoseconds, now - 2 * kSecond);
    EXPECT_EQ(session.resolve_deadline_nanoseconds, now + kSecond);
  }
}

// 0 says that the backend has answered.
TEST(HandedGateTest, NoUnansweredDatagramStaysNone) {
  HandedGate gate = ValidGate();
  gate.sessions[0].unanswered_since_nanoseconds = 0;
  ConvertTimes(kNow + 500 * kSecond, &gate);
  EXPECT_EQ(gate.sessions[0].unanswered_since_nanoseconds, 0);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
