#include "udpgate/fastpath/internal/device_features.h"

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

constexpr char kFeature[] = "rx-gro-list";

// One ethtool request. `data` begins with the number of the command.
bool QueryDevice(int socket, const std::string& name, void* data) {
  ifreq request;
  std::memset(&request, 0, sizeof(request));
  std::strncpy(request.ifr_name, name.c_str(), IFNAMSIZ - 1);
  request.ifr_data = static_cast<char*>(data);
  return ::ioctl(socket, SIOCETHTOOL, &request) == 0;
}

// Number of features that the kernel has names for; 0 if it is not known.
uint32_t CountFeatures(int socket, const std::string& name) {
  alignas(ethtool_sset_info) char buffer[sizeof(ethtool_sset_info) + 4] = {};
  auto* const request = reinterpret_cast<ethtool_sset_info*>(buffer);
  request->cmd = ETHTOOL_GSSET_INFO;
  request->sset_mask = 1ULL << ETH_SS_FEATURES;
  if (!QueryDevice(socket, name, buffer) || request->sset_mask == 0) return 0;
  uint32_t count = 0;
  std::memcpy(&count, buffer + sizeof(ethtool_sset_info), sizeof(count));
  return count;
}

// The index of kFeature, or `count` if it does not exist.
uint32_t FindFeature(int socket, const std::string& name, uint32_t count) {
  std::vector<uint32_t> buffer(
      (sizeof(ethtool_gstrings) + count * ETH_GSTRING_LEN) / 4 + 1);
  auto* const request = reinterpret_cast<ethtool_gstrings*>(buffer.data());
  request->cmd = ETHTOOL_GSTRINGS;
  request->string_set = ETH_SS_FEATURES;
  request->len = count;
  if (!QueryDevice(socket, name, buffer.data())) return count;
  const char* const names =
      reinterpret_cast<const char*>(buffer.data()) + sizeof(ethtool_gstrings);
  for (uint32_t i = 0; i < count; ++i) {
    if (std::strncmp(names + i * ETH_GSTRING_LEN, kFeature, ETH_GSTRING_LEN) ==
        0) {
      return i;
    }
  }
  return count;
}

bool IsActive(int socket, const std::string& name, uint32_t count,
              uint32_t feature) {
  const uint32_t blocks = (count + 31) / 32;
  std::vector<uint32_t> buffer((sizeof(ethtool_gfeatures) +
                                blocks * sizeof(ethtool_get_features_block)) /
                               4);
  auto* const request = reinterpret_cast<ethtool_gfeatures*>(buffer.data());
  request->cmd = ETHTOOL_GFEATURES;
  request->size = blocks;
  if (!QueryDevice(socket, name, buffer.data())) return false;
  ethtool_get_features_block block;
  std::memcpy(&block,
              reinterpret_cast<const char*>(buffer.data()) +
                  sizeof(ethtool_gfeatures) + feature / 32 * sizeof(block),
              sizeof(block));
  return (block.active >> feature % 32 & 1) != 0;
}

}  // namespace

absl::Status CheckDeviceFeatures(const std::string& interface_name) {
  const udpgate::internal::UniqueFd socket(
      ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const uint32_t count = CountFeatures(socket.get(), interface_name);
  if (count == 0) return absl::OkStatus();
  const uint32_t feature = FindFeature(socket.get(), interface_name, count);
  if (feature == count ||
      !IsActive(socket.get(), interface_name, count, feature)) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      absl::StrCat(kFeature, " is on, turn it off with: ethtool -K ",
                   interface_name, " ", kFeature, " off"));
}

}  // namespace internal
}  // namespace fastpath
}  // namespace udpgate
