// Continues sessions of records: of a former process, or of another gateway
// whose addresses are here now.
#ifndef UDPGATE_STORE_INTERNAL_RECOVERY_H_
#define UDPGATE_STORE_INTERNAL_RECOVERY_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "udpgate/proxy.h"
#include "udpgate/session_store.h"
#include "udpgate/store/internal/disconnect_memory.h"
#include "udpgate/store/internal/keeper_context.h"
#include "udpgate/store/internal/records.h"
#include "udpgate/store/internal/store_calls.h"

namespace udpgate {
namespace store {
namespace internal {

// The gateway continues them at once, and the records are adopted afterwards: a
// session whose record another gateway has by then ends as `superseded`.
//
// Threads: one.
class Recovery {
 public:
  // Sessions that are continued in one iteration, so that leases are renewed
  // meanwhile.
  static constexpr size_t kSliceMax = 2048;

  // All must outlive it.
  Recovery(KeeperContext* context, StoreCalls* calls, DisconnectMemory* memory,
           Records* records)
      : context_(context), calls_(calls), memory_(memory), records_(records) {}
  Recovery(const Recovery&) = delete;
  Recovery& operator=(const Recovery&) = delete;

  // Reads all records of these gateways, one after the other, and continues
  // their sessions.
  void ListAll(std::vector<std::string> gateway_ids);
  // Continues the session of a record.
  void Add(StoredSession record) { waiting_.push_back(std::move(record)); }
  void Clear();

  void Tick();
  // Nothing is read or waits.
  bool IsIdle() const { return waiting_.empty() && !is_listing_; }
  bool HasWork() const { return !waiting_.empty(); }
  // Of the last `ListAll`.
  const absl::Status& status() const { return status_; }

 private:
  void ListNext();
  bool IsUsable(const StoredSession& record);
  void Continue(const std::vector<StoredSession>& records);
  void FinishOne(const StoredSession& record, const RestoredSession& restored);

  KeeperContext* const context_;
  StoreCalls* const calls_;
  DisconnectMemory* const memory_;
  Records* const records_;
  std::deque<std::string> gateway_ids_;
  bool is_listing_ = false;
  absl::Status status_;
  std::deque<StoredSession> waiting_;
  uint64_t epoch_ = 0;
};

}  // namespace internal
}  // namespace store
}  // namespace udpgate

#endif  // UDPGATE_STORE_INTERNAL_RECOVERY_H_
