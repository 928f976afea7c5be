// A real redis-server of the test's own, with a private directory and nothing
// kept on disk.
//
//   udpgate::test::RedisServer redis;
//   ASSERT_TRUE(redis.Start().ok());
//   ASSERT_TRUE(redis.Command({"SET", "udp_gate:backend", "[::1]:1"}).ok());
//   redis.Pause();   // connects, and never answers
//   redis.Resume();
//   redis.Kill();    // refuses connections
//   ASSERT_TRUE(redis.Restart().ok());  // the same port, empty again
//
// Needs `redis-server` in the PATH (Debian's package of that name).
#ifndef UDPGATE_TESTING_INTERNAL_SUPPORT_REDIS_SERVER_H_
#define UDPGATE_TESTING_INTERNAL_SUPPORT_REDIS_SERVER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "testing/internal/support/child_process.h"
#include "testing/internal/support/temporary_directory.h"

namespace udpgate {
namespace test {

struct RedisServerOptions {
  // Listen on 127.0.0.1, at `RedisServer::port()`.
  bool tcp = true;
  // Listen on `RedisServer::unix_path()`.
  bool unix_socket = false;
  // Further arguments of redis-server: {"--requirepass", "secret"}.
  std::vector<std::string> extra_arguments;
  // Not empty: a Sentinel with these lines of configuration. Restarting it
  // makes it forget what it has learned.
  std::string sentinel_configuration;
  // With these `Command` logs in. An empty user is the default one; an empty
  // password means no login.
  std::string username;
  std::string password;
};

// Threads: one thread at a time, but `Command`, `port` and `unix_path` may be
// called from any thread. The thread that calls `Start` must outlive the
// server, see child_process.h.
class RedisServer {
 public:
  // Chooses the port and makes the directory; does not start it.
  explicit RedisServer(RedisServerOptions options = {});
  // Kills it.
  ~RedisServer();
  RedisServer(const RedisServer&) = delete;
  RedisServer& operator=(const RedisServer&) = delete;

  // Starts it and waits until it accepts connections. An error holds what
  // redis-server wrote.
  absl::Status Start();

  // SIGKILL, and waits for the end. Harmless when it does not run.
  void Kill();
  // `Kill` and `Start`: the same port and path, no data.
  absl::Status Restart();

  // SIGSTOP and SIGCONT: the kernel still accepts connections and takes
  // commands for a stopped server, but nothing answers.
  void Pause();
  void Resume();

  bool running() const { return process_ != nullptr && process_->running(); }

  // Free when the object was made, and outside the range from which the
  // kernel gives ports to others, so that nobody takes it between a `Kill` and
  // a `Restart`.
  uint16_t port() const { return port_; }
  const std::string& unix_path() const { return unix_path_; }
  // `127.0.0.1:port` and `unix:/path`, as REDIS_ADDR takes them.
  std::string tcp_address() const;
  std::string unix_address() const;

  // Sends one command over a connection of its own and returns the reply: a
  // string as it is, an integer in decimal, an array as its elements joined by
  // line feeds. NotFound for nil, FailedPrecondition for an error reply,
  // Unavailable where the server does not answer within five seconds.
  absl::StatusOr<std::string> Command(
      const std::vector<std::string>& arguments) const;

 private:
  const RedisServerOptions options_;
  TemporaryDirectory directory_;
  const std::string unix_path_;
  uint16_t port_;
  std::unique_ptr<ChildProcess> process_;
};

// A TCP port of 127.0.0.1 on which nobody listens, outside the range from
// which the kernel gives ports to others. Each process gets it at most once,
// and no other process that uses this function until this one ends.
uint16_t FreeTcpPort();

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_SUPPORT_REDIS_SERVER_H_
