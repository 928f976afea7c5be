#include "udpgate/internal/control/disconnect_router.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "udpgate/internal/session/relay_ports.h"

namespace udpgate {
namespace internal {
namespace {

constexpr absl::Duration kLogInterval = absl::Seconds(5);
// No session is older.
constexpr absl::Duration kAgeMax = absl::Hours(24 * 365);

// The message for a target that every shard searches for.
ShardMessage::Kind KindOf(const DisconnectTarget& target) {
  switch (target.kind()) {
    case DisconnectTarget::Kind::kBackend:
      return ShardMessage::Kind::kEndBackend;
    case DisconnectTarget::Kind::kBackendText:
      return ShardMessage::Kind::kEndBackendText;
    default:
      return ShardMessage::Kind::kEndClientIp;
  }
}

bool IsForOneSession(const DisconnectTarget& target) {
  return target.kind() == DisconnectTarget::Kind::kClient ||
         target.kind() == DisconnectTarget::Kind::kRelayPort;
}

}  // namespace

DisconnectRouter::DisconnectRouter(GateContext* context,
                                   std::shared_ptr<DisconnectSource> source)
    : context_(context),
      source_(std::move(source)),
      log_limiter_(context->clock, kLogInterval) {}

absl::Status DisconnectRouter::StartSource() {
  if (source_ == nullptr) return absl::OkStatus();
  return source_->Start([this](absl::StatusOr<DisconnectTarget> target) {
    TakeEvent(std::move(target));
  });
}

void DisconnectRouter::StopSource() {
  if (source_ != nullptr) source_->Stop();
}

bool DisconnectRouter::IsSourceHealthy() const {
  return source_ == nullptr || source_->Health().ok();
}

void DisconnectRouter::KeepEvents() {
  MutexLock lock(&events_mutex_);
  keeps_events_ = true;
}

void DisconnectRouter::ReleaseEvents() {
  for (;;) {
    std::vector<Event> events;
    {
      MutexLock lock(&events_mutex_);
      events.swap(kept_events_);
      if (events.empty()) keeps_events_ = false;
      events_changed_.SignalAll();
    }
    if (events.empty()) return;
    for (Event& event : events) HandleEvent(std::move(event));
  }
}

void DisconnectRouter::TakeEvent(absl::StatusOr<DisconnectTarget> target) {
  Event event{context_->clock->NowNanoseconds(), std::move(target)};
  if (event.target.ok()) {
    event.came_nanoseconds -= absl::ToInt64Nanoseconds(
        std::clamp(event.target->age(), absl::ZeroDuration(), kAgeMax));
  }
  {
    MutexLock lock(&events_mutex_);
    const auto size_max =
        static_cast<size_t>(context_->options.disconnect_queue_size);
    while (keeps_events_ && kept_events_.size() >= size_max) {
      events_changed_.Wait(&events_mutex_);
    }
    if (keeps_events_) {
      kept_events_.push_back(std::move(event));
      return;
    }
  }
  HandleEvent(std::move(event));
}

void DisconnectRouter::HandleEvent(Event event) {
  if (event.target.ok()) {
    Disconnect(*event.target, event.came_nanoseconds, nullptr);
    return;
  }
  disconnects_received_.fetch_add(1, std::memory_order_relaxed);
  disconnects_invalid_.fetch_add(1, std::memory_order_relaxed);
  LogIgnoredEvent(event.target.status().message());
}

void DisconnectRouter::LogIgnoredEvent(absl::string_view why) {
  int64_t more = 0;
  if (!log_limiter_.Admit(&more)) return;
  std::string line = absl::StrCat("disconnect event ignored: ", why);
  if (more > 0) {
    absl::StrAppend(&line, " (and ", more, " more since the last such line)");
  }
  context_->control.PostLog(LogSeverity::kWarning, std::move(line));
}

void DisconnectRouter::Disconnect(const DisconnectTarget& target,
                                  int64_t came_nanoseconds, Done done) {
  disconnects_received_.fetch_add(1, std::memory_order_relaxed);
  if (!IsUnambiguous(target)) return ReportNone(std::move(done));
  // First, so that no client gets what the resolver remembers after its session
  // has ended.
  const std::vector<SocketAddress> clients =
      context_->resolver->HandleDisconnect(target);
  std::vector<Part> parts = PartsOf(target);
  for (Part& part : parts) part.message.came_nanoseconds = came_nanoseconds;
  if (IsForOneSession(target) && clients.empty()) {
    if (!parts.empty()) return Send(std::move(parts.front()), std::move(done));
    CountUnmatched();
    return ReportNone(std::move(done));
  }
  // The sessions of these clients may have been created meanwhile.
  const int64_t now_nanoseconds = context_->clock->NowNanoseconds();
  for (const SocketAddress& client : clients) {
    parts.push_back(PartOfClient(client));
    parts.back().message.came_nanoseconds = now_nanoseconds;
  }
  SendParts(std::move(parts), std::move(done));
}

bool DisconnectRouter::IsUnambiguous(const DisconnectTarget& target) {
  if (target.kind() != DisconnectTarget::Kind::kRelayPort ||
      context_->relay_ports.Find(target.relay_port()).size() <= 1) {
    return true;
  }
  // To end another player's session would be worse than to end none.
  disconnects_ambiguous_.fetch_add(1, std::memory_order_relaxed);
  LogIgnoredEvent(absl::StrCat("relay port ", target.relay_port(),
                               " fits several sessions"));
  return false;
}

DisconnectRouter::Part DisconnectRouter::PartOfClient(
    const SocketAddress& client) const {
  Part part;
  part.shard = context_->hash(client) % context_->inboxes.size();
  part.message.kind = ShardMessage::Kind::kDisconnectClient;
  part.message.client = client;
  return part;
}

void DisconnectRouter::Send(Part part, Done done) {
  if (!context_->is_running) {  // there are no sessions
    CountUnmatched();
    return ReportNone(std::move(done));
  }
  part.message.disconnect_done = std::move(done);
  if (!context_->inboxes[part.shard]->PostDisconnect(std::move(part.message))) {
    CountUnmatched();
  }
}

std::vector<DisconnectRouter::Part> DisconnectRouter::PartsOf(
    const DisconnectTarget& target) const {
  std::vector<Part> parts;
  const auto add_owner = [&](const RelayOwner& owner) {
    parts.push_back({owner.shard, ShardMessage()});
    parts.back().message.kind = ShardMessage::Kind::kEndSession;
    parts.back().message.session = owner.session;
  };
  switch (target.kind()) {
    case DisconnectTarget::Kind::kClient:
      parts.push_back(PartOfClient(target.client()));
      return parts;
    case DisconnectTarget::Kind::kRelayPort:
      for (const RelayOwner& owner :
           context_->relay_ports.Find(target.relay_port())) {
        add_owner(owner);
      }
      return parts;
    case DisconnectTarget::Kind::kRelay:
      for (const RelayOwner& owner :
           context_->relay_ports.Find(target.address().port())) {
        add_owner(owner);
        parts.back().message.address = target.address();
      }
      return parts;
    default:
      break;
  }
  const auto text = std::make_shared<const std::string>(target.text());
  for (size_t i = 0; i < context_->inboxes.size(); ++i) {
    parts.push_back({i, ShardMessage()});
    parts.back().message.kind = KindOf(target);
    parts.back().message.address = target.address();
    parts.back().message.text = text;
  }
  return parts;
}

void DisconnectRouter::SendParts(std::vector<Part> parts, Done done) {
  if (parts.empty() || !context_->is_running) {
    CountUnmatched();
    return ReportNone(std::move(done));
  }
  // Used on the control thread only, which all shards report to.
  struct Tally {
    size_t parts_left;
    int64_t ended_count = 0;
    Done done;
  };
  auto tally = std::make_shared<Tally>();
  tally->parts_left = parts.size();
  tally->done = std::move(done);
  for (Part& part : parts) {
    part.message.is_part = true;
    part.message.disconnect_done = [this, tally](int64_t ended_count) {
      tally->ended_count += ended_count;
      if (--tally->parts_left > 0) return;
      (tally->ended_count == 0 ? disconnects_unmatched_ : disconnects_matched_)
          .fetch_add(1, std::memory_order_relaxed);
      if (tally->done != nullptr) tally->done(tally->ended_count);
    };
    // False if the gateway stops, and then nobody waits for the tally.
    context_->inboxes[part.shard]->PostDisconnect(std::move(part.message));
  }
}

void DisconnectRouter::ReportNone(Done done) {
  if (done == nullptr) return;
  context_->control.Post([done = std::move(done)]() mutable { done(0); });
}

void DisconnectRouter::AddStats(ProxyStats* stats) const {
  stats->disconnects_received += disconnects_received_;
  stats->disconnects_invalid += disconnects_invalid_;
  stats->disconnects_matched += disconnects_matched_;
  stats->disconnects_unmatched += disconnects_unmatched_;
  stats->disconnects_ambiguous += disconnects_ambiguous_;
}

}  // namespace internal
}  // namespace udpgate
