// Random but repeatable lives of a shard: the real Worker and Reader, on
// sockets and a clock that exist in memory only, against a model of what must
// be live and where each datagram must go. One thread; nothing waits.
//
// The seed decides everything: the limits, who sends what when, how the
// resolver answers, which system calls fail, also in the middle of a turn. A
// seed that breaks a rule is printed with its last events, and replays:
//
//   tools/simulate.sh --seeds 100000             many
//   tools/simulate.sh --first-seed 123 --seeds 1   that one
#include <errno.h>
#include <unistd.h>
#ifdef UDPGATE_SANITIZED
#include <sanitizer/common_interface_defs.h>
#endif

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "testing/simulated_clock.h"
#include "testing/simulated_sys_calls.h"
#include "udpgate/internal/error_queue.h"
#include "udpgate/internal/network_watcher.h"
#include "udpgate/internal/reader.h"
#include "udpgate/internal/worker.h"

namespace udpgate {
namespace internal {
namespace {

using test::Call;

constexpr int kStepsPerSeed = 300;
// A shard that has so much to do in one go, with so few clients, spins.
constexpr int kTurnsMax = 3000;
constexpr int64_t kSecondNanoseconds = 1'000'000'000;
constexpr int kNone = -1;
// What an unconfirmed client may get in any case, and once it has answered.
constexpr int64_t kReplyBytes = 2048;
constexpr int64_t kAnsweringReplyBytes = 16 << 20;
// Before that no reply passes beyond the limit.
constexpr int64_t kTrickleAgeNanoseconds = 2 * kSecondNanoseconds;
constexpr int64_t kClientQuietNanoseconds = 5 * kSecondNanoseconds;
constexpr int64_t kSourceCheckNanoseconds = 2 * kSecondNanoseconds;

// What every payload begins with.
struct Tag {
  enum Kind : uint32_t { kFromClient, kFromBackend, kForged };
  uint32_t kind = kForged;
  uint32_t index = 0;  // of the client; of the session
  uint32_t number = 0;
  uint32_t bytes = sizeof(Tag);
};

std::string PayloadOf(const Tag& tag) {
  std::string payload(tag.bytes, static_cast<char>(tag.number));
  std::memcpy(&payload[0], &tag, sizeof(tag));
  return payload;
}

SocketAddress Address(absl::string_view ip, int port) {
  return *SocketAddress::FromIpAndPort(ip, static_cast<uint16_t>(port));
}

// What the model knows.

struct ClientSends {  // one datagram of a client
  uint32_t bytes;
  uint64_t read_event = 0;  // 0: not read yet
  bool is_refused = false;  // by the full queue
  bool is_sent = false;
  bool is_lost = false;     // by an error of the send that was its own
  int errors = 0;           // of sends that it was the first of
  bool is_refusal = false;  // one of them
};

struct ModelClient {
  SocketAddress address;
  SocketAddress gate;  // where it writes to
  bool is_denied = false;
  std::vector<ClientSends> datagrams;
  uint32_t next_sent = 0;     // the next one to leave is no older
  uint32_t next_checked = 0;  // the fate of those before is known
  int session = kNone;        // the live one
  int open_disconnects = 0;   // that may not have been handled yet
  int disconnects = 0;
};

struct Question {
  int session;
  SocketAddress backend;  // its own: whoever meets it knows the question
  BackendResolver::Callback done;
  bool is_answered = false;
  bool is_good = false;
  bool is_stale = false;  // a disconnect came before the answer
  // One came behind it: the session asks again, or is opened and then ended.
  bool is_contested = false;
};

struct Reply {
  enum Fate { kUnread, kOwed, kDone };
  uint32_t bytes;
  Fate fate = kUnread;
  int errors = 0;  // of sends that it was the first of
};

// Refusals in a row, as far as they can be told from outside: errors that are
// met together count once, and which ones are together is the gate's affair.
struct Refusals {
  int at_least = 0;
  int at_most = 0;
  uint64_t counted_episode = 0;  // the last one that counts

  void Clear() { at_least = at_most = 0; }
};

struct ModelSession {
  int client = kNone;
  uint32_t first_datagram = 0;
  int64_t created_nanoseconds = 0;
  int64_t deadline_nanoseconds = 0;
  int question = kNone;  // the latest
  bool is_live = true;
  bool must_end = false;  // a disconnect was posted
  // Once it has a backend:
  int fd = kNone;
  SocketAddress relay;
  SocketAddress backend;
  uint64_t active_event = 0;
  int64_t last_active_nanoseconds = 0;
  int64_t client_active_nanoseconds = 0;
  // The client's first datagram after the last reply; kNone: none.
  int64_t unanswered_since_nanoseconds = kNone;
  Refusals refusals;
  int client_refusals = 0;  // of its client's host, and none sent since
  // Where its last send has met an error: the episode, and the datagram.
  uint64_t failed_episode = 0;
  uint32_t failed_datagram = 0;
  uint32_t network_epoch = 0;  // at its last send
  uint64_t reopened_episode = 0;
  uint64_t unread_episode = 0;  // when the oldest unread reply came
  bool is_mute = false;         // its backend
  int proofs = 0;
  bool has_unanswered_reply = false;
  int64_t first_proof_nanoseconds = 0;
  bool is_confirmed = false;
  uint64_t client_bytes = 0;
  int64_t reply_bytes = 0;
  int64_t replies_beyond_limit = 0;
  std::vector<Reply> replies;
  uint32_t next_reply = 0;

  bool is_active() const { return is_live && fd != kNone; }
};

// What all seeds together must have met, else the test proves little.
struct Coverage {
  ProxyStats stats;
  int64_t questions_repeated = 0;
  int64_t answers_repeated = 0;
  int64_t answers_late = 0;
  int64_t sends_failed = 0;
  int64_t sessions_confirmed = 0;
  int64_t replies_beyond_limit = 0;
  int64_t sessions_settled_paused = 0;
};

// Adds up what an observer is told, and checks its order.
class SessionTally : public SessionObserver {
 public:
  void Observe(const SessionEvent& event) override {
    const bool is_opened = opened_ids_.count(event.session_id) > 0;
    const bool is_confirmed = confirmed_ids_.count(event.session_id) > 0;
    if (ended_ids_.count(event.session_id) > 0) {
      broken = "an event comes after the end of its session";
    }
    switch (event.kind) {
      case SessionEvent::Kind::kOpened:
        if (is_opened) broken = "a session opens twice";
        opened_ids_.insert(event.session_id);
        ++opened_live;
        break;
      case SessionEvent::Kind::kConfirmed:
        if (!is_opened || is_confirmed) broken = "confirmed out of turn";
        confirmed_ids_.insert(event.session_id);
        ++confirmed_live;
        break;
      case SessionEvent::Kind::kEnded:
        if (is_opened != (event.state != SessionState::kPending) ||
            is_confirmed != (event.state == SessionState::kConfirmed)) {
          broken = "an end of another state than was told";
        }
        ended_ids_.insert(event.session_id);
        if (is_opened) --opened_live;
        if (is_confirmed) --confirmed_live;
        ++ended[static_cast<size_t>(event.end_reason)];
        client_datagrams += event.client_datagrams_forwarded;
        client_bytes += event.client_bytes_forwarded;
        backend_datagrams += event.backend_datagrams_forwarded;
        backend_bytes += event.backend_bytes_forwarded;
        break;
    }
  }

  std::string broken;  // the last rule; empty where none was
  uint64_t opened_live = 0;
  uint64_t confirmed_live = 0;
  std::array<uint64_t, kEndReasonCount> ended{};
  // Of the sessions that ended.
  uint64_t client_datagrams = 0;
  uint64_t client_bytes = 0;
  uint64_t backend_datagrams = 0;
  uint64_t backend_bytes = 0;

 private:
  std::set<uint64_t> opened_ids_;
  std::set<uint64_t> confirmed_ids_;
  std::set<uint64_t> ended_ids_;
};

// One seed.
class Simulation : public test::SimulatedWorld, public BackendResolver {
 public:
  Simulation(uint64_t seed, Coverage* coverage)
      : random_(seed), coverage_(coverage), sys_calls_(this) {
    Start();
  }
  // In this order: what the gate closes is still told to the model.
  ~Simulation() override {
    is_stopping_ = true;
    is_calm_ = true;
    readers_.clear();
    worker_->EndAllSessions();
    NoteOutcome();
    questions_.clear();
    context_->inboxes.clear();
    worker_.reset();
    network_watcher_.reset();
  }

  // The first rule that was broken; empty where none was.
  std::string Run();
  // The last events, a line each.
  std::string History() const { return absl::StrJoin(history_, "\n"); }

 private:
  // Random numbers.
  int64_t Below(int64_t end) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(end));
  }
  int64_t Between(int64_t first, int64_t last) {
    return first + Below(last - first + 1);
  }
  bool OneIn(int64_t count) { return Below(count) == 0; }
  template <typename T>
  const T& OneOf(const std::vector<T>& values) {
    return values[Below(static_cast<int64_t>(values.size()))];
  }

