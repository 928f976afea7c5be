#include "testing/internal/simulation/simulation.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"
#include "absl/time/time.h"

namespace udpgate {
namespace internal {
namespace simulation {

namespace {

constexpr int kStepsPerSeed = 300;

}  // namespace

Simulation::Simulation(uint64_t seed, Coverage* coverage)
    : state_(seed, coverage, this),
      actions_(&state_),
      restoring_(&state_),
      observation_(&state_, &actions_, &restoring_),
      faults_(&state_, &actions_, &observation_),
      rules_(&state_, &observation_, &restoring_),
      gateway_(&state_, &observation_, &rules_) {
  gateway_.Start(this);
}

Simulation::~Simulation() { gateway_.Destroy(); }

std::string Simulation::History() const {
  return absl::StrJoin(state_.history, "\n");
}

void Simulation::Step() {
  switch (state_.random.Below(21)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
      return actions_.ClientSendsSome(static_cast<int>(
          state_.random.Below(static_cast<int64_t>(state_.clients.size()))));
    case 5:
    case 6:
    case 7:
      if (!state_.worker_reads)
        gateway_.Read(
            state_.random.Below(static_cast<int64_t>(state_.readers.size())));
      return;
    case 8:
    case 9:
    case 10:
      return gateway_.PollOnce(0);
    case 11:
    case 12:
    case 13:
      return actions_.BackendReplies(state_.LiveSession());
    case 14:
    case 15:
      return state_.random.OneIn(8)
                 ? actions_.RepeatResult(static_cast<int>(state_.random.Below(
                       std::max<int64_t>(state_.resolutions.size(), 1))))
                 : actions_.GiveResult(state_.OpenResolution());
    case 16:
      if (state_.random.OneIn(3)) {
        actions_.Disconnect(static_cast<int>(
            state_.random.Below(static_cast<int64_t>(state_.clients.size()))));
      }
      return;
    case 17:
      if (state_.random.OneIn(3)) return actions_.ForgedDatagram();
      return state_.random.OneIn(6) ? faults_.ClientUnreachable()
                                    : faults_.NetworkError();
    case 18:
      if (state_.random.OneIn(10)) {
        const bool is_draining = !state_.context->is_draining;
        state_.was_draining = state_.was_draining || is_draining;
        state_.context->is_draining = is_draining;
        state_.Note("draining: ", is_draining);
      } else if (state_.random.OneIn(3)) {  // a busy machine
        state_.Note("a stall");
        state_.has_stalled = true;
        state_.clock.Advance(
            absl::Milliseconds(state_.random.Between(1, 3000)));
      } else if (state_.random.OneIn(4)) {
        faults_.ChangeNetwork();
      } else if (const int session = state_.LiveSession();
                 session != kNone && state_.random.OneIn(2)) {
        bool* const is_mute = &state_.sessions[session].is_mute;
        *is_mute = !*is_mute;
        state_.Note("the backend of session ", session, " is mute: ", *is_mute);
      }
      return;
    case 19:
      if (state_.random.OneIn(4)) return restoring_.Restore();
      if (state_.random.OneIn(4)) return restoring_.Supersede();
      if (state_.random.OneIn(state_.context->is_standby ? 2 : 12)) {
        restoring_.SwitchStandby();
      }
      return;
    default:
      gateway_.Sleep(
          state_.random.Between(1, state_.random.OneIn(4) ? 8000 : 500) *
          1'000'000);
      return gateway_.Settle();
  }
}

std::string Simulation::Run() {
  for (int i = 0; i < kStepsPerSeed && state_.broken.empty(); ++i) {
    Step();
    rules_.CheckAlways();
  }
  // What is left alone ends by itself.
  state_.fault_interval = 0;
  state_.context->is_draining = false;
  if (state_.broken.empty()) gateway_.Settle();
  state_.context->is_standby = false;
  if (state_.broken.empty()) gateway_.Settle();
  const int64_t longest_nanoseconds =
      std::max(Nanoseconds(state_.limits().session_idle_timeout) * 5 / 4,
               std::max(Nanoseconds(state_.limits().resolve_timeout),
                        Nanoseconds(state_.limits().unconfirmed_timeout)));
  if (state_.broken.empty() && state_.random.OneIn(2)) {
    state_.is_calm = true;
    gateway_.Sleep(longest_nanoseconds + 1);
    gateway_.Settle();
    state_.Require(
        state_.Stats().sessions_active + state_.Stats().sessions_pending == 0,
        "sessions outlive their time-outs");
  }
  if (state_.broken.empty()) Stop();
  return state_.broken;
}

void Simulation::Stop() {
  state_.is_stopping = true;
  state_.is_calm = true;
  state_.worker->EndAllSessions();
  rules_.CheckAlways();
  const ProxyStats stats = state_.Stats();
  state_.Require(
      stats.sessions_created + stats.sessions_restored == stats.ended_total() &&
          stats.datagrams_held == 0,
      "something is left after the stop");
  state_.Require(
      state_.observer->client_datagrams == stats.client_datagrams_forwarded &&
          state_.observer->client_bytes == stats.client_bytes_forwarded &&
          state_.observer->backend_datagrams ==
              stats.backend_datagrams_forwarded &&
          state_.observer->backend_bytes == stats.backend_bytes_forwarded,
      "the totals that the observer was told do not add up");
  ProxyStats* const sum = &state_.coverage->stats;
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    sum->datagrams_dropped[i] += stats.datagrams_dropped[i];
  }
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    sum->sessions_ended[i] += stats.sessions_ended[i];
  }
  for (size_t i = 0; i < kReopenReasonCount; ++i) {
    sum->sessions_reopened[i] += stats.sessions_reopened[i];
  }
  sum->client_datagrams_forwarded += stats.client_datagrams_forwarded;
  sum->backend_datagrams_forwarded += stats.backend_datagrams_forwarded;
}

int Simulation::OnCall(test::Call call, int fd) {
  return faults_.OnCall(call, fd);
}

unsigned Simulation::OnBatch(test::Call /*call*/, int /*fd*/, unsigned count) {
  return faults_.OnBatch(count);
}

void Simulation::OnSent(int fd, const SocketAddress& from,
                        const SocketAddress& to, absl::string_view payload) {
  observation_.OnSent(fd, from, to, payload);
}

void Simulation::OnSendFailed(int fd, int error, absl::string_view payload) {
  observation_.OnSendFailed(fd, error, payload);
}

void Simulation::OnReceived(int fd, absl::string_view payload, size_t bytes) {
  observation_.OnReceived(fd, payload, bytes);
}

void Simulation::OnReceiveFailed(int fd, int error) {
  observation_.OnReceiveFailed(fd, error);
}

void Simulation::OnErrorTaken(int fd, int error, const SocketAddress& to) {
  observation_.OnErrorTaken(fd, error, to);
}

void Simulation::OnWatched(int fd) { observation_.OnWatched(fd); }

void Simulation::OnClosed(int fd) { observation_.OnClosed(fd); }

void Simulation::OnSleep(int64_t timeout_nanoseconds) {
  gateway_.OnSleep(timeout_nanoseconds);
}

void Simulation::Resolve(const ResolveRequest& request, Callback done) {
  observation_.Resolve(request, std::move(done));
}

Screening Simulation::Screen(const SocketAddress& /*client*/,
                             absl::Span<const char> /*datagram*/) {
  Screening screening;
  if (state_.random.OneIn(16)) screening.drop = DropReason::kStunUnknownUfrag;
  screening.is_known_player = state_.random.OneIn(4);
  return screening;
}

}  // namespace simulation
}  // namespace internal
}  // namespace udpgate
