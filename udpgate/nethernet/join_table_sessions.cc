// The part of the table that data-plane threads call.
#include <utility>

#include "absl/status/status.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/nethernet/internal/first_datagram.h"
#include "udpgate/nethernet/join_table_impl.h"

namespace udpgate {
namespace nethernet {

using internal::FirstDatagram;
using internal::JoinClients;
using internal::JoinIndex;
using internal::JoinTag;
using internal::StunResult;
using ::udpgate::internal::MutexLock;

JoinTable::Impl::Recognized JoinTable::Impl::Recognize(
    const stun::BindingRequest& request, absl::Span<const char> datagram) {
  JoinIndex::SameUfrag found;
  size_t count;
  {
    MutexLock lock(&mutex);
    count =
        index.FindUfrag(request.local_ufrag, clock->NowNanoseconds(), &found);
  }
  Recognized recognized;
  for (size_t i = 0; i < count; ++i) {
    recognized.result = StunResult::kWrongIntegrity;
    if (stun::VerifyIntegrity(datagram, request, found[i]->join().password)) {
      recognized.result = StunResult::kKnown;
      recognized.tag = std::move(found[i]);
      break;
    }
  }
  return recognized;
}

Screening JoinTable::Impl::ScreenIce(const SocketAddress& client,
                                     const stun::BindingRequest& request,
                                     absl::Span<const char> datagram) {
  Recognized recognized = Recognize(request, datagram);
  if (recognized.tag != nullptr) {
    MutexLock lock(&mutex);
    if (!recognized.tag->state.clients.HasRoom(
            client, index.options().addresses_per_join_max,
            clock->NowNanoseconds())) {
      recognized.result = StunResult::kAddressLimit;
    }
  }
  stun_counters.Count(recognized.result);
  Screening screening;
  switch (recognized.result) {
    case StunResult::kKnown:
      screening.is_known_player = true;
      break;
    case StunResult::kWrongIntegrity:
      screening.drop = DropReason::kStunWrongIntegrity;
      break;
    case StunResult::kAddressLimit:
      screening.drop = DropReason::kStunAddressLimit;
      break;
    default:
      screening.drop = DropReason::kStunUnknownUfrag;
      break;
  }
  return screening;
}

absl::StatusOr<ResolveResult> JoinTable::Impl::ResolveIce(
    const SocketAddress& client, const stun::BindingRequest& request,
    absl::Span<const char> datagram) {
  Recognized recognized = Recognize(request, datagram);
  if (recognized.tag == nullptr) {
    return absl::NotFoundError("the join has ended");
  }
  ResolveResult result;
  {
    MutexLock lock(&mutex);
    JoinTag::State& state = recognized.tag->state;
    if (state.list == JoinList::kNone) {
      return absl::NotFoundError("the join has ended");
    }
    const absl::optional<JoinClients::Place> place = state.clients.Claim(
        client, request.priority, index.options().addresses_per_join_max,
        clock->NowNanoseconds());
    if (!place.has_value()) {
      return absl::ResourceExhaustedError(
          "the join has too many client addresses");
    }
    state.is_changed = true;
    state.disconnects_at_claim = disconnect_count;
    if (place->moved_from.is_valid()) ++stats.clients_moved;
    result.relay = place->relay;
    result.moved_from = place->moved_from;
  }
  const Join& join = recognized.tag->join();
  result.backend = join.media;
  result.label = join.backend_label;
  result.is_client_proven = true;
  result.tag = std::move(recognized.tag);
  return result;
}

bool JoinTable::Impl::MayReturn(const JoinTag& tag) const {
  return tag.state.disconnects_at_claim == disconnect_count &&
         index.FindId(tag.join().id) == nullptr &&
         index.HasRoomForUfrag(tag.join().ufrag);
}

void JoinTable::Impl::OnBegin(JoinTag* tag, const SocketAddress& client,
                              const SocketAddress& relay) {
  MutexLock lock(&mutex);
  const int64_t now_nanoseconds = clock->NowNanoseconds();
  JoinTag::State& state = tag->state;
  state.clients.Begin(client, relay, now_nanoseconds);
  state.is_changed = true;
  if (state.list == JoinList::kLive) return;
  if (state.list != JoinList::kNone) {
    index.Move(tag, JoinList::kLive, now_nanoseconds);
  } else if (MayReturn(*tag)) {
    // Its time was over after the resolution. Its session lives, so the
    // player's other addresses must be known.
    index.Add(tag->shared_from_this(), JoinList::kLive,
              state.created_nanoseconds, now_nanoseconds);
  } else {
    return;
  }
  if (!std::exchange(state.has_begun, true)) ++stats.joins_begun;
}

void JoinTable::Impl::OnEnd(JoinTag* tag, const SocketAddress& client,
                            EndReason reason) {
  bool was_removed = false;
  std::vector<SocketAddress> others;  // the event names them, or ends them too
  {
    MutexLock lock(&mutex);
    const int64_t now_nanoseconds = clock->NowNanoseconds();
    JoinTag::State& state = tag->state;
    state.clients.End(client, now_nanoseconds);
    state.is_changed = true;
    if (state.list == JoinList::kNone) return;
    if (reason == EndReason::kDisconnected) {
      RemoveDisconnected(tag, &others);
      was_removed = true;
    } else if (state.list == JoinList::kLive &&
               state.clients.session_count() == 0) {
      index.Move(tag, JoinList::kLingering, now_nanoseconds);
      index.TrimLists(&stats);
    }
  }
  if (was_removed) ReportDisconnected(*tag);
}

absl::optional<Screening> JoinTable::Screen(const SocketAddress& client,
                                            absl::Span<const char> datagram) {
  const FirstDatagram first = internal::ReadFirstDatagram(datagram);
  Screening screening;
  switch (first.kind) {
    case FirstDatagram::Kind::kOther:
      return absl::nullopt;
    case FirstDatagram::Kind::kIceRequest:
      return impl_->ScreenIce(client, first.request, datagram);
    case FirstDatagram::Kind::kMalformed:
      impl_->stun_counters.Count(StunResult::kMalformed);
      screening.drop = DropReason::kStunUnknownUfrag;
      break;
    case FirstDatagram::Kind::kStunWithoutSession:
      impl_->stun_counters.Count(StunResult::kUnknownUfrag);
      screening.drop = DropReason::kStunUnknownUfrag;
      break;
    case FirstDatagram::Kind::kDtls:
      impl_->stun_counters.Count(StunResult::kDtls);
      screening.drop = DropReason::kDtlsWithoutSession;
      break;
  }
  return screening;
}

absl::optional<absl::StatusOr<ResolveResult>> JoinTable::Resolve(
    const SocketAddress& client, absl::Span<const char> datagram) {
  const FirstDatagram first = internal::ReadFirstDatagram(datagram);
  if (first.kind == FirstDatagram::Kind::kOther) return absl::nullopt;
  if (first.kind == FirstDatagram::Kind::kIceRequest) {
    return impl_->ResolveIce(client, first.request, datagram);
  }
  // `Screen` drops these.
  return absl::StatusOr<ResolveResult>(
      absl::NotFoundError("the datagram belongs to no join"));
}

}  // namespace nethernet
}  // namespace udpgate
