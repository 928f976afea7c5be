#include "testing/internal/simulation/restoring.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "testing/internal/simulation/payload.h"
#include "udpgate/internal/shard/inbox.h"

namespace udpgate {
namespace internal {
namespace simulation {
namespace {

using Outcome = RestoredSession::Outcome;

}  // namespace

void Restoring::Restore() {
  batches_.push_back(std::make_unique<Batch>());
  Batch* const batch = batches_.back().get();
  batch->takes_other_relays = state_->random.OneIn(2);
  const int64_t count = state_->random.Between(1, 8);
  for (int64_t i = 0; i < count; ++i) Add(batch);
  ShardMessage message;
  message.kind = ShardMessage::Kind::kRestore;
  message.restore = std::make_unique<RestoreOrder>();
  message.restore->takes_other_relays = batch->takes_other_relays;
  message.restore->finished = {nullptr,
                               [batch](void*) { batch->is_finished = true; }};
  batch->tasks.resize(batch->sessions.size());
  for (size_t i = 0; i < batch->tasks.size(); ++i) {
    batch->tasks[i].session = &batch->sessions[i];
    batch->tasks[i].tag = batch->sessions[i].tag;
    message.restore->tasks.push_back(&batch->tasks[i]);
  }
  state_->worker->inbox()->Post(std::move(message));
}

void Restoring::Add(Batch* batch) {
  const int client = static_cast<int>(
      state_->random.Below(static_cast<int64_t>(state_->clients.size())));
  const int index = static_cast<int>(state_->resolutions.size());
  Resolution resolution;
  resolution.session = kNone;
  resolution.restored_client = client;
  resolution.backend =
      Address(absl::StrCat("203.0.113.", 1 + index % 3), 1024 + index);
  resolution.has_result = resolution.is_good = resolution.is_proven = true;
  if (state_->random.OneIn(2)) {
    resolution.tag = std::make_shared<SessionTag>(absl::StrCat(index), "");
  }
  RestorableSession session;
  session.client = state_->clients[client].address;
  session.local = state_->clients[client].gateway;
  session.backend = resolution.backend;
  session.relay = SomeRelay();
  session.tag = resolution.tag;
  session.age = absl::Milliseconds(state_->random.Below(100'000));
  state_->Note("restoration ", index, " of client ", client, " on ",
               session.relay.ToString(),
               batch->takes_other_relays ? " or elsewhere" : "");
  batch->sessions.push_back(std::move(session));
  batch->resolutions.push_back(index);
  state_->resolutions.push_back(std::move(resolution));
}

SocketAddress Restoring::SomeRelay() {
  if (!state_->sessions.empty() && state_->random.OneIn(2)) {
    return state_
        ->sessions[state_->random.Below(
            static_cast<int64_t>(state_->sessions.size()))]
        .relay;
  }
  if (state_->random.OneIn(8)) return SocketAddress();
  return state_->sys_calls.host_address().WithPort(
      static_cast<uint16_t>(40000 + state_->random.Below(40)));
}

void Restoring::OnOpened(int index) {
  Resolution& resolution = state_->resolutions[index];
  ModelClient& client = state_->clients[resolution.restored_client];
  if (client.session != kNone) {
    ModelSession& old = state_->sessions[client.session];
    state_->Require(
        old.fd == kNone &&
            (state_->resolutions[old.resolution].has_result ||
             state_->now() >= old.deadline_nanoseconds || old.is_superseded),
        "client ", resolution.restored_client, " is restored beside a session");
    old.is_live = false;
  }
  resolution.session = client.session =
      static_cast<int>(state_->sessions.size());
  ModelSession session;
  session.client = resolution.restored_client;
  session.resolution = index;
  session.is_restored = true;
  // Earlier ones may still be queued.
  session.first_datagram = client.next_sent;
  session.created_nanoseconds = state_->now();
  state_->sessions.push_back(session);
  ++state_->sessions_restored;
}

void Restoring::Supersede() {
  absl::flat_hash_set<uint64_t> ids = {uint64_t{1000000} << 8};
  for (int64_t i = state_->random.Between(1, 4); i > 0; --i) {
    const int index = state_->LiveSession();
    if (index == kNone) break;
    ModelSession& session = state_->sessions[index];
    const std::vector<RelayOwner> owners =
        state_->context->relay_ports.Find(session.relay.port());
    if (owners.size() != 1) continue;
    state_->Note("another gateway has session ", index);
    session.must_end = session.is_superseded = true;
    ids.insert(owners.front().session.id);
  }
  ShardMessage message;
  message.kind = ShardMessage::Kind::kSupersede;
  message.ids =
      std::make_shared<const absl::flat_hash_set<uint64_t>>(std::move(ids));
  state_->worker->inbox()->PostDisconnect(std::move(message));
}

void Restoring::SwitchStandby() {
  // Which new clients it would still concern cannot be seen from outside.
  if (state_->supersedes_all) return;
  const bool is_standby = !state_->context->is_standby;
  state_->Note("standby: ", is_standby);
  state_->context->is_standby = is_standby;
  if (!is_standby) return;
  state_->was_standby = state_->supersedes_all = true;
  for (ModelClient& client : state_->clients) {
    if (client.session == kNone) continue;
    ModelSession& session = state_->sessions[client.session];
    session.must_end = session.is_superseded = true;
  }
  ShardMessage message;
  message.kind = ShardMessage::Kind::kSupersedeAll;
  state_->worker->inbox()->Post(std::move(message));
}

void Restoring::NoteResults() {
  for (const std::unique_ptr<Batch>& batch : batches_) {
    // Tasks are done in order, but some are left out in the first phase.
    for (size_t i = batch->noted; i < batch->tasks.size(); ++i) {
      if (!batch->tasks[i].is_done) continue;
      NoteResult(*batch, i);
      batch->noted = i + 1;
    }
  }
}

void Restoring::NoteResult(const Batch& batch, size_t index) {
  const RestoredSession& result = batch.tasks[index].result;
  const int resolution = batch.resolutions[index];
  const bool is_restored = result.outcome == Outcome::kRestored ||
                           result.outcome == Outcome::kOnOtherRelay;
  state_->Note("restoration ", resolution, " has the outcome ",
               static_cast<int>(result.outcome));
  ++state_->coverage->restore_outcomes[static_cast<size_t>(result.outcome)];
  state_->Require(
      is_restored == (state_->resolutions[resolution].session != kNone),
      "restoration ", resolution, " reports what did not happen");
  state_->Require(
      (result.outcome == Outcome::kRestored) ==
          (is_restored && result.relay == batch.sessions[index].relay),
      "restoration ", resolution, " reports a wrong port");
  state_->Require(
      batch.takes_other_relays || result.outcome != Outcome::kOnOtherRelay,
      "restoration ", resolution, " takes a port in the first phase");
  if (is_restored) state_->observer->NoteRestored(result.session_id);
}

void Restoring::NoteSettled() {
  for (const std::unique_ptr<Batch>& batch : batches_) {
    state_->Require(batch->is_finished, "a restoration is not finished");
    state_->Require(
        !batch->takes_other_relays ||
            std::all_of(batch->tasks.begin(), batch->tasks.end(),
                        [](const RestoreTask& task) { return task.is_done; }),
        "a session was left out");
  }
  batches_.clear();
  state_->supersedes_all = false;
}

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
