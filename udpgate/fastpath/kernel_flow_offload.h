// The fast path in the kernel, as a `FlowOffload`.
//
//   udpgate::fastpath::KernelFlowOffload::Options options;
//   options.sessions_max = 10000;
//   options.listen_addresses = {listen_address};
//   auto offload = udpgate::fastpath::KernelFlowOffload::Create(options);
//   if (!offload.ok()) {
//     // The text says why the kernel or the process's rights do not allow it.
//   }
//
// Belongs to the network namespace of the thread that creates it. The
// destructor detaches the program. A clsact qdisc that `Create` had to add
// stays, since other programs may have attached filters to it.
#ifndef UDPGATE_FASTPATH_KERNEL_FLOW_OFFLOAD_H_
#define UDPGATE_FASTPATH_KERNEL_FLOW_OFFLOAD_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "udpgate/base/export.h"
#include "udpgate/flow_offload.h"
#include "udpgate/logging.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace fastpath {

class UDPGATE_EXPORT KernelFlowOffload : public FlowOffload {
 public:
  struct Options {
    // Maximum number of sessions, including those that ended within the last
    // second; 1 or more.
    int sessions_max = 0;
    // Interfaces to attach to. Empty: those that have a listen address, the
    // loopback interface, those of the routes of the listen addresses'
    // families, and, when a session needs them, further ones by which its
    // datagrams leave.
    std::vector<std::string> interfaces;
    // If `interfaces` is empty: number of interfaces, with those that have a
    // listen address, from which on an interface of a route is not attached at
    // the start; 0 or more.
    int interfaces_at_start_max = 64;
    std::vector<SocketAddress> listen_addresses;
    // See ProxyOptions.
    bool dont_fragment = false;
    bool copies_traffic_class = true;
    // Attach by links (TCX) if the kernel supports them. Else by clsact
    // filters.
    bool may_use_tcx = true;
    // Takeover: the result of CopyDescriptors in the old process. This offload
    // continues with its flows from StartAdopted on. `Create` takes ownership
    // of the descriptors, also if it fails. If the flows cannot be adopted
    // (another `sessions_max`, other `interfaces`, another layout of the maps,
    // another network namespace), the log says why, and this offload starts
    // without flows, as if this were empty.
    std::map<std::string, int> adopted;
    // Receives what is attached, and why sessions stay on sockets (rate
    // limited).
    LogSink log_sink;
  };

  // Loads and attaches the program. The error is for an operator: what the
  // kernel refused, and why. PermissionDenied without CAP_BPF and
  // CAP_NET_ADMIN.
  static absl::StatusOr<std::unique_ptr<KernelFlowOffload>> Create(
      const Options& options);
  ~KernelFlowOffload() override;
  KernelFlowOffload(const KernelFlowOffload&) = delete;
  KernelFlowOffload& operator=(const KernelFlowOffload&) = delete;

  // See FlowOffload. Install and Remove queue a request for the offload's
  // thread, at the cost of some stores to memory; Install also wakes the
  // thread. The queue has room for the requests of `sessions_max` sessions, so
  // it is never full.
  absl::optional<uint32_t> Install(const SessionAddresses& addresses) override;
  FlowState state(uint32_t slot) const override;
  void PublishHandled(uint32_t slot, FlowDirection direction,
                      int64_t receive_time_nanoseconds) override;
  void LowerPacketBytesMax(uint32_t slot, FlowDirection direction,
                           uint32_t bytes) override;
  SessionActivity ReadActivity(uint32_t slot) const override;
  // A datagram that the program is processing may still leave, some
  // microseconds later. The slot is not reused for a second.
  SessionActivity Remove(uint32_t slot) override;
  SessionActivity LateActivity() const override;

  std::map<std::string, int> CopyDescriptors() const override;
  bool BeginHandOver() override;
  void CancelHandOver() override;
  // Waits for the offload's thread.
  void LetGo() override;
  bool has_adopted() const override;
  bool Adopt(uint32_t slot, const SessionAddresses& addresses) override;
  // The offload's thread completes the adoption: until then no further session
  // is installed.
  void StartAdopted() override;

  // Threads: any, for all of the following; they may wait for the offload's
  // thread.

  // The result of the last Install that got this slot. Unavailable while the
  // request is queued; OK; or why it was refused: NotFound if there is no
  // route, InvalidArgument or Unimplemented if the addresses cannot be relayed,
  // AlreadyExists if another session has them, ResourceExhausted if the kernel
  // has no room.
  absl::Status InstallStatus(uint32_t slot) const;
  // Number of packets that were passed to the sockets, by reason: in the order
  // of `udpgate_reason` (internal/layout.h).
  std::vector<uint64_t> PassedUp() const;
  // Names of the interfaces that the program is attached to.
  std::vector<std::string> AttachedInterfaces() const;
  // Sessions whose flows were withdrawn because routes, links or addresses
  // changed.
  uint64_t withdrawn_by_changes() const;

 private:
  class Impl;

  explicit KernelFlowOffload(std::unique_ptr<Impl> impl);

  const std::unique_ptr<Impl> impl_;
};

}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_KERNEL_FLOW_OFFLOAD_H_
