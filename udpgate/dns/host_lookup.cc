#include "udpgate/dns/host_lookup.h"

#include <ares.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <climits>
#include <cstdint>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/dns/unshared_status.h"
#include "udpgate/internal/mutex.h"
#include "udpgate/internal/sys_calls.h"
#include "udpgate/internal/thread.h"
#include "udpgate/internal/unique_fd.h"

namespace udpgate {
namespace {

using Addresses = std::vector<SocketAddress>;

constexpr absl::Duration kTimeoutMax = absl::Hours(1);
constexpr int64_t kNever = INT64_MAX;
// Of one name. An answer over TCP may hold thousands.
constexpr int kAddressesOfAFamilyMax = 8;

int64_t RealNowNanoseconds() { return Clock::Monotonic()->NowNanoseconds(); }

absl::Status AresInitialise() {
  // Once a process, and never undone: c-ares counts its users without a lock.
  static const int result = ares_library_init(ARES_LIB_INIT_ALL);
  if (result == ARES_SUCCESS) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("c-ares: ", ares_strerror(result)));
}

absl::Status AresToStatus(int result, absl::string_view host) {
  const std::string text =
      absl::StrCat("host \"", host, "\": ", ares_strerror(result));
  switch (result) {
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
      return absl::NotFoundError(text);
    case ARES_EBADNAME:
      return absl::InvalidArgumentError(text);
    case ARES_ETIMEOUT:
      return absl::DeadlineExceededError(text);
    case ARES_EDESTRUCTION:
    case ARES_ECANCELLED:
      return absl::CancelledError(text);
    default:
      return absl::UnavailableError(text);
  }
}

Addresses ToAddresses(const ares_addrinfo& info) {
  Addresses addresses;
  for (const int family : {AF_INET, AF_INET6}) {
    int count = 0;
    for (const ares_addrinfo_node* node = info.nodes;
         node != nullptr && count < kAddressesOfAFamilyMax;
         node = node->ai_next) {
      const SocketAddress address =
          SocketAddress::FromSockaddr(node->ai_addr, node->ai_addrlen);
      if (!address.is_valid() || address.family() != family) continue;
      addresses.push_back(address.WithPort(0));
      ++count;
    }
  }
  return addresses;
}

// Wrong addresses (multicast and the like) have none either. Where no socket
// can be opened nothing is known, and so nothing is held against the address.
bool KernelHasRoute(const SocketAddress& ip) {
  internal::SysCalls* const sys_calls = internal::SysCalls::Real();
  const internal::SysCallResult made =
      sys_calls->Socket(ip.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (!made.ok()) return made.error != EAFNOSUPPORT;
  const internal::UniqueFd socket(made.value);
  sockaddr_storage storage;
  constexpr uint16_t kAnyPort = 9;  // 0 means nothing to some kernels
  const socklen_t size =
      ip.WithPort(kAnyPort).ToSockaddr(ip.family(), &storage);
  return sys_calls
      ->Connect(socket.get(), reinterpret_cast<const sockaddr*>(&storage), size)
      .ok();
}

absl::Status OutOfRange(absl::string_view field, absl::string_view allowed) {
  return absl::InvalidArgumentError(
      absl::StrCat("HostLookupOptions::", field, " must be ", allowed));
}

}  // namespace

absl::Status HostLookupOptions::Validate() const {
  const auto is_cache_time = [](absl::Duration time) {
    return time >= absl::ZeroDuration() && time <= absl::Hours(1);
  };
  if (!is_cache_time(success_cache_time)) {
    return OutOfRange("success_cache_time", "0 to 1 hour");
  }
  if (!is_cache_time(failure_cache_time)) {
    return OutOfRange("failure_cache_time", "0 to 1 hour");
  }
  if (cache_entries_max < 1 || cache_entries_max > 1'000'000) {
    return OutOfRange("cache_entries_max", "1 to 1000000");
  }
  if (lookups_waiting_max < 1 || lookups_waiting_max > 1'000'000) {
    return OutOfRange("lookups_waiting_max", "1 to 1000000");
  }
  if (attempt_timeout < absl::Milliseconds(1) ||
      attempt_timeout > absl::Minutes(1)) {
    return OutOfRange("attempt_timeout", "1 ms to 1 minute");
  }
  if (attempts_max < 1 || attempts_max > 10) {
    return OutOfRange("attempts_max", "1 to 10");
  }
  return absl::OkStatus();
}

// Callers put requests into `requests_`; the thread turns each into a waiter
// of a query, one query a name. Everything of c-ares belongs to the thread.
class HostLookup::Impl {
 public:
  explicit Impl(HostLookupOptions options) : options_(std::move(options)) {
    if (options_.clock == nullptr) options_.clock = Clock::Monotonic();
    if (options_.has_route == nullptr) options_.has_route = KernelHasRoute;
  }

