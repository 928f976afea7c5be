// How many records a second RedisSessionStore writes, refreshes, finds and
// lists, and what that costs Redis and the gateway.
//
//   bazel run -c opt //testing/internal/bench:session_store_benchmark
//   ... -- RECORDS
//
// Starts a redis-server of its own. Prints two tables.
#include <sys/resource.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "testing/await.h"
#include "testing/internal/support/redis_server.h"
#include "udpgate/dns/host_lookup.h"
#include "udpgate/redis/redis_session_store.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace bench {
namespace {

constexpr absl::Duration kLifetime = absl::Minutes(10);
constexpr char kGateway[] = "gateway-1.eu";
// Of the second table.
constexpr int kPlayersPerGateway = 10'000;
constexpr absl::Duration kSessionLength = absl::Minutes(30);
constexpr int kRecordsPerCall = 128;

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "%s\n", what.c_str());
  std::exit(1);
}

// What a number of INFO says; its section is that of CPU or of memory.
double InfoOf(const test::RedisServer& redis, const std::string& section,
              const std::string& name) {
  const absl::StatusOr<std::string> info = redis.Command({"INFO", section});
  if (!info.ok()) Die(info.status().ToString());
  for (const absl::string_view line : absl::StrSplit(*info, "\r\n")) {
    double value = 0;
    if (absl::StartsWith(line, absl::StrCat(name, ":")) &&
        absl::SimpleAtod(line.substr(name.size() + 1), &value)) {
      return value;
    }
  }
  Die(absl::StrCat("no ", name, " in INFO ", section));
}

double RedisCpuSeconds(const test::RedisServer& redis) {
  return InfoOf(redis, "cpu", "used_cpu_user") +
         InfoOf(redis, "cpu", "used_cpu_sys");
}

double OwnCpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) +
           static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::vector<StoredSession> Sessions(int count) {
  std::vector<StoredSession> sessions;
  for (int i = 0; i < count; ++i) {
    StoredSession session;
    session.client = *SocketAddress::Parse(
        absl::StrCat("203.", i / 62500 % 250, ".", i / 250 % 250, ".",
                     i % 250 + 1, ":", 40001 + i % 20000));
    session.local = *SocketAddress::Parse("198.51.100.1:19132");
    session.backend = *SocketAddress::Parse("10.0.0.5:19132");
    session.relay =
        *SocketAddress::Parse(absl::StrCat("10.0.0.1:", 1024 + i % 60000));
    session.label = "lobby-3.internal:19132";
    session.gateway_id = kGateway;
    session.token = {0x0123456789abcdef, static_cast<uint64_t>(i)};
    session.since = absl::FromUnixMillis(1'700'000'000'000 + i);
    sessions.push_back(std::move(session));
  }
  return sessions;
}

// Gives each call `batch` of the items, and waits for all.
template <typename Item, typename Result>
class Batches {
 public:
  using Call = std::function<void(std::vector<Item>,
                                  SessionStore::Done<std::vector<Result>>)>;

  static void Run(const std::vector<Item>& items, size_t batch,
                  const Call& call) {
    // As many at once as the queue of the store takes.
    constexpr size_t kItemsAtOnce = 32768;
    for (size_t begin = 0; begin < items.size(); begin += kItemsAtOnce) {
      const size_t end = std::min(begin + kItemsAtOnce, items.size());
      std::vector<std::promise<absl::Status>> promises(
          (end - begin + batch - 1) / batch);
      size_t at = begin;
      for (std::promise<absl::Status>& promise : promises) {
        const size_t stop = std::min(at + batch, end);
        call(std::vector<Item>(items.begin() + at, items.begin() + stop),
             [&promise](const absl::StatusOr<std::vector<Result>>& results) {
               promise.set_value(results.status());
             });
        at = stop;
      }
      for (std::promise<absl::Status>& promise : promises) {
        const absl::Status status = promise.get_future().get();
        if (!status.ok()) Die(status.ToString());
      }
    }
  }
};

