#include "testing/internal/simulation/fleet_simulation.h"

#include <algorithm>
#include <set>

#include "absl/status/status.h"
#include "absl/strings/str_join.h"
#include "udpgate/stored_session.h"

namespace udpgate {
namespace internal {
namespace simulation {
namespace {

using Key = std::pair<uint64_t, uint64_t>;
using Link = test::FakeSessionStore::Link;
using StoreLie = test::FakeSessionStore::Lie;

constexpr int64_t kSecond = 1'000'000'000;

constexpr int kFirstForwardPort = 7000;

// How long a call may be on its way to the store.
constexpr int64_t kLateMax = 5 * kSecond;

// Until a healthy gateway knows who owns its sessions: a lease, the longest
// pause after errors, a call that times out, and a few calls.
constexpr int64_t kOwnerTimeMax = 10 * kSecond;

// What a process that starts reads of the stream of events.
constexpr int64_t kEventAgeMax = 60 * kSecond;

// Events of one client are so far apart, see
// SessionKeeperOptions::clock_difference_max.
constexpr int64_t kEventInterval = 2 * kSecond;

}  // namespace

// Names the assigned backend: at once, late, or never.
class FleetSimulation::Inner final : public BackendResolver {
 public:
  explicit Inner(FleetSimulation* simulation) : simulation_(simulation) {}

  void Resolve(const ResolveRequest& request, Callback done) override {
    if (simulation_->random_.OneIn(20)) return;
    if (simulation_->random_.OneIn(8)) {
      waiting.push_back({request.client, std::move(done)});
      return;
    }
    Answer(request.client, std::move(done));
  }

  void AnswerOne() {
    if (waiting.empty()) return;
    auto first = std::move(waiting.front());
    waiting.pop_front();
    Answer(first.first, std::move(first.second));
  }

  // Callbacks may hold this resolver.
  void ForgetWaiting() {
    decltype(waiting) forgotten;
    forgotten.swap(waiting);
  }

 private:
  void Answer(const SocketAddress& address, Callback done) {
    const int client = address.port() - 1000;
    const int backend = simulation_->assigned_[client];
    if (simulation_->random_.OneIn(15)) {
      return done(absl::NotFoundError("no backend"));
    }
    simulation_->model_.Grant(client, backend, simulation_->now());
    done(ResolveResult{BackendAddress(backend), absl::StrCat("b", backend)});
  }

