// What the old process remembers of the sessions that it has already sent.
#ifndef UDPGATE_TAKEOVER_INTERNAL_KNOWN_SESSIONS_H_
#define UDPGATE_TAKEOVER_INTERNAL_KNOWN_SESSIONS_H_

#include <cstddef>
#include <vector>

#include "udpgate/internal/session/handover.h"
#include "udpgate/socket_address.h"
#include "udpgate/takeover/internal/index_by_id.h"

namespace udpgate {
namespace takeover {
namespace internal {

// The sessions that the new process received before the pause: of each its id,
// its socket's address, and the one field that changes and is not a number.
// Threads: one.
class KnownSessions {
 public:
  // What the new process needs of a session.
  enum class Need {
    kAll,      // all fields and the socket: it has none of this session
    kChanges,  // the fields that can change, by name
    kRow,      // the same as a row of numbers
  };

  // Whether the new process reads rows. An older version does not.
  void set_reads_rows(bool reads_rows) { reads_rows_ = reads_rows; }
  bool reads_rows() const { return reads_rows_; }
  void Add(const udpgate::internal::HandedSession& session) {
    if (index_.Add(session.id))
      known_.push_back({session.local, session.relay});
  }
  Need NeedOf(const udpgate::internal::HandedSession& session) {
    const size_t index = index_.Find(session.id);
    if (index == IndexById::kNone || known_[index].relay != session.relay) {
      return Need::kAll;
    }
    return reads_rows_ && known_[index].local == session.local ? Need::kRow
                                                               : Need::kChanges;
  }

 private:
  struct Known {
    SocketAddress local;
    SocketAddress relay;
  };
  IndexById index_;
  std::vector<Known> known_;
  bool reads_rows_ = false;
};

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate

#endif  // UDPGATE_TAKEOVER_INTERNAL_KNOWN_SESSIONS_H_
