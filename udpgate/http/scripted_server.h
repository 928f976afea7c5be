// A TCP server for tests of `http::Client`, which does to each connection what
// the test says.
#ifndef UDPGATE_HTTP_SCRIPTED_SERVER_H_
#define UDPGATE_HTTP_SCRIPTED_SERVER_H_

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {

// Threads: one that accepts, and one for each connection.
class ScriptedServer {
 public:
  // A connection, open until the script returns.
  class Connection {
   public:
    Connection(int fd, int stop_fd) : fd_(fd), stop_fd_(stop_fd) {}

    // Until the head is complete, and as much of the body as came with it.
    const std::string& ReadRequest() {
      while (!absl::StrContains(request_, "\r\n\r\n") && ReadSome()) {
      }
      return request_;
    }
    // Until the request has this many bytes, or the client sends no more.
    const std::string& ReadBytes(size_t size) {
      while (request_.size() < size && ReadSome()) {
      }
      return request_;
    }
    void Send(absl::string_view text) const {
      while (!text.empty()) {
        const ssize_t count =
            send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
        if (count <= 0) return;
        text.remove_prefix(static_cast<size_t>(count));
      }
    }
    // As a segment of its own, after the client's kernel has the ones before.
    void SendAlone(char byte) const {
      const int on = 1;
      setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      int unacknowledged = 1;
      while (unacknowledged > 0 &&
             ioctl(fd_.get(), SIOCOUTQ, &unacknowledged) == 0) {
        std::this_thread::yield();
      }
      Send(absl::string_view(&byte, 1));
    }
    // True if the client closed or reset the connection; false if the server
    // ends first.
    bool AwaitClose() {
      while (ReadSome()) {
      }
      return !is_stopped_;
    }
    // Resets the connection when the script returns.
    void ResetAtEnd() const {
      const linger value = {1, 0};
      setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &value, sizeof(value));
    }

   private:
    bool ReadSome() {
      pollfd fds[] = {{fd_.get(), POLLIN, 0}, {stop_fd_, POLLIN, 0}};
      if (poll(fds, 2, -1) < 0) return false;
      if (fds[1].revents != 0) {
        is_stopped_ = true;
        return false;
      }
      char buffer[65536];
      const ssize_t count = recv(fd_.get(), buffer, sizeof(buffer), 0);
      if (count <= 0) return false;
      request_.append(buffer, static_cast<size_t>(count));
      return true;
    }

    const udpgate::internal::UniqueFd fd_;
    const int stop_fd_;
    std::string request_;
    bool is_stopped_ = false;
  };
  using Script = std::function<void(Connection*)>;

  // `backlog`: as of listen(2). Without a script it accepts nothing.
  explicit ScriptedServer(
      Script script, int backlog = 4096,
      const SocketAddress& address = SocketAddress::Ipv4Loopback(0))
      : script_(std::move(script)),
        stop_fd_(eventfd(0, EFD_CLOEXEC)),
        listen_fd_(socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_storage storage;
    socklen_t size = address.ToSockaddr(address.family(), &storage);
    sockaddr* const pointer = reinterpret_cast<sockaddr*>(&storage);
    (void)bind(listen_fd_.get(), pointer, size);
    listen(listen_fd_.get(), backlog);
    size = sizeof(storage);
    getsockname(listen_fd_.get(), pointer, &size);
    address_ = SocketAddress::FromSockaddr(pointer, size);
    if (script_ != nullptr) thread_ = std::thread([this] { Accept(); });
  }
  ~ScriptedServer() {
    eventfd_write(stop_fd_.get(), 1);
    if (thread_.joinable()) thread_.join();
  }
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;

  const SocketAddress& address() const { return address_; }
  int accepted() const { return accepted_; }
  // The most connections whose script ran at a time.
  int open_max() const { return open_max_; }

 private:
  void Accept() {
    std::vector<std::thread> threads;
    for (;;) {
      pollfd fds[] = {{listen_fd_.get(), POLLIN, 0},
                      {stop_fd_.get(), POLLIN, 0}};
      if (poll(fds, 2, -1) < 0 || fds[1].revents != 0) break;
      const int fd = accept4(listen_fd_.get(), nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) continue;
      ++accepted_;
      const int open = ++open_;
      if (open > open_max_) open_max_ = open;
      threads.emplace_back([this, fd] {
        Connection connection(fd, stop_fd_.get());
        script_(&connection);
        --open_;
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  const Script script_;
  const udpgate::internal::UniqueFd stop_fd_;
  const udpgate::internal::UniqueFd listen_fd_;
  SocketAddress address_;
  std::atomic<int> accepted_{0};
  std::atomic<int> open_{0};
  std::atomic<int> open_max_{0};
  std::thread thread_;
};

}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_SCRIPTED_SERVER_H_
