// Replies to CLUSTER SLOTS, and redirects.
#include <hiredis/hiredis.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/redis/internal/hash_slot.h"
#include "udpgate/redis/internal/reply_reader.h"
#include "udpgate/redis/internal/slot_map.h"

namespace udpgate {
namespace test {
namespace {

using redis::internal::HashSlotOf;
using redis::internal::kHashSlots;
using redis::internal::Redirect;
using redis::internal::ReplyText;
using redis::internal::SlotMap;

constexpr char kReplier[] = "10.0.0.9:6379";

void RequireAddress(const std::string& host_port) {
  const absl::StatusOr<HostPort> parsed = HostPort::Parse(host_port);
  Require(parsed.ok() && parsed->ToString() == host_port,
          "a node has an address that can be looked up");
}

void TryMap(const redisReply& reply) {
  std::string problem;
  const absl::StatusOr<SlotMap> map = SlotMap::Read(reply, kReplier, &problem);
  if (!map.ok()) {
    RequireOneShortLine(map.status());
    return;
  }
  Require(map->nodes().size() <= SlotMap::kNodesMax, "the nodes are bounded");
  for (const std::string& node : map->nodes()) RequireAddress(node);
  int covered = 0;
  for (int slot = 0; slot < kHashSlots; ++slot) {
    const std::string& owner = map->OwnerOf(slot);
    if (owner.empty()) continue;
    ++covered;
    Require(map->HasNode(owner), "an owner is a node");
  }
  Require(covered == map->CountCovered(), "covered slots have an owner");
  Require(map->CountMasters() <= map->nodes().size(), "masters are nodes");
}

void TryRedirect(absl::string_view text) {
  Redirect redirect;
  if (!redirect.Parse(text, kReplier)) return;
  Require(redirect.slot >= 0 && redirect.slot < kHashSlots, "a slot exists");
  Require(redis::internal::IsRedirect(text), "a redirect is one");
  RequireAddress(redirect.host_port);
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using udpgate::test::Require;
  const absl::string_view text = udpgate::test::AsText(data, size);
  udpgate::test::TryRedirect(text);
  const int slot = udpgate::test::HashSlotOf(text);
  Require(slot >= 0 && slot < udpgate::test::kHashSlots, "a slot exists");
  udpgate::redis::internal::ReplyReader reader(
      udpgate::test::SlotMap::ReplyLimits());
  reader.Feed(text).IgnoreError();
  for (;;) {
    const auto reply = reader.Next();
    if (!reply.ok() || *reply == nullptr) return 0;
    udpgate::test::TryMap(**reply);
    udpgate::test::TryRedirect(udpgate::test::ReplyText(**reply));
  }
}
