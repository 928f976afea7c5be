#include "udpgate/nethernet/internal/join_index.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>

#include "absl/time/time.h"

namespace udpgate {
namespace nethernet {
namespace internal {

namespace {
constexpr int kTrimMax = 4;
}  // namespace

int64_t JoinIndex::LifeNanoseconds(JoinList kind) const {
  switch (kind) {
    case JoinList::kWaiting:
    case JoinList::kSharedWaiting:
      return absl::ToInt64Nanoseconds(options_.join_timeout);
    case JoinList::kLingering:
      return absl::ToInt64Nanoseconds(options_.linger);
    default:
      return INT64_MAX;
  }
}

bool JoinIndex::IsExpired(const JoinTag& tag, int64_t now_nanoseconds) const {
  return now_nanoseconds - tag.state.listed_nanoseconds >=
         LifeNanoseconds(tag.state.list);
}

size_t JoinIndex::FindUfrag(absl::string_view ufrag, int64_t now_nanoseconds,
                            SameUfrag* found) const {
  const auto entry = by_ufrag_.find(ufrag);
  if (entry == by_ufrag_.end()) return 0;
  size_t count = 0;
  for (const std::shared_ptr<JoinTag>& tag : entry->second) {
    if (!IsExpired(*tag, now_nanoseconds)) (*found)[count++] = tag;
  }
  return count;
}

std::shared_ptr<JoinTag> JoinIndex::FindId(absl::string_view id) const {
  const auto entry = by_id_.find(id);
  if (entry == by_id_.end()) return nullptr;
  return by_number_.at(entry->second->state.number);
}

bool JoinIndex::HasRoomForUfrag(absl::string_view ufrag) const {
  const auto entry = by_ufrag_.find(ufrag);
  return entry == by_ufrag_.end() || entry->second.size() < kSameUfragMax;
}

// A join of another process or gateway may be older than the newest one.
JoinIndex::List::iterator JoinIndex::PlaceOf(List* joins,
                                             int64_t listed_nanoseconds) {
  auto place = joins->end();
  while (place != joins->begin() &&
         (*std::prev(place))->state.listed_nanoseconds > listed_nanoseconds) {
    --place;
  }
  return place;
}

void JoinIndex::Add(std::shared_ptr<JoinTag> tag, JoinList kind,
                    int64_t created_nanoseconds, int64_t listed_nanoseconds) {
  JoinTag::State& state = tag->state;
  state.number = next_number_++;
  state.created_nanoseconds = created_nanoseconds;
  state.listed_nanoseconds = listed_nanoseconds;
  state.list = kind;
  List& joins = list(kind);
  const auto place = PlaceOf(&joins, listed_nanoseconds);
  state.place = joins.insert(place, tag.get());
  by_id_[tag->join().id] = tag.get();
  by_ufrag_[tag->join().ufrag].push_back(tag);
  by_number_.emplace(state.number, std::move(tag));
}

void JoinIndex::Move(JoinTag* tag, JoinList kind, int64_t listed_nanoseconds) {
  JoinTag::State& state = tag->state;
  List& joins = list(kind);
  joins.splice(PlaceOf(&joins, listed_nanoseconds), list(state.list),
               state.place);
  state.list = kind;
  state.listed_nanoseconds = listed_nanoseconds;
  state.is_changed = true;
}

void JoinIndex::Remove(JoinTag* tag) {
  JoinTag::State& state = tag->state;
  list(state.list).erase(state.place);
  state.list = JoinList::kNone;
  by_id_.erase(tag->join().id);
  const auto entry = by_ufrag_.find(tag->join().ufrag);
  auto& same = entry->second;
  same.erase(std::find_if(same.begin(), same.end(),
                          [tag](const std::shared_ptr<JoinTag>& other) {
                            return other.get() == tag;
                          }));
  if (same.empty()) by_ufrag_.erase(entry);
  by_number_.erase(state.number);  // the last one: it may destroy the tag
}

bool JoinIndex::SweepList(JoinList kind, int64_t now_nanoseconds,
                          int* count_max, uint64_t* counter) {
  List& joins = list(kind);
  while (!joins.empty() && IsExpired(*joins.front(), now_nanoseconds)) {
    if (*count_max <= 0) return true;
    --*count_max;
    ++*counter;
    Remove(joins.front());
  }
  return false;
}

bool JoinIndex::Sweep(int64_t now_nanoseconds, int count_max,
                      JoinTableStats* stats) {
  uint64_t not_counted = 0;  // other gateways count theirs
  return SweepList(JoinList::kWaiting, now_nanoseconds, &count_max,
                   &stats->joins_expired) ||
         SweepList(JoinList::kLingering, now_nanoseconds, &count_max,
                   &stats->joins_left) ||
         SweepList(JoinList::kSharedWaiting, now_nanoseconds, &count_max,
                   &not_counted);
}

void JoinIndex::TrimList(JoinList kind, int64_t size_max,
                         JoinTableStats* stats) {
  for (int i = 0; i < kTrimMax && size(kind) > size_max; ++i) {
    ++stats->joins_displaced;
    Remove(list(kind).front());
  }
}

void JoinIndex::TrimLists(JoinTableStats* stats) {
  TrimList(JoinList::kLingering, options_.joins_max, stats);
  TrimList(JoinList::kSharedWaiting, options_.shared_joins_max, stats);
}

std::vector<std::shared_ptr<JoinTag>> JoinIndex::Slice(uint64_t* number,
                                                       size_t count_max) const {
  std::vector<std::shared_ptr<JoinTag>> slice;
  slice.reserve(std::min(count_max, by_number_.size()));
  for (auto entry = by_number_.lower_bound(*number);
       entry != by_number_.end() && slice.size() < count_max; ++entry) {
    slice.push_back(entry->second);
    *number = entry->first + 1;
  }
  return slice;
}

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
