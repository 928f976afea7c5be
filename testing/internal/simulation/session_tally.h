// Checks what an observer is told of sessions.
#ifndef UDPGATE_TESTING_INTERNAL_SIMULATION_SESSION_TALLY_H_
#define UDPGATE_TESTING_INTERNAL_SIMULATION_SESSION_TALLY_H_

#include <array>
#include <cstdint>
#include <set>
#include <string>

#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"
#include "udpgate/session_observer.h"

namespace udpgate {
namespace internal {
namespace simulation {

// Adds up what an observer is told, and checks its order.
class SessionTally : public SessionObserver {
 public:
  void Observe(const SessionEvent& event) override {
    const bool is_opened = opened_ids_.count(event.session_id) > 0;
    const bool is_confirmed = confirmed_ids_.count(event.session_id) > 0;
    if (ended_ids_.count(event.session_id) > 0) {
      broken = "an event comes after the end of its session";
    }
    switch (event.kind) {
      case SessionEvent::Kind::kOpened:
        if (is_opened) broken = "a session opens twice";
        opened_ids_.insert(event.session_id);
        ++opened_live;
        break;
      case SessionEvent::Kind::kConfirmed:
        if (!is_opened || is_confirmed)
          broken = "confirmed before it opens, or twice";
        confirmed_ids_.insert(event.session_id);
        ++confirmed_live;
        break;
      case SessionEvent::Kind::kEnded:
        if (is_opened != (event.state != SessionState::kPending) ||
            is_confirmed != (event.state == SessionState::kConfirmed)) {
          broken = "an end in another state than was reported";
        }
        ended_ids_.insert(event.session_id);
        if (is_opened) --opened_live;
        if (is_confirmed) --confirmed_live;
        ++ended[static_cast<size_t>(event.end_reason)];
        client_datagrams += event.client_datagrams_forwarded;
        client_bytes += event.client_bytes_forwarded;
        backend_datagrams += event.backend_datagrams_forwarded;
        backend_bytes += event.backend_bytes_forwarded;
        break;
    }
  }

  // A session of another gateway, which is not reported as opened.
  void NoteRestored(uint64_t id) {
    if (opened_ids_.count(id) > 0) broken = "a restored session opens";
    opened_ids_.insert(id);
    confirmed_ids_.insert(id);
    ++opened_live;
    ++confirmed_live;
  }

  std::string broken;  // the last broken rule; empty if there is none
  uint64_t opened_live = 0;
  uint64_t confirmed_live = 0;
  std::array<uint64_t, kEndReasonCount> ended{};
  // Of the sessions that ended.
  uint64_t client_datagrams = 0;
  uint64_t client_bytes = 0;
  uint64_t backend_datagrams = 0;
  uint64_t backend_bytes = 0;

 private:
  std::set<uint64_t> opened_ids_;
  std::set<uint64_t> confirmed_ids_;
  std::set<uint64_t> ended_ids_;
};

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SIMULATION_SESSION_TALLY_H_
