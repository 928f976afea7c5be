#include "udpgate/redis/internal/cluster_state.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

using udpgate::internal::MutexLock;

constexpr absl::Duration kContradictionLogInterval = absl::Seconds(10);
constexpr int64_t kSecondNanoseconds = 1'000'000'000;

}  // namespace

// What a connection sees of the state.
class ClusterState::Source final : public RedisAddressSource {
 public:
  Source(std::shared_ptr<ClusterState> state, uint64_t id)
      : state_(std::move(state)), id_(id) {}
  ~Source() override { state_->Remove(id_); }

  void Find(absl::Duration /*timeout*/, Found found) override {
    state_->Find(id_, std::move(found));
  }
  void Watch(std::weak_ptr<const Watcher> watcher) override {
    state_->Watch(id_, std::move(watcher));
  }
  void Distrust() override {}
  bool names_masters() const override { return false; }
  void Lost() override { state_->Lost(id_); }
  bool TakeError(absl::string_view error, const std::string& replier) override {
    return state_->TakeError(id_, error, replier);
  }
  bool must_ask() const override { return state_->MustAsk(id_); }

 private:
  const std::shared_ptr<ClusterState> state_;
  const uint64_t id_;
};

ClusterState::ClusterState(std::vector<std::string> seeds, const Clock* clock,
                           LogSink log_sink, std::function<void()> wake)
    : seeds_(std::move(seeds)),
      clock_(clock),
      log_sink_(std::move(log_sink)),
      contradiction_limiter_(clock, kContradictionLogInterval),
      wake_(std::move(wake)),
      preferred_(seeds_.front()) {}

std::shared_ptr<RedisAddressSource> ClusterState::MakeSource(int slot) {
  Entry entry;
  entry.slot = slot;
  return Add(std::move(entry));
}

std::shared_ptr<RedisAddressSource> ClusterState::MakeRefreshSource() {
  Entry entry;
  entry.is_refresh = true;
  return Add(std::move(entry));
}

std::shared_ptr<RedisAddressSource> ClusterState::Add(Entry entry) {
  uint64_t id;
  {
    MutexLock lock(&mutex_);
    id = ++last_id_;
    entries_.emplace(id, std::move(entry));
  }
  return std::make_shared<Source>(shared_from_this(), id);
}

void ClusterState::Remove(uint64_t id) {
  MutexLock lock(&mutex_);
  entries_.erase(id);
}

void ClusterState::Close() {
  Found held;
  MutexLock lock(&mutex_);
  wake_ = nullptr;
  held = std::exchange(held_found_, nullptr);
}

bool ClusterState::is_cluster() const {
  MutexLock lock(&mutex_);
  return is_cluster_;
}

const std::string& ClusterState::AddressOf(const Entry& entry) const {
  if (!entry.ask_target.empty()) return entry.ask_target;
  if (entry.slot >= 0 && !map_.OwnerOf(entry.slot).empty()) {
    return map_.OwnerOf(entry.slot);
  }
  return entry.fallback.empty() ? preferred_ : entry.fallback;
}

std::string ClusterState::NextNode(const std::string& node) const {
  std::vector<std::string> all = map_.nodes();
  for (const std::string& seed : seeds_) {
    if (!map_.HasNode(seed)) all.push_back(seed);
  }
  const auto found = std::find(all.begin(), all.end(), node);
  if (found == all.end() || found + 1 == all.end()) return all.front();
  return *(found + 1);
}

std::string ClusterState::NodeOf(int slot) const {
  MutexLock lock(&mutex_);
  const std::string& owner = map_.OwnerOf(slot);
  return owner.empty() ? preferred_ : owner;
}

void ClusterState::Find(uint64_t id, Found found) {
  std::string address;
  {
    MutexLock lock(&mutex_);
    Entry& entry = entries_[id];
    if (entry.is_refresh && is_dormant_) {
      held_found_ = std::move(found);
      return;
    }
    address = AddressOf(entry);
    entry.found = address;
    entry.is_tried = true;
  }
  found(address);
}

void ClusterState::Watch(uint64_t id, std::weak_ptr<const Watcher> watcher) {
  MutexLock lock(&mutex_);
  std::vector<std::weak_ptr<const Watcher>>& watchers = entries_[id].watchers;
  watchers.erase(
      std::remove_if(watchers.begin(), watchers.end(),
                     [](const auto& other) { return other.expired(); }),
      watchers.end());
  watchers.push_back(std::move(watcher));
}

