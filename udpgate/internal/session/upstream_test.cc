// Real sockets on loopback, and system calls that fail on demand.
#include "udpgate/internal/session/upstream.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "testing/failing_sys_calls.h"
#include "testing/loopback_peer.h"

namespace udpgate {
namespace internal {
namespace {

using test::Call;
using test::LoopbackPeer;

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kReceiveBufferBytes = 65536;

SocketAddress Ip(absl::string_view ip) {
  return *SocketAddress::FromIpAndPort(ip, 0);
}

template <typename GetName>
SocketAddress Name(int fd, GetName get_name) {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  EXPECT_EQ(get_name(fd, reinterpret_cast<sockaddr*>(&storage), &size), 0);
  return SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&storage), size);
}

// Knows which descriptors are open, and lets a test look on.
class WatchedSysCalls : public test::FailingSysCalls {
 public:
  SysCallResult Socket(int domain, int type, int protocol) override {
    const SysCallResult result =
        FailingSysCalls::Socket(domain, type, protocol);
    if (result.ok()) open_fds.insert(result.value);
    return result;
  }
  SysCallResult Close(int fd) override {
    EXPECT_EQ(open_fds.erase(fd), 1u) << "closed twice";
    if (on_close) on_close();
    return FailingSysCalls::Close(fd);
  }
  SysCallResult Connect(int fd, const sockaddr* address,
                        socklen_t size) override {
    if (before_connect) before_connect(fd);
    return FailingSysCalls::Connect(fd, address, size);
  }

  SysCallResult Bind(int fd, const sockaddr* address, socklen_t size) override {
    const SocketAddress ip =
        SocketAddress::FromSockaddr(address, size).WithPort(0);
    const SysCallResult result = FailingSysCalls::Bind(fd, address, size);
    const bool is_gone =
        std::find(gone_ips.begin(), gone_ips.end(), ip) != gone_ips.end();
    return is_gone ? SysCallResult{-1, EADDRNOTAVAIL} : result;
  }

  std::set<int> open_fds;
  // Addresses that have left the host.
  std::vector<SocketAddress> gone_ips;
  std::function<void()> on_close;
  std::function<void(int fd)> before_connect;
};

class UpstreamTest : public ::testing::Test {
 protected:
  // A few ports that were free a moment ago, unless the test says which.
  void Start(std::vector<SocketAddress> bind_addresses = {}) {
    RelayPortsOptions options;
    options.bind_addresses = std::move(bind_addresses);
    if (local_ports_.empty()) local_ports_ = FreePorts(8);
    ports_ = std::make_unique<RelayPorts>(local_ports_, options);
    opener_ = std::make_unique<UpstreamOpener>(&sys_calls_, ports_.get());
  }
  static std::vector<uint16_t> FreePorts(int count) {
    std::vector<LoopbackPeer> peers(count);
    std::vector<uint16_t> ports;
    for (const LoopbackPeer& peer : peers) {
      ports.push_back(peer.address().port());
    }
    return ports;
  }

  void TearDown() override {
    CloseAll();
    EXPECT_EQ(sys_calls_.open_fds.size(), 0u);
    if (ports_ != nullptr) {
      EXPECT_EQ(ports_->in_use(), 0);
    }
  }

  UpstreamOpener::Result Open(const SocketAddress& backend) {
    UpstreamOpener::Result result;
    const SocketAddress source = opener_->FindSource(backend, now_, &result);
    if (result.error == 0) {
      result = opener_->Open(source, backend, {/*shard=*/0, {/*slot=*/0, 1}},
                             kReceiveBufferBytes, now_);
    }
    if (result.error == 0) opened_.push_back(result);
    CheckThatNothingLeaks();
    return result;
  }
  UpstreamOpener::Result Open() { return Open(backend_.address()); }

  void CheckThatNothingLeaks() {
    EXPECT_EQ(sys_calls_.open_fds.size(), opened_.size());
    EXPECT_EQ(ports_->in_use(), static_cast<int64_t>(opened_.size()));
  }
  // Closes the oldest.
  void Close(bool has_answered = false) {
    opener_->Close(opened_.front().fd, opened_.front().relay, has_answered,
                   now_);
    opened_.erase(opened_.begin());
  }
  void CloseAll() {
    while (!opened_.empty()) Close();
  }
  // Whether what is sent on the last socket arrives, from its relay address.
  void CheckThatItWorks() {
    ASSERT_FALSE(opened_.empty());
    ASSERT_EQ(::send(opened_.back().fd, "x", 1, 0), 1);
    const absl::StatusOr<test::Datagram> datagram = backend_.Receive();
    ASSERT_TRUE(datagram.ok()) << datagram.status();
    EXPECT_EQ(datagram->from, opened_.back().relay);
  }

