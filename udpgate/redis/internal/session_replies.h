// Replies of Redis to the commands of a session store.
#ifndef UDPGATE_REDIS_INTERNAL_SESSION_REPLIES_H_
#define UDPGATE_REDIS_INTERNAL_SESSION_REPLIES_H_

#include <hiredis/hiredis.h>

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "udpgate/session_store.h"

namespace udpgate {
namespace redis {
namespace internal {

// Appends `count` outcomes. False if the reply is not a text of `count` letters
// of `allowed`, see session_scripts.h.
bool ReadOutcomes(const redisReply& reply, size_t count,
                  absl::string_view allowed,
                  std::vector<SessionStore::Outcome>* outcomes);

// The elements of an array of `count` texts of at most `kValueBytesMax` bytes.
// False if the reply is none. They are valid while the reply lives.
bool ReadTexts(const redisReply& reply, size_t count,
               std::vector<absl::string_view>* texts);

// The reply to SSCAN (https://redis.io/commands/sscan/).
struct SetPage {
  std::string cursor;  // "0": this is the last page
  std::vector<std::string> members;
};
// False if the reply is none. Members that are longer than
// `member_bytes_max` are left out.
bool ReadSetPage(const redisReply& reply, size_t member_bytes_max,
                 SetPage* page);

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_SESSION_REPLIES_H_
