#include "udpgate/redis/internal/scripted_peer.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace test {
namespace {

[[noreturn]] void Die(const char* what) {
  std::perror(what);
  std::abort();
}

}  // namespace

ScriptedPeer::Action ScriptedPeer::Say(absl::string_view bytes) {
  Action action;
  action.bytes = std::string(bytes);
  return action;
}

ScriptedPeer::Action ScriptedPeer::SayAndClose(absl::string_view bytes) {
  Action action = Say(bytes);
  action.close = true;
  return action;
}

ScriptedPeer::Action ScriptedPeer::SayByteByByte(absl::string_view bytes) {
  Action action = Say(bytes);
  action.is_byte_by_byte = true;
  return action;
}

ScriptedPeer::Action ScriptedPeer::Healthy(const Command& command) {
  if (command[0] == "PING") return Say("+PONG\r\n");
  if (command[0] == "AUTH" || command[0] == "SELECT") return Say("+OK\r\n");
  if (command[0] == "INFO")
    return Say(Bulk("# Replication\r\nrole:master\r\n"));
  if (command[0] == "XINFO") return Say("-ERR no such key\r\n");
  if (command[0] == "SUBSCRIBE") {
    return Say(
        absl::StrCat("*3\r\n", Bulk("subscribe"), Bulk(command[1]), ":1\r\n"));
  }
  return SayNothing();
}

std::string ScriptedPeer::Bulk(absl::string_view text) {
  return absl::StrCat("$", text.size(), "\r\n", text, "\r\n");
}

std::string ScriptedPeer::Message(absl::string_view channel,
                                  absl::string_view payload) {
  return absl::StrCat("*3\r\n", Bulk("message"), Bulk(channel), Bulk(payload));
}

ScriptedPeer::ScriptedPeer(Script script, const std::string& ip, uint16_t port)
    : script_(std::move(script)),
      listener_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
      wakeup_(eventfd(0, EFD_CLOEXEC)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  if (inet_pton(AF_INET, ip.c_str(), &address.sin_addr) != 1) Die("inet_pton");
  address.sin_port = htons(port);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (bind(listener_.get(), generic, size) != 0) Die("bind");
  if (listen(listener_.get(), 16) != 0) Die("listen");
  if (getsockname(listener_.get(), generic, &size) != 0) Die("getsockname");
  port_ = ntohs(address.sin_port);
  address_ = absl::StrCat(ip, ":", port_);
  thread_ = std::thread([this] { Run(); });
}

ScriptedPeer::~ScriptedPeer() {
  {
    internal::MutexLock lock(&mutex_);
    is_stopping_ = true;
  }
  const uint64_t one = 1;
  if (write(wakeup_.get(), &one, sizeof(one)) != sizeof(one)) Die("write");
  thread_.join();
}

void ScriptedPeer::SayToAll(absl::string_view bytes) {
  internal::MutexLock lock(&mutex_);
  for (const auto& [fd, connection] : connections_) Perform(Say(bytes), fd);
}

void ScriptedPeer::CloseAll() {
  internal::MutexLock lock(&mutex_);
  // The thread reads the end of the stream and removes the connection.
  for (const auto& [fd, connection] : connections_) shutdown(fd, SHUT_RDWR);
}

bool ScriptedPeer::StopHearing() {
  sock_filter drop_all[] = {BPF_STMT(BPF_RET | BPF_K, 0)};
  const sock_fprog program = {1, drop_all};
  internal::MutexLock lock(&mutex_);
  for (const auto& [fd, connection] : connections_) {
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program,
                   sizeof(program)) != 0) {
      return false;
    }
  }
  return true;
}

int ScriptedPeer::accepted_count() const {
  internal::MutexLock lock(&mutex_);
  return accepted_count_;
}

int ScriptedPeer::open_count() const {
  internal::MutexLock lock(&mutex_);
  return static_cast<int>(connections_.size());
}

int ScriptedPeer::command_count(absl::string_view name) const {
  internal::MutexLock lock(&mutex_);
  int count = 0;
  for (const Command& command : commands_) {
    if (command[0] == name) ++count;
  }
  return count;
}

std::vector<ScriptedPeer::Command> ScriptedPeer::commands() const {
  internal::MutexLock lock(&mutex_);
  return commands_;
}

void ScriptedPeer::Run() {
  for (;;) {
    std::vector<pollfd> polled = {{wakeup_.get(), POLLIN, 0},
                                  {listener_.get(), POLLIN, 0}};
    {
      internal::MutexLock lock(&mutex_);
      if (is_stopping_) return;
      for (const auto& [fd, connection] : connections_) {
        polled.push_back({fd, POLLIN, 0});
      }
    }
    if (poll(polled.data(), polled.size(), -1) < 0) continue;
    for (size_t i = 2; i < polled.size(); ++i) {
      if (polled[i].revents == 0) continue;
      const int fd = polled[i].fd;
      std::vector<Command> commands;
      bool is_open;
      {
        internal::MutexLock lock(&mutex_);
        is_open = ReadCommands(connections_[fd].get(), &commands);
        commands_.insert(commands_.end(), commands.begin(), commands.end());
      }
      for (const Command& command : commands) {
        // Without the lock, since a script may read the counts.
        const Action action = script_(command);
        internal::MutexLock lock(&mutex_);
        if (is_open) is_open = Perform(action, fd);
      }
      internal::MutexLock lock(&mutex_);
      if (!is_open) connections_.erase(fd);
    }
    if (polled[1].revents != 0) {
      internal::MutexLock lock(&mutex_);
      Accept();
    }
  }
}

void ScriptedPeer::Accept() {
  auto connection = std::make_unique<Connection>();
  connection->socket.Reset(
      accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  const int fd = connection->socket.get();
  if (fd < 0) return;
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  ++accepted_count_;
  connections_[fd] = std::move(connection);
}

bool ScriptedPeer::ReadCommands(Connection* connection,
                                std::vector<Command>* commands) {
  char buffer[4096];
  const ssize_t size =
      recv(connection->socket.get(), buffer, sizeof(buffer), 0);
  if (size <= 0) return false;
  if (!connection->reader.Feed({buffer, static_cast<size_t>(size)}).ok()) {
    return false;
  }
  for (;;) {
    const absl::StatusOr<redis::internal::Reply> reply =
        connection->reader.Next();
    if (!reply.ok()) return false;
    if (*reply == nullptr) return true;
    Command command;
    for (size_t i = 0; i < (*reply)->elements; ++i) {
      command.emplace_back(redis::internal::ReplyText(*(*reply)->element[i]));
    }
    if (command.empty()) return false;
    commands->push_back(std::move(command));
  }
}

bool ScriptedPeer::Perform(const Action& action, int socket) {
  const size_t step =
      action.is_byte_by_byte ? 1 : std::max<size_t>(action.bytes.size(), 1);
  for (size_t sent = 0; sent < action.bytes.size(); sent += step) {
    if (send(socket, action.bytes.data() + sent, step, MSG_NOSIGNAL) < 0) {
      return false;
    }
  }
  return !action.close;
}

}  // namespace test
}  // namespace udpgate
