#include "cli/report.h"

#include <cstddef>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

void Drop(DropReason reason, uint64_t count, ProxyStats* stats) {
  stats->datagrams_dropped[static_cast<size_t>(reason)] = count;
}

void End(EndReason reason, uint64_t count, ProxyStats* stats) {
  stats->sessions_ended[static_cast<size_t>(reason)] = count;
}

TEST(StopLinesTest, IsOneLineWhereNothingWentWrong) {
  ProxyStats stats;
  stats.sessions_created = 2;
  stats.client_datagrams_forwarded = 3;
  stats.backend_datagrams_forwarded = 4;
  EXPECT_THAT(StopLines(stats),
              ElementsAre("stopped: 2 sessions created, 7 datagrams forwarded, "
                          "0 dropped"));
}

TEST(StopLinesTest, NamesWhatIsNotZeroInTheSecondLine) {
  ProxyStats stats;
  Drop(DropReason::kQueueFull, 4, &stats);
  Drop(DropReason::kNoBackend, 3, &stats);
  End(EndReason::kIdle, 2, &stats);
  End(EndReason::kStopped, 1, &stats);
  stats.disconnects_received = 9;
  stats.disconnects_unmatched = 8;
  stats.disconnects_invalid = 7;
  stats.disconnects_ambiguous = 6;
  stats.kernel_drops = 5;
  EXPECT_THAT(
      StopLines(stats),
      ElementsAre("stopped: 0 sessions created, 0 datagrams forwarded, 7 "
                  "dropped",
                  "dropped: queue_full 4, no_backend 3; ended: idle 2, stopped "
                  "1; disconnects: received 9, unmatched 8, invalid 7, "
                  "ambiguous 6; kernel drops: 5"));
}

TEST(StopLinesTest, LeavesOutSectionsWithoutAnything) {
  ProxyStats stats;
  stats.kernel_drops = 5;
  EXPECT_THAT(StopLines(stats),
              ElementsAre(HasSubstr("stopped: "), "kernel drops: 5"));
}

TEST(StopLinesTest, KnowsEveryReason) {
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    ProxyStats stats;
    const auto reason = static_cast<DropReason>(i);
    Drop(reason, 1, &stats);
    ASSERT_THAT(StopLines(stats), SizeIs(2));
    EXPECT_EQ(StopLines(stats)[1],
              absl::StrCat("dropped: ", DropReasonName(reason), " 1"));
  }
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    ProxyStats stats;
    const auto reason = static_cast<EndReason>(i);
    End(reason, 1, &stats);
    ASSERT_THAT(StopLines(stats), SizeIs(2));
    EXPECT_EQ(StopLines(stats)[1],
              absl::StrCat("ended: ", EndReasonName(reason), " 1"));
  }
}

constexpr SessionLimit::Cause kSetting = SessionLimit::Cause::kSetting;
constexpr SessionLimit::Cause kDescriptors = SessionLimit::Cause::kDescriptors;
constexpr SessionLimit::Cause kSourcePorts = SessionLimit::Cause::kSourcePorts;

TEST(SessionLimitTextTest, NamesTheLimitThatHolds) {
  EXPECT_EQ(SessionLimitText({5, kSetting}),
            "sessions at most: 5 (MAX_SESSIONS)");
  EXPECT_EQ(SessionLimitText({19000, kDescriptors}),
            "sessions at most: 19000 (descriptor limit)");
  EXPECT_EQ(SessionLimitText({28232, kSourcePorts}),
            "sessions at most: 28232 (source ports)");
}

TEST(SessionLimitWarningTest, SaysWhereTheSettingIsCapped) {
  EXPECT_EQ(SessionLimitWarning(800, {800, kSetting}, 1024), "");
  EXPECT_THAT(SessionLimitWarning(897, {800, kDescriptors}, 1024),
              AllOf(HasSubstr("MAX_SESSIONS=897"), HasSubstr("capped at 800"),
                    HasSubstr("limit of 1024"), HasSubstr("ulimit -n"),
                    Not(HasSubstr("\n"))));
  EXPECT_THAT(SessionLimitWarning(1000000, {28232, kSourcePorts}, 1048576),
              AllOf(HasSubstr("MAX_SESSIONS=1000000 is capped at 28232"),
                    HasSubstr("source ports"),
                    HasSubstr("net.ipv4.ip_local_port_range"),
                    HasSubstr("UPSTREAM_BIND_ADDRS")));
  EXPECT_NE(SessionLimitWarning(2, {1, kDescriptors}, 20), "");
  // What somebody asked for is not too little.
  EXPECT_EQ(SessionLimitWarning(5, {5, kSetting}, 1024), "");
}

TEST(SessionLimitWarningTest, ComesWhereFewSessionsFit) {
  EXPECT_EQ(SessionLimitWarning(0, {100, kDescriptors}, 256), "");
  EXPECT_EQ(SessionLimitWarning(0, {28232, kSourcePorts}, 1048576), "");
  EXPECT_THAT(SessionLimitWarning(0, {99, kDescriptors}, 255),
              AllOf(HasSubstr("only 99 sessions"), HasSubstr("limit of 255")));
  EXPECT_THAT(SessionLimitWarning(0, {20, kSourcePorts}, 1024),
              AllOf(HasSubstr("only 20 sessions"), HasSubstr("source ports")));
}

TEST(ReceiveBufferWarningTest, NamesTheSysctlWhereItIsTheCause) {
  EXPECT_EQ(ReceiveBufferWarning(8192, 8192, 4096), "");
  EXPECT_EQ(ReceiveBufferWarning(8192, 9000, absl::nullopt), "");
  EXPECT_EQ(ReceiveBufferWarning(8192, 4096, 4096),
            "the kernel capped the receive buffer, 8192 bytes were requested; "
            "to allow this: sysctl -w net.core.rmem_max=8192");
  EXPECT_EQ(ReceiveBufferWarning(8192, 4096, 8192),
            "the kernel capped the receive buffer, 8192 bytes were requested");
  EXPECT_EQ(ReceiveBufferWarning(8192, 4096, absl::nullopt),
            "the kernel capped the receive buffer, 8192 bytes were requested");
}

TEST(SendBufferWarningTest, NamesItsOwnSysctl) {
  EXPECT_EQ(SendBufferWarning(8192, 8192, 4096), "");
  EXPECT_EQ(SendBufferWarning(8192, 4096, 4096),
            "the kernel capped the send buffer, 8192 bytes were requested; to "
            "allow this: sysctl -w net.core.wmem_max=8192");
  EXPECT_EQ(SendBufferWarning(8192, 4096, absl::nullopt),
            "the kernel capped the send buffer, 8192 bytes were requested");
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
