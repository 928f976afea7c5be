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
#include "udpgate/internal/unique_fd.h"

namespace udpgate {
namespace fastpath {
namespace internal {
namespace {

constexpr char kFeature[] = "rx-gro-list";

// One question of ethtool. `data` begins with the number of the command.
bool AskDevice(int socket, const std::string& name, void* data) {
  ifreq request;
  std::memset(&request, 0, sizeof(request));
  std::strncpy(request.ifr_name, name.c_str(), IFNAMSIZ - 1);
  request.ifr_data = static_cast<char*>(data);
  return ::ioctl(socket, SIOCETHTOOL, &request) == 0;
}

// How many features the kernel has names for; 0 where it does not say.
uint32_t CountFeatures(int socket, const std::string& name) {
  alignas(ethtool_sset_info) char buffer[sizeof(ethtool_sset_info) + 4] = {};
  auto* const question = reinterpret_cast<ethtool_sset_info*>(buffer);
  question->cmd = ETHTOOL_GSSET_INFO;
  question->sset_mask = 1ULL << ETH_SS_FEATURES;
  if (!AskDevice(socket, name, buffer) || question->sset_mask == 0) return 0;
  uint32_t count = 0;
  std::memcpy(&count, buffer + sizeof(ethtool_sset_info), sizeof(count));
  return count;
}

// The place of kFeature among them, or `count`.
uint32_t FindFeature(int socket, const std::string& name, uint32_t count) {
  std::vector<uint32_t> buffer(
      (sizeof(ethtool_gstrings) + count * ETH_GSTRING_LEN) / 4 + 1);
  auto* const question = reinterpret_cast<ethtool_gstrings*>(buffer.data());
  question->cmd = ETHTOOL_GSTRINGS;
  question->string_set = ETH_SS_FEATURES;
  question->len = count;
  if (!AskDevice(socket, name, buffer.data())) return count;
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
  auto* const question = reinterpret_cast<ethtool_gfeatures*>(buffer.data());
  question->cmd = ETHTOOL_GFEATURES;
  question->size = blocks;
  if (!AskDevice(socket, name, buffer.data())) return false;
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
