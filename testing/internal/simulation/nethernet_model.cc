#include "testing/internal/simulation/nethernet_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/time/time.h"

namespace udpgate {
namespace internal {
namespace simulation {
namespace {

std::string InterfaceOf(const SocketAddress& client) {
  return absl::StrCat(client.IpToString(), "/",
                      NetherNetModel::PriorityOf(client));
}

bool NamesBackend(const DisconnectTarget& target, const SocketAddress& backend,
                  const std::string& label) {
  return (target.kind() == DisconnectTarget::Kind::kBackend &&
          target.address() == backend) ||
         (target.kind() == DisconnectTarget::Kind::kBackendText &&
          absl::EqualsIgnoreCase(target.text(), label));
}

bool NamesIp(const DisconnectTarget& target, const SocketAddress& address) {
  return target.kind() == DisconnectTarget::Kind::kClientIp &&
         target.address() == address.WithPort(0);
}

}  // namespace

void NetherNetModel::Expire() {
  for (PlayedJoin& played : joins) {
    absl::Duration life = absl::InfiniteDuration();
    if (played.state == State::kWaiting ||
        played.state == State::kSharedWaiting) {
      life = options_->join_timeout;
    } else if (played.state == State::kLingering) {
      life = options_->linger;
    }
    if (absl::Nanoseconds(now() - played.listed_nanoseconds) < life) continue;
    Meet(played.state == State::kLingering ? "left" : "expired");
    played.state = State::kGone;
  }
}

void NetherNetModel::TrimState(State state, int64_t size_max) {
  for (int i = 0; i < 4 && Count(state) > size_max; ++i) {
    PlayedJoin* oldest = nullptr;
    for (PlayedJoin& played : joins) {
      if (played.state == state &&
          (oldest == nullptr ||
           std::make_pair(played.listed_nanoseconds, played.listed_number) <
               std::make_pair(oldest->listed_nanoseconds,
                              oldest->listed_number))) {
        oldest = &played;
      }
    }
    oldest->state = State::kGone;
    oldest->was_displaced_while_opening = !oldest->openings.empty();
    Meet("displaced");
  }
}

void NetherNetModel::Trim() {
  TrimState(State::kLingering, options_->joins_max);
  TrimState(State::kSharedWaiting, options_->shared_joins_max);
}

void NetherNetModel::Add(nethernet::Join join, State state,
                         int64_t listed_nanoseconds) {
  PlayedJoin played;
  played.join = std::move(join);
  played.state = state;
  played.listed_nanoseconds = listed_nanoseconds;
  played.listed_number = ++listed_count_;
  joins.push_back(std::move(played));
}

PlayedJoin* NetherNetModel::Match(const std::string& ufrag,
                                  const std::string& password,
                                  bool* is_ufrag_known) {
  Expire();
  PlayedJoin* match = nullptr;
  *is_ufrag_known = false;
  for (PlayedJoin& played : joins) {
    if (played.join.ufrag != ufrag || played.state == State::kGone ||
        played.state == State::kEnded) {
      continue;
    }
    *is_ufrag_known = true;
    if (played.join.password == password) match = &played;
  }
  return match;
}

PlayedJoin* NetherNetModel::FindId(absl::string_view id) {
  for (PlayedJoin& played : joins) {
    if (played.join.id == id) return &played;
  }
  return nullptr;
}

int64_t NetherNetModel::Count(State state) const {
  return std::count_if(
      joins.begin(), joins.end(),
      [&](const PlayedJoin& played) { return played.state == state; });
}

int64_t NetherNetModel::CountUfrag(const std::string& ufrag) const {
  return std::count_if(
      joins.begin(), joins.end(), [&](const PlayedJoin& played) {
        return played.join.ufrag == ufrag && played.state != State::kGone &&
               played.state != State::kEnded;
      });
}

void NetherNetModel::OnClaimed(const SessionTag& tag) {
  PlayedJoin* const played = FindId(tag.key());
  if (played != nullptr) played->disconnects_at_claim = disconnects;
}

void NetherNetModel::OnOpened(const SocketAddress& client,
                              const GateSession& session,
                              const ResolveResult& result) {
  if (session.tag == nullptr) {
    Require(!result.is_client_proven, "a stranger is proven");
    return;
  }
  PlayedJoin* const played = FindId(session.tag->key());
  Require(played != nullptr, "a session of no join");
  if (played == nullptr) return;
  const nethernet::Join& join = played->join;
  Require(played->state != State::kEnded, "a session of the disconnected join ",
          join.ufrag);
  Require(played->state != State::kGone || played->was_displaced_while_opening,
          "a session of join ", join.ufrag, " whose time is over");
  Require(session.backend == join.media, "media of ", join.ufrag, " goes to ",
          session.backend.ToString());
  Require(session.label == join.backend_label && result.is_client_proven,
          "wrong result of ", join.ufrag);
  Require(session.tag->text() == join.network_id, "wrong network id");
  CheckRelay(client, session, result, played);
  const std::string text = client.ToString();
  // A known address comes back also if a reload has lowered the limit.
  Require(played->sessions.size() <
                  static_cast<size_t>(options_->addresses_per_join_max) ||
              played->had_sessions.count(text) > 0,
          "too many sessions of ", join.ufrag);
  played->openings.erase(text);
  played->sessions.insert(text);
  played->had_sessions.insert(text);
  played->seen[text] = client;
  played->relays[text] = session.relay;
  if (played->state == State::kLingering) Meet("came back");
  if (played->state == State::kGone) {
    if (played->disconnects_at_claim != disconnects ||
        CountUfrag(join.ufrag) >= 4) {
      return;
    }
    Meet("brought back");
  }
  played->state = State::kLive;
}

void NetherNetModel::CheckRelay(const SocketAddress& client,
                                const GateSession& session,
                                const ResolveResult& result,
                                PlayedJoin* played) {
  const std::string text = client.ToString();
  const auto own = played->relays.find(text);
  const std::string interface = InterfaceOf(client);
  auto origin = played->relays.end();
  int candidates = 0;
  for (auto entry = played->relays.begin(); entry != played->relays.end();
       ++entry) {
    if (entry->first == text ||
        InterfaceOf(played->seen.at(entry->first)) != interface) {
      continue;
    }
    ++candidates;
    if (entry->second == result.relay) origin = entry;
  }
  // Then addresses may have been forgotten, or have changed their places.
  const bool is_unsure =
      played->had_parallel_openings ||
      played->seen.size() >= static_cast<size_t>(addresses_min);
  const bool is_own =
      own != played->relays.end() && own->second == result.relay;
  if (result.relay.is_valid()) {
    Require(is_own || origin != played->relays.end() || is_unsure,
            "the relay address of another player for ", text);
    Require(session.relay == result.relay || is_unsure,
            "the relay address was not free for ", text);
    if (is_own) Meet("relay kept");
    if (!is_own && origin != played->relays.end() &&
        session.relay == result.relay) {
      Meet("moved");
      played->relays.erase(origin);
      played->moved_interfaces.insert(interface);
    }
    return;
  }
  Require(own == played->relays.end() || is_unsure, "client ", text,
          " lost its relay address");
  Require(candidates == 0 || played->seen.count(text) > 0 || is_unsure ||
              played->moved_interfaces.count(interface) > 0,
          "client ", text, " moved and got a new relay address");
}

void NetherNetModel::OnEnded(const SocketAddress& client,
                             const GateSession& session) {
  PlayedJoin* const played =
      session.tag == nullptr ? nullptr : FindId(session.tag->key());
  if (played == nullptr) return;
  played->sessions.erase(client.ToString());
  if (played->state != State::kLive || !played->sessions.empty()) return;
  played->state = State::kLingering;
  played->listed_nanoseconds = now();
  played->listed_number = ++listed_count_;
  Trim();
}

bool NetherNetModel::MustEnd(const PlayedJoin& played,
                             const DisconnectTarget& target) const {
  if (played.state == State::kGone || played.state == State::kEnded) {
    return false;
  }
  const nethernet::Join& join = played.join;
  if (NamesIp(target, join.player) ||
      NamesBackend(target, join.backend, join.backend_label) ||
      NamesBackend(target, join.media, join.backend_label)) {
    return true;
  }
  const auto is_named = [&](const std::string& text) {
    const SocketAddress& client = played.seen.at(text);
    return NamesIp(target, client) ||
           (target.kind() == DisconnectTarget::Kind::kClient &&
            target.client() == client);
  };
  for (const std::string& text : played.openings) {
    if (is_named(text)) return true;
  }
  for (const std::string& text : played.sessions) {
    const SocketAddress& relay = played.relays.at(text);
    if (is_named(text) ||
        (target.kind() == DisconnectTarget::Kind::kRelayPort &&
         target.relay_port() == relay.port()) ||
        (target.kind() == DisconnectTarget::Kind::kRelay &&
         target.address() == relay)) {
      return true;
    }
  }
  return false;
}

bool NetherNetModel::MayEnd(const PlayedJoin& played,
                            const DisconnectTarget& target) const {
  // Its time may be over without anybody having noticed.
  if (played.state == State::kGone) return true;
  return std::any_of(
      played.seen.begin(), played.seen.end(),
      [&](const auto& entry) { return NamesIp(target, entry.second); });
}

bool NetherNetModel::MustCancel(const PlayedReservation& reservation,
                                const DisconnectTarget& target) const {
  const bool names_any_backend =
      target.kind() == DisconnectTarget::Kind::kBackend ||
      target.kind() == DisconnectTarget::Kind::kBackendText;
  return NamesIp(target, reservation.player) ||
         (names_any_backend && !reservation.backend.is_valid()) ||
         NamesBackend(target, reservation.backend, reservation.label);
}

void NetherNetModel::CheckStats(const nethernet::JoinTableStats& stats,
                                int64_t reservation_count) {
  Expire();
  Require(stats.joins_waiting == Count(State::kWaiting) + reservation_count,
          stats.joins_waiting, " joins wait, not ", Count(State::kWaiting),
          " and ", reservation_count, " reservations");
  Require(stats.joins_live == Count(State::kLive), stats.joins_live,
          " joins live, not ", Count(State::kLive));
  Require(stats.joins_lingering == Count(State::kLingering),
          stats.joins_lingering, " joins linger, not ",
          Count(State::kLingering));
  Require(stats.joins_shared_waiting == Count(State::kSharedWaiting),
          stats.joins_shared_waiting, " shared joins wait, not ",
          Count(State::kSharedWaiting));
  Require(stats.stun_known == known, "stun_known: ", stats.stun_known, ", not ",
          known);
  Require(stats.stun_unknown_ufrag + stats.stun_malformed ==
              drops[DropReason::kStunUnknownUfrag],
          "wrong number of unknown ufrags");
  Require(stats.stun_wrong_integrity == drops[DropReason::kStunWrongIntegrity],
          "wrong number of wrong integrities");
  Require(stats.stun_address_limit == drops[DropReason::kStunAddressLimit],
          "wrong number of checks at the limit of addresses");
  Require(stats.dtls_without_session == drops[DropReason::kDtlsWithoutSession],
          "wrong number of DTLS datagrams");
}

void NetherNetModel::CheckList(const std::vector<nethernet::JoinInfo>& infos) {
  Expire();
  int64_t live = 0;
  for (const PlayedJoin& played : joins) {
    if (played.state != State::kGone && played.state != State::kEnded) ++live;
  }
  Require(static_cast<int64_t>(infos.size()) == live, infos.size(),
          " joins are listed, not ", live);
  for (const nethernet::JoinInfo& info : infos) {
    const PlayedJoin* const played = FindId(info.id);
    Require(played != nullptr && played->state != State::kEnded &&
                played->state != State::kGone,
            "a join is listed that has ended");
    if (played == nullptr) continue;
    Require(info.session_count == static_cast<int>(played->sessions.size()),
            "join ", played->join.ufrag, " has ", info.session_count,
            " sessions, not ", played->sessions.size());
    Require(info.media == played->join.media.ToString(), "wrong media");
  }
}

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
