// Who comes, who stays and who goes, told to the host program as it happens.
//
//   class EndCounter : public udpgate::SessionObserver {
//     void Observe(const udpgate::SessionEvent& event) override {
//       if (event.kind == udpgate::SessionEvent::Kind::kEnded) ++ends_;
//     }
//     std::atomic<int> ends_{0};
//   };
//   dependencies.session_observer = std::make_shared<EndCounter>();
#ifndef UDPGATE_SESSION_OBSERVER_H_
#define UDPGATE_SESSION_OBSERVER_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"

namespace udpgate {

// What happened to one session, and what was known of it at that moment.
struct SessionEvent {
  enum class Kind : uint8_t {
    kOpened,     // it has a backend
    kConfirmed,  // see SessionState
    kEnded,      // the last one of a session
  };

  Kind kind = Kind::kOpened;
  uint64_t session_id = 0;  // as SessionInfo::id
  // The state that it is in now, or was in at its end. A session that got no
  // backend ends pending, without having been opened.
  SessionState state = SessionState::kPending;
  EndReason end_reason = EndReason::kIdle;  // of kEnded
  SocketAddress client;
  SocketAddress local;    // the gate's address that the client sent to last
  SocketAddress backend;  // invalid where it got none
  SocketAddress relay;    // the gate's own end towards the backend, likewise
  absl::Duration age;     // since the client's first datagram
  // How long ago that was when the observer is called.
  absl::Duration delay;
  // Sent on, by the side they came from, those of a fast path included. At the
  // end, the totals.
  uint64_t client_datagrams_forwarded = 0;
  uint64_t client_bytes_forwarded = 0;
  uint64_t backend_datagrams_forwarded = 0;
  uint64_t backend_bytes_forwarded = 0;
};

// "opened", "confirmed" or "ended".
absl::string_view SessionEventKindName(SessionEvent::Kind kind);

// Threads: `Observe` is called on one thread, which no datagram, resolver or
// disconnect waits for, from `Proxy::Start` until `Proxy::Stop` returns. One
// that is slow loses events and nothing else: beyond
// `ProxyOptions::session_events_max` that wait they are dropped, and counted as
// `session_events_dropped`. It must return all the same, since Stop waits for
// the call under way; Stop also delivers what waits, the ends that it causes
// included, as far as half a second goes, and drops and counts the rest.
//
// Order: the events of a session come as they happened: opened, confirmed,
// ended; those of different sessions in any order. Where events were dropped
// any of them may be missing.
//
// Ownership: shared with the Proxy, which lets go when it is destroyed.
class SessionObserver {
 public:
  virtual ~SessionObserver() = default;
  virtual void Observe(const SessionEvent& event) = 0;
};

}  // namespace udpgate

#endif  // UDPGATE_SESSION_OBSERVER_H_
