// What is wrong in the session store costs no player the session: the real
// gateway starts with it, says it, counts it, and continues what is right.
#include <signal.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/store_gate.h"
#include "testing/internal/support/http_client.h"

namespace udpgate {
namespace test {
namespace {

using ::testing::HasSubstr;

// As in udpgate/stored_session.h.
enum Field {
  kVersion,
  kToken,
  kGateway,
  kSince,
  kClient,
  kLocal,
  kBackend,
  kRelay
};

class SessionStoreBadInputTest : public StoreGateTest {
 protected:
  // Plays until the session is confirmed, and its record written.
  bool AwaitRecord(LoopbackPeer* player) {
    return AwaitTrue([&] {
      EXPECT_TRUE(IsServedBy(player, address_, "lobby"));
      return !RecordOf(*player).empty();
    });
  }
  // Replaces one field of the record.
  static void Change(const LoopbackPeer& player, Field field,
                     const std::string& value) {
    std::vector<std::string> fields = absl::StrSplit(RecordOf(player), ' ');
    ASSERT_GT(fields.size(), static_cast<size_t>(field));
    fields[field] = value;
    Put(player, absl::StrJoin(fields, " "));
  }
  static void Put(const LoopbackPeer& player, const std::string& text) {
    ASSERT_TRUE(redis().Command({"SET", KeyOf(player), text}).ok());
  }
  std::string Metrics() const {
    const absl::StatusOr<HttpReply> reply =
        HttpGet(gateway_->AdminAddress(), "/metrics");
    return reply.ok() ? reply->body : reply.status().ToString();
  }

  EchoBackend arena_{"arena"};
};

TEST_F(SessionStoreBadInputTest, RecordsOfNoUseAreLeftOutAndTheOthersContinue) {
  Launch();
  LoopbackPeer good, garbled, newer, strange, elsewhere, early;
  for (LoopbackPeer* player :
       {&good, &garbled, &newer, &strange, &elsewhere, &early}) {
    ASSERT_TRUE(AwaitRecord(player));
  }
  Kill();
  Put(garbled, "what is this?");
  Change(newer, kVersion, "2");
  Change(strange, kClient, "0.0.0.0:0");
  // An address that this host does not have (RFC 5737).
  Change(elsewhere, kRelay, "192.0.2.1:40001");
  // The clock of the gateway that wrote it is an hour ahead.
  Change(early, kSince,
         absl::StrCat(absl::ToUnixMillis(absl::Now() + absl::Hours(1))));
  SetBackend(arena_);
  Launch();
  EXPECT_THAT(gateway_->log(),
              HasSubstr("continues 3 sessions of the former process, 1 of them "
                        "on another source port, and lost 0"));
  EXPECT_TRUE(gateway_->AwaitLog(" is ignored")) << gateway_->log();
  EXPECT_TRUE(IsServedBy(&good, address_, "lobby"));
  EXPECT_TRUE(IsServedBy(&elsewhere, address_, "lobby"));
  EXPECT_TRUE(IsServedBy(&early, address_, "lobby"));
  // As clients that were never here.
  EXPECT_TRUE(IsServedBy(&garbled, address_, "arena"));
  EXPECT_TRUE(IsServedBy(&newer, address_, "arena"));
  EXPECT_TRUE(IsServedBy(&strange, address_, "arena"));
  const std::string metrics = Metrics();
  EXPECT_THAT(metrics, HasSubstr("udpgate_store_records_unused_total{reason="
                                 "\"from_future\"} 1\n"));
  EXPECT_THAT(metrics,
              ::testing::Not(HasSubstr(
                  "udpgate_redis_sessions_records_invalid_total 0\n")));
  EXPECT_THAT(metrics,
              ::testing::Not(HasSubstr(
                  "udpgate_redis_sessions_records_other_version_total 0\n")));
}

// Redis comes back with a snapshot in which one session has no end, one has no
// record, and the gateway no lease.
TEST_F(SessionStoreBadInputTest, ASnapshotOfYesterdayChangesNothing) {
  Launch();
  LoopbackPeer stays, ends;
  ASSERT_TRUE(AwaitRecord(&stays));
  ASSERT_TRUE(AwaitRecord(&ends));
  const std::string old = RecordOf(ends);
  ASSERT_TRUE(redis().Command({"SAVE"}).ok());
  SetBackend(arena_);
  Publish(ends.address().ToString());
  ASSERT_TRUE(AwaitTrue([&] { return RecordOf(ends).empty(); }));
  EXPECT_TRUE(AwaitServedBy(&ends, address_, "arena"));
  redis().Kill();
  ASSERT_TRUE(redis().Restart().ok());
  // The next restart begins without it again.
  const auto folder = redis().Command({"CONFIG", "GET", "dir"});
  ASSERT_TRUE(folder.ok());
  const std::vector<std::string> name_and_value = absl::StrSplit(*folder, '\n');
  const std::string snapshot = name_and_value.back() + "/dump.rdb";
  ASSERT_EQ(std::remove(snapshot.c_str()), 0);
  ASSERT_EQ(RecordOf(ends), old);
  SetBackend(arena_);
  LoopbackPeer comes;
  // The record of the session that is live here replaces that of the old one.
  EXPECT_TRUE(AwaitTrue([&] {
    EXPECT_TRUE(IsServedBy(&stays, address_, "lobby"));
    EXPECT_TRUE(IsServedBy(&ends, address_, "arena"));
    return RecordOf(ends) != old &&
           absl::StrContains(RecordOf(ends), arena_.address().ToString());
  })) << RecordOf(ends);
  EXPECT_TRUE(AwaitServedBy(&comes, address_, "arena"));
  Kill();
  Launch();
  EXPECT_TRUE(IsServedBy(&stays, address_, "lobby"));
  EXPECT_TRUE(IsServedBy(&ends, address_, "arena"));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
