#include "udpgate/fastpath/kernel_flow_offload.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <array>
#include <atomic>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "udpgate/clock.h"
#include "udpgate/fastpath/internal/attachments.h"
#include "udpgate/fastpath/internal/flow_installer.h"
#include "udpgate/fastpath/internal/flow_table.h"
#include "udpgate/fastpath/internal/instance_lock.h"
#include "udpgate/fastpath/internal/layout.h"
#include "udpgate/fastpath/internal/program.h"
#include "udpgate/fastpath/internal/route_watcher.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/thread.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace fastpath {
namespace {

using internal::Attachments;
using internal::FlowInstaller;
using internal::FlowTable;
using internal::InstanceLock;
using internal::NetworkChange;
using internal::Program;
using internal::RouteWatcher;
using udpgate::internal::Mutex;
using udpgate::internal::MutexLock;
using udpgate::internal::UniqueFd;

// An eighth of the lease: a machine under load may delay the thread.
constexpr int kRenewMilliseconds =
    static_cast<int>(UDPGATE_LEASE_NANOSECONDS / 1'000'000 / 8);

// Maximum number of requests between two checks of the lease and the network.
constexpr int kRequestsPerRound = 64;

// Names of the descriptors in the result of CopyDescriptors.
constexpr char kLockName[] = "lock";
constexpr char kLinkPrefix[] = "link/";

// Includes the version, so that a process with another layout finds no maps.
std::string NameOfMap(absl::string_view name) {
  return absl::StrCat("map/", UDPGATE_LAYOUT_VERSION, "/", name);
}

int64_t NowNanoseconds() { return Clock::Monotonic()->NowNanoseconds(); }

}  // namespace

class KernelFlowOffload::Impl {
 public:
  using Descriptors = std::map<std::string, UniqueFd>;

  explicit Impl(const Options& options) : options_(options) {}
  ~Impl();

  absl::Status Start();
  // Takeover: starts with the descriptors of the old process, and changes
  // nothing that the old process still uses.
  absl::Status StartAdopting(Descriptors descriptors);

  FlowTable& table() const { return *table_; }
  const Program& program() const { return *program_; }

  absl::optional<uint32_t> Install(const SessionAddresses& addresses);
  SessionActivity Remove(uint32_t slot);
  SessionActivity LateActivity() const;
  absl::Status InstallStatus(uint32_t slot) const;
  std::vector<std::string> AttachedInterfaces() const;
  uint64_t withdrawn_by_changes() const {
    return withdrawn_by_changes_.load(std::memory_order_relaxed);
  }

  std::map<std::string, int> CopyDescriptors() const;
  bool BeginHandOver();
  void CancelHandOver();
  void LetGo();
  bool has_adopted() const { return has_adopted_; }
  bool Adopt(uint32_t slot, const SessionAddresses& addresses);
  void StartAdopted();

  void Log(LogSeverity severity, absl::string_view line) const {
    if (options_.log_sink) options_.log_sink(severity, line);
  }

 private:
  // Which process owns the flows, and so what the thread does.
  enum class Role : uint8_t {
    kAdopting,     // the old process owns them: nothing
    kServing,      // this process: everything
    kHandingOver,  // this one, until the new process confirms: renews the lease
    kReleased,     // the new process: nothing
  };

  udpgate_rewriting Rewriting() const {
    return {options_.dont_fragment, !options_.copies_traffic_class};
  }
  absl::Status LoadWithMapsOf(Descriptors* descriptors);
  absl::Status AdoptAttachments(Descriptors descriptors);
  absl::Status Prepare();
  absl::Status StartThread();

  void Wake();
  void SetLease(int64_t now_nanoseconds);
  void DetachAll();

  // The thread: renews the lease, reads changes of the network, and handles
  // the requests of Install and Remove.
  void Run();
  // Does the work that waits, if this role does it. True if more may wait.
  bool RunOnce(bool network_has_changed);
  // Handles some requests. True if more may wait.
  bool HandleRequests();
  void Apply(const NetworkChange& change);

  const Options options_;
  bool has_adopted_ = false;
  std::atomic<Role> role_{Role::kServing};
  InstanceLock lock_;
  std::unique_ptr<Program> program_;
  std::unique_ptr<FlowTable> table_;  // the owner's functions: under mutex_

  // Held by the thread during an iteration of RunOnce.
  Mutex iteration_mutex_;
  bool must_finish_adoption_ ABSL_GUARDED_BY(iteration_mutex_) = false;

  // Never taken by Install and Remove.
  mutable Mutex mutex_;
  std::unique_ptr<FlowInstaller> installer_ ABSL_GUARDED_BY(mutex_)
      ABSL_PT_GUARDED_BY(mutex_);

