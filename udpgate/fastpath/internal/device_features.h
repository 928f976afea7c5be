// What an interface does to packets before the program sees them (ethtool(8)).
#ifndef UDPGATE_FASTPATH_INTERNAL_DEVICE_FEATURES_H_
#define UDPGATE_FASTPATH_INTERNAL_DEVICE_FEATURES_H_

#include <string>

#include "absl/status/status.h"

namespace udpgate {
namespace fastpath {
namespace internal {

// FailedPrecondition where the interface joins received datagrams into a list
// ("rx-gro-list" is on): the program would rewrite the first of them, and not
// every kernel does the same for the rest (before 5.12 none does; see
// __udp_gso_segment_list in net/ipv4/udp_offload.c). OK also for a device that
// does not know the feature.
absl::Status CheckDeviceFeatures(const std::string& interface_name);

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_INTERNAL_DEVICE_FEATURES_H_
