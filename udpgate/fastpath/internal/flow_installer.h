// The control-plane side of the flow table: installs the flows that workers
// asked for, and withdraws those that a change of the network affects.
#ifndef UDPGATE_FASTPATH_INTERNAL_FLOW_INSTALLER_H_
#define UDPGATE_FASTPATH_INTERNAL_FLOW_INSTALLER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "udpgate/fastpath/internal/attachments.h"
#include "udpgate/fastpath/internal/flow_table.h"
#include "udpgate/fastpath/internal/route_watcher.h"
#include "udpgate/flow_offload.h"
#include "udpgate/logging.h"

namespace udpgate {
namespace fastpath {
namespace internal {

// OK if four addresses identify one session and the program can relay it.
// InvalidArgument for a wildcard, a multicast address or port 0; Unimplemented
// for a mix of address families and for link-local addresses.
absl::Status CheckAddresses(const SessionAddresses& addresses);

// Threads: one at a time. Calls may wait for the kernel.
class FlowInstaller {
 public:
  // `table` has `sessions_max` slots and must outlive the installer. This is
  // the owner of the table in the sense of flow_table.h.
  FlowInstaller(FlowTable* table, std::unique_ptr<Attachments> attachments,
                int sessions_max, LogSink log_sink);

  Attachments& attachments() const { return *attachments_; }

  // Handles the oldest request. False if there is none.
  bool HandleNext(int64_t now_nanoseconds);
  // Withdraws the flows that `change` affects. Their number.
  int Apply(const NetworkChange& change);
  // Takeover: ends the flows that nobody adopted, and attaches the program of
  // this process.
  void FinishAdoption(int64_t now_nanoseconds);

  // The result of the last installation in this slot.
  const absl::Status& status(uint32_t slot) const { return statuses_[slot]; }

 private:
  absl::Status Install(uint32_t slot);
  int WithdrawLink(int interface_index);
  int WithdrawPrefix(const NetworkChange& change);
  int WithdrawRouter(const NetworkChange& change);
  void LogRefusal(uint32_t slot, const absl::Status& status);

  FlowTable* const table_;
  const std::unique_ptr<Attachments> attachments_;
  const LogSink log_sink_;
  std::vector<absl::Status> statuses_;  // by slot
  LogRateLimiter refusal_log_limiter_;
};

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_INTERNAL_FLOW_INSTALLER_H_