  std::unique_ptr<RouteWatcher> watcher_;
  UniqueFd wake_event_;
  std::atomic<bool> is_woken_{false};  // or about to be
  std::atomic<bool> is_stopping_{false};
  std::thread thread_;
  std::atomic<uint64_t> withdrawn_by_changes_{0};
};

KernelFlowOffload::Impl::~Impl() {
  if (thread_.joinable()) {
    is_stopping_ = true;
    Wake();
    thread_.join();
  } else {
    DetachAll();
  }
}

absl::Status KernelFlowOffload::Impl::Start() {
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
    Attachments& attachments = installer_->attachments();
    attachments.RemoveLeftovers();
    status = attachments.AttachWanted();
    if (!status.ok()) return status;
  }
  SetLease(NowNanoseconds());
  return StartThread();
}

absl::Status KernelFlowOffload::Impl::StartAdopting(Descriptors descriptors) {
  role_ = Role::kAdopting;
  has_adopted_ = true;
  absl::StatusOr<InstanceLock> lock =
      InstanceLock::Adopt(std::move(descriptors[kLockName]));
  if (!lock.ok()) return lock.status();
  lock_ = *std::move(lock);
  absl::Status status = LoadWithMapsOf(&descriptors);
  if (status.ok()) status = Prepare();
  if (status.ok()) status = AdoptAttachments(std::move(descriptors));
  if (!status.ok()) return status;
  {
    MutexLock iteration(&iteration_mutex_);
    must_finish_adoption_ = true;
  }
  return StartThread();
}

absl::Status KernelFlowOffload::Impl::LoadWithMapsOf(Descriptors* descriptors) {
  Descriptors maps;
  for (auto& [name, fd] : *descriptors) {
    absl::string_view map_name = name;
    if (absl::ConsumePrefix(&map_name, NameOfMap(""))) {
      maps[std::string(map_name)] = std::move(fd);
    }
  }
  absl::StatusOr<std::unique_ptr<Program>> program =
      Program::LoadWithMaps(options_.sessions_max, maps, Rewriting());
  if (!program.ok()) return program.status();
  program_ = *std::move(program);
  return absl::OkStatus();
}

absl::Status KernelFlowOffload::Impl::AdoptAttachments(
    Descriptors descriptors) {
  MutexLock guard(&mutex_);
  Attachments& attachments = installer_->attachments();
  for (auto& [name, fd] : descriptors) {
    absl::string_view digits = name;
    int index = 0;
    if (!absl::ConsumePrefix(&digits, kLinkPrefix) ||
        !absl::SimpleAtoi(digits, &index)) {
      continue;
    }
    if (!options_.may_use_tcx) {
      return absl::FailedPreconditionError("links (TCX) are disabled");
    }
    attachments.Adopt(index, std::move(fd));
  }
  if (absl::Status status = attachments.AdoptFilters(); !status.ok()) {
    return status;
  }
  return attachments.CheckAdopted();
}

absl::Status KernelFlowOffload::Impl::Prepare() {
  table_ = std::make_unique<FlowTable>(program_.get(), options_.sessions_max,
                                       has_adopted_);
  // Before links and routes are read, so that no change is missed.
  absl::StatusOr<RouteWatcher> watcher = RouteWatcher::Open();
  if (!watcher.ok()) return watcher.status();
  watcher_ = std::make_unique<RouteWatcher>(*std::move(watcher));
  wake_event_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_event_.is_open()) {
    return udpgate::internal::ErrnoToStatus(errno, "eventfd");
  }
  absl::StatusOr<std::unique_ptr<Attachments>> attachments =
      Attachments::Open({options_.interfaces, options_.interfaces_at_start_max,
                         options_.listen_addresses, options_.dont_fragment,
                         options_.may_use_tcx, options_.log_sink},
                        program_.get(), lock_.number());
  if (!attachments.ok()) return attachments.status();
  MutexLock guard(&mutex_);
  installer_ =
      std::make_unique<FlowInstaller>(table_.get(), *std::move(attachments),
                                      options_.sessions_max, options_.log_sink);
  return absl::OkStatus();
}

absl::Status KernelFlowOffload::Impl::StartThread() {
  absl::StatusOr<std::thread> thread = udpgate::internal::StartThread(
      "udpgate-offload", udpgate::internal::ThreadRole::kControlPlane,
      [this] { Run(); });
  if (!thread.ok()) return thread.status();
  thread_ = *std::move(thread);
  return absl::OkStatus();
}

absl::optional<uint32_t> KernelFlowOffload::Impl::Install(
    const SessionAddresses& addresses) {
  const absl::optional<uint32_t> slot = table_->Take(addresses);
  if (slot.has_value()) Wake();
  return slot;
}

