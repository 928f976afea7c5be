#include "udpgate/dns/internal/resolver_files_watcher.h"

#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "gtest/gtest.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace dns {
namespace internal {
namespace {

constexpr int64_t kStart = 1'000'000;

class ResolverFilesWatcherTest : public ::testing::Test {
 protected:
  ResolverFilesWatcherTest()
      : path_(directory_.WriteFile("resolv.conf", "nameserver 10.0.0.1\n")),
        watcher_(path_, absl::Nanoseconds(100)) {
    watcher_.Accept(*watcher_.Check(kStart, /*is_forced=*/true));
  }

  void Change() {
    directory_.WriteFile("resolv.conf", "nameserver 10.0.0.2\n");
  }

  test::TemporaryDirectory directory_;
  const std::string path_;
  ResolverFilesWatcher watcher_;
};

TEST_F(ResolverFilesWatcherTest, ReportsAChangeUntilItIsAccepted) {
  Change();
  absl::optional<ResolverFiles> files = watcher_.Check(kStart + 100, false);
  ASSERT_TRUE(files.has_value());
  EXPECT_EQ(files->resolv_conf, "nameserver 10.0.0.2\n");
  watcher_.Accept(*files);
  EXPECT_FALSE(watcher_.Check(kStart + 200, false).has_value());
}

TEST_F(ResolverFilesWatcherTest, ReportsAgainWhatWasNotAccepted) {
  Change();
  EXPECT_TRUE(watcher_.Check(kStart + 100, false).has_value());
  EXPECT_TRUE(watcher_.Check(kStart + 200, false).has_value());
}

TEST_F(ResolverFilesWatcherTest, ReadsOncePerInterval) {
  Change();
  EXPECT_EQ(watcher_.next_check_nanoseconds(), kStart + 100);
  EXPECT_FALSE(watcher_.Check(kStart + 99, false).has_value());
  EXPECT_EQ(watcher_.next_check_nanoseconds(), kStart + 100);
  EXPECT_TRUE(watcher_.Check(kStart + 100, false).has_value());
  EXPECT_EQ(watcher_.next_check_nanoseconds(), kStart + 200);
}

TEST_F(ResolverFilesWatcherTest, AForcedCheckReportsUnchangedFiles) {
  EXPECT_FALSE(watcher_.Check(kStart + 100, false).has_value());
  EXPECT_TRUE(watcher_.Check(kStart + 101, true).has_value());
}

}  // namespace
}  // namespace internal
}  // namespace dns
}  // namespace udpgate
