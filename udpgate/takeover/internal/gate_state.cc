#include "udpgate/takeover/internal/gate_state.h"

#include <array>
#include <cstddef>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/takeover/internal/message_fields.h"
#include "udpgate/takeover/internal/messages.h"

namespace udpgate {
namespace takeover {
namespace internal {
namespace {

using nlohmann::json;
using udpgate::internal::HandedGate;

json WriteStats(const ProxyStats& stats) {
  json values = json::object();
  for (const ProxyStatField& field : ProxyStatFields()) {
    if (field.kind == ProxyStatField::Kind::kGauge) continue;
    values[std::string(field.name)] = stats.*field.value;
  }
  return values;
}

// A bucket of the histogram of resolution times, named by its bound.
std::string BucketName(size_t bucket) {
  return bucket + 1 < kResolveBucketCount
             ? absl::StrCat(kResolveSecondsBounds[bucket])
             : "more";
}

// One number for each reason or bucket.
template <typename Key, typename Name, size_t kCount>
json WriteReasons(const std::array<uint64_t, kCount>& counts,
                  Name (*name)(Key)) {
  json values = json::object();
  for (size_t i = 0; i < kCount; ++i) {
    values[std::string(name(static_cast<Key>(i)))] = counts[i];
  }
  return values;
}

bool ReadStats(const json& values, ProxyStats* stats) {
  if (!values.is_object()) return false;
  for (const ProxyStatField& field : ProxyStatFields()) {
    const auto found = values.find(std::string(field.name));
    if (found == values.end() || field.kind == ProxyStatField::Kind::kGauge) {
      continue;
    }
    if (!ReadInteger(*found, &(stats->*field.value))) return false;
  }
  return true;
}

template <typename Key, typename Name, size_t kCount>
bool ReadReasons(const json& values, Name (*name)(Key),
                 std::array<uint64_t, kCount>* counts) {
  if (!values.is_object()) return false;
  for (size_t i = 0; i < kCount; ++i) {
    const auto found = values.find(std::string(name(static_cast<Key>(i))));
    if (found != values.end() && !ReadInteger(*found, &(*counts)[i])) {
      return false;
    }
  }
  return true;
}

}  // namespace

json WriteState(const HandedGate& gate) {
  json message = NewMessage("state");
  message["now_nanoseconds"] = gate.now_nanoseconds;
  message["pause_began_nanoseconds"] = gate.pause_began_nanoseconds;
  message["session_number"] = gate.session_number;
  message["session_count"] = gate.sessions.size();
  message["is_draining"] = gate.is_draining;
  message["is_standby"] = gate.is_standby;
  message["kernel_drops"] = gate.kernel_drops;
  message["stats"] = WriteStats(gate.stats);
  message["datagrams_dropped"] =
      WriteReasons(gate.stats.datagrams_dropped, &DropReasonName);
  message["sessions_ended"] =
      WriteReasons(gate.stats.sessions_ended, &EndReasonName);
  message["sessions_reopened"] =
      WriteReasons(gate.stats.sessions_reopened, &ReopenReasonName);
  message["resolves_by_duration"] =
      WriteReasons(gate.stats.resolves_by_duration, &BucketName);
  message["resolve_nanoseconds_total"] = gate.stats.resolve_nanoseconds_total;
  return message;
}

absl::Status ReadState(const json& message, HandedGate* gate,
                       uint64_t* session_count) {
  for (const auto& [name, number] :
       {std::make_pair("now_nanoseconds", &gate->now_nanoseconds),
        std::make_pair("pause_began_nanoseconds",
                       &gate->pause_began_nanoseconds)}) {
    const absl::StatusOr<uint64_t> value = ReadNumber(message, name);
    if (!value.ok()) return value.status();
    *number = static_cast<int64_t>(*value & INT64_MAX);
  }
  for (const auto& [name, number] :
       {std::make_pair("session_number", &gate->session_number),
        std::make_pair("session_count", session_count)}) {
    const absl::StatusOr<uint64_t> value = ReadNumber(message, name);
    if (!value.ok()) return value.status();
    *number = *value;
  }
  const auto drops = message.find("kernel_drops");
  if (drops == message.end() || !drops->is_array()) {
    return InvalidMessage("kernel_drops is not a list");
  }
  for (const json& drop : *drops) {
    gate->kernel_drops.push_back(0);
    if (!ReadInteger(drop, &gate->kernel_drops.back())) {
      return InvalidMessage("a number in kernel_drops is invalid");
    }
  }
  const auto part = [&](const char* name) {
    const auto found = message.find(name);
    return found == message.end() ? json::object() : *found;
  };
  const auto is_true = [&](const char* name) {
    const auto found = message.find(name);
    return found != message.end() && *found == true;
  };
  gate->is_draining = is_true("is_draining");
  gate->is_standby = is_true("is_standby");
  const auto total = message.find("resolve_nanoseconds_total");
  if (!ReadStats(part("stats"), &gate->stats) ||
      !ReadReasons(part("datagrams_dropped"), &DropReasonName,
                   &gate->stats.datagrams_dropped) ||
      !ReadReasons(part("sessions_ended"), &EndReasonName,
                   &gate->stats.sessions_ended) ||
      !ReadReasons(part("sessions_reopened"), &ReopenReasonName,
                   &gate->stats.sessions_reopened) ||
      !ReadReasons(part("resolves_by_duration"), &BucketName,
                   &gate->stats.resolves_by_duration) ||
      (total != message.end() &&
       !ReadInteger(*total, &gate->stats.resolve_nanoseconds_total))) {
    return InvalidMessage("a counter is invalid");
  }
  return absl::OkStatus();
}

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate
