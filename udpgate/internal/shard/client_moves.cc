#include "udpgate/internal/shard/client_moves.h"

#include <cstddef>
#include <utility>

#include "udpgate/proxy_stats.h"

namespace udpgate {
namespace internal {
namespace {

// After a takeover, sessions of one player may have several objects with one
// key; see HandedTags.
bool IsSameTag(const SessionTag* a, const SessionTag* b) {
  if (a == nullptr || b == nullptr) return false;
  return a == b || (!a->key().empty() && a->key() == b->key());
}

}  // namespace

bool ClientMoves::EndOldSession(ResolveResult* result, Session* session) {
  const SocketAddress& old_client = result->moved_from;
  if (!old_client.is_valid() || old_client == session->client ||
      result->tag == nullptr) {
    return true;
  }
  const size_t shard =
      shard_->gate->hash(old_client) % shard_->gate->inboxes.size();
  if (shard == shard_->number) {
    End(old_client, result->tag.get());
    return true;
  }
  ShardMessage message;
  message.kind = ShardMessage::Kind::kEndMoved;
  message.session = session->ref();
  message.client = old_client;
  message.asking_shard = shard_->number;
  // A second result of this resolution is too late from now on.
  message.resolution = ++session->resolution;
  message.result = std::move(*result);
  shard_->gate->inboxes[shard]->Post(std::move(message));
  return false;
}

void ClientMoves::HandleMessage(ShardMessage* message) {
  End(message->client, message->result->tag.get());
  message->kind = ShardMessage::Kind::kMoved;
  shard_->gate->inboxes[message->asking_shard]->Post(std::move(*message));
}

// Nobody can name another player's session: it has another tag.
void ClientMoves::End(const SocketAddress& client, const SessionTag* tag) {
  Session* session = shard_->sessions.Find(client, shard_->gate->hash(client));
  if (session == nullptr || session->state == SessionState::kPending ||
      !IsSameTag(session->tag.get(), tag)) {
    return;
  }
  lifecycle_->End(EndReason::kClientMoved, DropReason::kSessionEnded, &session);
}

}  // namespace internal
}  // namespace udpgate
