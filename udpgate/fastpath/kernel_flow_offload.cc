#include "udpgate/fastpath/kernel_flow_offload.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "udpgate/clock.h"
#include "udpgate/internal/sys_calls.h"
#include "udpgate/internal/thread.h"

namespace udpgate {
namespace fastpath {
namespace {

using internal::MutexLock;

// An eighth of the lease: a machine under load may delay the thread.
constexpr int kRenewMilliseconds =
    static_cast<int>(UDPGATE_LEASE_NANOSECONDS / 1'000'000 / 8);

int64_t NowNanoseconds() { return Clock::Monotonic()->NowNanoseconds(); }

constexpr absl::Duration kRefusalLogInterval = absl::Seconds(10);

// Requests in a row before the lease and the network have their turn again.
constexpr int kRequestsPerRound = 64;

// Names of what CopyDescriptors gives.
constexpr char kLockName[] = "lock";
constexpr char kLinkPrefix[] = "link/";

// With the version: whoever has another one finds nothing.
std::string NameOfMap(absl::string_view name) {
  return absl::StrCat("map/", UDPGATE_LAYOUT_VERSION, "/", name);
}

bool IsLinkLocal(const SocketAddress& address) {
  return address.is_ipv6() && address.ip_bytes()[0] == 0xFE &&
         (address.ip_bytes()[1] & 0xC0) == 0x80;
}

// The tuples must name the session and nothing else.
absl::Status Check(const SessionAddresses& addresses) {
  const SocketAddress* const all[] = {&addresses.client, &addresses.listen,
                                      &addresses.relay, &addresses.backend};
  for (const SocketAddress* address : all) {
    if (!address->is_unicast() || address->port() == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat(address->ToString(), " does not name one socket"));
    }
    if (address->family() != addresses.client.family()) {
      return absl::UnimplementedError(
          "client and backend are of different address families");
    }
    if (IsLinkLocal(*address)) {
      return absl::UnimplementedError(absl::StrCat(
          address->ToString(), " means another host on every interface"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

KernelFlowOffload::KernelFlowOffload(const Options& options)
    : options_(options),
      refusal_log_limiter_(Clock::Monotonic(), kRefusalLogInterval) {}

absl::StatusOr<std::unique_ptr<KernelFlowOffload>> KernelFlowOffload::Create(
    const Options& options) {
  std::unique_ptr<KernelFlowOffload> offload;
  absl::Status status;
  if (!options.adopted.empty()) {
    Descriptors descriptors;
    for (const auto& [name, fd] : options.adopted) descriptors[name].Reset(fd);
    offload.reset(new KernelFlowOffload(options));
    status = offload->StartTaking(std::move(descriptors));
    if (status.ok()) return offload;
    offload->Log(LogSeverity::kInfo,
                 absl::StrCat("fast path: the other process's flows end with "
                              "it: ",
                              status.message()));
  }
  offload.reset(new KernelFlowOffload(options));
  status = offload->Start();
  if (!status.ok()) return status;
  return offload;
}

KernelFlowOffload::~KernelFlowOffload() {
  if (thread_.joinable()) {
    is_stopping_ = true;
    Wake();
    thread_.join();
  } else {
    DetachAll();
  }
}

std::map<std::string, int> KernelFlowOffload::CopyDescriptors() const {
  std::map<std::string, int> copies;
  MutexLock lock(&mutex_);
  Descriptors maps = program_->CopyMaps();
  std::map<int, internal::UniqueFd> links = attachments_->CopyLinks();
  internal::UniqueFd lock_copy = lock_.Copy();
  if (role_ != Role::kServing || links.empty() || !lock_copy.is_open()) {
    return copies;
  }
  for (auto& [name, fd] : maps) copies[NameOfMap(name)] = fd.Release();
  for (auto& [index, fd] : links) {
    copies[absl::StrCat(kLinkPrefix, index)] = fd.Release();
  }
  copies[kLockName] = lock_copy.Release();
  return copies;
}

bool KernelFlowOffload::BeginHandOver() {
  if (role_ != Role::kServing) return false;
  role_ = Role::kGiving;
  // A turn that has begun before ends.
  MutexLock turn(&turn_mutex_);
  return true;
}

void KernelFlowOffload::CancelHandOver() {
  if (role_ != Role::kGiving) return;
  role_ = Role::kServing;
  Wake();
}

void KernelFlowOffload::LetGo() {
  role_ = Role::kGone;
  is_stopping_ = true;
  Wake();
  thread_.join();
  MutexLock lock(&mutex_);
  attachments_->ReleaseLinks();
  lock_ = InstanceLock();
}

bool KernelFlowOffload::Adopt(uint32_t slot,
                              const SessionAddresses& addresses) {
  return role_ == Role::kTaking && table_->Adopt(slot, addresses);
}

void KernelFlowOffload::StartAdopted() {
  if (role_ != Role::kTaking) return;
  SetLease(NowNanoseconds());
  role_ = Role::kServing;
  Wake();
}

void KernelFlowOffload::SetLease(int64_t now_nanoseconds) {
  __atomic_store_n(program_->lease_nanoseconds(),
                   static_cast<uint64_t>(now_nanoseconds), __ATOMIC_RELEASE);
}

void KernelFlowOffload::DetachAll() {
  if (role_ == Role::kTaking || role_ == Role::kGone) return;
  // From here on everything goes up, whether a filter can be taken off or not.
  if (program_ != nullptr) SetLease(0);
  MutexLock lock(&mutex_);
  if (attachments_ != nullptr) attachments_->DetachAll();
}

udpgate_rewriting KernelFlowOffload::Rewriting() const {
  return {options_.dont_fragment, !options_.copies_traffic_class};
}

absl::Status KernelFlowOffload::Start() {
  absl::StatusOr<InstanceLock> lock = InstanceLock::Take();
  if (!lock.ok()) return lock.status();
  lock_ = *std::move(lock);
  absl::StatusOr<std::unique_ptr<Program>> program = Program::Load(
      options_.sessions_max, /*verifier_log=*/nullptr, Rewriting());
  if (!program.ok()) return program.status();
  program_ = *std::move(program);
  absl::Status status = Prepare();
  if (!status.ok()) return status;
  {
    MutexLock guard(&mutex_);
    attachments_->RemoveLeftovers();
    status = attachments_->AttachWanted();
    if (!status.ok()) return status;
  }
  SetLease(NowNanoseconds());
  return StartThread();
}

// Nothing here may touch what another process still has.
absl::Status KernelFlowOffload::StartTaking(Descriptors descriptors) {
  role_ = Role::kTaking;
  has_adopted_ = true;
  if (!options_.may_use_tcx) {
    return absl::FailedPreconditionError("links must not be used");
  }
  absl::StatusOr<InstanceLock> lock =
      InstanceLock::Adopt(std::move(descriptors[kLockName]));
  if (!lock.ok()) return lock.status();
  lock_ = *std::move(lock);
  Descriptors maps;
  for (auto& [name, fd] : descriptors) {
    absl::string_view map_name = name;
    if (absl::ConsumePrefix(&map_name, NameOfMap(""))) {
      maps[std::string(map_name)] = std::move(fd);
    }
  }
  absl::StatusOr<std::unique_ptr<Program>> program =
      Program::LoadWithMaps(options_.sessions_max, maps, Rewriting());
  if (!program.ok()) return program.status();
  program_ = *std::move(program);
  absl::Status status = Prepare();
  if (!status.ok()) return status;
  {
    MutexLock guard(&mutex_);
    for (auto& [name, fd] : descriptors) {
      absl::string_view digits = name;
      int index = 0;
      if (!absl::ConsumePrefix(&digits, kLinkPrefix) ||
          !absl::SimpleAtoi(digits, &index)) {
        continue;
      }
      attachments_->Adopt(index, std::move(fd));
    }
    status = attachments_->CheckAdopted();
    if (!status.ok()) return status;
  }
  {
    MutexLock turn(&turn_mutex_);
    must_finish_adoption_ = true;
  }
  return StartThread();
}

// What has changed since Prepare follows from the watcher.
void KernelFlowOffload::FinishAdoption() {
  MutexLock lock(&mutex_);
  table_->FinishAdoption(NowNanoseconds());
  attachments_->FinishAdoption(table_->ExitInterfaces());
}

absl::Status KernelFlowOffload::Prepare() {
  table_ = std::make_unique<FlowTable>(program_.get(), options_.sessions_max,
                                       has_adopted_);
  {
    MutexLock guard(&mutex_);
    install_status_.resize(static_cast<size_t>(options_.sessions_max));
  }
  // Before the first look at links and routes, so that no change is missed.
  absl::StatusOr<RouteWatcher> watcher = RouteWatcher::Open();
  if (!watcher.ok()) return watcher.status();
  watcher_ = std::make_unique<RouteWatcher>(*std::move(watcher));
  wake_event_ = internal::UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_event_.is_open()) {
    return internal::ErrnoToStatus(errno, "eventfd");
  }
  {
    MutexLock guard(&mutex_);
    absl::StatusOr<std::unique_ptr<Attachments>> attachments =
        Attachments::Open(
            {options_.interfaces, options_.listen_addresses,
             options_.dont_fragment, options_.may_use_tcx, options_.log_sink},
            program_.get(), lock_.number());
    if (!attachments.ok()) return attachments.status();
    attachments_ = *std::move(attachments);
  }
  return absl::OkStatus();
}

absl::Status KernelFlowOffload::StartThread() {
  absl::StatusOr<std::thread> thread = internal::StartThread(
      "udpgate-offload", internal::ThreadRole::kControlPlane,
      [this] { Run(); });
  if (!thread.ok()) return thread.status();
  thread_ = *std::move(thread);
  return absl::OkStatus();
}

absl::optional<uint32_t> KernelFlowOffload::Install(
    const SessionAddresses& addresses) {
  const absl::optional<uint32_t> slot = table_->Take(addresses);
  if (slot.has_value()) Wake();
  return slot;
}

void KernelFlowOffload::Wake() {
  if (!is_woken_.exchange(true)) ::eventfd_write(wake_event_.get(), 1);
}

SessionActivity KernelFlowOffload::LateActivity() const {
  MutexLock lock(&mutex_);
  return table_->LateActivity();
}

absl::Status KernelFlowOffload::InstallStatus(uint32_t slot) const {
  MutexLock lock(&mutex_);
  if (table_->state(slot) == FlowState::kWaiting) {
    return absl::UnavailableError("not installed yet");
  }
  return install_status_[slot];
}

std::vector<std::string> KernelFlowOffload::AttachedInterfaces() const {
  MutexLock lock(&mutex_);
  return attachments_->AttachedNames();
}

void KernelFlowOffload::Run() {
  bool has_more = false;
  for (;;) {
    const Role role = role_;
    const bool is_serving = role == Role::kServing;
    if (is_serving || role == Role::kGiving) SetLease(NowNanoseconds());
    pollfd waited[] = {{wake_event_.get(), POLLIN, 0},
                       {watcher_->fd(), POLLIN, 0}};
    ::poll(waited, is_serving ? 2 : 1,
           has_more                ? 0
           : role == Role::kTaking ? -1
                                   : kRenewMilliseconds);
    // Here and not in the destructor: this thread surely is in the network
    // namespace that the indices belong to.
    if (is_stopping_) return DetachAll();
    if (waited[0].revents != 0) {
      eventfd_t count;
      ::eventfd_read(wake_event_.get(), &count);
      // Before the look: whoever asks after it wakes us again.
      is_woken_.exchange(false);
    }
    // Also where nobody woke us: what is given back does not.
    has_more = MakeTurn(waited[1].revents != 0);
  }
}

bool KernelFlowOffload::MakeTurn(bool network_has_changed) {
  MutexLock turn(&turn_mutex_);
  if (role_ != Role::kServing) return false;
  if (must_finish_adoption_) {
    must_finish_adoption_ = false;
    FinishAdoption();
  }
  if (network_has_changed) {
    watcher_->Read([this](const NetworkChange& change) { Apply(change); });
  }
  return HandleRequests();
}

bool KernelFlowOffload::HandleRequests() {
  for (int i = 0; i < kRequestsPerRound; ++i) {
    MutexLock lock(&mutex_);
    table_->FreeRested(NowNanoseconds());
    const absl::optional<FlowTable::Request> request = table_->NextRequest();
    if (!request.has_value()) return false;
    Handle(*request);
  }
  return true;
}

void KernelFlowOffload::Handle(const FlowTable::Request& request) {
  if (request.is_given_back) {
    return table_->Clear(request.slot, NowNanoseconds());
  }
  absl::Status& status = install_status_[request.slot];
  status = Add(request.slot);
  int64_t suppressed = 0;
  if (status.ok() || !refusal_log_limiter_.Admit(&suppressed)) return;
  Log(LogSeverity::kWarning,
      absl::StrCat("fast path: the session of ",
                   table_->addresses(request.slot).client.ToString(),
                   " stays on sockets: ", status.message(),
                   suppressed > 0
                       ? absl::StrCat(" (and ", suppressed, " more like it)")
                       : ""));
}

// Routes are looked up and flows added by the thread that hears of changes: one
// that comes after the look is told after that, and finds the flows to
// withdraw.
absl::Status KernelFlowOffload::Add(uint32_t slot) {
  const SessionAddresses& addresses = table_->addresses(slot);
  absl::Status status = Check(addresses);
  absl::StatusOr<Exit> to_backend, to_client;
  if (status.ok()) {
    to_backend = attachments_->FindExit(addresses.relay, addresses.backend);
    status = to_backend.status();
  }
  if (status.ok()) {
    to_client = attachments_->FindExit(addresses.listen, addresses.client);
    status = to_client.status();
  }
  if (status.ok()) return table_->Add(slot, *to_backend, *to_client);
  table_->Refuse(slot);
  return status;
}

void KernelFlowOffload::Apply(const NetworkChange& change) {
  MutexLock lock(&mutex_);
  int withdrawn = 0;
  switch (change.kind) {
    case NetworkChange::Kind::kEverything:
      withdrawn = table_->WithdrawWhere([](const SessionAddresses&, const Exit&,
                                           const Exit&) { return true; });
      attachments_->ReadAgain();
      break;
    case NetworkChange::Kind::kPrefix:
      withdrawn = WithdrawPrefix(change);
      break;
    case NetworkChange::Kind::kLink:
      // A new link carries no flows.
      if (attachments_->Apply(change.link)) {
        withdrawn = WithdrawLink(change.link.index);
      }
      break;
    case NetworkChange::Kind::kLinkRemoved:
      withdrawn = WithdrawLink(change.link.index);
      attachments_->Forget(change.link.index);
      break;
  }
  withdrawn_by_changes_.fetch_add(static_cast<uint64_t>(withdrawn),
                                  std::memory_order_relaxed);
}

int KernelFlowOffload::WithdrawLink(int interface_index) {
  const auto index = static_cast<uint32_t>(interface_index);
  return table_->WithdrawWhere([index](const SessionAddresses&,
                                       const Exit& to_backend,
                                       const Exit& to_client) {
    return to_backend.interface_index == index ||
           to_client.interface_index == index;
  });
}

int KernelFlowOffload::WithdrawPrefix(const NetworkChange& change) {
  return table_->WithdrawWhere(
      [&change](const SessionAddresses& addresses, const Exit&, const Exit&) {
        return addresses.client.family() == change.family &&
               (IsInPrefix(change, addresses.client.ip_bytes()) ||
                IsInPrefix(change, addresses.backend.ip_bytes()));
      });
}

void KernelFlowOffload::Log(LogSeverity severity,
                            absl::string_view line) const {
  if (options_.log_sink) options_.log_sink(severity, line);
}

}  // namespace fastpath
}  // namespace udpgate
