#include "testing/internal/support/redis_cluster_servers.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "testing/await.h"

namespace udpgate {
namespace test {
namespace {

constexpr int kSlots = 16384;
constexpr int kNodeTimeoutMilliseconds = 1000;

}  // namespace

RedisClusterServers::RedisClusterServers(
    const RedisClusterServersOptions& options)
    : options_(options) {
  for (int i = 0; i < options.masters + options.replicas; ++i) {
    RedisServerOptions server = options.server;
    // The default bus port may be one that the kernel gives to others.
    for (const std::string& argument :
         {std::string("--cluster-enabled"), std::string("yes"),
          std::string("--cluster-port"), absl::StrCat(FreeTcpPort()),
          std::string("--cluster-node-timeout"),
          absl::StrCat(kNodeTimeoutMilliseconds),
          // A replica that has just been added may replace its master.
          std::string("--cluster-replica-validity-factor"), std::string("0"),
          std::string("--repl-diskless-sync-delay"), std::string("0")}) {
      server.extra_arguments.push_back(argument);
    }
    if (!options.tls_arguments.empty()) {
      tls_ports_.push_back(FreeTcpPort());
      server.extra_arguments.insert(
          server.extra_arguments.end(),
          {"--tls-port", absl::StrCat(tls_ports_.back())});
      server.extra_arguments.insert(server.extra_arguments.end(),
                                    options.tls_arguments.begin(),
                                    options.tls_arguments.end());
    }
    servers_.push_back(std::make_unique<RedisServer>(std::move(server)));
  }
}

absl::Status RedisClusterServers::Start() {
  for (const auto& server : servers_) {
    if (absl::Status status = server->Start(); !status.ok()) return status;
  }
  if (absl::Status status = Assign(); !status.ok()) return status;
  if (absl::Status status = Meet(); !status.ok()) return status;
  if (!AwaitAllKnown()) return absl::UnavailableError("servers do not meet");
  if (absl::Status status = Replicate(); !status.ok()) return status;
  for (size_t i = 0; i < size(); ++i) {
    if (!AwaitTrue([&] { return IsWorking(i); })) {
      return absl::UnavailableError("the Cluster does not work");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> RedisClusterServers::PortsOf(
    size_t index) const {
  const auto bus = servers_[index]->Command({"CONFIG", "GET", "cluster-port"});
  if (!bus.ok()) return bus.status();
  const std::vector<std::string> name_and_port = absl::StrSplit(*bus, '\n');
  return std::vector<std::string>{
      absl::StrCat(tls_ports_.empty() ? servers_[index]->port()
                                      : tls_ports_[index]),
      name_and_port.back()};
}

absl::Status RedisClusterServers::Assign() {
  for (size_t i = 0; i < size(); ++i) {
    // Else they would have to agree first.
    auto done = servers_[i]->Command(
        {"CLUSTER", "SET-CONFIG-EPOCH", absl::StrCat(i + 1)});
    if (!done.ok()) return done.status();
    const int number = static_cast<int>(i);
    if (number < options_.masters) {
      done = servers_[i]->Command(
          {"CLUSTER", "ADDSLOTSRANGE",
           absl::StrCat(number * kSlots / options_.masters),
           absl::StrCat((number + 1) * kSlots / options_.masters - 1)});
      if (!done.ok()) return done.status();
    }
  }
  return absl::OkStatus();
}

absl::Status RedisClusterServers::Meet() {
  for (size_t i = 0; i < size(); ++i) {
    const auto ports = PortsOf(i);
    if (!ports.ok()) return ports.status();
    for (const auto& other : servers_) {
      const auto done = other->Command(
          {"CLUSTER", "MEET", "127.0.0.1", (*ports)[0], (*ports)[1]});
      if (!done.ok()) return done.status();
    }
  }
  return absl::OkStatus();
}

bool RedisClusterServers::AwaitAllKnown() const {
  return std::all_of(servers_.begin(), servers_.end(), [&](const auto& server) {
    return AwaitTrue([&] {
      const auto nodes = server->Command({"CLUSTER", "NODES"});
      return nodes.ok() && !absl::StrContains(*nodes, "handshake") &&
             std::count(nodes->begin(), nodes->end(), '\n') ==
                 static_cast<int>(size());
    });
  });
}

absl::Status RedisClusterServers::Replicate() {
  const auto masters = static_cast<size_t>(options_.masters);
  for (size_t i = masters; i < size(); ++i) {
    const auto id = IdOf(i - masters);
    if (!id.ok()) return id.status();
    const auto done = servers_[i]->Command({"CLUSTER", "REPLICATE", *id});
    if (!done.ok()) return done.status();
    const bool is_known = AwaitTrue([&] {
      const auto nodes = servers_[0]->Command({"CLUSTER", "NODES"});
      const auto info = servers_[i]->Command({"INFO", "replication"});
      return nodes.ok() && absl::StrContains(*nodes, "slave") && info.ok() &&
             absl::StrContains(*info, "master_link_status:up");
    });
    if (!is_known) return absl::UnavailableError("no replica");
  }
  return absl::OkStatus();
}

std::string RedisClusterServers::addresses() const {
  return absl::StrJoin(servers_, ",", [](std::string* out, const auto& server) {
    absl::StrAppend(out, server->tcp_address());
  });
}

std::string RedisClusterServers::tls_address(size_t index) const {
  return absl::StrCat("127.0.0.1:", tls_ports_[index]);
}

bool RedisClusterServers::IsWorking(size_t index) const {
  const auto info = servers_[index]->Command({"CLUSTER", "INFO"});
  return info.ok() && absl::StrContains(*info, "cluster_state:ok");
}

absl::StatusOr<std::string> RedisClusterServers::IdOf(size_t index) const {
  return servers_[index]->Command({"CLUSTER", "MYID"});
}

absl::StatusOr<int> RedisClusterServers::SlotOf(const std::string& key) const {
  for (const auto& server : servers_) {
    if (!server->running()) continue;
    const auto slot = server->Command({"CLUSTER", "KEYSLOT", key});
    int number;
    if (slot.ok() && absl::SimpleAtoi(*slot, &number)) return number;
  }
  return absl::UnavailableError("no server replies");
}

absl::StatusOr<size_t> RedisClusterServers::OwnerOf(
    const std::string& key) const {
  for (size_t i = 0; i < size(); ++i) {
    if (!servers_[i]->running()) continue;
    const auto type = servers_[i]->Command({"TYPE", key});
    if (type.ok()) return i;
  }
  return absl::NotFoundError("no server serves the key");
}

absl::StatusOr<std::string> RedisClusterServers::Command(
    const std::vector<std::string>& arguments) const {
  const auto owner = OwnerOf(arguments[1]);
  if (!owner.ok()) return owner.status();
  return servers_[*owner]->Command(arguments);
}

absl::Status RedisClusterServers::BeginMove(int slot, size_t from, size_t to) {
  const auto from_id = IdOf(from);
  const auto to_id = IdOf(to);
  if (!from_id.ok() || !to_id.ok()) return absl::UnavailableError("no id");
  const std::string text = absl::StrCat(slot);
  const auto importing = servers_[to]->Command(
      {"CLUSTER", "SETSLOT", text, "IMPORTING", *from_id});
  if (!importing.ok()) return importing.status();
  return servers_[from]
      ->Command({"CLUSTER", "SETSLOT", text, "MIGRATING", *to_id})
      .status();
}

absl::Status RedisClusterServers::MoveKeys(int slot, size_t from, size_t to) {
  for (;;) {
    const auto keys = servers_[from]->Command(
        {"CLUSTER", "GETKEYSINSLOT", absl::StrCat(slot), "1"});
    if (!keys.ok()) return keys.status();
    if (keys->empty()) return absl::OkStatus();
    const auto moved = servers_[from]->Command(
        {"MIGRATE", "127.0.0.1", absl::StrCat(servers_[to]->port()), *keys, "0",
         "5000"});
    if (!moved.ok()) return moved.status();
  }
}

absl::Status RedisClusterServers::EndMove(int slot, size_t from, size_t to) {
  const auto to_id = IdOf(to);
  if (!to_id.ok()) return to_id.status();
  for (const size_t index : {to, from}) {
    const auto done = servers_[index]->Command(
        {"CLUSTER", "SETSLOT", absl::StrCat(slot), "NODE", *to_id});
    if (!done.ok()) return done.status();
  }
  return absl::OkStatus();
}

absl::Status RedisClusterServers::MoveSlot(int slot, size_t from, size_t to) {
  if (absl::Status status = BeginMove(slot, from, to); !status.ok()) {
    return status;
  }
  if (absl::Status status = MoveKeys(slot, from, to); !status.ok()) {
    return status;
  }
  return EndMove(slot, from, to);
}

}  // namespace test
}  // namespace udpgate
