#include "udpgate/takeover/internal/gate_sender.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "nlohmann/json.hpp"
#include "udpgate/backend_resolver.h"
#include "udpgate/socket_address.h"
#include "udpgate/takeover/internal/gate_state.h"
#include "udpgate/takeover/internal/message_fields.h"
#include "udpgate/takeover/internal/messages.h"
#include "udpgate/takeover/internal/session_columns.h"

namespace udpgate {
namespace takeover {
namespace internal {
namespace {

using nlohmann::json;
using udpgate::internal::HandedGate;
using udpgate::internal::HandedPort;
using udpgate::internal::HandedSession;
using Need = KnownSessions::Need;

constexpr size_t kPortsPerMessage = 8192;
// Enough for all fields of a session but its label and its tag.
constexpr size_t kSessionBytes = 300;
constexpr uint32_t kNoFlow = UINT32_MAX;

// Sends the sessions that need a row as rows of numbers.
absl::Status SendChanges(absl::Span<const HandedSession> sessions,
                         const std::vector<Need>& needs, bool has_flows,
                         Channel* channel) {
  std::vector<const Column*> columns;
  json names = json::array();
  for (const Column& column : SessionColumns()) {
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

// One message has the ports of one source address; most gateways have only one.
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
    for (const Column& column : SessionColumns()) {
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
      for (const Column& column : SessionColumns()) {
        if (is_sent(column)) values.push_back(column.write(session));
      }
      if (need == Need::kAll && session.upstream_fd.is_open()) {
        descriptors.push_back(session.upstream_fd.get());
      }
      bytes += kSessionBytes + session.label.size();
      if (session.tag != nullptr) {
        bytes += session.tag->key().size() + session.tag->text().size();
      }
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
  return SendMessage(WriteState(gate), channel);
}

}  // namespace internal
}  // namespace takeover
}  // namespace udpgate
