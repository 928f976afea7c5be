#include "udpgate/internal/session_offload.h"

#include <algorithm>

#include "absl/status/statusor.h"

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

}  // namespace

void SessionOffload::Begin(const SocketAddress& listen, Session* session) {
  if (offload_ == nullptr || session->flow_slot != kNoSlot) return;
  const SocketAddress local =
      listen.is_any() ? session->local.WithPort(listen.port()) : listen;
  // Both ends must speak one protocol: nothing translates below the sockets.
  if (!local.is_unicast() ||
      session->client.family() != session->backend.family() ||
      session->client.family() != local.family()) {
    return;
  }
  const absl::StatusOr<uint32_t> slot = offload_->Install(
      {session->client, local, session->relay, session->backend});
  if (!slot.ok()) {
    counters_->fast_path_refusals.Add();
    return;
  }
  session->flow_slot = *slot;
  session->counted_from_client = DirectionActivity();
  session->counted_from_backend = DirectionActivity();
  counters_->fast_path_sessions.Add();
}

void SessionOffload::End(Session* session) {
  if (session->flow_slot == kNoSlot) return;
  offload_->Remove(session->flow_slot);
  Count(session);
  offload_->Release(session->flow_slot);
  session->flow_slot = kNoSlot;
  counters_->fast_path_sessions.Subtract();
}

void SessionOffload::Update(Session* session) {
  if (session->flow_slot == kNoSlot) return;
  if (offload_->is_withdrawn(session->flow_slot)) {
    counters_->fast_path_withdrawals.Add();
    End(session);
    return;
  }
  Count(session);
}

// As if the worker had moved them itself, and the share apart.
void SessionOffload::Count(Session* session) {
  const uint32_t slot = session->flow_slot;
  const DirectionActivity client =
      TakeDifference(offload_->ReadActivity(slot, FlowDirection::kFromClient),
                     &session->counted_from_client);
  const DirectionActivity backend =
      TakeDifference(offload_->ReadActivity(slot, FlowDirection::kFromBackend),
                     &session->counted_from_backend);
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
  if (backend.datagrams > 0) session->refusals = 0;
  counters_->client_datagrams_received.Add(client.datagrams);
  counters_->client_bytes_received.Add(client.payload_bytes);
  counters_->client_datagrams_forwarded.Add(client.datagrams);
  counters_->client_bytes_forwarded.Add(client.payload_bytes);
  counters_->backend_datagrams_received.Add(backend.datagrams);
  counters_->backend_bytes_received.Add(backend.payload_bytes);
  counters_->backend_datagrams_forwarded.Add(backend.datagrams);
  counters_->backend_bytes_forwarded.Add(backend.payload_bytes);
  counters_->fast_path_client_datagrams.Add(client.datagrams);
  counters_->fast_path_client_bytes.Add(client.payload_bytes);
  counters_->fast_path_backend_datagrams.Add(backend.datagrams);
  counters_->fast_path_backend_bytes.Add(backend.payload_bytes);
}

}  // namespace internal
}  // namespace udpgate
