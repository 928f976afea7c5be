#include "udpgate/nethernet/join_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/nethernet/internal/join_id.h"
#include "udpgate/nethernet/internal/join_match.h"
#include "udpgate/nethernet/join_table_impl.h"

namespace udpgate {
namespace nethernet {
namespace {

using internal::JoinList;
using internal::JoinTag;
using ::udpgate::internal::MutexLock;

JoinInfo::State StateOf(JoinList list) {
  switch (list) {
    case JoinList::kLive:
      return JoinInfo::State::kLive;
    case JoinList::kLingering:
      return JoinInfo::State::kLingering;
    default:
      return JoinInfo::State::kWaiting;
  }
}

// What changes of a join: copied while the lock is held, which data-plane
// threads wait for.
struct ListedState {
  const JoinTag* tag;
  JoinList list;
  int session_count;
  int64_t created_nanoseconds;
  bool is_shared;
};

ListedState ListedStateOf(const JoinTag& tag) {
  const JoinTag::State& state = tag.state;
  return {&tag, state.list, state.clients.session_count(),
          state.created_nanoseconds, state.is_shared};
}

JoinInfo InfoOf(const ListedState& listed, int64_t now_nanoseconds) {
  const Join& join = listed.tag->join();
  JoinInfo info;
  info.id = join.id;
  info.network_id = join.network_id;
  info.player = join.player.IpToString();
  info.backend = join.backend.ToString();
  info.backend_label = join.backend_label;
  info.media = join.media.ToString();
  info.state = StateOf(listed.list);
  info.session_count = listed.session_count;
  // A join may be newer than the beginning of a list.
  info.age = absl::Nanoseconds(
      std::max<int64_t>(now_nanoseconds - listed.created_nanoseconds, 0));
  info.is_shared = listed.is_shared;
  return info;
}

}  // namespace

void JoinTable::Impl::Sweep() {
  for (bool has_more = true; has_more;) {
    MutexLock lock(&mutex);
    has_more = index.Sweep(clock->NowNanoseconds(),
                           static_cast<int>(kJoinsPerSlice), &stats);
  }
}

void JoinTable::Impl::RemoveDisconnected(JoinTag* tag,
                                         std::vector<SocketAddress>* clients) {
  for (const internal::JoinClients::Client& client : tag->state.clients.all()) {
    if (client.has_session || client.is_opening) {
      clients->push_back(client.address);
    }
  }
  ++disconnect_count;
  ++stats.joins_disconnected;
  if (was_exported && ended_ids.size() >= kEndedIdsMax) {
    has_ended_too_many = true;
  } else if (was_exported) {
    ended_ids.push_back(tag->join().id);
  }
  index.Remove(tag);
}

void JoinTable::Impl::ReportDisconnected(const JoinTag& tag) {
  std::shared_ptr<JoinObserver> the_observer;
  {
    MutexLock lock(&mutex);
    the_observer = observer;
  }
  if (the_observer != nullptr) the_observer->OnDisconnected(tag.join());
}

void JoinTable::Impl::CancelReservations(const DisconnectTarget& target) {
  MutexLock lock(&mutex);
  ++disconnect_count;
  const bool names_any_backend =
      target.kind() == DisconnectTarget::Kind::kBackend ||
      target.kind() == DisconnectTarget::Kind::kBackendText;
  for (auto& [number, reserved] : reservations) {
    if (internal::NamesPlayer(target, reserved.player) ||
        (names_any_backend && !reserved.backend.is_valid()) ||
        internal::NamesBackend(target, reserved.backend,
                               reserved.backend_label)) {
      reserved.is_cancelled = true;
    }
  }
}

// Ambiguous if a relay port is that of several joins, on different source
// addresses: then none.
std::vector<std::shared_ptr<JoinTag>> JoinTable::Impl::FindNamed(
    const DisconnectTarget& target) {
  std::vector<std::shared_ptr<JoinTag>> named;
  uint64_t number = 0;
  for (;;) {
    std::vector<std::shared_ptr<JoinTag>> slice;  // destroyed without the lock
    MutexLock lock(&mutex);
    slice = index.Slice(&number, kJoinsPerSlice);
    if (slice.empty()) break;
    for (std::shared_ptr<JoinTag>& tag : slice) {
      if (internal::NamesJoin(target, *tag)) named.push_back(std::move(tag));
    }
  }
  if (target.kind() == DisconnectTarget::Kind::kRelayPort && named.size() > 1) {
    named.clear();
  }
  return named;
}

JoinTable::JoinTable(const JoinTableOptions& options, const Clock* clock)
    : impl_(std::make_unique<Impl>(options, clock)) {}

JoinTable::~JoinTable() = default;

JoinTable::Reservation& JoinTable::Reservation::operator=(
    Reservation&& other) noexcept {
  if (this != &other) {
    Release();
    table_ = std::exchange(other.table_, nullptr);
    number_ = other.number_;
  }
  return *this;
}

void JoinTable::Reservation::Release() {
  if (table_ == nullptr) return;
  MutexLock lock(&table_->impl_->mutex);
  table_->impl_->reservations.erase(number_);
  table_ = nullptr;
}

absl::StatusOr<JoinTable::Reservation> JoinTable::Reserve(
    const SocketAddress& player, const SocketAddress& backend,
    absl::string_view backend_label) {
  Impl::Reserved reserved = {player.WithPort(0), backend,
                             std::string(backend_label)};
  MutexLock lock(&impl_->mutex);
  impl_->index.Sweep(impl_->clock->NowNanoseconds(), Impl::kSweepPerJoin,
                     &impl_->stats);
  const int64_t joins_max = impl_->index.options().joins_max;
  if (impl_->WaitingCount() >= joins_max) {
    ++impl_->stats.joins_refused;
    return absl::ResourceExhaustedError(
        absl::StrCat(joins_max, " joins are waiting"));
  }
  const uint64_t number = impl_->next_reservation++;
  impl_->reservations.emplace(number, std::move(reserved));
  return Reservation(this, number);
}

absl::StatusOr<JoinTable::Reservation> JoinTable::Reserve(
    const SocketAddress& player) {
  return Reserve(player, SocketAddress(), "");
}

absl::Status JoinTable::SetBackend(const Reservation& reservation,
                                   const SocketAddress& backend,
                                   absl::string_view backend_label) {
  MutexLock lock(&impl_->mutex);
  Impl::Reserved& reserved =
      impl_->reservations.find(reservation.number_)->second;
  if (std::exchange(reserved.is_cancelled, false)) {
    return absl::AbortedError("a disconnect came during the resolution");
  }
  reserved.backend = backend;
  reserved.backend_label = std::string(backend_label);
  return absl::OkStatus();
}

absl::Status JoinTable::Commit(Reservation reservation, Join join) {
  join.id = internal::NewJoinId();
  auto tag = std::make_shared<JoinTag>(std::move(join), impl_.get());
  std::shared_ptr<JoinObserver> observer;
  {
    MutexLock lock(&impl_->mutex);
    const auto entry = impl_->reservations.find(reservation.number_);
    const bool is_cancelled = entry->second.is_cancelled;
    impl_->reservations.erase(entry);
    reservation.table_ = nullptr;
    if (is_cancelled) {
      return absl::AbortedError("a disconnect named the player or the backend");
    }
    if (!impl_->index.HasRoomForUfrag(tag->join().ufrag)) {
      ++impl_->stats.ufrags_refused;
      return absl::AlreadyExistsError("other joins have the same ufrag");
    }
    const int64_t now_nanoseconds = impl_->clock->NowNanoseconds();
    ++impl_->stats.joins_added;
    impl_->index.Add(tag, JoinList::kWaiting, now_nanoseconds, now_nanoseconds);
    observer = impl_->observer;
  }
  if (observer == nullptr) return absl::OkStatus();
  observer->OnAdded(tag->join());
  bool has_ended;
  {
    MutexLock lock(&impl_->mutex);
    has_ended = tag->state.list == JoinList::kNone;
  }
  // Its end may have been reported before: that of a join nobody knew.
  if (has_ended) observer->OnDisconnected(tag->join());
  return absl::OkStatus();
}

std::vector<SocketAddress> JoinTable::HandleDisconnect(
    const DisconnectTarget& target) {
  impl_->CancelReservations(target);
  const int64_t happened_nanoseconds =
      impl_->clock->NowNanoseconds() -
      absl::ToInt64Nanoseconds(
          std::clamp(target.age(), absl::ZeroDuration(), absl::Hours(24)));
  std::vector<SocketAddress> clients;
  for (const std::shared_ptr<JoinTag>& tag : impl_->FindNamed(target)) {
    {
      MutexLock lock(&impl_->mutex);
      if (tag->state.list == JoinList::kNone ||
          tag->state.created_nanoseconds > happened_nanoseconds) {
        continue;
      }
      impl_->RemoveDisconnected(tag.get(), &clients);
    }
    impl_->ReportDisconnected(*tag);
  }
  return clients;
}

std::shared_ptr<SessionTag> JoinTable::FindTag(absl::string_view key) {
  MutexLock lock(&impl_->mutex);
  std::shared_ptr<JoinTag> tag = impl_->index.FindId(key);
  if (tag != nullptr) {
    tag->state.disconnects_at_claim = impl_->disconnect_count;
  }
  return tag;
}

std::vector<JoinInfo> JoinTable::List() {
  std::vector<JoinInfo> joins;
  const int64_t now_nanoseconds = impl_->clock->NowNanoseconds();
  uint64_t number = 0;
  std::vector<ListedState> listed;
  listed.reserve(Impl::kJoinsPerSlice);
  for (;;) {
    std::vector<std::shared_ptr<JoinTag>> slice;  // destroyed without the lock
    listed.clear();
    {
      MutexLock lock(&impl_->mutex);
      slice = impl_->index.Slice(&number, Impl::kJoinsPerSlice);
      for (const std::shared_ptr<JoinTag>& tag : slice) {
        if (impl_->index.IsExpired(*tag, now_nanoseconds)) continue;
        listed.push_back(ListedStateOf(*tag));
      }
    }
    if (slice.empty()) return joins;
    for (const ListedState& state : listed) {
      joins.push_back(InfoOf(state, now_nanoseconds));
    }
  }
}

JoinTableStats JoinTable::stats() {
  impl_->Sweep();
  MutexLock lock(&impl_->mutex);
  JoinTableStats stats = impl_->stats;
  impl_->stun_counters.AddTo(&stats);
  stats.joins_waiting = impl_->WaitingCount();
  stats.joins_live = impl_->index.size(JoinList::kLive);
  stats.joins_lingering = impl_->index.size(JoinList::kLingering);
  stats.joins_shared_waiting = impl_->index.size(JoinList::kSharedWaiting);
  return stats;
}

absl::Status JoinTable::SetOptions(const JoinTableOptions& options) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  MutexLock lock(&impl_->mutex);
  impl_->index.SetOptions(options);
  return absl::OkStatus();
}

void JoinTable::SetObserver(std::shared_ptr<JoinObserver> observer) {
  MutexLock lock(&impl_->mutex);
  impl_->observer = std::move(observer);
}

}  // namespace nethernet
}  // namespace udpgate
