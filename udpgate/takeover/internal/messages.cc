#include "udpgate/takeover/internal/messages.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace takeover {
namespace internal {
namespace {

using nlohmann::json;
using udpgate::internal::HandedGate;
using udpgate::internal::HandedPort;
using udpgate::internal::HandedSession;
using udpgate::internal::UniqueFd;

// No message of ours is deeper. Parsing recurses.
constexpr int kDepthMax = 4;
// Far beyond any descriptor limit.
constexpr size_t kSessionsMax = 1 << 20;
constexpr size_t kPortsPerMessage = 8192;
// Far beyond what a gate holds, and below what a machine cannot spare.
constexpr size_t kPortsMax = 1 << 20;
constexpr size_t kHeldBytesMax = size_t{1} << 30;
// A message with so much in it is sent before there is more.
constexpr size_t kFullBytes = kMessageBytesMax / 3;
// A session without its texts.
constexpr size_t kSessionBytes = 300;
constexpr uint32_t kNoFlow = UINT32_MAX;

absl::Status Invalid(absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("a message of the other process: ", what));
}

// Refuses what is nested too deeply.
class DepthGuard : public nlohmann::json_sax<json> {
 public:
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return ++depth_ <= kDepthMax; }
  bool key(string_t&) override { return true; }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array(std::size_t) override { return ++depth_ <= kDepthMax; }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(std::size_t, const std::string&,
                   const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  int depth_ = 0;
};

template <typename T>
bool ReadInteger(const json& value, T* out) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned()) {
    const uint64_t number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(std::numeric_limits<T>::max())) {
      return false;
    }
    *out = static_cast<T>(number);
    return true;
  }
  // A negative one, as the format has it.
  const int64_t number = value.get<int64_t>();
  if (std::is_unsigned_v<T> ||
      number < static_cast<int64_t>(std::numeric_limits<T>::min())) {
    return false;
  }
  *out = static_cast<T>(number);
  return true;
}

bool ReadAddress(const json& value, SocketAddress* out) {
  if (!value.is_string()) return false;
  const auto& text = value.get_ref<const std::string&>();
  *out = SocketAddress();
  if (text.empty()) return true;
  const absl::StatusOr<SocketAddress> address = SocketAddress::Parse(text);
  if (address.ok()) *out = *address;
  return address.ok();
}

json WriteAddress(const SocketAddress& address) {
  return address.is_valid() ? address.ToString() : std::string();
}

constexpr const char* kStateNames[] = {"pending", "unconfirmed", "confirmed"};

// One field of a session.
struct Column {
  const char* name;
  bool changes;  // while its gate serves
  bool is_flow;  // of a session that the flow offload goes on with
  json (*write)(const HandedSession& session);
  bool (*read)(const json& value, HandedSession* session);
  // As 8 bytes, for what is sent while all traffic stands still; null where it
  // is no number.
  uint64_t (*pack)(const HandedSession& session) = nullptr;
  bool (*unpack)(uint64_t value, HandedSession* session) = nullptr;
};

// 8 bytes for a number of whatever size, a negative one included.
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

// What of a flow is in the session's numbers.
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
     [](const HandedSession& session) {
       const auto* bytes =
           reinterpret_cast<const uint8_t*>(session.label.data());
       return json::binary({bytes, bytes + session.label.size()});
     },
     [](const json& value, HandedSession* session) {
       if (!value.is_binary()) return false;
       session->label.assign(value.get_binary().begin(),
                             value.get_binary().end());
       return true;
     }},
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

const Column* FindColumn(const json& name) {
  for (const Column& column : kColumns) {
    if (name == column.name) return &column;
  }
  return nullptr;
}

// Whether the descriptor is the socket that the session says.
bool IsSocketOf(int fd, const HandedSession& session) {
  int type = 0;
  socklen_t size = sizeof(type);
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
      type != SOCK_DGRAM) {
    return false;
  }
  const auto is_end = [fd](int (*get_name)(int, sockaddr*, socklen_t*),
                           const SocketAddress& expected) {
    sockaddr_storage name{};
    socklen_t name_size = sizeof(name);
    auto* const address = reinterpret_cast<sockaddr*>(&name);
    return get_name(fd, address, &name_size) == 0 &&
           SocketAddress::FromSockaddr(address, name_size) == expected;
  };
  return is_end(&::getsockname, session.relay) &&
         is_end(&::getpeername, session.backend);
}

}  // namespace

json NewMessage(absl::string_view type) {
  json message = json::object();
  message["type"] = std::string(type);
  return message;
}

std::vector<uint8_t> Encode(const json& message) {
  return json::to_msgpack(message);
}

absl::StatusOr<json> Decode(absl::Span<const uint8_t> bytes) {
  DepthGuard guard;
  if (!json::sax_parse(bytes.begin(), bytes.end(), &guard,
                       nlohmann::detail::input_format_t::msgpack)) {
    return Invalid("it is no MessagePack, or nested too deeply");
  }
  json message = json::from_msgpack(bytes.begin(), bytes.end(), /*strict=*/true,
                                    /*allow_exceptions=*/false);
  const auto type = message.is_object() ? message.find("type") : message.end();
  if (type == message.end() || !type->is_string()) {
    return Invalid("it has no type");
  }
  if (*type != "error") return message;
  const auto text = message.find("text");
  return absl::AbortedError(
      text != message.end() && text->is_string()
          ? absl::StrCat("the other process says: ",
                         text->get_ref<const std::string&>())
          : "the other process reports an error");
}

absl::Status SendMessage(const json& message, Channel* channel,
                         absl::Span<const int> descriptors) {
  return channel->Send(Encode(message), descriptors);
}

absl::Status SendRows(json message, absl::Span<const uint8_t> rows,
                      Channel* channel) {
  message["row_bytes"] = rows.size();
  absl::Status status = SendMessage(message, channel);
  return status.ok() ? channel->Send(rows) : status;
}

void SendError(const absl::Status& status, Channel* channel) {
  // It may be slow, or gone: there is no time for it.
  channel->BeginStage(absl::Milliseconds(10));
  json message = NewMessage("error");
  message["text"] = std::string(status.message());
  (void)SendMessage(message, channel);
}

absl::StatusOr<Incoming> ReceiveMessage(Channel* channel) {
  absl::StatusOr<Channel::Message> message = channel->Receive();
  if (!message.ok()) return message.status();
  absl::StatusOr<json> fields = Decode(message->bytes);
  if (!fields.ok()) return fields.status();
  Incoming incoming;
  incoming.type = (*fields)["type"].get<std::string>();
  incoming.fields = *std::move(fields);
  incoming.descriptors = std::move(message->descriptors);
  if (!incoming.fields.contains("row_bytes")) return incoming;
  message = channel->Receive();
  if (!message.ok()) return message.status();
  uint64_t row_bytes = 0;
  if (!ReadInteger(incoming.fields["row_bytes"], &row_bytes) ||
      row_bytes != message->bytes.size()) {
    return Invalid("its rows have another length");
  }
  incoming.rows = std::move(message->bytes);
  return incoming;
}

absl::StatusOr<Incoming> ReceiveMessage(absl::string_view type,
                                        Channel* channel) {
  absl::StatusOr<Incoming> message = ReceiveMessage(channel);
  if (message.ok() && message->type != type) {
    return Invalid(absl::StrCat("it should be \"", type, "\""));
  }
  return message;
}

absl::Status CheckVersion(const json& message) {
  const absl::StatusOr<uint64_t> version = ReadNumber(message, "version");
  if (!version.ok()) return version.status();
  if (*version == kVersion) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("the other process speaks version ", *version,
                   " of the take-over's messages, this one ", kVersion));
}