  ~Impl() {
    stopping_.store(true);
    if (wakeup_.is_open()) Ring();
    if (thread_.joinable()) thread_.join();
    // Where the thread never started; else it has answered everything.
    if (channel_ != nullptr) ares_destroy(channel_);
  }

  absl::Status Start();
  void Lookup(absl::string_view host, absl::Duration timeout, Callback done);

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
  struct Query {
    Impl* impl;
    std::string host;
    std::vector<Waiter> waiters;
  };
  struct CacheEntry {
    int64_t expires_nanoseconds;
    absl::StatusOr<Addresses> answer;
  };

  void Ring() { sys_calls_->EventFdAdd(wakeup_.get()); }
  void Run();
  void TakeRequests();
  void StartQuery(Query* query);
  static void OnAnswer(void* query, int result, int timeouts,
                       ares_addrinfo* info);
  void Finish(Query* query, const absl::StatusOr<Addresses>& answer);
  void Answer(Callback* done, absl::StatusOr<Addresses> answer);
  void Remember(const std::string& host,
                const absl::StatusOr<Addresses>& answer);
  // The answer if there is a fresh one, else null.
  const absl::StatusOr<Addresses>* FindCached(const std::string& host) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // True where the request was answered: the answer to its question came
  // while it waited to be taken.
  bool AnswerFromCache(Request* request);
  void MakeRoomInCache(int64_t now_nanoseconds)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ExpireWaiters();
  void WaitAndProcess();
  int PollTimeoutMilliseconds();
  void CancelAll();

  HostLookupOptions options_;
  internal::SysCalls* const sys_calls_ = internal::SysCalls::Real();
  internal::UniqueFd wakeup_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;

  internal::Mutex mutex_;
  std::vector<Request> requests_ ABSL_GUARDED_BY(mutex_);
  // Requests and waiters, and queries that all waiters have left.
  int waiting_count_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<std::string, CacheEntry> cache_ ABSL_GUARDED_BY(mutex_);