  void Start();
  ProxyOptions Options();
  void Step();

  // What happens around the gate.
  void ClientSendsSome(int client);
  void ForgedDatagram();
  void Answer(int question);
  void RepeatAnswer(int question);
  void BackendReplies(int session);
  void Disconnect(int client);
  void Interrupt();
  void NetworkError();
  void ClientUnreachable();
  void ChangeNetwork();
  int LiveSession();
  int OpenQuestion();

  // What the gate does.
  void Read(size_t reader);
  void Turn(int64_t max_wait_nanoseconds);
  void Sleep(int64_t nanoseconds);
  void Settle();

  // SimulatedWorld and BackendResolver: what it is seen to do.
  int OnCall(Call call, int fd) override;
  int ErrorOf(Call call);
  unsigned OnBatch(Call call, int fd, unsigned count) override;
  void OnSent(int fd, const SocketAddress& from, const SocketAddress& to,
              absl::string_view payload) override;
  void OnSendFailed(int fd, int error, absl::string_view payload) override;
  void OnReceived(int fd, absl::string_view payload, size_t bytes) override;
  void OnReceiveFailed(int fd, int error) override;
  void OnErrorTaken(int fd, int error, const SocketAddress& to) override;
  void OnWatched(int fd) override;
  void OnClosed(int fd) override;
  void OnSleep(int64_t timeout_nanoseconds) override;
  void Resolve(const ResolveRequest& request, Callback done) override;

  void OnSentToBackend(int fd, const SocketAddress& from,
                       const SocketAddress& to, const Tag& tag);
  void OnSentToClient(const SocketAddress& from, const SocketAddress& to,
                      const Tag& tag);
  void OnReopened(int fd, int index);
  void NoteSigns(ModelSession* session);
  void CountRefusal(ModelSession* session, bool is_counted_by_its_entry);
  int64_t ReplyBytesLeft(const ModelSession& session) const;
  // What the counters tell only after a call has returned.
  void NoteOutcome();
  void NoteEnd();
  bool IsLeastProven(const ModelSession& session) const;

  // The rules.
  void CheckAlways();
  void CheckLimits(const ProxyStats& stats);
  void CheckSettled();
  void CheckPunctual();
  void CheckTimes(const ModelSession& session);
  void CheckFates(int client);
  void Stop();

  ProxyStats Stats() const;
  int64_t now() const { return clock_.NowNanoseconds(); }
  // The time-outs of silence, 0: none; and how long a look at all sessions
  // takes.
  int64_t BackendSilentNanoseconds() const {
    return Nanoseconds(limits().backend_silent_timeout);
  }
  int64_t ClientSilentNanoseconds() const {
    return Nanoseconds(limits().client_silent_timeout);
  }
  int64_t SweepNanoseconds() const {
    int64_t least = Nanoseconds(limits().session_idle_timeout);
    for (const int64_t timeout :
         {BackendSilentNanoseconds(), ClientSilentNanoseconds()}) {
      if (timeout > 0) least = std::min(least, timeout);
    }
    return least / 8;
  }
  uint64_t limit_drops() const {
    return worker_->counters()
        .datagrams_dropped[static_cast<size_t>(
            DropReason::kUnconfirmedReplyLimit)]
        .value();
  }
  bool IsListener(int fd) const {
    return std::find(listener_fds_.begin(), listener_fds_.end(), fd) !=
           listener_fds_.end();
  }
  int64_t Nanoseconds(absl::Duration time) const {
    return absl::ToInt64Nanoseconds(time);
  }
  const ProxyLimits& limits() const { return context_->options.limits; }
  // Keeps the first broken rule only: what follows it means little.
  template <typename... Texts>
  void Require(bool holds, const Texts&... texts) {
    if (!holds && broken_.empty()) broken_ = absl::StrCat(texts...);
  }
  template <typename... Texts>
  void Note(const Texts&... texts) {
    ++event_;
    if (!must_trace_) return;
    history_.push_back(
        absl::StrCat((now() - start_nanoseconds_) / 1000, " us: ", texts...));
    if (history_.size() > 80) history_.pop_front();
  }

 public:
  bool must_trace_ = false;

 private:
  std::mt19937_64 random_;
  Coverage* const coverage_;
  test::SimulatedClock clock_;
  const int64_t start_nanoseconds_ = clock_.NowNanoseconds();
  test::SimulatedSysCalls sys_calls_;
  const std::shared_ptr<SessionTally> observer_ =
      std::make_shared<SessionTally>();
  std::unique_ptr<GateContext> context_;
  std::unique_ptr<NetworkWatcher> network_watcher_;
  std::unique_ptr<Worker> worker_;
  std::vector<std::unique_ptr<Reader>> readers_;
  std::vector<int> listener_fds_;
  int64_t sessions_max_ = 0;
  int64_t port_count_ = 0;

  // How the world is.
  bool worker_reads_ = false;
  int64_t fault_interval_ = 0;      // one call in so many; 0: none
  int64_t interrupt_interval_ = 0;  // likewise
  int64_t inline_answer_interval_ = 0;
  bool is_calm_ = true;  // no interruptions and no answers of their own
  bool was_draining_ = false;
  bool had_faults_ = false;
  bool had_call_faults_ = false;
  bool had_network_changes_ = false;
  std::vector<SocketAddress> lost_addresses_;  // at any time
  bool has_unread_ = false;  // the socket that is being closed
  int injected_error_ = 0;   // of the call under way

  std::vector<ModelClient> clients_;
  std::map<SocketAddress, int,
           bool (*)(const SocketAddress&, const SocketAddress&)>
      client_by_address_{[](const SocketAddress& a, const SocketAddress& b) {
        return std::memcmp(&a, &b, sizeof(a)) < 0;
      }};
  std::vector<Question> questions_;
  std::vector<int> open_questions_;
  std::vector<ModelSession> sessions_;
  std::map<int, int> session_by_fd_;
  std::set<int> left_fds_;  // of sessions that go on with another one

  int64_t replies_owed_ = 0;
  uint64_t disconnects_posted_ = 0;
  uint64_t client_received_ = 0, client_forwarded_ = 0;
  uint64_t backend_received_ = 0, backend_forwarded_ = 0;
  uint64_t sessions_created_ = 0;
  // How many of the ends that were seen could have had this reason.
  std::array<uint64_t, kEndReasonCount> ends_explained_{};
  // Of the end that is not counted yet: the session, the counters before it,
  // and its possible reasons.
  int ending_session_ = kNone;
  std::array<uint64_t, kEndReasonCount> ends_before_{};
  std::array<bool, kEndReasonCount> end_reasons_{};
  // A reply that the limit forbids, and whose fate is not seen yet.
  int undecided_session_ = kNone;
  uint32_t undecided_reply_ = 0;
  uint64_t limit_drops_before_ = 0;
  // Whether errors are met together: one turn, one batch that was read.
  uint64_t episode_ = 1;
  bool is_stopping_ = false;
  bool has_stalled_ = false;
  // Since the last CheckAlways.
  uint64_t pending_peak_ = 0;
  uint64_t pending_limit_drops_ = 0;
  int sleeps_ = 0;
  int64_t sleep_until_nanoseconds_ = kNone;  // kNone: time stands still
  std::vector<uint32_t> batch_;  // what the reader has just read, by client
  std::vector<int> batch_clients_;

