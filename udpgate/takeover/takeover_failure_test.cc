// What goes wrong in a takeover: the old gateway continues.
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
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

#ifndef UDPGATE_SANITIZED

// So many of the next threads cannot be created.
std::atomic<int> threads_to_refuse{0};
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attr,
                              void* (*body)(void*), void* arg) noexcept {
  static const auto real = reinterpret_cast<int (*)(
      pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)>(
      dlsym(RTLD_NEXT, "pthread_create"));
  if (threads_to_refuse > 0 && threads_to_refuse-- > 0) return EAGAIN;
  return real(thread, attr, body, arg);
}

#endif  // UDPGATE_SANITIZED

namespace udpgate {
namespace test {
namespace {

using TakeoverFailureTest = TakeoverTest;

TEST_F(TakeoverFailureTest, TheErrorNamesThePathIfNoGatewayListens) {
  const absl::Status status = Predecessor::Connect({path_}).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr(path_));
  EXPECT_EQ(Predecessor::Connect({std::string(200, 'x')}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(TakeoverFailureTest, ANewProcessThatDiesChangesNothing) {
  StartOld();
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  for (int step = 0; step < 5; ++step) {
    const auto channel = ConnectRaw();
    if (step > 0) {
      ASSERT_TRUE(SendMessage(Hello(), channel.get()).ok());
    }
    if (step > 1) {
      ASSERT_TRUE(ReceiveMessage("gate", channel.get()).ok());
    }
    if (step > 2) {
      ASSERT_TRUE(SendMessage(NewMessage("sockets"), channel.get()).ok());
    }
    if (step > 3) {
      ASSERT_TRUE(SendMessage(NewMessage("pause"), channel.get()).ok());
    }
  }
  {
    // It got everything and never said so.
    const auto channel = ConnectRaw();
    AskForPause(channel.get());
    AwaitState(channel.get());
  }
  ExpectTheOldServes();
  // And the next one can take over.
  EXPECT_TRUE(TakeOver().ok());
}

TEST_F(TakeoverFailureTest, ANewProcessThatStallsInThePauseTimesOut) {
  TakeoverServerOptions options;
  options.pause_max = absl::Milliseconds(50);
  StartOld({1, 1}, options);
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  const auto channel = ConnectRaw();
  AskForPause(channel.get());
  EXPECT_TRUE(AwaitTrue([&] {
    return absl::StrContains(old_.log(), "did not respond in time");
  }));
  ExpectTheOldServes();
}

TEST_F(TakeoverFailureTest, RefusesInvalidMessages) {
  StartOld();
  const auto answer = [&](absl::Span<const uint8_t> bytes) {
    const auto channel = ConnectRaw();
    EXPECT_TRUE(channel->Send(bytes).ok());
    return ReceiveMessage(channel.get()).status();
  };
  EXPECT_EQ(answer({1, 2, 3}).code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(answer(std::vector<uint8_t>(150000, 0x91)).message()),
              HasSubstr("nested"));
  EXPECT_THAT(std::string(answer({0xdd, 0xff, 0xff, 0xff, 0xff}).message()),
              HasSubstr("MessagePack"));
  EXPECT_THAT(
      std::string(
          answer(takeover::internal::Encode(NewMessage("sockets"))).message()),
      HasSubstr("expected \"hello\""));
  nlohmann::json newer = Hello();
  newer["version"] = takeover::internal::kVersion + 1;
  EXPECT_THAT(std::string(answer(takeover::internal::Encode(newer)).message()),
              HasSubstr("version"));
  // Descriptors that nobody asked for.
  const auto channel = ConnectRaw();
  const int fds[] = {0, 1, 2};
  EXPECT_TRUE(SendMessage(NewMessage("pause"), channel.get(), fds).ok());
  EXPECT_FALSE(ReceiveMessage("gate", channel.get()).ok());
  ExpectTheOldServes();
}

TEST_F(TakeoverFailureTest, IgnoresUnknownFields) {
  StartOld();
  const auto channel = ConnectRaw();
  nlohmann::json hello = Hello();
  hello["colour"] = "green";
  EXPECT_TRUE(SendMessage(hello, channel.get()).ok());
  EXPECT_TRUE(ReceiveMessage("gate", channel.get()).ok());
}

TEST_F(TakeoverFailureTest, ThePathIsPrivateAndIsRemovedAtTheEnd) {
  StartOld();
  struct stat file {};
  ASSERT_EQ(::lstat(path_.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777u, 0600u);
  // Another gate does not get it by mistake.
  new_.Create(Options(), Fixed(second_));
  TakeoverServerOptions options;
  options.socket_path = path_;
  auto server = TakeoverServer::Create(options, new_.get(), [] {});
  ASSERT_TRUE(server.ok());
  EXPECT_EQ((*server)->Start().code(), absl::StatusCode::kAlreadyExists);
  old_.server()->Stop();
  EXPECT_EQ(old_.log(), "") << "a probe is not a takeover";
  EXPECT_NE(::lstat(path_.c_str(), &file), 0);
  // A file of another kind stays.
  directory_.WriteFile("takeover.sock", "mine");
  EXPECT_EQ((*server)->Start().code(), absl::StatusCode::kAlreadyExists);
  ASSERT_EQ(::unlink(path_.c_str()), 0);
  // One that a gate left behind which did not end well is replaced.
  {
    UniqueFd left(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    const sockaddr_un name = *ToUnixAddress(path_);
    ASSERT_EQ(::bind(left.get(), reinterpret_cast<const sockaddr*>(&name),
                     sizeof(name)),
              0);
  }
  EXPECT_TRUE((*server)->Start().ok());
}

TEST_F(TakeoverFailureTest, DisconnectsInThePauseAreReported) {
  StartOld();
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  const auto channel = ConnectRaw();
  AskForPause(channel.get());
  AwaitState(channel.get());
  std::atomic<int64_t> ended{-1};
  old_->Disconnect(DisconnectTarget::ForClient(client_.address()),
                   [&](int64_t count) { ended = count; });
  ASSERT_TRUE(SendMessage(NewMessage("complete"), channel.get()).ok());
  ASSERT_TRUE(ReceiveMessage("let_go", channel.get()).ok());
  ASSERT_TRUE(AwaitTrue([&] { return old_.is_handed_over(); }));
  EXPECT_EQ(ended, 0);
}

TEST_F(TakeoverFailureTest, AFailedTakeoverKeepsTheBuffers) {
  StartOld();
  auto sockets = old_->handover()->CopyListenSockets();
  ASSERT_TRUE(sockets.ok());
  const auto buffer_bytes = [&] {
    int bytes = 0;
    socklen_t size = sizeof(bytes);
    ::getsockopt(sockets->front().get(), SOL_SOCKET, SO_RCVBUF, &bytes, &size);
    return bytes;
  };
  const int before = buffer_bytes();
  {
    absl::StatusOr<std::unique_ptr<Predecessor>> predecessor =
        Predecessor::Connect({path_});
    ASSERT_TRUE(predecessor.ok());
    ProxyOptions options = Options();
    options.receive_buffer_bytes = 4096;
    (*predecessor)->FillIn(&options);
    new_.Create(std::move(options), Fixed(second_));
  }  // it gives up
  EXPECT_EQ(buffer_bytes(), before);
  // One that does not has its own.
  ProxyOptions options = Options();
  options.receive_buffer_bytes = 4096;
  ASSERT_TRUE(TakeOverWith(std::move(options)).ok());
  EXPECT_LT(buffer_bytes(), before);
  EXPECT_EQ(new_->receive_buffer_bytes(), buffer_bytes() / 2);
}

TEST_F(TakeoverFailureTest, ThePauseIsLimitedAsAWhole) {
  auto resolver = std::make_shared<NiceMock<MockBackendResolver>>();
  EXPECT_CALL(*resolver, Resolve).WillRepeatedly(HoldResolveIn(&held_));
  TakeoverServerOptions server_options;
  // Long enough for its first message on a busy machine.
  server_options.pause_max = absl::Milliseconds(200);
  StartOld({1, 1}, server_options, resolver);
  std::vector<LoopbackPeer> clients(40);
  for (size_t i = 0; i < clients.size(); ++i) {
    ASSERT_TRUE(clients[i].Send(address_, std::string(60000, 'x')).ok());
    ASSERT_TRUE(
        AwaitTrue([&] { return old_->GetStats().datagrams_held == i + 1; }));
  }
  const auto channel = ConnectRaw();
  AskForPause(channel.get());
  ASSERT_TRUE(ReceiveMessage(channel.get()).ok());  // the pause has begun
  const absl::Time begin = absl::Now();
  for (;;) {
    absl::SleepFor(absl::Milliseconds(160));  // just fast enough for each
    const absl::StatusOr<Incoming> message = ReceiveMessage(channel.get());
    if (!message.ok() || message->type == "state") break;
  }
  // Each by itself would add up to more than six seconds.
  EXPECT_LT(absl::Now() - begin, absl::Seconds(3));
}

TEST_F(TakeoverFailureTest, ClosesFurtherSocketsThatAreNotTaken) {
  UniqueFd extra(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(name);
  ASSERT_EQ(::bind(extra.get(), reinterpret_cast<sockaddr*>(&name), size), 0);
  ASSERT_EQ(::listen(extra.get(), 4), 0);
  ::getsockname(extra.get(), reinterpret_cast<sockaddr*>(&name), &size);
  TakeoverServerOptions options;
  options.extra_sockets["admin"] = extra.get();
  StartOld({1, 1}, options);
  // It lives as long as the process does.
  absl::StatusOr<std::unique_ptr<Predecessor>> predecessor =
      Predecessor::Connect({path_});
  ASSERT_TRUE(predecessor.ok());
  ProxyOptions new_options = Options();
  (*predecessor)->FillIn(&new_options);
  new_.Create(std::move(new_options), Fixed(second_));
  ASSERT_TRUE((*predecessor)->TakeOver(new_.get()).ok());
  (*predecessor)->Release();
  extra.Reset();  // as the old process ends
  UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_NE(::connect(client.get(), reinterpret_cast<sockaddr*>(&name), size),
            0);
}

TEST_F(TakeoverFailureTest, ConnectTimesOutIfNoProcessAccepts) {
  StartOld();
  // One is served, and more than may wait do.
  std::vector<std::unique_ptr<Channel>> others;
  for (int i = 0; i < 6; ++i) others.push_back(ConnectRaw());
  takeover::PredecessorOptions options;
  options.socket_path = path_;
  options.step_timeout = absl::Milliseconds(100);
  EXPECT_FALSE(Predecessor::Connect(options).ok());
}

TEST_F(TakeoverFailureTest, KeepsTheSocketOfAnotherGateway) {
  StartOld();
  // Another gate, which has nothing to do with that.
  Gate other(directory_.path() + "/other.sock");
  other.Create(Options(), Fixed(second_));
  ASSERT_TRUE(other->Start().ok());
  other.Serve();
  ASSERT_TRUE(TakeOver().ok());
  TakeoverServerOptions options;
  options.socket_path = directory_.path() + "/other.sock";
  options.predecessor_path = path_;
  auto server = TakeoverServer::Create(options, new_.get(), [] {});
  ASSERT_TRUE(server.ok());
  EXPECT_EQ((*server)->Start().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(TakeoverFailureTest, RefusesATimeInTheFuture) {
  new_.Create(Options(), Fixed(second_));
  internal::Handover* const handover = new_->handover();
  ASSERT_TRUE(handover->ListenForDisconnects().ok());
  internal::HandedGate gate;
  gate.now_nanoseconds = Clock::Monotonic()->NowNanoseconds();
  gate.kernel_drops = {0};
  gate.quarantined.push_back({SocketAddress::Ipv4Loopback(40000),
                              gate.now_nanoseconds + 100'000'000'000'000'000});
  EXPECT_FALSE(handover->TakeOver(std::move(gate)).ok());
}

TEST_F(TakeoverFailureTest, StopsIfTheNewProcessIsToEnd) {
  StartOld();
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  for (const int asked_before : {0, 1}) {
    takeover::PredecessorOptions predecessor_options;
    predecessor_options.socket_path = path_;
    int asked_count = 0;
    predecessor_options.is_cancelled = [&] {
      return asked_count++ == asked_before;
    };
    absl::StatusOr<std::unique_ptr<Predecessor>> predecessor =
        Predecessor::Connect(predecessor_options);
    ASSERT_TRUE(predecessor.ok());
    ProxyOptions options = Options();
    (*predecessor)->FillIn(&options);
    Gate successor(path_);
    successor.Create(std::move(options), Fixed(second_));
    EXPECT_EQ((*predecessor)->TakeOver(successor.get()).status().code(),
              absl::StatusCode::kCancelled);
  }
  EXPECT_TRUE(AwaitTrue(
      [&] { return absl::StrContains(old_.log(), "is shutting down"); }));
  ExpectTheOldServes();
}

// A gate that is none, or a newer one.
TEST_F(TakeoverFailureTest, RefusesAnOldProcessWithInvalidMessages) {
  UniqueFd listener(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const sockaddr_un name = *ToUnixAddress(path_);
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&name),
                   sizeof(name)),
            0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  nlohmann::json newer = NewMessage("gate");
  newer["version"] = takeover::internal::kVersion + 1;
  nlohmann::json no_sockets = NewMessage("gate");
  no_sockets["version"] = takeover::internal::kVersion;
  no_sockets["hash_seed"] = 1u;
  no_sockets["sockets"] = nlohmann::json::array();
  nlohmann::json no_names = no_sockets;
  no_names.erase("sockets");
  const std::pair<nlohmann::json, std::string> cases[] = {
      {newer, "version"},
      {no_sockets, "no listen socket"},
      {no_names, "without names"},
      {NewMessage("gate"), "version"},
      {NewMessage("state"), "expected \"gate\""},
  };
  for (const auto& [message, error] : cases) {
    std::thread gate([&, sent = message] {
      Channel channel(
          UniqueFd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC)));
      EXPECT_TRUE(ReceiveMessage("hello", &channel).ok());
      EXPECT_TRUE(SendMessage(sent, &channel).ok());
    });
    const absl::Status status = Predecessor::Connect({path_}).status();
    gate.join();
    EXPECT_THAT(std::string(status.message()), HasSubstr(error));
  }
  // One that says nothing.
  takeover::PredecessorOptions options;
  options.socket_path = path_;
  options.step_timeout = absl::Milliseconds(50);
  EXPECT_EQ(Predecessor::Connect(options).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

#ifndef UDPGATE_SANITIZED  // they have a pthread_create of their own

TEST_F(TakeoverFailureTest, TheOldProcessRetriesAMissingThread) {
  StartOld({2, 1});
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  {
    const auto channel = ConnectRaw();
    AskForPause(channel.get());
    AwaitState(channel.get());
    threads_to_refuse = 1;
  }
  ASSERT_TRUE(AwaitTrue([&] { return threads_to_refuse <= 0; }));
  ASSERT_TRUE(AwaitTrue(
      [&] { return absl::StrContains(old_.log(), "continues to serve"); }));
  EXPECT_TRUE(AwaitTrue(
      [&] { return absl::StrContains(old_.log(), "forwarding is paused"); }));
  EXPECT_TRUE(old_->IsAlive(absl::Seconds(1)));
  EXPECT_EQ(client_.Ask(address_, "b", absl::Seconds(2)).value_or("nothing"),
            "first:b");
}

TEST_F(TakeoverFailureTest, TheNewProcessRetriesAMissingThread) {
  StartOld();
  ASSERT_TRUE(client_.Ask(address_, "a").ok());
  auto disconnects = std::make_shared<NiceMock<MockDisconnectSource>>();
  // The last call before the pause.
  EXPECT_CALL(*disconnects, Health).WillRepeatedly([] {
    threads_to_refuse = 1;
    return absl::OkStatus();
  });
  const absl::StatusOr<TakenOver> taken =
      TakeOver({1, 1}, nullptr, disconnects);
  EXPECT_TRUE(taken.ok()) << taken.status();
  EXPECT_EQ(client_.Ask(address_, "b", absl::Seconds(1)).value_or("nothing"),
            "first:b");
}

#endif  // UDPGATE_SANITIZED

TEST_F(TakeoverFailureTest, ValidatesItsOptions) {
  TakeoverServerOptions options;
  EXPECT_THAT(std::string(options.Validate().message()),
              HasSubstr("socket_path"));
  options.socket_path = path_;
  EXPECT_TRUE(options.Validate().ok());
  options.pause_max = absl::ZeroDuration();
  EXPECT_THAT(std::string(options.Validate().message()),
              HasSubstr("pause_max"));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
