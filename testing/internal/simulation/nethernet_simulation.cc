#include "testing/internal/simulation/nethernet_simulation.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "testing/internal/simulation/payload.h"
#include "udpgate/stun/request_builder.h"

namespace udpgate {
namespace internal {
namespace simulation {
namespace {

using nethernet::Join;
using nethernet::JoinTable;
using State = PlayedJoin::State;

constexpr int kStepsPerSeed = 200;
constexpr char kStranger[] = "\x05 RakNet";
constexpr char kDtls[] = "\x16\xfe\xfd DTLS";

std::string CheckOf(const std::string& ufrag, const std::string& password,
                    const SocketAddress& client) {
  stun::BindingRequestOptions options;
  options.username = absl::StrCat(ufrag, ":offer");
  options.password = password;
  options.priority = NetherNetModel::PriorityOf(client);
  return stun::BuildBindingRequest(options);
}

// What players of other protocols get.
class Inner final : public BackendResolver {
 public:
  explicit Inner(NetherNetModel* model) : model_(model) {}

  void Resolve(const ResolveRequest& request, Callback done) override {
    model_->Require(!request.first_datagram.empty() &&
                        request.first_datagram[0] == kStranger[0],
                    "a question to the inner resolver for a player");
    done(ResolveResult{Address("10.9.9.9", 19132), "raknet"});
  }

 private:
  NetherNetModel* const model_;
};

}  // namespace

class NetherNetSimulation::Observer final : public nethernet::JoinObserver {
 public:
  explicit Observer(NetherNetModel* model) : model_(model) {}

  void OnAdded(const Join& join) override { added_id = join.id; }
  void OnDisconnected(const Join& join) override {
    ended.insert(join.id);
    ++model_->disconnects;
    PlayedJoin* const played = model_->FindId(join.id);
    if (played == nullptr) return;
    played->state = State::kEnded;
    played->openings.clear();
  }

  std::string added_id;
  std::set<std::string> ended;

