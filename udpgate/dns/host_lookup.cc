#include "udpgate/dns/host_lookup.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/dns/internal/addresses.h"
#include "udpgate/dns/internal/ares_library.h"
#include "udpgate/dns/internal/dns_channel.h"
#include "udpgate/dns/internal/host_query.h"
#include "udpgate/dns/internal/hosts_file.h"
#include "udpgate/dns/internal/real_time.h"
#include "udpgate/dns/internal/resolver_files_watcher.h"
#include "udpgate/dns/internal/result_cache.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/thread.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/internal/util/unshared_status.h"

namespace udpgate {
namespace {

using dns::internal::Addresses;
using dns::internal::HostQuery;
using dns::internal::kNever;
using dns::internal::RealNowNanoseconds;

constexpr absl::Duration kTimeoutMax = absl::Hours(1);

HostLookupOptions WithDefaults(HostLookupOptions options) {
  if (options.clock == nullptr) options.clock = Clock::Monotonic();
  if (options.has_route == nullptr) {
    options.has_route = dns::internal::KernelHasRoute;
  }
  return options;
}

}  // namespace

// Callers put requests into `requests_`; the thread turns each into a waiter of
// a query, one query per name. Everything of c-ares belongs to the thread.
class HostLookup::Impl {
 public:
  explicit Impl(HostLookupOptions options)
      : options_(WithDefaults(std::move(options))),
        cache_(options_.success_cache_time, options_.failure_cache_time,
               options_.cache_entries_max),
        watcher_(options_.resolv_conf_path, options_.files_check_interval) {
    queries_.options = &options_;
    queries_.dns = &dns_;
    queries_.hosts_file = &hosts_file_;
    queries_.on_result = [this](const std::string& host,
                                const absl::StatusOr<Addresses>& result) {
      Finish(host, result);
    };
  }

