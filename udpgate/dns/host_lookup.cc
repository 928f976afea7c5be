#include "udpgate/dns/host_lookup.h"

#include <ares.h>
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/optional.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/dns/resolver_settings.h"
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
constexpr std::array<int, 2> kFamilies = {AF_INET, AF_INET6};

int64_t RealNowNanoseconds() { return Clock::Monotonic()->NowNanoseconds(); }

absl::Status AresInitialise() {
  // Once a process, and never undone: c-ares counts its users without a lock.
  static const int result = ares_library_init(ARES_LIB_INIT_ALL);
  if (result == ARES_SUCCESS) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("c-ares: ", ares_strerror(result)));
}

absl::Status AresInitError(int result) {
  return absl::ResourceExhaustedError(
      absl::StrCat("c-ares: ", ares_strerror(result)));
}

absl::Status AresToStatus(int result, absl::string_view host) {
  const std::string text =
      absl::StrCat("host \"", host, "\": ", ares_strerror(result));
  switch (result) {
    case ARES_ENOTFOUND:
    case ARES_ENODATA:
      return absl::NotFoundError(text);
    case ARES_ETIMEOUT:
      return absl::DeadlineExceededError(text);
    case ARES_EDESTRUCTION:
    case ARES_ECANCELLED:
      return absl::CancelledError(text);
    default:
      return absl::UnavailableError(text);
  }
}