void ClusterState::Lost(uint64_t id) {
  Calls calls;
  {
    MutexLock lock(&mutex_);
    Entry& entry = entries_[id];
    if (!std::exchange(entry.is_tried, false)) return;
    if (!entry.ask_target.empty()) {
      entry.ask_target.clear();
    } else if (entry.slot < 0 || map_.OwnerOf(entry.slot).empty()) {
      entry.fallback = NextNode(entry.found);
    }
    if (is_cluster_ && !entry.is_refresh) WantRefresh(&calls);
  }
  Perform(std::move(calls));
}

bool ClusterState::TakeError(uint64_t id, absl::string_view error,
                             const std::string& replier) {
  Calls calls;
  bool must_follow = false;
  {
    MutexLock lock(&mutex_);
    Entry& entry = entries_[id];
    Redirect redirect;
    if (entry.slot < 0) return false;
    if (absl::StartsWith(error, "CLUSTERDOWN")) {
      is_cluster_ = true;
      WantRefresh(&calls);
    } else if (redirect.Parse(error, replier) && redirect.slot == entry.slot) {
      ++redirects_;
      if (redirect.kind == Redirect::Kind::kAsk) {
        must_follow = redirect.host_port != replier;
        if (must_follow) entry.ask_target = redirect.host_port;
        is_cluster_ = true;
        WantRefresh(&calls);
      } else {
        entry.ask_target.clear();
        must_follow = Move(redirect, replier, &calls);
      }
    }
    // The loss that follows says nothing of the new address.
    if (must_follow) entry.is_tried = false;
  }
  Perform(std::move(calls));
  return must_follow;
}

bool ClusterState::MustAsk(uint64_t id) const {
  MutexLock lock(&mutex_);
  const auto entry = entries_.find(id);
  return entry != entries_.end() && !entry->second.ask_target.empty() &&
         entry->second.found == entry->second.ask_target;
}

std::string ClusterState::FollowRedirect(absl::string_view error,
                                         const std::string& replier,
                                         bool* is_asking) {
  Calls calls;
  Redirect redirect;
  *is_asking = false;
  {
    MutexLock lock(&mutex_);
    if (!redirect.Parse(error, replier)) return "";
    ++redirects_;
    if (redirect.kind == Redirect::Kind::kMoved) {
      if (!Move(redirect, replier, &calls)) redirect.host_port.clear();
    } else {
      is_cluster_ = true;
      *is_asking = true;
    }
  }
  Perform(std::move(calls));
  return redirect.host_port;
}

bool ClusterState::Move(const Redirect& redirect, const std::string& replier,
                        Calls* calls) {
  is_cluster_ = true;
  WantRefresh(calls);
  const std::string owner = map_.OwnerOf(redirect.slot);
  if (owner == redirect.host_port && replier != owner) return true;
  const int64_t now_nanoseconds = clock_->NowNanoseconds();
  if (now_nanoseconds >= moves_until_nanoseconds_) {
    moves_.clear();
    moves_until_nanoseconds_ = now_nanoseconds + kSecondNanoseconds;
  }
  if (redirect.host_port == replier ||
      ++moves_[redirect.slot] > kMovesPerSecondMax ||
      !map_.SetOwner(redirect.slot, redirect.host_port)) {
    ++contradictions_;
    int64_t suppressed;
    if (contradiction_limiter_.Admit(&suppressed)) {
      calls->severity = LogSeverity::kWarning;
      calls->line = absl::StrCat(
          "Redis Cluster: redirects of slot ", redirect.slot,
          " contradict each other: ", replier, " names ", redirect.host_port);
    }
    return false;
  }
  CollectMoves(calls);
  return true;
}

void ClusterState::Distrust(const std::string& node) {
  Calls calls;
  {
    MutexLock lock(&mutex_);
    if (node == preferred_) preferred_ = NextNode(preferred_);
    if (is_cluster_) WantRefresh(&calls);
  }
  Perform(std::move(calls));
}

void ClusterState::WantRefresh(Calls* calls) {
  is_refresh_wanted_ = true;
  calls->must_wake = true;
  if (!std::exchange(is_dormant_, false) || held_found_ == nullptr) return;
  calls->found = std::exchange(held_found_, nullptr);
  for (auto& entry : entries_) {
    if (!entry.second.is_refresh) continue;
    calls->found_address = AddressOf(entry.second);
    entry.second.found = calls->found_address;
    entry.second.is_tried = true;
  }
}

