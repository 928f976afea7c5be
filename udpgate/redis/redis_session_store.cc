#include "udpgate/redis/redis_session_store.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "udpgate/clock.h"
#include "udpgate/option_error.h"
#include "udpgate/redis/internal/record_reader.h"
#include "udpgate/redis/internal/session_batches.h"
#include "udpgate/redis/internal/session_calls.h"
#include "udpgate/redis/internal/session_cleaner.h"
#include "udpgate/redis/internal/session_keys.h"
#include "udpgate/redis/internal/session_pipe.h"
#include "udpgate/redis/internal/session_replies.h"
#include "udpgate/redis/internal/session_scripts.h"
#include "udpgate/redis/internal/stream_reply.h"

namespace udpgate {
namespace {

using redis::internal::CommandGroup;
using redis::internal::DecodeLease;
using redis::internal::EncodeLease;
using redis::internal::EscapeGatewayId;
using redis::internal::ForEachBatch;
using redis::internal::FrameLimits;
using redis::internal::GatewaysCommand;
using redis::internal::LifetimeMilliseconds;
using redis::internal::OutcomesInto;
using redis::internal::ReadTexts;
using redis::internal::RecordReader;
using redis::internal::Results;
using redis::internal::ScriptCommand;
using redis::internal::SessionBatches;
using redis::internal::SessionCleaner;
using redis::internal::SessionCommand;
using redis::internal::SessionKeys;
using redis::internal::SessionPipe;
using redis::internal::SessionPipeOptions;
using redis::internal::SessionPipeStats;
using redis::internal::SetWalkOptions;
using redis::internal::TextOf;
using redis::internal::WalkSet;

using Outcome = SessionStore::Outcome;
using Reply = absl::StatusOr<const redisReply*>;
using Texts = std::vector<std::string>;

constexpr size_t kPrefixBytesMax = 512;
// Of a set that SSCAN returns whole, as it does with a small one; what is small
// is a setting of Redis.
constexpr int64_t kElementsMax = 16384;
constexpr int64_t kReplyBytesMax = 4 << 20;
// Of the set of gateways beside their leases.
constexpr int64_t kGatewaysLifetimeMillisecondsMin = 60'000;

FrameLimits ReplyLimits() {
  FrameLimits limits;
  limits.frame_bytes_max = kReplyBytesMax;
  limits.elements_max = kElementsMax;
  return limits;
}

SessionPipeOptions PipeOptions(const RedisSessionStoreOptions& options) {
  SessionPipeOptions pipe;
  pipe.commands_in_flight_max =
      static_cast<size_t>(options.commands_in_flight_max);
  pipe.queue_records_max = static_cast<size_t>(options.queue_records_max);
  if (!redis::internal::HasHashTag(options.prefix)) {
    pipe.cluster_hint = absl::StrCat(
        "in a Redis Cluster the prefix of sessions (\"", options.prefix,
        "\") must have a hash tag, such as \"{udp_gate}:session:\"");
  }
  return pipe;
}

// What gives `done` the result, or why there is none.
template <typename T>
CommandGroup::Done Giving(std::shared_ptr<T> result,
                          SessionStore::Done<T> done) {
  return [result = std::move(result),
          done = std::move(done)](absl::Status status) mutable {
    if (status.ok()) {
      done(std::move(*result));
    } else {
      done(std::move(status));
    }
  };
}

// Sends the commands; `done` gets the results.
template <typename T>
void Call(SessionPipe* pipe, std::vector<SessionCommand> commands,
          Results<T> results, SessionStore::Done<std::vector<T>> done) {
  if (commands.empty()) {
    done(std::move(*results));
    return;
  }
  std::make_shared<CommandGroup>(pipe, Giving(results, std::move(done)))
      ->Submit(std::move(commands));
}

}  // namespace

absl::Status RedisSessionStoreOptions::Validate() const {
  const auto invalid = [](absl::string_view field, absl::string_view allowed) {
    return OptionError(absl::StatusCode::kInvalidArgument,
                       absl::StrCat("RedisSessionStoreOptions::", field),
                       absl::StrCat(" must be ", allowed));
  };
  if (prefix.empty() || prefix.size() > kPrefixBytesMax) {
    return invalid("prefix", absl::StrCat("1 to ", kPrefixBytesMax, " bytes"));
  }
  if (commands_in_flight_max < 1 || commands_in_flight_max > 1024) {
    return invalid("commands_in_flight_max", "1 to 1024");
  }
  if (queue_records_max < 4096 || queue_records_max > 10'000'000) {
    return invalid("queue_records_max", "4096 to 10000000");
  }
  if (listed_records_max < 1 || listed_records_max > 10'000'000) {
    return invalid("listed_records_max", "1 to 10000000");
  }
  return absl::OkStatus();
}

class RedisSessionStore::Impl {
 public:
  Impl(const RedisOptions& redis_options,
       const RedisSessionStoreOptions& options,
       std::shared_ptr<HostLookup> lookup)
      : clock_(redis_options.clock),
        options_(options),
        keys_(options.prefix),
        records_(
            absl::StrCat("Redis ", redis_options.address, " (session store)"),
            redis_options.log_sink, redis_options.clock),
        pipe_(redis_options.ForKey(options.prefix), PipeOptions(options),
              std::move(lookup), ReplyLimits()) {}
  // First, since commands use the other members.
  ~Impl() { pipe_.Stop(); }

