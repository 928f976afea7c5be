// A number that at most one process of this network namespace holds, until it
// exits for whatever reason.
//
// The number is the handle of the process's filters. It distinguishes filters
// of a running process from those that a dead one left. The lock is an abstract
// Unix socket (unix(7)), whose names belong to the network namespace, as
// interfaces do. Process ids would not be unique across containers.
#ifndef UDPGATE_FASTPATH_INTERNAL_INSTANCE_LOCK_H_
#define UDPGATE_FASTPATH_INTERNAL_INSTANCE_LOCK_H_

#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace fastpath {
namespace internal {

// Maximum number of processes with a fast path in one network namespace.
inline constexpr uint32_t kInstancesMax = 8;

class InstanceLock {
 public:
  InstanceLock() = default;

  // The smallest free number from 1 to kInstancesMax. ResourceExhausted if all
  // are taken.
  static absl::StatusOr<InstanceLock> Take();
  // True if no process holds `number`.
  static bool IsFree(uint32_t number);

  // Takes over the result of Copy, also from another process. InvalidArgument
  // if it is not such a lock of this network namespace.
  static absl::StatusOr<InstanceLock> Adopt(udpgate::internal::UniqueFd socket);
  // A descriptor that holds the number as well. Closed if the process has no
  // descriptors left.
  udpgate::internal::UniqueFd Copy() const;

  uint32_t number() const { return number_; }

 private:
  InstanceLock(udpgate::internal::UniqueFd socket, uint32_t number)
      : socket_(std::move(socket)), number_(number) {}

  udpgate::internal::UniqueFd socket_;
  uint32_t number_ = 0;
};

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_INTERNAL_INSTANCE_LOCK_H_
