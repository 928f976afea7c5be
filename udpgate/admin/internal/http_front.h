// The sockets of the admin endpoint: takes whole HTTP requests in, and sends
// whole responses out, so that no client holds a thread.
//
// One thread owns all connections and never blocks on one; a request goes to a
// few worker threads once its last byte is there. A connection carries one
// request. Garbage, a request too big, and one that finds all workers busy are
// answered from here.
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
#include "udpgate/internal/mutex.h"
#include "udpgate/internal/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {
namespace internal {

// Those of `AdminOptions`, which has the defaults.
struct HttpFrontOptions {
  SocketAddress listen_address;
  int listen_fd;
  int connections_max;
  int worker_count;
  int queue_size;
  size_t header_bytes_max;
  size_t body_bytes_max;
  // From the accept to the request's last byte, and from the response's first
  // byte to its last.
  absl::Duration read_timeout;
  absl::Duration write_timeout;
};

// One request as it came, with complete header and body.
struct HttpRequestText {
  // The request line and the headers that matter here (Host, Authorization,
  // Content-Type, Content-Length, Accept-Encoding), each at most once.
  std::string head;
  std::string body;
  SocketAddress client;
  SocketAddress local;  // what the client connected to
};

// How the head of a request begins; for tests and for the front itself.
struct ParsedHead {
  std::string head;  // see HttpRequestText
  size_t body_bytes = 0;
};
// `text` ends with the empty line. The error's message is for the client, and
// its code says which: InvalidArgument 400, ResourceExhausted 413,
// Unimplemented 501.
absl::StatusOr<ParsedHead> ParseHead(absl::string_view text,
                                     size_t body_bytes_max);

// A response of JSON with `error` as its only member.
std::string ErrorResponse(int status, absl::string_view error);

// Threads: `Create`, `Start` and `Stop` from one thread; `counts` from any.
class HttpFront {
 public:
  // Makes the response, with header; called from several threads at once.
  using Handler = std::function<std::string(const HttpRequestText& request)>;

  struct Counts {
    uint64_t accepted = 0;
    uint64_t evicted = 0;    // closed for a newer connection
    uint64_t timed_out = 0;  // too slow with a request or a response
    uint64_t refused = 0;    // not HTTP, too big, or all workers busy
  };

  // Binds and listens. What bind(2) and the like report.
  static absl::StatusOr<std::unique_ptr<HttpFront>> Create(
      const HttpFrontOptions& options, Handler handler);
  // Stops.
  ~HttpFront();
  HttpFront(const HttpFront&) = delete;
  HttpFront& operator=(const HttpFront&) = delete;

  absl::Status Start();
  // Closes all connections, and returns when the last handler has. Harmless
  // when called twice.
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
  void TakeRequest(Connection* connection);
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

  // Of the loop's thread. In the order of their deadlines, since each state
  // has one time-out: reading, then writing ones.
  absl::flat_hash_map<uint64_t, std::unique_ptr<Connection>> connections_;
  std::list<Connection*> reading_;
  std::list<Connection*> writing_;
  uint64_t next_id_ = 2;  // 0 and 1 are the listener and the wake-up

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