  uint64_t event_ = 0;
  std::string broken_;
  std::deque<std::string> history_;
};

// Setting up.

ProxyOptions Simulation::Options() {
  ProxyOptions options;
  options.log_sink = nullptr;
  options.listen_address =
      OneIn(2) ? SocketAddress::Ipv4Any(19132) : Address("10.0.0.1", 19132);
  options.listener_count = static_cast<int>(Between(1, 2));
  options.batch_size = static_cast<int>(Between(1, 8));
  options.queue_size_datagrams = static_cast<int>(Between(1, 40));
  options.port_quarantine = absl::Seconds(Below(2) * 5);
  if (OneIn(3)) {
    options.upstream_bind_addresses = {Address("10.0.0.7", 0),
                                       Address("10.0.0.8", 0)};
  }
  ProxyLimits& limits = options.limits;
  limits.session_idle_timeout = absl::Milliseconds(Between(500, 20'000));
  limits.unconfirmed_timeout = absl::Milliseconds(Between(500, 10'000));
  limits.resolve_timeout = absl::Milliseconds(Between(1, 3000));
  limits.backend_refusals_max = static_cast<int>(Between(1, 4));
  if (OneIn(2)) {
    limits.backend_silent_timeout = absl::Milliseconds(Between(300, 15'000));
  }
  if (OneIn(4)) limits.backend_silent_timeout = absl::ZeroDuration();
  if (OneIn(2)) {
    limits.client_silent_timeout = absl::Milliseconds(Between(300, 15'000));
  }
  if (OneIn(4)) limits.client_silent_timeout = absl::ZeroDuration();
  limits.paused_sessions_max = Below(4);
  limits.pending_datagrams_max = static_cast<int>(Between(1, 16));
  limits.pending_clients_max = OneIn(3) ? Between(1, 4) : 4096;
  limits.new_sessions_per_second = OneIn(4) ? Between(2, 10) : 0;
  limits.unconfirmed_reply_factor = OneOf<int64_t>({0, 1, 10});
  if (OneIn(4)) limits.max_sessions_per_ip = Between(1, 3);
  if (OneIn(4)) limits.max_unconfirmed_sessions_per_ip = Between(1, 3);
  limits.deny_cidrs = *ParseCidrList("192.0.2.0/24");
  return options;
}

void Simulation::Start() {
  sessions_max_ = Between(2, 16);
  const ProxyOptions options = Options();
  std::vector<uint16_t> ports;
  port_count_ = Between(2, 30);
  for (int64_t i = 0; i < port_count_; ++i) {
    ports.push_back(static_cast<uint16_t>(40000 + i));
  }
  context_ = std::make_unique<GateContext>(options, &clock_, &sys_calls_,
                                           ClientHash(1), ports, sessions_max_);
  context_->resolver = std::shared_ptr<BackendResolver>(
      this, [](BackendResolver*) { /* not owned */ });
  context_->session_events = std::make_unique<SessionEvents>(
      observer_, &clock_, options.session_events_max);
  context_->listeners =
      *OpenListenSockets(&sys_calls_, options, context_->hash);
  worker_ = *Worker::Create(context_.get(), 0);
  context_->inboxes = {worker_->inbox()};
  network_watcher_ = *NetworkWatcher::Create(&sys_calls_);
  const absl::Status watched =
      worker_->AddNetworkWatcher(network_watcher_.get());
  Require(watched.ok(), "AddNetworkWatcher: ", watched.ToString());
  for (size_t i = 0; i < context_->listeners.size(); ++i) {
    listener_fds_.push_back(context_->listeners[i].fd.get());
    readers_.push_back(*Reader::Create(context_.get(), static_cast<uint16_t>(i),
                                       {worker_.get()}));
  }
  worker_reads_ = readers_.size() == 1 && OneIn(2);
  if (worker_reads_) {
    Reader* const reader = readers_.front().get();
    const absl::Status added = worker_->AddReader(
        reader->fd(), [this] { Read(0); },
        [reader] { reader->TakeClientErrors(); });
    Require(added.ok(), "AddReader: ", added.ToString(), reader->fd());
  }
  const int64_t client_count = Between(2, 24);
  for (int64_t i = 0; i < client_count; ++i) {
    ModelClient client;
    client.is_denied = OneIn(20);
    // Three on each address.
    client.address = client.is_denied
                         ? Address("192.0.2.1", static_cast<int>(5000 + i))
                         : Address(absl::StrCat("198.51.100.", 1 + i / 3),
                                   static_cast<int>(5000 + i));
    client.gate = options.listen_address.is_any() && OneIn(2)
                      ? Address("10.0.0.2", 19132)
                      : Address("10.0.0.1", 19132);
    client_by_address_[client.address] = static_cast<int>(clients_.size());
    clients_.push_back(client);
  }
  fault_interval_ = OneOf<int64_t>({0, 0, 300, 30});
  interrupt_interval_ = OneOf<int64_t>({0, 40, 8});
  inline_answer_interval_ = OneOf<int64_t>({0, 4, 1});
  had_faults_ = had_call_faults_ = fault_interval_ > 0;
  is_calm_ = false;
}

// What happens around the gate.

void Simulation::Step() {
  switch (Below(20)) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
      return ClientSendsSome(
          static_cast<int>(Below(static_cast<int64_t>(clients_.size()))));
    case 5:
    case 6:
    case 7:
      if (!worker_reads_) Read(Below(static_cast<int64_t>(readers_.size())));
      return;
    case 8:
    case 9:
    case 10:
      return Turn(0);
    case 11:
    case 12:
    case 13:
      return BackendReplies(LiveSession());
    case 14:
    case 15:
      return OneIn(8) ? RepeatAnswer(static_cast<int>(
                            Below(std::max<int64_t>(questions_.size(), 1))))
                      : Answer(OpenQuestion());
    case 16:
      if (OneIn(3)) {
        Disconnect(
            static_cast<int>(Below(static_cast<int64_t>(clients_.size()))));
      }
      return;
    case 17:
      if (OneIn(3)) return ForgedDatagram();
      return OneIn(6) ? ClientUnreachable() : NetworkError();
    case 18:
      if (OneIn(10)) {
        const bool is_draining = !context_->is_draining;
        was_draining_ = was_draining_ || is_draining;
        context_->is_draining = is_draining;
        Note("draining: ", is_draining);
      } else if (OneIn(3)) {  // a busy machine
        Note("a stall");
        has_stalled_ = true;
        clock_.Advance(absl::Milliseconds(Between(1, 3000)));
      } else if (OneIn(4)) {
        ChangeNetwork();
      } else if (const int session = LiveSession();
                 session != kNone && OneIn(2)) {
        bool* const is_mute = &sessions_[session].is_mute;
        *is_mute = !*is_mute;
        Note("the backend of session ", session, " is mute: ", *is_mute);
      }
      return;
    default:
      Sleep(Between(1, OneIn(4) ? 8000 : 500) * 1'000'000);
      return Settle();
  }
}

// An ICMP message about a datagram to a backend.
void Simulation::NetworkError() {
  const int session = LiveSession();
  if (session == kNone) return;
  const int error =
      OneOf<int>({ECONNREFUSED, ECONNREFUSED, ECONNREFUSED, EHOSTUNREACH,
                  ENETUNREACH, EHOSTDOWN, ENOPROTOOPT, EACCES, EMSGSIZE});
  Note("ICMP error for session ", session, ": ", error);
  had_faults_ = true;
  sys_calls_.FailSocket(sessions_[session].fd, error,
                        sessions_[session].backend);
}

// An ICMP message about a reply.
void Simulation::ClientUnreachable() {
  const int client =
      static_cast<int>(Below(static_cast<int64_t>(clients_.size())));
  Note("ICMP error for client ", client);
  had_faults_ = true;
  sys_calls_.FailSocket(OneOf(listener_fds_), ECONNREFUSED,
                        clients_[client].address);
}

// The route leaves from another address now; the old one may be gone.
void Simulation::ChangeNetwork() {
  const SocketAddress old = sys_calls_.host_address();
  const SocketAddress ip = OneOf<SocketAddress>(
      {Address("10.0.0.1", 0), Address("10.0.0.4", 0), Address("10.0.0.5", 0)});
  // The clients write to the first one.
  const bool is_lost = ip != old && old != Address("10.0.0.1", 0) && OneIn(2);
  const bool is_told = OneIn(2);
  Note("the source address is ", ip.IpToString(),
       " now, the old one is lost: ", is_lost, ", told: ", is_told);
  had_faults_ = had_network_changes_ = true;
  sys_calls_.RegainAddress(ip, is_told);
  sys_calls_.SetHostAddress(ip);
  if (!is_lost) return;
  sys_calls_.LoseAddress(old, is_told);
  lost_addresses_.push_back(old);
}

void Simulation::ClientSendsSome(int index) {
  ModelClient& client = clients_[index];
  for (int64_t i = Between(1, 5); i > 0; --i) {
    Tag tag{Tag::kFromClient, static_cast<uint32_t>(index),
            static_cast<uint32_t>(client.datagrams.size()),
            static_cast<uint32_t>(Between(sizeof(Tag), 600))};
    if (!sys_calls_.Arrive(client.address, client.gate, PayloadOf(tag))) return;
    Note("client ", index, " sends ", tag.number);
    client.datagrams.push_back({tag.bytes});
  }
}

// From a source that cannot be answered.
void Simulation::ForgedDatagram() {
  const SocketAddress source =
      OneIn(2) ? SocketAddress::Ipv4Any(5) : Address("255.255.255.255", 5);
  sys_calls_.Arrive(source, Address("10.0.0.1", 19132), PayloadOf(Tag()));
}

int Simulation::OpenQuestion() {
  return open_questions_.empty() ? kNone : OneOf(open_questions_);
}

int Simulation::LiveSession() {
  if (session_by_fd_.empty()) return kNone;
  auto found = session_by_fd_.begin();
  std::advance(found, Below(static_cast<int64_t>(session_by_fd_.size())));
  return found->second;
}

void Simulation::Answer(int index) {
  if (index == kNone) return;
  open_questions_.erase(
      std::find(open_questions_.begin(), open_questions_.end(), index));
  Question& question = questions_[index];
  const ModelSession& session = sessions_[question.session];
  if (OneIn(8)) {
    Note("question ", index, " is never answered");
    return;
  }
  if (now() >= session.deadline_nanoseconds) ++coverage_->answers_late;
  question.is_answered = true;
  if (OneIn(6)) {
    Note("question ", index, " fails");
    question.done(OneOf<absl::Status>(
        {absl::NotFoundError(""), absl::InvalidArgumentError(""),
         absl::DeadlineExceededError(""), absl::UnavailableError("")}));
    return;
  }
  if (OneIn(12)) {
    Note("question ", index, " is answered with no address to send to");
    // The last one is the gate itself.
    const SocketAddress& gate = context_->options.listen_address;
    question.done(ResolveResult{
        OneOf<SocketAddress>(
            {SocketAddress(), SocketAddress::Ipv4Any(5),
             gate.is_any() ? Address("127.0.0.1", gate.port()) : gate}),
        ""});
    return;
  }
  question.is_good = true;
  Note("question ", index, " is answered");
  question.done(ResolveResult{question.backend, ""});
}

// Against the contract of BackendResolver, which is harmless.
void Simulation::RepeatAnswer(int index) {
  if (index >= static_cast<int>(questions_.size())) return;
  Question& question = questions_[index];
  if (!question.is_answered) return;
  ++coverage_->answers_repeated;
  Note("question ", index, " is answered again");
  question.done(ResolveResult{question.backend, "again"});
}

void Simulation::BackendReplies(int index) {
  if (index == kNone) return;
  ModelSession& session = sessions_[index];
  if (session.is_mute) return;
  if (sys_calls_.queued(session.fd) == 0) session.unread_episode = episode_;
  for (int64_t i = Between(1, 4); i > 0; --i) {
    const Tag tag{
        Tag::kFromBackend, static_cast<uint32_t>(index),
        static_cast<uint32_t>(session.replies.size()),
        static_cast<uint32_t>(Between(sizeof(Tag), OneIn(8) ? 4000 : 1200))};
    if (!sys_calls_.Arrive(session.backend, session.relay, PayloadOf(tag))) {
      return;
    }
    Note("backend replies to session ", index, ": ", tag.number);
    session.replies.push_back({tag.bytes});
  }
  const Tag forged;
  Require(!sys_calls_.Arrive(Address("203.0.113.66", 6), session.relay,
                             PayloadOf(forged)),
          "a stranger is heard on the socket of session ", index);
}

void Simulation::Disconnect(int index) {
  ModelClient& client = clients_[index];
  ModelSession* const session =
      client.session == kNone ? nullptr : &sessions_[client.session];
  ShardMessage message;
  message.kind = ShardMessage::Kind::kDisconnectClient;
  message.client = client.address;
  // As the gate does; else it concerns whoever comes until it is read, too.
  if (OneIn(2)) message.came_nanoseconds = now();
  if (session != nullptr && session->fd != kNone && OneIn(2)) {
    const std::vector<RelayOwner> owners =
        context_->relay_ports.Find(session->relay.port());
    if (owners.size() == 1) {
      message.kind = ShardMessage::Kind::kEndSession;
      message.session = owners.front().session;
    }
  }
  Note("disconnect of client ", index);
  ++client.open_disconnects;
  ++client.disconnects;
  ++disconnects_posted_;
  if (session != nullptr) {
    Question& question = questions_[session->question];
    if (session->fd != kNone) {
      session->must_end = true;
    } else if (!question.is_answered) {
      question.is_stale = true;
    } else {
      question.is_contested = true;
    }
  }
  worker_->inbox()->PostDisconnect(std::move(message));
}

// Something that happens while the gate is at work.
void Simulation::Interrupt() {
  switch (Below(4)) {
    case 0:
      return ClientSendsSome(
          static_cast<int>(Below(static_cast<int64_t>(clients_.size()))));
    case 1:
      return BackendReplies(LiveSession());
    case 2:
      return Answer(OpenQuestion());
    default:
      if (OneIn(4)) {
        Disconnect(
            static_cast<int>(Below(static_cast<int64_t>(clients_.size()))));
      }
  }
}

// What the gate does.

void Simulation::Read(size_t reader) {
  ++episode_;
  batch_.clear();
  batch_clients_.clear();
  const auto refused = [&] {
    return readers_[reader]
        ->counters()
        .datagrams_dropped[static_cast<size_t>(DropReason::kQueueFull)]
        .value();
  };
  const uint64_t refused_before = refused();
  readers_[reader]->ReadBatch();
  // The last ones of the batch, see Worker::Deliver.
  for (uint64_t i = refused() - refused_before; i > 0; --i) {
    Require(!batch_.empty(), "more was refused than read");
    if (batch_.empty()) return;
    clients_[batch_clients_.back()].datagrams[batch_.back()].is_refused = true;
    batch_.pop_back();
    batch_clients_.pop_back();
  }
}

void Simulation::Turn(int64_t max_wait_nanoseconds) {
  ++episode_;
  worker_->PollOnce(max_wait_nanoseconds);
  NoteOutcome();
  Require(replies_owed_ == 0, replies_owed_,
          " replies were read and neither sent nor dropped");
}

// As the worker's thread would: it sleeps as long as it wants, and no longer.
void Simulation::Sleep(int64_t nanoseconds) {
  sleep_until_nanoseconds_ = now() + nanoseconds;
  for (int turns = 0; now() < sleep_until_nanoseconds_ && broken_.empty();) {
    const int64_t before = now();
    Turn(sleep_until_nanoseconds_ - now());
    turns = now() == before ? turns + 1 : 0;
    Require(turns < kTurnsMax, "the worker spins");
  }
  sleep_until_nanoseconds_ = kNone;
}

// Until there is nothing left to do now.
void Simulation::Settle() {
  is_calm_ = true;
  Turn(0);  // how long it wants to sleep was decided before a stall, perhaps
  // After a stall it looks once more before anybody expires.
  int sleeps_in_a_row = 0;
  for (int turns = 0; sleeps_in_a_row < 2 && broken_.empty(); ++turns) {
    for (size_t i = 0; i < readers_.size() && !worker_reads_; ++i) {
      while (sys_calls_.queued(listener_fds_[i]) > 0 ||
             sys_calls_.has_queued_errors(listener_fds_[i])) {
        if (sys_calls_.queued(listener_fds_[i]) == 0) {
          readers_[i]->TakeClientErrors();
        } else {
          Read(i);
        }
      }
    }
    const int sleeps_before = sleeps_;
    Turn(INT64_MAX);
    sleeps_in_a_row = sleeps_ > sleeps_before ? sleeps_in_a_row + 1 : 0;
    Require(turns < kTurnsMax, "the worker spins");
  }
  is_calm_ = false;
  has_stalled_ = false;
  if (broken_.empty()) CheckSettled();
}

std::string Simulation::Run() {
  for (int i = 0; i < kStepsPerSeed && broken_.empty(); ++i) {
    Step();
    CheckAlways();
  }
  // What is left alone ends by itself.
  fault_interval_ = 0;
  context_->is_draining = false;
  if (broken_.empty()) Settle();
  const int64_t longest_nanoseconds =
      std::max(Nanoseconds(limits().session_idle_timeout) * 5 / 4,
               std::max(Nanoseconds(limits().resolve_timeout),
                        Nanoseconds(limits().unconfirmed_timeout)));
  if (broken_.empty() && OneIn(2)) {
    is_calm_ = true;
    Sleep(longest_nanoseconds + 1);
    Settle();
    Require(Stats().sessions_active + Stats().sessions_pending == 0,
            "sessions outlive their time-outs");
  }
  if (broken_.empty()) Stop();
  return broken_;
}

void Simulation::Stop() {
  is_stopping_ = true;
  is_calm_ = true;
  worker_->EndAllSessions();
  CheckAlways();
  const ProxyStats stats = Stats();
  Require(stats.sessions_created == stats.ended_total() &&
              stats.datagrams_held == 0,
          "something is left after the stop");
  Require(
      observer_->client_datagrams == stats.client_datagrams_forwarded &&
          observer_->client_bytes == stats.client_bytes_forwarded &&
          observer_->backend_datagrams == stats.backend_datagrams_forwarded &&
          observer_->backend_bytes == stats.backend_bytes_forwarded,
      "the totals that the observer was told do not add up");
  ProxyStats* const sum = &coverage_->stats;
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

// What the gate is seen to do.

int Simulation::OnCall(Call call, int fd) {
  NoteOutcome();
  if (call == Call::kClose) has_unread_ = sys_calls_.queued(fd) > 0;
  if (!is_calm_ && interrupt_interval_ > 0 && OneIn(interrupt_interval_) &&
      (call == Call::kSendMmsg || call == Call::kRecvMmsg ||
       call == Call::kSocket || call == Call::kClose)) {
    Interrupt();
  }
  // Somebody still sends to the port that is about to be connected.
  if (call == Call::kConnect && sys_calls_.local(fd).is_valid() && OneIn(4)) {
    sys_calls_.Arrive(Address("203.0.113.66", 6), sys_calls_.local(fd),
                      PayloadOf(Tag()));
  }
  injected_error_ =
      fault_interval_ > 0 && OneIn(fault_interval_) ? ErrorOf(call) : 0;
  return injected_error_;
}

int Simulation::ErrorOf(Call call) {
  switch (call) {
    case Call::kSocket:
      return OneOf<int>({EMFILE, ENFILE, ENOBUFS, ENOMEM});
    case Call::kBind:
      return OneOf<int>({EADDRINUSE, EADDRNOTAVAIL, ENOMEM});
    case Call::kConnect:
      return OneOf<int>({EAGAIN, ENETUNREACH, EPERM, EINVAL});
    case Call::kSendMmsg:
      return OneOf<int>({ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, EINVAL, EPERM,
                         EMSGSIZE, ENOBUFS, EAGAIN, ENOMEM});
    case Call::kRecvMmsg:
      return OneOf<int>({ECONNREFUSED, EHOSTUNREACH, EMSGSIZE, ENOMEM});
    case Call::kGetSockName:
    case Call::kSetSockOpt:
    case Call::kGetSockOpt:
      return ENOBUFS;
    case Call::kEpollControl:
      return ENOMEM;
    case Call::kClose:
      return EIO;
    default:
      return 0;
  }
}

unsigned Simulation::OnBatch(Call /*call*/, int /*fd*/, unsigned count) {
  return fault_interval_ > 0 && OneIn(3)
             ? static_cast<unsigned>(Between(1, count))
             : count;
}

void Simulation::Resolve(const ResolveRequest& request, Callback done) {
  const auto found = client_by_address_.find(request.client);
  Require(found != client_by_address_.end(), "a question for nobody");
  if (found == client_by_address_.end()) return;
  ModelClient& client = clients_[found->second];
  const int index = static_cast<int>(questions_.size());
  if (worker_->counters().sessions_created.value() != sessions_created_) {
    ++sessions_created_;
    if (client.session != kNone) {
      const ModelSession& old = sessions_[client.session];
      Require(old.fd == kNone && (questions_[old.question].is_answered ||
                                  now() >= old.deadline_nanoseconds),
              "client ", found->second, " has two sessions");
      sessions_[client.session].is_live = false;
    }
    Tag tag;
    Require(request.first_datagram.size() >= sizeof(tag), "no datagram");
    std::memcpy(&tag, request.first_datagram.data(), sizeof(tag));
    Require(tag.kind == Tag::kFromClient &&
                tag.index == static_cast<uint32_t>(found->second),
            "a question with the datagram of another client");
    client.session = static_cast<int>(sessions_.size());
    ModelSession session;
    session.client = found->second;
    session.first_datagram = tag.number;
    session.created_nanoseconds = now();
    session.deadline_nanoseconds =
        now() + Nanoseconds(limits().resolve_timeout);
    sessions_.push_back(session);
  } else {
    Require(client.disconnects > 0 && client.session != kNone, "client ",
            found->second, " asks twice without a reason");
    ++coverage_->questions_repeated;
    if (client.session == kNone) return;
  }
  pending_peak_ =
      std::max(pending_peak_, worker_->counters().sessions_pending.value());
  Note("question ", index, " for client ", found->second, ", session ",
       client.session);
  Require(!client.is_denied, "client ", found->second, " is denied");
  sessions_[client.session].question = index;
  // Few hosts, so that the opener knows some of them.
  questions_.push_back(
      {client.session,
       Address(absl::StrCat("203.0.113.", 1 + index % 3), 1024 + index),
       std::move(done)});
  open_questions_.push_back(index);
  if (!is_calm_ && inline_answer_interval_ > 0 &&
      OneIn(inline_answer_interval_)) {
    Answer(index);
  }
}

void Simulation::OnWatched(int fd) {
  const SocketAddress backend = sys_calls_.peer(fd);
  if (!backend.is_valid()) return;
  const auto question =
      std::find_if(questions_.begin(), questions_.end(),
                   [&](const Question& q) { return q.backend == backend; });
  Require(question != questions_.end(), "connected to nobody's backend");
  if (question == questions_.end()) return;
  ModelSession& session = sessions_[question->session];
  const int index = static_cast<int>(question - questions_.begin());
  if (session.is_active() && session.question == index) {
    return OnReopened(fd, question->session);
  }
  Note("session ", question->session, " has a backend");
  Require(question->is_good && !question->is_stale &&
              session.question == index && session.is_live &&
              session.fd == kNone &&
              clients_[session.client].session == question->session,
          "session ", question->session,
          " uses an answer that is not for it: question ", index);
  if (question->is_contested) session.must_end = true;
  session.fd = fd;
  session.relay = sys_calls_.local(fd);
  session.backend = backend;
  session.active_event = event_;
  session.last_active_nanoseconds = now();
  session.client_active_nanoseconds = now();
  session_by_fd_[fd] = question->session;
}

// The old socket is closed after that.
void Simulation::OnReopened(int fd, int index) {
  ModelSession& session = sessions_[index];
  const SocketAddress relay = sys_calls_.local(fd);
  Note("session ", index, " has a new socket, from ", relay.ToString());
  Require(had_network_changes_ &&
              relay.WithPort(0) != session.relay.WithPort(0) &&
              context_->options.upstream_bind_addresses.empty(),
          "session ", index, " changes its socket for nothing");
  const bool is_silent =
      session.unanswered_since_nanoseconds != kNone &&
      now() - session.unanswered_since_nanoseconds >= kSourceCheckNanoseconds;
  const bool has_failed = session.failed_episode == episode_;
  // It may be back meanwhile, which the gate has not heard yet.
  const bool was_lost =
      std::find(lost_addresses_.begin(), lost_addresses_.end(),
                session.relay.WithPort(0)) != lost_addresses_.end();
  Require(is_silent || has_failed || was_lost || had_call_faults_, "session ",
          index, " leaves a source address that is of use");
  left_fds_.insert(session.fd);
  session_by_fd_.erase(session.fd);
  session.fd = fd;
  session.relay = relay;
  session.refusals.Clear();
  session_by_fd_[fd] = index;
  // Where nothing else is the reason, what met the error is sent again.
  const bool has_moved =
      std::exchange(session.reopened_episode, episode_) == episode_;
  if (!has_failed || is_silent || has_moved ||
      session.network_epoch != context_->network_epoch) {
    return;
  }
  ClientSends& datagram =
      clients_[session.client].datagrams[session.failed_datagram];
  datagram.is_lost = false;
  datagram.errors = 0;
}

// As Worker::NoteSigns, from the rules in docs/behaviour.md.
void Simulation::NoteSigns(ModelSession* session) {
  session->client_active_nanoseconds = now();
  session->client_refusals = 0;
  if (session->unanswered_since_nanoseconds == kNone) {
    session->unanswered_since_nanoseconds = now();
  }
  if (session->is_confirmed) return;
  if (session->has_unanswered_reply) {
    session->has_unanswered_reply = false;
    if (session->proofs == 0) session->first_proof_nanoseconds = now();
    session->proofs = std::min(session->proofs + 1, 3);
  }
  if (session->proofs == 3 &&
      now() - session->first_proof_nanoseconds >= kSecondNanoseconds) {
    session->is_confirmed = true;
    ++coverage_->sessions_confirmed;
  }
}

// An ICMP message is also an entry of the error queue, and the entry counts.
void Simulation::CountRefusal(ModelSession* session,
                              bool is_counted_by_its_entry) {
  Refusals& refusals = session->refusals;
  if (!is_counted_by_its_entry) ++refusals.at_most;
  if (refusals.counted_episode == episode_) return;
  refusals.counted_episode = episode_;
  ++refusals.at_least;
}

// As Worker::ReplyBytesLeft, from the rules in docs/behaviour.md.
int64_t Simulation::ReplyBytesLeft(const ModelSession& session) const {
  const int64_t factor = limits().unconfirmed_reply_factor;
  if (session.is_confirmed || session.proofs == 3 || factor == 0) {
    return INT64_MAX;
  }
  return std::max(session.proofs > 0 ? kAnsweringReplyBytes : kReplyBytes,
                  factor * static_cast<int64_t>(session.client_bytes)) -
         session.reply_bytes;
}

void Simulation::NoteOutcome() {
  NoteEnd();
  if (undecided_session_ == kNone) return;
  ModelSession& session = sessions_[undecided_session_];
  Reply& reply = session.replies[undecided_reply_];
  const int index = std::exchange(undecided_session_, kNone);
  if (limit_drops() > limit_drops_before_) {
    Require(had_call_faults_ ||
                worker_->counters().sessions_paused.value() >=
                    static_cast<uint64_t>(limits().paused_sessions_max),
            "session ", index, ": reply ", undecided_reply_,
            " is dropped and could have waited");
    reply.fate = Reply::kDone;
    return;
  }
  const int64_t age_nanoseconds = now() - session.created_nanoseconds;
  Require(
      age_nanoseconds >= kTrickleAgeNanoseconds &&
          ++session.replies_beyond_limit <=
              (age_nanoseconds - kTrickleAgeNanoseconds) / SweepNanoseconds() +
                  3,
      "session ", index, ": reply ", undecided_reply_,
      " goes beyond the limit");
  ++coverage_->replies_beyond_limit;
  session.reply_bytes += reply.bytes;
  session.has_unanswered_reply = true;
  reply.fate = Reply::kOwed;
  ++replies_owed_;
}

// The end that was seen last is counted by now, for one of its reasons.
void Simulation::NoteEnd() {
  if (ending_session_ == kNone) return;
  const int index = std::exchange(ending_session_, kNone);
  const ProxyStats stats = Stats();
  bool is_counted = false;
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    if (stats.sessions_ended[i] == ends_before_[i]) continue;
    // Pending ones, too, which have no socket to be seen closed.
    if (is_stopping_) return;
    const auto reason = static_cast<EndReason>(i);
    if (reason == EndReason::kResolveFailed ||
        reason == EndReason::kResolveTimedOut ||
        reason == EndReason::kNoUpstreamSocket) {
      continue;
    }
    is_counted = true;
    Require(end_reasons_[i] && stats.sessions_ended[i] == ends_before_[i] + 1,
            "session ", index, " ended for a wrong reason: ",
            EndReasonName(static_cast<EndReason>(i)));
  }
  Require(is_counted, "the end of session ", index, " is not counted");
}

void Simulation::OnSent(int fd, const SocketAddress& from,
                        const SocketAddress& to, absl::string_view payload) {
  Tag tag;
  Require(payload.size() >= sizeof(tag), "a datagram was cut");
  std::memcpy(&tag, payload.data(), std::min(sizeof(tag), payload.size()));
  Require(payload == PayloadOf(tag), "a datagram was changed");
  if (IsListener(fd)) {
    OnSentToClient(from, to, tag);
  } else {
    OnSentToBackend(fd, from, to, tag);
  }
}

void Simulation::OnSentToBackend(int fd, const SocketAddress& from,
                                 const SocketAddress& to, const Tag& tag) {
  const auto found = session_by_fd_.find(fd);
  Require(found != session_by_fd_.end(), "sent on a socket of no session");
  if (found == session_by_fd_.end()) return;
  ModelSession& session = sessions_[found->second];
  Note("session ", found->second, " sends ", tag.number, " of client ",
       tag.index);
  Require(tag.kind == Tag::kFromClient &&
              tag.index == static_cast<uint32_t>(session.client) &&
              to == session.backend && from == session.relay,
          "session ", found->second, " sends what is not its client's");
  if (!broken_.empty()) return;
  NoteSigns(&session);
  ModelClient& client = clients_[session.client];
  ClientSends& datagram = client.datagrams[tag.number];
  Require(tag.number >= client.next_sent && !datagram.is_sent, "client ",
          session.client, ": datagram ", tag.number, " is late or sent twice");
  Require(tag.number >= session.first_datagram && datagram.read_event > 0 &&
              !datagram.is_refused,
          "datagram ", tag.number, " cannot be there");
  datagram.is_sent = true;
  session.failed_episode = 0;
  session.network_epoch = context_->network_epoch;
  client.next_sent = tag.number + 1;
  session.client_bytes += tag.bytes;
  session.last_active_nanoseconds = now();
  ++client_forwarded_;
}

void Simulation::OnSentToClient(const SocketAddress& from,
                                const SocketAddress& to, const Tag& tag) {
  Require(tag.kind == Tag::kFromBackend && tag.index < sessions_.size(),
          "a client gets what no backend sent");
  if (!broken_.empty()) return;
  ModelSession& session = sessions_[tag.index];
  const ModelClient& client = clients_[session.client];
  Note("session ", tag.index, " replies ", tag.number);
  Require(to == client.address && from == client.gate, "session ", tag.index,
          ": a reply from ", from.ToString(), " to ", to.ToString());
  Reply& reply = session.replies[tag.number];
  Require(reply.fate == Reply::kOwed && tag.number >= session.next_reply,
          "session ", tag.index, ": reply ", tag.number,
          " is late, sent twice or beyond the limit");
  reply.fate = Reply::kDone;
  session.next_reply = tag.number + 1;
  --replies_owed_;
  ++backend_forwarded_;
}

void Simulation::OnSendFailed(int fd, int error, absl::string_view payload) {
  Tag tag;
  std::memcpy(&tag, payload.data(), sizeof(tag));
  ++coverage_->sends_failed;
  if (IsListener(fd)) {
    Require(tag.kind == Tag::kFromBackend &&
                sessions_[tag.index].replies[tag.number].fate == Reply::kOwed,
            "a reply that is not owed");
    if (!broken_.empty()) return;
    Note("session ", tag.index, " cannot reply ", tag.number, ": ", error);
    // The error may be of another client's reply.
    Reply& reply = sessions_[tag.index].replies[tag.number];
    if (IsOfEarlierDatagram(error) && error != EMSGSIZE && ++reply.errors < 4) {
      return;
    }
    reply.fate = Reply::kDone;
    --replies_owed_;
    return;
  }
  const auto found = session_by_fd_.find(fd);
  Require(found != session_by_fd_.end() && tag.kind == Tag::kFromClient,
          "sent on a socket of no session");
  if (!broken_.empty()) return;
  ModelSession& session = sessions_[found->second];
  Note("session ", found->second, " cannot send ", tag.number, ": ", error);
  NoteSigns(&session);
  session.failed_episode = episode_;
  session.network_epoch = context_->network_epoch;
  session.failed_datagram = tag.number;
  // Left by an earlier datagram, perhaps: this one deserves a second try.
  ClientSends& datagram = clients_[session.client].datagrams[tag.number];
  ++datagram.errors;
  if (IsUnreachable(error)) {
    const bool is_of_entry =
        injected_error_ == 0 && sys_calls_.has_queued_errors(fd);
    CountRefusal(&session, is_of_entry || datagram.is_refusal);
    datagram.is_refusal = true;
  }
  if (datagram.errors > 1 || !IsOfEarlierDatagram(error)) {
    datagram.is_lost = true;
  }
}

void Simulation::OnReceived(int fd, absl::string_view payload, size_t bytes) {
  Tag tag;
  std::memcpy(&tag, payload.data(), sizeof(tag));
  if (IsListener(fd)) {
    ++client_received_;
    if (tag.kind != Tag::kFromClient) return;
    clients_[tag.index].datagrams[tag.number].read_event = ++event_;
    batch_.push_back(tag.number);
    batch_clients_.push_back(static_cast<int>(tag.index));
    return;
  }
  if (bytes == 1) return;  // thrown away before the session begins
  const auto found = session_by_fd_.find(fd);
  Require(found != session_by_fd_.end() && tag.kind == Tag::kFromBackend,
          "what came before the socket was connected is taken for a reply");
  if (!broken_.empty()) return;
  NoteOutcome();
  ++backend_received_;
  ModelSession& session = sessions_[found->second];
  session.last_active_nanoseconds = now();
  session.refusals.Clear();
  session.refusals.counted_episode = 0;
  session.unanswered_since_nanoseconds = kNone;
  Reply& reply = session.replies[tag.number];
  const int64_t bytes_left = ReplyBytesLeft(session);
  if (reply.bytes > bytes_left) {
    undecided_session_ = found->second;
    undecided_reply_ = tag.number;
    limit_drops_before_ = limit_drops();
    return;
  }
  if (bytes_left != INT64_MAX) session.reply_bytes += reply.bytes;
  reply.fate = Reply::kOwed;
  ++replies_owed_;
  session.has_unanswered_reply = true;
}

void Simulation::OnReceiveFailed(int fd, int error) {
  const auto found = session_by_fd_.find(fd);
  if (found == session_by_fd_.end()) return;
  Note("session ", found->second, " cannot receive: ", error);
  if (!IsUnreachable(error)) return;
  CountRefusal(&sessions_[found->second],
               injected_error_ == 0 && sys_calls_.has_queued_errors(fd));
}

void Simulation::OnErrorTaken(int fd, int error, const SocketAddress& to) {
  if (IsListener(fd)) {
    const auto client = client_by_address_.find(to);
    Require(client != client_by_address_.end(), "an error of nobody");
    if (client == client_by_address_.end()) return;
    const int session = clients_[client->second].session;
    if (session != kNone) ++sessions_[session].client_refusals;
    return;
  }
  const auto found = session_by_fd_.find(fd);
  if (found == session_by_fd_.end() || !IsUnreachable(error)) return;
  Note("session ", found->second, " takes error ", error);
  CountRefusal(&sessions_[found->second], /*is_counted_by_its_entry=*/false);
}

// Whether no unconfirmed session is a better one to evict.
bool Simulation::IsLeastProven(const ModelSession& session) const {
  return std::all_of(
      session_by_fd_.begin(), session_by_fd_.end(), [&](const auto& entry) {
        const ModelSession& other = sessions_[entry.second];
        return other.is_confirmed ||
               std::make_pair(other.proofs, other.client_active_nanoseconds) >=
                   std::make_pair(session.proofs,
                                  session.client_active_nanoseconds);
      });
}

// A session ends, and there must be a reason.
void Simulation::OnClosed(int fd) {
  if (left_fds_.erase(fd) > 0) return;
  const auto found = session_by_fd_.find(fd);
  if (found == session_by_fd_.end()) return;
  ModelSession& session = sessions_[found->second];
  ModelClient& client = clients_[session.client];
  Note("session ", found->second, " ends");
  const Counters& counters = worker_->counters();
  const uint64_t live =
      counters.sessions_active.value() + counters.sessions_pending.value();
  // The counters say already that this one is gone.
  const bool is_full = live + 1 >= static_cast<uint64_t>(sessions_max_);
  // Source ports, or what a system call failed for want of.
  const bool has_no_room =
      had_faults_ || session_by_fd_.size() >= static_cast<size_t>(port_count_);
  const int64_t silent_nanoseconds = now() - session.client_active_nanoseconds;
  const std::pair<EndReason, bool> reasons[] = {
      {EndReason::kIdle, now() - session.last_active_nanoseconds >=
                             Nanoseconds(limits().session_idle_timeout)},
      {EndReason::kUnconfirmed,
       !session.is_confirmed && now() - session.client_active_nanoseconds >=
                                    Nanoseconds(limits().unconfirmed_timeout)},
      {EndReason::kEvicted,
       !session.is_confirmed &&
           ((is_full && IsLeastProven(session)) || has_no_room)},
      {EndReason::kReplaced,
       limits().max_sessions_per_ip > 0 &&
           silent_nanoseconds >=
               (session.is_confirmed ? 10 : 2) * int64_t{1'000'000'000}},
      {EndReason::kDisconnected, client.open_disconnects > 0},
      {EndReason::kBackendRefused,
       session.refusals.at_most >= limits().backend_refusals_max},
      // Of a reply that waits to be read it could have known.
      {EndReason::kBackendSilent,
       BackendSilentNanoseconds() > 0 &&
           (!has_unread_ || session.unread_episode == episode_ ||
            had_call_faults_) &&
           session.unanswered_since_nanoseconds != kNone &&
           now() - session.unanswered_since_nanoseconds >=
               BackendSilentNanoseconds()},
      {EndReason::kClientSilent,
       (ClientSilentNanoseconds() > 0 &&
        silent_nanoseconds >= ClientSilentNanoseconds()) ||
           (session.client_refusals >= limits().backend_refusals_max &&
            silent_nanoseconds >= kClientQuietNanoseconds)},
      {EndReason::kStopped, is_stopping_},
  };
  bool is_explained = false;
  ending_session_ = found->second;
  ends_before_ = Stats().sessions_ended;
  end_reasons_.fill(false);
  for (const auto& [reason, holds] : reasons) {
    if (!holds) continue;
    is_explained = true;
    ++ends_explained_[static_cast<size_t>(reason)];
    end_reasons_[static_cast<size_t>(reason)] = true;
  }
  Require(is_explained, "session ", found->second, " had to live");
  session.is_live = false;
  client.session = kNone;
  session_by_fd_.erase(found);
}

void Simulation::OnSleep(int64_t timeout_nanoseconds) {
  ++sleeps_;
  if (sleep_until_nanoseconds_ == kNone) return;
  clock_.Advance(absl::Nanoseconds(
      std::min(timeout_nanoseconds, sleep_until_nanoseconds_ - now())));
  if (!has_stalled_) CheckPunctual();
}

// The rules.

ProxyStats Simulation::Stats() const {
  ProxyStats stats;
  for (const auto& reader : readers_) reader->counters().AddTo(&stats);
  worker_->counters().AddTo(&stats);
  stats.datagrams_held += worker_->inbox()->datagrams_waiting();
  return stats;
}

void Simulation::CheckAlways() {
  NoteOutcome();
  if (!broken_.empty()) return;
  const ProxyStats stats = Stats();
  Require(stats.client_datagrams_received + stats.backend_datagrams_received ==
              stats.client_datagrams_forwarded +
                  stats.backend_datagrams_forwarded + stats.dropped_total() +
                  stats.datagrams_held,
          "datagrams do not add up");
  Require(
      stats.sessions_created ==
          stats.sessions_active + stats.sessions_pending + stats.ended_total(),
      "sessions do not add up");
  context_->session_events->Deliver();
  Require(observer_->broken.empty(), observer_->broken);
  Require(observer_->opened_live == stats.sessions_active &&
              observer_->confirmed_live == stats.sessions_confirmed &&
              observer_->ended == stats.sessions_ended,
          "the observer was told something else than is counted");
  Require(stats.client_datagrams_received == client_received_ &&
              stats.client_datagrams_forwarded == client_forwarded_ &&
              stats.backend_datagrams_received == backend_received_ &&
              stats.backend_datagrams_forwarded == backend_forwarded_,
          "what is counted is not what happened");
  Require(stats.sessions_active == session_by_fd_.size(), stats.sessions_active,
          " sessions are counted active, ", session_by_fd_.size(), " are");
  Require(
      // One more hears of the host's addresses.
      sys_calls_.socket_count() ==
          session_by_fd_.size() + listener_fds_.size() + 1,
      sys_calls_.socket_count(), " sockets are open for ",
      session_by_fd_.size(), " sessions");
  Require(context_->relay_ports.in_use() ==
              static_cast<int64_t>(session_by_fd_.size()),
          "a relay port is lost");
  Require(
      context_->admission.session_count() ==
          static_cast<int64_t>(stats.sessions_active + stats.sessions_pending),
      "a place is lost");
  for (const auto& [fd, index] : session_by_fd_) {
    Require(sessions_[index].refusals.at_least < limits().backend_refusals_max,
            "session ", index, " lives in spite of its refusals");
  }
  CheckLimits(stats);
}

void Simulation::CheckLimits(const ProxyStats& stats) {
  const auto is_limited = [&](DropReason reason, bool limit) {
    Require(limit || stats.dropped(reason) == 0,
            "dropped for no reason: ", DropReasonName(reason));
  };
  is_limited(DropReason::kDraining, was_draining_);
  is_limited(DropReason::kNewSessionRate, limits().new_sessions_per_second > 0);
  is_limited(DropReason::kSessionLimitPerIp, limits().max_sessions_per_ip > 0);
  is_limited(DropReason::kUnconfirmedLimitPerIp,
             limits().max_unconfirmed_sessions_per_ip > 0);
  is_limited(DropReason::kNewSessionRatePerIp, false);
  is_limited(DropReason::kUnconfirmedReplyLimit,
             limits().unconfirmed_reply_factor > 0);
  is_limited(DropReason::kTruncated, false);
  is_limited(DropReason::kSendBufferShare, false);
  is_limited(DropReason::kReplyTruncated, false);
  // `pending_bytes_max` is out of reach.
  is_limited(
      DropReason::kPendingLimit,
      stats.dropped(DropReason::kPendingLimit) == pending_limit_drops_ ||
          pending_peak_ >= static_cast<uint64_t>(limits().pending_clients_max));
  pending_limit_drops_ = stats.dropped(DropReason::kPendingLimit);
  pending_peak_ = stats.sessions_pending;
  is_limited(DropReason::kReplySendFailed, had_faults_);
  is_limited(DropReason::kBackendSendFailed, had_faults_);
  is_limited(DropReason::kBackendRefused, had_faults_);
  is_limited(DropReason::kSessionEnded, is_stopping_);
  Require(stats.sessions_active + stats.sessions_pending <=
              static_cast<uint64_t>(sessions_max_),
          "more sessions than allowed");
  Require(stats.sessions_pending <=
              static_cast<uint64_t>(limits().pending_clients_max),
          "more pending clients than allowed");
  Require(stats.ended(EndReason::kDisconnected) <= disconnects_posted_,
          "a disconnect ended two sessions");
  for (const EndReason reason :
       {EndReason::kIdle, EndReason::kUnconfirmed, EndReason::kEvicted,
        EndReason::kReplaced, EndReason::kDisconnected,
        EndReason::kBackendRefused, EndReason::kBackendSilent,
        EndReason::kClientSilent}) {
    Require(stats.ended(reason) <= ends_explained_[static_cast<size_t>(reason)],
            "sessions ended for a wrong reason: ", EndReasonName(reason));
  }
  if (!is_stopping_) {
    Require(stats.ended(EndReason::kStopped) == 0, "stopped too early");
  }
}

// Every message is handled and every socket is read.
void Simulation::CheckSettled() {
  uint64_t pending = 0, confirmed = 0, held = 0, waiting = 0;
  for (ModelClient& client : clients_) {
    client.open_disconnects = 0;
    if (client.session == kNone) continue;
    ModelSession& session = sessions_[client.session];
    const Question& question = questions_[session.question];
    if (session.fd == kNone) {
      if (question.is_answered || now() >= session.deadline_nanoseconds) {
        session.is_live = false;
        client.session = kNone;
        continue;
      }
      ++pending;
      uint64_t count = 0;
      for (size_t i = session.first_datagram; i < client.datagrams.size();
           ++i) {
        const ClientSends& datagram = client.datagrams[i];
        if (datagram.read_event > 0 && !datagram.is_refused) ++count;
      }
      held += std::min<uint64_t>(count, limits().pending_datagrams_max);
      continue;
    }
    CheckTimes(session);
    Require(!session.must_end, "session ", client.session,
            " outlives a disconnect");
    if (sys_calls_.queued(session.fd) > 0) {
      ++waiting;
      Require(had_call_faults_ || static_cast<int64_t>(sys_calls_.next_bytes(
                                      session.fd)) > ReplyBytesLeft(session),
              "replies to client ", session.client, " are left unread");
    }
    if (session.is_confirmed) ++confirmed;
  }
  const ProxyStats stats = Stats();
  Require(waiting <= stats.sessions_paused &&
              stats.sessions_paused <=
                  static_cast<uint64_t>(limits().paused_sessions_max),
          stats.sessions_paused, " sessions are paused, replies wait for ",
          waiting);
  coverage_->sessions_settled_paused += static_cast<int64_t>(waiting);
  Require(stats.sessions_pending == pending, stats.sessions_pending,
          " sessions are pending, and ", pending, " should be");
  Require(stats.sessions_confirmed == confirmed, stats.sessions_confirmed,
          " sessions are confirmed, and ", confirmed, " should be");
  Require(stats.datagrams_held == held, stats.datagrams_held,
          " datagrams are held, and ", held, " should be");
  for (size_t i = 0; i < clients_.size(); ++i) CheckFates(static_cast<int>(i));
  CheckAlways();
}

// It wakes up for each deadline: what it is about to do is not overdue.
void Simulation::CheckPunctual() {
  uint64_t pending = 0;
  for (const ModelClient& client : clients_) {
    if (client.session == kNone) continue;
    const ModelSession& session = sessions_[client.session];
    if (session.fd == kNone) {
      if (session.deadline_nanoseconds >= now()) ++pending;
      continue;
    }
    Require(session.is_confirmed ||
                session.client_active_nanoseconds +
                        Nanoseconds(limits().unconfirmed_timeout) >=
                    now(),
            "the worker sleeps past the end of session ", client.session);
  }
  Require(Stats().sessions_pending <= pending,
          "the worker sleeps past the end of a pending session");
}

void Simulation::CheckTimes(const ModelSession& session) {
  const int64_t idle_nanoseconds = now() - session.last_active_nanoseconds;
  Require(idle_nanoseconds < Nanoseconds(limits().session_idle_timeout) * 5 / 4,
          "the session of client ", session.client, " is idle for ",
          idle_nanoseconds / 1000, " us");
  Require(session.is_confirmed || now() - session.client_active_nanoseconds <
                                      Nanoseconds(limits().unconfirmed_timeout),
          "an unconfirmed client is silent for too long");
  Require(BackendSilentNanoseconds() == 0 ||
              session.unanswered_since_nanoseconds == kNone ||
              sys_calls_.queued(session.fd) > 0 ||
              now() - session.unanswered_since_nanoseconds <
                  BackendSilentNanoseconds() * 5 / 4,
          "the backend of client ", session.client, " is silent for too long");
  Require(ClientSilentNanoseconds() == 0 ||
              now() - session.client_active_nanoseconds <
                  ClientSilentNanoseconds() * 5 / 4,
          "client ", session.client, " is silent for too long");
}

// A datagram that met a live session was sent on, unless it was one too many
// for a pending session, or its own send failed.
void Simulation::CheckFates(int index) {
  ModelClient& client = clients_[index];
  const ModelSession* const session =
      client.session == kNone ? nullptr : &sessions_[client.session];
  if (session != nullptr && session->fd == kNone) return;  // not known yet
  uint64_t held = 0;
  const size_t begin = session == nullptr ? client.next_checked
                                          : std::min(client.next_checked,
                                                     session->first_datagram);
  for (size_t i = begin; i < client.datagrams.size(); ++i) {
    const ClientSends& datagram = client.datagrams[i];
    if (session == nullptr || i < session->first_datagram) continue;
    if (datagram.read_event == 0 || datagram.is_refused) continue;
    const bool was_pending = datagram.read_event <= session->active_event;
    const bool had_room =
        held < static_cast<uint64_t>(limits().pending_datagrams_max);
    if (was_pending) ++held;
    if (datagram.is_sent || datagram.is_lost) continue;
    Require(was_pending && !had_room, "client ", index, ": datagram ", i,
            " is lost");
  }
  client.next_checked = static_cast<uint32_t>(client.datagrams.size());
}

// The test.

uint64_t NumberFrom(const char* variable, uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  uint64_t number = otherwise;
  if (text != nullptr && !absl::SimpleAtoi(text, &number)) {
    ADD_FAILURE() << variable << "=" << text << " is no number";
  }
  return number;
}

void ExpectToHaveMet(const Coverage& coverage) {
  const ProxyStats& stats = coverage.stats;
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    EXPECT_GT(stats.sessions_ended[i], 0u)
        << EndReasonName(static_cast<EndReason>(i));
  }
  for (const DropReason reason : {DropReason::kInvalidSource,
                                  DropReason::kQueueFull,
                                  DropReason::kPendingFull,
                                  DropReason::kNoBackend,
                                  DropReason::kInvalidBackend,
                                  DropReason::kResolveFailed,
                                  DropReason::kResolveTimedOut,
                                  DropReason::kDenied,
                                  DropReason::kSessionLimit,
                                  DropReason::kSessionLimitPerIp,
                                  DropReason::kUnconfirmedLimitPerIp,
                                  DropReason::kNewSessionRate,
                                  DropReason::kPendingLimit,
                                  DropReason::kNoUpstreamSocket,
                                  DropReason::kDraining,
                                  DropReason::kSessionEnded,
                                  DropReason::kBackendRefused,
                                  DropReason::kBackendSendFailed,
                                  DropReason::kUnconfirmedReplyLimit,
                                  DropReason::kReplySendFailed}) {
    EXPECT_GT(stats.dropped(reason), 0u) << DropReasonName(reason);
  }
  for (size_t i = 0; i < kReopenReasonCount; ++i) {
    EXPECT_GT(stats.sessions_reopened[i], 0u)
        << ReopenReasonName(static_cast<ReopenReason>(i));
  }
  EXPECT_GT(coverage.replies_beyond_limit, 0);
  EXPECT_GT(coverage.sessions_settled_paused, 0);
  EXPECT_GT(stats.client_datagrams_forwarded, 0u);
  EXPECT_GT(stats.backend_datagrams_forwarded, 0u);
  EXPECT_GT(coverage.questions_repeated, 0);
  EXPECT_GT(coverage.answers_repeated, 0);
  EXPECT_GT(coverage.answers_late, 0);
  EXPECT_GT(coverage.sends_failed, 0);
  EXPECT_GT(coverage.sessions_confirmed, 0);
}

// A seed that crashes is named too.
char running_seed[64];

void PrintRunningSeed() {
  const ssize_t written =
      ::write(STDERR_FILENO, running_seed, std::strlen(running_seed));
  static_cast<void>(written);
}

void PrintRunningSeedOnCrash() {
#ifdef UDPGATE_SANITIZED
  __sanitizer_set_death_callback(PrintRunningSeed);
#else
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGABRT}) {
    std::signal(signal, [](int received) {
      PrintRunningSeed();
      std::signal(received, SIG_DFL);
      std::raise(received);
    });
  }
#endif
}

TEST(WorkerSimulationTest, NoSeedBreaksARule) {
#ifdef UDPGATE_SANITIZED
  constexpr uint64_t kSeedCount = 1000;
#else
  constexpr uint64_t kSeedCount = 5000;
#endif
  const uint64_t first = NumberFrom("UDPGATE_SIMULATION_FIRST_SEED", 1);
  const uint64_t count = NumberFrom("UDPGATE_SIMULATION_SEEDS", kSeedCount);
  PrintRunningSeedOnCrash();
  Coverage coverage;
  for (uint64_t seed = first; seed < first + count; ++seed) {
    absl::SNPrintF(running_seed, sizeof(running_seed),
                   "died at seed %d of the simulation\n", seed);
    const std::string broken = Simulation(seed, &coverage).Run();
    if (broken.empty()) continue;
    Coverage unused;
    Simulation again(seed, &unused);
    again.must_trace_ = true;
    const std::string broken_again = again.Run();
    FAIL() << "seed " << seed << ": " << broken << "\nafter:\n"
           << again.History() << "\nreplays as: " << broken_again
           << "\nreplay: tools/simulate.sh --first-seed " << seed
           << " --seeds 1";
  }
  if (count >= 1000) ExpectToHaveMet(coverage);
}

}  // namespace
}  // namespace internal
}  // namespace udpgate
