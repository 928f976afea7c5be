#include "cli/gateway.h"

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/internal/support/http_client.h"
#include "testing/internal/support/temporary_directory.h"
#include "testing/loopback_peer.h"
#include "udpgate/option_error.h"

namespace udpgate {
namespace cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// Blocks the signals of the tests, and takes what an earlier test has sent and
// nobody has read. Before any thread starts, such as the backend's: a signal
// goes to a thread that does not block it.
struct NoPendingSignals {
  NoPendingSignals() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR2}) {
      sigaddset(&signals, signal);
    }
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    const timespec no_wait{};
    while (sigtimedwait(&signals, nullptr, &no_wait) > 0) {
    }
  }
};

// A gateway in the test's process, which gets its signals by kill(2).
class GatewayTest : public ::testing::Test {
 protected:
  ~GatewayTest() override { std::fclose(log_); }

  void SetUp() override { BlockCalledSignals(); }

  absl::Status Start(std::map<std::string, std::string> environment) {
    environment.emplace("PROXY_ADDR", "127.0.0.1:0");
    environment.emplace("BACKEND_ADDR", backend_.address().ToString());
    GatewayOptions options;
    options.sources.environment =
        [environment](const std::string& name) -> absl::optional<std::string> {
      const auto found = environment.find(name);
      if (found == environment.end()) return absl::nullopt;
      return found->second;
    };
    options.sources.dotenv_path = dotenv_path_;
    absl::StatusOr<CommandLine> command_line =
        ParseCommandLine(options.sources);
    if (!command_line.ok()) return command_line.status();
    options.command_line = *std::move(command_line);
    gateway_ =
        std::make_unique<Gateway>(std::move(options), &stop_signal_, &logger_);
    return gateway_->Start();
  }

  const SocketAddress& address() const {
    return gateway_->proxy().listen_addresses().front();
  }

  bool IsServed() {
    return client_.Ask(address(), "hello").value_or("") == "lobby:hello";
  }

  std::string Log() {
    std::string text(1 << 16, 0);
    text.resize(pread(fileno(log_), text.data(), text.size(), 0));
    return text;
  }
  bool AwaitLog(const std::string& text) {
    return test::AwaitTrue(
        [&] { return Log().find(text) != std::string::npos; });
  }

  const NoPendingSignals no_pending_signals_;
  // While the process has one thread. Its deadline ends the process.
  StopSignal stop_signal_{test::kAwaitTimeout, [] {}};
  test::TemporaryDirectory directory_;
  const std::string dotenv_path_ = directory_.WriteFile("test.env", "");
  std::FILE* const log_ = std::tmpfile();
  Logger logger_{LogSeverity::kInfo, LogFormat::kText, fileno(log_)};
  test::EchoBackend backend_{"lobby"};
  test::LoopbackPeer client_;
  std::unique_ptr<Gateway> gateway_;
};

TEST_F(GatewayTest, ServesUntilASignalAndLogsItsLife) {
  const absl::Status started = Start({{"WORKER_COUNT", "3"}});
  ASSERT_TRUE(started.ok()) << started;
  EXPECT_TRUE(IsServed());
  EXPECT_EQ(gateway_->admin(), nullptr);
  EXPECT_THAT(Log(), HasSubstr("fixed backend "));
  EXPECT_THAT(Log(), HasSubstr("workers: 3, listeners: 1, sessions at most: "));
  EXPECT_THAT(Log(), HasSubstr(absl::StrCat("listening on ",
                                            address().ToString(), "\n")));
  kill(getpid(), SIGTERM);
  gateway_->Wait();
  gateway_->Stop();
  EXPECT_THAT(Log(), HasSubstr("SIGTERM: stopping\n"));
  EXPECT_THAT(Log(), HasSubstr("stopped: 1 sessions created, 2 datagrams "
                               "forwarded, 0 dropped\n"));
}

TEST_F(GatewayTest, LimitsComeFromTheSettings) {
  ASSERT_TRUE(Start({{"MAX_SESSIONS", "7"}}).ok());
  EXPECT_EQ(gateway_->proxy().max_sessions(), 7);
}

