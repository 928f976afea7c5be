// Accepts the connections of a server, and watches their deadlines.
#ifndef UDPGATE_HTTP_INTERNAL_LISTENER_H_
#define UDPGATE_HTTP_INTERNAL_LISTENER_H_

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "udpgate/clock.h"
#include "udpgate/http/internal/certificate_keeper.h"
#include "udpgate/http/internal/io_threads.h"
#include "udpgate/http/internal/server_state.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/logging.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {
namespace internal {

// A socket that listens at `address`. IPv6 sockets serve IPv4 as well. Errors
// have the address in the text.
absl::StatusOr<udpgate::internal::UniqueFd> Listen(
    const SocketAddress& address);
// Its address; an error if `fd` is no listening TCP socket.
absl::StatusOr<SocketAddress> ListenAddressOf(int fd);

// Threads: `Start` and `Stop` from any; all else on the first of the threads.
class Listener : public std::enable_shared_from_this<Listener> {
 public:
  // `listen_fd` stays the caller's, who closes it after `Stop` and after the
  // Listener is gone.
  Listener(std::shared_ptr<ServerState> state,
           std::shared_ptr<CertificateKeeper> certificate, IoThreads* threads,
           int listen_fd);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  void Start();
  // Deadlines are watched on.
  void StopAccepting();
  void Stop();

 private:
  using Timer = boost::asio::steady_timer;

  void AwaitConnections();
  void AcceptSome();
  // Whether to go on at once.
  bool HandleAcceptError(int error);
  void PauseAccepting();
  void TakeConnection(udpgate::internal::UniqueFd fd,
                      const SocketAddress& peer);
  void WatchDeadlines();
  void WatchCertificate();

  // First, so that it is destroyed last.
  const ServerState::Presence presence_;
  const std::shared_ptr<ServerState> state_;
  const std::shared_ptr<CertificateKeeper> certificate_;
  IoThreads* const threads_;
  boost::asio::posix::basic_stream_descriptor<
      boost::asio::io_context::executor_type>
      descriptor_;
  const int listen_fd_;
  Timer pause_timer_;
  Timer deadline_timer_;
  Timer certificate_timer_;
  LogRateLimiter accept_error_limiter_;
  bool is_watching_deadlines_ = false;
  bool is_accepting_ = true;
  bool is_stopped_ = false;
};

}  // namespace internal
}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_INTERNAL_LISTENER_H_
