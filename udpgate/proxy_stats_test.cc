#include "udpgate/proxy_stats.h"

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace test {
namespace {

// As metrics want names: lower case, digits and underscores.
bool IsName(absl::string_view name) {
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (!absl::ascii_islower(byte) && !absl::ascii_isdigit(byte) && c != '_') {
      return false;
    }
  }
  return !name.empty() &&
         absl::ascii_islower(static_cast<unsigned char>(name[0]));
}

bool IsSentence(absl::string_view help) {
  return help.size() > 10 && absl::EndsWith(help, ".") &&
         absl::ascii_isupper(static_cast<unsigned char>(help[0]));
}

TEST(ProxyStatsTest, BeginsWithZeros) {
  const ProxyStats stats;
  for (const ProxyStatField& field : ProxyStatFields()) {
    EXPECT_EQ(stats.*field.value, 0u) << field.name;
  }
  EXPECT_EQ(stats.dropped_total(), 0u);
  EXPECT_EQ(stats.ended_total(), 0u);
}

TEST(ProxyStatsTest, FieldsReachEveryPlainNumberOnce) {
  // All members are uint64_t: what is no array, nor the sum of one, is a field.
  static_assert(sizeof(ProxyStats) % sizeof(uint64_t) == 0, "");
  EXPECT_EQ(ProxyStatFields().size() + kDropReasonCount + kEndReasonCount +
                kReopenReasonCount + kResolveBucketCount + 1,
            sizeof(ProxyStats) / sizeof(uint64_t));
  ProxyStats stats;
  uint64_t value = 0;
  for (const ProxyStatField& field : ProxyStatFields()) {
    EXPECT_EQ(stats.*field.value, 0u) << field.name << " is there twice";
    stats.*field.value = ++value;
  }
  EXPECT_EQ(stats.client_datagrams_received, 1u);
  EXPECT_EQ(stats.dropped_total() + stats.ended_total(), 0u);
}

TEST(ProxyStatsTest, FieldsHaveNamesAndHelp) {
  std::set<std::string> names;
  for (const ProxyStatField& field : ProxyStatFields()) {
    EXPECT_TRUE(IsName(field.name)) << field.name;
    EXPECT_TRUE(IsSentence(field.help)) << field.help;
    EXPECT_TRUE(names.insert(std::string(field.name)).second) << field.name;
  }
}

TEST(ProxyStatsTest, WhatCanShrinkIsAGauge) {
  std::set<std::string> gauges;
  for (const ProxyStatField& field : ProxyStatFields()) {
    if (field.kind == ProxyStatField::Kind::kGauge) {
      gauges.insert(std::string(field.name));
    }
  }
  EXPECT_EQ(gauges,
            (std::set<std::string>{
                "backends_held_off", "datagrams_held", "datagrams_queued",
                "messages_queued", "session_events_queued", "sessions_active",
                "sessions_confirmed", "sessions_pending", "sessions_paused",
                "relay_ports_in_use", "relay_ports_quarantined",
                "fast_path_sessions", "hop_clients"}));
}

TEST(ProxyStatsTest, DropReasonsHaveNamesOfTheirOwnAndHelp) {
  std::set<std::string> names;
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    const auto reason = static_cast<DropReason>(i);
    EXPECT_TRUE(IsName(DropReasonName(reason))) << DropReasonName(reason);
    EXPECT_TRUE(IsSentence(DropReasonHelp(reason))) << DropReasonHelp(reason);
    EXPECT_TRUE(names.insert(std::string(DropReasonName(reason))).second);
  }
  EXPECT_EQ(DropReasonName(DropReason::kTruncated), "truncated");
  EXPECT_EQ(DropReasonName(DropReason::kReplySendFailed), "reply_send_failed");
}

TEST(ProxyStatsTest, EndReasonsHaveNamesOfTheirOwnAndHelp) {
  std::set<std::string> names;
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    const auto reason = static_cast<EndReason>(i);
    EXPECT_TRUE(IsName(EndReasonName(reason))) << EndReasonName(reason);
    EXPECT_TRUE(IsSentence(EndReasonHelp(reason))) << EndReasonHelp(reason);
    EXPECT_TRUE(names.insert(std::string(EndReasonName(reason))).second);
  }
  EXPECT_EQ(EndReasonName(EndReason::kIdle), "idle");
  EXPECT_EQ(EndReasonName(EndReason::kStopped), "stopped");
}

TEST(ProxyStatsTest, TotalsAddUpTheReasons) {
  ProxyStats stats;
  uint64_t expected = 0;
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    stats.datagrams_dropped[i] = i + 1;
    expected += i + 1;
    EXPECT_EQ(stats.dropped(static_cast<DropReason>(i)), i + 1);
  }
  EXPECT_EQ(stats.dropped_total(), expected);
  expected = 0;
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    stats.sessions_ended[i] = 10 * (i + 1);
    expected += 10 * (i + 1);
    EXPECT_EQ(stats.ended(static_cast<EndReason>(i)), 10 * (i + 1));
  }
  EXPECT_EQ(stats.ended_total(), expected);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
