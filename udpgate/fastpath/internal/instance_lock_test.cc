#include "udpgate/fastpath/internal/instance_lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/internal/support/network_namespace.h"
#include "udpgate/fastpath/kernel_rights.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

using ::testing::HasSubstr;
using udpgate::internal::UniqueFd;

// In a network namespace of its own, since numbers belong to a namespace.
class InstanceLockTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto space = test::NetworkNamespace::Create();
    UDPGATE_NEEDS_RIGHTS(space.status());
    space_ = *std::move(space);
    space_->Enter();
  }

  // A Unix socket that is bound to this abstract name.
  static UniqueFd BindAbstract(const std::string& name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name.data(), name.size());
    UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address),
                     static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) +
                                            1 + name.size())),
              0);
    return socket;
  }

  std::unique_ptr<test::NetworkNamespace> space_;
};

TEST_F(InstanceLockTest, GivesTheSmallestFreeNumberAndNoMoreThanTheLimit) {
  std::vector<InstanceLock> locks;
  for (uint32_t number = 1; number <= kInstancesMax; ++number) {
    EXPECT_TRUE(InstanceLock::IsFree(number));
    absl::StatusOr<InstanceLock> lock = InstanceLock::Take();
    ASSERT_TRUE(lock.ok()) << lock.status();
    EXPECT_EQ(lock->number(), number);
    EXPECT_FALSE(InstanceLock::IsFree(number));
    locks.push_back(*std::move(lock));
  }
  const absl::Status status = InstanceLock::Take().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(std::to_string(kInstancesMax)));
  locks[2] = InstanceLock();
  EXPECT_TRUE(InstanceLock::IsFree(3));
  const absl::StatusOr<InstanceLock> again = InstanceLock::Take();
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->number(), 3u);
}

TEST_F(InstanceLockTest, IsFreeTakesNoNumber) {
  EXPECT_TRUE(InstanceLock::IsFree(1));
  EXPECT_TRUE(InstanceLock::IsFree(1));
  EXPECT_EQ(InstanceLock().number(), 0u);
}

TEST_F(InstanceLockTest, DeadProcessHoldsNoNumber) {
  int ready[2];
  ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  const UniqueFd reader(ready[0]);
  UniqueFd writer(ready[1]);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const absl::StatusOr<InstanceLock> lock = InstanceLock::Take();
    const char number = lock.ok() ? static_cast<char>(lock->number()) : 0;
    if (::write(writer.get(), &number, 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  writer.Reset();
  char number = 0;
  ASSERT_EQ(::read(reader.get(), &number, 1), 1);
  EXPECT_EQ(number, 1);
  EXPECT_FALSE(InstanceLock::IsFree(1));
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(InstanceLock::IsFree(1));
}

TEST_F(InstanceLockTest, CopyHoldsTheNumberToo) {
  absl::StatusOr<InstanceLock> lock = InstanceLock::Take();
  ASSERT_TRUE(lock.ok()) << lock.status();
  absl::StatusOr<InstanceLock> copy = InstanceLock::Adopt(lock->Copy());
  ASSERT_TRUE(copy.ok()) << copy.status();
  EXPECT_EQ(copy->number(), 1u);
  *lock = InstanceLock();
  EXPECT_FALSE(InstanceLock::IsFree(1));
  *copy = InstanceLock();
  EXPECT_TRUE(InstanceLock::IsFree(1));
  EXPECT_FALSE(InstanceLock().Copy().is_open());
}

TEST_F(InstanceLockTest, AdoptsNothingElse) {
  const auto code = [](UniqueFd socket) {
    return InstanceLock::Adopt(std::move(socket)).status().code();
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code(UniqueFd()), kInvalid);
  EXPECT_EQ(code(UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC))),
            kInvalid);
  EXPECT_EQ(code(UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0))),
            kInvalid);
  EXPECT_EQ(code(UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0))),
            kInvalid);
  for (const char* name :
       {"another-name-1", "udpgate-fastpath-", "udpgate-fastpath-0",
        "udpgate-fastpath-9", "udpgate-fastpath-x"}) {
    EXPECT_EQ(code(BindAbstract(name)), kInvalid) << name;
  }
  EXPECT_EQ(code(BindAbstract("udpgate-fastpath-8")), absl::StatusCode::kOk);
}

TEST_F(InstanceLockTest, NumbersBelongToANetworkNamespace) {
  absl::StatusOr<InstanceLock> lock = InstanceLock::Take();
  ASSERT_TRUE(lock.ok()) << lock.status();
  auto other = test::NetworkNamespace::Create();
  ASSERT_TRUE(other.ok()) << other.status();
  (*other)->Run([&] {
    EXPECT_TRUE(InstanceLock::IsFree(1));
    const absl::Status status = InstanceLock::Adopt(lock->Copy()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("another network namespace"));
  });
  EXPECT_TRUE(InstanceLock::Adopt(lock->Copy()).ok());
}

}  // namespace
}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