  // Of the thread.
  ares_channel channel_ = nullptr;
  absl::flat_hash_map<std::string, std::unique_ptr<Query>> queries_;
  // No waiter's deadline is earlier.
  int64_t next_deadline_nanoseconds_ = kNever;
};

absl::Status HostLookup::Impl::Start() {
  if (absl::Status status = AresInitialise(); !status.ok()) return status;
  ares_options options{};
  options.timeout =
      static_cast<int>(absl::ToInt64Milliseconds(options_.attempt_timeout));
  options.tries = options_.attempts_max;
  int result = ares_init_options(&channel_, &options,
                                 ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES);
  if (result != ARES_SUCCESS) {
    channel_ = nullptr;
    return absl::ResourceExhaustedError(
        absl::StrCat("c-ares: ", ares_strerror(result)));
  }
  if (!options_.dns_servers.empty()) {
    result = ares_set_servers_ports_csv(channel_, options_.dns_servers.c_str());
    if (result != ARES_SUCCESS) {
      return absl::InvalidArgumentError(
          absl::StrCat("HostLookupOptions::dns_servers must be ip:port,..., "
                       "not \"",
                       options_.dns_servers, "\": ", ares_strerror(result)));
    }
  }
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
      absl::ResourceExhaustedError("too many host names wait to be looked up");
  {
    internal::MutexLock lock(&mutex_);
    const absl::StatusOr<Addresses>* const cached = FindCached(request.host);
    if (cached != nullptr) {
      at_hand = internal::Unshared(*cached);
    } else if (waiting_count_ < options_.lookups_waiting_max) {
      ++waiting_count_;
      request.done = std::move(done);
      requests_.push_back(std::move(request));
      // One ring serves all requests that the thread has not seen yet.
      if (requests_.size() == 1) Ring();
      return;
    }
  }
  done(std::move(at_hand));
}

const absl::StatusOr<Addresses>* HostLookup::Impl::FindCached(
    const std::string& host) const {
  const auto cached = cache_.find(host);
  const bool is_fresh =
      cached != cache_.end() &&
      options_.clock->NowNanoseconds() < cached->second.expires_nanoseconds;
  return is_fresh ? &cached->second.answer : nullptr;
}

bool HostLookup::Impl::AnswerFromCache(Request* request) {
  absl::StatusOr<Addresses> answer;
  {
    internal::MutexLock lock(&mutex_);
    const absl::StatusOr<Addresses>* const cached = FindCached(request->host);
    if (cached == nullptr) return false;
    answer = internal::Unshared(*cached);
  }
  Answer(&request->done, std::move(answer));
  return true;
}

void HostLookup::Impl::Run() {
  while (!stopping_.load()) {
    TakeRequests();
    ExpireWaiters();
    WaitAndProcess();
  }
  CancelAll();
}

void HostLookup::Impl::TakeRequests() {
  std::vector<Request> requests;
  {
    internal::MutexLock lock(&mutex_);
    requests.swap(requests_);
  }
  for (Request& request : requests) {
    if (AnswerFromCache(&request)) continue;
    std::unique_ptr<Query>& slot = queries_[request.host];
    const bool is_new = slot == nullptr;
    if (is_new) {
      slot = std::make_unique<Query>(Query{this, request.host, {}});
      internal::MutexLock lock(&mutex_);
      ++waiting_count_;
    }
    Query* const query = slot.get();
    query->waiters.push_back(
        {request.deadline_nanoseconds, std::move(request.done)});
    next_deadline_nanoseconds_ =
        std::min(next_deadline_nanoseconds_, request.deadline_nanoseconds);
    if (is_new) StartQuery(query);
  }
}

// `query` may be gone when this returns: c-ares answers inline what it finds
// in /etc/hosts.
void HostLookup::Impl::StartQuery(Query* query) {
  ares_addrinfo_hints hints{};
  // The order of the answer stays: sorting it (RFC 6724) would open sockets.
  hints.ai_flags = ARES_AI_NOSORT;
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_DGRAM;  // else each address comes several times
  ares_getaddrinfo(channel_, query->host.c_str(), nullptr, &hints, &OnAnswer,
                   query);
}

void HostLookup::Impl::OnAnswer(void* query_pointer, int result,
                                int /*timeouts*/, ares_addrinfo* info) {
  Query* const query = static_cast<Query*>(query_pointer);
  Addresses addresses;
  if (info != nullptr) {
    addresses = ToAddresses(*info);
    ares_freeaddrinfo(info);
  }
  if (result == ARES_SUCCESS && addresses.empty()) result = ARES_ENODATA;
  if (result == ARES_SUCCESS) {
    if (addresses.size() > 1) {
      std::stable_partition(addresses.begin(), addresses.end(),
                            query->impl->options_.has_route);
    }
    query->impl->Finish(query, std::move(addresses));
  } else {
    query->impl->Finish(query, AresToStatus(result, query->host));
  }
}

void HostLookup::Impl::Finish(Query* query,
                              const absl::StatusOr<Addresses>& answer) {
  // Out of the table first: a callback may ask for the same name again.
  const auto found = queries_.find(query->host);
  const std::unique_ptr<Query> owned = std::move(found->second);
  queries_.erase(found);
  if (!absl::IsCancelled(answer.status())) Remember(query->host, answer);
  {
    internal::MutexLock lock(&mutex_);
    --waiting_count_;
  }
  for (Waiter& waiter : owned->waiters) {
    Answer(&waiter.done, internal::Unshared(answer));
  }
}

void HostLookup::Impl::Answer(Callback* done,
                              absl::StatusOr<Addresses> answer) {
  {
    internal::MutexLock lock(&mutex_);
    --waiting_count_;
  }
  (*done)(std::move(answer));
}

void HostLookup::Impl::Remember(const std::string& host,
                                const absl::StatusOr<Addresses>& answer) {
  const absl::Duration time =
      answer.ok() ? options_.success_cache_time : options_.failure_cache_time;
  if (time == absl::ZeroDuration()) return;
  const int64_t now_nanoseconds = options_.clock->NowNanoseconds();
  internal::MutexLock lock(&mutex_);
  if (!cache_.contains(host)) MakeRoomInCache(now_nanoseconds);
  cache_[host] = {now_nanoseconds + absl::ToInt64Nanoseconds(time),
                  internal::Unshared(answer)};
}

void HostLookup::Impl::MakeRoomInCache(int64_t now_nanoseconds) {
  if (cache_.size() < static_cast<size_t>(options_.cache_entries_max)) return;
  for (auto entry = cache_.begin(); entry != cache_.end();) {
    const auto current = entry++;
    if (current->second.expires_nanoseconds <= now_nanoseconds) {
      cache_.erase(current);
    }
  }
  // All still fresh: whichever goes costs one query.
  if (cache_.size() >= static_cast<size_t>(options_.cache_entries_max)) {
    cache_.erase(cache_.begin());
  }
}

// The query itself goes on: its answer is for the cache then, and its own
// time-outs end it.
void HostLookup::Impl::ExpireWaiters() {
  const int64_t now_nanoseconds = RealNowNanoseconds();
  if (now_nanoseconds < next_deadline_nanoseconds_) return;
  next_deadline_nanoseconds_ = kNever;
  for (auto& [host, query] : queries_) {
    std::vector<Waiter>& waiters = query->waiters;
    const auto expired = std::partition(
        waiters.begin(), waiters.end(), [&](const Waiter& waiter) {
          return waiter.deadline_nanoseconds > now_nanoseconds;
        });
    for (auto waiter = waiters.begin(); waiter != expired; ++waiter) {
      next_deadline_nanoseconds_ =
          std::min(next_deadline_nanoseconds_, waiter->deadline_nanoseconds);
    }
    for (auto waiter = expired; waiter != waiters.end(); ++waiter) {
      Answer(&waiter->done, absl::DeadlineExceededError(absl::StrCat(
                                "host \"", host, "\": no answer in time")));
    }
    waiters.erase(expired, waiters.end());
  }
}

int HostLookup::Impl::PollTimeoutMilliseconds() {
  int64_t milliseconds = -1;
  if (next_deadline_nanoseconds_ != kNever) {
    // Rounded up: a wait that ends early would only be repeated.
    milliseconds = std::clamp<int64_t>(
        (next_deadline_nanoseconds_ - RealNowNanoseconds()) / 1'000'000 + 1, 0,
        INT_MAX);
  }
  timeval buffer;
  if (const timeval* ares = ares_timeout(channel_, nullptr, &buffer);
      ares != nullptr) {
    const int64_t ares_milliseconds =
        int64_t{ares->tv_sec} * 1000 + ares->tv_usec / 1000 + 1;
    milliseconds = milliseconds < 0 ? ares_milliseconds
                                    : std::min(milliseconds, ares_milliseconds);
  }
  return static_cast<int>(std::min<int64_t>(milliseconds, INT_MAX));
}

void HostLookup::Impl::WaitAndProcess() {
  std::array<pollfd, ARES_GETSOCK_MAXNUM + 1> polled{};
  std::array<ares_socket_t, ARES_GETSOCK_MAXNUM> sockets;
  const int wanted = ares_getsock(channel_, sockets.data(), sockets.size());
  polled[0] = {wakeup_.get(), POLLIN, 0};
  nfds_t count = 1;
  for (size_t i = 0; i < sockets.size(); ++i) {
    short events = 0;
    if (ARES_GETSOCK_READABLE(wanted, i)) events |= POLLIN;
    if (ARES_GETSOCK_WRITABLE(wanted, i)) events |= POLLOUT;
    if (events != 0) polled[count++] = {sockets[i], events, 0};
  }
  if (poll(polled.data(), count, PollTimeoutMilliseconds()) < 0) return;
  if (polled[0].revents != 0) sys_calls_->EventFdReset(wakeup_.get());
  // Time-outs are due even where no socket is ready.
  ares_process_fd(channel_, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
  constexpr short kReadable = POLLIN | POLLERR | POLLHUP;
  constexpr short kWritable = POLLOUT | POLLERR | POLLHUP;
  for (nfds_t i = 1; i < count; ++i) {
    const pollfd& ready = polled[i];
    if (ready.revents == 0) continue;
    ares_process_fd(channel_,
                    ready.revents & kReadable ? ready.fd : ARES_SOCKET_BAD,
                    ready.revents & kWritable ? ready.fd : ARES_SOCKET_BAD);
  }
}

void HostLookup::Impl::CancelAll() {
  // Answers every query with ARES_EDESTRUCTION.
  ares_destroy(std::exchange(channel_, nullptr));
  std::vector<Request> requests;
  {
    internal::MutexLock lock(&mutex_);
    requests.swap(requests_);
  }
  for (Request& request : requests) {
    Answer(&request.done, absl::CancelledError("the look-up was stopped"));
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

}  // namespace udpgate
