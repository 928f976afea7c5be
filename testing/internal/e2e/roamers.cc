#include "testing/internal/e2e/roamers.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "udpgate/clock.h"

namespace udpgate {
namespace test {
namespace {

// One reply for a datagram is below the limit of three.
constexpr int kUnvalidatedRepliesMax = 20;
constexpr size_t kCheckEvery = 5;

int64_t NowNanoseconds() { return Clock::Monotonic()->NowNanoseconds(); }

// Of a player: protocol, id, number, and the answer to a challenge or whether
// it is a check.
struct Question {
  int protocol = 0;
  int id = 0;
  int64_t number = 0;
  int64_t extra = 0;
};

bool ParseQuestion(const std::string& text, Question* question) {
  const std::vector<absl::string_view> words = absl::StrSplit(text, ' ');
  return words.size() == 4 && absl::SimpleAtoi(words[0], &question->protocol) &&
         absl::SimpleAtoi(words[1], &question->id) &&
         absl::SimpleAtoi(words[2], &question->number) &&
         absl::SimpleAtoi(words[3], &question->extra);
}

}  // namespace

const char* ProtocolName(Protocol protocol) {
  switch (protocol) {
    case Protocol::kWireGuard:
      return "WireGuard";
    case Protocol::kQuic:
      return "QUIC";
    case Protocol::kIce:
      return "ICE";
    case Protocol::kRakNet:
      return "RakNet";
  }
  return "";
}

RoamingBackend::RoamingBackend(std::string name, LoopbackPeer peer)
    : name_(std::move(name)), peer_(std::move(peer)) {
  // What all send at once must find room, whatever net.core.rmem_max says.
  const int bytes = 8 << 20;
  (void)::setsockopt(peer_.fd(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes,
                     sizeof(bytes));
  thread_ = std::thread([this] { Serve(); });
}

RoamingBackend::~RoamingBackend() {
  is_over_ = true;
  thread_.join();
}

void RoamingBackend::Serve() {
  while (!is_over_) {
    pollfd event = {peer_.fd(), POLLIN, 0};
    if (::poll(&event, 1, 100) <= 0) continue;
    for (auto datagram = peer_.TryReceive(); datagram.ok();
         datagram = peer_.TryReceive()) {
      Handle(*datagram);
    }
  }
}

void RoamingBackend::Handle(const Datagram& datagram) {
  Question question;
  if (!ParseQuestion(datagram.payload, &question)) return;
  const Protocol protocol = static_cast<Protocol>(question.protocol);
  Connection& connection = connections_[question.id];
  if (!connection.address.is_valid()) connection.address = datagram.from;
  if (datagram.from != connection.address) {
    if (protocol == Protocol::kRakNet) return;
    if (protocol == Protocol::kWireGuard ||
        (protocol == Protocol::kQuic &&
         question.number > connection.highest_number) ||
        (protocol == Protocol::kIce && question.extra != 0)) {
      connection.address = datagram.from;
      ++connection.address_changes;
      if (protocol == Protocol::kQuic) {
        connection.challenge = ++challenge_;
        connection.unvalidated_replies = 0;
      }
    }
  }
  connection.highest_number =
      std::max(connection.highest_number, question.number);
  if (connection.challenge != 0 && datagram.from == connection.address &&
      question.extra == connection.challenge) {
    connection.challenge = 0;
  }
  if (connection.challenge != 0 &&
      ++connection.unvalidated_replies > kUnvalidatedRepliesMax) {
    return;
  }
  (void)peer_.Send(
      connection.address,
      absl::StrCat(name_, " ", question.number, " ", connection.challenge, " ",
                   connection.address_changes));
}

Roamers::Loss Roamers::Report::Total() const {
  Loss total;
  for (const auto& [protocol, loss] : losses) {
    total.players += loss.players;
    total.sent += loss.sent;
    total.lost += loss.lost;
    total.address_changes += loss.address_changes;
    total.longest_silence =
        std::max(total.longest_silence, loss.longest_silence);
  }
  return total;
}

std::string Roamers::Report::ToString() const {
  std::string text;
  for (const auto& [protocol, loss] : losses) {
    absl::StrAppendFormat(
        &text,
        "  %-9s %3d players, %3d changes of address, %6d datagrams, %4d lost, "
        "longest silence %.3f s\n",
        ProtocolName(protocol), loss.players, loss.address_changes, loss.sent,
        loss.lost, absl::ToDoubleSeconds(loss.longest_silence));
  }
  return text;
}

Roamers::Roamers(Options options) : options_(std::move(options)) {
  int count = 0;
  for (const auto& entry : options_.counts)
    count = std::max(count, entry.second);
  // Mixed, so that each part of them has all protocols.
  for (int i = 0; i < count; ++i) {
    for (const auto& [protocol, protocol_count] : options_.counts) {
      if (i >= protocol_count) continue;
      const int id = static_cast<int>(players_.size());
      players_.emplace_back(protocol, id, options_.client);
    }
  }
}

void Roamers::Send(Player* player) {
  const size_t number = player->sent_nanoseconds.size();
  int64_t extra = 0;
  if (player->protocol == Protocol::kQuic) extra = player->challenge;
  if (player->protocol == Protocol::kIce) extra = number % kCheckEvery == 0;
  player->sent_nanoseconds.push_back(NowNanoseconds());
  player->has_reply.push_back(false);
  (void)player->peer.Send(options_.gate,
                          absl::StrCat(static_cast<int>(player->protocol), " ",
                                       player->id, " ", number, " ", extra));
}

void Roamers::ReceiveAll() {
  std::vector<pollfd> events;
  events.reserve(players_.size());
  for (const Player& player : players_) {
    events.push_back({player.peer.fd(), POLLIN, 0});
  }
  if (::poll(events.data(), events.size(), 0) <= 0) return;
  for (size_t i = 0; i < events.size(); ++i) {
    if (events[i].revents == 0) continue;
    Player& player = players_[i];
    for (auto reply = player.peer.TryReceive(); reply.ok();
         reply = player.peer.TryReceive()) {
      Receive(&player, reply->payload);
    }
  }
}

void Roamers::Receive(Player* player, const std::string& reply) {
  const std::vector<std::string> words = absl::StrSplit(reply, ' ');
  size_t number = 0;
  int changes = 0;
  if (words.size() != 4 || !absl::SimpleAtoi(words[1], &number) ||
      number >= player->has_reply.size() ||
      !absl::SimpleAtoi(words[2], &player->challenge) ||
      !absl::SimpleAtoi(words[3], &changes)) {
    return;
  }
  if (player->backend.empty()) player->backend = words[0];
  if (player->backend != words[0]) player->has_strayed = true;
  player->has_reply[number] = true;
  player->address_changes = std::max(player->address_changes, changes);
  player->served_nanoseconds =
      std::max(player->served_nanoseconds, player->sent_nanoseconds[number]);
  const int64_t now = NowNanoseconds();
  if (player->reply_nanoseconds != 0) {
    player->longest_silence_nanoseconds = std::max(
        player->longest_silence_nanoseconds, now - player->reply_nanoseconds);
  }
  player->reply_nanoseconds = now;
}

bool Roamers::Join(size_t begin, size_t end,
                   const std::function<bool()>& is_enough,
                   absl::Duration timeout) {
  constexpr size_t kSlice = 50;
  return AwaitTrue(
      [&] {
        bool have_all = true;
        for (size_t i = begin; i < end; ++i) {
          Send(&players_[i]);
          // So few at a time that no buffer overflows.
          if ((i - begin) % kSlice == kSlice - 1) {
            (void)AwaitTrue(
                [&] {
                  ReceiveAll();
                  return players_[i].has_reply.back();
                },
                absl::Milliseconds(100));
          }
          have_all &= !players_[i].backend.empty();
        }
        absl::SleepFor(options_.interval);  // the pace of the traffic
        ReceiveAll();
        return have_all && is_enough();
      },
      timeout);
}

Roamers::Report Roamers::Play(const std::function<void()>& body) {
  for (Player& player : players_) {
    player.first_number = player.sent_nanoseconds.size();
    player.first_address_changes = player.address_changes;
    player.longest_silence_nanoseconds = 0;
    player.reply_nanoseconds = 0;
  }
  is_over_ = false;
  std::thread thread([this] { Run(); });
  body();
  is_over_ = true;
  thread.join();
  const int64_t end = NowNanoseconds();
  for (Player& player : players_) {
    player.longest_silence_nanoseconds =
        std::max(player.longest_silence_nanoseconds,
                 end - std::max(player.reply_nanoseconds,
                                player.sent_nanoseconds[player.first_number]));
  }
  // Those that are under way.
  (void)AwaitTrue(
      [&] {
        ReceiveAll();
        return HaveAllReplies();
      },
      absl::Seconds(1));
  return MakeReport();
}

void Roamers::Run() {
  constexpr absl::Duration kStep = absl::Milliseconds(2);
  const double per_step = static_cast<double>(players_.size()) *
                          absl::FDivDuration(kStep, options_.interval);
  double due = 0;
  size_t next = 0;
  // At least one round, so that everybody has sent.
  size_t sent = 0;
  absl::Time time = absl::Now();
  while (!is_over_ || sent < players_.size()) {
    for (due += per_step; due >= 1; --due) {
      Send(&players_[next]);
      next = (next + 1) % players_.size();
      ++sent;
    }
    ReceiveAll();
    int64_t lowest = INT64_MAX;
    for (const Player& player : players_) {
      lowest = std::min(lowest, player.served_nanoseconds);
    }
    all_served_nanoseconds_ = lowest;
    // Players do not make up for what a busy machine has kept them from.
    time = std::max(time + kStep, absl::Now());
    absl::SleepFor(time - absl::Now());  // the pace of the traffic
  }
}

bool Roamers::AwaitAllServed(absl::Duration timeout) {
  const int64_t now = NowNanoseconds();
  return AwaitTrue([&] { return all_served_nanoseconds_ >= now; }, timeout);
}

bool Roamers::HaveAllReplies() const {
  for (const Player& player : players_) {
    for (size_t i = player.first_number; i < player.has_reply.size(); ++i) {
      if (!player.has_reply[i]) return false;
    }
  }
  return true;
}

Roamers::Report Roamers::MakeReport() const {
  Report report;
  for (const Player& player : players_) {
    Loss& loss = report.losses[player.protocol];
    ++loss.players;
    for (size_t i = player.first_number; i < player.has_reply.size(); ++i) {
      ++loss.sent;
      if (!player.has_reply[i]) ++loss.lost;
    }
    loss.address_changes +=
        player.address_changes - player.first_address_changes;
    loss.longest_silence =
        std::max(loss.longest_silence,
                 absl::Nanoseconds(player.longest_silence_nanoseconds));
    if (player.has_strayed) ++report.strayed;
  }
  return report;
}

}  // namespace test
}  // namespace udpgate
