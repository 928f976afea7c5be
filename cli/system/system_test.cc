#include "cli/system/system.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>

#include "gtest/gtest.h"

namespace udpgate {
namespace cli {
namespace {

TEST(SystemTest, RaisesTheDescriptorLimitToWhatIsAllowed) {
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = 64;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(DescriptorLimit(), 64);
  EXPECT_TRUE(RaiseDescriptorLimit().ok());
  EXPECT_EQ(DescriptorLimit(), static_cast<int64_t>(limit.rlim_max));
  EXPECT_TRUE(RaiseDescriptorLimit().ok());
}

// In a process of its own.
void CloseAndOpen() {
  close(STDERR_FILENO);
  close(STDIN_FILENO);
  OpenStandardDescriptors();
  const bool are_open =
      fcntl(STDIN_FILENO, F_GETFD) >= 0 && fcntl(STDERR_FILENO, F_GETFD) >= 0;
  std::exit(are_open ? 7 : 1);
}

TEST(SystemTest, OpensStandardDescriptorsThatAreClosed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(CloseAndOpen(), ::testing::ExitedWithCode(7), "");
}

TEST(SystemTest, ReadsWhereASocketIsBound) {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_storage name;
  const socklen_t size =
      SocketAddress::Ipv4Loopback(0).ToSockaddr(AF_INET, &name);
  ASSERT_EQ(bind(fd, reinterpret_cast<const sockaddr*>(&name), size), 0);
  const absl::StatusOr<SocketAddress> address = BoundAddress(fd);
  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_TRUE(address->is_loopback());
  EXPECT_NE(address->port(), 0);
  close(fd);
  EXPECT_FALSE(BoundAddress(fd).ok());
}

TEST(SystemTest, TellsStreamSocketsThatListenFromOthers) {
  const int datagram = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  EXPECT_FALSE(IsStreamSocket(datagram));
  EXPECT_FALSE(IsListening(datagram));
  const int stream = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_TRUE(IsStreamSocket(stream));
  EXPECT_FALSE(IsListening(stream));
  ASSERT_EQ(listen(stream, 1), 0);
  EXPECT_TRUE(IsListening(stream));
  close(datagram);
  close(stream);
  EXPECT_FALSE(IsStreamSocket(stream));
  EXPECT_FALSE(IsListening(stream));
}

TEST(SystemTest, ListensOnAnAddressThatIsNotHere) {
  // Of documentation prefixes (RFC 5737, RFC 3849).
  for (const char* text : {"192.0.2.1:19132", "[2001:db8::1]:19132"}) {
    const SocketAddress address = *SocketAddress::Parse(text);
    const absl::StatusOr<int> fd = ListenOnAbsentAddress(address);
    ASSERT_TRUE(fd.ok()) << fd.status();
    EXPECT_TRUE(IsListening(*fd));
    EXPECT_EQ(*BoundAddress(*fd), address);
    const absl::StatusOr<int> second = ListenOnAbsentAddress(address);
    EXPECT_FALSE(second.ok());
    EXPECT_NE(second.status().message().find(text), absl::string_view::npos);
    close(*fd);
  }
}

}  // namespace
}  // namespace cli
}  // namespace udpgate
