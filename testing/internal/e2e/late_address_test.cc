// A machine that gets its addresses after the gate has started, as from a DHCP
// server: the real program, in a network namespace.
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/gate_process.h"
#include "testing/internal/support/http_client.h"
#include "testing/internal/support/network_namespace.h"
#include "testing/internal/support/temporary_directory.h"
#include "udpgate/fastpath/kernel_rights.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

constexpr char kWaits[] = "this machine does not have the address yet";

class LateAddressTest : public ::testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    auto created = NetworkNamespace::Create();
    UDPGATE_NEEDS_RIGHTS(created.status());
    space_ = *std::move(created);
    space_->Command("ip link set lo up");
    space_->Run([&] { backend_ = std::make_unique<EchoBackend>("lobby"); });
    notify_path_ = directory_.path() + "/notify";
    notify_fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, notify_path_.data(), notify_path_.size());
    ASSERT_EQ(::bind(notify_fd_, reinterpret_cast<const sockaddr*>(&name),
                     sizeof(name)),
              0);
  }
  void TearDown() override { ::close(notify_fd_); }

  std::string Address(int port) const {
    return GetParam() ? absl::StrCat("[2001:db8::7]:", port)
                      : absl::StrCat("192.0.2.7:", port);
  }
  void GiveAddress() const {
    space_->Command(GetParam() ? "ip address add 2001:db8::7/64 nodad dev lo"
                               : "ip address add 192.0.2.7/24 dev lo");
  }
  void MakeGate(std::map<std::string, std::string> environment) {
    GateProcessOptions options;
    options.environment = std::move(environment);
    options.environment["BACKEND_ADDR"] = backend_->address().ToString();
    options.environment["NOTIFY_SOCKET"] = notify_path_;
    gate_ = std::make_unique<GateProcess>(GateBinary(), options);
    space_->Run([&] { ASSERT_TRUE(gate_->Launch().ok()); });
  }
  // What systemd has heard since the last call.
  std::string Heard() const {
    std::string heard;
    char buffer[1024];
    for (;;) {
      const ssize_t size =
          ::recv(notify_fd_, buffer, sizeof(buffer), MSG_DONTWAIT);
      if (size <= 0) return heard;
      absl::StrAppend(&heard, std::string(buffer, size), "\n");
    }
  }

  const TemporaryDirectory directory_;
  std::string notify_path_;
  int notify_fd_ = -1;
  std::unique_ptr<NetworkNamespace> space_;
  std::unique_ptr<EchoBackend> backend_;
  std::unique_ptr<GateProcess> gate_;
};

INSTANTIATE_TEST_SUITE_P(Families, LateAddressTest, ::testing::Bool(),
                         [](const auto& family) {
                           return family.param ? "Ipv6" : "Ipv4";
                         });

TEST_P(LateAddressTest, TheGateComesUpByItself) {
  MakeGate({{"PROXY_ADDR", Address(19132)}, {"ADMIN_ADDR", Address(9132)}});
  ASSERT_TRUE(gate_->AwaitLog(kWaits)) << gate_->log();
  EXPECT_TRUE(absl::StrContains(
      gate_->log(), absl::StrCat("PROXY_ADDR=", Address(19132),
                                 ", ADMIN_ADDR=", Address(9132), ": ")))
      << gate_->log();
  std::string heard;
  ASSERT_TRUE(AwaitTrue([&] {
    absl::StrAppend(&heard, Heard());
    return absl::StrContains(heard, kWaits);
  }));
  EXPECT_TRUE(absl::StrContains(heard, "EXTEND_TIMEOUT_USEC=330000000"));
  EXPECT_FALSE(absl::StrContains(heard, "READY=1")) << heard;
  GiveAddress();
  ASSERT_TRUE(gate_->AwaitLog("listening on ")) << gate_->log();
  EXPECT_TRUE(absl::StrContains(gate_->log(), "the addresses are available"));
  ASSERT_TRUE(AwaitTrue([&] {
    absl::StrAppend(&heard, Heard());
    return absl::StrContains(heard, "READY=1");
  }));
  space_->Run([&] {
    LoopbackPeer client(*SocketAddress::Parse(Address(0)));
    EXPECT_TRUE(
        IsServedBy(&client, *SocketAddress::Parse(Address(19132)), "lobby", 3));
    const absl::StatusOr<HttpReply> reply =
        HttpGet(*SocketAddress::Parse(Address(9132)), "/readyz");
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->status, 200);
  });
  const absl::StatusOr<ExitResult> result = gate_->Terminate();
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->exited_with(0)) << gate_->log();
}

TEST_P(LateAddressTest, TheEndpointsAddressMayComeLateAlone) {
  MakeGate({{"PROXY_ADDR", "127.0.0.1:0"}, {"ADMIN_ADDR", Address(9132)}});
  ASSERT_TRUE(gate_->AwaitLog(absl::StrCat("ADMIN_ADDR=", Address(9132))));
  EXPECT_FALSE(absl::StrContains(gate_->log(), "PROXY_ADDR="));
  GiveAddress();
  EXPECT_TRUE(gate_->AwaitLog("listening on ")) << gate_->log();
}

TEST_P(LateAddressTest, ASourceAddressMayComeLateToo) {
  const std::string ip = GetParam() ? "2001:db8::7" : "192.0.2.7";
  MakeGate({{"PROXY_ADDR", "127.0.0.1:0"}, {"UPSTREAM_BIND_ADDRS", ip}});
  ASSERT_TRUE(gate_->AwaitLog(absl::StrCat("UPSTREAM_BIND_ADDRS=", ip)));
  GiveAddress();
  EXPECT_TRUE(gate_->AwaitLog("listening on ")) << gate_->log();
}

TEST_P(LateAddressTest, ASignalEndsTheWait) {
  MakeGate({{"PROXY_ADDR", Address(19132)}, {"DRAIN_TIMEOUT_SECS", "60"}});
  ASSERT_TRUE(gate_->AwaitLog(kWaits)) << gate_->log();
  const absl::StatusOr<ExitResult> result = gate_->Terminate();
  ASSERT_TRUE(result.ok());
  EXPECT_TRUE(result->exited_with(0)) << gate_->log();
  EXPECT_LT(result->duration, kStopTimeMax);
  EXPECT_TRUE(absl::StrContains(gate_->log(), "SIGTERM: stopping"));
}

TEST_P(LateAddressTest, TheWaitHasAnEnd) {
  for (const char* seconds : {"0", "1"}) {
    MakeGate({{"PROXY_ADDR", Address(19132)}, {"ADDRESS_WAIT_SECS", seconds}});
    const absl::StatusOr<ExitResult> result = gate_->AwaitExit();
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result->status, 1);
    EXPECT_TRUE(absl::StrContains(gate_->log(), "cannot start: PROXY_ADDR"))
        << gate_->log();
    EXPECT_EQ(absl::StrContains(gate_->log(), kWaits), *seconds == '1');
  }
}

TEST_P(LateAddressTest, ABusyPortIsNotWaitedFor) {
  GiveAddress();
  std::unique_ptr<LoopbackPeer> other;
  space_->Run([&] {
    other =
        std::make_unique<LoopbackPeer>(*SocketAddress::Parse(Address(19132)));
  });
  MakeGate({{"PROXY_ADDR", Address(19132)}});
  const absl::StatusOr<ExitResult> result = gate_->AwaitExit();
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result->status, 1);
  EXPECT_TRUE(absl::StrContains(gate_->log(), "Address already in use"))
      << gate_->log();
  EXPECT_FALSE(absl::StrContains(gate_->log(), kWaits));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
