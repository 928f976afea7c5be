// The part of the table that other processes and other gateways use.
#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/nethernet/internal/exported_join.h"
#include "udpgate/nethernet/join_table_impl.h"

namespace udpgate {
namespace nethernet {
namespace {

using internal::ExportedClient;
using internal::ExportedJoin;
using internal::ExportedJoins;
using internal::JoinClients;
using internal::JoinList;
using internal::JoinTag;
using ::udpgate::internal::MutexLock;

// How long a live join waits for its sessions in the new process, if joins
// linger for a shorter time.
constexpr int64_t kSessionsWaitNanoseconds = int64_t{20} * 1'000'000'000;

// Never negative: what happens during an export is newer than its begin.
absl::Duration Age(int64_t time_nanoseconds, int64_t now_nanoseconds) {
  return absl::Nanoseconds(
      std::max<int64_t>(now_nanoseconds - time_nanoseconds, 0));
}

int64_t TimeOf(absl::Duration age, int64_t now_nanoseconds) {
  return now_nanoseconds - absl::ToInt64Nanoseconds(age);
}

// All but `join`, which never changes: data-plane threads wait meanwhile.
ExportedJoin ExportState(const JoinTag& tag, int64_t now_nanoseconds) {
  const JoinTag::State& state = tag.state;
  ExportedJoin exported;
  exported.has_begun =
      state.list == JoinList::kLive || state.list == JoinList::kLingering;
  exported.is_shared = state.is_shared;
  exported.age = Age(state.created_nanoseconds, now_nanoseconds);
  // A live join lingers in the new process until its sessions arrive.
  exported.listed_age = state.list == JoinList::kLive
                            ? absl::ZeroDuration()
                            : Age(state.listed_nanoseconds, now_nanoseconds);
  exported.clients.reserve(state.clients.all().size());
  for (const JoinClients::Client& client : state.clients.all()) {
    ExportedClient copy;
    copy.client = client;
    copy.used_age = Age(client.used_nanoseconds, now_nanoseconds);
    if (client.moved_nanoseconds.has_value()) {
      copy.moved_age = Age(*client.moved_nanoseconds, now_nanoseconds);
    }
    exported.clients.push_back(copy);
  }
  return exported;
}

void AdoptClients(const ExportedJoin& exported, int64_t now_nanoseconds,
                  JoinTag* tag) {
  for (const ExportedClient& copy : exported.clients) {
    JoinClients::Client client = copy.client;
    client.used_nanoseconds = TimeOf(copy.used_age, now_nanoseconds);
    client.moved_nanoseconds.reset();
    if (copy.moved_age.has_value()) {
      client.moved_nanoseconds = TimeOf(*copy.moved_age, now_nanoseconds);
    }
    tag->state.clients.Adopt(client);
  }
}

}  // namespace

void JoinTable::AddShared(Join join, absl::Duration age) {
  auto tag = std::make_shared<JoinTag>(std::move(join), impl_.get());
  tag->state.is_shared = true;
  MutexLock lock(&impl_->mutex);
  const int64_t now_nanoseconds = impl_->clock->NowNanoseconds();
  impl_->index.Sweep(now_nanoseconds, Impl::kSweepPerJoin, &impl_->stats);
  if (age >= impl_->index.options().join_timeout ||
      impl_->index.FindId(tag->join().id) != nullptr) {
    return;
  }
  if (!impl_->index.HasRoomForUfrag(tag->join().ufrag)) {
    ++impl_->stats.ufrags_refused;
    return;
  }
  const int64_t created_nanoseconds = TimeOf(age, now_nanoseconds);
  ++impl_->stats.joins_shared;
  impl_->index.Add(std::move(tag), JoinList::kSharedWaiting,
                   created_nanoseconds, created_nanoseconds);
  impl_->index.TrimLists(&impl_->stats);
}

std::vector<SocketAddress> JoinTable::EndShared(absl::string_view id) {
  std::vector<SocketAddress> clients;
  std::shared_ptr<JoinTag> tag;  // destroyed without the lock
  MutexLock lock(&impl_->mutex);
  ++impl_->disconnect_count;
  tag = impl_->index.FindId(id);
  if (tag == nullptr) return clients;
  impl_->RemoveDisconnected(tag.get(), &clients);
  return clients;
}

std::string JoinTable::Export(bool is_late) {
  ExportedJoins exported;
  bool is_complete;
  {
    MutexLock lock(&impl_->mutex);
    is_complete = !is_late || !impl_->was_exported || impl_->has_ended_too_many;
    exported.ended_ids.swap(impl_->ended_ids);
    impl_->was_exported = true;
    impl_->has_ended_too_many = false;
  }
  exported.is_complete = is_complete;
  if (is_complete) exported.ended_ids.clear();
  const int64_t now_nanoseconds = impl_->clock->NowNanoseconds();
  uint64_t number = 0;
  std::vector<std::pair<const JoinTag*, ExportedJoin>> copies;
  copies.reserve(Impl::kJoinsPerSlice);
  for (;;) {
    std::vector<std::shared_ptr<JoinTag>> slice;  // destroyed without the lock
    copies.clear();
    {
      MutexLock lock(&impl_->mutex);
      slice = impl_->index.Slice(&number, Impl::kJoinsPerSlice);
      for (const std::shared_ptr<JoinTag>& tag : slice) {
        if (!is_complete && !tag->state.is_changed) continue;
        tag->state.is_changed = false;
        if (impl_->index.IsExpired(*tag, now_nanoseconds)) continue;
        copies.emplace_back(tag.get(), ExportState(*tag, now_nanoseconds));
      }
    }
    if (slice.empty()) break;
    for (auto& [tag, copy] : copies) {
      copy.join = tag->join();
      exported.joins.push_back(std::move(copy));
    }
  }
  return internal::WriteJoins(exported);
}

absl::Status JoinTable::Import(absl::string_view text) {
  const absl::StatusOr<ExportedJoins> exported = internal::ReadJoins(text);
  if (!exported.ok()) return exported.status();
  if (exported->is_complete) impl_->RemoveAllBut(exported->joins);
  for (const std::string& id : exported->ended_ids) {
    MutexLock lock(&impl_->mutex);
    const std::shared_ptr<JoinTag> tag = impl_->index.FindId(id);
    ++impl_->disconnect_count;
    if (tag != nullptr) impl_->index.Remove(tag.get());
  }
  for (const ExportedJoin& join : exported->joins) impl_->ImportOne(join);
  return absl::OkStatus();
}

void JoinTable::Impl::RemoveAllBut(
    const std::vector<internal::ExportedJoin>& kept) {
  absl::flat_hash_set<absl::string_view> ids;
  for (const ExportedJoin& join : kept) ids.insert(join.join.id);
  uint64_t number = 0;
  for (;;) {
    std::vector<std::shared_ptr<JoinTag>> slice;  // destroyed without the lock
    MutexLock lock(&mutex);
    ++disconnect_count;
    slice = index.Slice(&number, kJoinsPerSlice);
    if (slice.empty()) return;
    for (const std::shared_ptr<JoinTag>& tag : slice) {
      if (tag->state.is_imported && !ids.contains(tag->join().id)) {
        index.Remove(tag.get());
      }
    }
  }
}

void JoinTable::Impl::ImportOne(const internal::ExportedJoin& exported) {
  std::shared_ptr<JoinTag> tag;  // destroyed without the lock
  MutexLock lock(&mutex);
  const int64_t now_nanoseconds = clock->NowNanoseconds();
  int64_t listed_nanoseconds = TimeOf(exported.listed_age, now_nanoseconds);
  if (exported.has_begun && exported.listed_age == absl::ZeroDuration()) {
    listed_nanoseconds +=
        std::max<int64_t>(kSessionsWaitNanoseconds -
                              absl::ToInt64Nanoseconds(index.options().linger),
                          0);
  }
  tag = index.FindId(exported.join.id);
  if (tag == nullptr) {
    if (!index.HasRoomForUfrag(exported.join.ufrag)) return;
    tag = std::make_shared<JoinTag>(exported.join, this);
    tag->state.is_shared = exported.is_shared;
    tag->state.is_imported = true;
    const JoinList list = exported.has_begun   ? JoinList::kLingering
                          : exported.is_shared ? JoinList::kSharedWaiting
                                               : JoinList::kWaiting;
    index.Add(tag, list, TimeOf(exported.age, now_nanoseconds),
              listed_nanoseconds);
  } else if (exported.has_begun && tag->state.list != JoinList::kLive) {
    index.Move(tag.get(), JoinList::kLingering, listed_nanoseconds);
  }
  if (exported.has_begun) tag->state.has_begun = true;
  AdoptClients(exported, now_nanoseconds, tag.get());
}

}  // namespace nethernet
}  // namespace udpgate
