// What becomes of the flows when the process of the gateway exits, is killed,
// or is stopped.
#include <bpf/bpf.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/await.h"
#include "testing/internal/support/network_namespace.h"
#include "testing/loopback_peer.h"
#include "udpgate/fastpath/namespace_fixture.h"
#include "udpgate/fastpath/tiny_gate.h"

namespace udpgate {
namespace fastpath {
namespace {

using test::AwaitTrue;
using test::LoopbackPeer;
using test::NetworkNamespace;

class DestructorTest : public NamespaceTest {};
INSTANTIATE_TEST_SUITE_P(Variants, DestructorTest, AllVariants(), NameOf);

TEST_P(DestructorTest, DetachesTheProgram) {
  StartAll();
  EXPECT_EQ(gate_space_->Output(kFiltersOfG1) == "", HasLinks());
  TearDown();
  EXPECT_EQ(gate_space_->Output(kFiltersOfG1), "");
}

// A gateway in a process of its own, which a signal can end or stop. SetUp has
// shown that the kernel relays while the process is stopped.
class GateProcessTest : public NamespaceTest {
 protected:
  // Forks before this process has another thread.
  void SetUp() override {
    NamespaceTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    const SocketAddress backend = BackendAddress().WithPort(19133);
    child_ = ::fork();
    ASSERT_GE(child_, 0);
    if (child_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (!Load().ok()) ::_exit(1);
      gate_space_->Run([&] {
        gate_ = std::make_unique<TinyGate>(listen_, backend, offload_.get());
      });
      for (;;) ::pause();
    }
    StartBackend(*backend_space_, backend);
    NewPeer();
    ASSERT_TRUE(AwaitTrue([&] { return IsAnswered(); }));
    ASSERT_TRUE(AwaitTrue([&] { return IsRelayed(); }));
  }
  void TearDown() override {
    Kill();
    NamespaceTest::TearDown();
  }

  // Sends a new datagram. True if its own echo arrives within `timeout`.
  bool IsAnswered(absl::Duration timeout = absl::Milliseconds(20)) {
    LoopbackPeer& peer = *peers_.front();
    const std::string payload = absl::StrCat("datagram ", ++sent_count_);
    if (!peer.Send(listen_, payload).ok()) return false;
    const absl::Time deadline = absl::Now() + timeout * test::TimeoutFactor();
    for (;;) {
      const auto reply = peer.Receive(deadline - absl::Now());
      if (!reply.ok()) return false;
      if (reply->payload == payload) return true;
    }
  }
  // True if the kernel relays while the process is stopped. The datagrams
  // before that let the process promote the session.
  bool IsRelayed() {
    for (int i = 0; i < 20; ++i) IsAnswered();
    Stop();
    const bool is_relayed = IsAnswered();
    Continue();
    return is_relayed;
  }
  // Waits until no datagram is answered. Fails if that does not happen: a
  // program whose lease never ends relays for as long as the test asks.
  bool AwaitSilence() {
    return AwaitTrue([&] { return !IsAnswered(absl::Milliseconds(200)); });
  }
  // Returns once all threads of the process are stopped.
  void Stop() {
    ASSERT_EQ(::kill(child_, SIGSTOP), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child_, &status, WUNTRACED), child_);
    ASSERT_TRUE(WIFSTOPPED(status));
  }
  void Continue() { ASSERT_EQ(::kill(child_, SIGCONT), 0); }
  void Kill() {
    if (child_ <= 0) return;
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
    child_ = 0;
  }
  // Number of programs that are attached to g1 by links.
  uint32_t LinkCount() {
    uint32_t count = 0;
    gate_space_->Run([&] {
      // BPF_TCX_INGRESS of linux/bpf.h, from kernel 6.6 on.
      constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
      const int error =
          bpf_prog_query(static_cast<int>(::if_nametoindex("g1")), kTcxIngress,
                         /*query_flags=*/0, nullptr, nullptr, &count);
      if (error != 0) count = 0;
    });
    return count;
  }

  pid_t child_ = 0;
  int sent_count_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Variants, GateProcessTest, AllVariants(), NameOf);

// The kernel removes the links of a killed process. Filters stay; they relay
// until the lease ends, and the next process removes them.
TEST_P(GateProcessTest, KilledProcessRelaysNothing) {
  const std::string filters = gate_space_->Output(kFiltersOfG1);
  EXPECT_EQ(absl::StrContains(filters, "udpgate_eth"), !HasLinks());
  EXPECT_EQ(LinkCount(), HasLinks() ? 1u : 0u);
  Kill();
  if (HasLinks()) {
    ASSERT_TRUE(AwaitTrue([&] { return LinkCount() == 0; }));
    EXPECT_FALSE(IsAnswered());
    EXPECT_EQ(gate_space_->Output(kFiltersOfG1), "");
    return;
  }
  ASSERT_TRUE(AwaitSilence());
  EXPECT_EQ(gate_space_->Output(kFiltersOfG1), filters);
  ASSERT_TRUE(Load({"g2"}).ok());
  EXPECT_TRUE(
      absl::StrContains(Log(), "removed a filter of an earlier run from g1"))
      << Log();
  EXPECT_EQ(gate_space_->Output(kFiltersOfG1), "");
}

TEST_P(GateProcessTest, StoppedProcessRelaysNothingAfterItsLease) {
  Stop();
  ASSERT_TRUE(AwaitSilence());
  Continue();
  ASSERT_TRUE(AwaitTrue([&] { return IsAnswered(); }));
  ASSERT_TRUE(AwaitTrue([&] { return IsRelayed(); })) << "again";
}

// The process misses changes if they overflow the buffer of its socket.
TEST_P(GateProcessTest, RecoversFromMissedNetworkChanges) {
  Stop();
  gate_space_->Command(
      "for i in $(seq 4000); do"
      "  echo route add 10.9.$((i / 250)).$((i % 250)) dev lo;"
      "done | ip -batch -");
  gate_space_->Command("ip link del g2");
  NetworkNamespace::Connect(*gate_space_, "g2", *backend_space_, "b0");
  GiveAddresses(*gate_space_, "g2", "2", "1");
  GiveAddresses(*backend_space_, "b0", "2", "2");
  Continue();
  NewPeer();  // TinyGate installs each session once
  std::swap(peers_.front(), peers_.back());
  // Within 5 s: a later change might report the new link by chance.
  EXPECT_TRUE(AwaitTrue([&] { return IsRelayed(); }, absl::Seconds(5)));
}

}  // namespace
}  // namespace fastpath
}  // namespace udpgate