  FleetSimulation* const simulation_;
  std::deque<std::pair<SocketAddress, Callback>> waiting;
};

FleetSimulation::FleetSimulation(uint64_t seed, FleetModel::Coverage* coverage)
    : random_(seed) {
  model_.coverage = coverage;
  is_vrrp_ = random_.OneIn(3);
  clocks_jump_ = random_.OneIn(4);
  forwards_ = random_.OneIn(2);
  inner_ = std::make_shared<Inner>(this);
  options_.record_lifetime = absl::Seconds(random_.Between(10, 40));
  options_.sweep_interval = absl::Seconds(random_.Between(1, 10));
  options_.is_standby = is_vrrp_;
  options_.log_sink = nullptr;
  if (random_.OneIn(4)) options_.queue_max = 4;
  if (random_.OneIn(4)) options_.newcomers_waiting_max = 2;
  if (random_.OneIn(4)) options_.standby_sessions_max = 3;
  for (int i = 0; i < kClients; ++i) {
    assigned_.push_back(static_cast<int>(random_.Below(kBackends)));
    routes_.push_back(0);
    last_event_.push_back(-kEventInterval);
  }
  const int64_t count = is_vrrp_ ? 2 : random_.Between(2, 3);
  for (int64_t i = 0; i < count; ++i) {
    Slot slot;
    slot.id = absl::StrCat("g", i);
    slot.has_address = !is_vrrp_ || i == 0;
    slot.clock_offset = absl::Milliseconds(random_.Between(-200, 200));
    slots_.push_back(std::move(slot));
  }
  for (Slot& slot : slots_) StartGate(&slot);
}

FleetSimulation::~FleetSimulation() { inner_->ForgetWaiting(); }

std::string FleetSimulation::History() const {
  return absl::StrJoin(history_, "\n");
}

std::string FleetSimulation::Run() {
  const int64_t steps = random_.Between(40, 120);
  for (int64_t step = 0; step < steps && model_.broken.empty(); ++step) {
    Step();
    CheckAlways();
  }
  if (model_.broken.empty()) Finish();
  return model_.broken;
}

void FleetSimulation::Step() {
  const int64_t what = random_.Below(100);
  if (what < 60) {
    ActOnClient();
  } else if (what < 72) {
    ActOnStore();
  } else if (what < 82) {
    ActOnFleet();
  }
  Advance(absl::Milliseconds(random_.OneIn(12) ? random_.Between(1, 6000)
                                               : random_.Between(1, 250)));
}

void FleetSimulation::ActOnClient() {
  const int64_t what = random_.Below(20);
  if (what < 11) return Send(AnyClient());
  if (what < 15) return ConfirmOne();
  if (what < 17) return EndOne();
  if (what == 17) return Publish();
  if (what == 18) return inner_->AnswerOne();
  const int client = AnyClient();
  assigned_[client] = static_cast<int>(random_.Below(kBackends));
  Note("client ", client, " is assigned to backend ", assigned_[client]);
}

void FleetSimulation::ActOnFleet() {
  Slot& slot = AnySlot();
  if (slot.gate == nullptr) return StartGate(&slot);
  switch (random_.Below(5)) {
    case 0:
      return Crash(&slot);
    case 1:
      return StopGracefully(&slot);
    case 2:
      return TakeOver(&slot);
    case 3:
      return is_vrrp_ ? MoveAddress() : Crash(&slot);
    default:
      if (clocks_jump_) JumpClock();
  }
}

void FleetSimulation::ActOnStore() {
  switch (random_.Below(4)) {
    case 0:
      return Lie();
    case 1:
      return DisturbStore();
    default:
      return ChangeLink();
  }
}

void FleetSimulation::Send(int client) {
  if (random_.OneIn(8)) {
    routes_[client] = random_.Below(slots_.size());
    model_.Meet("moved");
  }
  Slot* slot = &slots_[routes_[client]];
  // The network finds a gateway that is there.
  for (size_t i = 0;
       i < slots_.size() && (slot->gate == nullptr || !slot->has_address);
       ++i) {
    routes_[client] = (routes_[client] + 1) % slots_.size();
    slot = &slots_[routes_[client]];
  }
  if (slot->gate == nullptr || !slot->has_address) return;
  SettleAll();
  const FleetGate* at = nullptr;
  const FleetGate::Session* const session =
      slot->gate->Receive(ClientAddress(client), &at);
  Note("client ", client, " sends to ", slot->id, ": ",
       session == nullptr
           ? "waits"
           : absl::StrCat("backend ", BackendOf(session->info.backend)));
  if (session == nullptr) return;
  if (at != slot->gate.get()) model_.Meet("forwarded");
  CheckForward(at, client, *session);
  if (random_.OneIn(2)) slot->gate->Confirm(ClientAddress(client));
}

void FleetSimulation::ConfirmOne() {
  const int client = AnyClient();
  Slot& slot = slots_[routes_[client]];
  if (slot.gate == nullptr || !slot.has_address) return;
  slot.gate->Confirm(ClientAddress(client));
  Note("client ", client, " is confirmed at ", slot.id);
}

void FleetSimulation::EndOne() {
  const int client = AnyClient();
  Slot& slot = AnySlot();
  if (slot.gate == nullptr) return;
  const bool is_told = !random_.OneIn(3);
  if (!is_told) model_.Meet("event dropped");
  slot.gate->End(ClientAddress(client), EndReason::kIdle, is_told);
  Note("client ", client, " ends at ", slot.id, is_told ? "" : ", untold");
}

void FleetSimulation::Publish() {
  FleetModel::Event event{-1, -1, now()};
  if (random_.OneIn(2)) {
    event.client = AnyClient();
    if (now() - last_event_[event.client] < kEventInterval) return;
    last_event_[event.client] = now();
  } else {
    event.backend = static_cast<int>(random_.Below(kBackends));
    for (int64_t& last : last_event_) {
      if (now() - last < kEventInterval) return;
    }
    for (int64_t& last : last_event_) last = now();
  }
  model_.Meet("disconnect");
  Note("disconnect of client ", event.client, ", backend ", event.backend);
  const size_t number = model_.events.size();
  model_.events.push_back(event);
  for (Slot& slot : slots_) {
    if (slot.gate == nullptr) continue;
    const int64_t delay =
        random_.OneIn(3) ? random_.Between(0, 300) * 1'000'000 : 0;
    const int64_t last = slot.due.empty() ? 0 : slot.due.back().first;
    slot.due.emplace_back(std::max(now() + delay, last), number);
  }
}

void FleetSimulation::Deliver(Slot* slot) {
  while (slot->gate != nullptr && !slot->due.empty() &&
         slot->due.front().first <= now()) {
    const size_t number = slot->due.front().second;
    slot->due.pop_front();
    slot->delivered.push_back(number);
    const FleetModel::Event& event = model_.events[number];
    slot->gate->Disconnect(
        event.client >= 0
            ? DisconnectTarget::ForClient(ClientAddress(event.client))
            : DisconnectTarget::ForBackend(BackendAddress(event.backend)),
        absl::Nanoseconds(now() - event.time));
    Note(slot->id, " hears of disconnect ", number);
  }
}

void FleetSimulation::ChangeLink() {
  Slot& slot = AnySlot();
  if (slot.gate == nullptr) return;
  Link link;
  const auto milliseconds = [this](int64_t first, int64_t last) {
    return absl::Milliseconds(random_.Between(first, last));
  };
  const char* name = "good";
  switch (random_.Below(8)) {
    case 0:
    case 1:
      link.is_cut = true;
      name = "cut";
      break;
    case 2:
      link.loses_replies = true;
      name = "without replies";
      break;
    case 3:
      link.request_delay = milliseconds(1000, kLateMax / 1'000'000);
      name = "late";
      break;
    case 4:
      link.request_delay = milliseconds(0, 300);
      link.reply_delay = milliseconds(0, 300);
      name = "slow";
      break;
    default:
      link.request_delay = milliseconds(0, 2);
      break;
  }
  model_.Meet(absl::StrCat("link ", name));
  Note("the link of ", slot.id, " is ", name);
  slot.is_faulty = link.is_cut || link.loses_replies ||
                   link.request_delay > absl::Seconds(1);
  slot.gate->connection().SetLink(link);
  Unhealthy(&slot);
}

void FleetSimulation::Lie() {
  Slot& slot = AnySlot();
  if (slot.gate == nullptr) return;
  const auto lie =
      static_cast<StoreLie>(random_.OneIn(2) ? 0 : random_.Between(1, 4));
  model_.Meet("lie");
  Note("the store lies to ", slot.id, ": ", static_cast<int>(lie));
  slot.gate->connection().SetLie(lie);
  slot.is_faulty = slot.is_faulty || lie != StoreLie::kNone;
  Unhealthy(&slot);
}

void FleetSimulation::DisturbStore() {
  disturbed_at_ = now();
  if (random_.OneIn(4)) {
    store_.Clear();
    model_.Meet("store emptied");
    Note("the store is empty");
  } else if (has_snapshot_ && random_.OneIn(2)) {
    store_.Restore(snapshot_);
    model_.Meet("store restored");
    Note("the store is restored");
  } else {
    snapshot_ = store_.TakeSnapshot();
    has_snapshot_ = true;
    Note("snapshot");
  }
}

std::unique_ptr<FleetGate> FleetSimulation::NewGate(const Slot& slot) {
  FleetGate::Parts parts;
  parts.options = options_;
  parts.options.gateway_id = slot.id;
  parts.connection = store_.Connect();
  parts.inner = inner_;
  parts.clock = &clock_;
  parts.local = SocketAddress::Ipv4Loopback(19132);
  // The numbers that a generator would give are spread as well.
  parts.run = next_run_++ * 0x9e3779b97f4a7c15;
  parts.clock_offset = slot.clock_offset;
  if (forwards_) {
    parts.options.forward_address =
        absl::StrCat("10.0.0.1:", kFirstForwardPort + (&slot - slots_.data()));
  }
  parts.peer = [this](const SocketAddress& address) {
    return slots_[address.port() - kFirstForwardPort].gate.get();
  };
  return std::make_unique<FleetGate>(std::move(parts));
}

void FleetSimulation::StartGate(Slot* slot) {
  slot->gate = NewGate(*slot);
  slot->is_faulty = false;
  slot->delivered.clear();
  slot->due.clear();
  Note(slot->id, " starts");
  slot->gate->Start();
  if (is_vrrp_ && slot->has_address) (*slot->gate).host().core()->Promote();
  // It reads the stream of events from some time ago.
  for (size_t i = 0; i < model_.events.size(); ++i) {
    if (now() - model_.events[i].time <= kEventAgeMax) {
      slot->due.emplace_back(now() + 1'000'000, i);
    }
  }
  Unhealthy(slot);
}

void FleetSimulation::Crash(Slot* slot) {
  Note(slot->id, " crashes");
  model_.Meet("crash");
  slot->gate.reset();
}

void FleetSimulation::StopGracefully(Slot* slot) {
  Note(slot->id, " stops");
  model_.Meet("stop");
  slot->gate->StopAll();
  slot->gate->host().SetTime();
  slot->gate->host().core()->BeginStop(/*ends_run=*/true);
  Advance(absl::Milliseconds(50));
  slot->gate.reset();
}

void FleetSimulation::TakeOver(Slot* slot) {
  Note(slot->id, " is taken over");
  model_.Meet("takeover");
  std::unique_ptr<FleetGate> gate = NewGate(*slot);
  gate->TakeOver(slot->gate.get());
  slot->gate = std::move(gate);
  slot->is_faulty = false;
  Unhealthy(slot);
}

void FleetSimulation::MoveAddress() {
  Slot* const from = &slots_[slots_[0].has_address ? 0 : 1];
  Slot* const to = from == &slots_[0] ? &slots_[1] : &slots_[0];
  to->has_address = true;
  from->has_address = false;
  to->demote_at = 0;
  Note("the address moves to ", to->id);
  model_.Meet("promoted");
  if (to->gate != nullptr) {
    to->gate->host().SetTime();
    to->gate->host().core()->Promote();
  }
  // It learns that soon, or late.
  from->demote_at = now() + random_.Between(0, 4000) * 1'000'000 + 1;
  Unhealthy(from);
  Unhealthy(to);
}

void FleetSimulation::JumpClock() {
  Slot& slot = AnySlot();
  slot.clock_offset = absl::Seconds(random_.Between(-4000, 4000));
  model_.Meet("clock jumped");
  Note("the clock of ", slot.id, " jumps");
  if (slot.gate != nullptr) slot.gate->host().clock_offset = slot.clock_offset;
}

void FleetSimulation::SettleAll() {
  store_.Run();
  for (Slot& slot : slots_) {
    if (slot.gate == nullptr) continue;
    if (slot.demote_at != 0 && slot.demote_at <= now()) {
      slot.demote_at = 0;
      slot.gate->host().SetTime();
      slot.gate->host().core()->Demote();
      model_.Meet("demoted");
      Note(slot.id, " is demoted");
      Unhealthy(&slot);
    }
    Deliver(&slot);
    slot.gate->host().Settle();
    slot.gate->ExpirePending(absl::Seconds(3));
  }
}

void FleetSimulation::Advance(absl::Duration time) {
  const int64_t end = now() + absl::ToInt64Nanoseconds(time);
  while (true) {
    SettleAll();
    if (now() >= end) return;
    int64_t next = std::min(end, store_.next_nanoseconds().value_or(end));
    for (const Slot& slot : slots_) {
      if (slot.gate == nullptr) continue;
      next = std::min(next, slot.gate->host().next_nanoseconds());
      if (!slot.due.empty()) next = std::min(next, slot.due.front().first);
    }
    clock_.Advance(absl::Nanoseconds(std::max<int64_t>(next - now(), 1)));
  }
}

void FleetSimulation::CheckForward(const FleetGate* gate, int client,
                                   const FleetGate::Session& session) {
  const Slot& slot = *std::find_if(
      slots_.begin(), slots_.end(),
      [gate](const Slot& other) { return other.gate.get() == gate; });
  const int backend = BackendOf(session.info.backend);
  model_.Require(model_.WasGranted(client, backend), "client ", client,
                 " at backend ", backend, ", which it was never given");
  // A clock that is wrong says nothing about what was before what.
  if (clocks_jump_) return;
  for (const size_t number : slot.delivered) {
    const FleetModel::Event& event = model_.events[number];
    if (!event.Names(client, backend)) continue;
    model_.Require(model_.WasGrantedAfter(client, backend, event.time),
                   "client ", client, " at backend ", backend, " of ", slot.id,
                   ", in spite of disconnect ", number, " at ",
                   event.time / 1'000'000, " ms");
  }
}

void FleetSimulation::CheckAlways() {
  for (Slot& slot : slots_) {
    if (slot.gate == nullptr) continue;
    store::internal::CoreHost& host = slot.gate->host();
    const SessionKeeperStats& stats = host.stats();
    if (stats.is_fenced || slot.is_faulty) Unhealthy(&slot);
    model_.Require(!slot.gate->gateway().in_standby ||
                       slot.gate->gateway().sessions.empty(),
                   slot.id, " serves in standby");
    // Changes that are void by now are in two queues.
    model_.Require(host.core()->records().queue_depth() <=
                       static_cast<size_t>(options_.queue_max),
                   slot.id, " has too long a queue");
    model_.Require(stats.newcomers_waiting <=
                       static_cast<uint64_t>(options_.newcomers_waiting_max),
                   slot.id, " has too many newcomers");
    model_.Require(stats.standby_sessions <=
                       static_cast<uint64_t>(options_.standby_sessions_max),
                   slot.id, " knows too many records");
    CheckOwners(&slot);
  }
  CheckRecords();
}

void FleetSimulation::CheckOwners(Slot* slot) {
  const uint64_t run = slot->gate->host().core()->run();
  for (const auto& entry : slot->gate->gateway().sessions) {
    const SessionInfo& session = entry.second.info;
    if (session.state != SessionState::kConfirmed) continue;
    const absl::optional<StoredSession> record = store_.Find(session.client);
    const Key key(run, session.id);
    if (record.has_value() && record->token == SessionToken{run, session.id}) {
      not_owned_since_.erase(key);
      model_.Require(record->backend == session.backend, "the record of ",
                     session.client.ToString(), " has another backend");
      continue;
    }
    const int64_t since = not_owned_since_.emplace(key, now()).first->second;
    model_.Require(
        now() - std::max({since, slot->healthy_since, disturbed_at_}) <=
            kOwnerTimeMax,
        slot->id, " has the session of ", session.client.ToString(), ", which ",
        record.has_value() ? record->gateway_id : "nobody", " owns");
  }
}

void FleetSimulation::CheckRecords() {
  std::set<Key> live;
  for (const Slot& slot : slots_) {
    if (slot.gate == nullptr) continue;
    const uint64_t run = slot.gate->host().core()->run();
    for (const auto& entry : slot.gate->gateway().sessions) {
      live.emplace(run, entry.second.info.id);
    }
  }
  const int64_t lifetime =
      absl::ToInt64Nanoseconds(options_.record_lifetime) + kLateMax + kSecond;
  for (const StoredSession& record : store_.sessions()) {
    const Key key(record.token.run, record.token.session);
    if (live.count(key) > 0) continue;
    const int64_t since = ended_since_.emplace(key, now()).first->second;
    model_.Require(now() - since <= lifetime, "the record of ",
                   record.client.ToString(), " of ", record.gateway_id,
                   " outlives its session");
  }
}

void FleetSimulation::Finish() {
  for (Slot& slot : slots_) {
    if (slot.gate == nullptr) StartGate(&slot);
    slot.gate->connection().SetLink({});
    slot.gate->connection().SetLie(StoreLie::kNone);
    slot.is_faulty = false;
    Unhealthy(&slot);
  }
  Note("all is well again");
  for (int i = 0; i < 30 && model_.broken.empty(); ++i) {
    Advance(absl::Seconds(1));
    CheckAlways();
  }
  // Refreshes come and go.
  const auto is_idle = [](const Slot& slot) {
    return slot.gate->gateway().in_standby ||
           slot.gate->host().core()->records().IsIdle();
  };
  for (const Slot& slot : slots_) {
    for (int i = 0; i < 20 && !is_idle(slot); ++i) {
      Advance(absl::Milliseconds(53));
    }
    model_.Require(is_idle(slot), slot.id, " still has changes");
  }
  std::set<std::string> served;
  for (const Slot& slot : slots_) {
    const SessionKeeperStats& stats = slot.gate->host().stats();
    for (const auto& entry : slot.gate->gateway().sessions) {
      if (entry.second.info.state != SessionState::kConfirmed) continue;
      model_.Require(served.insert(entry.first).second, entry.first,
                     " has two gateways");
    }
    model_.Meet("adopted newcomer",
                static_cast<int64_t>(stats.newcomers_adopted));
    model_.Meet("newcomer of a live owner",
                static_cast<int64_t>(stats.newcomers_of_live_owner));
    model_.Meet("recovered", static_cast<int64_t>(stats.recovered));
    model_.Meet("lost", static_cast<int64_t>(stats.lost));
    model_.Meet("rewritten", static_cast<int64_t>(stats.rewritten));
    model_.Meet("invalid", static_cast<int64_t>(stats.invalid));
    model_.Meet("not used after a disconnect",
                static_cast<int64_t>(stats.disconnected));
    model_.Meet("change dropped", static_cast<int64_t>(stats.changes_dropped));
    model_.Meet("from the future", static_cast<int64_t>(stats.from_future));
  }
}

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
