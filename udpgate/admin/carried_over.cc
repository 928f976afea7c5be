#include "udpgate/admin/carried_over.h"

#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "nlohmann/json.hpp"
#include "udpgate/backend_resolver.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_info.h"
#include "udpgate/session_observer.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {
namespace {

using ::nlohmann::json;

// Limits for a malformed text; above what any history keeps.
constexpr size_t kEndsMax = 100000;
constexpr size_t kBackendsMax = 10000;
constexpr size_t kCountersMax = 10000;
constexpr size_t kTagBytesMax = 256;  // as SessionTag says

constexpr const char* kStates[] = {"pending", "unconfirmed", "confirmed"};

// Numbers of an event and their member names.
struct EventNumber {
  const char* name;
  uint64_t SessionEvent::*value;
};
constexpr EventNumber kEventNumbers[] = {
    {"id", &SessionEvent::session_id},
    {"client_datagrams_forwarded", &SessionEvent::client_datagrams_forwarded},
    {"client_bytes_forwarded", &SessionEvent::client_bytes_forwarded},
    {"backend_datagrams_forwarded", &SessionEvent::backend_datagrams_forwarded},
    {"backend_bytes_forwarded", &SessionEvent::backend_bytes_forwarded},
};
struct EventAddress {
  const char* name;
  SocketAddress SessionEvent::*value;
};
constexpr EventAddress kEventAddresses[] = {
    {"client", &SessionEvent::client},
    {"local", &SessionEvent::local},
    {"backend", &SessionEvent::backend},
    {"relay", &SessionEvent::relay},
};

std::string AddressText(const SocketAddress& address) {
  return address.is_valid() ? address.ToString() : std::string();
}

json WriteEnd(const SessionHistory::End& end) {
  json value = {
      {"state", kStates[static_cast<size_t>(end.event.state)]},
      {"reason", std::string(EndReasonName(end.event.end_reason))},
      {"age_nanoseconds", absl::ToInt64Nanoseconds(end.event.age)},
      {"time_unix_nanoseconds", absl::ToUnixNanos(end.time)},
  };
  for (const EventNumber& number : kEventNumbers) {
    value[number.name] = end.event.*number.value;
  }
  for (const EventAddress& address : kEventAddresses) {
    value[address.name] = AddressText(end.event.*address.value);
  }
  if (end.event.tag != nullptr) value["network_id"] = end.event.tag->text();
  return value;
}

json WriteBackend(const SessionHistory::RecordedBackend& recorded) {
  json ended = json::object();
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    ended[std::string(EndReasonName(static_cast<EndReason>(i)))] =
        recorded.backend.ended[i];
  }
  return {
      {"backend", AddressText(recorded.backend.address)},
      {"opened", recorded.backend.opened},
      {"ended", std::move(ended)},
      {"last_event_unix_nanoseconds", absl::ToUnixNanos(recorded.last_event)}};
}

// Calls `read` with the member if there is one. False if `read` returns false.
template <typename Read>
bool Member(const json& object, const char* name, Read read) {
  const auto found = object.find(name);
  return found == object.end() || read(*found);
}

bool ReadUnsigned(const json& value, uint64_t* number) {
  if (!value.is_number_unsigned()) return false;
  *number = value.get<uint64_t>();
  return true;
}

bool ReadTime(const json& value, absl::Time* time) {
  if (!value.is_number_integer()) return false;
  *time = absl::FromUnixNanos(value.get<int64_t>());
  return true;
}

bool ReadAddress(const json& value, SocketAddress* address) {
  if (!value.is_string()) return false;
  const auto& text = value.get_ref<const std::string&>();
  if (text.empty()) return true;
  const absl::StatusOr<SocketAddress> parsed = SocketAddress::Parse(text);
  if (parsed.ok()) *address = *parsed;
  return parsed.ok();
}

bool ReadTag(const json& value, std::shared_ptr<const SessionTag>* tag) {
  if (!value.is_string()) return false;
  const auto& text = value.get_ref<const std::string&>();
  if (text.size() > kTagBytesMax) return false;
  *tag = std::make_shared<SessionTag>("", text);
  return true;
}

// A reason that this version does not have is left at its default.
bool ReadReason(const json& value, EndReason* reason) {
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    if (value == std::string(EndReasonName(static_cast<EndReason>(i)))) {
      *reason = static_cast<EndReason>(i);
    }
  }
  return value.is_string();
}

