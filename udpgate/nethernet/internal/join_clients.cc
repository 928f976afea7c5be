#include "udpgate/nethernet/internal/join_clients.h"

#include <algorithm>

#include "absl/time/time.h"

namespace udpgate {
namespace nethernet {
namespace internal {
namespace {

// ICE agents check each of their paths more often: libwebrtc its spare ones
// every 25 s.
constexpr int64_t kPathSilenceNanosecondsMax = int64_t{60} * 1'000'000'000;

// A session that has not begun after this time never does.
constexpr int64_t kOpeningNanosecondsMax = int64_t{10} * 1'000'000'000;

// A client whose session is about to begin must not be forgotten: a disconnect
// of the join has to find it.
bool IsInUse(const JoinClients::Client& client, int64_t now_nanoseconds) {
  return client.has_session ||
         (client.is_opening &&
          now_nanoseconds - client.used_nanoseconds < kOpeningNanosecondsMax);
}

bool IsOfOneInterface(const JoinClients::Client& a,
                      const JoinClients::Client& b) {
  return a.priority.has_value() && a.priority == b.priority &&
         a.address.WithPort(0) == b.address.WithPort(0);
}

}  // namespace

JoinClients::Client* JoinClients::Find(const SocketAddress& address) {
  for (Client& client : clients_) {
    if (client.address == address) return &client;
  }
  return nullptr;
}

bool JoinClients::HasRoom(const SocketAddress& address, int clients_max,
                          int64_t now_nanoseconds) const {
  int in_use_count = 0;
  for (const Client& client : clients_) {
    if (client.address == address) return true;
    if (IsInUse(client, now_nanoseconds)) ++in_use_count;
  }
  return in_use_count < clients_max;
}

JoinClients::Client* JoinClients::Add(const SocketAddress& address,
                                      int clients_max,
                                      int64_t now_nanoseconds) {
  if (!HasRoom(address, clients_max, now_nanoseconds)) return nullptr;
  // There are more than `clients_max` if the limit was higher before.
  while (clients_.size() >= static_cast<size_t>(clients_max)) {
    clients_.erase(
        std::min_element(clients_.begin(), clients_.end(),
                         [now_nanoseconds](const Client& a, const Client& b) {
                           const bool is_a_in_use = IsInUse(a, now_nanoseconds);
                           const bool is_b_in_use = IsInUse(b, now_nanoseconds);
                           if (is_a_in_use != is_b_in_use) return is_b_in_use;
                           return a.used_nanoseconds < b.used_nanoseconds;
                         }));
  }
  clients_.emplace_back();
  clients_.back().address = address;
  return &clients_.back();
}

JoinClients::Client* JoinClients::FindOrigin(const Client& client) {
  Client* origin = nullptr;
  for (Client& candidate : clients_) {
    if (&candidate == &client || candidate.is_path_of_its_own ||
        candidate.moved_nanoseconds.has_value() ||
        !candidate.relay.is_valid() || !IsOfOneInterface(candidate, client)) {
      continue;
    }
    if (origin == nullptr || candidate.has_session > origin->has_session ||
        (candidate.has_session == origin->has_session &&
         candidate.used_nanoseconds > origin->used_nanoseconds)) {
      origin = &candidate;
    }
  }
  return origin;
}

void JoinClients::MakePathsOfTheirOwn(const Client& client) {
  const Client reference = client;  // it is one of them
  for (Client& candidate : clients_) {
    if (IsOfOneInterface(candidate, reference)) {
      candidate.is_path_of_its_own = true;
    }
  }
}

absl::optional<JoinClients::Place> JoinClients::Claim(
    const SocketAddress& address, absl::optional<uint32_t> priority,
    int clients_max, int64_t now_nanoseconds) {
  Client* client = Find(address);
  const bool is_new = client == nullptr;
  if (is_new) {
    client = Add(address, clients_max, now_nanoseconds);
    if (client == nullptr) return absl::nullopt;
  }
  client->used_nanoseconds = now_nanoseconds;
  client->is_opening = true;
  if (priority.has_value()) client->priority = priority;
  const bool has_moved_away = client->moved_nanoseconds.has_value();
  const bool is_in_use_since =
      has_moved_away && now_nanoseconds - *client->moved_nanoseconds <=
                            kPathSilenceNanosecondsMax;
  client->moved_nanoseconds.reset();
  if (is_in_use_since) MakePathsOfTheirOwn(*client);
  // A client that comes back after a long time has moved once more.
  const bool may_have_moved = is_new || (has_moved_away && !is_in_use_since);
  Client* const origin = may_have_moved ? FindOrigin(*client) : nullptr;
  if (origin == nullptr) return Place{client->relay, SocketAddress()};
  client->relay = origin->relay;
  origin->relay = SocketAddress();
  origin->moved_nanoseconds = now_nanoseconds;
  return Place{client->relay,
               origin->has_session ? origin->address : SocketAddress()};
}

void JoinClients::Begin(const SocketAddress& address,
                        const SocketAddress& relay, int64_t now_nanoseconds) {
  Client* client = Find(address);
  if (client == nullptr) {
    clients_.emplace_back();
    client = &clients_.back();
    client->address = address;
  }
  client->relay = relay;
  client->used_nanoseconds = now_nanoseconds;
  client->moved_nanoseconds.reset();
  client->is_opening = false;
  if (client->has_session) return;
  client->has_session = true;
  ++session_count_;
}

void JoinClients::End(const SocketAddress& address, int64_t now_nanoseconds) {
  Client* const client = Find(address);
  if (client == nullptr || !client->has_session) return;
  client->has_session = false;
  client->used_nanoseconds = now_nanoseconds;
  --session_count_;
}

void JoinClients::Adopt(const Client& client) {
  Client* known = Find(client.address);
  if (known == nullptr) {
    clients_.emplace_back();
    known = &clients_.back();
  } else if (known->has_session) {
    return;  // that session knows better
  }
  *known = client;
  known->has_session = false;
  known->is_opening = false;
}

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
