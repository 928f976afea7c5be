// Runs examples/nethernet.cc as a process: a player joins by a real ICE agent,
// and an old client plays beside it.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/internal/ice/ice_backend.h"
#include "testing/internal/ice/ice_player.h"
#include "testing/internal/support/child_process.h"
#include "testing/loopback_peer.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

constexpr char kProgram[] = "examples/nethernet";

// From the line "listening on 127.0.0.1:port, TCP and UDP".
SocketAddress ListenAddress(const std::string& output) {
  const size_t begin = output.find("127.0.0.1:");
  const size_t end = output.find(',', begin);
  if (end == std::string::npos) return SocketAddress();
  return SocketAddress::Parse(output.substr(begin, end - begin))
      .value_or(SocketAddress());
}

// The program, with the read end of `fifo` as its input. The kernel chooses the
// UDP port; if another program has that TCP port, the next attempt gets another
// one.
std::unique_ptr<ChildProcess> StartProgram(const SocketAddress& backend,
                                           const std::string& fifo) {
  constexpr int kAttemptsMax = 10;
  ChildProcessOptions options;
  options.arguments = {
      "/bin/sh", "-c",     "exec \"$1\" 127.0.0.1:0 \"$2\" < \"$3\"",
      "sh",      kProgram, backend.ToString(),
      fifo};
  for (int i = 0; i < kAttemptsMax; ++i) {
    auto program = ChildProcess::Start(options);
    if (!program.ok()) {
      ADD_FAILURE() << program.status();
      return nullptr;
    }
    if ((*program)->AwaitOutput(", TCP and UDP\n")) return *std::move(program);
    if (!absl::StrContains((*program)->output(), "Address already in use")) {
      ADD_FAILURE() << (*program)->output();
      return nullptr;
    }
  }
  ADD_FAILURE() << "each TCP port was in use";
  return nullptr;
}

TEST(NetherNetTest, CurrentAndOldClientsPlayOnOneAddress) {
  IceBackend backend;
  LoopbackPeer old_backend(backend.address());  // UDP, the same port
  const std::string fifo =
      absl::StrCat(::testing::TempDir(), "/nethernet_test_input");
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const int input_fd = open(fifo.c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(input_fd, 0);
  const std::unique_ptr<ChildProcess> program =
      StartProgram(backend.address(), fifo);
  ASSERT_NE(program, nullptr);
  const SocketAddress gateway = ListenAddress(program->output());

  IcePlayer player;
  const absl::Status joined = player.Join(gateway);
  ASSERT_TRUE(joined.ok()) << joined;
  const absl::Status answered = player.Ask("backend");
  EXPECT_TRUE(answered.ok()) << answered;
  EXPECT_FALSE(absl::StrContains(player.reply().body,
                                 absl::StrCat(backend.address().port())));

  LoopbackPeer old_client;
  ASSERT_TRUE(old_client.Send(gateway, "\x05 RakNet").ok());
  const absl::StatusOr<Datagram> datagram = old_backend.Receive();
  ASSERT_TRUE(datagram.ok()) << datagram.status();
  EXPECT_EQ(datagram->payload, "\x05 RakNet");

  close(input_fd);
  const auto ended = program->AwaitExit();
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->status, 0);
  EXPECT_TRUE(absl::StrContains(program->output(), "joins: 1, with media: 1\n"))
      << program->output();
}

TEST(NetherNetTest, SaysWhatIsWrongWithAnAddress) {
  ChildProcessOptions options;
  options.arguments = {kProgram, "127.0.0.1:0", "nonsense"};
  auto program = ChildProcess::Start(options);
  ASSERT_TRUE(program.ok()) << program.status();
  const auto ended = (*program)->AwaitExit();
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->status, 2);
  EXPECT_TRUE(absl::StrContains((*program)->output(), "\"nonsense\""))
      << (*program)->output();
}

}  // namespace
}  // namespace test
}  // namespace udpgate