 private:
  NetherNetModel* const model_;
};

NetherNetSimulation::NetherNetSimulation(uint64_t seed,
                                         NetherNetModel::Coverage* coverage)
    : random_(seed),
      model_(&options_, &clock_),
      observer_(std::make_shared<Observer>(&model_)),
      inner_(std::make_shared<Inner>(&model_)) {
  model_.coverage = coverage;
  is_crowded_ = random_.OneIn(2);
  RandomizeOptions();
  gate_ = NewGate();
}

NetherNetSimulation::~NetherNetSimulation() = default;

void NetherNetSimulation::RandomizeOptions() {
  options_.join_timeout = absl::Seconds(random_.Between(1, 60));
  options_.linger = absl::Seconds(random_.Between(is_crowded_ ? 1 : 20, 60));
  if (is_crowded_) {
    options_.joins_max = random_.Between(1, 6);
    options_.shared_joins_max = random_.Below(4);
    options_.addresses_per_join_max = static_cast<int>(random_.Between(1, 4));
  }
  model_.addresses_min =
      std::min(model_.addresses_min, options_.addresses_per_join_max);
}

std::unique_ptr<NetherNetGate> NetherNetSimulation::NewGate() {
  NetherNetGate::Listener listener;
  listener.opened = [this](const SocketAddress& client,
                           const GateSession& session,
                           const ResolveResult& result) {
    Note("session of ", client.ToString(), " at ", session.relay.ToString());
    model_.OnOpened(client, session, result);
  };
  listener.ended = [this](const SocketAddress& client,
                          const GateSession& session) {
    Note("session of ", client.ToString(), " ends");
    model_.OnEnded(client, session);
  };
  listener.claimed = [this](const SessionTag& tag) { model_.OnClaimed(tag); };
  auto gate = std::make_unique<NetherNetGate>(options_, &clock_, inner_,
                                              std::move(listener), &next_port_);
  gate->joins()->SetObserver(observer_);
  return gate;
}

std::string NetherNetSimulation::History() const {
  return absl::StrJoin(history_, "\n");
}

// Three addresses of each network, of two interfaces.
SocketAddress NetherNetSimulation::AnyClient() {
  return Address(absl::StrCat("198.51.100.", random_.Between(1, 6)),
                 static_cast<int>(random_.Between(5000, 5003)));
}

SocketAddress NetherNetSimulation::AnyPlayer() {
  return Address(absl::StrCat("198.51.100.", random_.Between(1, 8)), 1234);
}

SocketAddress NetherNetSimulation::AnyBackend() {
  return Address(absl::StrCat("10.0.0.", random_.Between(5, 8)), 19132);
}

PlayedJoin* NetherNetSimulation::AnyJoin() {
  const auto count = static_cast<int64_t>(model_.joins.size());
  if (count == 0) return nullptr;
  const int64_t latest = random_.OneIn(4) ? count : std::min<int64_t>(count, 4);
  return &model_.joins[static_cast<size_t>(count - 1 - random_.Below(latest))];
}

Join NetherNetSimulation::NewJoin() {
  Join join;
  const int number = next_join_++;
  join.network_id = absl::StrCat("player-", number);
  join.ufrag = random_.OneIn(3) ? "same" : absl::StrCat("ufrag", number);
  join.password = absl::StrCat("password-0123456789-of-", number);
  join.player = AnyPlayer();
  join.backend = AnyBackend();
  join.backend_label = absl::StrCat("Lobby-", join.backend.IpToString());
  join.media = join.backend.WithPort(
      static_cast<uint16_t>(random_.Between(30000, 30003)));
  return join;
}

void NetherNetSimulation::Reserve() {
  joins()->stats();
  model_.Expire();
  const Join join = NewJoin();
  // Often the backend is not known yet.
  const bool has_backend = random_.OneIn(2);
  absl::StatusOr<JoinTable::Reservation> reservation =
      has_backend
          ? joins()->Reserve(join.player, join.backend, join.backend_label)
          : joins()->Reserve(join.player);
  const int64_t waiting =
      model_.Count(State::kWaiting) + static_cast<int64_t>(waiting_.size());
  model_.Require(reservation.ok() == (waiting < options_.joins_max),
                 "a place with ", waiting,
                 " waiting joins: ", reservation.status().ToString());
  Note("place for ", join.ufrag, ": ", reservation.ok());
  if (!reservation.ok()) return model_.Meet("table full");
  Waiting entry;
  entry.reservation.emplace(*std::move(reservation));
  entry.played.player = join.player;
  if (has_backend) {
    entry.played.backend = join.backend;
    entry.played.label = join.backend_label;
  }
  entry.join = join;
  waiting_.push_back(std::move(entry));
}

void NetherNetSimulation::Answer() {
  if (waiting_.empty()) return;
  if (random_.OneIn(2)) return NameBackend();
  joins()->stats();
  model_.Expire();
  const int64_t index = random_.Below(static_cast<int64_t>(waiting_.size()));
  if (!waiting_[static_cast<size_t>(index)].played.backend.is_valid()) return;
  Waiting entry = std::move(waiting_[static_cast<size_t>(index)]);
  waiting_.erase(waiting_.begin() + index);
  const absl::Status status =
      joins()->Commit(*std::move(entry.reservation), entry.join);
  Note("answer for ", entry.join.ufrag, ": ", status.ToString());
  if (entry.played.is_cancelled) {
    model_.Meet("cancelled");
    return model_.Require(absl::IsAborted(status), "a disconnected join of ",
                          entry.join.ufrag, ": ", status.ToString());
  }
  if (model_.CountUfrag(entry.join.ufrag) >= 4) {
    model_.Meet("same ufrag refused");
    return model_.Require(absl::IsAlreadyExists(status), "a fifth join of ",
                          entry.join.ufrag);
  }
  model_.Require(status.ok(), "no join: ", status.ToString());
  entry.join.id = observer_->added_id;
  model_.Add(entry.join, State::kWaiting, clock_.NowNanoseconds());
}

void NetherNetSimulation::NameBackend() {
  for (Waiting& entry : waiting_) {
    if (entry.played.backend.is_valid()) continue;
    const absl::Status status = joins()->SetBackend(
        *entry.reservation, entry.join.backend, entry.join.backend_label);
    Note("backend of ", entry.join.ufrag, ": ", status.ToString());
    model_.Require(status.ok()
                       ? !entry.played.is_cancelled
                       : entry.played.is_cancelled && absl::IsAborted(status),
                   "a backend is named: ", status.ToString());
    if (!status.ok()) model_.Meet("asked again");
    entry.played.is_cancelled = false;
    if (!status.ok()) return;
    entry.played.backend = entry.join.backend;
    entry.played.label = entry.join.backend_label;
    return;
  }
}

void NetherNetSimulation::AnswerNever() {
  if (!waiting_.empty()) waiting_.erase(waiting_.begin());
}

void NetherNetSimulation::AddShared() {
  joins()->stats();
  model_.Expire();
  PlayedJoin* const known = AnyJoin();
  if (known != nullptr && random_.OneIn(4) && known->state != State::kGone &&
      known->state != State::kEnded) {
    return joins()->AddShared(known->join, absl::ZeroDuration());
  }
  Join join = NewJoin();
  join.id = absl::StrCat("shared-", join.network_id);
  const absl::Duration age =
      absl::Seconds(random_.OneIn(2) ? 0 : random_.Below(70));
  Note("shared join ", join.ufrag, " of age ", absl::FormatDuration(age));
  joins()->AddShared(join, age);
  if (age >= options_.join_timeout || model_.CountUfrag(join.ufrag) >= 4) {
    return;
  }
  model_.Add(join, State::kSharedWaiting,
             clock_.NowNanoseconds() - absl::ToInt64Nanoseconds(age));
  model_.Trim();
}

void NetherNetSimulation::EndShared() {
  PlayedJoin* const played = AnyJoin();
  if (played == nullptr) return;
  Note("another gateway ends ", played->join.ufrag);
  ++model_.disconnects;
  const std::vector<SocketAddress> clients =
      joins()->EndShared(played->join.id);
  if (played->state != State::kGone) played->state = State::kEnded;
  gate_->EndDisconnected(clients);
  played->openings.clear();
  model_.Require(played->sessions.empty() || played->state == State::kGone,
                 "sessions outlive a join that another gateway has ended");
  model_.Meet("ended elsewhere");
}

void NetherNetSimulation::PlayerSends() {
  PlayedJoin* const played = AnyJoin();
  if (played == nullptr) return;
  SocketAddress client = AnyClient();
  if (!played->seen.empty() && random_.OneIn(2)) {
    auto entry = played->seen.begin();
    std::advance(entry,
                 random_.Below(static_cast<int64_t>(played->seen.size())));
    client = entry->second;
  }
  const std::string ufrag = played->join.ufrag;
  Send(client, ufrag,
       random_.OneIn(12) ? "wrong-password-0123456789" : played->join.password);
  if (!random_.OneIn(4)) return OpenAll();
  // Other joins may take its place meanwhile.
  for (int i = 0; is_crowded_ && i < 3; ++i) EndSome();
}

void NetherNetSimulation::Send(const SocketAddress& client,
                               const std::string& ufrag,
                               const std::string& password) {
  bool is_ufrag_known = false;
  PlayedJoin* const played = model_.Match(ufrag, password, &is_ufrag_known);
  const std::string check = CheckOf(ufrag, password, client);
  Note("check of ", client.ToString(), " for ", ufrag, ", ",
       played != nullptr ? "known" : "unknown");
  if (gate_->Find(client) != nullptr || gate_->IsOpening(client)) {
    return SendChecked(client, check, absl::nullopt, false);
  }
  if (played == nullptr) {
    return SendChecked(client, check,
                       is_ufrag_known ? DropReason::kStunWrongIntegrity
                                      : DropReason::kStunUnknownUfrag,
                       true);
  }
  const bool is_full = played->sessions.size() + played->openings.size() >=
                       static_cast<size_t>(options_.addresses_per_join_max);
  const uint64_t limited_before = joins()->stats().stun_address_limit;
  const NetherNetGate::Outcome outcome = gate_->Receive(client, check);
  if (outcome.fate == NetherNetGate::Fate::kDropped) {
    ++model_.drops[outcome.reason];
    model_.Meet("address limit");
    return model_.Require(
        is_full && outcome.reason == DropReason::kStunAddressLimit &&
            joins()->stats().stun_address_limit == limited_before + 1,
        "a known check was dropped: ", DropReasonName(outcome.reason));
  }
  model_.Require(outcome.is_known_player, "a known player is not known");
  ++model_.known;
  if (!played->openings.empty()) played->had_parallel_openings = true;
  played->openings.insert(client.ToString());
  played->seen[client.ToString()] = client;
}

void NetherNetSimulation::SendChecked(const SocketAddress& client,
                                      const std::string& datagram,
                                      absl::optional<DropReason> expected,
                                      bool is_ours) {
  const bool has_session = gate_->Find(client) != nullptr;
  const bool is_held = gate_->IsOpening(client);
  const NetherNetGate::Outcome outcome = gate_->Receive(client, datagram);
  if (has_session || is_held || !is_ours) {
    return model_.Require(outcome.fate != NetherNetGate::Fate::kDropped,
                          "a datagram of a session was dropped");
  }
  model_.Require(outcome.fate == NetherNetGate::Fate::kDropped &&
                     outcome.reason == *expected,
                 "not dropped as ", DropReasonName(*expected), " but ",
                 outcome.fate == NetherNetGate::Fate::kDropped
                     ? DropReasonName(outcome.reason)
                     : "let through");
  ++model_.drops[*expected];
  model_.Meet(std::string(DropReasonName(*expected)));
}

void NetherNetSimulation::StrangerSends() {
  const SocketAddress client = AnyClient();
  switch (random_.Below(4)) {
    case 0:
      return SendChecked(client, kDtls, DropReason::kDtlsWithoutSession, true);
    case 1: {
      const std::string check = CheckOf("nobody", "secret", client);
      return SendChecked(client, check, DropReason::kStunUnknownUfrag, true);
    }
    case 2: {
      std::string check = CheckOf("nobody", "secret", client);
      check.resize(check.size() - 1);
      return SendChecked(client, check, DropReason::kStunUnknownUfrag, true);
    }
    default:
      return SendChecked(client, kStranger, absl::nullopt, false);
  }
}

// As libwebrtc: each spare path, every 25 s.
void NetherNetSimulation::CheckSpares() {
  OpenAll();
  PlayedJoin* const played = AnyJoin();
  if (played == nullptr) return;
  const std::string ufrag = played->join.ufrag;
  const std::string password = played->join.password;
  const auto seen = played->seen;
  for (int round = 0; round < 3; ++round) {
    OpenAll();
    clock_.Advance(absl::Seconds(25));
    for (const auto& [text, client] : seen) {
      Send(client, ufrag, password);
      OpenAll();
    }
  }
}

void NetherNetSimulation::OpenAll() {
  const std::map<std::string, SocketAddress> opening = gate_->opening_clients();
  for (const auto& [text, client] : opening) gate_->Open(client);
}

void NetherNetSimulation::EndSome() {
  const std::vector<SocketAddress> clients = gate_->clients();
  if (clients.empty()) return;
  joins()->stats();
  model_.Expire();
  gate_->End(
      random_.OneOf(clients),
      random_.OneOf<EndReason>({EndReason::kIdle, EndReason::kClientSilent,
                                EndReason::kBackendRefused}));
}

DisconnectTarget NetherNetSimulation::AnyTarget() {
  const std::vector<SocketAddress> clients = gate_->clients();
  const SocketAddress client =
      clients.empty() ? AnyClient() : random_.OneOf(clients);
  const GateSession* const session = gate_->Find(client);
  const SocketAddress relay =
      session == nullptr ? Address("10.0.0.1", 19999) : session->relay;
  switch (random_.Below(6)) {
    case 0:
      if (!gate_->opening_clients().empty() && random_.OneIn(2)) {
        return DisconnectTarget::ForClient(
            gate_->opening_clients().begin()->second);
      }
      return DisconnectTarget::ForClient(random_.OneIn(2) ? client
                                                          : AnyClient());
    case 1:
      return DisconnectTarget::ForClientIp(AnyPlayer());
    case 2:
      return DisconnectTarget::ForBackend(session != nullptr && random_.OneIn(2)
                                              ? session->backend
                                              : AnyBackend());
    case 3:
      return DisconnectTarget::ForBackendText(
          absl::StrCat("lobby-", AnyBackend().IpToString()));
    case 4:
      return DisconnectTarget::ForRelayPort(relay.port());
    default:
      return DisconnectTarget::ForRelay(relay);
  }
}

void NetherNetSimulation::Disconnect() {
  model_.Expire();
  const DisconnectTarget target = AnyTarget();
  Note("disconnect: ", target.ToString());
  std::set<std::string> must, may;
  for (const PlayedJoin& played : model_.joins) {
    if (model_.MayEnd(played, target)) may.insert(played.join.id);
    if (model_.MustEnd(played, target)) must.insert(played.join.id);
  }
  for (Waiting& entry : waiting_) {
    if (model_.MustCancel(entry.played, target)) {
      entry.played.is_cancelled = true;
    }
  }
  observer_->ended.clear();
  ++model_.disconnects;
  gate_->Disconnect(target);
  for (const std::string& id : must) {
    model_.Require(observer_->ended.count(id) > 0, "a disconnect of ",
                   target.ToString(), " has not ended join ",
                   model_.FindId(id)->join.ufrag);
  }
  for (const std::string& id : observer_->ended) {
    PlayedJoin* const played = model_.FindId(id);
    model_.Require(must.count(id) > 0 || may.count(id) > 0, "a disconnect of ",
                   target.ToString(), " has ended another join");
    if (played == nullptr) continue;
    model_.Require(played->sessions.empty(), "sessions of the disconnected ",
                   played->join.ufrag, " live on");
    model_.Meet("disconnected");
  }
}

void NetherNetSimulation::Reload() {
  OpenAll();
  joins()->stats();  // nothing comes back that the old options have ended
  model_.Expire();
  RandomizeOptions();
  Note("reload");
  const absl::Status status = joins()->SetOptions(options_);
  model_.Require(status.ok(), status.ToString());
  model_.Expire();
}

void NetherNetSimulation::TakeOver() {
  if (is_crowded_) return;
  OpenAll();
  Note("takeover");
  std::unique_ptr<NetherNetGate> next = NewGate();
  absl::Status status = next->joins()->Import(joins()->Export(false));
  model_.Require(status.ok(), status.ToString());
  for (int64_t i = random_.Below(10); i > 0 && model_.broken.empty(); --i) {
    switch (random_.Below(6)) {
      case 0:
        Disconnect();
        break;
      case 1:
        EndSome();
        break;
      case 2:
        Answer();
        break;
      case 3:
        Sleep(4000);
        break;
      case 4:
        AddShared();
        break;
      default:
        PlayerSends();
        break;
    }
  }
  OpenAll();
  waiting_.clear();
  Note("the late part");
  status = next->joins()->Import(joins()->Export(true));
  model_.Require(status.ok(), status.ToString());
  next->TakeOver(gate_.get());
  gate_ = std::move(next);
  model_.known = 0;
  model_.drops.clear();
  model_.Meet("takeover");
}

void NetherNetSimulation::Sleep(int64_t milliseconds_max) {
  OpenAll();
  clock_.Advance(absl::Milliseconds(random_.Between(1, milliseconds_max)));
  if (is_crowded_) joins()->stats();  // so that the lists are as the model's
  model_.Expire();
}

void NetherNetSimulation::Step() {
  switch (random_.Below(24)) {
    case 0:
    case 1:
    case 2:
      return Reserve();
    case 3:
    case 4:
    case 5:
      return Answer();
    case 6:
      return AnswerNever();
    case 7:
      return random_.OneIn(3) ? EndShared() : AddShared();
    case 8:
    case 9:
      return StrangerSends();
    case 10:
    case 11:
      return EndSome();
    case 12:
      return random_.OneIn(2) ? Disconnect() : OpenAll();
    case 13:
      return Sleep(random_.OneIn(4) ? 70'000 : 5'000);
    case 14:
      if (random_.OneIn(4)) return Reload();
      return random_.OneIn(3) ? TakeOver() : Sleep(1000);
    case 15:
      if (!is_crowded_) return CheckSpares();
      return Sleep(25'000);
    default:
      return PlayerSends();
  }
}

void NetherNetSimulation::CheckAlways() {
  if (random_.OneIn(2)) return model_.CheckList(joins()->List());
  model_.CheckStats(joins()->stats(), static_cast<int64_t>(waiting_.size()));
}

// Nothing outlives its time.
void NetherNetSimulation::Finish() {
  OpenAll();
  waiting_.clear();
  model_.CheckStats(joins()->stats(), 0);
  for (const SocketAddress& client : gate_->clients()) {
    gate_->End(client, EndReason::kIdle);
    if (is_crowded_) joins()->stats();
  }
  clock_.Advance(absl::Seconds(60));
  model_.Expire();
  const nethernet::JoinTableStats stats = joins()->stats();
  model_.Require(stats.joins_waiting + stats.joins_live +
                         stats.joins_lingering + stats.joins_shared_waiting ==
                     0,
                 "something outlives its time");
  model_.Require(joins()->List().empty(), "a join is listed for ever");
}

std::string NetherNetSimulation::Run() {
  for (int i = 0; i < kStepsPerSeed && model_.broken.empty(); ++i) {
    Step();
    CheckAlways();
  }
  if (model_.broken.empty()) Finish();
  return model_.broken;
}

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
