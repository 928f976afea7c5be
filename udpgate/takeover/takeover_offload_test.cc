// The flows of a flow offload at a takeover.
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "testing/await.h"
#include "testing/echo_backend.h"
#include "testing/internal/support/temporary_directory.h"
#include "testing/loopback_peer.h"
#include "testing/mock_backend_resolver.h"
#include "testing/mock_disconnect_source.h"
#include "testing/mock_flow_offload.h"
#include "udpgate/clock.h"
#include "udpgate/internal/session/handover.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/proxy.h"
#include "udpgate/static_backend_resolver.h"
#include "udpgate/takeover/internal/channel.h"
#include "udpgate/takeover/internal/messages.h"
#include "udpgate/takeover/predecessor.h"
#include "udpgate/takeover/takeover_fixture.h"
#include "udpgate/takeover/takeover_server.h"

namespace udpgate {
namespace test {
namespace {

using Offload = NiceMock<MockFlowOffload>;

// What a flow offload is told.
class TakeoverOffloadTest : public TakeoverTest {
 protected:
  static constexpr uint32_t kSlot = 7;

  // The client's session is on the old process's offload, which has relayed
  // five datagrams.
  void StartOnOffload() {
    given_ = std::make_shared<Offload>();
    ON_CALL(*given_, Install).WillByDefault(Return(kSlot));
    ON_CALL(*given_, state).WillByDefault(Return(FlowState::kInstalled));
    ON_CALL(*given_, ReadActivity).WillByDefault(Return(Activity(5)));
    ON_CALL(*given_, Remove).WillByDefault(Return(Activity(5)));
    ON_CALL(*given_, BeginHandOver).WillByDefault(Return(true));
    StartOld({1, 1}, {}, nullptr, given_);
    ASSERT_TRUE(AwaitTrue([&] {
      EXPECT_TRUE(client_.Ask(address_, "a").ok());
      ++asked_count_;
      (void)old_.Sessions();  // which counts what was relayed
      return old_->GetStats().fast_path_sessions == 1;
    }));
  }
  static SessionActivity Activity(uint64_t datagrams) {
    return {{datagrams, 10 * datagrams, 1}, {datagrams, 20 * datagrams, 1}};
  }

  std::shared_ptr<Offload> given_;
  uint64_t asked_count_ = 0;
};

TEST_F(TakeoverOffloadTest, FlowsContinueIfTheNewProcessKeepsThem) {
  StartOnOffload();
  EXPECT_CALL(*given_, Remove).Times(0);
  EXPECT_CALL(*given_, CancelHandOver).Times(0);
  EXPECT_CALL(*given_, LetGo);
  auto taken = std::make_shared<Offload>();
  ON_CALL(*taken, has_adopted).WillByDefault(Return(true));
  ON_CALL(*taken, state).WillByDefault(Return(FlowState::kInstalled));
  // Three more meanwhile.
  ON_CALL(*taken, ReadActivity).WillByDefault(Return(Activity(8)));
  EXPECT_CALL(*taken, Install).Times(0);
  {
    const ::testing::InSequence in_sequence;
    EXPECT_CALL(*taken, Adopt(kSlot, _)).WillOnce(Return(true));
    EXPECT_CALL(*taken, StartAdopted);
  }
  ASSERT_TRUE(TakeOver({1, 1}, nullptr, nullptr, taken).ok());
  EXPECT_TRUE(AwaitTrue([&] { return old_.is_handed_over(); }));
  const std::vector<SessionInfo> sessions = new_.Sessions();
  ASSERT_EQ(sessions.size(), 1u);
  EXPECT_EQ(sessions[0].client_datagrams_forwarded, asked_count_ + 8);
  EXPECT_EQ(sessions[0].backend_datagrams_forwarded, asked_count_ + 8);
  const ProxyStats stats = new_->GetStats();
  EXPECT_EQ(stats.fast_path_sessions, 1u);
  EXPECT_EQ(stats.fast_path_withdrawals, 0u);
  EXPECT_EQ(stats.fast_path_client_datagrams, 8u);
  EXPECT_EQ(stats.fast_path_client_bytes, 80u);
  EXPECT_EQ(stats.fast_path_backend_bytes, 160u);
  EXPECT_EQ(stats.client_datagrams_forwarded, asked_count_ + 8);
  // The end of the session is the new process's.
  EXPECT_CALL(*taken, Remove(kSlot)).WillOnce(Return(Activity(9)));
  new_->Stop();
  EXPECT_EQ(new_->GetStats().fast_path_client_datagrams, 9u);
}

TEST_F(TakeoverOffloadTest, AFlowThatTheNewProcessDoesNotHaveEnds) {
  StartOnOffload();
  auto taken = std::make_shared<Offload>();
  ON_CALL(*taken, has_adopted).WillByDefault(Return(true));
  EXPECT_CALL(*taken, Adopt(kSlot, _)).WillOnce(Return(false));
  EXPECT_CALL(*taken, Remove).Times(0);
  ASSERT_TRUE(TakeOver({1, 1}, nullptr, nullptr, taken).ok());
  EXPECT_EQ(new_.Sessions().size(), 1u);
  EXPECT_EQ(new_->GetStats().fast_path_withdrawals, 1u);
  EXPECT_EQ(new_->GetStats().fast_path_client_datagrams, 5u);
}

TEST_F(TakeoverOffloadTest, FlowsEndIfTheNewProcessDoesNotKeepThem) {
  StartOnOffload();
  EXPECT_CALL(*given_, BeginHandOver).Times(0);
  EXPECT_CALL(*given_, LetGo).Times(0);
  EXPECT_CALL(*given_, Remove(kSlot));
  ASSERT_TRUE(TakeOver().ok());
  EXPECT_EQ(new_.Sessions().size(), 1u);
  EXPECT_EQ(new_->GetStats().fast_path_client_datagrams, 5u);
}

TEST_F(TakeoverOffloadTest, AFailedTakeoverKeepsTheFlows) {
  StartOnOffload();
  EXPECT_CALL(*given_, Remove).Times(0);
  EXPECT_CALL(*given_, LetGo).Times(0);
  EXPECT_CALL(*given_, BeginHandOver);
  EXPECT_CALL(*given_, CancelHandOver);
  {
    const auto channel = ConnectRaw();
    AskForPause(channel.get(), /*keeps_flows=*/true);
    AwaitState(channel.get());
  }
  ExpectTheOldServes();
  EXPECT_EQ(old_->GetStats().fast_path_sessions, 1u);
  ::testing::Mock::VerifyAndClearExpectations(given_.get());
}

}  // namespace
}  // namespace test
}  // namespace udpgate
