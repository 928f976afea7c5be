// When backends last replied to the sessions of a tag.
#ifndef UDPGATE_INTERNAL_SESSION_TAG_REPLIES_H_
#define UDPGATE_INTERNAL_SESSION_TAG_REPLIES_H_

#include <atomic>
#include <cstdint>

#include "udpgate/backend_resolver.h"
#include "udpgate/internal/session/session_record.h"

namespace udpgate {
namespace internal {

// A backend may ignore spare addresses of a player whom it replies to on
// another one: an ICE agent checks all of them. So the silence of one session
// says nothing while another session of the same tag has replies.
//
// Threads: any; each session's by the owner of its shard.
class TagReplies {
 public:
  // Notes the session's last reply at its tag. Called in each idle sweep, since
  // the time need not be exact and datagrams must not pay for it.
  static void Note(const SessionRecord& session) {
    if (session.tag == nullptr || !session.has_answered) return;
    // Of a session whose client has sent since, the last reply is older than
    // the first of these datagrams, which is what its own silence counts from.
    const int64_t replied_nanoseconds =
        session.unanswered_since_nanoseconds == 0
            ? session.last_active_nanoseconds
            : session.unanswered_since_nanoseconds;
    std::atomic<int64_t>& latest = session.tag->replied_nanoseconds_;
    int64_t before = latest.load(std::memory_order_relaxed);
    while (before < replied_nanoseconds &&
           !latest.compare_exchange_weak(before, replied_nanoseconds,
                                         std::memory_order_relaxed)) {
    }
  }

  // Whether a session of its tag has had a reply after `since_nanoseconds`. The
  // result may be as old as the last sweep.
  static bool HasReplyAfter(int64_t since_nanoseconds,
                            const SessionRecord& session) {
    return session.tag != nullptr &&
           session.tag->replied_nanoseconds_.load(std::memory_order_relaxed) >
               since_nanoseconds;
  }
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SESSION_TAG_REPLIES_H_
