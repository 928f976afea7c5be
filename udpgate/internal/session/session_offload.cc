#include "udpgate/internal/session/session_offload.h"

#include <algorithm>

#include "absl/types/optional.h"

namespace udpgate {
namespace internal {
namespace {

// The activity since `counted`, which is then up to date.
DirectionActivity TakeDifference(const DirectionActivity& now,
                                 DirectionActivity* counted) {
  DirectionActivity difference;
  difference.datagrams = now.datagrams - counted->datagrams;
  difference.payload_bytes = now.payload_bytes - counted->payload_bytes;
  difference.last_relayed_nanoseconds = now.last_relayed_nanoseconds;
  *counted = now;
  return difference;
}

// Only the time of the last datagram of each direction is known. So a session
// counts as unanswered from its client's last datagram that is known.
void NoteUnanswered(const DirectionActivity& client,
                    const DirectionActivity& backend, Session* session) {
  if (backend.datagrams > 0) session->unanswered_since_nanoseconds = 0;
  if (client.datagrams > 0 && session->unanswered_since_nanoseconds == 0 &&
      client.last_relayed_nanoseconds > backend.last_relayed_nanoseconds) {
    session->unanswered_since_nanoseconds = client.last_relayed_nanoseconds;
  }
}

}  // namespace

void CountRelayed(const SessionActivity& relayed, Counters* counters) {
  const DirectionActivity& client = relayed.from_client;
  const DirectionActivity& backend = relayed.from_backend;
  counters->client_datagrams_received.Add(client.datagrams);
  counters->client_bytes_received.Add(client.payload_bytes);
  counters->client_datagrams_forwarded.Add(client.datagrams);
  counters->client_bytes_forwarded.Add(client.payload_bytes);
  counters->backend_datagrams_received.Add(backend.datagrams);
  counters->backend_bytes_received.Add(backend.payload_bytes);
  counters->backend_datagrams_forwarded.Add(backend.datagrams);
  counters->backend_bytes_forwarded.Add(backend.payload_bytes);
  counters->fast_path_client_datagrams.Add(client.datagrams);
  counters->fast_path_client_bytes.Add(client.payload_bytes);
  counters->fast_path_backend_datagrams.Add(backend.datagrams);
  counters->fast_path_backend_bytes.Add(backend.payload_bytes);
}

void SessionOffload::Begin(const SocketAddress& listen, Session* session) {
  if (offload_ == nullptr || session->flow_slot != kNoSlot) return;
  const SocketAddress local =
      listen.is_any() ? session->local.WithPort(listen.port()) : listen;
  // Both sides must use one IP version: the offload does not translate.
  if (!local.is_unicast() ||
      session->client.family() != session->backend.family() ||
      session->client.family() != local.family()) {
    return;
  }
  const absl::optional<uint32_t> slot = offload_->Install(
      {session->client, local, session->relay, session->backend});
  if (!slot.has_value()) {
    counters_->fast_path_refusals.Add();
    return;
  }
  session->flow_slot = *slot;
  session->is_on_fast_path = false;
  session->counted = SessionActivity();
}

void SessionOffload::End(Session* session) {
  if (session->flow_slot == kNoSlot) return;
  Count(offload_->Remove(session->flow_slot), session);
  session->flow_slot = kNoSlot;
  if (session->is_on_fast_path) counters_->fast_path_sessions.Subtract();
}

void SessionOffload::Forget(Session* session) {
  if (session->flow_slot == kNoSlot) return;
  session->flow_slot = kNoSlot;
  if (session->is_on_fast_path) counters_->fast_path_sessions.Subtract();
}

void SessionOffload::Adopt(uint32_t slot, const SessionActivity& counted,
                           Session* session) {
  if (offload_ == nullptr || slot == kNoSlot) return;
  if (!offload_->Adopt(slot, {session->client, session->local, session->relay,
                              session->backend})) {
    counters_->fast_path_withdrawals.Add();
    return;
  }
  session->flow_slot = slot;
  session->is_on_fast_path = true;
  counters_->fast_path_sessions.Add();
  // No difference is below 0, whatever the other process says.
  const SessionActivity relayed = offload_->ReadActivity(slot);
  const auto limit = [](const DirectionActivity& at_most,
                        DirectionActivity* activity) {
    activity->datagrams = std::min(activity->datagrams, at_most.datagrams);
    activity->payload_bytes =
        std::min(activity->payload_bytes, at_most.payload_bytes);
  };
  session->counted = counted;
  limit(relayed.from_client, &session->counted.from_client);
  limit(relayed.from_backend, &session->counted.from_backend);
}

void SessionOffload::Update(Session* session) {
  if (session->flow_slot == kNoSlot) return;
  switch (offload_->state(session->flow_slot)) {
    case FlowState::kWaiting:
      return;
    case FlowState::kInstalled:
      if (!session->is_on_fast_path) counters_->fast_path_sessions.Add();
      session->is_on_fast_path = true;
      return Count(offload_->ReadActivity(session->flow_slot), session);
    case FlowState::kRefused:
      counters_->fast_path_refusals.Add();
      return End(session);
    case FlowState::kWithdrawn:
      counters_->fast_path_withdrawals.Add();
      return End(session);
  }
}

void SessionOffload::Count(const SessionActivity& activity, Session* session) {
  SessionActivity relayed;
  relayed.from_client =
      TakeDifference(activity.from_client, &session->counted.from_client);
  relayed.from_backend =
      TakeDifference(activity.from_backend, &session->counted.from_backend);
  const DirectionActivity& client = relayed.from_client;
  const DirectionActivity& backend = relayed.from_backend;
  session->last_active_nanoseconds = std::max(
      {session->last_active_nanoseconds, client.last_relayed_nanoseconds,
       backend.last_relayed_nanoseconds});
  if (client.datagrams > 0) {
    session->client_active_nanoseconds = std::max(
        session->client_active_nanoseconds, client.last_relayed_nanoseconds);
  }
  session->client_datagrams_forwarded += client.datagrams;
  session->client_bytes_forwarded += client.payload_bytes;
  session->backend_datagrams_forwarded += backend.datagrams;
  session->backend_bytes_forwarded += backend.payload_bytes;
  if (backend.datagrams > 0) {
    session->refusals = 0;
    session->has_answered = true;
  }
  NoteUnanswered(client, backend, session);
  CountRelayed(relayed, counters_);
}

}  // namespace internal
}  // namespace udpgate
