#include "udpgate/redis/redis_cluster.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "udpgate/clock.h"
#include "udpgate/dns/host_port.h"
#include "udpgate/logging.h"
#include "udpgate/redis/internal/cluster_state.h"
#include "udpgate/redis/internal/connection.h"
#include "udpgate/redis/internal/hash_slot.h"
#include "udpgate/redis/internal/slot_map.h"
#include "udpgate/redis/redis_option_ranges.h"

namespace udpgate {
namespace {

using redis::internal::ClusterState;
using redis::internal::Connection;
using redis::internal::ConnectionOwner;
using redis::internal::HashSlotOf;
using redis::internal::IsLoginRevoked;
using redis::internal::IsTemporaryError;
using redis::internal::ReplyText;
using redis::internal::SlotMap;

// Maps that were asked for because of a failure, in a row, until another node
// is asked: this one may know less than the others.
constexpr int kMapsOfOneNodeMax = 3;

RedisOptions OptionsOfConnection(const RedisOptions& options,
                                 const std::shared_ptr<ClusterState>& state) {
  RedisOptions result = options;
  result.nodes = nullptr;
  result.address_source = state->MakeRefreshSource();
  result.database = 0;
  result.outage_log = nullptr;
  // A server that turns out to be no Cluster needs no lines.
  result.log_sink = [state = std::weak_ptr<ClusterState>(state),
                     sink = options.log_sink](LogSeverity severity,
                                              absl::string_view message) {
    const std::shared_ptr<ClusterState> locked = state.lock();
    if (sink != nullptr && locked != nullptr && locked->is_cluster()) {
      sink(severity, message);
    }
  };
  return result;
}

absl::Status ValidateSeeds(const std::vector<std::string>& seeds) {
  if (seeds.empty() || seeds.size() > redis_ranges::kSeedsMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a Redis Cluster needs 1 to ", redis_ranges::kSeedsMax, " seeds"));
  }
  for (const std::string& seed : seeds) {
    const absl::StatusOr<HostPort> parsed = HostPort::Parse(seed);
    if (!parsed.ok()) return parsed.status();
  }
  return absl::OkStatus();
}

}  // namespace

class RedisCluster::Impl final : public ConnectionOwner {
 public:
  Impl(const RedisOptions& options, std::vector<std::string> seeds,
       std::shared_ptr<HostLookup> lookup)
      : address_(absl::StrJoin(seeds, ",")),
        state_(std::make_shared<ClusterState>(std::move(seeds), options.clock,
                                              options.log_sink,
                                              [this] { connection_.Wake(); })),
        connection_(OptionsOfConnection(options, state_), std::move(lookup),
                    "slot map", "udpgate-redis-c", this,
                    SlotMap::ReplyLimits()) {}
  ~Impl() override {
    state_->Close();
    connection_.Stop();
  }

  absl::Status Start() { return connection_.Start(); }
  const std::string& address() const { return address_; }
  ClusterState* state() const { return state_.get(); }

  void OnConnected() override {
    is_asking_ = false;
    if (state_->is_cluster()) connection_.LogRecovery("asks for the slot map");
  }
  void OnReply(const redisReply& reply) override;
  void OnMessage(const redisReply&) override {}
  void OnLost(const absl::Status& why) override;
  int64_t OnIteration(int64_t now_nanoseconds) override;

 private:
  void Ask(int64_t now_nanoseconds);
  void OnError(const redisReply& reply);
  void OnNoCluster();

  const std::string address_;
  const std::shared_ptr<ClusterState> state_;

