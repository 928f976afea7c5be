#include "testing/internal/simulation/gateway.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "testing/internal/simulation/payload.h"
#include "udpgate/cidr.h"
#include "udpgate/internal/net/listen_socket.h"

namespace udpgate {
namespace internal {
namespace simulation {

namespace {

// A shard that has so much to do at once, with so few clients, spins.
constexpr int kIterationsMax = 3000;

}  // namespace

ProxyOptions Gateway::Options() {
  Random& random = state_->random;
  ProxyOptions options;
  options.log_sink = nullptr;
  options.listen_address = random.OneIn(2) ? SocketAddress::Ipv4Any(19132)
                                           : Address("10.0.0.1", 19132);
  options.listener_count = static_cast<int>(random.Between(1, 2));
  options.batch_size = static_cast<int>(random.Between(1, 8));
  options.queue_size_datagrams = static_cast<int>(random.Between(1, 40));
  options.port_quarantine = absl::Seconds(random.Below(2) * 5);
  if (random.OneIn(3)) {
    options.upstream_bind_addresses = {Address("10.0.0.7", 0),
                                       Address("10.0.0.8", 0)};
  }
  ProxyLimits& limits = options.limits;
  limits.session_idle_timeout = absl::Milliseconds(random.Between(500, 20'000));
  limits.unconfirmed_timeout = absl::Milliseconds(random.Between(500, 10'000));
  limits.resolve_timeout = absl::Milliseconds(random.Between(1, 3000));
  limits.backend_refusals_max = static_cast<int>(random.Between(1, 4));
  if (random.OneIn(2)) {
    limits.backend_silent_timeout =
        absl::Milliseconds(random.Between(300, 15'000));
  }
  if (random.OneIn(4)) limits.backend_silent_timeout = absl::ZeroDuration();
  if (random.OneIn(2)) {
    limits.client_silent_timeout =
        absl::Milliseconds(random.Between(300, 15'000));
  }
  if (random.OneIn(4)) limits.client_silent_timeout = absl::ZeroDuration();
  limits.paused_sessions_max = random.Below(4);
  limits.pending_datagrams_max = static_cast<int>(random.Between(1, 16));
  limits.pending_clients_max = random.OneIn(3) ? random.Between(1, 4) : 4096;
  limits.new_sessions_per_second = random.OneIn(4) ? random.Between(2, 10) : 0;
  limits.unconfirmed_reply_factor = random.OneOf<int64_t>({0, 1, 10});
  if (random.OneIn(4)) limits.max_sessions_per_ip = random.Between(1, 3);
  if (random.OneIn(4))
    limits.max_unconfirmed_sessions_per_ip = random.Between(1, 3);
  limits.deny_cidrs = *ParseCidrList("192.0.2.0/24");
  return options;
}

void Gateway::Start(BackendResolver* resolver) {
  Random& random = state_->random;
  state_->sessions_max = random.Between(2, 16);
  const ProxyOptions options = Options();
  std::vector<uint16_t> ports;
  state_->port_count = random.Between(2, 30);
  for (int64_t i = 0; i < state_->port_count; ++i) {
    ports.push_back(static_cast<uint16_t>(40000 + i));
  }
  state_->context =
      std::make_unique<GateContext>(options, &state_->clock, &state_->sys_calls,
                                    ClientHash(1), ports, state_->sessions_max);
  state_->context->resolver = std::shared_ptr<BackendResolver>(
      resolver, [](BackendResolver*) { /* not owned */ });
  state_->context->session_events = std::make_unique<SessionEvents>(
      state_->observer, &state_->clock, options.session_events_max);
  state_->context->listeners =
      *OpenListenSockets(&state_->sys_calls, options, state_->context->hash);
  state_->worker = *Worker::Create(state_->context.get(), 0);
  state_->context->inboxes = {state_->worker->inbox()};
  state_->network_watcher = *NetworkWatcher::Create(&state_->sys_calls);
  const absl::Status watched =
      state_->worker->AddNetworkWatcher(state_->network_watcher.get());
  state_->Require(watched.ok(), "AddNetworkWatcher: ", watched.ToString());
  for (size_t i = 0; i < state_->context->listeners.size(); ++i) {
    state_->listener_fds.push_back(state_->context->listeners[i].fd.get());
    state_->readers.push_back(*Reader::Create(state_->context.get(),
                                              static_cast<uint16_t>(i),
                                              {state_->worker.get()}));
  }
  state_->worker_reads = state_->readers.size() == 1 && random.OneIn(2);
  if (state_->worker_reads) {
    Reader* const reader = state_->readers.front().get();
    const absl::Status added = state_->worker->AddReader(
        reader->fd(), [this] { Read(0); },
        [reader] { reader->TakeClientErrors(); });
    state_->Require(added.ok(), "AddReader: ", added.ToString(), reader->fd());
  }
  const int64_t client_count = random.Between(2, 24);
  for (int64_t i = 0; i < client_count; ++i) {
    ModelClient client;
    client.is_denied = random.OneIn(20);
    // Three on each address.
    client.address = client.is_denied
                         ? Address("192.0.2.1", static_cast<int>(5000 + i))
                         : Address(absl::StrCat("198.51.100.", 1 + i / 3),
                                   static_cast<int>(5000 + i));
    client.gateway = options.listen_address.is_any() && random.OneIn(2)
                         ? Address("10.0.0.2", 19132)
                         : Address("10.0.0.1", 19132);
    state_->client_by_address[client.address] =
        static_cast<int>(state_->clients.size());
    state_->clients.push_back(client);
  }
  state_->fault_interval = random.OneOf<int64_t>({0, 0, 300, 30});
  state_->interrupt_interval = random.OneOf<int64_t>({0, 40, 8});
  state_->inline_result_interval = random.OneOf<int64_t>({0, 4, 1});
  state_->had_faults = state_->had_call_faults = state_->fault_interval > 0;
  state_->is_calm = false;
}

void Gateway::Read(size_t reader) {
  ++state_->episode;
  state_->batch.clear();
  state_->batch_clients.clear();
  const auto refused = [&] {
    return state_->readers[reader]
        ->counters()
        .datagrams_dropped[static_cast<size_t>(DropReason::kQueueFull)]
        .value();
  };
  const uint64_t refused_before = refused();
  state_->readers[reader]->ReadBatch();
  // The last ones of the batch, see Worker::Deliver.
  for (uint64_t i = refused() - refused_before; i > 0; --i) {
    state_->Require(!state_->batch.empty(), "more was refused than read");
    if (state_->batch.empty()) return;
    state_->clients[state_->batch_clients.back()]
        .datagrams[state_->batch.back()]
        .is_refused = true;
    state_->batch.pop_back();
    state_->batch_clients.pop_back();
  }
}

void Gateway::PollOnce(int64_t max_wait_nanoseconds) {
  ++state_->episode;
  state_->worker->PollOnce(max_wait_nanoseconds);
  observation_->NoteOutcome();
  state_->Require(state_->replies_owed == 0, state_->replies_owed,
                  " replies were read and neither sent nor dropped");
}

void Gateway::Sleep(int64_t nanoseconds) {
  sleep_until_nanoseconds_ = state_->now() + nanoseconds;
  for (int iterations = 0;
       state_->now() < sleep_until_nanoseconds_ && state_->broken.empty();) {
    const int64_t before = state_->now();
    PollOnce(sleep_until_nanoseconds_ - state_->now());
    iterations = state_->now() == before ? iterations + 1 : 0;
    state_->Require(iterations < kIterationsMax, "the worker spins");
  }
  sleep_until_nanoseconds_ = kNone;
}

void Gateway::Settle() {
  state_->is_calm = true;
  // How long the worker wants to sleep was decided before a stall, perhaps.
  PollOnce(0);
  // After a stall it looks once more before a session expires.
  int sleeps_in_a_row = 0;
  for (int iterations = 0; sleeps_in_a_row < 2 && state_->broken.empty();
       ++iterations) {
    for (size_t i = 0; i < state_->readers.size() && !state_->worker_reads;
         ++i) {
      while (
          state_->sys_calls.queued(state_->listener_fds[i]) > 0 ||
          !state_->sys_calls.queued_errors(state_->listener_fds[i]).empty()) {
        if (state_->sys_calls.queued(state_->listener_fds[i]) == 0) {
          state_->readers[i]->TakeClientErrors();
        } else {
          Read(i);
        }
      }
    }
    const int sleeps_before = sleeps_;
    PollOnce(INT64_MAX);
    sleeps_in_a_row = sleeps_ > sleeps_before ? sleeps_in_a_row + 1 : 0;
    state_->Require(iterations < kIterationsMax, "the worker spins");
  }
  state_->is_calm = false;
  state_->has_stalled = false;
  if (state_->broken.empty()) rules_->CheckSettled();
}

void Gateway::OnSleep(int64_t timeout_nanoseconds) {
  ++sleeps_;
  if (sleep_until_nanoseconds_ == kNone) return;
  state_->clock.Advance(absl::Nanoseconds(
      std::min(timeout_nanoseconds, sleep_until_nanoseconds_ - state_->now())));
  if (!state_->has_stalled) rules_->CheckPunctual();
}

// In this order: what the gateway closes is still told to the model.
void Gateway::Destroy() {
  state_->is_stopping = true;
  state_->is_calm = true;
  state_->readers.clear();
  state_->worker->EndAllSessions();
  observation_->NoteOutcome();
  state_->resolutions.clear();
  state_->context->inboxes.clear();
  state_->worker.reset();
  state_->network_watcher.reset();
}

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
