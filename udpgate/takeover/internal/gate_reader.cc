#include "udpgate/takeover/internal/gate_reader.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/session_info.h"
#include "udpgate/socket_address.h"
#include "udpgate/takeover/internal/gate_state.h"
#include "udpgate/takeover/internal/message_fields.h"
#include "udpgate/takeover/internal/session_columns.h"

namespace udpgate {
namespace takeover {
namespace internal {
namespace {

using nlohmann::json;
using udpgate::internal::HandedGate;
using udpgate::internal::HandedPort;
using udpgate::internal::HandedSession;
using udpgate::internal::UniqueFd;

// Far beyond any limit on descriptors.
constexpr size_t kSessionsMax = 1 << 20;
// Far beyond what a gateway holds, and little enough for any host's memory.
constexpr size_t kPortsMax = 1 << 20;
constexpr size_t kHeldBytesMax = size_t{1} << 30;

// Whether the descriptor is a datagram socket with the session's addresses.
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

absl::Status GateReader::Read(Incoming message) {
  if (message.type == "sessions") return ReadSessions(std::move(message));
  if (message.type == "changes") return ReadChanges(message);
  if (message.type == "held") return ReadHeld(message.fields);
  if (message.type == "quarantined") return ReadQuarantined(message);
  if (message.type == "state") {
    absl::Status status = ReadState(message.fields, &gate_, &session_count_);
    if (status.ok()) has_state_ = true;
    return status;
  }
  return absl::OkStatus();
}

void GateReader::BeginState() { is_state_ = true; }

absl::Status GateReader::ReadSessions(Incoming message) {
  const json& names = message.fields["columns"];
  const json& values = message.fields["values"];
  if (!names.is_array() || !values.is_array() || names.empty() ||
      values.size() % names.size() != 0) {
    return InvalidMessage("the values do not match the columns");
  }
  std::vector<const Column*> columns;
  size_t id_column = names.size();
  for (const json& name : names) {
    columns.push_back(FindColumn(name));
    if (columns.back() == &IdColumn()) id_column = columns.size() - 1;
  }
  if (id_column == names.size())
    return InvalidMessage("sessions without an id");
  size_t next_descriptor = 0;
  for (size_t begin = 0; begin < values.size(); begin += names.size()) {
    uint64_t id = 0;
    if (!ReadInteger(values[begin + id_column], &id) || id == 0) {
      return InvalidMessage("invalid session id");
    }
    size_t index = index_.Find(id);
    if (index == IndexById::kNone) {
      if (sessions_.size() == kSessionsMax) {
        return InvalidMessage("too many sessions");
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
        return InvalidMessage(
            absl::StrCat("session ", id, ": invalid ", columns[i]->name));
      }
    }
    is_current_[index] = is_state_;
    if (session.state == SessionState::kPending || has_socket_[index]) {
      continue;
    }
    if (next_descriptor == message.descriptors.size()) {
      return InvalidMessage(absl::StrCat("session ", id, " has no socket"));
    }
    UniqueFd& descriptor = message.descriptors[next_descriptor++];
    if (!IsSocketOf(descriptor.get(), session)) {
      return InvalidMessage(
          absl::StrCat("session ", id, ": the socket has other addresses"));
    }
    has_socket_[index] = true;
    session.upstream_fd = std::move(descriptor);
  }
  if (next_descriptor != message.descriptors.size()) {
    return InvalidMessage("more sockets than sessions");
  }
  return absl::OkStatus();
}

absl::Status GateReader::ReadChanges(const Incoming& message) {
  const auto names = message.fields.find("columns");
  if (names == message.fields.end() || !names->is_array()) {
    return InvalidMessage("changes without columns");
  }
  std::vector<const Column*> columns;
  size_t id_column = names->size();
  for (const json& name : *names) {
    columns.push_back(FindColumn(name));
    if (columns.back() == &IdColumn()) id_column = columns.size() - 1;
    if (columns.back() != nullptr && columns.back()->unpack == nullptr) {
      return InvalidMessage("a changed column is not a number");
    }
  }
  const std::vector<uint8_t>& bytes = message.rows;
  const size_t row_bytes = columns.size() * sizeof(uint64_t);
  if (id_column == columns.size() || bytes.size() % row_bytes != 0) {
    return InvalidMessage("the rows do not match the columns");
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
    if (index == IndexById::kNone)
      return InvalidMessage("a change of an unknown session");
    HandedSession& session = sessions_[index];
    for (size_t i = 0; i < columns.size(); ++i) {
      if (columns[i] != nullptr &&
          !columns[i]->unpack(number(begin, i), &session)) {
        return InvalidMessage(
            absl::StrCat("session ", id, ": invalid ", columns[i]->name));
      }
    }
    if (session.state != SessionState::kPending && !has_socket_[index]) {
      return InvalidMessage(absl::StrCat("session ", id, " has no socket"));
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
    return InvalidMessage("held datagrams of an unknown session");
  }
  for (const json& datagram : *datagrams) {
    if (!datagram.is_binary())
      return InvalidMessage("a held datagram is not binary data");
    held_bytes_ += datagram.get_binary().size();
    if (held_bytes_ > kHeldBytesMax)
      return InvalidMessage("held datagrams are too long together");
    sessions_[index].held.emplace_back(datagram.get_binary().begin(),
                                       datagram.get_binary().end());
  }
  // An older version does not send them.
  const auto classes = message.find("traffic_classes");
  if (classes == message.end()) return absl::OkStatus();
  if (!classes->is_array() || classes->size() != datagrams->size()) {
    return InvalidMessage("traffic classes do not match the datagrams");
  }
  HandedSession& session = sessions_[index];
  session.held_traffic_classes.resize(session.held.size() - classes->size());
  for (const json& value : *classes) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > UINT8_MAX) {
      return InvalidMessage("invalid traffic class");
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
      return InvalidMessage("invalid list of quarantined ports");
    }
    for (size_t i = 0; i < bytes.size(); i += 2 * sizeof(uint64_t)) {
      uint64_t row[2];
      std::memcpy(row, bytes.data() + i, sizeof(row));
      if (row[0] > UINT16_MAX || row[1] > INT64_MAX) {
        return InvalidMessage("invalid quarantined port");
      }
      if (gate_.quarantined.size() == kPortsMax) {
        return InvalidMessage("too many quarantined ports");
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
    return InvalidMessage("invalid list of quarantined ports");
  }
  for (size_t i = 0; i < values->size(); i += 2) {
    uint16_t port = 0;
    HandedPort handed;
    if (!ReadInteger((*values)[i], &port) ||
        !ReadInteger((*values)[i + 1], &handed.since_nanoseconds)) {
      return InvalidMessage("invalid quarantined port");
    }
    if (gate_.quarantined.size() == kPortsMax)
      return InvalidMessage("too many quarantined ports");
    handed.relay = source.WithPort(port);
    gate_.quarantined.push_back(handed);
  }
  return absl::OkStatus();
}

absl::StatusOr<HandedGate> GateReader::Take() {
  // In place: there may be many, and no traffic is forwarded meanwhile.
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
    return InvalidMessage(absl::StrCat("received ", gate_.sessions.size(),
                                       " of ", session_count_, " sessions"));
  }
  return std::move(gate_);
}

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate
