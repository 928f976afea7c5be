#include "udpgate/takeover/internal/session_columns.h"

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "udpgate/backend_resolver.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"
#include "udpgate/takeover/internal/message_fields.h"

namespace udpgate {
namespace takeover {
namespace internal {
namespace {

using nlohmann::json;
using udpgate::internal::HandedSession;

constexpr const char* kStateNames[] = {"pending", "unconfirmed", "confirmed"};

// 8 bytes for a number of any size, with its sign.
template <typename T>
uint64_t Pack(T value) {
  return static_cast<uint64_t>(static_cast<int64_t>(value));
}

template <typename T>
bool Unpack(uint64_t value, T* out) {
  *out = static_cast<T>(value);
  return Pack(*out) == value;
}

template <auto Member>
constexpr Column Integer(const char* name, bool changes) {
  return {name,
          changes,
          /*is_flow=*/false,
          [](const HandedSession& session) { return json(session.*Member); },
          [](const json& value, HandedSession* session) {
            return ReadInteger(value, &(session->*Member));
          },
          [](const HandedSession& session) { return Pack(session.*Member); },
          [](uint64_t value, HandedSession* session) {
            return Unpack(value, &(session->*Member));
          }};
}

template <auto Member>
constexpr Column Boolean(const char* name) {
  return {name,
          true,
          /*is_flow=*/false,
          [](const HandedSession& session) { return json(session.*Member); },
          [](const json& value, HandedSession* session) {
            if (!value.is_boolean()) return false;
            session->*Member = value.get<bool>();
            return true;
          },
          [](const HandedSession& session) { return Pack(session.*Member); },
          [](uint64_t value, HandedSession* session) {
            return Unpack(value, &(session->*Member));
          }};
}

template <auto Member>
constexpr Column Address(const char* name, bool changes) {
  return {name, changes, /*is_flow=*/false,
          [](const HandedSession& session) {
            return WriteAddress(session.*Member);
          },
          [](const json& value, HandedSession* session) {
            return ReadAddress(value, &(session->*Member));
          }};
}

// How much of a flow is already included in the session's counters.
template <auto Direction, auto Member>
constexpr Column FlowNumber(const char* name) {
  return {name,
          true,
          /*is_flow=*/true,
          [](const HandedSession& session) {
            return json(session.flow_counted.*Direction.*Member);
          },
          [](const json& value, HandedSession* session) {
            return ReadInteger(value,
                               &(session->flow_counted.*Direction.*Member));
          },
          [](const HandedSession& session) {
            return Pack(session.flow_counted.*Direction.*Member);
          },
          [](uint64_t value, HandedSession* session) {
            return Unpack(value, &(session->flow_counted.*Direction.*Member));
          }};
}

// As binary data, which may hold any byte.
json WriteText(const std::string& text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  return json::binary({bytes, bytes + text.size()});
}

bool ReadText(const json& value, std::string* text) {
  if (!value.is_binary()) return false;
  text->assign(value.get_binary().begin(), value.get_binary().end());
  return true;
}

// Key and text of a tag in an array; null if there is none.
json WriteTag(const HandedSession& session) {
  if (session.tag == nullptr) return nullptr;
  const std::string& key = session.tag->key();
  const std::string& text = session.tag->text();
  if (key.size() > SessionTag::kBytesMax ||
      text.size() > SessionTag::kBytesMax) {
    return nullptr;  // against the contract: it is not worth the takeover
  }
  return json::array({WriteText(key), WriteText(text)});
}

bool ReadTag(const json& value, HandedSession* session) {
  session->tag = nullptr;
  if (value.is_null()) return true;
  std::string key, text;
  if (!value.is_array() || value.size() != 2 || !ReadText(value[0], &key) ||
      !ReadText(value[1], &text) || key.size() > SessionTag::kBytesMax ||
      text.size() > SessionTag::kBytesMax) {
    return false;
  }
  session->tag = std::make_shared<SessionTag>(std::move(key), std::move(text));
  return true;
}

constexpr Column kColumns[] = {
    Integer<&HandedSession::id>("id", true),
    {"state", true, /*is_flow=*/false,
     [](const HandedSession& session) {
       return json(kStateNames[static_cast<size_t>(session.state)]);
     },
     [](const json& value, HandedSession* session) {
       if (!value.is_string()) return false;
       const auto& name = value.get_ref<const std::string&>();
       for (const SessionState state :
            {SessionState::kPending, SessionState::kUnconfirmed,
             SessionState::kConfirmed}) {
         session->state = state;
         if (name == kStateNames[static_cast<size_t>(state)]) return true;
       }
       return false;
     },
     [](const HandedSession& session) {
       return static_cast<uint64_t>(session.state);
     },
     [](uint64_t value, HandedSession* session) {
       if (value > static_cast<uint64_t>(SessionState::kConfirmed))
         return false;
       session->state = static_cast<SessionState>(value);
       return true;
     }},
    Address<&HandedSession::client>("client", false),
    Address<&HandedSession::local>("local", true),
    Address<&HandedSession::backend>("backend", false),
    Address<&HandedSession::relay>("relay", false),
    {"label", false, /*is_flow=*/false,
     [](const HandedSession& session) { return WriteText(session.label); },
     [](const json& value, HandedSession* session) {
       return ReadText(value, &session->label);
     }},
    {"tag", false, /*is_flow=*/false, &WriteTag, &ReadTag},
    Integer<&HandedSession::listener>("listener", true),
    Integer<&HandedSession::refusals>("refusals", true),
    Boolean<&HandedSession::has_answered>("has_answered"),
    Boolean<&HandedSession::has_unanswered_reply>("has_unanswered_reply"),
    Integer<&HandedSession::proof_count>("proof_count", true),
    Integer<&HandedSession::first_proof_nanoseconds>("first_proof_nanoseconds",
                                                     true),
    Integer<&HandedSession::created_nanoseconds>("created_nanoseconds", false),
    Integer<&HandedSession::last_active_nanoseconds>("last_active_nanoseconds",
                                                     true),
    Integer<&HandedSession::client_active_nanoseconds>(
        "client_active_nanoseconds", true),
    Integer<&HandedSession::unanswered_since_nanoseconds>(
        "unanswered_since_nanoseconds", true),
    Integer<&HandedSession::resolve_deadline_nanoseconds>(
        "resolve_deadline_nanoseconds", false),
    Integer<&HandedSession::reply_bytes>("reply_bytes", true),
    Integer<&HandedSession::client_datagrams_forwarded>(
        "client_datagrams_forwarded", true),
    Integer<&HandedSession::client_bytes_forwarded>("client_bytes_forwarded",
                                                    true),
    Integer<&HandedSession::backend_datagrams_forwarded>(
        "backend_datagrams_forwarded", true),
    Integer<&HandedSession::backend_bytes_forwarded>("backend_bytes_forwarded",
                                                     true),
    {"flow_slot", true, /*is_flow=*/true,
     [](const HandedSession& session) { return json(session.flow_slot); },
     [](const json& value, HandedSession* session) {
       return ReadInteger(value, &session->flow_slot);
     },
     [](const HandedSession& session) { return Pack(session.flow_slot); },
     [](uint64_t value, HandedSession* session) {
       return Unpack(value, &session->flow_slot);
     }},
    FlowNumber<&SessionActivity::from_client, &DirectionActivity::datagrams>(
        "flow_client_datagrams"),
    FlowNumber<&SessionActivity::from_client,
               &DirectionActivity::payload_bytes>("flow_client_bytes"),
    FlowNumber<&SessionActivity::from_backend, &DirectionActivity::datagrams>(
        "flow_backend_datagrams"),
    FlowNumber<&SessionActivity::from_backend,
               &DirectionActivity::payload_bytes>("flow_backend_bytes"),
};

}  // namespace

absl::Span<const Column> SessionColumns() { return kColumns; }

const Column& IdColumn() { return kColumns[0]; }

const Column* FindColumn(const json& name) {
  for (const Column& column : kColumns) {
    if (name == column.name) return &column;
  }
  return nullptr;
}

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate
