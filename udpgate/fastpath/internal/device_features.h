// Features of an interface that change packets before the program sees them
// (ethtool(8)).
#ifndef UDPGATE_FASTPATH_INTERNAL_DEVICE_FEATURES_H_
#define UDPGATE_FASTPATH_INTERNAL_DEVICE_FEATURES_H_

#include <string>

#include "absl/status/status.h"

namespace udpgate {
namespace fastpath {
namespace internal {

// FailedPrecondition if the interface joins received datagrams into lists
// ("rx-gro-list" is on): the program rewrites the first datagram of a list, and
// not every kernel changes the others accordingly (none before 5.12; see
// __udp_gso_segment_list in net/ipv4/udp_offload.c). OK if the device does not
// have the feature.
absl::Status CheckDeviceFeatures(const std::string& interface_name);

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_INTERNAL_DEVICE_FEATURES_H_