  WatchedSysCalls sys_calls_;
  LoopbackPeer backend_;
  std::vector<uint16_t> local_ports_;
  std::unique_ptr<RelayPorts> ports_;
  std::unique_ptr<UpstreamOpener> opener_;
  std::vector<UpstreamOpener::Result> opened_;
  int64_t now_ = 1000 * kSecond;
};

TEST_F(UpstreamTest, OpensAConnectedSocketOnAPortOfItsOwn) {
  Start();
  const UpstreamOpener::Result result = Open();
  ASSERT_EQ(result.error, 0) << result.failed_call;
  EXPECT_EQ(result.relay, Ip("127.0.0.1").WithPort(local_ports_.front()));
  EXPECT_EQ(Name(result.fd, ::getsockname), result.relay);
  EXPECT_EQ(Name(result.fd, ::getpeername), backend_.address());
  EXPECT_NE(::fcntl(result.fd, F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(::fcntl(result.fd, F_GETFD) & FD_CLOEXEC, 0);
  for (const int option : {SO_REUSEADDR, SO_REUSEPORT}) {
    int value = -1;
    socklen_t size = sizeof(value);
    ASSERT_EQ(::getsockopt(result.fd, SOL_SOCKET, option, &value, &size), 0);
    EXPECT_EQ(value, 0);
  }
  ASSERT_EQ(ports_->Find(result.relay.port()).size(), 1u);
  CheckThatItWorks();
}

TEST_F(UpstreamTest, AsksTheRoutesOnceASecond) {
  Start();
  UpstreamOpener::Result failure;
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(opener_->FindSource(backend_.address(), now_, &failure),
              Ip("127.0.0.1"));
  }
  EXPECT_EQ(sys_calls_.calls(Call::kGetSockName), 1);
  now_ += kSecond;
  opener_->FindSource(backend_.address(), now_, &failure);
  EXPECT_EQ(sys_calls_.calls(Call::kGetSockName), 2);
}

TEST_F(UpstreamTest, AskingTheRoutesMayFail) {
  Start();
  for (const Call call : {Call::kSocket, Call::kConnect, Call::kGetSockName}) {
    UpstreamOpener::Result failure;
    sys_calls_.FailNext(call, ENOBUFS);
    opener_->FindSource(backend_.address(), now_, &failure);
    EXPECT_EQ(failure.error, ENOBUFS);
    EXPECT_STRNE(failure.failed_call, "");
    CheckThatNothingLeaks();
  }
  EXPECT_EQ(Open().error, 0);
}

TEST_F(UpstreamTest, AClosedSocketIsGoneBeforeItsPortIsFree) {
  Start();
  Open();
  sys_calls_.on_close = [&] { EXPECT_EQ(ports_->in_use(), 1); };
  Close();
  sys_calls_.on_close = nullptr;
  EXPECT_EQ(ports_->in_use(), 0);
}

TEST_F(UpstreamTest, APortWithAnswersIsQuarantined) {
  local_ports_ = FreePorts(1);
  Start();
  Open();
  Close(/*has_answered=*/false);
  EXPECT_EQ(ports_->quarantined(now_), 0);
  Open();
  Close(/*has_answered=*/true);
  EXPECT_EQ(ports_->quarantined(now_), 1);
  EXPECT_EQ(Open().error, 0);
  EXPECT_EQ(ports_->quarantined_ports_taken(), 1u);
}

// Whatever comes before the connect is not the backend's.
TEST_F(UpstreamTest, WhatCameBeforeTheConnectIsDiscarded) {
  Start();
  LoopbackPeer stranger;
  sys_calls_.before_connect = [&](int fd) {
    const SocketAddress relay = Name(fd, ::getsockname);
    if (relay.port() == 0) return;  // the lookup of the route
    for (int i = 0; i < 3; ++i) {
      ASSERT_TRUE(stranger.Send(relay, "forged").ok());
    }
  };
  // An error of the reading must not leave the rest behind.
  sys_calls_.FailNext(Call::kRecvMmsg, ENOBUFS);
  const UpstreamOpener::Result result = Open();
  ASSERT_EQ(result.error, 0);
  char byte;
  EXPECT_EQ(::recv(result.fd, &byte, 1, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);

  sys_calls_.FailAll(Call::kRecvMmsg, ENOBUFS);
  const UpstreamOpener::Result failed = Open();
  EXPECT_EQ(failed.error, ENOBUFS);
  EXPECT_STREQ(failed.failed_call, "recvmmsg");
}

// Ports of other programs.

TEST_F(UpstreamTest, APortThatAStrangerHasIsPassedOverOnce) {
  LoopbackPeer stranger;
  local_ports_ = FreePorts(2);
  local_ports_.insert(local_ports_.begin(), stranger.address().port());
  Start();
  EXPECT_EQ(Open().relay.port(), local_ports_[1]);
  EXPECT_EQ(sys_calls_.calls(Call::kBind), 2);
  // It rests: not every client pays for it.
  for (int i = 0; i < 4; ++i) {
    Close();
    EXPECT_EQ(Open().error, 0);
  }
  EXPECT_EQ(sys_calls_.calls(Call::kBind), 6);
}

TEST_F(UpstreamTest, WhereStrangersHaveAllPortsItGivesUpAndRecovers) {
  local_ports_.clear();
  for (uint16_t port = 20000; port < 20200; ++port) {
    local_ports_.push_back(port);
  }
  Start();
  sys_calls_.FailAll(Call::kBind, EADDRINUSE);
  const UpstreamOpener::Result result = Open();
  EXPECT_EQ(result.error, EADDRINUSE);
  EXPECT_STREQ(result.failed_call, "bind");
  EXPECT_EQ(sys_calls_.calls(Call::kBind), 64);
  for (int i = 0; i < 3; ++i) EXPECT_NE(Open().error, 0);
  // None has been forgotten: with all of them at rest, the next try takes the
  // one that was tried longest ago.
  sys_calls_.Reset();
  EXPECT_EQ(Open().error, 0);
  CheckThatItWorks();
}

// More ports than there are attempts are strangers', and a flood has the
// others: it takes one in quarantine rather than to shed the client.
TEST_F(UpstreamTest, StrangersPortsLockNobodyOut) {
  std::vector<LoopbackPeer> strangers(70);
  local_ports_ = FreePorts(1);
  const uint16_t port = local_ports_.front();
  for (const LoopbackPeer& stranger : strangers) {
    local_ports_.push_back(stranger.address().port());
  }
  Start();
  EXPECT_EQ(Open().relay.port(), port);
  Close(/*has_answered=*/true);
  EXPECT_EQ(Open().relay.port(), port);
  EXPECT_EQ(ports_->quarantined_ports_taken(), 1u);
}

TEST_F(UpstreamTest, NeverConnectsASocketToItself) {
  local_ports_ = FreePorts(1);
  Start();
  const SocketAddress backend = Ip("127.0.0.1").WithPort(local_ports_[0]);
  EXPECT_EQ(Open(backend).error, EADDRINUSE);
  EXPECT_EQ(sys_calls_.calls(Call::kBind), 0);
  EXPECT_EQ(Open().error, 0) << "another backend is no matter";
}

// Several source addresses.

TEST_F(UpstreamTest, BindAddressesAreUsedInTurn) {
  Start({Ip("127.0.0.2"), Ip("127.0.0.3")});
  for (const absl::string_view ip :
       {"127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.3"}) {
    const UpstreamOpener::Result result = Open();
    ASSERT_EQ(result.error, 0);
    EXPECT_EQ(result.relay.WithPort(0), Ip(ip));
    EXPECT_EQ(Name(result.fd, ::getsockname), result.relay);
    CheckThatItWorks();
  }
}

TEST_F(UpstreamTest, ABackendOfAnotherFamilyIsReachedFromWhereTheRoutesSay) {
  Start({Ip("127.0.0.2")});
  const LoopbackPeer ipv6_backend(SocketAddress::Ipv6Loopback(0));
  EXPECT_EQ(Open(ipv6_backend.address()).relay.WithPort(0), Ip("::1"));
  EXPECT_EQ(Open().relay.WithPort(0), Ip("127.0.0.2"));
}

TEST_F(UpstreamTest, OneAddressIsNoCeiling) {
  local_ports_ = FreePorts(2);
  Start({Ip("127.0.0.2"), Ip("127.0.0.3"), Ip("127.0.0.4")});
  std::set<std::string> relays;
  for (int i = 0; i < 6; ++i) {
    ASSERT_EQ(Open().error, 0) << i;
    EXPECT_TRUE(relays.insert(opened_.back().relay.ToString()).second);
  }
  const UpstreamOpener::Result refused = Open();
  EXPECT_EQ(refused.error, EADDRNOTAVAIL);
  EXPECT_STREQ(refused.failed_call, "no relay port is free");
  Close();
  EXPECT_EQ(Open().error, 0);
}

TEST_F(UpstreamTest, AnAddressThatHasLeftTheHostIsPassedOver) {
  Start({Ip("127.0.0.2"), Ip("127.0.0.3"), Ip("127.0.0.4")});
  sys_calls_.gone_ips = {Ip("127.0.0.2"), Ip("127.0.0.4")};
  for (int i = 0; i < 6; ++i) {
    ASSERT_EQ(Open().error, 0) << i;
    EXPECT_EQ(opened_.back().relay.WithPort(0), Ip("127.0.0.3"));
    CheckThatItWorks();
  }
  EXPECT_EQ(ports_->in_use(), 6);
  sys_calls_.gone_ips.clear();
  CloseAll();
  std::set<std::string> ips;
  for (int i = 0; i < 3; ++i) ips.insert(Open().relay.IpToString());
  EXPECT_EQ(ips.size(), 3u) << "each has its turn again";
}

TEST_F(UpstreamTest, WhereAllAddressesHaveLeftTheHostItSaysSo) {
  Start({Ip("127.0.0.2"), Ip("127.0.0.3")});
  sys_calls_.gone_ips = {Ip("127.0.0.2"), Ip("127.0.0.3")};
  const UpstreamOpener::Result result = Open();
  EXPECT_EQ(result.error, EADDRNOTAVAIL);
  EXPECT_STREQ(result.failed_call, "bind");
  EXPECT_EQ(sys_calls_.calls(Call::kBind), 2) << "each once";
  sys_calls_.gone_ips.clear();
  EXPECT_EQ(Open().error, 0);
}

// Whether somebody could make room by giving up what it has.
TEST_F(UpstreamTest, SaysWhetherPortsDescriptorsOrMemoryWereMissing) {
  local_ports_ = FreePorts(1);
  Start({Ip("127.0.0.2"), Ip("127.0.0.3")});
  sys_calls_.gone_ips = {Ip("127.0.0.2"), Ip("127.0.0.3")};
  EXPECT_FALSE(Open().LacksRoom()) << "no port would help";
  sys_calls_.gone_ips.clear();
  EXPECT_FALSE(Open().LacksRoom());
  EXPECT_FALSE(Open().LacksRoom());
  EXPECT_TRUE(Open().LacksRoom());
  CloseAll();
  for (const int error : {EMFILE, ENFILE, ENOMEM, ENOBUFS}) {
    sys_calls_.FailNext(Call::kSocket, error, 2);
    EXPECT_TRUE(Open().LacksRoom()) << error;
    sys_calls_.Reset();
  }
  sys_calls_.FailNext(Call::kConnect, EPERM, 2);
  EXPECT_FALSE(Open().LacksRoom()) << "a firewall";
}

TEST_F(UpstreamTest, IsOfUseIsAPortThatTheNextOneCouldHave) {
  Start();
  EXPECT_TRUE(opener_->IsOfUse(Ip("127.0.0.1").WithPort(5), Ip("127.0.0.1")));
  EXPECT_FALSE(opener_->IsOfUse(Ip("127.0.0.2").WithPort(5), Ip("127.0.0.1")));
  EXPECT_FALSE(opener_->IsOfUse(Ip("::1").WithPort(5), Ip("127.0.0.1")));
  Start({Ip("127.0.0.2"), Ip("127.0.0.3")});
  EXPECT_TRUE(opener_->IsOfUse(Ip("127.0.0.2").WithPort(5), Ip("127.0.0.1")));
  EXPECT_FALSE(opener_->IsOfUse(Ip("::1").WithPort(5), Ip("127.0.0.1")));
}

TEST_F(UpstreamTest, ManyAddressesThatHaveLeftTheHostCostABoundedTime) {
  std::vector<SocketAddress> addresses;
  for (int i = 2; i < 14; ++i)
    addresses.push_back(Ip(absl::StrCat("127.0.0.", i)));
  Start(addresses);
  sys_calls_.gone_ips = addresses;
  sys_calls_.gone_ips.pop_back();
  EXPECT_EQ(Open().error, EADDRNOTAVAIL);
  EXPECT_EQ(sys_calls_.calls(Call::kBind), 8);
  EXPECT_EQ(Open().relay.WithPort(0), addresses.back()) << "it goes on";
}

// Policy routing: there is a route from one address only.
TEST_F(UpstreamTest, AnAddressWithoutARouteToTheBackendIsPassedOver) {
  Start({Ip("127.0.0.2"), Ip("127.0.0.3")});
  for (const int error : {EINVAL, ENETUNREACH, EHOSTUNREACH}) {
    now_ += kSecond;                                // the routes are asked anew
    sys_calls_.FailNext(Call::kConnect, error, 2);  // the lookup, and one
    ASSERT_EQ(Open().error, 0) << error;
    CheckThatItWorks();
  }
}

TEST_F(UpstreamTest, CheckBindAddressesFindsTheOneThatIsNotOurs) {
  const std::vector<SocketAddress> ours = {Ip("127.0.0.2"), Ip("::1")};
  EXPECT_TRUE(CheckBindAddresses(&sys_calls_, ours).ok());
  sys_calls_.gone_ips = {Ip("::1")};
  EXPECT_EQ(
      CheckBindAddresses(&sys_calls_, ours).message(),
      "upstream_bind_addresses: bind ::1: Cannot assign requested address");
  sys_calls_.FailNext(Call::kSocket, EMFILE);
  EXPECT_EQ(CheckBindAddresses(&sys_calls_, ours).message(),
            "socket: Too many open files");
}

// Faults.

struct Fault {
  Call call;
  const char* name;
  bool is_fatal;  // sheds the client
};

class UpstreamFaultTest : public UpstreamTest,
                          public ::testing::WithParamInterface<Fault> {};

// At the first, the second and a random call of an opening and closing gate.
TEST_P(UpstreamFaultTest, ShedsOneClientAtMostAndRecovers) {
  const Fault& fault = GetParam();
  constexpr int kClients = 12;
  const uint64_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  for (const int error : {EADDRNOTAVAIL, EADDRINUSE, EAGAIN, EMFILE, ENFILE,
                          ENOBUFS, ENOMEM, EACCES, EPERM}) {
    const int64_t any = static_cast<int64_t>(3 + random() % 6);
    for (const int64_t n : {int64_t{1}, int64_t{2}, any}) {
      SCOPED_TRACE(absl::StrCat("errno ", error, " at call ", n));
      Start();
      sys_calls_.Reset();
      sys_calls_.FailNth(fault.call, n, error);
      int shed_count = 0;
      for (int i = 0; i < kClients; ++i) {
        const UpstreamOpener::Result result = Open();
        if (result.error != 0) {
          ++shed_count;
          EXPECT_EQ(result.error, error);
          EXPECT_STREQ(result.failed_call, fault.name);
          EXPECT_EQ(result.fd, -1);
        } else {
          CheckThatItWorks();
        }
        if (opened_.size() == 4) Close(/*has_answered=*/i % 2 == 0);
        CheckThatNothingLeaks();
      }
      EXPECT_EQ(sys_calls_.failures(fault.call), 1);
      const bool is_passed_over =
          error == EADDRINUSE && fault.call == Call::kBind;
      EXPECT_EQ(shed_count, fault.is_fatal && !is_passed_over ? 1 : 0);
      CloseAll();
      CheckThatNothingLeaks();
    }
  }
}

// As long as it lasts every client is shed, at a bounded price; then it works
// at once.
TEST_P(UpstreamFaultTest, SurvivesAFaultThatLasts) {
  const Fault& fault = GetParam();
  if (!fault.is_fatal) return;
  for (const int error : {EADDRNOTAVAIL, EADDRINUSE, EAGAIN, EMFILE, ENFILE,
                          ENOBUFS, ENOMEM, EACCES, EPERM}) {
    SCOPED_TRACE(absl::StrCat("errno ", error));
    Start();
    sys_calls_.Reset();
    Open();
    sys_calls_.FailAll(fault.call, error);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(Open().error, error);
    EXPECT_LE(sys_calls_.calls(Call::kSocket), 3 + 101 * 64);
    sys_calls_.Reset();
    for (size_t i = 1; i < local_ports_.size(); ++i) {
      EXPECT_EQ(Open().error, 0);
      CheckThatItWorks();
    }
    EXPECT_NE(Open().error, 0) << "no port was lost, and none was invented";
    CloseAll();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Calls, UpstreamFaultTest,
    ::testing::Values(Fault{Call::kSocket, "socket", true},
                      Fault{Call::kBind, "bind", true},
                      Fault{Call::kConnect, "connect", true},
                      Fault{Call::kSetSockOpt, "setsockopt", false},
                      Fault{Call::kRecvMmsg, "recvmmsg", false},
                      Fault{Call::kClose, "close", false}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace internal
}  // namespace udpgate
