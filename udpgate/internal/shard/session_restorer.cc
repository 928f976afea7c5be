#include "udpgate/internal/shard/session_restorer.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/time/time.h"
#include "udpgate/internal/net/listen_socket.h"
#include "udpgate/internal/session/tag_replies.h"
#include "udpgate/session_info.h"

namespace udpgate {
namespace internal {
namespace {

// No session is older.
constexpr absl::Duration kAgeMax = absl::Hours(24 * 365);

}  // namespace

void SessionRestorer::HandleMessage(ShardMessage* message) {
  RestoreOrder* const order = message->restore.get();
  RestoreSome(kSessionsPerIteration, order);
  if (order->next < order->tasks.size()) {
    shard_->inbox->Post(std::move(*message));
  }
}

void SessionRestorer::RestoreAll(RestoreOrder* order) {
  RestoreSome(order->tasks.size(), order);
}

void SessionRestorer::RestoreSome(size_t count_max, RestoreOrder* order) {
  upstreams_->SetNetworkEpoch(
      shard_->gate->network_epoch.load(std::memory_order_relaxed));
  const size_t end = std::min(order->tasks.size(), order->next + count_max);
  for (; order->next < end; ++order->next) {
    RestoreOne(order->takes_other_relays, order->tasks[order->next]);
  }
}

// The task stays undone if its source address and port cannot be had.
void SessionRestorer::RestoreOne(bool takes_other_relays, RestoreTask* task) {
  const RestorableSession& restorable = *task->session;
  const auto finish = [task](Outcome outcome) {
    task->is_done = true;
    task->result.outcome = outcome;
  };
  if (!IsAcceptable(restorable)) return finish(Outcome::kRejected);
  const uint32_t hash = shard_->gate->hash(restorable.client);
  if (!MakeWay(restorable.client, hash)) {
    return finish(Outcome::kClientPresent);
  }
  UpstreamOpener::Result opened;
  SocketAddress source;
  if (newcomers_->FindSource(restorable.backend, &source, &opened) != nullptr) {
    return finish(Outcome::kRejected);  // it is this gateway itself
  }
  if (!shard_->gate->admission.Restore(
          restorable.client, [this] { return evictions_->EvictOne(); })) {
    return finish(Outcome::kRejected);
  }
  Session* session = lifecycle_->Place(restorable.client, hash);
  if (opened.error == 0) {
    opened = takes_other_relays
                 ? newcomers_->OpenSocket(*session, SocketAddress(), source,
                                          restorable.backend)
                 : upstreams_->OpenExactly(*session, restorable.relay, source,
                                           restorable.backend);
  }
  if (opened.error != 0) {
    lifecycle_->Erase(&session);
    shard_->gate->admission.End(restorable.client, SessionState::kConfirmed);
    if (takes_other_relays) finish(Outcome::kNoSocket);
    return;
  }
  Begin(*task, opened, session);
  task->result.session_id = session->id;
  task->result.relay = session->relay;
  finish(session->relay == restorable.relay ? Outcome::kRestored
                                            : Outcome::kOnOtherRelay);
}

bool SessionRestorer::IsAcceptable(const RestorableSession& session) const {
  const ListenSocket& listener = shard_->gate->listeners.front();
  const SocketAddress& listen = listener.address;
  // A wildcard of IPv4 has no clients of IPv6.
  const bool is_of_listener =
      session.local.port() == listen.port() &&
      session.local.family() == session.client.family() &&
      (listen.is_any() ? listener.family == AF_INET6 || session.client.is_ipv4()
                       : session.local == listen);
  return session.client.is_unicast() && session.client.port() != 0 &&
         is_of_listener && session.backend.is_unicast() &&
         session.backend.port() != 0;
}

// Whether the client has no session, or none that lives on.
bool SessionRestorer::MakeWay(const SocketAddress& client, uint32_t hash) {
  Session* session = shard_->sessions.Find(client, hash);
  if (session == nullptr) return true;
  if (!endings_->IsSuperseded(*session)) return false;
  lifecycle_->End(EndReason::kSuperseded, DropReason::kStandby, &session);
  return true;
}

void SessionRestorer::Begin(const RestoreTask& task,
                            const UpstreamOpener::Result& opened,
                            Session* session) {
  const RestorableSession& restorable = *task.session;
  const std::vector<ListenSocket>& listeners = shard_->gate->listeners;
  session->created_nanoseconds =
      shard_->now_nanoseconds -
      absl::ToInt64Nanoseconds(
          std::clamp(restorable.age, absl::ZeroDuration(), kAgeMax));
  session->last_active_nanoseconds = shard_->now_nanoseconds;
  session->client_active_nanoseconds = shard_->now_nanoseconds;
  // The one that the kernel gives its datagrams to.
  session->listener = static_cast<uint16_t>(session->hash % listeners.size());
  if (listeners.front().address.is_any()) {
    session->local = restorable.local.WithPort(0);
  }
  session->network_epoch = upstreams_->network_epoch();
  session->upstream_fd = opened.fd;
  session->relay = opened.relay;
  session->backend = restorable.backend;
  session->label = restorable.label;
  // It was confirmed, so its backend has: the port needs its quarantine.
  session->has_answered = true;
  session->tag = task.tag;
  if (session->tag != nullptr) {
    session->tag->OnBegin(session->client, session->relay);
    TagReplies::Note(*session);
  }
  lifecycle_->Continue(session);
}

}  // namespace internal
}  // namespace udpgate
