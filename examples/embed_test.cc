// Runs examples/embed.cc as a process and drives datagrams through it.
#include <signal.h>
#include <sys/stat.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/echo_backend.h"
#include "testing/internal/support/child_process.h"
#include "testing/loopback_peer.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

constexpr char kProgram[] = "examples/embed";

absl::StatusOr<std::unique_ptr<ChildProcess>> StartEmbed(
    const std::string& listen, const std::string& backend) {
  ChildProcessOptions options;
  options.arguments = {kProgram, listen, backend};
  return ChildProcess::Start(options);
}

// With an input that does not end: a FIFO that the program holds open itself.
absl::StatusOr<std::unique_ptr<ChildProcess>> StartEmbedWithInput(
    const std::string& backend) {
  const std::string fifo =
      absl::StrCat(::testing::TempDir(), "/embed_test_input");
  mkfifo(fifo.c_str(), 0600);
  ChildProcessOptions options;
  options.arguments = {
      "/bin/sh", "-c",     "exec \"$1\" 127.0.0.1:0 \"$2\" 0<>\"$3\"",
      "sh",      kProgram, backend,
      fifo};
  return ChildProcess::Start(options);
}

// From the line "listening on 127.0.0.1:port".
SocketAddress ListenAddress(const std::string& output) {
  const size_t begin = output.find("127.0.0.1:");
  const size_t end = output.find('\n', begin);
  if (end == std::string::npos) return SocketAddress();
  return SocketAddress::Parse(output.substr(begin, end - begin))
      .value_or(SocketAddress());
}

TEST(EmbedTest, RelaysUntilASignal) {
  EchoBackend backend("backend");
  auto embed = StartEmbedWithInput(backend.address().ToString());
  ASSERT_TRUE(embed.ok()) << embed.status();
  ASSERT_TRUE((*embed)->AwaitOutput("listening on 127.0.0.1:"))
      << (*embed)->output();
  ASSERT_TRUE((*embed)->AwaitOutput("\n"));
  LoopbackPeer client;
  const auto reply = client.Ask(ListenAddress((*embed)->output()), "hello");
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(*reply, "backend:hello");

  const auto ended = (*embed)->SignalAndAwaitExit(SIGTERM);
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->status, 0);
  EXPECT_TRUE(
      absl::StrContains((*embed)->output(),
                        "sessions: 1, datagrams to the backend: 1, back: 1\n"))
      << (*embed)->output();
}

TEST(EmbedTest, EndsWithItsInput) {
  auto embed = StartEmbed("127.0.0.1:0", "127.0.0.1:9");
  ASSERT_TRUE(embed.ok()) << embed.status();
  const auto ended = (*embed)->AwaitExit();
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->status, 0);
  EXPECT_TRUE(absl::StrContains((*embed)->output(), "sessions: 0"))
      << (*embed)->output();
}

TEST(EmbedTest, SaysWhatIsWrongWithAnAddress) {
  auto embed = StartEmbed("127.0.0.1:0", "nonsense");
  ASSERT_TRUE(embed.ok()) << embed.status();
  const auto ended = (*embed)->AwaitExit();
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->status, 2);
  EXPECT_TRUE(absl::StrContains((*embed)->output(), "\"nonsense\""))
      << (*embed)->output();
}

}  // namespace
}  // namespace test
}  // namespace udpgate