class Benchmark {
 public:
  explicit Benchmark(int count) : sessions_(Sessions(count)) {
    if (const absl::Status status = redis_.Start(); !status.ok()) {
      Die(status.ToString());
    }
    RedisOptions options;
    options.address = redis_.tcp_address();
    options.command_timeout = absl::Seconds(30);
    store_ = *RedisSessionStore::Create(options, {}, *HostLookup::Create({}));
    if (!store_->Start().ok() ||
        !test::AwaitTrue([&] { return store_->Health().ok(); })) {
      Die("no connection to Redis");
    }
  }

  void Run() {
    std::printf("%-28s %12s %10s %18s %18s\n", "", "records/s", "commands",
                "Redis us/record", "gateway us/record");
    for (const StoredSession& session : sessions_) {
      keys_.push_back({session.client, session.token});
      clients_.push_back(session.client);
    }
    const double before = InfoOf(redis_, "memory", "used_memory_dataset");
    Measure("write, 128 a call", [&] { Write(128); });
    const double bytes =
        (InfoOf(redis_, "memory", "used_memory_dataset") - before) /
        static_cast<double>(sessions_.size());
    Measure("write again, 128 a call", [&] { Write(128); });
    costs_.write = Measure("write, 1 a call", [&] { Write(1); });
    costs_.refresh = Measure("refresh, 128 a call", [&] {
      Batches<SessionStore::SessionKey, SessionStore::Outcome>::Run(
          keys_, 128, [&](auto keys, auto done) {
            store_->Refresh(std::move(keys), kLifetime, std::move(done));
          });
    });
    for (const size_t batch : {size_t{1}, size_t{16}, size_t{128}}) {
      const double cost = Measure(absl::StrCat("find, ", batch, " a call"),
                                  [&] { Find(batch); });
      if (batch == 1) costs_.find = cost;
    }
    Measure("list", [&] { List(); });
    Measure("list clients", [&] { ListClients(); });
    Measure("adopt, 128 a call", [&] { Adopt(); });
    Measure("remove, 128 a call", [&] { Remove(128); });
    Write(128);
    Restore();
    costs_.remove = Measure("remove, 1 a call", [&] { Remove(1); });
    std::printf(
        "%d records, %.0f bytes of Redis each; a lifetime of %s needs %.0f "
        "refresh commands a second\n",
        static_cast<int>(sessions_.size()), bytes,
        absl::FormatDuration(kLifetime).c_str(),
        static_cast<double>(sessions_.size()) / 128 /
            (absl::ToDoubleSeconds(kLifetime) / 2));
    PrintFleets(bytes);
  }

 private:
  // Of Redis, in microseconds a record.
  struct Costs {
    double write = 0;
    double refresh = 0;
    double find = 0;
    double remove = 0;
  };

  // Each new session is looked for, written and removed by commands of its own,
  // which is the most that it can cost.
  void PrintFleets(double bytes) const {
    std::printf("\n%-10s %9s %14s %12s %12s %12s\n", "players", "gateways",
                "sessions/s", "commands/s", "core of Redis", "MiB of Redis");
    for (const int players : {10'000, 100'000, 1'000'000}) {
      const double gateways = 1.0 * players / kPlayersPerGateway;
      const double sessions_per_second =
          players / absl::ToDoubleSeconds(kSessionLength);
      const double refreshed_per_second =
          players / (absl::ToDoubleSeconds(kLifetime) / 2);
      const double commands_per_second =
          3 * sessions_per_second + refreshed_per_second / kRecordsPerCall +
          gateways;  // a lease a second
      const double microseconds_per_second =
          sessions_per_second * SessionCost() +
          refreshed_per_second * costs_.refresh;
      std::printf("%-10d %9.0f %14.0f %12.0f %11.2f %% %12.0f\n", players,
                  gateways, sessions_per_second, commands_per_second,
                  microseconds_per_second / 1e4, players * bytes / 1024 / 1024);
    }
    std::printf(
        "sessions of %s, %d players a gateway; one core of Redis takes %.0f "
        "new "
        "sessions a second\n",
        absl::FormatDuration(kSessionLength).c_str(), kPlayersPerGateway,
        1e6 / SessionCost());
  }
  double SessionCost() const {
    return costs_.find + costs_.write + costs_.remove;
  }

