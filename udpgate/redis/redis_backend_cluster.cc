// What becomes of requests whose keys belong to several nodes.
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "udpgate/redis/internal/cluster_reader.h"
#include "udpgate/redis/redis_backend_resolver_impl.h"

namespace udpgate {

using redis::internal::KeyResult;
using redis::internal::ReplyText;

KeyResult RedisBackendResolver::Impl::ResultOf(const redisReply& reply) const {
  KeyResult result;
  result.reply_type = reply.type;
  result.text = std::string(ReplyText(reply));
  if (reply.type == REDIS_REPLY_ERROR) {
    result.status = connection_.ErrorToStatus(reply);
  }
  return result;
}

void RedisBackendResolver::Impl::OnKeyResult(uint64_t id, size_t key_index,
                                             KeyResult result) {
  const auto flight = in_flight_.find(id);
  if (flight == in_flight_.end()) return;
  flight->second.early.emplace(key_index, std::move(result));
  Advance(flight);
}

void RedisBackendResolver::Impl::Advance(Flights::iterator flight) {
  const uint64_t id = flight->first;
  const SharedKeySet keys = flight->second.keys;
  for (;;) {
    const auto next = flight->second.early.find(flight->second.replies);
    if (next == flight->second.early.end()) break;
    const KeyResult result = std::move(next->second);
    flight->second.early.erase(next);
    TakeResult(result, &flight->second);
    // The end of the connection has ended it.
    flight = in_flight_.find(id);
    if (flight == in_flight_.end()) return;
  }
  if (flight->second.replies == keys->keys.size()) in_flight_.erase(flight);
}

void RedisBackendResolver::Impl::TakeResult(const KeyResult& result,
                                            Flight* flight) {
  if (result.is_reply && result.reply_type != REDIS_REPLY_ERROR) {
    redisReply reply{};
    reply.type = result.reply_type;
    reply.str = const_cast<char*>(result.text.data());
    reply.len = result.text.size();
    OnKeyReply(reply, flight);
    return;
  }
  const std::string& key = flight->keys->keys[flight->replies++];
  if (flight->is_decided) return;
  const absl::Status why(
      result.status.code(),
      absl::StrCat(DescribeKeys({key}), ": ", result.status.message()));
  if (absl::StartsWith(result.text, "WRONGTYPE")) {
    OnNoBackend(absl::InvalidArgumentError(why.message()), flight);
  } else if (absl::IsInvalidArgument(why)) {
    OnNoBackend(why, flight);
  } else {
    OnError(why, flight);
  }
}

}  // namespace udpgate
