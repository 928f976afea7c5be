// Sends sessions, and the rest of a gateway's state, to the new process.
#ifndef UDPGATE_TAKEOVER_INTERNAL_GATE_SENDER_H_
#define UDPGATE_TAKEOVER_INTERNAL_GATE_SENDER_H_

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "udpgate/internal/session/handover.h"
#include "udpgate/takeover/internal/channel.h"
#include "udpgate/takeover/internal/known_sessions.h"

namespace udpgate {
namespace takeover {
namespace internal {

// Sends sessions in as few messages as they need, each with what the new
// process needs of it according to `known`. Errors: those of Channel::Send.
absl::Status SendSessions(
    absl::Span<const udpgate::internal::HandedSession> sessions,
    KnownSessions* known, Channel* channel);
// Sends everything; the message `state` is the last, so that the new process
// knows that it has it all. Errors: those of Channel::Send.
absl::Status SendGate(const udpgate::internal::HandedGate& gate,
                      KnownSessions* known, Channel* channel);

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate

#endif  // UDPGATE_TAKEOVER_INTERNAL_GATE_SENDER_H_
