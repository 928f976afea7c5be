#include "testing/internal/support/redis_server.h"

#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace test {
namespace {

constexpr timeval kCommandTimeout = {5, 0};
constexpr int kPortTriesMax = 1000;

using Reply = std::unique_ptr<redisReply, void (*)(void*)>;

absl::StatusOr<std::string> ReplyToText(const redisReply* reply) {
  switch (reply->type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
      return std::string(reply->str, static_cast<size_t>(reply->len));
    case REDIS_REPLY_INTEGER:
      return absl::StrCat(reply->integer);
    case REDIS_REPLY_NIL:
      return absl::NotFoundError("nil");
    case REDIS_REPLY_ERROR:
      return absl::FailedPreconditionError(reply->str);
    case REDIS_REPLY_ARRAY: {
      std::string text;
      for (size_t i = 0; i < reply->elements; ++i) {
        absl::StatusOr<std::string> element = ReplyToText(reply->element[i]);
        absl::StrAppend(&text, i > 0 ? "\n" : "",
                        element.ok() ? *element : "(nil)");
      }
      return text;
    }
    default:
      return absl::InternalError(absl::StrCat("reply type ", reply->type));
  }
}

absl::StatusOr<std::string> Exchange(
    redisContext* context, const std::vector<std::string>& arguments) {
  std::vector<const char*> pointers;
  std::vector<size_t> sizes;
  for (const std::string& argument : arguments) {
    pointers.push_back(argument.data());
    sizes.push_back(argument.size());
  }
  Reply reply(static_cast<redisReply*>(
                  ::redisCommandArgv(context, static_cast<int>(pointers.size()),
                                     pointers.data(), sizes.data())),
              ::freeReplyObject);
  if (reply == nullptr) return absl::UnavailableError(context->errstr);
  return ReplyToText(reply.get());
}

// False if a process has reserved the port and has not ended. The kernel
// forgets a name in the abstract namespace (unix(7)) with the process that
// bound it.
bool ReserveTcpPort(uint16_t port) {
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return true;
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  std::snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1,
                "udpgate-test-port-%d", static_cast<int>(port));
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&name), sizeof(name)) == 0) {
    return true;  // stays open until the process ends
  }
  ::close(fd);
  return false;
}

}  // namespace

uint16_t FreeTcpPort() {
  std::random_device random;
  std::uniform_int_distribution<int> ports(20000, 32000);
  for (int i = 0; i < kPortTriesMax; ++i) {
    const uint16_t port = static_cast<uint16_t>(ports(random));
    if (!ReserveTcpPort(port)) continue;
    internal::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_storage storage;
    const socklen_t size =
        SocketAddress::Ipv4Loopback(port).ToSockaddr(AF_INET, &storage);
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&storage), size) == 0) {
      return port;
    }
  }
  std::fputs("no free TCP port on 127.0.0.1\n", stderr);
  std::abort();
}

RedisServer::RedisServer(RedisServerOptions options)
    : options_(std::move(options)),
      unix_path_(absl::StrCat(directory_.path(), "/redis.sock")),
      port_(FreeTcpPort()) {}

RedisServer::~RedisServer() { Kill(); }

absl::Status RedisServer::Start() {
  if (running()) return absl::FailedPreconditionError("already running");
  ChildProcessOptions child;
  const bool is_sentinel = !options_.sentinel_configuration.empty();
  child.arguments = {"redis-server"};
  if (is_sentinel) {
    // It writes what it learns to this file.
    child.arguments.push_back(
        directory_.WriteFile("sentinel.conf", options_.sentinel_configuration));
    child.arguments.emplace_back("--sentinel");
  } else {
    child.arguments.insert(child.arguments.end(),
                           {"--save", "", "--appendonly", "no"});
  }
  child.arguments.insert(
      child.arguments.end(),
      {"--bind", "127.0.0.1", "--port", absl::StrCat(options_.tcp ? port_ : 0),
       "--dir", directory_.path(), "--tcp-backlog", "128"});
  if (options_.unix_socket) {
    child.arguments.insert(child.arguments.end(), {"--unixsocket", unix_path_});
  }
  child.arguments.insert(child.arguments.end(),
                         options_.extra_arguments.begin(),
                         options_.extra_arguments.end());
  child.environment = {{"LC_ALL", "C"}};
  child.working_directory = directory_.path();
  absl::StatusOr<std::unique_ptr<ChildProcess>> process =
      ChildProcess::Start(child);
  if (!process.ok()) return process.status();
  process_ = *std::move(process);
  // Redis writes this once its sockets listen, for TCP and for unix sockets.
  if (!process_->AwaitOutput(is_sentinel ? "Sentinel ID is"
                                         : "eady to accept connections")) {
    const std::string output = process_->output();
    Kill();
    return absl::UnavailableError(
        absl::StrCat("redis-server did not start:\n", output));
  }
  return absl::OkStatus();
}

void RedisServer::Kill() { process_.reset(); }

absl::Status RedisServer::Restart() {
  Kill();
  return Start();
}

void RedisServer::Pause() {
  if (process_ != nullptr) process_->Signal(SIGSTOP);
}

void RedisServer::Resume() {
  if (process_ != nullptr) process_->Signal(SIGCONT);
}

std::string RedisServer::tcp_address() const {
  return absl::StrCat("127.0.0.1:", port_);
}

std::string RedisServer::unix_address() const {
  return absl::StrCat("unix:", unix_path_);
}

absl::StatusOr<std::string> RedisServer::Command(
    const std::vector<std::string>& arguments) const {
  redisContext* context =
      options_.tcp
          ? ::redisConnectWithTimeout("127.0.0.1", port_, kCommandTimeout)
          : ::redisConnectUnixWithTimeout(unix_path_.c_str(), kCommandTimeout);
  if (context == nullptr) return absl::ResourceExhaustedError("hiredis");
  absl::Cleanup free_context = [context] { ::redisFree(context); };
  if (context->err != 0) return absl::UnavailableError(context->errstr);
  ::redisSetTimeout(context, kCommandTimeout);
  if (!options_.password.empty()) {
    std::vector<std::string> login = {"AUTH"};
    if (!options_.username.empty()) login.push_back(options_.username);
    login.push_back(options_.password);
    absl::StatusOr<std::string> reply = Exchange(context, login);
    if (!reply.ok()) return reply;
  }
  return Exchange(context, arguments);
}

}  // namespace test
}  // namespace udpgate