  // Used by the thread only.
  bool is_asking_ = false;
  int failures_ = 0;  // see kMapsOfOneNodeMax
  int64_t earliest_nanoseconds_ = INT64_MIN;
  int64_t next_nanoseconds_ = INT64_MIN;
  Connection connection_;
};

int64_t RedisCluster::Impl::OnIteration(int64_t now_nanoseconds) {
  if (!connection_.is_connected()) {
    if (now_nanoseconds >= earliest_nanoseconds_ &&
        state_->TakeRefreshWanted()) {
      next_nanoseconds_ = INT64_MIN;
      connection_.ReconnectSoon();
    }
    return Connection::kNever;
  }
  if (is_asking_) return Connection::kNever;
  // What is wanted too early waits for the earliest time.
  if (now_nanoseconds >= earliest_nanoseconds_ && state_->TakeRefreshWanted()) {
    if (++failures_ > kMapsOfOneNodeMax) {
      failures_ = 0;
      next_nanoseconds_ = now_nanoseconds;
      connection_.Drop(absl::UnavailableError("another node is asked"));
      return Connection::kNever;
    }
    Ask(now_nanoseconds);
    return Connection::kNever;
  }
  if (now_nanoseconds >= next_nanoseconds_) {
    failures_ = 0;
    Ask(now_nanoseconds);
    return Connection::kNever;
  }
  return now_nanoseconds < earliest_nanoseconds_
             ? std::min(earliest_nanoseconds_, next_nanoseconds_)
             : next_nanoseconds_;
}

void RedisCluster::Impl::Ask(int64_t now_nanoseconds) {
  is_asking_ = true;
  earliest_nanoseconds_ =
      now_nanoseconds + absl::ToInt64Nanoseconds(kRefreshIntervalMin);
  next_nanoseconds_ =
      now_nanoseconds + absl::ToInt64Nanoseconds(kRefreshInterval);
  connection_.Send({"CLUSTER", "SLOTS"});
}

void RedisCluster::Impl::OnReply(const redisReply& reply) {
  is_asking_ = false;
  if (reply.type == REDIS_REPLY_ERROR) {
    OnError(reply);
    return;
  }
  std::string problem;
  absl::StatusOr<SlotMap> map =
      SlotMap::Read(reply, connection_.target(), &problem);
  if (!map.ok()) {
    earliest_nanoseconds_ = next_nanoseconds_;
    state_->SetMapProblem(
        absl::StrCat(connection_.target(), ": ", map.status().message()));
    return;
  }
  state_->SetMap(*std::move(map), connection_.target(), problem);
  connection_.LogRecovery("asks for the slot map");
}

void RedisCluster::Impl::OnError(const redisReply& reply) {
  const absl::string_view text = ReplyText(reply);
  if (IsLoginRevoked(reply)) {
    connection_.DropClosed(connection_.ErrorToStatus(reply));
  } else if (IsTemporaryError(text)) {
    next_nanoseconds_ = earliest_nanoseconds_;
  } else if (!state_->is_cluster() ||
             absl::StrContains(text, "cluster support disabled")) {
    OnNoCluster();
  } else {
    earliest_nanoseconds_ = next_nanoseconds_;
    state_->SetMapProblem(
        std::string(connection_.ErrorToStatus(reply).message()));
  }
}

// The connection ends; the next attempt waits for a redirect.
void RedisCluster::Impl::OnNoCluster() {
  state_->SetPlain();
  earliest_nanoseconds_ = INT64_MIN;
  next_nanoseconds_ = INT64_MIN;
  connection_.Drop(absl::UnavailableError("not a Cluster"));
}

void RedisCluster::Impl::OnLost(const absl::Status& why) {
  if (!std::exchange(is_asking_, false)) return;
  if (absl::IsResourceExhausted(why) || absl::IsDataLoss(why)) {
    earliest_nanoseconds_ = next_nanoseconds_;
    state_->SetMapProblem(std::string(why.message()));
  } else if (!state_->is_cluster() && connection_.was_closed_in_use()) {
    // A proxy that ends the connection at a command that it does not know.
    state_->SetPlain();
  } else {
    next_nanoseconds_ = INT64_MIN;
  }
}

absl::StatusOr<std::shared_ptr<RedisCluster>> RedisCluster::Create(
    RedisOptions options, std::vector<std::string> seeds,
    std::shared_ptr<HostLookup> lookup) {
  if (absl::Status status = ValidateSeeds(seeds); !status.ok()) return status;
  options.address = seeds.front();
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  auto impl =
      std::make_unique<Impl>(RedisOptions::WithClock(std::move(options)),
                             std::move(seeds), std::move(lookup));
  if (absl::Status status = impl->Start(); !status.ok()) return status;
  return std::shared_ptr<RedisCluster>(new RedisCluster(std::move(impl)));
}

RedisCluster::RedisCluster(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

RedisCluster::~RedisCluster() = default;

void RedisCluster::SetSource(std::shared_ptr<RedisCluster> cluster,
                             RedisOptions* options) {
  options->address = cluster->impl_->address();
  options->address_source = cluster->SourceForAny();
  options->nodes = std::move(cluster);
}

RedisClusterStats RedisCluster::GetStats() const {
  const ClusterState& state = *impl_->state();
  RedisClusterStats stats;
  stats.is_cluster = state.is_cluster();
  stats.redirects = state.redirects();
  stats.contradictions = state.contradictions();
  stats.refreshes = state.refreshes();
  stats.nodes = state.CountNodes();
  stats.slots_covered = static_cast<uint64_t>(state.CountCovered());
  return stats;
}

bool RedisCluster::is_cluster() const { return impl_->state()->is_cluster(); }

std::shared_ptr<RedisAddressSource> RedisCluster::SourceFor(
    absl::string_view key) {
  return impl_->state()->MakeSource(HashSlotOf(key));
}

std::shared_ptr<RedisAddressSource> RedisCluster::SourceForAny() {
  return impl_->state()->MakeSource(ClusterState::kAnySlot);
}

std::string RedisCluster::NodeOf(absl::string_view key) {
  return impl_->state()->NodeOf(HashSlotOf(key));
}

std::string RedisCluster::FollowRedirect(absl::string_view error,
                                         const std::string& replier,
                                         bool* is_asking) {
  return impl_->state()->FollowRedirect(error, replier, is_asking);
}

void RedisCluster::Distrust(const std::string& node) {
  impl_->state()->Distrust(node);
}

}  // namespace udpgate