bool ClusterState::TakeRefreshWanted() {
  MutexLock lock(&mutex_);
  return std::exchange(is_refresh_wanted_, false);
}

void ClusterState::CollectMoves(Calls* calls) {
  for (auto& id_and_entry : entries_) {
    Entry& entry = id_and_entry.second;
    if (entry.is_refresh || entry.found.empty()) continue;
    if (entry.slot >= 0 && !map_.OwnerOf(entry.slot).empty()) {
      // The slot has moved where ASK has led.
      if (entry.ask_target == map_.OwnerOf(entry.slot))
        entry.ask_target.clear();
    }
    const std::string& address = AddressOf(entry);
    if (address == entry.found) continue;
    entry.is_tried = false;
    for (const auto& watcher : entry.watchers) {
      calls->watchers.emplace_back(watcher, address);
    }
  }
}

void ClusterState::SetMap(SlotMap map, const std::string& replier,
                          const std::string& problem) {
  Calls calls;
  {
    MutexLock lock(&mutex_);
    ++refreshes_;
    is_cluster_ = true;
    // A seed may be a name, which is in no map; a node may have left.
    const bool has_left = map_.HasNode(replier) && !map.HasNode(replier);
    preferred_ =
        has_left && !map.nodes().empty() ? map.nodes().front() : replier;
    for (auto& id_and_entry : entries_) {
      Entry& entry = id_and_entry.second;
      if (entry.slot >= 0 || entry.is_refresh) continue;
      // Where it is, unless that node has left the Cluster.
      entry.fallback = entry.found;
      if (map_.HasNode(entry.found) && !map.HasNode(entry.found)) {
        entry.fallback = preferred_;
      }
    }
    map_ = std::move(map);
    CollectMoves(&calls);
    Describe(problem, &calls);
  }
  Perform(std::move(calls));
}

void ClusterState::Describe(const std::string& problem, Calls* calls) {
  const int uncovered = kHashSlots - map_.CountCovered();
  std::string text = absl::StrCat(
      "Redis Cluster: ", map_.CountMasters(), " masters of ",
      map_.nodes().size(), " nodes",
      uncovered == 0 ? "" : absl::StrCat("; ", uncovered, " slots have none"),
      problem.empty() ? "" : absl::StrCat("; ", problem));
  if (text == described_) return;
  described_ = text;
  calls->line = std::move(text);
  calls->severity = uncovered == 0 && problem.empty() ? LogSeverity::kInfo
                                                      : LogSeverity::kWarning;
}

void ClusterState::SetMapProblem(const std::string& problem) {
  Calls calls;
  {
    MutexLock lock(&mutex_);
    std::string text = absl::StrCat("Redis Cluster: ", problem,
                                    "; the slots are learned from redirects");
    if (text == described_) return;
    described_ = text;
    calls.line = std::move(text);
    calls.severity = LogSeverity::kWarning;
  }
  Perform(std::move(calls));
}

void ClusterState::SetPlain() {
  MutexLock lock(&mutex_);
  is_cluster_ = false;
  is_dormant_ = true;
  map_ = SlotMap();
  described_.clear();
}

void ClusterState::Perform(Calls calls) {
  if (!calls.line.empty() && log_sink_ != nullptr) {
    log_sink_(calls.severity, calls.line);
  }
  for (const auto& weak : calls.watchers) {
    if (const auto watcher = weak.first.lock()) (*watcher)(weak.second);
  }
  if (calls.found != nullptr) calls.found(calls.found_address);
  if (!calls.must_wake) return;
  MutexLock lock(&mutex_);
  if (wake_ != nullptr) wake_();
}

uint64_t ClusterState::redirects() const {
  MutexLock lock(&mutex_);
  return redirects_;
}

uint64_t ClusterState::refreshes() const {
  MutexLock lock(&mutex_);
  return refreshes_;
}

uint64_t ClusterState::contradictions() const {
  MutexLock lock(&mutex_);
  return contradictions_;
}

size_t ClusterState::CountNodes() const {
  MutexLock lock(&mutex_);
  return map_.nodes().size();
}

int ClusterState::CountCovered() const {
  MutexLock lock(&mutex_);
  return is_cluster_ ? map_.CountCovered() : 0;
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