SessionActivity KernelFlowOffload::Impl::Remove(uint32_t slot) {
  return role_.load(std::memory_order_relaxed) == Role::kAdopting
             ? table_->ReadActivity(slot)
             : table_->GiveBack(slot);
}

SessionActivity KernelFlowOffload::Impl::LateActivity() const {
  MutexLock lock(&mutex_);
  return table_->LateActivity();
}

absl::Status KernelFlowOffload::Impl::InstallStatus(uint32_t slot) const {
  MutexLock lock(&mutex_);
  if (table_->state(slot) == FlowState::kWaiting) {
    return absl::UnavailableError("not installed yet");
  }
  return installer_->status(slot);
}

std::vector<std::string> KernelFlowOffload::Impl::AttachedInterfaces() const {
  MutexLock lock(&mutex_);
  return installer_->attachments().AttachedNames();
}

std::map<std::string, int> KernelFlowOffload::Impl::CopyDescriptors() const {
  std::map<std::string, int> copies;
  MutexLock lock(&mutex_);
  Descriptors maps = program_->CopyMaps();
  const Attachments& attachments = installer_->attachments();
  absl::StatusOr<std::map<int, UniqueFd>> links = attachments.CopyLinks();
  UniqueFd lock_copy = lock_.Copy();
  if (role_ != Role::kServing || !attachments.has_attached() || !links.ok() ||
      !lock_copy.is_open()) {
    return copies;
  }
  for (auto& [name, fd] : maps) copies[NameOfMap(name)] = fd.Release();
  for (auto& [index, fd] : *links) {
    copies[absl::StrCat(kLinkPrefix, index)] = fd.Release();
  }
  copies[kLockName] = lock_copy.Release();
  return copies;
}

bool KernelFlowOffload::Impl::BeginHandOver() {
  if (role_ != Role::kServing) return false;
  role_ = Role::kHandingOver;
  // Waits until the current iteration ends.
  MutexLock iteration(&iteration_mutex_);
  return true;
}

void KernelFlowOffload::Impl::CancelHandOver() {
  if (role_ != Role::kHandingOver) return;
  role_ = Role::kServing;
  Wake();
}

void KernelFlowOffload::Impl::LetGo() {
  role_ = Role::kReleased;
  is_stopping_ = true;
  Wake();
  thread_.join();
  MutexLock lock(&mutex_);
  installer_->attachments().Release();
  lock_ = InstanceLock();
}

bool KernelFlowOffload::Impl::Adopt(uint32_t slot,
                                    const SessionAddresses& addresses) {
  return role_ == Role::kAdopting && table_->Adopt(slot, addresses);
}

void KernelFlowOffload::Impl::StartAdopted() {
  if (role_ != Role::kAdopting) return;
  SetLease(NowNanoseconds());
  role_ = Role::kServing;
  Wake();
}

void KernelFlowOffload::Impl::Wake() {
  if (!is_woken_.exchange(true)) ::eventfd_write(wake_event_.get(), 1);
}

void KernelFlowOffload::Impl::SetLease(int64_t now_nanoseconds) {
  __atomic_store_n(program_->lease_nanoseconds(),
                   static_cast<uint64_t>(now_nanoseconds), __ATOMIC_RELEASE);
}

void KernelFlowOffload::Impl::DetachAll() {
  if (role_ == Role::kAdopting || role_ == Role::kReleased) return;
  // From here on all packets are passed up, also if a filter cannot be removed.
  if (program_ != nullptr) SetLease(0);
  MutexLock lock(&mutex_);
  if (installer_ != nullptr) installer_->attachments().DetachAll();
}

void KernelFlowOffload::Impl::Run() {
  bool has_more = false;
  for (;;) {
    const Role role = role_;
    const bool is_serving = role == Role::kServing;
    if (is_serving || role == Role::kHandingOver) SetLease(NowNanoseconds());
    pollfd waited[] = {{wake_event_.get(), POLLIN, 0},
                       {watcher_->fd(), POLLIN, 0}};
    ::poll(waited, is_serving ? 2 : 1,
           has_more                  ? 0
           : role == Role::kAdopting ? -1
                                     : kRenewMilliseconds);
    // Not in the destructor: this thread is certainly in the network namespace
    // that the interface indices belong to.
    if (is_stopping_) return DetachAll();
    if (waited[0].revents != 0) {
      eventfd_t count;
      ::eventfd_read(wake_event_.get(), &count);
      // Before the requests are read: a later request wakes the thread again.
      is_woken_.exchange(false);
    }
    // Also after a timeout: Remove does not wake the thread.
    has_more = RunOnce(waited[1].revents != 0);
  }
}

