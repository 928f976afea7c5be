// The fast path in the kernel, behind the interface that the core knows.
//
//   udpgate::fastpath::KernelFlowOffload::Options options;
//   options.sessions_max = 10000;
//   options.listen_addresses = {listen_address};
//   auto offload = udpgate::fastpath::KernelFlowOffload::Create(options);
//   if (!offload.ok()) {
//     // The text says why the kernel or the process's rights do not allow it.
//   }
//
// Belongs to the network namespace of the thread that creates it. Ending it
// takes the program off; a hook for filters (clsact) stays, since others may
// have hung something there meanwhile.
#ifndef UDPGATE_FASTPATH_KERNEL_FLOW_OFFLOAD_H_
#define UDPGATE_FASTPATH_KERNEL_FLOW_OFFLOAD_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "udpgate/fastpath/attachments.h"
#include "udpgate/fastpath/flow_table.h"
#include "udpgate/fastpath/instance_lock.h"
#include "udpgate/fastpath/program.h"
#include "udpgate/fastpath/route_watcher.h"
#include "udpgate/flow_offload.h"
#include "udpgate/internal/mutex.h"
#include "udpgate/internal/unique_fd.h"
#include "udpgate/logging.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace fastpath {

class KernelFlowOffload : public FlowOffload {
 public:
  struct Options {
    // Room for so many sessions, those included that have ended within the last
    // second; 1 or more.
    int sessions_max = 0;
    // Interfaces to attach to. Empty: those that carry a listen address, and
    // those by which a session's datagrams leave.
    std::vector<std::string> interfaces;
    std::vector<SocketAddress> listen_addresses;
    // See ProxyOptions.
    bool dont_fragment = false;
    bool copies_traffic_class = true;
    // Where the kernel allows it, hang the program to interfaces by links
    // (TCX) rather than as a filter of clsact.
    bool may_use_tcx = true;
    // What CopyDescriptors of an offload in another process has given, whose
    // flows this one is to go on with from StartAdopted on. The offload's from
    // now on, also where Create fails. Where that cannot be (there is no link
    // that could pass from one to the other, another `sessions_max`, other
    // `interfaces`, another layout of the maps), the log says why, and this
    // one begins without flows, as where it is empty.
    std::map<std::string, int> adopted;
    // What is attached, and why sessions stay on sockets (at a limited rate).
    LogSink log_sink;
  };

  // Loads and attaches the program. The error is for an operator: what the
  // kernel refused, and why.
  static absl::StatusOr<std::unique_ptr<KernelFlowOffload>> Create(
      const Options& options);
  ~KernelFlowOffload() override;
  KernelFlowOffload(const KernelFlowOffload&) = delete;
  KernelFlowOffload& operator=(const KernelFlowOffload&) = delete;

  // See FlowOffload. Install and Remove leave to the offload's thread what they
  // ask for, at the price of some stores to memory; Install also wakes it. A
  // request waits in a queue that has room for those of `sessions_max`
  // sessions, so it is never full.
  absl::optional<uint32_t> Install(const SessionAddresses& addresses) override;
  FlowState state(uint32_t slot) const override { return table_->state(slot); }
  void PublishHandled(uint32_t slot, FlowDirection direction,
                      int64_t receive_time_nanoseconds) override {
    table_->PublishHandled(slot, direction, receive_time_nanoseconds);
  }
  void LowerPacketBytesMax(uint32_t slot, FlowDirection direction,
                           uint32_t bytes) override {
    table_->LowerPacketBytesMax(slot, direction, bytes);
  }
  SessionActivity ReadActivity(uint32_t slot) const override {
    return table_->ReadActivity(slot);
  }
  // A datagram that the program has begun with may still leave, some
  // microseconds later. The slot is not used again for a second.
  SessionActivity Remove(uint32_t slot) override {
    return role_.load(std::memory_order_relaxed) == Role::kTaking
               ? table_->ReadActivity(slot)
               : table_->GiveBack(slot);
  }
  SessionActivity LateActivity() const override;