absl::StatusOr<uint64_t> ReadNumber(const json& message, const char* name) {
  uint64_t number = 0;
  const auto found = message.find(name);
  if (found == message.end() || !ReadInteger(*found, &number)) {
    return Invalid(absl::StrCat("it has no number ", name));
  }
  return number;
}

namespace {

using Need = KnownSessions::Need;

// Rows of numbers, in this machine's order of bytes: both processes are on it.
absl::Status SendChanges(absl::Span<const HandedSession> sessions,
                         const std::vector<Need>& needs, bool has_flows,
                         Channel* channel) {
  std::vector<const Column*> columns;
  json names = json::array();
  for (const Column& column : kColumns) {
    if (!column.changes || column.pack == nullptr ||
        (column.is_flow && !has_flows)) {
      continue;
    }
    columns.push_back(&column);
    names.push_back(column.name);
  }
  const size_t row_bytes = columns.size() * sizeof(uint64_t);
  std::vector<uint8_t> bytes;
  bytes.reserve(kFullBytes + row_bytes);
  const auto flush = [&]() -> absl::Status {
    if (bytes.empty()) return absl::OkStatus();
    json message = NewMessage("changes");
    message["columns"] = names;
    absl::Status status = SendRows(std::move(message), bytes, channel);
    bytes.clear();
    return status;
  };
  for (size_t i = 0; i < sessions.size(); ++i) {
    if (needs[i] != Need::kRow) continue;
    bytes.resize(bytes.size() + row_bytes);
    uint8_t* end = bytes.data() + bytes.size() - row_bytes;
    for (const Column* column : columns) {
      const uint64_t value = column->pack(sessions[i]);
      std::memcpy(end, &value, sizeof(value));
      end += sizeof(value);
    }
    if (bytes.size() < kFullBytes) continue;
    if (absl::Status status = flush(); !status.ok()) return status;
  }
  return flush();
}

}  // namespace