// IPv4 before IPv6.
Addresses ToAddresses(const ares_addrinfo& info) {
  Addresses addresses;
  for (const int family : kFamilies) {
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

// `10.0.0.1, fd00::1`.
std::string ServersText(ares_channel channel) {
  ares_addr_port_node* servers = nullptr;
  if (ares_get_servers_ports(channel, &servers) != ARES_SUCCESS) return "";
  std::vector<std::string> texts;
  for (const ares_addr_port_node* server = servers; server != nullptr;
       server = server->next) {
    char text[INET6_ADDRSTRLEN];
    if (inet_ntop(server->family, &server->addr, text, sizeof(text)) != nullptr)
      texts.push_back(text);
  }
  ares_free_data(servers);
  return absl::StrJoin(texts, ", ");
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
  if (family_grace < absl::ZeroDuration() || family_grace > absl::Minutes(1)) {
    return OutOfRange("family_grace", "0 to 1 minute");
  }
  if (dns_port < 1 || dns_port > 65535) {
    return OutOfRange("dns_port", "1 to 65535");
  }
  if (files_check_interval < absl::Milliseconds(1) ||
      files_check_interval > absl::Hours(1)) {
    return OutOfRange("files_check_interval", "1 ms to 1 hour");
  }
  return absl::OkStatus();
}

// Callers put requests into `requests_`; the thread turns each into a waiter
// of a query, one query a name. A query asks for the names of the search list
// one after the other, for each with a part a family. Everything of c-ares
// belongs to the thread.
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
    if (files_channel_ != nullptr) ares_destroy(files_channel_);
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
  struct Query;
  // What c-ares holds while it asks for the addresses of one family. It cannot
  // be taken back alone: the query may have gone on, or be gone.
  struct Part {
    Impl* impl;
    Query* query;  // null: nobody waits for it any more
    size_t family;
  };
  struct Query {
    std::string host;
    std::vector<Waiter> waiters;
    // Of `lookups_`, and of `names`: the next one.
    size_t next_lookup = 0;
    std::vector<std::string> names;
    size_t next_name = 0;
    // Of the name that is asked for. By family: who asks, null where it is
    // done; how it ended, and what it found.
    std::array<Part*, 2> parts{};
    std::array<int, 2> results{};
    std::array<Addresses, 2> found;
    bool is_asking = false;
    // When the other family is waited for no longer.
    int64_t grace_end_nanoseconds = kNever;
    // Of the names so far.
    int error = ARES_ENOTFOUND;
  };
  struct CacheEntry {
    int64_t expires_nanoseconds;
    absl::StatusOr<Addresses> answer;
  };

  void Ring() { sys_calls_->EventFdAdd(wakeup_.get()); }
  absl::Status OpenFilesChannel();
  // A channel as the files say now, and what they say that c-ares does not do.
  absl::StatusOr<ares_channel> OpenChannel();
  void Run();
  void CheckFiles();
  void RestartQueries();
  void TakeRequests();
  void Proceed(Query* query);
  absl::optional<Addresses> FindInFiles(const std::string& host);
  void Ask(Query* query, const std::string& name);
  static void OnPart(void* part, int result, int timeouts, ares_addrinfo* info);
  void OnPartDone(Query* query);
  int64_t GraceNanoseconds(const Query& query) const;
  void Conclude(Query* query);
  void LeaveParts(Query* query);
  void EndGraces();
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
  std::atomic<bool> must_reload_{false};
  std::thread thread_;

  internal::Mutex mutex_;
  std::vector<Request> requests_ ABSL_GUARDED_BY(mutex_);
  // Requests and waiters, queries, and parts that their queries have left.
  int waiting_count_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<std::string, CacheEntry> cache_ ABSL_GUARDED_BY(mutex_);

  // Of the thread.
  ares_channel channel_ = nullptr;        // asks DNS
  ares_channel files_channel_ = nullptr;  // reads the hosts file
  bool is_closing_channel_ = false;
  // What the files said when `channel_` was opened, and when they were read.
  internal::ResolverFiles files_;
  int64_t files_read_nanoseconds_ = 0;
  std::vector<std::string> search_domains_;
  int ndots_ = 1;
  // 'f' stands for the hosts file and 'b' for DNS, as in c-ares.
  std::string lookups_;
  absl::Duration attempt_timeout_;
  absl::flat_hash_map<std::string, std::unique_ptr<Query>> queries_;
  // No waiter's deadline, and no end of a grace, is earlier.
  int64_t next_deadline_nanoseconds_ = kNever;
  int64_t next_grace_end_nanoseconds_ = kNever;
};

absl::Status HostLookup::Impl::Start() {
  if (absl::Status status = AresInitialise(); !status.ok()) return status;
  if (absl::Status status = OpenFilesChannel(); !status.ok()) return status;
  files_ = internal::ReadResolverFiles(options_.resolv_conf_path);
  files_read_nanoseconds_ = RealNowNanoseconds();
  absl::StatusOr<ares_channel> channel = OpenChannel();
  if (!channel.ok()) return channel.status();
  channel_ = *channel;
  const internal::SysCallResult wakeup = sys_calls_->EventFd();
  if (!wakeup.ok()) return internal::ErrnoToStatus(wakeup.error, "eventfd");
  wakeup_.Reset(wakeup.value);
  absl::StatusOr<std::thread> thread = internal::StartThread(
      "udpgate-dns", internal::ThreadRole::kControlPlane, [this] { Run(); });
  if (!thread.ok()) return thread.status();
  thread_ = *std::move(thread);
  return absl::OkStatus();
}

absl::Status HostLookup::Impl::OpenFilesChannel() {
  char lookups[] = "f";
  char no_file[] = "/dev/null";
  ares_options options{};
  options.lookups = lookups;
  options.resolvconf_path = no_file;
  const int result = ares_init_options(&files_channel_, &options,
                                       ARES_OPT_LOOKUPS | ARES_OPT_RESOLVCONF);
  if (result == ARES_SUCCESS) return absl::OkStatus();
  files_channel_ = nullptr;
  return AresInitError(result);
}

absl::StatusOr<ares_channel> HostLookup::Impl::OpenChannel() {
  ares_options options{};
  options.resolvconf_path = options_.resolv_conf_path.data();
  ares_channel probe;
  int result = ares_init_options(&probe, &options, ARES_OPT_RESOLVCONF);
  if (result != ARES_SUCCESS) return AresInitError(result);
  ares_options said{};
  int mask = 0;
  result = ares_save_options(probe, &said, &mask);
  ares_destroy(probe);
  if (result != ARES_SUCCESS) {
    ares_destroy_options(&said);
    return AresInitError(result);
  }
  search_domains_.clear();
  for (int i = 0; i < said.ndomains; ++i) {
    search_domains_.emplace_back(said.domains[i]);
  }
  ndots_ = said.ndots;
  lookups_ = said.lookups == nullptr ? "fb" : said.lookups;
  ares_destroy_options(&said);

  attempt_timeout_ = options_.attempt_timeout;
  options.tries = options_.attempts_max;
  if (options_.dns_servers.empty()) {
    const char* const res_options = std::getenv("RES_OPTIONS");
    const internal::ResolverTimes times = internal::ReadResolverTimes(
        files_.resolv_conf, absl::NullSafeStringView(res_options));
    attempt_timeout_ = times.attempt_timeout.value_or(attempt_timeout_);
    options.tries = times.attempts.value_or(options.tries);
  }
  options.timeout =
      static_cast<int>(absl::ToInt64Milliseconds(attempt_timeout_));
  options.udp_port = options.tcp_port =
      static_cast<unsigned short>(options_.dns_port);
  options.ndomains = 0;  // the search is ours, see SearchNames
  char lookups[] = "b";
  options.lookups = lookups;
  ares_channel channel;
  result = ares_init_options(&channel, &options,
                             ARES_OPT_RESOLVCONF | ARES_OPT_TIMEOUTMS |
                                 ARES_OPT_TRIES | ARES_OPT_DOMAINS |
                                 ARES_OPT_LOOKUPS | ARES_OPT_UDP_PORT |
                                 ARES_OPT_TCP_PORT);
  if (result != ARES_SUCCESS) return AresInitError(result);
  if (!options_.dns_servers.empty()) {
    result = ares_set_servers_ports_csv(channel, options_.dns_servers.c_str());
    if (result != ARES_SUCCESS) {
      ares_destroy(channel);
      return absl::InvalidArgumentError(
          absl::StrCat("HostLookupOptions::dns_servers must be ip:port,..., "
                       "not \"",
                       options_.dns_servers, "\": ", ares_strerror(result)));
    }
  }
  return channel;
}

// The files are read here, and again by c-ares: what changes in between is
// noticed at the next check.
void HostLookup::Impl::CheckFiles() {
  const int64_t now_nanoseconds = RealNowNanoseconds();
  const bool must_reload = must_reload_.exchange(false);
  if (!must_reload &&
      now_nanoseconds - files_read_nanoseconds_ <
          absl::ToInt64Nanoseconds(options_.files_check_interval)) {
    return;
  }
  files_read_nanoseconds_ = now_nanoseconds;
  internal::ResolverFiles files =
      internal::ReadResolverFiles(options_.resolv_conf_path);
  if (!must_reload && files == files_) return;
  internal::ResolverFiles before = std::exchange(files_, std::move(files));
  absl::StatusOr<ares_channel> channel = OpenChannel();
  if (!channel.ok()) {
    // Out of memory or descriptors: the next check tries again.
    files_ = std::move(before);
    return;
  }
  is_closing_channel_ = true;
  ares_destroy(channel_);
  is_closing_channel_ = false;
  channel_ = *channel;
  {
    internal::MutexLock lock(&mutex_);
    cache_.clear();
  }
  if (options_.log_sink != nullptr) {
    options_.log_sink(
        LogSeverity::kInfo,
        absl::StrCat(must_reload ? "resolv.conf was read again"
                                 : "resolv.conf, nsswitch.conf or the hosts "
                                   "file has changed and was read again",
                     ": DNS servers ", ServersText(channel_)));
  }
  RestartQueries();
}

void HostLookup::Impl::RestartQueries() {
  std::vector<Query*> queries;
  for (const auto& [host, query] : queries_) queries.push_back(query.get());
  for (Query* const query : queries) {
    query->next_lookup = 0;
    query->names.clear();
    query->next_name = 0;
    query->error = ARES_ENOTFOUND;
    Proceed(query);
  }
}

void HostLookup::Impl::Reload() {
  {
    internal::MutexLock lock(&mutex_);
    cache_.clear();
  }
  must_reload_.store(true);
  Ring();
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
    CheckFiles();
    TakeRequests();
    ExpireWaiters();
    EndGraces();
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
      slot = std::make_unique<Query>();
      slot->host = request.host;
      internal::MutexLock lock(&mutex_);
      ++waiting_count_;
    }
    Query* const query = slot.get();
    query->waiters.push_back(
        {request.deadline_nanoseconds, std::move(request.done)});
    next_deadline_nanoseconds_ =
        std::min(next_deadline_nanoseconds_, request.deadline_nanoseconds);
    if (is_new) Proceed(query);
  }
}

