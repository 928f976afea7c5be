// What the parts of the data plane cost by themselves. Compare figures of one
// machine and one hour only.
//
//   bazel run --config=opt //testing/internal/bench:micro_benchmark
#include <benchmark/benchmark.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "udpgate/internal/net/client_hash.h"
#include "udpgate/internal/net/datagram_batch.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/session/admission.h"
#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/shard/inbox.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/proxy_options.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {
namespace {

constexpr int kPayloadBytes = 128;
constexpr uint64_t kSeed = 20240229;

// Different for each index, as clients behind many addresses are.
SocketAddress ClientAddress(uint32_t index) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(0x0a000000 + index / 8);
  address.sin_port = htons(static_cast<uint16_t>(20000 + index % 40000));
  return SocketAddress::FromSockaddr(
      reinterpret_cast<const sockaddr*>(&address), sizeof(address));
}

struct KnownClient {
  SocketAddress address;
  uint32_t hash;
};

// In an order that has nothing to do with the one of the table.
std::vector<KnownClient> ShuffledClients(int64_t count) {
  const ClientHash hash(kSeed);
  std::vector<KnownClient> clients;
  for (uint32_t i = 0; i < count; ++i) {
    const SocketAddress address = ClientAddress(i);
    clients.push_back({address, hash(address)});
  }
  std::shuffle(clients.begin(), clients.end(), std::mt19937(7));
  return clients;
}

void ClientHashOfAddress(benchmark::State& state) {
  const ClientHash hash(kSeed);
  const std::vector<KnownClient> clients = ShuffledClients(256);
  size_t i = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(hash(clients[i++ % clients.size()].address));
  }
}
BENCHMARK(ClientHashOfAddress);

void SessionTableFind(benchmark::State& state) {
  SessionTable table(0);
  std::vector<KnownClient> clients = ShuffledClients(state.range(0));
  for (const KnownClient& client : clients) {
    table.Insert(client.address, client.hash, 0);
  }
  std::shuffle(clients.begin(), clients.end(), std::mt19937(11));
  size_t next = 0;
  for (auto _ : state) {
    const KnownClient& client = clients[next];
    if (++next == clients.size()) next = 0;
    Session* const session = table.Find(client.address, client.hash);
    // As the worker does with each datagram.
    session->client_datagrams_forwarded += 1;
  }
}
BENCHMARK(SessionTableFind)->Arg(100)->Arg(5000)->Arg(20000);

// One session ends and another begins, in a table that stays as full.
void SessionTableEraseInsert(benchmark::State& state) {
  SessionTable table(0);
  const std::vector<KnownClient> clients = ShuffledClients(state.range(0) + 1);
  for (size_t i = 0; i + 1 < clients.size(); ++i) {
    table.Insert(clients[i].address, clients[i].hash, 0);
  }
  size_t missing = clients.size() - 1;
  for (auto _ : state) {
    const size_t oldest = missing + 1 == clients.size() ? 0 : missing + 1;
    table.Erase(table.Find(clients[oldest].address, clients[oldest].hash));
    table.Insert(clients[missing].address, clients[missing].hash, 0);
    missing = oldest;
  }
}
BENCHMARK(SessionTableEraseInsert)->Arg(100)->Arg(5000)->Arg(20000);

std::vector<ClientDatagram> Datagrams(const std::string& payload,
                                      int64_t count) {
  std::vector<ClientDatagram> datagrams;
  for (const KnownClient& client : ShuffledClients(count)) {
    ClientDatagram datagram;
    datagram.client = client.address;
    datagram.hash = client.hash;
    datagram.payload = payload;
    datagrams.push_back(datagram);
  }
  return datagrams;
}

