// The sockets of the admin endpoint: receives complete HTTP requests and sends
// complete responses, so that no client occupies a worker thread while it is
// slow.
//
// One thread owns all connections and never blocks on one. It passes a request
// to a worker thread after the last byte arrived. A connection carries one
// request. A malformed or too large request, or one that finds the queue full,
// is refused here (http_text.h) and does not reach a worker.
#ifndef UDPGATE_ADMIN_INTERNAL_HTTP_FRONT_H_
#define UDPGATE_ADMIN_INTERNAL_HTTP_FRONT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/admin/internal/http_text.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {
namespace internal {

// See `AdminOptions`, which has the defaults.
struct HttpFrontOptions {
  SocketAddress listen_address;
  int listen_fd;
  int connections_max;
  int worker_count;
  int queue_size;
  size_t header_bytes_max;
  size_t body_bytes_max;
  // From accept(2) to the last byte of the request, and from the first byte of
  // the response until the client closes.
  absl::Duration read_timeout;
  absl::Duration write_timeout;
};

// Threads: `Create`, `Start` and `Stop` from one thread; `counts` from any.
class HttpFront {
 public:
  // Returns the complete response. Called from several threads at once.
  using Handler = std::function<std::string(const HttpRequestText& request)>;

  struct Counts {
    uint64_t accepted = 0;
    uint64_t evicted = 0;    // closed to make room for a newer connection
    uint64_t timed_out = 0;  // too slow with the request or the response
    uint64_t refused = 0;    // malformed, too large, or all workers busy
  };

  // Binds and listens. Errors of bind(2), listen(2) and the like, with the
  // address in the text.
  static absl::StatusOr<std::unique_ptr<HttpFront>> Create(
      const HttpFrontOptions& options, Handler handler);
  // Stops.
  ~HttpFront();
  HttpFront(const HttpFront&) = delete;
  HttpFront& operator=(const HttpFront&) = delete;

  absl::Status Start();
  // Closes all connections and returns after the last handler returned. May be
  // called twice.
  void Stop();

  const SocketAddress& address() const { return address_; }
  int listen_fd() const { return listen_fd_.get(); }
  Counts counts() const;

 private:
  struct Connection;
  struct Job {
    uint64_t connection_id;
    HttpRequestText request;
  };
  struct Answer {
    uint64_t connection_id;
    std::string response;
  };

  HttpFront(const HttpFrontOptions& options, Handler handler);

  absl::Status Bind();
  absl::Status Listen();
  void Loop();
  void Work();
  void AcceptAll();
  void TakeAnswers();
  void Read(Connection* connection);
  // Passes the complete request to a worker.
  void Queue(Connection* connection);
  void Refuse(Connection* connection, int status, absl::string_view error);
  void Respond(Connection* connection, std::string response);
  void Write(Connection* connection);
  void Close(Connection* connection);
  void CloseOverdue();
  int WaitMilliseconds() const;

  const HttpFrontOptions options_;
  const Handler handler_;
  SocketAddress address_;
  udpgate::internal::UniqueFd listen_fd_;
  udpgate::internal::UniqueFd epoll_fd_;
  udpgate::internal::UniqueFd wake_fd_;

  // Used by the loop's thread only. Each list is in the order of deadlines,
  // since each state has one timeout.
  absl::flat_hash_map<uint64_t, std::unique_ptr<Connection>> connections_;
  std::list<Connection*> reading_;
  std::list<Connection*> writing_;
  uint64_t next_id_ = 2;  // 0 and 1: the listener and `wake_fd_`

  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> accepted_{0};
  std::atomic<uint64_t> evicted_{0};
  std::atomic<uint64_t> timed_out_{0};
  std::atomic<uint64_t> refused_{0};

  udpgate::internal::Mutex mutex_;
  udpgate::internal::ConditionVariable jobs_changed_;
  std::deque<Job> jobs_ ABSL_GUARDED_BY(mutex_);
  std::vector<Answer> answers_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;
};

}  // namespace internal
}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_INTERNAL_HTTP_FRONT_H_