  ~Impl() {
    stopping_.store(true);
    if (wakeup_.is_open()) WakeUp();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Start();
  void Lookup(absl::string_view host, absl::Duration timeout, Callback done);
  void Reload();

 private:
  struct Request {
    std::string host;
    int64_t deadline_nanoseconds;
    Callback done;
  };
  struct Waiter {
    int64_t deadline_nanoseconds;
    Callback done;
  };
  struct PendingHost {
    PendingHost(std::string host, HostQuery::Context* queries)
        : query(std::move(host), queries) {}
    HostQuery query;
    std::vector<Waiter> waiters;
  };

  void WakeUp() { sys_calls_->EventFdAdd(wakeup_.get()); }
  void Run();
  void CheckFiles();
  void RestartQueries();
  void TakeRequests();
  void EndGraces();
  void ExpireWaiters();
  void WaitAndProcess();
  void CancelAll();
  // Ends the query of `host` and completes its waiters.
  void Finish(const std::string& host, const absl::StatusOr<Addresses>& result);
  void Complete(Callback* done, absl::StatusOr<Addresses> result);
  // True if the request was completed: the result came while it waited for the
  // thread.
  bool CompleteFromCache(Request* request);

  const HostLookupOptions options_;
  internal::SysCalls* const sys_calls_ = internal::SysCalls::Real();
  internal::UniqueFd wakeup_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> must_reload_{false};
  std::thread thread_;

  internal::Mutex mutex_;
  std::vector<Request> requests_ ABSL_GUARDED_BY(mutex_);
  // Requests, waiters and queries.
  int waiting_count_ ABSL_GUARDED_BY(mutex_) = 0;
  dns::internal::ResultCache cache_ ABSL_GUARDED_BY(mutex_);

  // Of the thread. The channel goes first: its end calls back into the context
  // of the queries.
  dns::internal::ResolverFilesWatcher watcher_;
  HostQuery::Context queries_;
  absl::flat_hash_map<std::string, std::unique_ptr<PendingHost>> pending_;
  // No waiter's deadline is earlier.
  int64_t next_deadline_nanoseconds_ = kNever;
  dns::internal::HostsFile hosts_file_;
  dns::internal::DnsChannel dns_{&options_};
};

absl::Status HostLookup::Impl::Start() {
  if (absl::Status status = dns::internal::InitialiseAres(); !status.ok()) {
    return status;
  }
  if (absl::Status status = hosts_file_.Open(); !status.ok()) return status;
  dns::internal::ResolverFiles files =
      *watcher_.Check(RealNowNanoseconds(), /*is_forced=*/true);
  if (absl::Status status = dns_.Open(files); !status.ok()) {
    return status;
  }
  watcher_.Accept(std::move(files));
  const internal::SysCallResult wakeup = sys_calls_->EventFd();
  if (!wakeup.ok()) return internal::ErrnoToStatus(wakeup.error, "eventfd");
  wakeup_.Reset(wakeup.value);
  absl::StatusOr<std::thread> thread = internal::StartThread(
      "udpgate-dns", internal::ThreadRole::kControlPlane, [this] { Run(); });
  if (!thread.ok()) return thread.status();
  thread_ = *std::move(thread);
  return absl::OkStatus();
}

void HostLookup::Impl::Lookup(absl::string_view host, absl::Duration timeout,
                              Callback done) {
  if (absl::StatusOr<SocketAddress> ip = SocketAddress::FromIpAndPort(host, 0);
      ip.ok()) {
    done(Addresses{*ip});
    return;
  }
  if (absl::Status valid = ValidateHostName(host); !valid.ok()) {
    done(std::move(valid));
    return;
  }
  Request request;
  request.host = absl::AsciiStrToLower(host);
  // Clamped first, so that InfiniteDuration() does not overflow.
  request.deadline_nanoseconds =
      RealNowNanoseconds() +
      absl::ToInt64Nanoseconds(std::min(timeout, kTimeoutMax));

  absl::StatusOr<Addresses> at_hand =
      absl::ResourceExhaustedError("too many pending host lookups");
  {
    internal::MutexLock lock(&mutex_);
    const absl::StatusOr<Addresses>* const cached =
        cache_.Find(request.host, options_.clock->NowNanoseconds());
    if (cached != nullptr) {
      at_hand = internal::Unshared(*cached);
    } else if (waiting_count_ + queries_.abandoned_parts.load() <
               options_.lookups_waiting_max) {
      ++waiting_count_;
      request.done = std::move(done);
      requests_.push_back(std::move(request));
      // One wake-up serves all requests that the thread has not seen yet.
      if (requests_.size() == 1) WakeUp();
      return;
    }
  }
  done(std::move(at_hand));
}

void HostLookup::Impl::Reload() {
  {
    internal::MutexLock lock(&mutex_);
    cache_.Clear();
  }
  must_reload_.store(true);
  WakeUp();
}

void HostLookup::Impl::Run() {
  while (!stopping_.load()) {
    CheckFiles();
    TakeRequests();
    ExpireWaiters();
    EndGraces();
    WaitAndProcess();
  }
  CancelAll();
}

// The watcher reads the files, and then c-ares does: the next check notices
// what changes in between.
void HostLookup::Impl::CheckFiles() {
  const bool is_forced = must_reload_.exchange(false);
  absl::optional<dns::internal::ResolverFiles> files =
      watcher_.Check(RealNowNanoseconds(), is_forced);
  if (!files.has_value()) return;
  // Out of memory or descriptors: the next check tries again.
  if (!dns_.Open(*files).ok()) return;
  watcher_.Accept(*std::move(files));
  {
    internal::MutexLock lock(&mutex_);
    cache_.Clear();
  }
  if (options_.log_sink != nullptr) {
    options_.log_sink(
        LogSeverity::kInfo,
        absl::StrCat(is_forced ? "resolv.conf reloaded"
                               : "resolv.conf, nsswitch.conf or the hosts file "
                                 "changed; reloaded",
                     ": DNS servers ", dns_.ServersText()));
  }
  RestartQueries();
}

void HostLookup::Impl::RestartQueries() {
  std::vector<HostQuery*> queries;
  for (const auto& [host, pending] : pending_) {
    queries.push_back(&pending->query);
  }
  for (HostQuery* const query : queries) query->Start();
}

void HostLookup::Impl::TakeRequests() {
  std::vector<Request> requests;
  {
    internal::MutexLock lock(&mutex_);
    requests.swap(requests_);
  }
  for (Request& request : requests) {
    if (CompleteFromCache(&request)) continue;
    std::unique_ptr<PendingHost>& slot = pending_[request.host];
    const bool is_new = slot == nullptr;
    if (is_new) {
      slot = std::make_unique<PendingHost>(request.host, &queries_);
      internal::MutexLock lock(&mutex_);
      ++waiting_count_;
    }
    PendingHost* const pending = slot.get();
    pending->waiters.push_back(
        {request.deadline_nanoseconds, std::move(request.done)});
    next_deadline_nanoseconds_ =
        std::min(next_deadline_nanoseconds_, request.deadline_nanoseconds);
    if (is_new) pending->query.Start();
  }
}

bool HostLookup::Impl::CompleteFromCache(Request* request) {
  absl::StatusOr<Addresses> result;
  {
    internal::MutexLock lock(&mutex_);
    const absl::StatusOr<Addresses>* const cached =
        cache_.Find(request->host, options_.clock->NowNanoseconds());
    if (cached == nullptr) return false;
    result = internal::Unshared(*cached);
  }
  Complete(&request->done, std::move(result));
  return true;
}

void HostLookup::Impl::EndGraces() {
  const int64_t now_nanoseconds = RealNowNanoseconds();
  if (now_nanoseconds < queries_.next_grace_end_nanoseconds) return;
  queries_.next_grace_end_nanoseconds = kNever;
  std::vector<HostQuery*> due;
  for (const auto& [host, pending] : pending_) {
    const int64_t end_nanoseconds = pending->query.grace_end_nanoseconds();
    if (end_nanoseconds <= now_nanoseconds) {
      due.push_back(&pending->query);
    } else {
      queries_.next_grace_end_nanoseconds =
          std::min(queries_.next_grace_end_nanoseconds, end_nanoseconds);
    }
  }
  for (HostQuery* const query : due) query->EndGrace();
}

// The query itself continues: its result is for the cache, and its own
// time-outs end it.
void HostLookup::Impl::ExpireWaiters() {
  const int64_t now_nanoseconds = RealNowNanoseconds();
  if (now_nanoseconds < next_deadline_nanoseconds_) return;
  next_deadline_nanoseconds_ = kNever;
  for (auto& [host, pending] : pending_) {
    std::vector<Waiter>& waiters = pending->waiters;
    const auto expired = std::partition(
        waiters.begin(), waiters.end(), [&](const Waiter& waiter) {
          return waiter.deadline_nanoseconds > now_nanoseconds;
        });
    for (auto waiter = waiters.begin(); waiter != expired; ++waiter) {
      next_deadline_nanoseconds_ =
          std::min(next_deadline_nanoseconds_, waiter->deadline_nanoseconds);
    }
    for (auto waiter = expired; waiter != waiters.end(); ++waiter) {
      Complete(&waiter->done, absl::DeadlineExceededError(absl::StrCat(
                                  "host \"", host, "\": lookup timed out")));
    }
    waiters.erase(expired, waiters.end());
  }
}

void HostLookup::Impl::WaitAndProcess() {
  int64_t deadline_nanoseconds =
      std::min(next_deadline_nanoseconds_, queries_.next_grace_end_nanoseconds);
  if (!pending_.empty()) {
    deadline_nanoseconds =
        std::min(deadline_nanoseconds, watcher_.next_check_nanoseconds());
  }
  if (dns_.WaitAndProcess(wakeup_.get(), deadline_nanoseconds)) {
    sys_calls_->EventFdReset(wakeup_.get());
  }
}

void HostLookup::Impl::Finish(const std::string& host,
                              const absl::StatusOr<Addresses>& result) {
  // Out of the table first: a callback may look the same name up again.
  const auto found = pending_.find(host);
  const std::unique_ptr<PendingHost> owned = std::move(found->second);
  pending_.erase(found);
  {
    const int64_t now_nanoseconds = options_.clock->NowNanoseconds();
    internal::MutexLock lock(&mutex_);
    if (!absl::IsCancelled(result.status())) {
      cache_.Insert(host, result, now_nanoseconds);
    }
    --waiting_count_;
  }
  for (Waiter& waiter : owned->waiters) {
    Complete(&waiter.done, internal::Unshared(result));
  }
}

void HostLookup::Impl::Complete(Callback* done,
                                absl::StatusOr<Addresses> result) {
  {
    internal::MutexLock lock(&mutex_);
    --waiting_count_;
  }
  (*done)(std::move(result));
}

void HostLookup::Impl::CancelAll() {
  dns_.Close();
  while (!pending_.empty()) {
    const std::string host = pending_.begin()->first;
    Finish(host, dns::internal::AresToStatus(ARES_EDESTRUCTION, host));
  }
  std::vector<Request> requests;
  {
    internal::MutexLock lock(&mutex_);
    requests.swap(requests_);
  }
  for (Request& request : requests) {
    Complete(&request.done, absl::CancelledError("host lookup cancelled"));
  }
}

absl::StatusOr<std::shared_ptr<HostLookup>> HostLookup::Create(
    HostLookupOptions options) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  auto impl = std::make_unique<Impl>(std::move(options));
  if (absl::Status status = impl->Start(); !status.ok()) return status;
  return std::shared_ptr<HostLookup>(new HostLookup(std::move(impl)));
}

HostLookup::HostLookup(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

HostLookup::~HostLookup() = default;

void HostLookup::Lookup(absl::string_view host, absl::Duration timeout,
                        Callback done) {
  impl_->Lookup(host, timeout, std::move(done));
}

void HostLookup::Reload() { impl_->Reload(); }

}  // namespace udpgate