  SessionPipe* pipe() { return &pipe_; }
  const SessionBatches& batches() const { return batches_; }
  RedisSessionStoreStats GetStats() const;

  void List(const std::string& gateway_id,
            Done<std::vector<StoredSession>> done);
  void ListClients(const std::string& gateway_id,
                   Done<std::vector<SocketAddress>> done);
  void ListGateways(Done<std::vector<Gateway>> done);
  void RenewLease(const GatewayLease& lease, absl::Duration lifetime,
                  Done<absl::optional<GatewayLease>> done);
  void EndLease(const GatewayLease& lease, Done<Outcome> done);

 private:
  SetWalkOptions WalkOptions(std::string key, absl::string_view what) const;

  const Clock* const clock_;
  const RedisSessionStoreOptions options_;
  const SessionKeys keys_;
  RecordReader records_;
  const SessionBatches batches_{&keys_, &records_};
  std::atomic<uint64_t> members_invalid_{0};
  SessionCleaner cleaner_{&pipe_, &keys_};
  SessionPipe pipe_;
};

RedisSessionStoreStats RedisSessionStore::Impl::GetStats() const {
  const SessionPipeStats pipe = pipe_.GetStats();
  RedisSessionStoreStats stats;
  stats.is_connected = pipe_.is_connected();
  stats.problem = pipe_.problem();
  stats.commands_sent = pipe.commands_sent;
  stats.replies = pipe.replies;
  stats.errors = pipe.errors;
  stats.commands_lost = pipe.lost;
  stats.records_refused = pipe.records_refused;
  stats.records_invalid = records_.invalid() + members_invalid_.load();
  stats.records_of_other_version = records_.of_other_version();
  stats.index_entries_removed = cleaner_.removed();
  stats.records_waiting = pipe.records_waiting;
  stats.commands_in_flight = pipe.commands_in_flight;
  stats.reply_seconds = pipe.reply_seconds;
  return stats;
}

SetWalkOptions RedisSessionStore::Impl::WalkOptions(
    std::string key, absl::string_view what) const {
  SetWalkOptions walk;
  walk.key = std::move(key);
  walk.what = what;
  walk.members_max = static_cast<size_t>(options_.listed_records_max);
  return walk;
}

void RedisSessionStore::Impl::List(const std::string& gateway_id,
                                   Done<std::vector<StoredSession>> done) {
  const auto results = std::make_shared<std::vector<StoredSession>>();
  auto on_page =
      [this, gateway_id, results,
       seen = absl::flat_hash_set<std::string>()](Texts members) mutable {
        Texts clients;
        for (std::string& member : members) {
          if (seen.insert(member).second) clients.push_back(std::move(member));
        }
        return batches_.List(gateway_id, clients, results);
      };
  WalkSet(&pipe_, WalkOptions(keys_.Index(gateway_id), "list records"),
          std::move(on_page), Giving(results, std::move(done)));
}

void RedisSessionStore::Impl::ListClients(
    const std::string& gateway_id, Done<std::vector<SocketAddress>> done) {
  const auto clients = std::make_shared<absl::flat_hash_set<SocketAddress>>();
  auto on_page = [this, clients](const Texts& members) {
    for (const std::string& member : members) {
      const absl::StatusOr<SocketAddress> client = SocketAddress::Parse(member);
      if (client.ok()) {
        clients->insert(*client);
      } else {
        members_invalid_.fetch_add(1);
      }
    }
    return std::vector<SessionCommand>();
  };
  WalkSet(
      &pipe_, WalkOptions(keys_.Index(gateway_id), "list clients"),
      std::move(on_page),
      [clients, done = std::move(done)](absl::Status status) mutable {
        if (!status.ok()) {
          done(std::move(status));
        } else {
          done(std::vector<SocketAddress>(clients->begin(), clients->end()));
        }
      });
}

void RedisSessionStore::Impl::ListGateways(Done<std::vector<Gateway>> done) {
  const auto results = std::make_shared<std::vector<Gateway>>();
  auto read = [results](const Texts& ids, const Reply& reply) {
    if (!reply.ok()) return true;
    std::vector<absl::string_view> leases;
    if (!ReadTexts(**reply, ids.size(), &leases)) return false;
    for (size_t i = 0; i < ids.size(); ++i) {
      Gateway gateway;
      if (leases[i] == redis::internal::kGatewayGone ||
          !redis::internal::UnescapeGatewayId(ids[i], &gateway.id)) {
        continue;
      }
      if (!leases[i].empty()) {
        gateway.lease = DecodeLease(gateway.id, leases[i]);
      }
      results->push_back(std::move(gateway));
    }
    return true;
  };
  auto on_page = [this, read, seen = absl::flat_hash_set<std::string>()](
                     const Texts& members) mutable {
    Texts ids;
    for (const std::string& member : members) {
      if (seen.insert(member).second) ids.push_back(member);
    }
    std::vector<SessionCommand> commands;
    ForEachBatch(ids.size(), [&](size_t begin, size_t end) {
      Texts batch(ids.begin() + begin, ids.begin() + end);
      commands.push_back(GatewaysCommand(keys_, batch));
      commands.back().done = [read,
                              batch = std::move(batch)](const Reply& reply) {
        return read(batch, reply);
      };
    });
    return commands;
  };
  WalkSet(&pipe_, WalkOptions(keys_.Gateways(), "list gateways"),
          std::move(on_page), Giving(results, std::move(done)));
}

void RedisSessionStore::Impl::RenewLease(
    const GatewayLease& lease, absl::Duration lifetime,
    Done<absl::optional<GatewayLease>> done) {
  using Previous = absl::optional<GatewayLease>;
  const auto result = std::make_shared<Previous>();
  const int64_t milliseconds = LifetimeMilliseconds(lifetime);
  std::vector<SessionCommand> commands;
  commands.push_back(
      ScriptCommand("renew the lease", redis::internal::kRenewLeaseScript,
                    {keys_.Lease(lease.gateway_id), keys_.Gateways()},
                    {EncodeLease(lease), absl::StrCat(milliseconds),
                     EscapeGatewayId(lease.gateway_id),
                     absl::StrCat(std::max(10 * milliseconds,
                                           kGatewaysLifetimeMillisecondsMin))},
                    1));
  commands.back().is_urgent = true;
  commands.back().done = [this, result,
                          id = lease.gateway_id](const Reply& reply) {
    if (!reply.ok()) return true;
    if ((*reply)->type != REDIS_REPLY_STRING) return false;
    const absl::string_view text = TextOf(*reply);
    if (!text.empty()) *result = DecodeLease(id, text);
    cleaner_.Step(id, clock_->NowNanoseconds());
    return true;
  };
  std::make_shared<CommandGroup>(&pipe_, Giving(result, std::move(done)))
      ->Submit(std::move(commands));
}

void RedisSessionStore::Impl::EndLease(const GatewayLease& lease,
                                       Done<Outcome> done) {
  const auto results = std::make_shared<std::vector<Outcome>>(1);
  std::vector<SessionCommand> commands;
  commands.push_back(ScriptCommand(
      "end the lease", redis::internal::kEndLeaseScript,
      {keys_.Lease(lease.gateway_id), keys_.Gateways(),
       keys_.Index(lease.gateway_id)},
      {redis::internal::RunText(lease.run), EscapeGatewayId(lease.gateway_id)},
      1));
  commands.back().is_urgent = true;
  commands.back().done =
      OutcomesInto(results, 0, 1, redis::internal::kOutcomesOfOwner);
  std::make_shared<CommandGroup>(&pipe_, [results, done = std::move(done)](
                                             absl::Status status) mutable {
    if (!status.ok()) {
      done(std::move(status));
    } else {
      done(results->front());
    }
  })->Submit(std::move(commands));
}

absl::StatusOr<std::shared_ptr<RedisSessionStore>> RedisSessionStore::Create(
    RedisOptions redis_options, RedisSessionStoreOptions options,
    std::shared_ptr<HostLookup> lookup) {
  if (absl::Status status = redis_options.Validate(); !status.ok()) {
    return status;
  }
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  return std::shared_ptr<RedisSessionStore>(new RedisSessionStore(
      std::make_unique<Impl>(RedisOptions::WithClock(std::move(redis_options)),
                             options, std::move(lookup))));
}

RedisSessionStore::RedisSessionStore(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

RedisSessionStore::~RedisSessionStore() = default;

RedisSessionStoreStats RedisSessionStore::GetStats() const {
  return impl_->GetStats();
}

absl::Status RedisSessionStore::Start() { return impl_->pipe()->Start(); }

void RedisSessionStore::Stop() { impl_->pipe()->Stop(); }

absl::Status RedisSessionStore::Health() const {
  return impl_->pipe()->Health();
}

void RedisSessionStore::Write(std::vector<StoredSession> sessions,
                              absl::Duration lifetime,
                              Done<std::vector<Outcome>> done) {
  const auto results = std::make_shared<std::vector<Outcome>>(sessions.size());
  Call(impl_->pipe(), impl_->batches().Write(sessions, lifetime, results),
       results, std::move(done));
}

void RedisSessionStore::Refresh(std::vector<SessionKey> keys,
                                absl::Duration lifetime,
                                Done<std::vector<Outcome>> done) {
  const auto results = std::make_shared<std::vector<Outcome>>(keys.size());
  Call(impl_->pipe(), impl_->batches().Refresh(keys, lifetime, results),
       results, std::move(done));
}

void RedisSessionStore::Remove(std::vector<SessionKey> keys,
                               Done<std::vector<Outcome>> done) {
  const auto results = std::make_shared<std::vector<Outcome>>(keys.size());
  Call(impl_->pipe(), impl_->batches().Remove(keys, results), results,
       std::move(done));
}

void RedisSessionStore::Adopt(std::vector<Adoption> adoptions,
                              absl::Duration lifetime,
                              Done<std::vector<Outcome>> done) {
  const auto results = std::make_shared<std::vector<Outcome>>(adoptions.size());
  Call(impl_->pipe(), impl_->batches().Adopt(adoptions, lifetime, results),
       results, std::move(done));
}

void RedisSessionStore::Find(std::vector<SocketAddress> clients,
                             Done<std::vector<Found>> done) {
  const auto results = std::make_shared<std::vector<Found>>(clients.size());
  Call(impl_->pipe(), impl_->batches().Find(clients, results), results,
       std::move(done));
}

void RedisSessionStore::List(const std::string& gateway_id,
                             Done<std::vector<StoredSession>> done) {
  impl_->List(gateway_id, std::move(done));
}

void RedisSessionStore::ListClients(const std::string& gateway_id,
                                    Done<std::vector<SocketAddress>> done) {
  impl_->ListClients(gateway_id, std::move(done));
}

void RedisSessionStore::RenewLease(GatewayLease lease, absl::Duration lifetime,
                                   Done<absl::optional<GatewayLease>> done) {
  impl_->RenewLease(lease, lifetime, std::move(done));
}

void RedisSessionStore::EndLease(const GatewayLease& lease,
                                 Done<Outcome> done) {
  impl_->EndLease(lease, std::move(done));
}

void RedisSessionStore::ListGateways(Done<std::vector<Gateway>> done) {
  impl_->ListGateways(std::move(done));
}

}  // namespace udpgate