absl::Status SendSessions(absl::Span<const HandedSession> sessions,
                          KnownSessions* known, Channel* channel) {
  std::vector<Need> needs;
  needs.reserve(sessions.size());
  bool has_flows = false;
  for (const HandedSession& session : sessions) {
    needs.push_back(known->NeedOf(session));
    has_flows = has_flows || session.flow_slot != kNoFlow;
  }
  if (absl::Status status = SendChanges(sessions, needs, has_flows, channel);
      !status.ok()) {
    return status;
  }
  for (const Need need : {Need::kAll, Need::kChanges}) {
    const auto is_sent = [&](const Column& column) {
      return (column.changes || need == Need::kAll) &&
             (has_flows || !column.is_flow);
    };
    json columns = json::array();
    for (const Column& column : kColumns) {
      if (is_sent(column)) columns.push_back(column.name);
    }
    json values = json::array();
    std::vector<int> descriptors;
    size_t bytes = 0;
    const auto flush = [&]() -> absl::Status {
      if (values.empty()) return absl::OkStatus();
      json message = NewMessage("sessions");
      message["columns"] = columns;
      message["values"] = std::move(values);
      values = json::array();
      bytes = 0;
      absl::Status status = SendMessage(message, channel, descriptors);
      descriptors.clear();
      return status;
    };
    for (size_t i = 0; i < sessions.size(); ++i) {
      if (needs[i] != need) continue;
      const HandedSession& session = sessions[i];
      for (const Column& column : kColumns) {
        if (is_sent(column)) values.push_back(column.write(session));
      }
      if (need == Need::kAll && session.upstream_fd.is_open()) {
        descriptors.push_back(session.upstream_fd.get());
      }
      bytes += kSessionBytes + session.label.size();
      if (bytes < kFullBytes &&
          descriptors.size() < kDescriptorsPerMessageMax) {
        continue;
      }
      if (absl::Status status = flush(); !status.ok()) return status;
    }
    if (absl::Status status = flush(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

namespace {

absl::Status SendHeld(const HandedSession& session, Channel* channel) {
  size_t i = 0;
  while (i < session.held.size()) {
    json datagrams = json::array();
    json traffic_classes = json::array();
    size_t bytes = 0;
    for (; i < session.held.size() && bytes < kFullBytes; ++i) {
      const std::string& payload = session.held[i];
      const auto* begin = reinterpret_cast<const uint8_t*>(payload.data());
      datagrams.push_back(json::binary({begin, begin + payload.size()}));
      traffic_classes.push_back(i < session.held_traffic_classes.size()
                                    ? session.held_traffic_classes[i]
                                    : 0);
      bytes += payload.size() + sizeof(uint64_t);
    }
    json message = NewMessage("held");
    message["id"] = session.id;
    message["datagrams"] = std::move(datagrams);
    message["traffic_classes"] = std::move(traffic_classes);
    if (absl::Status status = SendMessage(message, channel); !status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

// In messages of one source address each, since most gates have one.
absl::Status SendQuarantined(absl::Span<const HandedPort> ports, bool has_rows,
                             Channel* channel) {
  size_t i = 0;
  while (i < ports.size()) {
    const SocketAddress source = ports[i].relay.WithPort(0);
    std::vector<uint64_t> values;
    for (; i < ports.size() && values.size() < kPortsPerMessage &&
           ports[i].relay.WithPort(0) == source;
         ++i) {
      values.push_back(ports[i].relay.port());
      values.push_back(static_cast<uint64_t>(ports[i].since_nanoseconds));
    }
    json message = NewMessage("quarantined");
    message["source"] = WriteAddress(source);
    absl::Status status;
    if (has_rows) {
      const auto* const begin = reinterpret_cast<const uint8_t*>(values.data());
      status = SendRows(std::move(message),
                        {begin, values.size() * sizeof(uint64_t)}, channel);
    } else {
      message["ports"] = values;
      status = SendMessage(message, channel);
    }
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

json WriteStats(const ProxyStats& stats) {
  json values = json::object();
  for (const ProxyStatField& field : ProxyStatFields()) {
    if (field.kind == ProxyStatField::Kind::kGauge) continue;
    values[std::string(field.name)] = stats.*field.value;
  }
  return values;
}

// A bucket of the histogram of resolves, by its bound.
std::string BucketName(size_t bucket) {
  return bucket + 1 < kResolveBucketCount
             ? absl::StrCat(kResolveSecondsBounds[bucket])
             : "more";
}

// A number for each reason, or bucket.
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

absl::Status SendGate(const HandedGate& gate, KnownSessions* known,
                      Channel* channel) {
  if (absl::Status status = SendSessions(gate.sessions, known, channel);
      !status.ok()) {
    return status;
  }
  for (const HandedSession& session : gate.sessions) {
    if (absl::Status status = SendHeld(session, channel); !status.ok()) {
      return status;
    }
  }
  if (absl::Status status =
          SendQuarantined(gate.quarantined, known->reads_rows(), channel);
      !status.ok()) {
    return status;
  }
  json message = NewMessage("state");
  message["now_nanoseconds"] = gate.now_nanoseconds;
  message["pause_began_nanoseconds"] = gate.pause_began_nanoseconds;
  message["session_number"] = gate.session_number;
  message["session_count"] = gate.sessions.size();
  message["is_draining"] = gate.is_draining;
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
  return SendMessage(message, channel);
}

absl::Status SendNotes(absl::string_view notes, Channel* channel) {
  if (notes.size() > kNotesBytesMax) notes = "";
  do {
    const absl::string_view part = notes.substr(0, kFullBytes);
    notes.remove_prefix(part.size());
    json message = NewMessage("notes");
    const auto* const begin = reinterpret_cast<const uint8_t*>(part.data());
    message["bytes"] = json::binary({begin, begin + part.size()});
    message["is_last"] = notes.empty();
    if (absl::Status status = SendMessage(message, channel); !status.ok()) {
      return status;
    }
  } while (!notes.empty());
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReceiveNotes(Channel* channel) {
  std::string notes;
  for (;;) {
    absl::StatusOr<Incoming> message = ReceiveMessage(channel);
    if (!message.ok()) return message.status();
    if (message->type != "notes") continue;
    const auto bytes = message->fields.find("bytes");
    if (bytes == message->fields.end() || !bytes->is_binary()) {
      return Invalid("notes without bytes");
    }
    notes.append(bytes->get_binary().begin(), bytes->get_binary().end());
    if (notes.size() > kNotesBytesMax) return Invalid("too long notes");
    const auto is_last = message->fields.find("is_last");
    if (is_last == message->fields.end() || *is_last != false) return notes;
  }
}

absl::Status GateReader::Read(Incoming message) {
  if (message.type == "sessions") return ReadSessions(std::move(message));
  if (message.type == "changes") return ReadChanges(message);
  if (message.type == "held") return ReadHeld(message.fields);
  if (message.type == "quarantined") return ReadQuarantined(message);
  if (message.type == "state") return ReadState(message.fields);
  return absl::OkStatus();
}

void GateReader::BeginState() { is_state_ = true; }

absl::Status GateReader::ReadSessions(Incoming message) {
  const json& names = message.fields["columns"];
  const json& values = message.fields["values"];
  if (!names.is_array() || !values.is_array() || names.empty() ||
      values.size() % names.size() != 0) {
    return Invalid("its columns and its values do not fit");
  }
  std::vector<const Column*> columns;
  size_t id_column = names.size();
  for (const json& name : names) {
    columns.push_back(FindColumn(name));
    if (columns.back() == &kColumns[0]) id_column = columns.size() - 1;
  }
  if (id_column == names.size()) return Invalid("its sessions have no id");
  size_t next_descriptor = 0;
  for (size_t begin = 0; begin < values.size(); begin += names.size()) {
    uint64_t id = 0;
    if (!ReadInteger(values[begin + id_column], &id) || id == 0) {
      return Invalid("a session's id is none");
    }
    size_t index = index_.Find(id);
    if (index == IndexById::kNone) {
      if (sessions_.size() == kSessionsMax) {
        return Invalid("too many sessions");
      }
      index = sessions_.size();
      index_.Add(id);
      sessions_.emplace_back();
      has_socket_.push_back(false);
      is_current_.push_back(false);
      if (is_state_) ++late_count_;
    }
    HandedSession& session = sessions_[index];
    for (size_t i = 0; i < columns.size(); ++i) {
      if (columns[i] != nullptr &&
          !columns[i]->read(values[begin + i], &session)) {
        return Invalid(
            absl::StrCat("session ", id, ": a wrong ", columns[i]->name));
      }
    }
    is_current_[index] = is_state_;
    if (session.state == SessionState::kPending || has_socket_[index]) {
      continue;
    }
    if (next_descriptor == message.descriptors.size()) {
      return Invalid(absl::StrCat("session ", id, " has no socket"));
    }
    UniqueFd& descriptor = message.descriptors[next_descriptor++];
    if (!IsSocketOf(descriptor.get(), session)) {
      return Invalid(absl::StrCat("session ", id, " has another's socket"));
    }
    has_socket_[index] = true;
    session.upstream_fd = std::move(descriptor);
  }
  if (next_descriptor != message.descriptors.size()) {
    return Invalid("it has more sockets than sessions");
  }
  return absl::OkStatus();
}

absl::Status GateReader::ReadChanges(const Incoming& message) {
  const auto names = message.fields.find("columns");
  if (names == message.fields.end() || !names->is_array()) {
    return Invalid("changes without columns");
  }
  std::vector<const Column*> columns;
  size_t id_column = names->size();
  for (const json& name : *names) {
    columns.push_back(FindColumn(name));
    if (columns.back() == &kColumns[0]) id_column = columns.size() - 1;
    if (columns.back() != nullptr && columns.back()->unpack == nullptr) {
      return Invalid("a change that is no number");
    }
  }
  const std::vector<uint8_t>& bytes = message.rows;
  const size_t row_bytes = columns.size() * sizeof(uint64_t);
  if (id_column == columns.size() || bytes.size() % row_bytes != 0) {
    return Invalid("its columns and its rows do not fit");
  }
  const auto number = [&bytes](size_t begin, size_t column) {
    uint64_t value = 0;
    std::memcpy(&value, bytes.data() + begin + column * sizeof(value),
                sizeof(value));
    return value;
  };
  for (size_t begin = 0; begin < bytes.size(); begin += row_bytes) {
    const uint64_t id = number(begin, id_column);
    const size_t index = index_.Find(id);
    if (index == IndexById::kNone) return Invalid("a change of no session");
    HandedSession& session = sessions_[index];
    for (size_t i = 0; i < columns.size(); ++i) {
      if (columns[i] != nullptr &&
          !columns[i]->unpack(number(begin, i), &session)) {
        return Invalid(
            absl::StrCat("session ", id, ": a wrong ", columns[i]->name));
      }
    }
    if (session.state != SessionState::kPending && !has_socket_[index]) {
      return Invalid(absl::StrCat("session ", id, " has no socket"));
    }
    is_current_[index] = is_state_;
  }
  return absl::OkStatus();
}

absl::Status GateReader::ReadHeld(const json& message) {
  const absl::StatusOr<uint64_t> id = ReadNumber(message, "id");
  if (!id.ok()) return id.status();
  const size_t index = index_.Find(*id);
  const auto datagrams = message.find("datagrams");
  if (index == IndexById::kNone || datagrams == message.end() ||
      !datagrams->is_array()) {
    return Invalid("held datagrams of no session");
  }
  for (const json& datagram : *datagrams) {
    if (!datagram.is_binary()) return Invalid("a held datagram is none");
    held_bytes_ += datagram.get_binary().size();
    if (held_bytes_ > kHeldBytesMax) return Invalid("too many datagrams");
    sessions_[index].held.emplace_back(datagram.get_binary().begin(),
                                       datagram.get_binary().end());
  }
  // An older program does not send them.
  const auto classes = message.find("traffic_classes");
  if (classes == message.end()) return absl::OkStatus();
  if (!classes->is_array() || classes->size() != datagrams->size()) {
    return Invalid("its traffic classes are not its datagrams'");
  }
  HandedSession& session = sessions_[index];
  session.held_traffic_classes.resize(session.held.size() - classes->size());
  for (const json& value : *classes) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > UINT8_MAX) {
      return Invalid("a traffic class is none");
    }
    session.held_traffic_classes.push_back(value.get<uint8_t>());
  }
  return absl::OkStatus();
}

absl::Status GateReader::ReadQuarantined(const Incoming& message) {
  SocketAddress source;
  const auto text = message.fields.find("source");
  if (!message.rows.empty()) {
    const std::vector<uint8_t>& bytes = message.rows;
    if (text == message.fields.end() || !ReadAddress(*text, &source) ||
        !source.is_valid() || bytes.size() % (2 * sizeof(uint64_t)) != 0) {
      return Invalid("ports of no address");
    }
    for (size_t i = 0; i < bytes.size(); i += 2 * sizeof(uint64_t)) {
      uint64_t row[2];
      std::memcpy(row, bytes.data() + i, sizeof(row));
      if (row[0] > UINT16_MAX || row[1] > INT64_MAX) {
        return Invalid("a port is none");
      }
      if (gate_.quarantined.size() == kPortsMax) {
        return Invalid("too many ports");
      }
      gate_.quarantined.push_back(
          {source.WithPort(static_cast<uint16_t>(row[0])),
           static_cast<int64_t>(row[1])});
    }
    return absl::OkStatus();
  }
  const auto values = message.fields.find("ports");
  if (text == message.fields.end() || !ReadAddress(*text, &source) ||
      !source.is_valid() || values == message.fields.end() ||
      !values->is_array() || values->size() % 2 != 0) {
    return Invalid("ports of no address");
  }
  for (size_t i = 0; i < values->size(); i += 2) {
    uint16_t port = 0;
    HandedPort handed;
    if (!ReadInteger((*values)[i], &port) ||
        !ReadInteger((*values)[i + 1], &handed.since_nanoseconds)) {
      return Invalid("a port is none");
    }
    if (gate_.quarantined.size() == kPortsMax) return Invalid("too many ports");
    handed.relay = source.WithPort(port);
    gate_.quarantined.push_back(handed);
  }
  return absl::OkStatus();
}

absl::Status GateReader::ReadState(const json& message) {
  for (const auto& [name, number] :
       {std::make_pair("now_nanoseconds", &gate_.now_nanoseconds),
        std::make_pair("pause_began_nanoseconds",
                       &gate_.pause_began_nanoseconds)}) {
    const absl::StatusOr<uint64_t> value = ReadNumber(message, name);
    if (!value.ok()) return value.status();
    *number = static_cast<int64_t>(*value & INT64_MAX);
  }
  for (const auto& [name, number] :
       {std::make_pair("session_number", &gate_.session_number),
        std::make_pair("session_count", &session_count_)}) {
    const absl::StatusOr<uint64_t> value = ReadNumber(message, name);
    if (!value.ok()) return value.status();
    *number = *value;
  }
  const auto drops = message.find("kernel_drops");
  if (drops == message.end() || !drops->is_array()) {
    return Invalid("its listeners have no numbers");
  }
  for (const json& drop : *drops) {
    gate_.kernel_drops.push_back(0);
    if (!ReadInteger(drop, &gate_.kernel_drops.back())) {
      return Invalid("a listener's number is none");
    }
  }
  const auto part = [&](const char* name) {
    const auto found = message.find(name);
    return found == message.end() ? json::object() : *found;
  };
  const auto draining = message.find("is_draining");
  gate_.is_draining = draining != message.end() && *draining == true;
  const auto total = message.find("resolve_nanoseconds_total");
  if (!ReadStats(part("stats"), &gate_.stats) ||
      !ReadReasons(part("datagrams_dropped"), &DropReasonName,
                   &gate_.stats.datagrams_dropped) ||
      !ReadReasons(part("sessions_ended"), &EndReasonName,
                   &gate_.stats.sessions_ended) ||
      !ReadReasons(part("sessions_reopened"), &ReopenReasonName,
                   &gate_.stats.sessions_reopened) ||
      !ReadReasons(part("resolves_by_duration"), &BucketName,
                   &gate_.stats.resolves_by_duration) ||
      (total != message.end() &&
       !ReadInteger(*total, &gate_.stats.resolve_nanoseconds_total))) {
    return Invalid("its counters are none");
  }
  has_state_ = true;
  return absl::OkStatus();
}

absl::StatusOr<HandedGate> GateReader::Take() {
  // In place: there may be many, and all traffic stands still.
  size_t count = 0;
  for (size_t i = 0; i < sessions_.size(); ++i) {
    if (!is_current_[i]) continue;
    if (count != i) sessions_[count] = std::move(sessions_[i]);
    ++count;
  }
  sessions_.resize(count);
  gate_.sessions = std::move(sessions_);
  sessions_.clear();
  has_socket_.clear();
  is_current_.clear();
  index_ = IndexById();
  if (gate_.sessions.size() != session_count_) {
    return Invalid(absl::StrCat(gate_.sessions.size(), " sessions came of ",
                                session_count_));
  }
  return std::move(gate_);
}

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate
