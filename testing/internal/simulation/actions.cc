#include "testing/internal/simulation/actions.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "testing/internal/simulation/payload.h"

namespace udpgate {
namespace internal {
namespace simulation {

void Actions::ClientSendsSome(int index) {
  ModelClient& client = state_->clients[index];
  for (int64_t i = state_->random.Between(1, 5); i > 0; --i) {
    Tag tag{Tag::kFromClient, static_cast<uint32_t>(index),
            static_cast<uint32_t>(client.datagrams.size()),
            static_cast<uint32_t>(state_->random.Between(sizeof(Tag), 600))};
    if (!state_->sys_calls.Arrive(client.address, client.gateway,
                                  PayloadOf(tag)))
      return;
    state_->Note("client ", index, " sends ", tag.number);
    client.datagrams.push_back({tag.bytes});
  }
}

void Actions::ForgedDatagram() {
  const SocketAddress source = state_->random.OneIn(2)
                                   ? SocketAddress::Ipv4Any(5)
                                   : Address("255.255.255.255", 5);
  state_->sys_calls.Arrive(source, Address("10.0.0.1", 19132),
                           PayloadOf(Tag()));
}

void Actions::BackendReplies(int index) {
  if (index == kNone) return;
  ModelSession& session = state_->sessions[index];
  if (session.is_mute) return;
  if (state_->sys_calls.queued(session.fd) == 0)
    session.unread_episode = state_->episode;
  for (int64_t i = state_->random.Between(1, 4); i > 0; --i) {
    const Tag tag{Tag::kFromBackend, static_cast<uint32_t>(index),
                  static_cast<uint32_t>(session.replies.size()),
                  static_cast<uint32_t>(state_->random.Between(
                      sizeof(Tag), state_->random.OneIn(8) ? 4000 : 1200))};
    if (!state_->sys_calls.Arrive(session.backend, session.relay,
                                  PayloadOf(tag))) {
      return;
    }
    state_->Note("backend replies to session ", index, ": ", tag.number);
    session.replies.push_back({tag.bytes});
  }
  const Tag forged;
  state_->Require(!state_->sys_calls.Arrive(Address("203.0.113.66", 6),
                                            session.relay, PayloadOf(forged)),
                  "a stranger is heard on the socket of session ", index);
}

void Actions::GiveResult(int index) {
  if (index == kNone) return;
  state_->open_resolutions.erase(std::find(
      state_->open_resolutions.begin(), state_->open_resolutions.end(), index));
  Resolution& resolution = state_->resolutions[index];
  const ModelSession& session = state_->sessions[resolution.session];
  if (state_->random.OneIn(8)) {
    state_->Note("resolution ", index, " never gets a result");
    return;
  }
  if (state_->now() >= session.deadline_nanoseconds)
    ++state_->coverage->results_late;
  resolution.has_result = true;
  if (state_->random.OneIn(6)) {
    state_->Note("resolution ", index, " fails");
    resolution.done(state_->random.OneOf<absl::Status>(
        {absl::NotFoundError(""), absl::InvalidArgumentError(""),
         absl::DeadlineExceededError(""), absl::UnavailableError("")}));
    return;
  }
  if (state_->random.OneIn(12)) {
    state_->Note("resolution ", index,
                 " gets an address that cannot be sent to");
    // The last one is the gateway itself.
    const SocketAddress& listen = state_->context->options.listen_address;
    resolution.done(ResolveResult{
        state_->random.OneOf<SocketAddress>(
            {SocketAddress(), SocketAddress::Ipv4Any(5),
             listen.is_any() ? Address("127.0.0.1", listen.port()) : listen}),
        ""});
    return;
  }
  resolution.is_good = true;
  state_->Note("resolution ", index, " gets its result");
  ResolveResult result{resolution.backend, ""};
  result.is_client_proven = resolution.is_proven = state_->random.OneIn(8);
  if (state_->random.OneIn(2)) NamePlayer(index, &result);
  resolution.done(std::move(result));
}

// The client is a new player, or one who had another address until now.
void Actions::NamePlayer(int index, ResolveResult* result) {
  Resolution& resolution = state_->resolutions[index];
  resolution.tag = std::make_shared<SessionTag>(absl::StrCat(index), "");
  const int client = state_->sessions[resolution.session].client;
  const int old_index = state_->LiveSession();
  ModelSession* const old =
      old_index == kNone ? nullptr : &state_->sessions[old_index];
  if (old != nullptr && old->client != client && state_->random.OneIn(2)) {
    state_->Note("client ", client, " is that of session ", old_index,
                 ", says the result");
    result->moved_from = state_->clients[old->client].address;
    result->relay = old->relay;
    if (old->tag != nullptr) {
      old->may_move = true;
      // No two sessions that stay have one tag, so each has its own silence.
      resolution.tag = std::exchange(old->tag, nullptr);
    }
  }
  result->tag = resolution.tag;
}

void Actions::RepeatResult(int index) {
  if (index >= static_cast<int>(state_->resolutions.size())) return;
  Resolution& resolution = state_->resolutions[index];
  if (!resolution.has_result || resolution.restored_client != kNone) return;
  ++state_->coverage->results_repeated;
  state_->Note("resolution ", index, " gets a second result");
  resolution.done(ResolveResult{resolution.backend, "again"});
}

void Actions::Disconnect(int index) {
  ModelClient& client = state_->clients[index];
  ModelSession* const session =
      client.session == kNone ? nullptr : &state_->sessions[client.session];
  ShardMessage message;
  message.kind = ShardMessage::Kind::kDisconnectClient;
  message.client = client.address;
  // As the proxy does. Without it, the event also concerns sessions that are
  // created until it is read.
  if (state_->random.OneIn(2)) message.came_nanoseconds = state_->now();
  if (session != nullptr && session->fd != kNone && state_->random.OneIn(2)) {
    const std::vector<RelayOwner> owners =
        state_->context->relay_ports.Find(session->relay.port());
    if (owners.size() == 1) {
      message.kind = ShardMessage::Kind::kEndSession;
      message.session = owners.front().session;
    }
  }
  state_->Note("disconnect of client ", index);
  ++client.open_disconnects;
  ++client.disconnects;
  ++state_->disconnects_posted;
  if (session != nullptr) {
    Resolution& resolution = state_->resolutions[session->resolution];
    if (session->fd != kNone) {
      session->must_end = true;
    } else if (!resolution.has_result) {
      resolution.is_stale = true;
    } else {
      resolution.is_contested = true;
    }
  }
  state_->worker->inbox()->PostDisconnect(std::move(message));
}

void Actions::Interrupt() {
  switch (state_->random.Below(4)) {
    case 0:
      return ClientSendsSome(static_cast<int>(
          state_->random.Below(static_cast<int64_t>(state_->clients.size()))));
    case 1:
      return BackendReplies(state_->LiveSession());
    case 2:
      return GiveResult(state_->OpenResolution());
    default:
      if (state_->random.OneIn(4)) {
        Disconnect(static_cast<int>(state_->random.Below(
            static_cast<int64_t>(state_->clients.size()))));
      }
  }
}

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
