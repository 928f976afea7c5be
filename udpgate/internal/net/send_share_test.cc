#include "udpgate/internal/net/send_share.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <map>

#include "gtest/gtest.h"
#include "udpgate/internal/net/sys_calls.h"

namespace udpgate {
namespace internal {
namespace {

constexpr int64_t kMillisecond = 1'000'000;
// What a socket gets without net.core.wmem_max.
constexpr uint32_t kBufferBytes = 212992;

// A socket's send buffer, and links that take what is queued for them.
class Links : public SysCalls {
 public:
  // A link takes so many bytes a millisecond; a negative number: at once.
  void SetRate(uint64_t session, int64_t bytes_per_millisecond) {
    rates_[session] = bytes_per_millisecond;
  }
  void PassMillisecond() {
    for (auto& [session, bytes] : queued_) {
      bytes -= std::min(bytes, static_cast<uint32_t>(rates_[session]));
    }
  }
  // As sendto(2) does it: false where there is no room (EAGAIN).
  bool Send(uint64_t session, uint32_t bytes) {
    if (rates_[session] < 0) return queued() < kBufferBytes;
    if (queued() >= kBufferBytes) return false;
    queued_[session] += bytes + SendShare::kDatagramOverheadBytes;
    return true;
  }
  uint32_t queued() const {
    uint32_t sum = 0;
    for (const auto& [session, bytes] : queued_) sum += bytes;
    return sum;
  }
  int look_count() const { return look_count_; }
  void set_error(int error) { error_ = error; }

  SysCallResult GetSockOpt(int fd, int level, int name, void* value,
                           socklen_t* size) override {
    EXPECT_EQ(fd, 7);
    EXPECT_EQ(level, SOL_SOCKET);
    EXPECT_EQ(name, SO_MEMINFO);
    ++look_count_;
    if (error_ != 0) return {-1, error_};
    uint32_t numbers[SK_MEMINFO_VARS] = {};
    numbers[SK_MEMINFO_SNDBUF] = kBufferBytes;
    numbers[SK_MEMINFO_WMEM_ALLOC] = queued();
    EXPECT_GE(*size, sizeof(numbers));
    std::memcpy(value, numbers, sizeof(numbers));
    return {0, 0};
  }

 private:
  std::map<uint64_t, int64_t> rates_;
  std::map<uint64_t, uint32_t> queued_;
  int look_count_ = 0;
  int error_ = 0;
};

class SendShareTest : public ::testing::Test {
 protected:
  struct Counts {
    int sent = 0;
    int refused = 0;  // by the share
    int full = 0;     // by the kernel
  };

  void Send(uint64_t session, uint32_t bytes) {
    Counts& counts = counts_[session];
    if (!share_.MaySend(session, now_)) {
      ++counts.refused;
    } else if (!links_.Send(session, bytes)) {
      ++counts.full;
      share_.NoteFull();
    } else {
      ++counts.sent;
      if (share_.NoteSent(1, bytes)) {
        if (!share_.NoteSender(session, bytes)) ++unwatched_count_;
        share_.Measure(now_);
      }
    }
    queued_most_ = std::max(queued_most_, links_.queued());
  }
  // Each session sends one datagram of `bytes` a millisecond.
  void Run(int milliseconds, std::initializer_list<uint64_t> sessions,
           uint32_t bytes) {
    for (int i = 0; i < milliseconds; ++i) {
      now_ += kMillisecond;
      for (const uint64_t session : sessions) Send(session, bytes);
      links_.PassMillisecond();
    }
  }
  int sent(uint64_t session) { return counts_[session].sent; }

  static constexpr uint64_t kJammed = 1;
  static constexpr uint64_t kFree = 2;
  static constexpr uint64_t kAlsoFree = 3;

