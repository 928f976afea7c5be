// A UDP echo backend that costs little itself: one thread, up to 64 datagrams
// a system call.
//
//   echo [ADDRESS]     where to listen; 127.0.0.1:0 unless told
//
// Prints the bound address as one line and runs until a signal ends it.
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace bench {
namespace {

constexpr int kBatchSize = 64;
constexpr size_t kDatagramBytesMax = 65536;
constexpr int kSocketBufferBytes = 8 << 20;

struct Batch {
  Batch()
      : buffers(new char[kBatchSize * kDatagramBytesMax]),
        names(kBatchSize),
        vectors(kBatchSize),
        messages(kBatchSize) {
    for (size_t i = 0; i < messages.size(); ++i) {
      vectors[i].iov_base = buffers.get() + i * kDatagramBytesMax;
      messages[i].msg_hdr.msg_name = &names[i];
      messages[i].msg_hdr.msg_iov = &vectors[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
  }

  // Waits for the first datagram only. The number, or -1 with errno.
  int Receive(int fd) {
    for (size_t i = 0; i < to_reset; ++i) {
      vectors[i].iov_len = kDatagramBytesMax;
      messages[i].msg_hdr.msg_namelen = sizeof(names[i]);
    }
    const int count =
        recvmmsg(fd, messages.data(), kBatchSize, MSG_WAITFORONE, nullptr);
    to_reset = static_cast<size_t>(std::max(count, 0));
    return count;
  }

  // What cannot be sent is dropped: the load generator counts it.
  void SendBack(int fd, int count) {
    if (count == 1) {
      const msghdr& header = messages[0].msg_hdr;
      sendto(fd, vectors[0].iov_base, messages[0].msg_len, 0,
             static_cast<sockaddr*>(header.msg_name), header.msg_namelen);
      return;
    }
    for (int i = 0; i < count; ++i) vectors[i].iov_len = messages[i].msg_len;
    for (int begin = 0; begin < count;) {
      const int sent = sendmmsg(fd, messages.data() + begin,
                                static_cast<unsigned int>(count - begin), 0);
      begin += sent > 0 ? sent : 1;
    }
  }

  std::unique_ptr<char[]> buffers;
  std::vector<sockaddr_storage> names;
  std::vector<iovec> vectors;
  std::vector<mmsghdr> messages;
  size_t to_reset = kBatchSize;  // so many first ones have been used
};

int Fail(const char* what) {
  std::fprintf(stderr, "echo: %s: %s\n", what,
               internal::ErrnoToText(errno).c_str());
  return 1;
}

int Run(const std::string& listen) {
  const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(listen);
  if (!address.ok()) {
    std::fprintf(stderr, "usage: echo [ADDRESS:PORT]\n");
    return 2;
  }
  const internal::UniqueFd fd(
      socket(address->family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) return Fail("socket");
  for (const int option : {SO_RCVBUF, SO_SNDBUF}) {
    setsockopt(fd.get(), SOL_SOCKET, option, &kSocketBufferBytes,
               sizeof(kSocketBufferBytes));
  }
  sockaddr_storage name;
  socklen_t name_bytes = address->ToSockaddr(address->family(), &name);
  auto* const raw_name = reinterpret_cast<sockaddr*>(&name);
  if (bind(fd.get(), raw_name, name_bytes) != 0) return Fail("bind");
  name_bytes = sizeof(name);
  if (getsockname(fd.get(), raw_name, &name_bytes) != 0) {
    return Fail("getsockname");
  }
  std::printf(
      "%s\n",
      SocketAddress::FromSockaddr(raw_name, name_bytes).ToString().c_str());
  std::fflush(stdout);

  Batch batch;
  while (true) {
    const int count = batch.Receive(fd.get());
    if (count > 0) {
      batch.SendBack(fd.get(), count);
    } else if (errno != EINTR && errno != ECONNREFUSED) {
      return Fail("recvmmsg");
    }
  }
}

}  // namespace
}  // namespace bench
}  // namespace udpgate

int main(int argc, char** argv) {
  return udpgate::bench::Run(argc > 1 ? argv[1] : "127.0.0.1:0");
}