// Asks for what is next; `query` may be gone when this returns.
void HostLookup::Impl::Proceed(Query* query) {
  for (;;) {
    if (query->next_name < query->names.size()) {
      Ask(query, query->names[query->next_name++]);
      return;
    }
    if (query->next_lookup == lookups_.size()) {
      Finish(query, AresToStatus(query->error, query->host));
      return;
    }
    if (lookups_[query->next_lookup++] == 'f') {
      if (absl::optional<Addresses> found = FindInFiles(query->host)) {
        Finish(query, *std::move(found));
        return;
      }
    } else {
      query->names =
          internal::SearchNames(query->host, search_domains_, ndots_);
      query->next_name = 0;
    }
  }
}

absl::optional<Addresses> HostLookup::Impl::FindInFiles(
    const std::string& host) {
  ares_addrinfo_hints hints{};
  hints.ai_flags = ARES_AI_NOSORT;
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_DGRAM;
  Addresses addresses;
  // Answers inline, since there is nothing to wait for.
  ares_getaddrinfo(
      files_channel_, host.c_str(), nullptr, &hints,
      [](void* found, int /*result*/, int /*timeouts*/, ares_addrinfo* info) {
        if (info == nullptr) return;
        *static_cast<Addresses*>(found) = ToAddresses(*info);
        ares_freeaddrinfo(info);
      },
      &addresses);
  if (addresses.empty()) return absl::nullopt;
  std::stable_partition(addresses.begin(), addresses.end(), options_.has_route);
  return addresses;
}

