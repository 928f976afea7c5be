// What a server and its connections share.
#ifndef UDPGATE_HTTP_INTERNAL_SERVER_STATE_H_
#define UDPGATE_HTTP_INTERNAL_SERVER_STATE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/cidr.h"
#include "udpgate/clock.h"
#include "udpgate/http/internal/connection_table.h"
#include "udpgate/http/internal/tls_context.h"
#include "udpgate/http/server_options.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/logging.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace http {
namespace internal {

// `ServerStats`, written by several threads.
struct ServerCounters {
  using Counter = std::atomic<uint64_t>;
  Counter accepted{0};
  Counter open{0};
  Counter accept_failures{0};
  Counter denied{0};
  Counter closed_at_limit{0};
  Counter evicted{0};
  Counter requests{0};
  Counter refused_requests{0};
  Counter read_timeouts{0};
  Counter idle_timeouts{0};
  Counter response_timeouts{0};
  Counter write_timeouts{0};
  Counter tls_handshakes{0};
  Counter tls_handshakes_failed{0};
  Counter proxy_headers{0};
  Counter proxy_headers_refused{0};
  Counter certificate_reloads{0};
  Counter certificate_reload_failures{0};
};

// Who may connect, and whose word on addresses counts.
struct AccessRules {
  CidrList trusted_proxies;
  std::function<bool(const SocketAddress&)> admit;

  bool Admits(const SocketAddress& address) const {
    return admit == nullptr || admit(address);
  }
};

// Threads: any.
class ServerState {
 public:
  ServerState(ServerOptions server_options, Handler server_handler,
              const ConnectionTable::Limits& limits)
      : options(std::move(server_options)),
        handler(std::move(server_handler)),
        table(limits) {}

  const ServerOptions options;
  const Handler handler;
  ConnectionTable table;
  ServerCounters counters;
  // Connections close after their next response.
  std::atomic<bool> is_leaving{false};

  std::shared_ptr<const AccessRules> rules() const {
    udpgate::internal::MutexLock lock(&mutex_);
    return rules_;
  }
  void set_rules(std::shared_ptr<const AccessRules> rules) {
    udpgate::internal::MutexLock lock(&mutex_);
    rules_ = std::move(rules);
  }
  // Null: plain HTTP alone.
  std::shared_ptr<const TlsContext> tls() const {
    udpgate::internal::MutexLock lock(&mutex_);
    return tls_;
  }
  void set_tls(std::shared_ptr<const TlsContext> tls) {
    udpgate::internal::MutexLock lock(&mutex_);
    tls_ = std::move(tls);
  }

  // Warnings that clients can cause, each kind once in a while.
  static constexpr absl::Duration kLogInterval = absl::Seconds(10);
  LogRateLimiter proxy_header_limiter{Clock::Monotonic(), kLogInterval};
  void Log(LogSeverity severity, absl::string_view message) const {
    if (options.log_sink) options.log_sink(severity, message);
  }

  // Calls `post` unless the server has stopped: until then the threads of the
  // Engine are there.
  template <typename Post>
  void IfRunning(Post post) {
    udpgate::internal::MutexLock lock(&mutex_);
    if (!is_stopped_) post();
  }
  void SetStopped() {
    udpgate::internal::MutexLock lock(&mutex_);
    is_stopped_ = true;
  }
  bool is_stopped() const {
    udpgate::internal::MutexLock lock(&mutex_);
    return is_stopped_;
  }

  // What uses the threads of the Engine, each until its destruction: `Stop`
  // waits for all.
  class Presence {
   public:
    explicit Presence(std::shared_ptr<ServerState> state)
        : state_(std::move(state)) {
      udpgate::internal::MutexLock lock(&state_->mutex_);
      ++state_->present_;
    }
    ~Presence() {
      udpgate::internal::MutexLock lock(&state_->mutex_);
      if (--state_->present_ == 0) state_->gone_.SignalAll();
    }
    Presence(const Presence&) = delete;
    Presence& operator=(const Presence&) = delete;

   private:
    const std::shared_ptr<ServerState> state_;
  };
  void AwaitNobodyPresent() {
    udpgate::internal::MutexLock lock(&mutex_);
    while (present_ > 0) gone_.Wait(&mutex_);
  }

 private:
  mutable udpgate::internal::Mutex mutex_;
  udpgate::internal::ConditionVariable gone_;
  std::shared_ptr<const AccessRules> rules_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const TlsContext> tls_ ABSL_GUARDED_BY(mutex_);
  bool is_stopped_ ABSL_GUARDED_BY(mutex_) = false;
  int present_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace internal
}  // namespace http
}  // namespace udpgate

#endif  // UDPGATE_HTTP_INTERNAL_SERVER_STATE_H_
