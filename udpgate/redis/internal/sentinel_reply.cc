#include "udpgate/redis/internal/sentinel_reply.h"

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/redis/internal/reply_reader.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

// `host:port`, or empty if that is no valid address.
std::string Join(absl::string_view host, absl::string_view port) {
  HostPort host_port;
  int number;
  if (!absl::SimpleAtoi(port, &number) || number < 1 || number > 65535) {
    return "";
  }
  host_port.host = std::string(host);
  host_port.port = static_cast<uint16_t>(number);
  const absl::StatusOr<HostPort> parsed = HostPort::Parse(host_port.ToString());
  return parsed.ok() ? parsed->ToString() : "";
}

}  // namespace

std::string ReadMasterAddress(const redisReply& reply) {
  if (reply.type != REDIS_REPLY_ARRAY || reply.elements != 2) return "";
  return Join(ReplyText(*reply.element[0]), ReplyText(*reply.element[1]));
}

std::string ReadSwitchMaster(absl::string_view payload,
                             absl::string_view master) {
  const std::vector<absl::string_view> words = absl::StrSplit(payload, ' ');
  if (words.size() != 5 || words[0] != master) return "";
  return Join(words[3], words[4]);
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