// A batch through the inbox, from the reader's hands to the worker's.
void InboxPushPeekPop(benchmark::State& state) {
  const auto inbox = Inbox::Create(SysCalls::Real(), {4096, 16});
  if (!inbox.ok()) return state.SkipWithError("no inbox");
  const std::string payload(kPayloadBytes, 'x');
  const std::vector<ClientDatagram> datagrams =
      Datagrams(payload, state.range(0));
  std::vector<ClientDatagram> peeked;
  for (auto _ : state) {
    const int pushed = (*inbox)->Push(datagrams);
    (*inbox)->Peek(pushed, &peeked);
    benchmark::DoNotOptimize(peeked.data());
    (*inbox)->Pop(pushed);
    if (pushed != state.range(0)) return state.SkipWithError("did not fit");
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(InboxPushPeekPop)->Arg(1)->Arg(64);

// Replies to clients of a listen socket, up to the system call.
void SendBatchAssemble(benchmark::State& state) {
  const std::string payload(kPayloadBytes, 'x');
  const std::vector<ClientDatagram> datagrams =
      Datagrams(payload, state.range(0));
  const SocketAddress local = SocketAddress::Ipv4Loopback(0);
  SendBatch batch(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    batch.Clear();
    for (const ClientDatagram& datagram : datagrams) {
      batch.AddTo(datagram.payload, AF_INET, datagram.client, local);
    }
    benchmark::DoNotOptimize(batch.size());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(SendBatchAssemble)->Arg(1)->Arg(64);

// The whole life of a session, as far as the limits of the gateway are
// concerned, among so many others.
void AdmissionOfASession(benchmark::State& state) {
  ProxyLimits limits;
  limits.new_sessions_per_second = 0;
  Admission admission(limits, 1'000'000);
  const std::vector<KnownClient> clients = ShuffledClients(state.range(0));
  for (const KnownClient& client : clients) {
    admission.Adopt(client.address, SessionState::kConfirmed, 0);
  }
  size_t i = 0;
  for (auto _ : state) {
    const SocketAddress& client = clients[i].address;
    if (admission.Begin(client, 0, 0, [] { return false; }).has_value()) {
      return state.SkipWithError("refused");
    }
    admission.EndPending();
    admission.Confirm(client);
    admission.End(client, SessionState::kConfirmed);
    if (++i == clients.size()) i = 0;
  }
}
BENCHMARK(AdmissionOfASession)->Arg(1000)->Arg(50'000);

// A bound socket and one that is connected to it.
struct SocketPair {
  UniqueFd receiver{socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
  UniqueFd sender{socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};

  bool Connect() const {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* const raw_address = reinterpret_cast<sockaddr*>(&address);
    socklen_t size_bytes = sizeof(address);
    return bind(receiver.get(), raw_address, size_bytes) == 0 &&
           getsockname(receiver.get(), raw_address, &size_bytes) == 0 &&
           connect(sender.get(), raw_address, size_bytes) == 0;
  }
};

// A batch over loopback: nearly all of it is the kernel's.
void BatchOverLoopback(benchmark::State& state) {
  const SocketPair sockets;
  if (!sockets.Connect()) return state.SkipWithError("no sockets");
  SysCalls* const sys_calls = SysCalls::Real();
  const int count = static_cast<int>(state.range(0));
  const std::string payload(kPayloadBytes, 'x');
  SendBatch outgoing(count);
  ReceiveBatch incoming(count, ReceiveBatch::Extent::kControlAndSource);
  uint64_t ports = 0;
  for (auto _ : state) {
    outgoing.Clear();
    for (int i = 0; i < count; ++i) outgoing.Add(payload);
    const int sent = outgoing.Send(sys_calls, sockets.sender.get(), 0).value;
    const int received =
        incoming.Receive(sys_calls, sockets.receiver.get(), 0, count).value;
    if (sent != count || received != count) {
      return state.SkipWithError("a datagram was lost");
    }
    for (int i = 0; i < count; ++i) ports += incoming.source(i).port();
  }
  benchmark::DoNotOptimize(ports);
  state.SetItemsProcessed(state.iterations() * count);
}
BENCHMARK(BatchOverLoopback)->Arg(1)->Arg(64);

}  // namespace
}  // namespace internal
}  // namespace udpgate

BENCHMARK_MAIN();
