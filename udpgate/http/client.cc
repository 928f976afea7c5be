#include "udpgate/http/client.h"

#include <boost/asio/post.hpp>
#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "udpgate/http/internal/exchange.h"
#include "udpgate/http/internal/io_threads.h"
#include "udpgate/internal/util/mutex.h"

namespace udpgate {
namespace http {

using ::udpgate::internal::ConditionVariable;
using ::udpgate::internal::Mutex;
using ::udpgate::internal::MutexLock;
using Outcome = internal::Exchange::Outcome;

// Which requests have a connection, and which wait for one.
class Client::Core : public std::enable_shared_from_this<Core> {
 public:
  Core(Engine* engine, const ClientOptions& options)
      : io_threads_(engine->io_threads()), options_(options) {}

  void Send(ClientRequest request, Done done);
  void Stop();
  ClientStats stats() const;

 private:
  using Exchange = internal::Exchange;

  void Add(ClientRequest request, Done done)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ConnectNext() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // True if the connection may stay open for a while.
  bool HandleDone(uint64_t id, Outcome outcome);
  void HandleClosed(uint64_t id, bool was_reset);
  void Count(Outcome outcome) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  internal::IoThreads* const io_threads_;
  const ClientOptions options_;

  mutable Mutex mutex_;
  ConditionVariable changed_;
  bool is_stopped_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 0;
  int open_ ABSL_GUARDED_BY(mutex_) = 0;
  // By number, so the first one has waited longest.
  std::set<uint64_t> waiting_ ABSL_GUARDED_BY(mutex_);
  // Complete, with a connection that waits for the server to close it.
  absl::flat_hash_set<uint64_t> closing_ ABSL_GUARDED_BY(mutex_);
  // All whose connection is not closed.
  absl::flat_hash_map<uint64_t, std::shared_ptr<Exchange>> exchanges_
      ABSL_GUARDED_BY(mutex_);
  ClientStats stats_ ABSL_GUARDED_BY(mutex_);
};

void Client::Core::Send(ClientRequest request, Done done) {
  absl::Status status = Exchange::Check(request);
  {
    MutexLock lock(&mutex_);
    ++stats_.requests;
    if (!status.ok()) {
      ++stats_.refused;
    } else if (is_stopped_) {
      status = absl::CancelledError("the HTTP client has stopped");
      ++stats_.cancelled;
    } else if (open_ >= options_.connections_max &&
               waiting_.size() >= static_cast<size_t>(options_.queue_size)) {
      status = absl::ResourceExhaustedError(
          "too many HTTP requests to backends wait for a connection");
      ++stats_.refused;
    } else {
      Add(std::move(request), std::move(done));
      return;
    }
  }
  done(std::move(status));
}

void Client::Core::Add(ClientRequest request, Done done) {
  const uint64_t id = next_id_++;
  const std::shared_ptr<Core> self = shared_from_this();
  const auto exchange = std::make_shared<Exchange>(
      &io_threads_->NextContext(), options_, std::move(request),
      [self, id, done = std::move(done)](
          Outcome outcome, absl::StatusOr<Response> response) mutable {
        const bool may_wait = self->HandleDone(id, outcome);
        done(std::move(response));
        done = nullptr;
        return may_wait;
      },
      [self, id](bool was_reset) { self->HandleClosed(id, was_reset); });
  exchanges_.emplace(id, exchange);
  const bool has_connection = open_ < options_.connections_max;
  if (has_connection) {
    ++open_;
  } else {
    waiting_.insert(id);
  }
  boost::asio::post(exchange->context(), [exchange, has_connection] {
    exchange->Begin();
    if (has_connection) exchange->Connect();
  });
}

bool Client::Core::HandleDone(uint64_t id, Outcome outcome) {
  MutexLock lock(&mutex_);
  Count(outcome);
  if (waiting_.erase(id) > 0) return false;
  --open_;
  if (!is_stopped_) ConnectNext();
  if (is_stopped_ || outcome != Outcome::kResponse ||
      closing_.size() >= static_cast<size_t>(options_.connections_max)) {
    return false;
  }
  closing_.insert(id);
  return true;
}

void Client::Core::ConnectNext() {
  if (waiting_.empty()) return;
  const std::shared_ptr<Exchange> next = exchanges_.at(*waiting_.begin());
  waiting_.erase(waiting_.begin());
  ++open_;
  boost::asio::post(next->context(), [next] { next->Connect(); });
}

void Client::Core::HandleClosed(uint64_t id, bool was_reset) {
  // Destroyed without the lock.
  std::shared_ptr<Exchange> exchange;
  MutexLock lock(&mutex_);
  if (was_reset) ++stats_.resets;
  closing_.erase(id);
  const auto it = exchanges_.find(id);
  exchange = std::move(it->second);
  exchanges_.erase(it);
  if (exchanges_.empty()) changed_.SignalAll();
}

void Client::Core::Count(Outcome outcome) {
  switch (outcome) {
    case Outcome::kResponse:
      ++stats_.responses;
      break;
    case Outcome::kUnreachable:
      ++stats_.unreachable;
      break;
    case Outcome::kTimedOut:
      ++stats_.timed_out;
      break;
    case Outcome::kMalformed:
      ++stats_.malformed;
      break;
    case Outcome::kTooLarge:
      ++stats_.too_large;
      break;
    case Outcome::kCancelled:
      ++stats_.cancelled;
      break;
  }
}

void Client::Core::Stop() {
  MutexLock lock(&mutex_);
  is_stopped_ = true;
  for (const auto& [id, exchange] : exchanges_) {
    boost::asio::post(exchange->context(),
                      [exchange = exchange] { exchange->Cancel(); });
  }
  while (!exchanges_.empty()) changed_.Wait(&mutex_);
}

ClientStats Client::Core::stats() const {
  MutexLock lock(&mutex_);
  ClientStats stats = stats_;
  stats.open = static_cast<uint64_t>(open_);
  stats.waiting = waiting_.size();
  stats.closing = closing_.size();
  return stats;
}

absl::StatusOr<std::unique_ptr<Client>> Client::Create(Engine* engine,
                                                       ClientOptions options) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  return std::unique_ptr<Client>(
      new Client(std::make_shared<Core>(engine, options)));
}

Client::Client(std::shared_ptr<Core> core) : core_(std::move(core)) {}

// Only a lack of memory throws in it.
Client::~Client() { Stop(); }  // NOLINT(bugprone-exception-escape)

void Client::Send(ClientRequest request, Done done) {
  core_->Send(std::move(request), std::move(done));
}

void Client::Stop() { core_->Stop(); }

ClientStats Client::stats() const { return core_->stats(); }

}  // namespace http
}  // namespace udpgate
