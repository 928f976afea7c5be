// A number that one process of this network namespace has to itself, and loses
// by ending, however it ends.
//
// It tells the filters of a process that is still there from those that a dead
// one left: the number is the filter's handle. The lock is an abstract Unix
// socket (unix(7)), whose names belong to the network namespace, as interfaces
// do; process ids would not tell processes of different containers apart.
#ifndef UDPGATE_FASTPATH_INTERNAL_INSTANCE_LOCK_H_
#define UDPGATE_FASTPATH_INTERNAL_INSTANCE_LOCK_H_

#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "udpgate/internal/unique_fd.h"

namespace udpgate {
namespace fastpath {
namespace internal {

// Processes with a fast path in one network namespace at most.
inline constexpr uint32_t kInstancesMax = 8;

class InstanceLock {
 public:
  InstanceLock() = default;

  // The smallest free number from 1 to kInstancesMax. ResourceExhausted where
  // all are taken.
  static absl::StatusOr<InstanceLock> Take();
  // True where no process has `number`.
  static bool IsFree(uint32_t number);

  // With what Copy has given, also in another process. InvalidArgument where
  // it is no such lock of this network namespace.
  static absl::StatusOr<InstanceLock> Adopt(udpgate::internal::UniqueFd socket);
  // Whoever has it holds the number as well. Closed where there is no
  // descriptor for it.
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
