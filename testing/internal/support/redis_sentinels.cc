#include "testing/internal/support/redis_sentinels.h"

#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "testing/await.h"

namespace udpgate {
namespace test {
namespace {

bool Says(const RedisServer& server, const std::vector<std::string>& command,
          const std::string& part) {
  const absl::StatusOr<std::string> reply = server.Command(command);
  return reply.ok() && absl::StrContains(*reply, part);
}

}  // namespace

RedisSentinels::RedisSentinels(RedisSentinelsOptions options)
    : options_(std::move(options)) {}

absl::Status RedisSentinels::Start() {
  RedisServerOptions master;
  master.password = options_.password;
  if (!options_.password.empty()) {
    // It may be a replica later.
    master.extra_arguments = {"--requirepass", options_.password,
                              "--masterauth", options_.password};
  }
  master_ = std::make_unique<RedisServer>(master);
  if (absl::Status started = master_->Start(); !started.ok()) return started;
  if (absl::Status started = StartReplica(); !started.ok()) return started;
  return StartSentinels();
}

absl::Status RedisSentinels::StartReplica() {
  RedisServerOptions replica;
  replica.password = options_.password;
  replica.extra_arguments = {"--replicaof", "127.0.0.1",
                             absl::StrCat(master_->port())};
  if (!options_.password.empty()) {
    replica.extra_arguments.insert(replica.extra_arguments.end(),
                                   {"--requirepass", options_.password,
                                    "--masterauth", options_.password});
  }
  replica_ = std::make_unique<RedisServer>(replica);
  if (absl::Status started = replica_->Start(); !started.ok()) return started;
  if (!AwaitTrue([&] { return Says(*master_, {"INFO"}, "state=online"); })) {
    return absl::UnavailableError("the replica does not get in step");
  }
  return absl::OkStatus();
}

absl::Status RedisSentinels::StartSentinels() {
  const std::string& name = options_.master_name;
  RedisServerOptions sentinel;
  sentinel.password = options_.sentinel_password;
  absl::StrAppend(&sentinel.sentinel_configuration, "sentinel monitor ", name,
                  " 127.0.0.1 ", master_->port(),
                  " 2\nsentinel down-after-milliseconds ", name,
                  " 1000\nsentinel failover-timeout ", name, " 5000\n");
  if (!options_.password.empty()) {
    absl::StrAppend(&sentinel.sentinel_configuration, "sentinel auth-pass ",
                    name, " ", options_.password, "\n");
  }
  if (!options_.sentinel_password.empty()) {
    absl::StrAppend(&sentinel.sentinel_configuration, "requirepass ",
                    options_.sentinel_password, "\nsentinel sentinel-pass ",
                    options_.sentinel_password, "\n");
  }
  absl::StrAppend(&sentinel.sentinel_configuration,
                  options_.sentinel_configuration);
  for (auto& server : sentinels_) {
    server = std::make_unique<RedisServer>(sentinel);
    if (absl::Status started = server->Start(); !started.ok()) return started;
  }
  for (const auto& server : sentinels_) {
    const bool is_ready = AwaitTrue([&] {
      return Says(*server, {"SENTINEL", "CKQUORUM", name}, "OK 3 usable") &&
             Says(*server, {"SENTINEL", "MASTER", name},
                  "num-other-sentinels\n2") &&
             Says(*server, {"SENTINEL", "REPLICAS", name}, "port");
    });
    if (!is_ready) {
      return absl::UnavailableError("the sentinels do not find each other");
    }
  }
  return absl::OkStatus();
}

uint16_t RedisSentinels::NamedMasterPort() const {
  for (const auto& server : sentinels_) {
    if (Says(*server,
             {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", options_.master_name},
             absl::StrCat("127.0.0.1\n", replica_->port()))) {
      return replica_->port();
    }
  }
  return master_->port();
}

std::string RedisSentinels::addresses() const {
  std::string addresses;
  for (const auto& server : sentinels_) {
    absl::StrAppend(&addresses, addresses.empty() ? "" : ",",
                    server->tcp_address());
  }
  return addresses;
}

}  // namespace test
}  // namespace udpgate
