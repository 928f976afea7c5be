#include "udpgate/redis/internal/session_replies.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "udpgate/redis/internal/reply_reader.h"
#include "udpgate/redis/internal/session_scripts.h"
#include "udpgate/redis/internal/stream_reply.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

constexpr size_t kCursorDigitsMax = 20;  // of 64 bits

bool IsCursor(absl::string_view text) {
  return !text.empty() && text.size() <= kCursorDigitsMax &&
         std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
}

SessionStore::Outcome OutcomeOf(char letter) {
  switch (letter) {
    case kOutcomeDone:
      return SessionStore::Outcome::kDone;
    case kOutcomeOtherOwner:
      return SessionStore::Outcome::kOtherOwner;
    case kOutcomeOwnerLives:
      return SessionStore::Outcome::kOwnerLives;
    default:
      return SessionStore::Outcome::kAbsent;
  }
}

}  // namespace

bool ReadOutcomes(const redisReply& reply, size_t count,
                  absl::string_view allowed,
                  std::vector<SessionStore::Outcome>* outcomes) {
  const absl::string_view letters = TextOf(&reply);
  if (letters.size() != count ||
      letters.find_first_not_of(allowed) != absl::string_view::npos) {
    return false;
  }
  for (const char letter : letters) outcomes->push_back(OutcomeOf(letter));
  return true;
}

bool ReadTexts(const redisReply& reply, size_t count,
               std::vector<absl::string_view>* texts) {
  if (reply.type != REDIS_REPLY_ARRAY || reply.elements != count) return false;
  texts->clear();
  texts->reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const redisReply& element = *reply.element[i];
    if (element.type != REDIS_REPLY_STRING || element.len > kValueBytesMax) {
      return false;
    }
    texts->push_back(ReplyText(element));
  }
  return true;
}

bool ReadSetPage(const redisReply& reply, size_t member_bytes_max,
                 SetPage* page) {
  if (reply.type != REDIS_REPLY_ARRAY || reply.elements != 2 ||
      !IsCursor(TextOf(reply.element[0]))) {
    return false;
  }
  const redisReply& members = *reply.element[1];
  if (members.type != REDIS_REPLY_ARRAY) return false;
  page->cursor = std::string(TextOf(reply.element[0]));
  page->members.clear();
  page->members.reserve(members.elements);
  for (size_t i = 0; i < members.elements; ++i) {
    if (members.element[i]->type != REDIS_REPLY_STRING) return false;
    const absl::string_view member = ReplyText(*members.element[i]);
    if (member.size() <= member_bytes_max) page->members.emplace_back(member);
  }
  return true;
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
