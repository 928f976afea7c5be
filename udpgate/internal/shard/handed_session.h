// A session as one process hands it to another.
#ifndef UDPGATE_INTERNAL_SHARD_HANDED_SESSION_H_
#define UDPGATE_INTERNAL_SHARD_HANDED_SESSION_H_

#include "udpgate/internal/handover.h"
#include "udpgate/internal/session_table.h"

namespace udpgate {
namespace internal {

// Without its socket, its flow and the datagrams that it holds.
HandedSession ToHanded(const Session& session);

// The reverse, without id, client, state and proof_count.
void FromHanded(const HandedSession& handed, Session* session);

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_HANDED_SESSION_H_