TEST_F(GatewayTest, SighupReloads) {
  ASSERT_TRUE(Start({}).ok());
  directory_.WriteFile("test.env", "MAX_SESSIONS=7\nBATCH_SIZE=7\n");
  kill(getpid(), SIGHUP);
  EXPECT_TRUE(
      AwaitLog("info reload: changed MAX_SESSIONS; restart required "
               "for BATCH_SIZE\n"))
      << Log();
  EXPECT_EQ(gateway_->proxy().max_sessions(), 7);
}

TEST_F(GatewayTest, Sigusr2NeedsATakeoverSocket) {
  ASSERT_TRUE(Start({}).ok());
  kill(getpid(), SIGUSR2);
  EXPECT_TRUE(AwaitLog("warn SIGUSR2: TAKEOVER_SOCKET is not set")) << Log();
}

TEST_F(GatewayTest, TheAdminEndpointReloadsAndShowsTheProgramsMetrics) {
  ASSERT_TRUE(
      Start({{"ADMIN_ADDR", "127.0.0.1:0"}, {"SESSION_LOG", "end"}}).ok());
  ASSERT_NE(gateway_->admin(), nullptr);
  const SocketAddress admin = gateway_->admin()->address();
  const auto metrics = test::HttpGet(admin, "/metrics");
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  EXPECT_THAT(metrics->body, HasSubstr("udpgate_log_lines_dropped_total 0\n"));
  EXPECT_THAT(metrics->body,
              HasSubstr("udpgate_session_log_lines_left_out_total 0\n"));
  EXPECT_THAT(metrics->body, Not(HasSubstr("udpgate_redis_")));
  const auto ready = test::HttpGet(admin, "/readyz");
  ASSERT_TRUE(ready.ok()) << ready.status();
  EXPECT_EQ(ready->status, 200);
}

TEST_F(GatewayTest, ADrainLetsLiveSessionsContinueUntilASecondSignal) {
  ASSERT_TRUE(Start({{"DRAIN_TIMEOUT_SECS", "86400"}}).ok());
  ASSERT_TRUE(IsServed());
  kill(getpid(), SIGTERM);
  std::thread main([this] { gateway_->Wait(); });
  EXPECT_TRUE(AwaitLog("draining: new clients are rejected, 1 live sessions "))
      << Log();
  EXPECT_TRUE(IsServed());
  test::LoopbackPeer newcomer;
  ASSERT_TRUE(newcomer.Send(address(), "hello").ok());
  EXPECT_TRUE(test::AwaitTrue([&] {
    return gateway_->proxy().GetStats().dropped(DropReason::kDraining) == 1;
  }));
  kill(getpid(), SIGINT);
  main.join();
  gateway_->Stop();
  EXPECT_THAT(Log(), HasSubstr("drained: 1 live sessions left\n"));
}

TEST_F(GatewayTest, ErrorsNameTheSettingAtFault) {
  const SocketAddress taken = backend_.address();
  absl::Status status = Start(
      {{"PROXY_ADDR", taken.ToString()}, {"BACKEND_ADDR", "127.0.0.1:9"}});
  EXPECT_EQ(status.message(),
            absl::StrCat("PROXY_ADDR: bind ", taken.ToString(),
                         ": Address already in use"));
  gateway_.reset();
  status = Start(
      {{"UPSTREAM_BIND_ADDRS", "192.0.2.77"}, {"ADDRESS_WAIT_SECS", "0"}});
  EXPECT_THAT(std::string(status.message()),
              StartsWith("UPSTREAM_BIND_ADDRS: bind 192.0.2.77: "));
  gateway_.reset();
  status = Start({{"TAKEOVER_SOCKET", "/no/such/directory/socket"}});
  EXPECT_THAT(std::string(status.message()), StartsWith("TAKEOVER_SOCKET: "));
}

TEST_F(GatewayTest, ASignalCancelsTheWaitForAddresses) {
  kill(getpid(), SIGTERM);
  const absl::Status status = Start({{"PROXY_ADDR", "192.0.2.77:1"}});
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(status.message(), "SIGTERM: stopping");
}

TEST(ValidateSettingsTest, NamesSettingsInsteadOfOptions) {
  Settings settings;
  settings.backend_address = "127.0.0.1:9";
  EXPECT_TRUE(ValidateSettings(settings).ok());
  settings.proxy.limits.pending_clients_max = 0;
  EXPECT_EQ(ValidateSettings(settings).message(),
            "PENDING_CLIENTS_MAX is 0; allowed are 1 to 1048576");
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