  // Redis' microseconds a record.
  double Measure(const std::string& name, const std::function<void()>& work) {
    const uint64_t commands = store_->GetStats().commands_sent;
    const double redis_before = RedisCpuSeconds(redis_);
    const double own_before = OwnCpuSeconds();
    const absl::Time begin = absl::Now();
    work();
    const double seconds = absl::ToDoubleSeconds(absl::Now() - begin);
    const double own = OwnCpuSeconds() - own_before;
    const double redis = RedisCpuSeconds(redis_) - redis_before;
    const double count = static_cast<double>(sessions_.size());
    std::printf("%-28s %12.0f %10d %18.2f %18.2f   %.3f s\n", name.c_str(),
                count / seconds,
                static_cast<int>(store_->GetStats().commands_sent - commands),
                redis * 1e6 / count, own * 1e6 / count, seconds);
    std::fflush(stdout);
    return redis * 1e6 / count;
  }
  void Write(size_t batch) {
    Batches<StoredSession, SessionStore::Outcome>::Run(
        sessions_, batch, [&](auto sessions, auto done) {
          store_->Write(std::move(sessions), kLifetime, std::move(done));
        });
  }
  void Find(size_t batch) {
    Batches<SocketAddress, SessionStore::Found>::Run(
        clients_, batch, [&](auto clients, auto done) {
          store_->Find(std::move(clients), std::move(done));
        });
  }
  void Remove(size_t batch) {
    Batches<SessionStore::SessionKey, SessionStore::Outcome>::Run(
        keys_, batch, [&](auto keys, auto done) {
          store_->Remove(std::move(keys), std::move(done));
        });
  }
  // Sessions that Adopt() gave another token have their own again.
  void Restore() {
    for (size_t i = 0; i < sessions_.size(); ++i) {
      keys_[i].token = sessions_[i].token;
    }
  }
  void Adopt() {
    std::vector<SessionStore::Adoption> adoptions;
    for (size_t i = 0; i < sessions_.size(); ++i) {
      adoptions.push_back({sessions_[i], sessions_[i].token, ""});
      adoptions.back().adopted.gateway_id = "gateway-2.eu";
      adoptions.back().adopted.token.run += 1;
      keys_[i].token.run += 1;
    }
    Batches<SessionStore::Adoption, SessionStore::Outcome>::Run(
        adoptions, 128, [&](auto batch, auto done) {
          store_->Adopt(std::move(batch), kLifetime, std::move(done));
        });
  }
  void List() {
    std::promise<absl::StatusOr<std::vector<StoredSession>>> promise;
    store_->List(kGateway,
                 [&](auto result) { promise.set_value(std::move(result)); });
    const auto result = promise.get_future().get();
    if (!result.ok()) Die(result.status().ToString());
    if (result->size() != sessions_.size()) Die("records are missing");
  }
  void ListClients() {
    std::promise<absl::StatusOr<std::vector<SocketAddress>>> promise;
    store_->ListClients(
        kGateway, [&](auto result) { promise.set_value(std::move(result)); });
    const auto result = promise.get_future().get();
    if (!result.ok()) Die(result.status().ToString());
    if (result->size() != sessions_.size()) Die("clients are missing");
  }

  const std::vector<StoredSession> sessions_;
  std::vector<SessionStore::SessionKey> keys_;
  std::vector<SocketAddress> clients_;
  test::RedisServer redis_;
  std::shared_ptr<RedisSessionStore> store_;
  Costs costs_;
};

int Run(int argc, char** argv) {
  int count = 50'000;
  if (argc > 2 || (argc == 2 && (!absl::SimpleAtoi(argv[1], &count) ||
                                 count < 1 || count > 1'000'000))) {
    std::fputs("usage: session_store_benchmark [RECORDS]\n", stderr);
    return 2;
  }
  Benchmark(count).Run();
  return 0;
}

}  // namespace
}  // namespace bench
}  // namespace udpgate

int main(int argc, char** argv) { return udpgate::bench::Run(argc, argv); }
