// One client's link is jammed, and another client's is not: the real program
// with a small send buffer, and links in network namespaces of their own.
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/internal/e2e/e2e.h"
#include "testing/internal/support/gate_process.h"
#include "testing/internal/support/network_namespace.h"
#include "testing/loopback_peer.h"
#include "udpgate/fastpath/kernel_rights.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

SocketAddress Address(const std::string& text) {
  return *SocketAddress::Parse(text);
}

class JammedLinkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (auto* space : {&free_space_, &jammed_space_, &gate_space_}) {
      auto created = NetworkNamespace::Create();
      UDPGATE_NEEDS_RIGHTS(created.status());
      *space = *std::move(created);
      (*space)->Command("ip link set lo up");
    }
    NetworkNamespace::Connect(*gate_space_, "g1", *free_space_, "c1");
    NetworkNamespace::Connect(*gate_space_, "g2", *jammed_space_, "c2");
    gate_space_->Command("ip address add 10.9.1.1/24 dev g1");
    free_space_->Command("ip address add 10.9.1.2/24 dev c1");
    gate_space_->Command("ip address add 10.9.2.1/24 dev g2");
    jammed_space_->Command("ip address add 10.9.2.2/24 dev c2");
    gate_space_->Run([&] {
      backend_ = std::make_unique<EchoBackend>("", Address("127.0.0.1:5000"));
      GateProcessOptions options;
      options.environment = {{"PROXY_ADDR", "0.0.0.0:6000"},
                             {"BACKEND_ADDR", "127.0.0.1:5000"},
                             {"WORKER_COUNT", "1"},
                             // What the kernel doubles to 212,992 bytes.
                             {"RECEIVE_BUFFER_BYTES", "106496"}};
      gate_ = std::make_unique<GateProcess>(GateBinary(), options);
      ASSERT_TRUE(gate_->Start().ok()) << gate_->log();
    });
    free_space_->Run([&] {
      free_ = std::make_unique<LoopbackPeer>(Address("10.9.1.2:7000"));
    });
    jammed_space_->Run([&] {
      jammed_ = std::make_unique<LoopbackPeer>(Address("10.9.2.2:7000"));
    });
    // Confirmed, so that the limit on replies is out of the way.
    const absl::Time confirmed = absl::Now() + absl::Seconds(2);
    ASSERT_TRUE(AwaitTrue([&] {
      return free_->Ask(kFreeGate, "x").ok() &&
             jammed_->Ask(kJammedGate, "x").ok() && absl::Now() > confirmed;
    }));
  }

  // Both clients send a datagram of `bytes` each 2 ms and get it back, for
  // `duration`. The free one's replies for each 100 that it sent.
  double PercentThatArrive(absl::Duration duration, size_t bytes) {
    const std::string payload(bytes, 'x');
    int sent = 0;
    int received = 0;
    const auto receive = [&] {
      while (free_->TryReceive().ok()) ++received;
      while (jammed_->TryReceive().ok()) continue;
    };
    const absl::Time end = absl::Now() + duration;
    for (absl::Time next = absl::Now(); next < end;
         next += absl::Milliseconds(2)) {
      absl::SleepFor(next - absl::Now());  // the rate of the traffic
      if (free_->Send(kFreeGate, payload).ok()) ++sent;
      EXPECT_TRUE(jammed_->Send(kJammedGate, payload).ok());
      receive();
    }
    // What is on its way, and what was lost never comes.
    AwaitTrue(
        [&] {
          receive();
          return received == sent;
        },
        absl::Milliseconds(500));
    return 100.0 * received / sent;
  }

  const SocketAddress kFreeGate = Address("10.9.1.1:6000");
  const SocketAddress kJammedGate = Address("10.9.2.1:6000");
  std::unique_ptr<NetworkNamespace> free_space_, jammed_space_, gate_space_;
  std::unique_ptr<EchoBackend> backend_;
  std::unique_ptr<GateProcess> gate_;
  std::unique_ptr<LoopbackPeer> free_, jammed_;
};

TEST_F(JammedLinkTest, AnotherClientGetsItsReplies) {
  EXPECT_GE(PercentThatArrive(absl::Seconds(2), 400), 99);
  // A kilobyte a second, and a queue that holds more than the send buffer.
  gate_space_->Command(
      "tc qdisc add dev g2 root tbf rate 8kbit burst 2kb limit 100mb");
  const double percent = PercentThatArrive(absl::Seconds(10), 400);
  std::printf("%.1f %% of the replies to the free client arrive\n", percent);
  EXPECT_GE(percent, 90);
  gate_space_->Command("tc qdisc del dev g2 root");
  EXPECT_TRUE(AwaitTrue([&] {
    return jammed_->Ask(kJammedGate, "x", absl::Milliseconds(200)).ok();
  }));
  EXPECT_GE(PercentThatArrive(absl::Seconds(2), 400), 99);
  ASSERT_TRUE(gate_->Terminate().ok());
  EXPECT_TRUE(absl::StrContains(gate_->log(), "send_buffer_share"))
      << gate_->log();
}

}  // namespace
}  // namespace test
}  // namespace udpgate
