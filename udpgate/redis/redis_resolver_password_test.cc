// Passwords that change while connections are in use.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "absl/strings/str_cat.h"
#include "testing/internal/support/temporary_directory.h"
#include "udpgate/redis/resolver_fixture.h"

namespace udpgate {
namespace {

using test::AwaitTrue;
using test::kBackend;
using test::RedisServer;
using test::Resolution;
using test::ScriptedPeer;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Not;

// A Redis with the user "gate", whose password is in a file.
class ChangingPasswordTest : public test::RedisBackendResolverTest {
 protected:
  ChangingPasswordTest() {
    options_.username = "gate";
    options_.password_file = WriteFile("first-secret");
    SetUser({"on", ">first-secret", "~*", "+@all"});
    Set(*redis_, "1.2.3.4:5");
  }

  std::string WriteFile(absl::string_view content) {
    return directory_.WriteFile("password", content);
  }
  void SetUser(const std::vector<std::string>& rules) {
    std::vector<std::string> command = {"ACL", "SETUSER", "gate"};
    command.insert(command.end(), rules.begin(), rules.end());
    const auto done = redis_->Command(command);
    EXPECT_TRUE(done.ok()) << done.status();
  }
  // Ends the connections of the user.
  void KillConnections() {
    EXPECT_TRUE(redis_->Command({"CLIENT", "KILL", "USER", "gate"}).ok());
  }
  bool AwaitLog(absl::string_view text) {
    return AwaitTrue([&] { return log_.CountOf(text) > 0; });
  }

  test::TemporaryDirectory directory_;
  const std::unique_ptr<RedisServer> redis_ = StartRedis();
};

TEST_F(ChangingPasswordTest, IsReadAgainAtEachConnect) {
  const auto resolver = MakeConnected(redis_->tcp_address());
  SetUser({"resetpass", ">second-secret"});
  WriteFile("second-secret\n");
  KillConnections();
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  EXPECT_EQ(log_.CountOf("login rejected"), 0);
  EXPECT_THAT(log_.lines(), Each(Not(HasSubstr("-secret"))));
}

TEST_F(ChangingPasswordTest, LogsInAgainOnAConnectionInUse) {
  const auto resolver = MakeConnected(redis_->tcp_address());
  SetUser({">second-secret"});
  WriteFile("second-secret");
  EXPECT_TRUE(AwaitLog("info: Redis " + redis_->tcp_address() +
                       " (backend key): logged in with the changed password"));
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  EXPECT_EQ(log_.CountOf("warn:"), 0);
}

TEST_F(ChangingPasswordTest, ARejectedPasswordDoesNotEndAConnectionInUse) {
  const auto resolver = MakeConnected(redis_->tcp_address());
  WriteFile("second-secret");
  EXPECT_TRUE(AwaitLog("the changed password is rejected: WRONGPASS"));
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  // Redis learns it later.
  SetUser({"resetpass", ">second-secret"});
  EXPECT_TRUE(AwaitLog("logged in with the changed password"));
  EXPECT_EQ(log_.CountOf("warn:"), 1);
  EXPECT_THAT(log_.lines(), Each(Not(HasSubstr("-secret"))));
}

TEST_F(ChangingPasswordTest, AChangeOfTheFileEndsTheBackoffOfARejectedLogin) {
  options_.reconnect_backoff_max = absl::Hours(1);
  options_.reconnect_backoff_min = absl::Minutes(30);
  WriteFile("wrong-secret");
  const auto resolver = Make(redis_->tcp_address());
  EXPECT_TRUE(AwaitLog("login rejected: WRONGPASS"));
  options_.reconnect_backoff_min = absl::Milliseconds(5);
  const auto quick = Make(redis_->tcp_address());
  EXPECT_TRUE(AwaitTrue([&] { return log_.CountOf("WRONGPASS") >= 2; }));
  WriteFile("first-secret");
  EXPECT_TRUE(AwaitHealthy(quick.get()));
  EXPECT_EQ(Resolution(quick.get()).Await(), kBackend);
}

TEST_F(ChangingPasswordTest, TheLastPasswordIsUsedWhileTheFileIsMissing) {
  const auto resolver = MakeConnected(redis_->tcp_address());
  ASSERT_EQ(std::remove(options_.password_file.c_str()), 0);
  KillConnections();
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  EXPECT_TRUE(
      AwaitLog("/password\": open: No such file or directory; the last "
               "password is used"));
  // A first password, where there has been no file so far.
  options_.password = "first-secret";
  MakeConnected(redis_->tcp_address());
}

TEST_F(ChangingPasswordTest, AnEmptyFileIsNoPassword) {
  const auto resolver = MakeConnected(redis_->tcp_address());
  WriteFile("\n");
  EXPECT_TRUE(AwaitLog("does not contain a password of 1 to 4096 bytes"));
  KillConnections();
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
}

TEST_F(ChangingPasswordTest, ARevokedLoginFailsNoResolution) {
  std::atomic<int> gets{0};
  const ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] != "GET") return ScriptedPeer::Healthy(command);
    return ScriptedPeer::Say(gets.fetch_add(1) == 0
                                 ? "-NOAUTH Authentication required.\r\n"
                                 : ScriptedPeer::Bulk("1.2.3.4:5"));
  });
  const auto resolver = MakeConnected(peer.address());
  EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
  EXPECT_EQ(peer.command_count("AUTH"), 2);
}

// A proxy may accept each login, and its server no GET.
TEST_F(ChangingPasswordTest, ALoginThatDoesNotHelpShowsDespiteStaleBackends) {
  std::atomic<bool> is_revoked{false};
  const ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] != "GET") return ScriptedPeer::Healthy(command);
    return ScriptedPeer::Say(is_revoked ? "-NOAUTH Authentication required.\r\n"
                                        : ScriptedPeer::Bulk("1.2.3.4:5"));
  });
  options_.stale_backend_age_max = absl::Hours(1);
  const auto resolver = MakeConnected(peer.address());
  ASSERT_EQ(Resolution(resolver.get()).Await(), kBackend);
  is_revoked = true;
  // Until the second NOAUTH has been read, of which the third GET tells.
  ASSERT_TRUE(AwaitTrue([&] {
    EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
    return peer.command_count("GET") >= 4;
  }));
  const int logins = peer.command_count("AUTH");
  bool was_well = false;
  ASSERT_TRUE(AwaitTrue([&] {
    was_well = was_well || resolver->Health().ok();
    EXPECT_EQ(Resolution(resolver.get()).Await(), kBackend);
    return peer.command_count("AUTH") >= logins + 3;
  }));
  EXPECT_FALSE(was_well);
  is_revoked = false;
  EXPECT_TRUE(AwaitTrue([&] {
    return Resolution(resolver.get()).Await() == kBackend &&
           resolver->Health().ok();
  }));
}

TEST_F(ChangingPasswordTest, AProbeNoticesARevokedLogin) {
  std::atomic<bool> is_revoked{false};
  ScriptedPeer peer([&](const ScriptedPeer::Command& command) {
    if (command[0] == "AUTH") is_revoked = false;
    if (is_revoked) return ScriptedPeer::Say("-NOAUTH required\r\n");
    return ScriptedPeer::Healthy(command);
  });
  options_.ping_interval = absl::Milliseconds(5);
  const auto resolver = MakeConnected(peer.address());
  is_revoked = true;
  EXPECT_TRUE(AwaitTrue([&] { return peer.command_count("AUTH") >= 2; }));
}

}  // namespace
}  // namespace udpgate