bool ReadEnd(const json& value, SessionHistory::End* end) {
  if (!value.is_object()) return false;
  SessionEvent& event = end->event;
  event.kind = SessionEvent::Kind::kEnded;
  for (const EventNumber& number : kEventNumbers) {
    if (!Member(value, number.name, [&](const json& member) {
          return ReadUnsigned(member, &(event.*number.value));
        })) {
      return false;
    }
  }
  for (const EventAddress& address : kEventAddresses) {
    if (!Member(value, address.name, [&](const json& member) {
          return ReadAddress(member, &(event.*address.value));
        })) {
      return false;
    }
  }
  return Member(value, "state",
                [&](const json& member) {
                  for (size_t i = 0; i < 3; ++i) {
                    if (member == kStates[i]) {
                      event.state = static_cast<SessionState>(i);
                    }
                  }
                  return member.is_string();
                }) &&
         Member(value, "reason",
                [&](const json& member) {
                  return ReadReason(member, &event.end_reason);
                }) &&
         Member(
             value, "network_id",
             [&](const json& member) { return ReadTag(member, &event.tag); }) &&
         Member(value, "age_nanoseconds",
                [&](const json& member) {
                  if (!member.is_number_integer()) return false;
                  event.age = absl::Nanoseconds(member.get<int64_t>());
                  return true;
                }) &&
         Member(value, "time_unix_nanoseconds", [&](const json& member) {
           return ReadTime(member, &end->time);
         });
}

bool ReadBackend(const json& value, SessionHistory::RecordedBackend* recorded) {
  if (!value.is_object()) return false;
  SessionHistory::Backend& backend = recorded->backend;
  return Member(value, "backend",
                [&](const json& member) {
                  return ReadAddress(member, &backend.address);
                }) &&
         Member(value, "opened",
                [&](const json& member) {
                  return ReadUnsigned(member, &backend.opened);
                }) &&
         Member(value, "last_event_unix_nanoseconds",
                [&](const json& member) {
                  return ReadTime(member, &recorded->last_event);
                }) &&
         Member(value, "ended", [&](const json& member) {
           if (!member.is_object()) return false;
           for (size_t i = 0; i < kEndReasonCount; ++i) {
             const std::string name(EndReasonName(static_cast<EndReason>(i)));
             if (!Member(member, name.c_str(), [&](const json& count) {
                   return ReadUnsigned(count, &backend.ended[i]);
                 })) {
               return false;
             }
           }
           return true;
         });
}

template <typename T>
bool ReadList(const json& value, size_t size_max,
              bool (*read)(const json& value, T* out), std::vector<T>* list) {
  if (!value.is_array() || value.size() > size_max) return false;
  for (const json& element : value) {
    list->emplace_back();
    if (!read(element, &list->back())) return false;
  }
  return true;
}

bool ReadCounters(const json& value, std::map<std::string, double>* counters) {
  if (!value.is_object() || value.size() > kCountersMax) return false;
  for (const auto& [name, count] : value.items()) {
    if (!count.is_number()) return false;
    const double number = count.get<double>();
    if (!std::isfinite(number) || number < 0) return false;
    (*counters)[name] = number;
  }
  return true;
}

}  // namespace

std::string EncodeCarriedOver(const CarriedOver& carried) {
  json value = {{"counters", carried.counters},
                {"ends", json::array()},
                {"backends", json::array()}};
  for (const SessionHistory::End& end : carried.history.ends) {
    value["ends"].push_back(WriteEnd(end));
  }
  for (const SessionHistory::RecordedBackend& backend :
       carried.history.backends) {
    value["backends"].push_back(WriteBackend(backend));
  }
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

absl::StatusOr<CarriedOver> DecodeCarriedOver(absl::string_view text) {
  CarriedOver carried;
  if (text.empty()) return carried;
  const json value = json::parse(text.begin(), text.end(), nullptr,
                                 /*allow_exceptions=*/false);
  if (!value.is_object()) {
    return absl::InvalidArgumentError("carried over: not a JSON object");
  }
  for (const auto& [name, is_read] :
       {std::make_pair("counters", Member(value, "counters",
                                          [&](const json& member) {
                                            return ReadCounters(
                                                member, &carried.counters);
                                          })),
        std::make_pair("ends", Member(value, "ends",
                                      [&](const json& member) {
                                        return ReadList(member, kEndsMax,
                                                        &ReadEnd,
                                                        &carried.history.ends);
                                      })),
        std::make_pair("backends",
                       Member(value, "backends", [&](const json& member) {
                         return ReadList(member, kBackendsMax, &ReadBackend,
                                         &carried.history.backends);
                       }))}) {
    if (!is_read) {
      return absl::InvalidArgumentError(
          absl::StrCat("carried over: invalid ", name));
    }
  }
  return carried;
}

}  // namespace admin
}  // namespace udpgate
