// SIGHUP: the settings are read again.
#include <csignal>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"

namespace udpgate {
namespace test {
namespace {

class ReloadTest : public ::testing::Test {
 protected:
  void Start(const std::string& dot_env) {
    GateProcessOptions options;
    options.environment = {{"BACKEND_ADDR", backend_.address().ToString()}};
    options.dot_env = dot_env;
    gate_ = std::make_unique<GateProcess>(GateBinary(), options);
    const absl::Status started = gate_->Start();
    ASSERT_TRUE(started.ok()) << started;
  }
  // Whether the reload logs `line`.
  bool Reload(const std::string& dot_env, absl::string_view line) {
    const size_t before = gate_->log().size();
    gate_->directory().WriteFile(".env", dot_env);
    gate_->Signal(SIGHUP);
    return gate_->AwaitLog(line, kAwaitTimeout, before);
  }

  EchoBackend backend_{"echo"};
  std::unique_ptr<GateProcess> gate_;
};

TEST_F(ReloadTest, AppliesWhatCanChangeAndNamesWhatNeedsARestart) {
  Start("DENY_CIDRS=127.0.0.0/8\n");
  LoopbackPeer client;
  EXPECT_FALSE(client.Ask(gate_->address(), "x", absl::Milliseconds(100)).ok());
  ASSERT_TRUE(Reload("BATCH_SIZE=32\nMAX_SESSIONS_PER_IP=5\nQUEUE_SIZ=1\n",
                     "info reload: changed DENY_CIDRS, MAX_SESSIONS_PER_IP; "
                     "restart required for BATCH_SIZE\n"))
      << gate_->log();
  EXPECT_TRUE(absl::StrContains(gate_->log(), "QUEUE_SIZ")) << gate_->log();
  EXPECT_TRUE(IsServedBy(&client, gate_->address(), "echo"));
  EXPECT_EQ(gate_->Terminate()->status, 0);
}

TEST_F(ReloadTest, AnInvalidSettingChangesNothing) {
  Start("");
  LoopbackPeer client;
  EXPECT_TRUE(IsServedBy(&client, gate_->address(), "echo"));
  ASSERT_TRUE(Reload("DENY_CIDRS=127.0.0.0/8\nMAX_SESSIONS=many\n",
                     "error reload failed, all settings unchanged: "
                     "MAX_SESSIONS=\"many\" (.env"))
      << gate_->log();
  LoopbackPeer other;
  EXPECT_TRUE(IsServedBy(&other, gate_->address(), "echo"));
  ASSERT_TRUE(Reload("", "info reload: nothing changed\n")) << gate_->log();
  EXPECT_EQ(gate_->Terminate()->status, 0);
}

}  // namespace
}  // namespace test
}  // namespace udpgate