// `query` may be gone when this returns: c-ares answers inline where it cannot
// send.
void HostLookup::Impl::Ask(Query* query, const std::string& name) {
  query->is_asking = true;
  query->grace_end_nanoseconds = kNever;
  query->found = {};
  query->results = {};
  for (size_t i = 0; i < kFamilies.size(); ++i) {
    query->parts[i] = new Part{this, query, i};
  }
  for (size_t i = 0; i < kFamilies.size(); ++i) {
    ares_addrinfo_hints hints{};
    // The order of the answer stays: sorting it (RFC 6724) would open sockets.
    hints.ai_flags = ARES_AI_NOSORT;
    hints.ai_family = kFamilies[i];
    hints.ai_socktype = SOCK_DGRAM;  // else each address comes several times
    ares_getaddrinfo(channel_, name.c_str(), nullptr, &hints, &OnPart,
                     query->parts[i]);
  }
  query->is_asking = false;
  OnPartDone(query);
}

void HostLookup::Impl::OnPart(void* part_pointer, int result, int /*timeouts*/,
                              ares_addrinfo* info) {
  const std::unique_ptr<Part> part(static_cast<Part*>(part_pointer));
  Addresses addresses;
  if (info != nullptr) {
    addresses = ToAddresses(*info);
    ares_freeaddrinfo(info);
  }
  Impl* const impl = part->impl;
  Query* const query = part->query;
  if (query == nullptr) {
    internal::MutexLock lock(&impl->mutex_);
    --impl->waiting_count_;
    return;
  }
  if (result == ARES_SUCCESS && addresses.empty()) result = ARES_ENODATA;
  query->parts[part->family] = nullptr;
  query->results[part->family] = result;
  query->found[part->family] = std::move(addresses);
  if (!impl->is_closing_channel_ && !query->is_asking) impl->OnPartDone(query);
}

// `query` may be gone when this returns.
void HostLookup::Impl::OnPartDone(Query* query) {
  if (query->parts[0] == nullptr && query->parts[1] == nullptr) {
    Conclude(query);
    return;
  }
  if (query->parts[0] != nullptr && query->parts[1] != nullptr) return;
  const int64_t grace_nanoseconds = GraceNanoseconds(*query);
  if (grace_nanoseconds == kNever) return;
  query->grace_end_nanoseconds = RealNowNanoseconds() + grace_nanoseconds;
  next_grace_end_nanoseconds_ =
      std::min(next_grace_end_nanoseconds_, query->grace_end_nanoseconds);
}

