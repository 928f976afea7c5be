// Tens of thousands of clients, each with a key of its own.
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "testing/internal/e2e/e2e.h"

namespace udpgate {
namespace test {
namespace {

constexpr uint32_t kFirstAddress = 0x7f400000;  // 127.64.0.0
constexpr size_t kBackendCount = 4;

// Clients that differ in their IP addresses, which are all of loopback: one
// socket is all of them (IP_PKTINFO, ip(7)).
class AddressedClients {
 public:
  AddressedClients() : peer_(*SocketAddress::Parse("0.0.0.0:0")) {
    constexpr int kOn = 1;
    EXPECT_EQ(
        ::setsockopt(peer_.fd(), IPPROTO_IP, IP_PKTINFO, &kOn, sizeof(kOn)), 0);
  }

  static std::string AddressOf(size_t client) {
    const uint32_t address = kFirstAddress + static_cast<uint32_t>(client);
    return absl::StrCat(address >> 24, ".", address >> 16 & 255, ".",
                        address >> 8 & 255, ".", address & 255);
  }

  // Sends the client's number.
  bool Send(size_t client, const SocketAddress& to) {
    const std::string payload = absl::StrCat(client);
    sockaddr_storage name;
    Message message;
    message.header.msg_name = &name;
    message.header.msg_namelen = to.ToSockaddr(AF_INET, &name);
    message.vector = {const_cast<char*>(payload.data()), payload.size()};
    in_pktinfo* const info = message.AddInfo();
    info->ipi_spec_dst.s_addr =
        ::htonl(kFirstAddress + static_cast<uint32_t>(client));
    return ::sendmsg(peer_.fd(), &message.header, 0) ==
           static_cast<ssize_t>(payload.size());
  }

  // The payload that is there for `client`; false if there is none.
  bool Receive(std::string* payload, size_t* client) {
    std::array<char, 128> buffer;
    Message message;
    message.vector = {buffer.data(), buffer.size()};
    message.header.msg_controllen = message.control.size();
    const ssize_t size = ::recvmsg(peer_.fd(), &message.header, MSG_DONTWAIT);
    if (size < 0) return false;
    payload->assign(buffer.data(), static_cast<size_t>(size));
    in_pktinfo info;
    std::memcpy(&info, CMSG_DATA(CMSG_FIRSTHDR(&message.header)), sizeof(info));
    *client = ::ntohl(info.ipi_addr.s_addr) - kFirstAddress;
    return true;
  }

 private:
  struct Message {
    Message() {
      header.msg_iov = &vector;
      header.msg_iovlen = 1;
      header.msg_control = control.data();
    }
    in_pktinfo* AddInfo() {
      header.msg_controllen = control.size();
      cmsghdr* const head = CMSG_FIRSTHDR(&header);
      head->cmsg_level = IPPROTO_IP;
      head->cmsg_type = IP_PKTINFO;
      head->cmsg_len = CMSG_LEN(sizeof(in_pktinfo));
      return reinterpret_cast<in_pktinfo*>(CMSG_DATA(head));
    }
    msghdr header{};
    iovec vector{};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(in_pktinfo))> control{};
  };

  LoopbackPeer peer_;
};

// All source ports of it are the gateway's: a test that runs at the same time
// has another one.
std::string AddressOfItsOwn() {
  std::random_device random;
  std::uniform_int_distribution<int> byte(1, 254);
  return absl::StrCat("127.46.", byte(random), ".", byte(random));
}

class RedisManyKeysTest : public GateTest {
 protected:
  void SetUp() override {
    GateTest::SetUp();
    for (size_t i = 0; i < kBackendCount; ++i) {
      backends_.push_back(std::make_unique<EchoBackend>(absl::StrCat("b", i)));
    }
    // For those without a key, of whom there are none.
    SetBackend(*backends_[0]);
  }

  // The key of each client names one of the backends, by no rule that the
  // gateway could know.
  static size_t BackendOf(size_t client) {
    return (client * 2654435761u >> 7) % kBackendCount;
  }

  void SetKeys(size_t client_count) {
    constexpr size_t kKeysAtOnce = 1000;
    for (size_t begin = 0; begin < client_count; begin += kKeysAtOnce) {
      std::vector<std::string> command = {"MSET"};
      for (size_t i = begin; i < begin + kKeysAtOnce && i < client_count; ++i) {
        command.push_back(
            absl::StrCat(kBackendKey, ":", AddressedClients::AddressOf(i)));
        command.push_back(backends_[BackendOf(i)]->address().ToString());
      }
      ASSERT_TRUE(redis().Command(command).ok());
    }
  }

  // Each comes once; so many of them wait at the same time. How many are served
  // a second.
  double Serve(size_t client_count, size_t waiting_max) {
    AddressedClients clients;
    std::vector<bool> is_served(client_count);
    size_t sent = 0;
    size_t served = 0;
    int wrong = 0;
    const absl::Time begin = absl::Now();
    absl::Time last_reply = begin;
    while (served < client_count) {
      while (sent < client_count && sent < served + waiting_max) {
        if (!clients.Send(sent, address())) break;
        ++sent;
      }
      std::string reply;
      size_t client = 0;
      while (clients.Receive(&reply, &client)) {
        last_reply = absl::Now();
        if (client < client_count && !is_served[client] &&
            reply == absl::StrCat("b", BackendOf(client), ":", client)) {
          is_served[client] = true;
          ++served;
        } else {
          ++wrong;
        }
      }
      if (absl::Now() > last_reply + kAwaitTimeout) break;
    }
    EXPECT_EQ(served, client_count) << gate().log();
    EXPECT_EQ(wrong, 0);
    return static_cast<double>(served) /
           absl::ToDoubleSeconds(last_reply - begin);
  }

  // Each session has one.
  int64_t DescriptorCount() {
    const std::filesystem::directory_iterator descriptors(
        absl::StrCat("/proc/", gate().pid(), "/fd"));
    return std::distance(begin(descriptors), end(descriptors));
  }

  std::vector<std::unique_ptr<EchoBackend>> backends_;
};

TEST_F(RedisManyKeysTest, FiftyThousandClientsGetBackendsOfTheirOwn) {
  constexpr size_t kClients = 50000 / kSlowness;
  SetKeys(kClients);
  StartGate(
      {{"REDIS_BACKEND_KEY", "udp_gate:backend:{client_ip} udp_gate:backend"},
       {"NEW_SESSIONS_PER_SEC", "0"},
       {"UPSTREAM_BIND_ADDRS", AddressOfItsOwn()},
       // There are descriptors for fewer than all.
       {"UNCONFIRMED_TIMEOUT_SECS", "1"},
       {"SESSION_IDLE_TIMEOUT_SECS", "1"}});
  const double per_second = Serve(kClients, 1000);
  std::printf("%.0f newcomers with keys of their own a second\n", per_second);
  // RESOLVES_PER_SEC is 1000 and each client has two keys.
  EXPECT_GT(per_second, 1000);
  RecordProperty("newcomers_per_second", static_cast<int>(per_second));
  size_t sessions = 0;
  for (const auto& backend : backends_) {
    EXPECT_GT(backend->received_count(), kClients / kBackendCount / 2);
    sessions += backend->received_count();
  }
  EXPECT_EQ(sessions, kClients);
  // All of them end; the gateway stops in time then.
  EXPECT_TRUE(AwaitTrue([&] { return DescriptorCount() < 500; }));
}

}  // namespace
}  // namespace test
}  // namespace udpgate