  std::map<std::string, int> CopyDescriptors() const override;
  bool BeginHandOver() override;
  void CancelHandOver() override;
  // Waits for the offload's thread.
  void LetGo() override;
  bool has_adopted() const override { return has_adopted_; }
  bool Adopt(uint32_t slot, const SessionAddresses& addresses) override;
  // The rest is done by the offload's thread: until then no further session is
  // installed.
  void StartAdopted() override;

  // Threads: any, all of the following; they may wait.

  // What became of the last Install that had this slot: Unavailable while it
  // waits, else OK, or why it was refused: NotFound where there is no route,
  // InvalidArgument or Unimplemented where the addresses cannot be relayed,
  // AlreadyExists where another session has them, ResourceExhausted where the
  // kernel has no room.
  absl::Status InstallStatus(uint32_t slot) const;
  // How often a packet went to the sockets, by `udpgate_reason`.
  std::array<uint64_t, UDPGATE_REASONS> PassedUp() const {
    return program_->PassedUp();
  }
  // Names of the interfaces that the program hangs on now.
  std::vector<std::string> AttachedInterfaces() const;
  // Sessions whose flows went because routes, links or addresses changed.
  uint64_t withdrawn_by_changes() const {
    return withdrawn_by_changes_.load(std::memory_order_relaxed);
  }

 private:
  // Whose the flows are, and so what the thread does.
  enum class Role : uint8_t {
    kTaking,   // another one's still: nothing
    kServing,  // everything
    kGiving,   // another one's soon, perhaps: it renews the lease
    kGone,     // another one's
  };
  using Descriptors = std::map<std::string, internal::UniqueFd>;

  explicit KernelFlowOffload(const Options& options);

  absl::Status Start();
  udpgate_rewriting Rewriting() const;
  absl::Status StartTaking(Descriptors descriptors);
  absl::Status Prepare();
  absl::Status StartThread();
  void FinishAdoption();

  void Wake();
  void SetLease(int64_t now_nanoseconds);
  void DetachAll();

  // The thread: renews the lease, follows the network's changes, and does what
  // Install and Remove have asked for.
  void Run();
  // What has come, if the role is to do it. Whether there may be more.
  bool MakeTurn(bool network_has_changed);
  // Some of what was asked for. Likewise.
  bool HandleRequests();
  void Handle(const FlowTable::Request& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Add(uint32_t slot) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Apply(const NetworkChange& change);
  int WithdrawLink(int interface_index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int WithdrawPrefix(const NetworkChange& change)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Log(LogSeverity severity, absl::string_view line) const;

  const Options options_;
  bool has_adopted_ = false;
  std::atomic<Role> role_{Role::kServing};
  InstanceLock lock_;
  std::unique_ptr<Program> program_;
  std::unique_ptr<FlowTable> table_;  // what is its owner's: under mutex_

  // Held by the thread while it does more than renew the lease.
  internal::Mutex turn_mutex_;
  bool must_finish_adoption_ ABSL_GUARDED_BY(turn_mutex_) = false;

  // Never taken by Install and Remove.
  mutable internal::Mutex mutex_;
  std::unique_ptr<Attachments> attachments_ ABSL_GUARDED_BY(mutex_)
      ABSL_PT_GUARDED_BY(mutex_);
  std::vector<absl::Status> install_status_ ABSL_GUARDED_BY(mutex_);  // by slot

  std::unique_ptr<RouteWatcher> watcher_;
  internal::UniqueFd wake_event_;
  std::atomic<bool> is_woken_{false};  // or about to be
  std::atomic<bool> is_stopping_{false};
  std::thread thread_;
  std::atomic<uint64_t> withdrawn_by_changes_{0};
  LogRateLimiter refusal_log_limiter_;
};

}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_KERNEL_FLOW_OFFLOAD_H_