  Links links_;
  SendShare share_{&links_, 7};
  std::map<uint64_t, Counts> counts_;
  int64_t now_ = 1;
  uint32_t queued_most_ = 0;
  int unwatched_count_ = 0;
};

TEST_F(SendShareTest, FreeLinksAreLookedAtOnceForAnEighthOfTheBuffer) {
  links_.SetRate(kFree, -1);
  Run(10000, {kFree}, 100);
  EXPECT_EQ(sent(kFree), 10000);
  const int eighths = 10000 * (100 + 768) / (kBufferBytes / 8);
  EXPECT_LE(links_.look_count(), eighths + 1);
  EXPECT_FALSE(share_.is_crowded());
}

TEST_F(SendShareTest, ALinkThatTakesNothingLeavesRoomForOthers) {
  links_.SetRate(kJammed, 0);
  links_.SetRate(kFree, -1);
  // A moment passes until a datagram has left.
  links_.SetRate(kAlsoFree, 3000);
  Run(60000, {kJammed, kFree, kAlsoFree}, 200);
  EXPECT_LT(queued_most_, kBufferBytes * 3 / 4);
  EXPECT_GE(sent(kFree), 60000 * 99 / 100);
  EXPECT_GE(sent(kAlsoFree), 60000 * 99 / 100);
  EXPECT_EQ(counts_[kFree].full, 0);
  EXPECT_GT(counts_[kJammed].refused, 59000);
}

TEST_F(SendShareTest, SeveralJammedLinksLeaveRoomForOthers) {
  for (const uint64_t session : {4u, 5u, 6u, 7u}) links_.SetRate(session, 0);
  links_.SetRate(kFree, -1);
  Run(60000, {4, 5, kFree, 6, 7}, 1200);
  EXPECT_LT(queued_most_, kBufferBytes);
  EXPECT_GE(sent(kFree), 60000 * 98 / 100);
}

TEST_F(SendShareTest, ALinkThatIsSlowGetsWhatItTakes) {
  constexpr int kBytesPerMillisecond = 100;
  links_.SetRate(kJammed, kBytesPerMillisecond);
  links_.SetRate(kFree, -1);
  Run(60000, {kJammed, kFree}, 200);
  EXPECT_LT(queued_most_, kBufferBytes * 4 / 5);
  EXPECT_GE(sent(kFree), 60000 * 98 / 100);
  // Its link never runs dry.
  EXPECT_GE(sent(kJammed) * (200 + 768), 60000 * kBytesPerMillisecond * 9 / 10);
}

TEST_F(SendShareTest, AfterAJamAllSendFreely) {
  links_.SetRate(kJammed, 0);
  links_.SetRate(kFree, -1);
  Run(5000, {kJammed, kFree}, 200);
  links_.SetRate(kJammed, 100000);
  Run(300, {kJammed, kFree}, 200);
  const int sent_before = sent(kJammed);
  Run(1000, {kJammed, kFree}, 200);
  EXPECT_EQ(sent(kJammed) - sent_before, 1000);
  EXPECT_FALSE(share_.is_crowded());
}

TEST_F(SendShareTest, ASessionAloneOnASlowLinkIsNeverHeldForEver) {
  links_.SetRate(kJammed, 50);
  Run(60000, {kJammed}, 200);
  EXPECT_GE(sent(kJammed) * (200 + 768), 60000 * 50 * 9 / 10);
}

TEST_F(SendShareTest, SessionsBeyondThoseThatCanBeWatchedAreReported) {
  constexpr uint64_t kSessions = 300;
  for (uint64_t session = 1; session <= kSessions; ++session) {
    links_.SetRate(session, 0);
  }
  now_ += kMillisecond;
  for (int i = 0; i < 2; ++i) {
    for (uint64_t session = 1; session <= kSessions; ++session) {
      Send(session, 100);
    }
  }
  // Places are found by a hash: some sessions find theirs taken.
  EXPECT_GT(unwatched_count_, 0);
  EXPECT_LT(unwatched_count_, 100);
}

TEST_F(SendShareTest, AKernelThatDoesNotTellIsAskedOnce) {
  links_.set_error(ENOPROTOOPT);
  links_.SetRate(kFree, -1);
  Run(10000, {kFree}, 1000);
  EXPECT_EQ(sent(kFree), 10000);
  EXPECT_EQ(links_.look_count(), 1);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
