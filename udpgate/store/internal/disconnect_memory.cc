#include "udpgate/store/internal/disconnect_memory.h"

#include <algorithm>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "udpgate/internal/util/invalid_text.h"

namespace udpgate {
namespace store {
namespace internal {
namespace {

using Kind = DisconnectTarget::Kind;

// Longer than records live.
constexpr absl::Duration kRetention = absl::Minutes(1);

// The form that DisconnectTarget::Parse takes.
std::string TextOf(Kind kind, const SocketAddress& address, uint16_t port,
                   absl::string_view text) {
  switch (kind) {
    case Kind::kClient:
      return address.ToString();
    case Kind::kRelayPort:
      return absl::StrCat(port);
    case Kind::kRelay:
      return absl::StrCat("relay ", address.ToString());
    case Kind::kClientIp:
      return absl::StrCat("ip ", address.IpToString());
    case Kind::kBackend:
      return absl::StrCat("backend ", address.ToString());
    case Kind::kBackendText:
      return absl::StrCat("backend ", text);
  }
  return "";
}

}  // namespace

DisconnectMemory::Key DisconnectMemory::KeyOf(const DisconnectTarget& target) {
  Key key{target.kind(), {}, 0, {}};
  switch (target.kind()) {
    case Kind::kClient:
      key.address = target.client();
      break;
    case Kind::kRelayPort:
      key.port = target.relay_port();
      break;
    case Kind::kRelay:
    case Kind::kBackend:
      key.address = target.address();
      break;
    case Kind::kClientIp:
      key.address = target.address().WithPort(0);
      break;
    case Kind::kBackendText:
      key.text = absl::AsciiStrToLower(target.text());
      break;
  }
  return key;
}

void DisconnectMemory::Add(const DisconnectTarget& target) {
  AddAt(KeyOf(target),
        context_->After(-std::max(target.age(), absl::ZeroDuration())));
}

void DisconnectMemory::AddAt(Key key, int64_t nanoseconds) {
  const bool is_client = key.kind == Kind::kClient;
  Order* const order = is_client ? &clients_ : &others_;
  const int count_max = is_client ? context_->options->client_disconnects_max
                                  : context_->options->disconnects_max;
  int64_t& latest = times_.try_emplace(key, nanoseconds).first->second;
  latest = std::max(latest, nanoseconds);
  order->push_back({std::move(key), nanoseconds});
  while (order->size() > static_cast<size_t>(count_max)) {
    ForgetFirst(order);
    ++context_->stats.disconnects_forgotten;
  }
}

void DisconnectMemory::ForgetFirst(Order* order) {
  const Noted& first = order->front();
  const auto found = times_.find(first.key);
  if (found != times_.end() && found->second <= first.nanoseconds) {
    times_.erase(found);
  }
  order->pop_front();
}

absl::optional<int64_t> DisconnectMemory::LatestNaming(
    const StoredSession& record) const {
  absl::optional<int64_t> latest;
  const auto look = [this, &latest](const Key& key) {
    const auto found = times_.find(key);
    if (found == times_.end()) return;
    latest = std::max(latest.value_or(found->second), found->second);
  };
  if (times_.empty()) return latest;
  look({Kind::kClient, record.client, 0, {}});
  if (others_.empty()) return latest;
  look({Kind::kClientIp, record.client.WithPort(0), 0, {}});
  look({Kind::kBackend, record.backend, 0, {}});
  look({Kind::kBackendText, {}, 0, absl::AsciiStrToLower(record.label)});
  if (record.relay.is_valid()) {
    look({Kind::kRelay, record.relay, 0, {}});
    look({Kind::kRelayPort, {}, record.relay.port(), {}});
  }
  return latest;
}

bool DisconnectMemory::IsFromFuture(absl::Time since) const {
  return since > context_->now_wall + absl::Seconds(1) +
                     3 * context_->options->clock_difference_max;
}

bool DisconnectMemory::Names(const StoredSession& record) const {
  const absl::optional<int64_t> event = LatestNaming(record);
  if (IsFromFuture(record.since)) {
    ++context_->stats.from_future;
    context_->Log(
        LogSeverity::kWarning, LogTopic::kRecord,
        absl::StrCat("session store: the session of ", record.client.ToString(),
                     " begins in the future; do the clocks of the "
                     "gateways differ?"));
    // It says nothing about the order of session and event.
    return event.has_value();
  }
  return event.has_value() &&
         record.since <
             context_->WallAt(*event) + context_->options->clock_difference_max;
}

absl::Time DisconnectMemory::SinceAfter(const StoredSession& record,
                                        absl::Time since) const {
  const absl::optional<int64_t> event = LatestNaming(record);
  if (!event.has_value()) return since;
  const absl::Time earliest = context_->WallAt(*event) +
                              2 * context_->options->clock_difference_max +
                              absl::Milliseconds(1);
  return std::max(since, earliest);
}

void DisconnectMemory::Tick() {
  const int64_t before =
      context_->After(-(context_->options->record_lifetime + kRetention));
  for (Order* const order : {&clients_, &others_}) {
    while (!order->empty() && order->front().nanoseconds < before) {
      ForgetFirst(order);
    }
  }
  context_->stats.disconnects_remembered = times_.size();
}

std::string DisconnectMemory::Export(size_t count_max) const {
  std::string lines;
  for (const Order* const order : {&others_, &clients_}) {
    const size_t count = std::min(order->size(), count_max);
    for (auto noted = order->end() - static_cast<std::ptrdiff_t>(count);
         noted != order->end(); ++noted) {
      absl::StrAppend(&lines,
                      absl::ToInt64Milliseconds(absl::Nanoseconds(
                          context_->now_nanoseconds - noted->nanoseconds)),
                      " ",
                      TextOf(noted->key.kind, noted->key.address,
                             noted->key.port, noted->key.text),
                      "\n");
    }
  }
  return lines;
}

absl::Status DisconnectMemory::Import(absl::string_view lines) {
  for (const absl::string_view line :
       absl::StrSplit(lines, '\n', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(line, absl::MaxSplits(' ', 1));
    int64_t age_milliseconds = 0;
    absl::StatusOr<DisconnectTarget> target =
        DisconnectTarget::Parse(parts.second);
    if (!absl::SimpleAtoi(parts.first, &age_milliseconds) ||
        age_milliseconds < 0 || !target.ok()) {
      return udpgate::internal::InvalidText(line, "is no disconnect event");
    }
    target->set_age(absl::Milliseconds(age_milliseconds));
    Add(*target);
  }
  return absl::OkStatus();
}

}  // namespace internal
}  // namespace store
}  // namespace udpgate
