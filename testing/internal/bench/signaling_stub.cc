// A backend's signaling that costs little: it answers each offer at once, and
// all answers name the same UDP port.
//
//   signaling_stub MEDIA_PORT
//
// Listens on 127.0.0.1 with a port that the kernel chooses, prints the address
// as one line, and runs until a signal ends it. Each answer has a ufrag of its
// own.
#include <sys/socket.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace bench {
namespace {

constexpr int kThreads = 32;

std::string AnswerOf(int64_t number, uint32_t media_port) {
  return absl::StrCat(
      "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
      "a=identity:",
      std::string(600, 'B'), "\r\nm=application ", media_port,
      " UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 127.0.0.1\r\n"
      "a=candidate:1 1 udp 2113937151 127.0.0.1 ",
      media_port, " typ host\r\na=end-of-candidates\r\na=ice-ufrag:bench",
      number,
      "\r\na=ice-pwd:thePasswordOfAnAnswer00\r\n"
      "a=fingerprint:sha-256 8A:5F:11:C0:33:5B:60:7E:0B:64:19:1E:A4:27:0D:3C:"
      "93:AB:1F:02:6E:5D:88:41:F3:D0:9A:7C:12:E6:4B:55\r\n"
      "a=setup:active\r\na=mid:0\r\na=sctp-port:5000\r\n");
}

// False at the end of the stream.
bool ReadRequest(int fd, std::string* text) {
  text->clear();
  char buffer[16384];
  size_t wanted = 0;
  while (wanted == 0 || text->size() < wanted) {
    const ssize_t count = ::recv(fd, buffer, sizeof(buffer), 0);
    if (count <= 0) return false;
    text->append(buffer, static_cast<size_t>(count));
    const size_t end = text->find("\r\n\r\n");
    if (wanted != 0 || end == std::string::npos) continue;
    const std::string head = absl::AsciiStrToLower(text->substr(0, end + 2));
    const std::string name = "\r\ncontent-length:";
    const size_t begin = head.find(name);
    size_t length = 0;
    if (begin != std::string::npos) {
      const size_t value = begin + name.size();
      if (!absl::SimpleAtoi(
              head.substr(value, head.find("\r\n", value) - value), &length)) {
        return false;
      }
    }
    wanted = end + 4 + length;
  }
  return true;
}

void Serve(int listener, uint32_t media_port, std::atomic<int64_t>* joins) {
  std::string request;
  while (true) {
    const internal::UniqueFd fd(
        ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd.is_open() || !ReadRequest(fd.get(), &request)) continue;
    const bool is_join = absl::StartsWith(request, "POST ");
    const std::string body = is_join
                                 ? AnswerOf(++*joins, media_port)
                                 : R"({"name":"bench","protocol":1,)"
                                   R"("version":"1","level":"","players":0,)"
                                   R"("maxPlayers":1,"gameType":0})";
    const std::string response =
        absl::StrCat("HTTP/1.1 200 OK\r\nContent-Type: ",
                     is_join ? "application/sdp" : "application/json",
                     "\r\nContent-Length: ", body.size(),
                     "\r\nConnection: close\r\n\r\n", body);
    ::send(fd.get(), response.data(), response.size(), MSG_NOSIGNAL);
  }
}

int Run(uint32_t media_port) {
  const internal::UniqueFd listener(
      ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage name;
  socklen_t size = SocketAddress::Ipv4Loopback(0).ToSockaddr(AF_INET, &name);
  auto* const raw_name = reinterpret_cast<sockaddr*>(&name);
  if (::bind(listener.get(), raw_name, size) != 0 ||
      ::listen(listener.get(), SOMAXCONN) != 0 ||
      ::getsockname(listener.get(), raw_name, &size) != 0) {
    std::perror("signaling_stub");
    return 1;
  }
  std::atomic<int64_t> joins{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back(Serve, listener.get(), media_port, &joins);
  }
  std::printf("%s\n",
              SocketAddress::FromSockaddr(raw_name, size).ToString().c_str());
  std::fflush(stdout);
  for (std::thread& thread : threads) thread.join();
  return 0;
}

}  // namespace
}  // namespace bench
}  // namespace udpgate

int main(int argc, char** argv) {
  uint32_t media_port = 0;
  if (argc != 2 || !absl::SimpleAtoi(argv[1], &media_port) ||
      media_port > UINT16_MAX) {
    std::fputs("usage: signaling_stub MEDIA_PORT\n", stderr);
    return 2;
  }
  return udpgate::bench::Run(media_port);
}
