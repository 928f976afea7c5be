#include "testing/internal/simulation/forward_simulation.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "absl/time/time.h"
#include "udpgate/forward/internal/plain_cipher.h"
#include "udpgate/internal/net/listen_socket.h"
#include "udpgate/internal/shard/hop.h"
#include "udpgate/proxy_options.h"

namespace udpgate {
namespace internal {
namespace simulation {
namespace {

constexpr int kStepsPerSeed = 400;
constexpr int kRoundsMax = 1000;
constexpr int kHopPort = 7000;
constexpr size_t kFirstBackendPort = 1024;
constexpr int64_t kSecondNanoseconds = 1'000'000'000;

}  // namespace

ForwardSimulation::ForwardSimulation(uint64_t seed, ForwardCoverage* coverage)
    : random_(seed), coverage_(coverage), sys_calls_(this), clients_(kClients) {
  for (size_t i = 0; i < kClients; ++i) {
    clients_[i].address = Address("198.51.100.1", static_cast<int>(5000 + i));
  }
  for (size_t i = 0; i < kGateways; ++i) Start(i);
}

ForwardSimulation::~ForwardSimulation() {
  for (Gateway& gateway : gateways_) {
    gateway.results.clear();
    gateway.context->inboxes.clear();
    gateway.hop_reader.reset();
    gateway.reader.reset();
    gateway.worker.reset();
  }
}

void ForwardSimulation::Start(size_t index) {
  running_gateway_ = index;
  Gateway& gateway = gateways_[index];
  ProxyOptions options;
  options.log_sink = nullptr;
  options.listen_address = Address(absl::StrCat("10.0.0.", index + 1), 19132);
  options.forward_address =
      Address(absl::StrCat("10.0.1.", index + 1), kHopPort);
  options.batch_size = static_cast<int>(random_.Between(1, 8));
  options.queue_size_datagrams = static_cast<int>(random_.Between(2, 40));
  options.forwarded_clients_max =
      random_.OneIn(3) ? random_.Between(1, 3) : 100;
  options.forward_patience = absl::Milliseconds(random_.Between(50, 2000));
  options.limits.session_idle_timeout =
      absl::Milliseconds(random_.Between(500, 5000));
  options.limits.unconfirmed_reply_factor = 0;
  std::vector<uint16_t> ports;
  for (int i = 0; i < 100; ++i) {
    ports.push_back(static_cast<uint16_t>(40000 + 1000 * index + i));
  }
  gateway.context = std::make_unique<GateContext>(options, &clock_, &sys_calls_,
                                                  ClientHash(1), ports,
                                                  /*sessions_max=*/100);
  GateContext* const context = gateway.context.get();
  context->resolver = std::make_shared<Resolver>(this, index);
  context->hop =
      std::make_unique<Hop>(&sys_calls_, &clock_, &context->options,
                            std::make_shared<forward::internal::PlainKeys>());
  context->hop->unix_seconds = [this] {
    return clock_.NowNanoseconds() / kSecondNanoseconds + 1'000'000;
  };
  context->hop->new_sender_id = [index] { return uint64_t{100} + index; };
  const absl::Status opened = context->hop->Open();
  Require(opened.ok(), "the hop: ", opened.ToString());
  context->listeners =
      *OpenListenSockets(&sys_calls_, context->options, context->hash);
  gateway.worker = *Worker::Create(context, 0);
  context->inboxes = {gateway.worker->inbox()};
  gateway.reader = *Reader::Create(context, 0, {gateway.worker.get()});
  gateway.hop_reader = *HopReader::Create(context, {gateway.worker.get()});
  gateway.address = context->listeners[0].address;
}

std::string ForwardSimulation::Run() {
  for (int i = 0; i < kStepsPerSeed && broken_.empty(); ++i) {
    Step();
    Check();
  }
  Settle();
  Check();
  if (broken_.empty()) Stop();
  return broken_;
}

void ForwardSimulation::Step() {
  const auto gateway = static_cast<size_t>(random_.Below(kGateways));
  running_gateway_ = gateway;
  switch (random_.Below(20)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return ClientSends();
    case 4:
    case 5:
      gateways_[gateway].reader->ReadBatch();
      return;
    case 6:
    case 7:
    case 8:
      gateways_[gateway].hop_reader->ReadBatch();
      return;
    case 9:
    case 10:
      return Deliver();
    case 11:
    case 12:
      return Poll(gateway);
    case 13:
    case 14:
      return BackendReplies();
    case 15:
      return GiveResult(gateway);
    case 16:
      if (random_.OneIn(4)) return Disconnect();
      return random_.OneIn(2) ? Repeat() : Garbage();
    case 17:
      if (random_.OneIn(8)) return SwitchStandby();
      if (random_.OneIn(4)) return ForgetOwner();
      return;
    case 18:
      clock_.Advance(absl::Milliseconds(
          random_.Between(1, random_.OneIn(4) ? 3000 : 100)));
      return;
    default:
      if (random_.OneIn(3)) Settle();
  }
}

void ForwardSimulation::ClientSends() {
  const auto index = static_cast<uint32_t>(random_.Below(kClients));
  const auto to = static_cast<size_t>(random_.Below(kGateways));
  Client& client = clients_[index];
  for (int64_t i = random_.Between(1, 6); i > 0; --i) {
    const Tag tag{Tag::kFromClient, index, client.sent,
                  static_cast<uint32_t>(random_.Between(sizeof(Tag), 300))};
    if (!sys_calls_.Arrive(client.address, gateways_[to].address,
                           PayloadOf(tag))) {
      return;
    }
    client.sent_to[client.sent++] = to;
  }
}

void ForwardSimulation::BackendReplies() {
  if (upstreams_.empty()) return;
  auto found = upstreams_.begin();
  std::advance(found, random_.Below(static_cast<int64_t>(upstreams_.size())));
  const Upstream& upstream = found->second;
  for (int64_t i = random_.Between(1, 4); i > 0; --i) {
    const Tag tag{Tag::kFromBackend, upstream.client, next_reply_++,
                  static_cast<uint32_t>(random_.Between(sizeof(Tag), 300))};
    sys_calls_.Arrive(upstream.backend, upstream.relay, PayloadOf(tag));
  }
}

void ForwardSimulation::Disconnect() {
  ShardMessage message;
  message.kind = ShardMessage::Kind::kDisconnectClient;
  message.client = random_.OneOf(clients_).address;
  gateways_[running_gateway_].worker->inbox()->PostDisconnect(
      std::move(message));
}

void ForwardSimulation::SwitchStandby() {
  Gateway& gateway = gateways_[running_gateway_];
  const bool is_standby = !gateway.context->is_standby;
  gateway.context->is_standby = is_standby;
  if (!is_standby) return;
  ShardMessage message;
  message.kind = ShardMessage::Kind::kSupersedeAll;
  gateway.worker->inbox()->Post(std::move(message));
}

void ForwardSimulation::ForgetOwner() {
  gateways_[running_gateway_].context->hop->peers().Forget(
      gateways_[1 - running_gateway_].context->hop->address());
}

// Somebody on the network has heard an envelope.
void ForwardSimulation::Repeat() {
  if (past_.empty()) return;
  const InFlight& envelope = random_.OneOf(past_);
  if (sys_calls_.Arrive(envelope.from, envelope.to, envelope.payload)) {
    ++coverage_->repeated;
  }
}

void ForwardSimulation::Garbage() {
  InFlight envelope{Address("203.0.113.66", 6),
                    gateways_[running_gateway_].context->hop->address(),
                    std::string(random_.Below(200), 'x')};
  if (!past_.empty() && random_.OneIn(2)) {
    envelope = random_.OneOf(past_);
    char& changed = envelope.payload[random_.Below(
        static_cast<int64_t>(envelope.payload.size()))];
    changed = static_cast<char>(changed ^ (1 << random_.Below(8)));
  }
  sys_calls_.Arrive(envelope.from, envelope.to, envelope.payload);
}

void ForwardSimulation::Deliver() {
  for (int64_t i = random_.Between(1, 8); i > 0 && !in_flight_.empty(); --i) {
    const InFlight& envelope = in_flight_.front();
    // Networks lose some. Nobody repeats these: that would be a reordering.
    if (!random_.OneIn(30) &&
        sys_calls_.Arrive(envelope.from, envelope.to, envelope.payload)) {
      past_.push_back(envelope);
    }
    in_flight_.pop_front();
  }
}

void ForwardSimulation::Poll(size_t gateway) {
  running_gateway_ = gateway;
  gateways_[gateway].worker->PollOnce(0);
}

void ForwardSimulation::Resolve(size_t gateway, const ResolveRequest& request,
                                BackendResolver::Callback done) {
  const auto found = std::find_if(
      clients_.begin(), clients_.end(),
      [&](const Client& client) { return client.address == request.client; });
  Require(found != clients_.end(), "a resolution for a stranger");
  if (found == clients_.end()) return;
  ResolveResult result =
      ResultFor(gateway, static_cast<uint32_t>(found - clients_.begin()));
  if (random_.OneIn(2)) return done(std::move(result));
  gateways_[gateway].results.emplace_back(std::move(done), std::move(result));
}

ResolveResult ForwardSimulation::ResultFor(size_t gateway, uint32_t client) {
  ResolveResult result;
  const size_t other = 1 - gateway;
  const bool is_of_other = clients_[client].owner == static_cast<int>(other);
  const bool is_wrong = random_.OneIn(10);
  if (is_of_other != is_wrong) {
    result.forward_to = gateways_[other].context->hop->address();
    if (is_wrong) ++coverage_->wrong_owners;
  }
  if (!result.forward_to.is_valid() || random_.OneIn(2)) {
    result.backend =
        Address("203.0.113.1",
                static_cast<int>(kFirstBackendPort + backend_clients_.size()));
    backend_clients_.push_back(client);
  }
  return result;
}

void ForwardSimulation::GiveResult(size_t gateway) {
  auto& results = gateways_[gateway].results;
  if (results.empty()) return;
  auto result = std::move(results.front());
  results.erase(results.begin());
  result.first(std::move(result.second));
}

// Until there is nothing left to do.
void ForwardSimulation::Settle() {
  for (int round = 0; broken_.empty(); ++round) {
    Require(round < kRoundsMax, "it never comes to rest");
    bool has_work = !in_flight_.empty();
    while (!in_flight_.empty()) Deliver();
    for (size_t i = 0; i < kGateways; ++i) {
      running_gateway_ = i;
      Gateway& gateway = gateways_[i];
      while (!gateway.results.empty()) GiveResult(i);
      has_work = has_work || gateway.worker->inbox()->HasMessages() ||
                 gateway.worker->inbox()->HasDisconnects() ||
                 gateway.worker->inbox()->datagrams_waiting() > 0;
      while (sys_calls_.queued(gateway.reader->fd()) > 0) {
        has_work = true;
        gateway.reader->ReadBatch();
      }
      while (gateway.hop_reader->ReadBatch() > 0) has_work = true;
      Poll(i);
    }
    if (!has_work) return;
  }
}

void ForwardSimulation::Stop() {
  for (size_t i = 0; i < kGateways; ++i) {
    running_gateway_ = i;
    gateways_[i].worker->EndAllSessions();
  }
  Check();
  for (const Gateway& gateway : gateways_) {
    const ProxyStats stats = StatsOf(gateway);
    Require(stats.hop_clients == 0 && stats.datagrams_held == 0 &&
                stats.sessions_active + stats.sessions_pending == 0,
            "something is left after the stop");
    ProxyStats* const sum = &coverage_->stats;
    for (const ProxyStatField& field : ProxyStatFields()) {
      sum->*field.value += stats.*field.value;
    }
    for (size_t j = 0; j < kDropReasonCount; ++j) {
      sum->datagrams_dropped[j] += stats.datagrams_dropped[j];
    }
    for (size_t j = 0; j < kEndReasonCount; ++j) {
      sum->sessions_ended[j] += stats.sessions_ended[j];
    }
  }
}

ProxyStats ForwardSimulation::StatsOf(const Gateway& gateway) const {
  ProxyStats stats;
  gateway.reader->counters().AddTo(&stats);
  gateway.hop_reader->counters().AddTo(&stats);
  gateway.worker->counters().AddTo(&stats);
  stats.datagrams_held += gateway.worker->inbox()->datagrams_waiting();
  return stats;
}

void ForwardSimulation::Check() {
  for (const Gateway& gateway : gateways_) {
    if (!broken_.empty()) return;
    const ProxyStats stats = StatsOf(gateway);
    const uint64_t received =
        stats.client_datagrams_received + stats.backend_datagrams_received;
    const uint64_t handled = stats.client_datagrams_forwarded +
                             stats.backend_datagrams_forwarded +
                             stats.dropped_total() + stats.datagrams_held;
    // What a gateway says of a session may be queued, and is no datagram.
    Require(received <= handled &&
                handled - received <=
                    static_cast<uint64_t>(
                        gateway.worker->inbox()->datagrams_waiting()),
            "datagrams do not add up: ", received, " and ", handled);
    Require(stats.sessions_created == stats.sessions_active +
                                          stats.sessions_pending +
                                          stats.ended_total(),
            "sessions do not add up");
    Require(stats.hop_clients <= kClients &&
                static_cast<int64_t>(stats.hop_clients) <=
                    gateway.context->options.forwarded_clients_max,
            "more clients are forwarded than may be");
    Require(stats.hop_client_datagrams_sent +
                    stats.hop_client_datagrams_received +
                    stats.dropped(DropReason::kHopInvalid) +
                    stats.dropped(DropReason::kHopReplayed) <=
                stats.client_datagrams_received,
            "what came from a gateway was forwarded again");
  }
}

void ForwardSimulation::OnSent(int fd, const SocketAddress& from,
                               const SocketAddress& to,
                               absl::string_view payload) {
  for (const Gateway& gateway : gateways_) {
    if (gateway.context == nullptr || gateway.context->hop->fd() != fd)
      continue;
    in_flight_.push_back({from, to, std::string(payload)});
    return;
  }
  Tag tag;
  Require(payload.size() >= sizeof(tag), "a datagram to ", to.ToString(),
          " was cut to ", payload.size(), " bytes");
  if (!broken_.empty()) return;
  std::memcpy(&tag, payload.data(), sizeof(tag));
  Require(payload == PayloadOf(tag), "a datagram was changed");
  if (!broken_.empty()) return;
  const auto upstream = upstreams_.find(fd);
  if (upstream != upstreams_.end()) {
    OnToBackend(&upstream->second, tag);
  } else {
    OnToClient(from, to, tag);
  }
}

void ForwardSimulation::OnToBackend(Upstream* upstream, const Tag& tag) {
  Require(tag.kind == Tag::kFromClient && tag.index == upstream->client,
          "a backend gets what is not its client's");
  if (!broken_.empty()) return;
  Client& client = clients_[tag.index];
  Require(client.left.insert(tag.number).second, "datagram ", tag.number,
          " of client ", tag.index, " leaves twice");
  int64_t& last = upstream->last_left[client.sent_to[tag.number]];
  Require(static_cast<int64_t>(tag.number) > last, "datagram ", tag.number,
          " of client ", tag.index, " is late");
  last = tag.number;
}

void ForwardSimulation::OnToClient(const SocketAddress& from,
                                   const SocketAddress& to, const Tag& tag) {
  Require(tag.kind == Tag::kFromBackend && tag.index < kClients,
          "a client gets what no backend has sent");
  if (!broken_.empty()) return;
  const Client& client = clients_[tag.index];
  const bool has_written_there = std::any_of(
      client.sent_to.begin(), client.sent_to.end(),
      [&](const auto& sent) { return gateways_[sent.second].address == from; });
  Require(to == client.address && has_written_there, "a reply goes from ",
          from.ToString(), " to ", to.ToString());
  Require(replied_.insert(tag.number).second, "a reply is sent twice");
  const auto is_owner = [&](const auto& upstream) {
    return upstream.second.client == tag.index &&
           gateways_[upstream.second.gateway].address == from;
  };
  if (std::none_of(upstreams_.begin(), upstreams_.end(), is_owner)) {
    ++coverage_->replies_by_hop;
  }
}

void ForwardSimulation::OnWatched(int fd) {
  const SocketAddress backend = sys_calls_.peer(fd);
  if (!backend.is_valid()) return;
  const size_t number = backend.port() - kFirstBackendPort;
  Require(number < backend_clients_.size(), "connected to no backend");
  if (!broken_.empty()) return;
  Upstream upstream;
  upstream.gateway = running_gateway_;
  upstream.relay = sys_calls_.local(fd);
  upstream.backend = backend;
  upstream.client = backend_clients_[number];
  clients_[upstream.client].owner = static_cast<int>(running_gateway_);
  upstreams_[fd] = upstream;
}

void ForwardSimulation::OnClosed(int fd) {
  const auto found = upstreams_.find(fd);
  if (found == upstreams_.end()) return;
  Client& client = clients_[found->second.client];
  if (client.owner == static_cast<int>(found->second.gateway)) {
    client.owner = -1;
  }
  upstreams_.erase(found);
}

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