bool KernelFlowOffload::Impl::RunOnce(bool network_has_changed) {
  MutexLock iteration(&iteration_mutex_);
  if (role_ != Role::kServing) return false;
  if (must_finish_adoption_) {
    must_finish_adoption_ = false;
    // The watcher reports what has changed since Prepare.
    MutexLock lock(&mutex_);
    installer_->FinishAdoption(NowNanoseconds());
  }
  if (network_has_changed) {
    watcher_->Read([this](const NetworkChange& change) { Apply(change); });
  }
  return HandleRequests();
}

bool KernelFlowOffload::Impl::HandleRequests() {
  for (int i = 0; i < kRequestsPerRound; ++i) {
    MutexLock lock(&mutex_);
    if (!installer_->HandleNext(NowNanoseconds())) return false;
  }
  return true;
}

void KernelFlowOffload::Impl::Apply(const NetworkChange& change) {
  MutexLock lock(&mutex_);
  withdrawn_by_changes_.fetch_add(
      static_cast<uint64_t>(installer_->Apply(change)),
      std::memory_order_relaxed);
}

absl::StatusOr<std::unique_ptr<KernelFlowOffload>> KernelFlowOffload::Create(
    const Options& options) {
  if (!options.adopted.empty()) {
    Impl::Descriptors descriptors;
    for (const auto& [name, fd] : options.adopted) descriptors[name].Reset(fd);
    auto impl = std::make_unique<Impl>(options);
    const absl::Status status = impl->StartAdopting(std::move(descriptors));
    if (status.ok()) {
      return std::unique_ptr<KernelFlowOffload>(
          new KernelFlowOffload(std::move(impl)));
    }
    impl->Log(LogSeverity::kInfo,
              absl::StrCat("fast path: cannot adopt the flows of the old "
                           "process, its flows end with it: ",
                           status.message()));
  }
  auto impl = std::make_unique<Impl>(options);
  absl::Status status = impl->Start();
  if (!status.ok()) return status;
  return std::unique_ptr<KernelFlowOffload>(
      new KernelFlowOffload(std::move(impl)));
}

KernelFlowOffload::KernelFlowOffload(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

KernelFlowOffload::~KernelFlowOffload() = default;

absl::optional<uint32_t> KernelFlowOffload::Install(
    const SessionAddresses& addresses) {
  return impl_->Install(addresses);
}

FlowState KernelFlowOffload::state(uint32_t slot) const {
  return impl_->table().state(slot);
}

void KernelFlowOffload::PublishHandled(uint32_t slot, FlowDirection direction,
                                       int64_t receive_time_nanoseconds) {
  impl_->table().PublishHandled(slot, direction, receive_time_nanoseconds);
}

void KernelFlowOffload::LowerPacketBytesMax(uint32_t slot,
                                            FlowDirection direction,
                                            uint32_t bytes) {
  impl_->table().LowerPacketBytesMax(slot, direction, bytes);
}

SessionActivity KernelFlowOffload::ReadActivity(uint32_t slot) const {
  return impl_->table().ReadActivity(slot);
}

SessionActivity KernelFlowOffload::Remove(uint32_t slot) {
  return impl_->Remove(slot);
}

SessionActivity KernelFlowOffload::LateActivity() const {
  return impl_->LateActivity();
}

std::map<std::string, int> KernelFlowOffload::CopyDescriptors() const {
  return impl_->CopyDescriptors();
}

bool KernelFlowOffload::BeginHandOver() { return impl_->BeginHandOver(); }

void KernelFlowOffload::CancelHandOver() { impl_->CancelHandOver(); }

void KernelFlowOffload::LetGo() { impl_->LetGo(); }

bool KernelFlowOffload::has_adopted() const { return impl_->has_adopted(); }

bool KernelFlowOffload::Adopt(uint32_t slot,
                              const SessionAddresses& addresses) {
  return impl_->Adopt(slot, addresses);
}

void KernelFlowOffload::StartAdopted() { impl_->StartAdopted(); }

absl::Status KernelFlowOffload::InstallStatus(uint32_t slot) const {
  return impl_->InstallStatus(slot);
}

std::vector<uint64_t> KernelFlowOffload::PassedUp() const {
  const auto counts = impl_->program().PassedUp();
  return std::vector<uint64_t>(counts.begin(), counts.end());
}

std::vector<std::string> KernelFlowOffload::AttachedInterfaces() const {
  return impl_->AttachedInterfaces();
}

uint64_t KernelFlowOffload::withdrawn_by_changes() const {
  return impl_->withdrawn_by_changes();
}

}  // namespace fastpath
}  // namespace udpgate
