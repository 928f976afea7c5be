// Replies to the commands of streams.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/redis/internal/frame_checker.h"
#include "udpgate/redis/internal/reply_reader.h"
#include "udpgate/redis/internal/stream_reply.h"

namespace udpgate {
namespace test {
namespace {

using redis::internal::FrameLimits;
using redis::internal::Reply;
using redis::internal::ReplyReader;
using redis::internal::StreamEntry;
using redis::internal::StreamId;

void RequireInOrder(const std::vector<StreamEntry>& entries) {
  const StreamEntry* last = nullptr;
  for (const StreamEntry& entry : entries) {
    Require(last == nullptr || last->id < entry.id,
            "each entry is newer than the one before");
    last = &entry;
    StreamId id;
    Require(id.Parse(entry.id.ToString()) && id == entry.id,
            "an id is read as it is written");
    for (size_t i = 0; i + 1 < entry.fields.size(); i += 2) {
      absl::string_view value;
      Require(entry.Find(entry.fields[i], &value), "a field is found");
    }
  }
}

void TryReply(const redisReply& reply) {
  std::vector<StreamEntry> read;
  if (redis::internal::ReadStreamReply(reply, &read)) RequireInOrder(read);
  std::vector<StreamEntry> range;
  if (redis::internal::ReadStreamEntries(reply, &range)) RequireInOrder(range);
  redis::internal::StreamInfo info;
  redis::internal::ReadStreamInfo(reply, &info);
  int64_t milliseconds = 0;
  if (redis::internal::ReadRedisTime(reply, &milliseconds)) {
    Require(milliseconds >= 0, "a time is not negative");
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  udpgate::test::FrameLimits limits;
  limits.elements_max = 64;
  limits.depth_max = 5;
  udpgate::test::ReplyReader reader(limits);
  reader.Feed(udpgate::test::AsText(data, size)).IgnoreError();
  for (;;) {
    const auto reply = reader.Next();
    if (!reply.ok() || *reply == nullptr) return 0;
    udpgate::test::TryReply(**reply);
  }
}
