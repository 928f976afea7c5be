#include "udpgate/redis/internal/slot_map.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/redis/internal/reply_reader.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

// A replica set is much smaller.
constexpr size_t kNodesOfRangeMax = 64;

absl::Status Malformed(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("the slot map ", what));
}

std::string HostOf(const std::string& host_port) {
  const absl::StatusOr<HostPort> parsed = HostPort::Parse(host_port);
  return parsed.ok() ? parsed->host : "";
}

// `host:port`, or empty if that is no usable address.
std::string JoinAddress(absl::string_view host, int64_t port) {
  if (port < 1 || port > 65535) return "";
  HostPort joined;
  joined.host = std::string(host);
  joined.port = static_cast<uint16_t>(port);
  const absl::StatusOr<HostPort> parsed = HostPort::Parse(joined.ToString());
  return parsed.ok() ? parsed->ToString() : "";
}

// Of a node: its preferred endpoint, its port, its id, and more since Redis 7.
// No endpoint: that of the node that replies. "?": a name that is not known.
bool ReadNode(const redisReply& node, const std::string& replier,
              std::string* host_port) {
  if (node.type != REDIS_REPLY_ARRAY || node.elements < 2 ||
      node.element[1]->type != REDIS_REPLY_INTEGER) {
    return false;
  }
  const redisReply& endpoint = *node.element[0];
  if (endpoint.type != REDIS_REPLY_STRING && endpoint.type != REDIS_REPLY_NIL) {
    return false;
  }
  const absl::string_view host = ReplyText(endpoint);
  *host_port = JoinAddress(host.empty() ? HostOf(replier) : std::string(host),
                           node.element[1]->integer);
  return true;
}

bool IsSlot(const redisReply& reply) {
  return reply.type == REDIS_REPLY_INTEGER && reply.integer >= 0 &&
         reply.integer < kHashSlots;
}

}  // namespace

bool IsRedirect(absl::string_view error) {
  return absl::StartsWith(error, "MOVED ") || absl::StartsWith(error, "ASK ");
}

bool Redirect::Parse(absl::string_view error, const std::string& replier) {
  const std::vector<absl::string_view> words = absl::StrSplit(error, ' ');
  if (words.size() != 3 || !IsRedirect(error)) return false;
  int number;
  if (!absl::SimpleAtoi(words[1], &number) || number < 0 ||
      number >= kHashSlots) {
    return false;
  }
  // An IPv6 address stands without brackets there.
  const size_t colon = words[2].rfind(':');
  int port_number;
  if (colon == absl::string_view::npos ||
      !absl::SimpleAtoi(words[2].substr(colon + 1), &port_number)) {
    return false;
  }
  const absl::string_view host = words[2].substr(0, colon);
  std::string address = JoinAddress(
      host.empty() ? HostOf(replier) : std::string(host), port_number);
  if (address.empty()) return false;
  kind = words[0] == "MOVED" ? Kind::kMoved : Kind::kAsk;
  slot = number;
  host_port = std::move(address);
  return true;
}

FrameLimits SlotMap::ReplyLimits() {
  FrameLimits limits;
  // Ranges, a range, a node, the metadata of the node.
  limits.depth_max = 4;
  limits.elements_max = kHashSlots;
  // Each slot a range of its own, with two nodes.
  limits.frame_bytes_max = 4 * 1024 * 1024;
  return limits;
}

absl::StatusOr<SlotMap> SlotMap::Read(const redisReply& reply,
                                      const std::string& replier,
                                      std::string* problem) {
  if (reply.type != REDIS_REPLY_ARRAY) return Malformed("is not an array");
  SlotMap map;
  std::vector<bool> seen(kHashSlots, false);
  for (size_t i = 0; i < reply.elements; ++i) {
    absl::Status status =
        map.ReadRange(*reply.element[i], replier, &seen, problem);
    if (!status.ok()) return status;
  }
  return map;
}

absl::Status SlotMap::ReadRange(const redisReply& range,
                                const std::string& replier,
                                std::vector<bool>* seen, std::string* problem) {
  if (range.type != REDIS_REPLY_ARRAY || range.elements < 3 ||
      range.elements > kNodesOfRangeMax || !IsSlot(*range.element[0]) ||
      !IsSlot(*range.element[1]) ||
      range.element[0]->integer > range.element[1]->integer) {
    return Malformed("has an entry that is not a range of slots");
  }
  uint16_t master = kNoNode;
  for (size_t i = 2; i < range.elements; ++i) {
    std::string host_port;
    if (!ReadNode(*range.element[i], replier, &host_port)) {
      return Malformed("has a node without a host and a port");
    }
    if (host_port.empty()) {
      *problem = "a node announces no usable address";
      continue;
    }
    const uint16_t index = IndexOf(host_port);
    if (index == kNoNode) {
      return Malformed(absl::StrCat("has more than ", kNodesMax, " nodes"));
    }
    if (i == 2) master = index;
  }
  for (int64_t slot = range.element[0]->integer;
       slot <= range.element[1]->integer; ++slot) {
    const auto index = static_cast<size_t>(slot);
    if ((*seen)[index]) {
      return Malformed(absl::StrCat("names slot ", slot, " twice"));
    }
    (*seen)[index] = true;
    owners_[index] = master;
  }
  return absl::OkStatus();
}

uint16_t SlotMap::IndexOf(const std::string& host_port) {
  const auto found = indices_.find(host_port);
  if (found != indices_.end()) return found->second;
  if (nodes_.size() == kNodesMax) return kNoNode;
  const auto index = static_cast<uint16_t>(nodes_.size());
  nodes_.push_back(host_port);
  indices_.emplace(host_port, index);
  return index;
}

const std::string& SlotMap::OwnerOf(int slot) const {
  static const std::string* const none = new std::string();
  const uint16_t index = owners_[static_cast<size_t>(slot)];
  return index == kNoNode ? *none : nodes_[index];
}

bool SlotMap::SetOwner(int slot, const std::string& host_port) {
  const uint16_t index = IndexOf(host_port);
  if (index == kNoNode) return false;
  owners_[static_cast<size_t>(slot)] = index;
  return true;
}

size_t SlotMap::CountMasters() const {
  std::vector<bool> is_master(nodes_.size(), false);
  for (const uint16_t owner : owners_) {
    if (owner != kNoNode) is_master[owner] = true;
  }
  return static_cast<size_t>(
      std::count(is_master.begin(), is_master.end(), true));
}

int SlotMap::CountCovered() const {
  return static_cast<int>(kHashSlots -
                          std::count(owners_.begin(), owners_.end(), kNoNode));
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
