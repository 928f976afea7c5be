// Observer for session lifecycle events.
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
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/base/export.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"

namespace udpgate {

// A lifecycle event of one session, and the session's data at that moment.
struct UDPGATE_EXPORT SessionEvent {
  enum class Kind : uint8_t {
    kOpened,     // it has a backend
    kConfirmed,  // see SessionState
    kEnded,      // the last one of a session
  };

  Kind kind = Kind::kOpened;
  uint64_t session_id = 0;  // as SessionInfo::id
  // The current state, or the state at the end. A session that got no backend
  // ends as kPending, without a kOpened event.
  SessionState state = SessionState::kPending;
  EndReason end_reason = EndReason::kIdle;  // of kEnded
  SocketAddress client;
  SocketAddress local;    // the gateway's address that the client sent to last
  SocketAddress backend;  // invalid if it got none
  SocketAddress relay;    // address of the upstream socket; invalid likewise
  std::string label;      // of ResolveResult; empty if it got no backend
  // May be null. Queued events keep it alive.
  std::shared_ptr<const SessionTag> tag;
  absl::Duration age;  // since the client's first datagram
  // From the event until the call of the observer.
  absl::Duration delay;
  // Forwarded so far, by the side they came from, including the fast path. The
  // totals in kEnded.
  uint64_t client_datagrams_forwarded = 0;
  uint64_t client_bytes_forwarded = 0;
  uint64_t backend_datagrams_forwarded = 0;
  uint64_t backend_bytes_forwarded = 0;
};

// "opened", "confirmed" or "ended".
UDPGATE_EXPORT absl::string_view SessionEventKindName(SessionEvent::Kind kind);

// Threads: `Observe` is called on one thread of its own, from `Proxy::Start`
// until `Proxy::Stop` returns. No datagram, resolver or disconnect waits for
// it. A slow observer loses only events: if the queue of
// `ProxyOptions::session_events_max` is full, events are dropped and counted as
// `session_events_dropped`. `Observe` must return, since Stop waits for the
// call in progress. Stop also delivers queued events, including the ends that
// it causes, for at most half a second; it drops and counts the rest.
//
// Order: the events of one session arrive in order: opened, confirmed, ended;
// those of different sessions in any order. If events were dropped, any of them
// may be missing.
//
// A session that another process or gateway had before (a takeover,
// `Proxy::Restore`) is no new one: it is not reported as opened or confirmed
// here, and its end is its first event. `Proxy::Restore` returns its id.
//
// Ownership: shared with the Proxy, which releases it when it is destroyed.
class UDPGATE_EXPORT SessionObserver {
 public:
  virtual ~SessionObserver() = default;
  virtual void Observe(const SessionEvent& event) = 0;
};

}  // namespace udpgate

#endif  // UDPGATE_SESSION_OBSERVER_H_
