// A TCP peer on loopback that replies to Redis commands with arbitrary bytes.
//
//   udpgate::test::ScriptedPeer peer([](const auto& command) {
//     if (command[0] == "GET") return ScriptedPeer::Say("-LOADING later\r\n");
//     return ScriptedPeer::Healthy(command);
//   });
//   options.address = peer.address();
#ifndef UDPGATE_REDIS_INTERNAL_SCRIPTED_PEER_H_
#define UDPGATE_REDIS_INTERNAL_SCRIPTED_PEER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/redis/internal/reply_reader.h"

namespace udpgate {
namespace test {

// Threads: any, except the destructor. The script runs on the peer's thread.
class ScriptedPeer {
 public:
  using Command = std::vector<std::string>;

  struct Action {
    std::string bytes;             // sent first
    bool close = false;            // then this
    bool is_byte_by_byte = false;  // one send(2) per byte
  };
  using Script = std::function<Action(const Command& command)>;

  static Action Say(absl::string_view bytes);
  static Action SayAndClose(absl::string_view bytes);
  static Action SayByteByByte(absl::string_view bytes);
  static Action SayNothing() { return {}; }
  // The reply of a Redis master to AUTH, SELECT, PING, INFO and SUBSCRIBE; none
  // to other commands.
  static Action Healthy(const Command& command);
  static std::string Bulk(absl::string_view text);
  static std::string Message(absl::string_view channel,
                             absl::string_view payload);

  // Listens on this address; port 0: on a free port.
  explicit ScriptedPeer(Script script, const std::string& ip = "127.0.0.1",
                        uint16_t port = 0);
  ~ScriptedPeer();
  ScriptedPeer(const ScriptedPeer&) = delete;
  ScriptedPeer& operator=(const ScriptedPeer&) = delete;

  // `ip:port`.
  const std::string& address() const { return address_; }
  uint16_t port() const { return port_; }

  // Sends these bytes on every connection.
  void SayToAll(absl::string_view bytes);
  // Closes every connection.
  void CloseAll();

  // From now on the kernel drops what arrives on the existing connections and
  // acknowledges nothing, like a firewall that has forgotten them. False if the
  // kernel does not permit that.
  bool StopHearing();

  int accepted_count() const;
  int open_count() const;
  // Commands of this name, on all connections so far.
  int command_count(absl::string_view name) const;
  std::vector<Command> commands() const;

 private:
  struct Connection {
    internal::UniqueFd socket;
    // Commands are frames like replies.
    redis::internal::ReplyReader reader{
        {/*frame_bytes_max=*/1 << 20, /*elements_max=*/4096, /*depth_max=*/3}};
  };

  void Run();
  void Accept() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Reads the available commands; false if the client has closed.
  bool ReadCommands(Connection* connection, std::vector<Command>* commands);
  // False if the connection must be closed.
  static bool Perform(const Action& action, int socket);

  const Script script_;
  internal::UniqueFd listener_;
  internal::UniqueFd wakeup_;
  std::string address_;
  uint16_t port_ = 0;
  mutable internal::Mutex mutex_;
  std::map<int, std::unique_ptr<Connection>> connections_
      ABSL_GUARDED_BY(mutex_);
  std::vector<Command> commands_ ABSL_GUARDED_BY(mutex_);
  int accepted_count_ ABSL_GUARDED_BY(mutex_) = 0;
  bool is_stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace test
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_SCRIPTED_PEER_H_
