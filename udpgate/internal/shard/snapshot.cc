#include "udpgate/internal/shard/snapshot.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "udpgate/internal/session/handover.h"
#include "udpgate/session_info.h"

namespace udpgate {
namespace internal {
namespace {

// Slots that one ListSessions message looks at.
constexpr uint32_t kSlotsPerList = 256;

// Slots that one CopySockets message looks at: a copy costs about what a
// datagram does.
constexpr uint32_t kSlotsPerCopy = 64;

}  // namespace

void Snapshot::ListSessions(ShardMessage* message) {
  const uint32_t end_slot = std::min(message->session.slot + kSlotsPerList,
                                     shard_->sessions.slot_count());
  std::vector<SessionInfo> infos;
  for (uint32_t slot = message->session.slot; slot < end_slot; ++slot) {
    Session* session = shard_->sessions.FindSlot(slot);
    if (session == nullptr) continue;
    shard_->offload.Update(session);
    SessionInfo info;
    info.id = session->id;
    info.state = session->state;
    info.client = session->client;
    const SocketAddress& listen =
        shard_->gate->listeners[session->listener].address;
    info.local =
        listen.is_any() ? session->local.WithPort(listen.port()) : listen;
    info.backend = session->backend;
    info.relay = session->relay;
    info.label = session->label;
    if (session->tag != nullptr) {
      info.tag = session->tag->text();
      info.tag_key = session->tag->key();
    }
    info.age = absl::Nanoseconds(shard_->now_nanoseconds -
                                 session->created_nanoseconds);
    info.idle = absl::Nanoseconds(shard_->now_nanoseconds -
                                  session->last_active_nanoseconds);
    info.client_datagrams_forwarded = session->client_datagrams_forwarded;
    info.client_bytes_forwarded = session->client_bytes_forwarded;
    info.backend_datagrams_forwarded = session->backend_datagrams_forwarded;
    info.backend_bytes_forwarded = session->backend_bytes_forwarded;
    infos.push_back(std::move(info));
  }
  message->list_done(std::move(infos),
                     end_slot < shard_->sessions.slot_count() ? end_slot : 0);
}

void Snapshot::CopySockets(ShardMessage* message) {
  const uint32_t end_slot = std::min(message->session.slot + kSlotsPerCopy,
                                     shard_->sessions.slot_count());
  std::vector<HandedSession> sessions;
  for (uint32_t slot = message->session.slot; slot < end_slot; ++slot) {
    const Session* session = shard_->sessions.FindSlot(slot);
    if (session == nullptr || session->state == SessionState::kPending) {
      continue;
    }
    const SysCallResult copy =
        shard_->sys_calls->Duplicate(session->upstream_fd);
    if (!copy.ok()) continue;
    sessions.emplace_back().record() = session->record();
    sessions.back().upstream_fd.Reset(copy.value);
  }
  message->copy_done(std::move(sessions),
                     end_slot < shard_->sessions.slot_count() ? end_slot : 0);
}

}  // namespace internal
}  // namespace udpgate
