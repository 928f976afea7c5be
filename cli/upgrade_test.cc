#include "cli/upgrade.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::HasSubstr;

TEST(UpgradeObjectionTest, NamesTheReasonAgainstANewProcess) {
  Settings settings;
  EXPECT_THAT(UpgradeObjection(settings, false, 2),
              HasSubstr("TAKEOVER_SOCKET is not set"));
  settings.takeover_socket = "/run/t.sock";
  EXPECT_EQ(UpgradeObjection(settings, false, 2), "");
  EXPECT_THAT(UpgradeObjection(settings, true, 2), HasSubstr("shutdown"));
  // The first process of a container ends the container.
  EXPECT_THAT(UpgradeObjection(settings, false, 1), HasSubstr("container"));
}

TEST(NotesForNewProcessTest, PassesOnWhatItWasGivenWithoutAnEndpoint) {
  EXPECT_EQ(NotesForNewProcess(nullptr, nullptr, "given"), "given");
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