// How long one family waits for the other; see the class comment.
int64_t HostLookup::Impl::GraceNanoseconds(const Query& query) const {
  const size_t done = query.parts[0] == nullptr ? 0 : 1;
  const Addresses& found = query.found[done];
  if (std::any_of(found.begin(), found.end(), options_.has_route)) {
    return absl::ToInt64Nanoseconds(options_.family_grace);
  }
  if (query.results[done] != ARES_ENOTFOUND) return kNever;
  return absl::ToInt64Nanoseconds(
      kFamilies[done] == AF_INET ? options_.family_grace : attempt_timeout_);
}

// What has come of the name that was asked for is all that there will be.
// `query` may be gone when this returns.
void HostLookup::Impl::Conclude(Query* query) {
  LeaveParts(query);
  Addresses addresses = std::move(query->found[0]);
  addresses.insert(addresses.end(), query->found[1].begin(),
                   query->found[1].end());
  if (!addresses.empty()) {
    if (addresses.size() > 1) {
      std::stable_partition(addresses.begin(), addresses.end(),
                            options_.has_route);
    }
    Finish(query, std::move(addresses));
    return;
  }
  int result = query->results[0];
  for (const int other : query->results) {
    // That there is no such name holds for both families, and is more than that
    // it has no address of one.
    if (other == ARES_ENOTFOUND || result == ARES_ENODATA) result = other;
    if (result == ARES_ENOTFOUND) break;
  }
  // These go on with the next name, as res_search(3) does; a server that fails
  // may do so for one name alone.
  if (result != ARES_ENOTFOUND && result != ARES_ENODATA &&
      result != ARES_ESERVFAIL) {
    Finish(query, AresToStatus(result, query->host));
    return;
  }
  if (query->error != ARES_ESERVFAIL) query->error = result;
  Proceed(query);
}

// Whatever c-ares still finds for the query comes too late.
void HostLookup::Impl::LeaveParts(Query* query) {
  query->grace_end_nanoseconds = kNever;
  for (Part*& part : query->parts) {
    if (part == nullptr) continue;
    part->query = nullptr;
    part = nullptr;
    internal::MutexLock lock(&mutex_);
    ++waiting_count_;
  }
}

void HostLookup::Impl::EndGraces() {
  const int64_t now_nanoseconds = RealNowNanoseconds();
  if (now_nanoseconds < next_grace_end_nanoseconds_) return;
  next_grace_end_nanoseconds_ = kNever;
  std::vector<Query*> due;
  for (const auto& [host, query] : queries_) {
    if (query->grace_end_nanoseconds <= now_nanoseconds) {
      due.push_back(query.get());
    } else {
      next_grace_end_nanoseconds_ =
          std::min(next_grace_end_nanoseconds_, query->grace_end_nanoseconds);
    }
  }
  for (Query* const query : due) Conclude(query);
}

void HostLookup::Impl::Finish(Query* query,
                              const absl::StatusOr<Addresses>& answer) {
  LeaveParts(query);
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
  int64_t deadline_nanoseconds =
      std::min(next_deadline_nanoseconds_, next_grace_end_nanoseconds_);
  if (!queries_.empty()) {
    deadline_nanoseconds =
        std::min(deadline_nanoseconds,
                 files_read_nanoseconds_ +
                     absl::ToInt64Nanoseconds(options_.files_check_interval));
  }
  if (deadline_nanoseconds != kNever) {
    // Rounded up: a wait that ends early would only be repeated.
    milliseconds = std::clamp<int64_t>(
        (deadline_nanoseconds - RealNowNanoseconds()) / 1'000'000 + 1, 0,
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
  is_closing_channel_ = true;
  ares_destroy(std::exchange(channel_, nullptr));
  while (!queries_.empty()) {
    Query* const query = queries_.begin()->second.get();
    Finish(query, AresToStatus(ARES_EDESTRUCTION, query->host));
  }
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

void HostLookup::Reload() { impl_->Reload(); }

}  // namespace udpgate
