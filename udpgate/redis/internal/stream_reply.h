// Replies of Redis to the commands of streams.
#ifndef UDPGATE_REDIS_INTERNAL_STREAM_REPLY_H_
#define UDPGATE_REDIS_INTERNAL_STREAM_REPLY_H_

#include <hiredis/hiredis.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/string_view.h"

namespace udpgate {
namespace redis {
namespace internal {

// The id of an entry (https://redis.io/docs/data-types/streams/#entry-ids).
struct StreamId {
  // Of the Unix time, if Redis chose the id (`XADD key *`).
  uint64_t milliseconds = 0;
  uint64_t sequence = 0;

  // `milliseconds-sequence`. False for other text; then it is not changed.
  bool Parse(absl::string_view text);
  std::string ToString() const;

  friend bool operator<(const StreamId& a, const StreamId& b) {
    return std::tie(a.milliseconds, a.sequence) <
           std::tie(b.milliseconds, b.sequence);
  }
  friend bool operator==(const StreamId& a, const StreamId& b) {
    return a.milliseconds == b.milliseconds && a.sequence == b.sequence;
  }
};

// Valid while the reply lives.
struct StreamEntry {
  StreamId id;
  std::vector<absl::string_view> fields;  // name, value, name, value...

  // The value of the first field of this name; false if there is none.
  bool Find(absl::string_view name, absl::string_view* value) const;
};

// The text of a bulk string, empty for anything else and for null.
absl::string_view TextOf(const redisReply* reply);

// The reply to TIME (https://redis.io/commands/time/), as milliseconds of the
// Unix time. False if it is none.
bool ReadRedisTime(const redisReply& reply, int64_t* milliseconds);

// The reply to XRANGE (https://redis.io/commands/xrange/), in order. False if
// it is none.
bool ReadStreamEntries(const redisReply& reply,
                       std::vector<StreamEntry>* entries);

// What XINFO tells of how many entries there are, and have been.
struct StreamInfo {
  uint64_t length = 0;
  uint64_t entries_added = 0;
};

// The reply to XINFO STREAM (https://redis.io/commands/xinfo-stream/). False if
// it is none, or is that of a Redis before 7, which does not count.
bool ReadStreamInfo(const redisReply& reply, StreamInfo* info);

// The reply to XREAD of one stream (https://redis.io/commands/xread/): no
// entries if the time was over. False if it is none.
bool ReadStreamReply(const redisReply& reply,
                     std::vector<StreamEntry>* entries);

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_STREAM_REPLY_H_
