#include "udpgate/redis/internal/stream_reply.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "udpgate/redis/internal/reply_reader.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

// SimpleAtoi alone would accept a sign and white space.
bool ReadNumber(absl::string_view text, uint64_t* number) {
  return !text.empty() && absl::ascii_isdigit(text.front()) &&
         absl::ascii_isdigit(text.back()) && absl::SimpleAtoi(text, number);
}

// What is no list of fields is an entry without any, which is skipped.
bool ReadEntry(const redisReply& reply, StreamEntry* entry) {
  if (reply.type != REDIS_REPLY_ARRAY || reply.elements != 2 ||
      !entry->id.Parse(TextOf(reply.element[0]))) {
    return false;
  }
  const redisReply& fields = *reply.element[1];
  if (fields.type != REDIS_REPLY_ARRAY) return true;
  entry->fields.reserve(fields.elements);
  for (size_t i = 0; i < fields.elements; ++i) {
    entry->fields.push_back(TextOf(fields.element[i]));
  }
  return true;
}

}  // namespace

bool StreamId::Parse(absl::string_view text) {
  const size_t dash = text.find('-');
  StreamId id;
  if (dash == absl::string_view::npos ||
      !ReadNumber(text.substr(0, dash), &id.milliseconds) ||
      !ReadNumber(text.substr(dash + 1), &id.sequence)) {
    return false;
  }
  *this = id;
  return true;
}

std::string StreamId::ToString() const {
  return absl::StrCat(milliseconds, "-", sequence);
}

bool StreamEntry::Find(absl::string_view name, absl::string_view* value) const {
  for (size_t i = 0; i + 1 < fields.size(); i += 2) {
    if (fields[i] != name) continue;
    *value = fields[i + 1];
    return true;
  }
  return false;
}

absl::string_view TextOf(const redisReply* reply) {
  return reply != nullptr && reply->type == REDIS_REPLY_STRING
             ? ReplyText(*reply)
             : absl::string_view();
}

bool ReadRedisTime(const redisReply& reply, int64_t* milliseconds) {
  int64_t seconds;
  int64_t microseconds;
  if (reply.type != REDIS_REPLY_ARRAY || reply.elements != 2 ||
      !absl::SimpleAtoi(TextOf(reply.element[0]), &seconds) ||
      !absl::SimpleAtoi(TextOf(reply.element[1]), &microseconds) ||
      seconds < 0 || seconds > INT64_MAX / 2000 || microseconds < 0 ||
      microseconds > 999'999) {
    return false;
  }
  *milliseconds = seconds * 1000 + microseconds / 1000;
  return true;
}

bool ReadStreamEntries(const redisReply& reply,
                       std::vector<StreamEntry>* entries) {
  if (reply.type != REDIS_REPLY_ARRAY) return false;
  for (size_t i = 0; i < reply.elements; ++i) {
    StreamEntry entry;
    if (!ReadEntry(*reply.element[i], &entry)) return false;
    // Without a new id the same would be read for ever.
    if (!entries->empty() && !(entries->back().id < entry.id)) return false;
    entries->push_back(std::move(entry));
  }
  return true;
}

bool ReadStreamInfo(const redisReply& reply, StreamInfo* info) {
  if (reply.type != REDIS_REPLY_ARRAY) return false;
  bool has_length = false;
  bool has_added = false;
  const auto read = [&](size_t i, absl::string_view name, uint64_t* number) {
    const redisReply& value = *reply.element[i + 1];
    if (TextOf(reply.element[i]) != name || value.type != REDIS_REPLY_INTEGER ||
        value.integer < 0) {
      return false;
    }
    *number = static_cast<uint64_t>(value.integer);
    return true;
  };
  for (size_t i = 0; i + 1 < reply.elements; i += 2) {
    has_length = read(i, "length", &info->length) || has_length;
    has_added = read(i, "entries-added", &info->entries_added) || has_added;
  }
  return has_length && has_added;
}

bool ReadStreamReply(const redisReply& reply,
                     std::vector<StreamEntry>* entries) {
  if (reply.type == REDIS_REPLY_NIL) return true;
  if (reply.type != REDIS_REPLY_ARRAY || reply.elements != 1) return false;
  const redisReply& stream = *reply.element[0];
  if (stream.type != REDIS_REPLY_ARRAY || stream.elements != 2) return false;
  return stream.element[1]->elements > 0 &&
         ReadStreamEntries(*stream.element[1], entries);
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
