// A gateway with a session store, which is killed and started again.
#ifndef UDPGATE_TESTING_INTERNAL_E2E_STORE_GATE_H_
#define UDPGATE_TESTING_INTERNAL_E2E_STORE_GATE_H_

#include <signal.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/echo_backend.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/gate_process.h"
#include "testing/loopback_peer.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {

// The default of SESSION_STORE_PREFIX.
inline constexpr char kSessionPrefix[] = "udp_gate:session:";

class StoreGateTest : public GateTest {
 protected:
  void SetUp() override {
    GateTest::SetUp();
    SetBackend(lobby_);
  }
  // The gateway, if it still runs, must stop with status 0 and in time.
  void TearDown() override {
    if (gateway_ != nullptr && gateway_->running()) {
      const absl::StatusOr<ExitResult> end = gateway_->Terminate();
      ASSERT_TRUE(end.ok()) << end.status();
      EXPECT_TRUE(end->exited_with(0)) << gateway_->log();
      EXPECT_LE(end->duration, kStopTimeMax);
    }
    GateTest::TearDown();
  }

  // One on the address of those before it, if there were any.
  std::unique_ptr<GateProcess> MakeGateway(
      std::map<std::string, std::string> environment = {},
      std::vector<std::string> flags = {}) {
    GateProcessOptions options;
    options.environment = std::move(environment);
    options.flags = std::move(flags);
    options.environment.merge(RedisEnvironment());
    options.environment.insert({"SESSION_STORE", "redis"});
    options.environment.insert({"GATEWAY_ID", "first"});
    options.environment.insert({"ADMIN_ADDR", "127.0.0.1:0"});
    if (address_.is_valid()) {
      options.environment.insert({"PROXY_ADDR", address_.ToString()});
    }
    return std::make_unique<GateProcess>(GateBinary(), std::move(options));
  }
  void Launch(std::map<std::string, std::string> environment = {}) {
    gateway_ = MakeGateway(std::move(environment));
    const absl::Status started = gateway_->Start();
    ASSERT_TRUE(started.ok()) << started << gateway_->log();
    address_ = gateway_->address();
  }
  void Kill() {
    gateway_->Signal(SIGKILL);
    ASSERT_TRUE(gateway_->AwaitExit().ok());
  }

  static std::string KeyOf(const LoopbackPeer& player) {
    return absl::StrCat(kSessionPrefix, player.address().ToString());
  }
  // Empty if there is none.
  static std::string RecordOf(const LoopbackPeer& player) {
    return redis().Command({"GET", KeyOf(player)}).value_or("");
  }

  EchoBackend lobby_{"lobby"};
  SocketAddress address_;
  std::unique_ptr<GateProcess> gateway_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_E2E_STORE_GATE_H_
