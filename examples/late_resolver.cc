// An asynchronous resolver with a thread of its own. Use this pattern if a
// resolution needs a database, an HTTP request or a matchmaker.
//
// `Resolve` is called on a thread that relays datagrams, so it only queues the
// request. Meanwhile the gateway buffers the client's datagrams; it sends them
// in order after the resolution.
//
// The program starts a gateway with the resolver below and an echo backend, and
// sends one datagram through it. Its exit status is 0 if the echo arrives.
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "udpgate/proxy.h"

class LateResolver final : public udpgate::BackendResolver {
 public:
  // May block: it runs on the resolver's thread, one request at a time. An
  // error tells the gateway why there is no backend; see backend_resolver.h.
  using LookUp = std::function<absl::StatusOr<udpgate::ResolveResult>(
      const udpgate::SocketAddress& client)>;

  // If `queue_max` requests are pending, new ones fail immediately: in a longer
  // queue they would time out anyway.
  LateResolver(LookUp look_up, size_t queue_max)
      : look_up_(std::move(look_up)), queue_max_(queue_max) {
    thread_ = std::thread([this] { Run(); });
  }

  // Discards pending requests without a call of `done`, which the interface
  // allows.
  ~LateResolver() override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void Resolve(const udpgate::ResolveRequest& request, Callback done) override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (queue_.size() < queue_max_) {
        queue_.push_back({request.client, std::move(done)});
        changed_.notify_one();
        return;
      }
    }
    done(absl::ResourceExhaustedError("too many pending resolutions"));
  }

 private:
  struct Request {
    udpgate::SocketAddress client;
    Callback done;
  };

  void Run() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      Request request = std::move(queue_.front());
      queue_.pop_front();
      lock.unlock();  // both calls below may block
      request.done(look_up_(request.client));
      lock.lock();
    }
  }

  const LookUp look_up_;
  const size_t queue_max_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Request> queue_;  // guarded by mutex_
  bool stopping_ = false;      // guarded by mutex_
  std::thread thread_;         // last: uses all of the above
};

namespace {

// A UDP socket on a free loopback port with a receive time-out of 5 seconds.
class LoopbackSocket {
 public:
  LoopbackSocket() : fd_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    const timeval timeout = {/*tv_sec=*/5, /*tv_usec=*/0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    sockaddr_storage name;
    socklen_t size =
        udpgate::SocketAddress::Ipv4Loopback(0).ToSockaddr(AF_INET, &name);
    bind(fd_, reinterpret_cast<sockaddr*>(&name), size);
  }
  ~LoopbackSocket() { close(fd_); }
  LoopbackSocket(const LoopbackSocket&) = delete;
  LoopbackSocket& operator=(const LoopbackSocket&) = delete;

  udpgate::SocketAddress address() const {
    sockaddr_storage name;
    socklen_t size = sizeof(name);
    getsockname(fd_, reinterpret_cast<sockaddr*>(&name), &size);
    return udpgate::SocketAddress::FromSockaddr(
        reinterpret_cast<const sockaddr*>(&name), size);
  }

  void Send(const std::string& text, const udpgate::SocketAddress& to) {
    sockaddr_storage name;
    const socklen_t size = to.ToSockaddr(AF_INET, &name);
    sendto(fd_, text.data(), text.size(), 0,
           reinterpret_cast<const sockaddr*>(&name), size);
  }

  // Empty after the time-out.
  std::string Receive(udpgate::SocketAddress* from) {
    char buffer[2048];
    sockaddr_storage name;
    socklen_t size = sizeof(name);
    const ssize_t count = recvfrom(fd_, buffer, sizeof(buffer), 0,
                                   reinterpret_cast<sockaddr*>(&name), &size);
    if (count < 0) return "";
    *from = udpgate::SocketAddress::FromSockaddr(
        reinterpret_cast<const sockaddr*>(&name), size);
    return std::string(buffer, static_cast<size_t>(count));
  }

 private:
  const int fd_;
};

absl::Status Run() {
  LoopbackSocket backend;
  std::thread echo([&backend] {
    udpgate::SocketAddress gateway;
    const std::string text = backend.Receive(&gateway);
    if (gateway.is_valid()) backend.Send("echo of " + text, gateway);
  });

  udpgate::ProxyOptions options;
  options.listen_address = udpgate::SocketAddress::Ipv4Loopback(0);
  udpgate::ProxyDependencies dependencies;
  dependencies.resolver = std::make_shared<LateResolver>(
      [&backend](const udpgate::SocketAddress& client)
          -> absl::StatusOr<udpgate::ResolveResult> {
        std::cout << "looking up a backend for " << client.ToString() << "\n";
        return udpgate::ResolveResult{backend.address(), "the echo server"};
      },
      /*queue_max=*/1000);
  auto proxy = udpgate::Proxy::Create(options, dependencies);
  absl::Status status = proxy.ok() ? (*proxy)->Start() : proxy.status();

  if (status.ok()) {
    LoopbackSocket client;
    udpgate::SocketAddress from;
    client.Send("hello", (*proxy)->listen_addresses()[0]);
    const std::string reply = client.Receive(&from);
    std::cout << "the client received: \"" << reply << "\"\n";
    if (reply != "echo of hello") {
      status = absl::DeadlineExceededError("no echo received");
    }
  }
  echo.join();
  return status;
}

}  // namespace

int main() {
  const absl::Status status = Run();
  if (!status.ok()) std::cerr << status << "\n";
  return status.ok() ? 0 : 1;
}
