// What a JoinTable is composed of. Private to its sources.
#ifndef UDPGATE_NETHERNET_JOIN_TABLE_IMPL_H_
#define UDPGATE_NETHERNET_JOIN_TABLE_IMPL_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/types/span.h"
#include "udpgate/clock.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/nethernet/internal/exported_join.h"
#include "udpgate/nethernet/internal/join_index.h"
#include "udpgate/nethernet/internal/join_tag.h"
#include "udpgate/nethernet/internal/stun_counters.h"
#include "udpgate/nethernet/join_table.h"
#include "udpgate/stun/binding_request.h"

namespace udpgate {
namespace nethernet {

struct JoinTable::Impl final : internal::JoinSessions {
  using Mutex = ::udpgate::internal::Mutex;
  using JoinTag = internal::JoinTag;
  using JoinList = internal::JoinList;

  // Joins that are visited, or end, while the lock is held.
  static constexpr size_t kJoinsPerSlice = 64;
  // Expired joins that each new one removes.
  static constexpr int kSweepPerJoin = 4;
  // Disconnected joins that the late part of an export can name.
  static constexpr size_t kEndedIdsMax = 4096;

  // A join whose answer is under way.
  struct Reserved {
    SocketAddress player;
    SocketAddress backend;
    std::string backend_label;
    bool is_cancelled = false;
  };
  // Whose the request is. The tag is null if the result is not kKnown.
  struct Recognized {
    std::shared_ptr<JoinTag> tag;
    internal::StunResult result = internal::StunResult::kUnknownUfrag;
  };

  Impl(const JoinTableOptions& options, const Clock* the_clock)
      : clock(the_clock), index(options) {}

  Recognized Recognize(const stun::BindingRequest& request,
                       absl::Span<const char> datagram);
  Screening ScreenIce(const SocketAddress& client,
                      const stun::BindingRequest& request,
                      absl::Span<const char> datagram);
  absl::StatusOr<ResolveResult> ResolveIce(const SocketAddress& client,
                                           const stun::BindingRequest& request,
                                           absl::Span<const char> datagram);

  void OnBegin(JoinTag* tag, const SocketAddress& client,
               const SocketAddress& relay) override;
  void OnEnd(JoinTag* tag, const SocketAddress& client,
             EndReason reason) override;

  void CancelReservations(const DisconnectTarget& target);
  std::vector<std::shared_ptr<JoinTag>> FindNamed(
      const DisconnectTarget& target);
  // Appends the client addresses of its sessions to `clients`.
  void RemoveDisconnected(JoinTag* tag, std::vector<SocketAddress>* clients)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Whether a join whose time was over comes back with its session: unless a
  // disconnect came since the resolution, which may have meant the join.
  bool MayReturn(const JoinTag& tag) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Tells the observer.
  void ReportDisconnected(const JoinTag& tag) ABSL_LOCKS_EXCLUDED(mutex);

  // For `Import`. Joins that are not of the old process stay.
  void RemoveAllBut(const std::vector<internal::ExportedJoin>& kept);
  void ImportOne(const internal::ExportedJoin& exported);

  // With those whose answer is under way.
  int64_t WaitingCount() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    return index.size(JoinList::kWaiting) +
           static_cast<int64_t>(reservations.size());
  }
  // Removes all that have expired, in slices.
  void Sweep();

  const Clock* const clock;
  internal::StunCounters stun_counters;
  Mutex mutex;
  internal::JoinIndex index ABSL_GUARDED_BY(mutex);
  std::map<uint64_t, Reserved> reservations ABSL_GUARDED_BY(mutex);
  uint64_t next_reservation ABSL_GUARDED_BY(mutex) = 1;
  // All that came, whatever they named.
  uint64_t disconnect_count ABSL_GUARDED_BY(mutex) = 0;
  // The counters; gauges are derived.
  JoinTableStats stats ABSL_GUARDED_BY(mutex);
  std::shared_ptr<JoinObserver> observer ABSL_GUARDED_BY(mutex);
  // Since the last export: the joins that a disconnect has ended, unless there
  // were too many to remember.
  bool was_exported ABSL_GUARDED_BY(mutex) = false;
  bool has_ended_too_many ABSL_GUARDED_BY(mutex) = false;
  std::vector<std::string> ended_ids ABSL_GUARDED_BY(mutex);
};

}  // namespace nethernet
}  // namespace udpgate

#endif  // UDPGATE_NETHERNET_JOIN_TABLE_IMPL_H_
