#include "udpgate/takeover/internal/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/support/temporary_directory.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace takeover {
namespace internal {
namespace {

using ::testing::HasSubstr;
using udpgate::internal::UniqueFd;

// The two ends of a connection.
std::pair<std::unique_ptr<Channel>, std::unique_ptr<Channel>> MakePair() {
  int fds[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
  return {std::make_unique<Channel>(UniqueFd(fds[0])),
          std::make_unique<Channel>(UniqueFd(fds[1]))};
}

TEST(ChannelTest, CarriesBytesAndAsManyDescriptorsAsTheKernelAllows) {
  const auto [left, right] = MakePair();
  const std::vector<uint8_t> bytes(kMessageBytesMax, 7);
  // Of one file, which is recognised.
  const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const std::vector<int> descriptors(kDescriptorsPerMessageMax, file.get());
  ASSERT_TRUE(left->Send(bytes, descriptors).ok());
  const absl::StatusOr<Channel::Message> message = right->Receive();
  ASSERT_TRUE(message.ok()) << message.status();
  EXPECT_EQ(message->bytes, bytes);
  ASSERT_EQ(message->descriptors.size(), descriptors.size());
  struct stat sent {};
  struct stat received {};
  ASSERT_EQ(::fstat(file.get(), &sent), 0);
  ASSERT_EQ(::fstat(message->descriptors.back().get(), &received), 0);
  EXPECT_EQ(sent.st_rdev, received.st_rdev);
  EXPECT_NE(::fcntl(message->descriptors.back().get(), F_GETFD) & FD_CLOEXEC,
            0);
}

TEST(ChannelTest, AProcessWithoutRoomForDescriptorsSaysSo) {
  const auto [left, right] = MakePair();
  const std::vector<int> descriptors(100, 0);
  ASSERT_TRUE(left->Send({1}, descriptors).ok());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 50;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &small), 0);
  const absl::Status status = right->Receive().status();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
}

TEST(ChannelTest, AMessageThatIsTooLongIsRefusedOnBothSides) {
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
  UniqueFd raw(fds[0]);
  Channel channel{UniqueFd(fds[1])};
  const std::vector<uint8_t> bytes(kMessageBytesMax + 1);
  EXPECT_EQ(channel.Send(bytes).code(), absl::StatusCode::kInvalidArgument);
  ASSERT_EQ(::send(raw.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes.size()));
  EXPECT_EQ(channel.Receive().status().code(), absl::StatusCode::kDataLoss);
}

TEST(ChannelTest, AStageIsLimitedHoweverManyCallsItHas) {
  const auto [left, right] = MakePair();
  const absl::Time begin = absl::Now();
  right->BeginStage(absl::Milliseconds(50));
  absl::Status status;
  while (status.ok()) {
    ASSERT_TRUE(left->Send({1}).ok());
    status = right->Receive().status();
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE(absl::Now() - begin, absl::Milliseconds(50));
  right->BeginStage(absl::Milliseconds(1));
  EXPECT_EQ(right->Receive().status().code(), absl::StatusCode::kOk)
      << "one was left";
  EXPECT_EQ(right->Receive().status().code(),
            absl::StatusCode::kDeadlineExceeded);
  right->BeginStage(absl::InfiniteDuration());
  ASSERT_TRUE(left->Send({2}).ok());
  EXPECT_TRUE(right->Receive().ok());
}

TEST(ChannelTest, AnEndThatIsGoneIsUnavailable) {
  auto [left, right] = MakePair();
  left.reset();
  EXPECT_EQ(right->Send({1}).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(right->Receive().status().code(), absl::StatusCode::kUnavailable);
  auto [shut, other] = MakePair();
  shut->Shutdown();
  EXPECT_EQ(other->Receive().status().code(), absl::StatusCode::kUnavailable);
}

TEST(ChannelTest, APathHasItsLimits) {
  EXPECT_FALSE(ToUnixAddress("").ok());
  EXPECT_TRUE(ToUnixAddress(std::string(107, 'p')).ok());
  EXPECT_FALSE(ToUnixAddress(std::string(108, 'p')).ok());
}

TEST(ChannelTest, TheOtherEndMustBeOfTheSameUserOrRoot) {
  const auto [left, right] = MakePair();
  EXPECT_EQ(left->CheckPeer().value_or(0), ::getpid());

  const test::TemporaryDirectory directory;
  ASSERT_EQ(::chmod(directory.path().c_str(), 0777), 0);
  const sockaddr_un name = *ToUnixAddress(directory.path() + "/socket");
  const auto* const address = reinterpret_cast<const sockaddr*>(&name);
  const UniqueFd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(listener.get(), address, sizeof(name)), 0);
  ASSERT_EQ(::chmod(name.sun_path, 0777), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  constexpr uid_t kNobody = 65534;
  const UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    if (::setresuid(kNobody, kNobody, kNobody) != 0) ::_exit(2);
    if (::connect(socket.get(), address, sizeof(name)) != 0) ::_exit(3);
    ::_exit(0);
  }
  int result = 0;
  ASSERT_EQ(::waitpid(child, &result, 0), child);
  if (result == 2 << 8) GTEST_SKIP() << "this process may be no other user";
  ASSERT_EQ(result, 0);
  Channel channel{
      UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC))};
  const absl::Status status = channel.CheckPeer().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(absl::StrCat("as user ", kNobody)));
}

}  // namespace
}  // namespace internal
}  // namespace takeover
}  // namespace udpgate
