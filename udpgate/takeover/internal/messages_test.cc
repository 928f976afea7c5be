#include "udpgate/takeover/internal/messages.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "testing/loopback_peer.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/takeover/internal/gate_reader.h"
#include "udpgate/takeover/internal/gate_sender.h"
#include "udpgate/takeover/internal/host_state.h"
#include "udpgate/takeover/internal/index_by_id.h"
#include "udpgate/takeover/internal/known_sessions.h"
#include "udpgate/takeover/internal/notes.h"

namespace udpgate {
namespace takeover {
namespace internal {
namespace {

using ::testing::HasSubstr;
using udpgate::internal::HandedGate;
using udpgate::internal::HandedSession;
using udpgate::internal::UniqueFd;

std::string Text(const absl::Status& status) {
  return std::string(status.message());
}

class MessagesTest : public ::testing::Test {
 protected:
  MessagesTest() {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
    left_ = std::make_unique<Channel>(UniqueFd(fds[0]));
    right_ = std::make_unique<Channel>(UniqueFd(fds[1]));
    left_->BeginStage(absl::Seconds(5));
    right_->BeginStage(absl::Seconds(5));
  }

  // A live one, whose socket leads to `backend_`.
  HandedSession MakeSession(uint64_t id) {
    HandedSession session;
    session.id = id;
    session.state = SessionState::kConfirmed;
    session.client = SocketAddress::Ipv4Loopback(static_cast<uint16_t>(id));
    session.local = *SocketAddress::Parse("[fe80::1%1]:19132");
    session.backend = backend_.address();
    session.label = std::string("a\0\xff label", 9);
    session.listener = 3;
    session.refusals = 2;
    session.has_answered = true;
    session.proof_count = 3;
    session.created_nanoseconds = 1;
    session.last_active_nanoseconds = std::numeric_limits<int64_t>::max();
    session.reply_bytes = std::numeric_limits<uint64_t>::max();
    session.client_bytes_forwarded = 7;
    session.upstream_fd.Reset(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_storage name;
    socklen_t size = backend_.address().ToSockaddr(AF_INET, &name);
    auto* const address = reinterpret_cast<sockaddr*>(&name);
    EXPECT_EQ(::connect(session.upstream_fd.get(), address, size), 0);
    size = sizeof(name);
    EXPECT_EQ(::getsockname(session.upstream_fd.get(), address, &size), 0);
    session.relay = SocketAddress::FromSockaddr(address, size);
    return session;
  }

  absl::Status Read(nlohmann::json fields, std::vector<UniqueFd> fds = {}) {
    Incoming message;
    message.type = fields["type"].get<std::string>();
    message.fields = std::move(fields);
    message.descriptors = std::move(fds);
    return reader_.Read(std::move(message));
  }
  // Sends the gate, and reads it.
  void Pass(const HandedGate& gate, KnownSessions known) {
    std::thread sender(
        [&] { EXPECT_TRUE(SendGate(gate, &known, left_.get()).ok()); });
    ReadAll();
    sender.join();
  }
  void ReadAll() {
    while (!reader_.has_state()) {
      absl::StatusOr<Incoming> message = ReceiveMessage(right_.get());
      ASSERT_TRUE(message.ok()) << message.status();
      const absl::Status status = reader_.Read(*std::move(message));
      ASSERT_TRUE(status.ok()) << status;
    }
  }
  static nlohmann::json Array(nlohmann::json::initializer_list_t values) {
    return nlohmann::json::array(values);
  }
  static nlohmann::json Sessions(nlohmann::json columns,
                                 nlohmann::json values) {
    nlohmann::json message = NewMessage("sessions");
    message["columns"] = std::move(columns);
    message["values"] = std::move(values);
    return message;
  }
  static nlohmann::json State(uint64_t session_count) {
    nlohmann::json message = NewMessage("state");
    message["now_nanoseconds"] = 1u;
    message["pause_began_nanoseconds"] = 1u;
    message["session_number"] = 9u;
    message["session_count"] = session_count;
    message["kernel_drops"] = {1u, 4294967295u};
    message["stats"] = {{"sessions_created", 5u}, {"number_of_tomorrow", "x"}};
    message["datagrams_dropped"] = {{"denied", 2u}};
    message["sessions_ended"] = nlohmann::json::object();
    message["resolves_by_duration"] = nlohmann::json::object();
    message["resolve_nanoseconds_total"] = 0u;
    return message;
  }

  test::LoopbackPeer backend_;
  std::unique_ptr<Channel> left_;
  std::unique_ptr<Channel> right_;
  GateReader reader_;
  KnownSessions none_;
};

TEST_F(MessagesTest, AGateComesAsItWas) {
  HandedGate gate;
  gate.now_nanoseconds = 11;
  gate.pause_began_nanoseconds = 10;
  gate.session_number = 12;
  gate.is_standby = true;
  gate.kernel_drops = {0, 13};
  gate.stats.sessions_created = 14;
  gate.stats.datagrams_dropped[1] = 15;
  gate.stats.sessions_ended[2] = 16;
  gate.stats.resolves_by_duration.back() = 17;
  for (int i = 0; i < 20000; ++i) {
    gate.quarantined.push_back(
        {SocketAddress::Ipv4Loopback(static_cast<uint16_t>(i)), i});
  }
  for (int i = 1; i <= 300; ++i) gate.sessions.push_back(MakeSession(i));
  gate.sessions[299].flow_slot = 18;
  gate.sessions[299].flow_counted = {{19, 20, 0}, {21, 22, 0}};
  HandedSession pending;
  pending.id = 1000;
  pending.client = SocketAddress::Ipv6Loopback(1);
  pending.held = {"", std::string(65507, 'x'), std::string(65507, 'y'), "z"};
  pending.held_traffic_classes = {0xB8, 0, 0xFF, 0x03};
  gate.sessions.push_back(std::move(pending));

  reader_.BeginState();
  Pass(gate, {});
  absl::StatusOr<HandedGate> read = reader_.Take();
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->now_nanoseconds, 11);
  EXPECT_EQ(read->pause_began_nanoseconds, 10);
  EXPECT_EQ(read->session_number, 12u);
  EXPECT_TRUE(read->is_standby);
  EXPECT_FALSE(read->is_draining);
  EXPECT_EQ(read->kernel_drops, gate.kernel_drops);
  EXPECT_EQ(read->stats.sessions_created, 14u);
  EXPECT_EQ(read->stats.datagrams_dropped, gate.stats.datagrams_dropped);
  EXPECT_EQ(read->stats.sessions_ended, gate.stats.sessions_ended);
  EXPECT_EQ(read->stats.resolves_by_duration, gate.stats.resolves_by_duration);
  ASSERT_EQ(read->quarantined.size(), gate.quarantined.size());
  EXPECT_EQ(read->quarantined[19999].relay, gate.quarantined[19999].relay);
  EXPECT_EQ(read->quarantined[19999].since_nanoseconds, 19999);
  ASSERT_EQ(read->sessions.size(), gate.sessions.size());
  std::sort(read->sessions.begin(), read->sessions.end(),
            [](const HandedSession& a, const HandedSession& b) {
              return a.id < b.id;
            });
  const HandedSession& before = gate.sessions[299];
  const HandedSession& after = read->sessions[299];
  EXPECT_EQ(after.state, before.state);
  EXPECT_EQ(after.client, before.client);
  EXPECT_EQ(after.local, before.local);
  EXPECT_EQ(after.relay, before.relay);
  EXPECT_EQ(after.label, before.label);
  EXPECT_EQ(after.listener, before.listener);
  EXPECT_EQ(after.refusals, before.refusals);
  EXPECT_EQ(after.has_answered, before.has_answered);
  EXPECT_EQ(after.proof_count, before.proof_count);
  EXPECT_EQ(after.last_active_nanoseconds, before.last_active_nanoseconds);
  EXPECT_EQ(after.reply_bytes, before.reply_bytes);
  EXPECT_EQ(after.flow_slot, 18u);
  EXPECT_EQ(after.flow_counted.from_client.datagrams, 19u);
  EXPECT_EQ(after.flow_counted.from_client.payload_bytes, 20u);
  EXPECT_EQ(after.flow_counted.from_backend.datagrams, 21u);
  EXPECT_EQ(after.flow_counted.from_backend.payload_bytes, 22u);
  EXPECT_EQ(read->sessions[0].flow_slot, HandedSession().flow_slot);
  EXPECT_TRUE(after.upstream_fd.is_open());
  EXPECT_EQ(read->sessions[300].held, gate.sessions[300].held);
  EXPECT_EQ(read->sessions[300].held_traffic_classes,
            gate.sessions[300].held_traffic_classes);
}

TEST_F(MessagesTest, WhatIsKnownComesWithoutItsSocketAndWhatEndedNotAtAll) {
  std::vector<HandedSession> sessions;
  for (int i = 1; i <= 2; ++i) sessions.push_back(MakeSession(i));
  ASSERT_TRUE(SendSessions(sessions, &none_, left_.get()).ok());
  absl::StatusOr<Incoming> message = ReceiveMessage(right_.get());
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(message->descriptors.size(), 2u);
  ASSERT_TRUE(reader_.Read(*std::move(message)).ok());
  reader_.BeginState();

  HandedGate gate;
  gate.sessions.push_back(std::move(sessions[0]));
  gate.sessions[0].client_bytes_forwarded = 8;
  gate.sessions[0].flow_slot = 9;
  gate.sessions[0].label = "this one is not sent again";
  KnownSessions known;
  known.Add(gate.sessions[0]);
  known.Add(sessions[1]);
  Pass(gate, known);
  const absl::StatusOr<HandedGate> read = reader_.Take();
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->sessions.size(), 1u);
  EXPECT_EQ(read->sessions[0].client_bytes_forwarded, 8u);
  EXPECT_EQ(read->sessions[0].flow_slot, 9u);
  EXPECT_EQ(read->sessions[0].label, std::string("a\0\xff label", 9));
  EXPECT_TRUE(read->sessions[0].upstream_fd.is_open());
}

TEST_F(MessagesTest, WhatIsNotKnownIsLeftOutAndWhatIsMissingHasItsDefault) {
  reader_.BeginState();
  EXPECT_TRUE(Read(NewMessage("message_of_tomorrow")).ok());
  EXPECT_TRUE(Read(Sessions(Array({"colour", "id", "client"}),
                            Array({"red", 5u, "127.0.0.1:1"})))
                  .ok());
  nlohmann::json state = State(1);
  for (const char* name : {"sessions_ended", "resolves_by_duration",
                           "resolve_nanoseconds_total"}) {
    state.erase(name);
  }
  state["weather"] = {1u, {2u, {}}};
  EXPECT_TRUE(Read(state).ok());
  const absl::StatusOr<HandedGate> gate = reader_.Take();
  ASSERT_TRUE(gate.ok()) << gate.status();
  EXPECT_EQ(gate->sessions[0].client.port(), 1);
  EXPECT_EQ(gate->sessions[0].state, SessionState::kPending);
  EXPECT_EQ(gate->stats.sessions_created, 5u);
  EXPECT_EQ(gate->kernel_drops[1], 4294967295u);
}

TEST_F(MessagesTest, SessionsThatAreWrongAreNamed) {
  const auto error = [&](nlohmann::json columns, nlohmann::json values) {
    const absl::Status status =
        Read(Sessions(std::move(columns), std::move(values)));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return Text(status);
  };
  EXPECT_THAT(error(Array({"id", "client"}), Array({1u})),
              HasSubstr("do not match"));
  EXPECT_THAT(error("id", Array({1u})), HasSubstr("do not match"));
  EXPECT_THAT(error(Array({}), Array({1u})), HasSubstr("do not match"));
  EXPECT_THAT(error(Array({"client"}), Array({"127.0.0.1:1"})),
              HasSubstr("without an id"));
  EXPECT_THAT(error(Array({"id"}), Array({0u})),
              HasSubstr("invalid session id"));
  EXPECT_THAT(error(Array({"id"}), Array({-1})),
              HasSubstr("invalid session id"));
  EXPECT_THAT(error(Array({"id"}), Array({1.5})),
              HasSubstr("invalid session id"));
  EXPECT_THAT(error(Array({"id", "client"}), Array({1u, "here"})),
              HasSubstr("invalid client"));
  EXPECT_THAT(error(Array({"id", "state"}), Array({1u, "happy"})),
              HasSubstr("invalid state"));
  EXPECT_THAT(error(Array({"id", "listener"}), Array({1u, 65536u})),
              HasSubstr("invalid listener"));
  EXPECT_THAT(error(Array({"id", "proof_count"}), Array({1u, 256u})),
              HasSubstr("invalid proof_count"));
  EXPECT_THAT(error(Array({"id", "label"}), Array({1u, "text"})),
              HasSubstr("invalid label"));
  EXPECT_THAT(error(Array({"id", "has_answered"}), Array({1u, 1})),
              HasSubstr("invalid has_answered"));
  EXPECT_THAT(error(Array({"id", "state"}), Array({77u, "confirmed"})),
              HasSubstr("session 77 has no socket"));
}

TEST_F(MessagesTest, ASocketMustBeTheOneOfItsSession) {
  HandedSession session = MakeSession(1);
  HandedSession other = MakeSession(2);
  std::swap(session.upstream_fd, other.upstream_fd);
  std::vector<HandedSession> sessions;
  sessions.push_back(std::move(session));
  ASSERT_TRUE(SendSessions(sessions, &none_, left_.get()).ok());
  absl::StatusOr<Incoming> message = ReceiveMessage(right_.get());
  ASSERT_TRUE(message.ok());
  EXPECT_THAT(Text(reader_.Read(*std::move(message))),
              HasSubstr("the socket has other addresses"));
  std::vector<UniqueFd> fds;
  fds.emplace_back(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  EXPECT_THAT(Text(Read(Sessions(Array({"id"}), Array({5u})), std::move(fds))),
              HasSubstr("more sockets than sessions"));
}

TEST_F(MessagesTest, AStateThatIsTruncatedIsNone) {
  reader_.BeginState();
  EXPECT_TRUE(Read(State(1)).ok());
  EXPECT_THAT(Text(reader_.Take().status()),
              HasSubstr("received 0 of 1 sessions"));
  for (const char* name :
       {"now_nanoseconds", "session_number", "session_count", "kernel_drops"}) {
    GateReader reader;
    Incoming message;
    message.type = "state";
    message.fields = State(0);
    message.fields.erase(name);
    EXPECT_FALSE(reader.Read(std::move(message)).ok()) << name;
    EXPECT_FALSE(reader.has_state());
  }
  Incoming wrong;
  wrong.type = "state";
  wrong.fields = State(0);
  wrong.fields["stats"] = {{"sessions_created", -1}};
  EXPECT_FALSE(GateReader().Read(std::move(wrong)).ok());
  nlohmann::json held = NewMessage("held");
  held["id"] = 99u;
  held["datagrams"] = nlohmann::json::array();
  EXPECT_THAT(Text(Read(held)), HasSubstr("of an unknown session"));
  nlohmann::json ports = NewMessage("quarantined");
  ports["source"] = "127.0.0.1:0";
  ports["ports"] = {1u, 2u, 3u};
  EXPECT_FALSE(Read(ports).ok());
  ports["ports"] = {70000u, 2u};
  EXPECT_FALSE(Read(ports).ok());
}

TEST(IndexByIdTest, FindsIdsInAnyOrder) {
  IndexById index;
  EXPECT_EQ(index.Find(7), IndexById::kNone);
  for (const uint64_t id : {7, 3, 5, 9}) EXPECT_TRUE(index.Add(id));
  EXPECT_FALSE(index.Add(5));
  EXPECT_EQ(index.size(), 4u);
  EXPECT_EQ(index.Find(7), 0u);
  EXPECT_EQ(index.Find(3), 1u);
  EXPECT_EQ(index.Find(9), 3u);  // 5 has ended
  EXPECT_EQ(index.Find(8), IndexById::kNone);
  EXPECT_EQ(index.Find(5), 2u);
  EXPECT_EQ(index.Find(5), 2u);
  EXPECT_EQ(index.Find(9), 3u);
}

TEST_F(MessagesTest, InThePauseASessionIsOneRowOfNumbers) {
  constexpr int kSessions = 600;
  std::vector<HandedSession> sessions;
  for (int i = 1; i <= kSessions; ++i) sessions.push_back(MakeSession(i));
  KnownSessions known;
  known.set_reads_rows(true);
  std::thread first([&] {
    EXPECT_TRUE(SendSessions(sessions, &none_, left_.get()).ok());
    EXPECT_TRUE(SendMessage(NewMessage("sockets_end"), left_.get()).ok());
  });
  for (;;) {
    absl::StatusOr<Incoming> message = ReceiveMessage(right_.get());
    ASSERT_TRUE(message.ok()) << message.status();
    if (message->type == "sockets_end") break;
    ASSERT_TRUE(reader_.Read(*std::move(message)).ok());
  }
  first.join();
  for (const HandedSession& session : sessions) known.Add(session);
  reader_.BeginState();
  // All change, one's client has written to another address, the last one has
  // ended, and one is new.
  HandedGate gate;
  gate.now_nanoseconds = gate.pause_began_nanoseconds = 1;
  gate.quarantined.push_back({SocketAddress::Ipv4Loopback(65535), 7});
  sessions.pop_back();
  for (HandedSession& session : sessions) {
    session.state = SessionState::kUnconfirmed;
    session.refusals = -1;
    session.proof_count = 2;
    session.has_answered = false;
    session.has_unanswered_reply = true;
    session.last_active_nanoseconds = static_cast<int64_t>(session.id) << 40;
    session.client_bytes_forwarded = std::numeric_limits<uint64_t>::max();
    session.flow_slot = static_cast<uint32_t>(session.id);
    session.flow_counted.from_backend.payload_bytes = session.id;
  }
  sessions[0].local = SocketAddress::Ipv4Loopback(2);
  sessions.push_back(MakeSession(kSessions + 1));
  gate.sessions = std::move(sessions);
  std::thread second(
      [&] { EXPECT_TRUE(SendGate(gate, &known, left_.get()).ok()); });
  size_t row_bytes = 0;
  size_t value_count = 0;
  while (!reader_.has_state()) {
    absl::StatusOr<Incoming> message = ReceiveMessage(right_.get());
    ASSERT_TRUE(message.ok()) << message.status();
    if (message->type == "changes") {
      row_bytes += message->rows.size();
    } else if (message->type == "sessions") {
      value_count += message->fields["values"].size();
    }
    const absl::Status status = reader_.Read(*std::move(message));
    ASSERT_TRUE(status.ok()) << status;
  }
  second.join();
  // 21 numbers of each, and two sessions that are told in full.
  EXPECT_LE(row_bytes, size_t{kSessions} * 21 * 8);
  EXPECT_GE(row_bytes, size_t{kSessions - 2} * 15 * 8);
  EXPECT_LE(value_count, 2u * 32);
  EXPECT_EQ(reader_.late_count(), 1);
  absl::StatusOr<HandedGate> read = reader_.Take();
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->quarantined.size(), 1u);
  EXPECT_EQ(read->quarantined[0].relay, SocketAddress::Ipv4Loopback(65535));
  EXPECT_EQ(read->quarantined[0].since_nanoseconds, 7);
  ASSERT_EQ(read->sessions.size(), static_cast<size_t>(kSessions));
  for (const HandedSession& session : read->sessions) {
    EXPECT_TRUE(session.upstream_fd.is_open());
    if (session.id > kSessions) continue;
    EXPECT_EQ(session.state, SessionState::kUnconfirmed);
    EXPECT_EQ(session.refusals, -1);
    EXPECT_EQ(session.proof_count, 2);
    EXPECT_FALSE(session.has_answered);
    EXPECT_TRUE(session.has_unanswered_reply);
    EXPECT_EQ(session.last_active_nanoseconds, static_cast<int64_t>(session.id)
                                                   << 40);
    EXPECT_EQ(session.client_bytes_forwarded,
              std::numeric_limits<uint64_t>::max());
    EXPECT_EQ(session.flow_slot, session.id);
    EXPECT_EQ(session.flow_counted.from_backend.payload_bytes, session.id);
    EXPECT_EQ(session.local, session.id == 1
                                 ? SocketAddress::Ipv4Loopback(2)
                                 : *SocketAddress::Parse("[fe80::1%1]:19132"));
  }
}

TEST_F(MessagesTest, RowsThatAreWrongAreRefused) {
  EXPECT_TRUE(
      Read(Sessions(Array({"id", "client"}), Array({1u, "127.0.0.1:1"}))).ok());
  const auto error = [this](nlohmann::json columns,
                            const std::vector<uint64_t>& numbers,
                            size_t cut_bytes = 0) {
    Incoming message;
    message.type = "changes";
    message.fields["columns"] = std::move(columns);
    const auto* const begin = reinterpret_cast<const uint8_t*>(numbers.data());
    message.rows.assign(begin,
                        begin + numbers.size() * sizeof(uint64_t) - cut_bytes);
    return Text(reader_.Read(std::move(message)));
  };
  EXPECT_EQ(error(Array({"id", "state", "of_later"}), {1, 0, 5}), "");
  EXPECT_THAT(error(Array({"id"}), {1}, 1), HasSubstr("do not match"));
  EXPECT_THAT(error(Array({}), {}), HasSubstr("do not match"));
  EXPECT_THAT(error(Array({"state"}), {1}), HasSubstr("do not match"));
  EXPECT_THAT(error(Array({"id"}), {2}), HasSubstr("of an unknown session"));
  EXPECT_THAT(error(Array({"id", "local"}), {1, 1}), HasSubstr("not a number"));
  EXPECT_THAT(error(Array({"id", "state"}), {1, 3}),
              HasSubstr("invalid state"));
  EXPECT_THAT(error(Array({"id", "state"}), {1, 2}), HasSubstr("no socket"));
  EXPECT_THAT(error(Array({"id", "proof_count"}), {1, 256}),
              HasSubstr("invalid proof_count"));
  EXPECT_THAT(error(Array({"id", "has_answered"}), {1, 2}),
              HasSubstr("invalid has_answered"));
  EXPECT_FALSE(Read(NewMessage("changes")).ok());
}

TEST_F(MessagesTest, NotesAreReadWhatTheirLength) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{70'000}}) {
    const std::string notes(size, 'n');
    ASSERT_TRUE(SendNotes(notes, left_.get()).ok());
    const absl::StatusOr<std::string> read = ReceiveNotes(right_.get());
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(*read, notes);
  }
  // Nobody needs them so much.
  ASSERT_TRUE(
      SendNotes(std::string(kNotesBytesMax + 1, 'n'), left_.get()).ok());
  EXPECT_EQ(ReceiveNotes(right_.get()).value_or("?"), "");
  ASSERT_TRUE(SendMessage(NewMessage("notes"), left_.get()).ok());
  EXPECT_FALSE(ReceiveNotes(right_.get()).ok());
}

TEST_F(MessagesTest, TheHostsStateIsReadWhateverItsLength) {
  for (const size_t size : {size_t{1}, size_t{5'000'000}}) {
    const std::string state(size, 's');
    ASSERT_TRUE(SendHostState(state, size == 1, left_.get()).ok());
    absl::StatusOr<Incoming> message = ReceiveMessage(right_.get());
    ASSERT_TRUE(message.ok()) << message.status();
    EXPECT_EQ(message->type, "host_state");
    const absl::StatusOr<HostState> read = ReadHostState(*message);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->state, state);
    EXPECT_EQ(read->is_late, size == 1);
    // A reader of an older version skips it.
    EXPECT_TRUE(reader_.Read(*std::move(message)).ok());
  }
  // An empty one is not sent.
  ASSERT_TRUE(SendHostState("", false, left_.get()).ok());
  ASSERT_TRUE(SendMessage(NewMessage("next"), left_.get()).ok());
  EXPECT_TRUE(ReceiveMessage("next", right_.get()).ok());
}

TEST_F(MessagesTest, AHostsStateThatIsWrongIsRefused) {
  const auto error = [this](const nlohmann::json& message,
                            absl::Span<const int> descriptors) {
    EXPECT_TRUE(SendMessage(message, left_.get(), descriptors).ok());
    const absl::StatusOr<Incoming> incoming = ReceiveMessage(right_.get());
    EXPECT_TRUE(incoming.ok()) << incoming.status();
    const absl::Status status = ReadHostState(*incoming).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return Text(status);
  };
  const UniqueFd file(::memfd_create("test", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), 5), 0);
  int pipe_ends[2];
  ASSERT_EQ(::pipe2(pipe_ends, O_CLOEXEC), 0);
  const UniqueFd read_end(pipe_ends[0]);
  const UniqueFd write_end(pipe_ends[1]);
  const int right = file.get();
  const int wrong = read_end.get();
  nlohmann::json message = NewMessage("host_state");
  EXPECT_THAT(error(message, {&right, 1}), HasSubstr("no number \"size\""));
  message["size"] = 5u;
  EXPECT_THAT(error(message, {}), HasSubstr("without its file"));
  EXPECT_THAT(error(message, {&wrong, 1}), HasSubstr("without its file"));
  message["size"] = 6u;
  EXPECT_THAT(error(message, {&right, 1}), HasSubstr("without its file"));
  message["size"] = kHostStateBytesMax + 1;
  EXPECT_THAT(error(message, {&right, 1}), HasSubstr("without its file"));
}

TEST_F(MessagesTest, PortsAreBounded) {
  nlohmann::json ports = NewMessage("quarantined");
  ports["source"] = "127.0.0.1:0";
  ports["ports"] = nlohmann::json::array();
  for (int i = 0; i < 2 * 65536; ++i) ports["ports"].push_back(1u);
  absl::Status status;
  for (int i = 0; i < 1000 && status.ok(); ++i) status = Read(ports);
  EXPECT_THAT(Text(status), HasSubstr("too many quarantined ports"));
}

TEST_F(MessagesTest, AnErrorOfTheOtherProcessIsPassedOn) {
  nlohmann::json error = NewMessage("error");
  error["text"] = "no room";
  ASSERT_TRUE(SendMessage(error, left_.get()).ok());
  const absl::Status status = ReceiveMessage("gate", right_.get()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(Text(status), HasSubstr("no room"));
}

}  // namespace
}  // namespace internal
}  // namespace takeover
}  // namespace udpgate
