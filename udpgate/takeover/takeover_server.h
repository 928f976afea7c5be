// Hands a running gate to another process, which goes on with its sockets and
// sessions: an upgrade that no player notices.
//
//   udpgate::takeover::TakeoverServerOptions options;
//   options.socket_path = "/run/my-gate/takeover.sock";
//   auto server = udpgate::takeover::TakeoverServer::Create(
//       options, proxy.get(), [] { /* ask the main thread to end */ });
//   if (!server.ok()) return server.status();
//   if (absl::Status status = (*server)->Start(); !status.ok()) return status;
//
// The other side is predecessor.h; README.md here has the whole story.
#ifndef UDPGATE_TAKEOVER_TAKEOVER_SERVER_H_
#define UDPGATE_TAKEOVER_TAKEOVER_SERVER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "udpgate/logging.h"
#include "udpgate/proxy.h"

namespace udpgate {
namespace takeover {

struct TakeoverServerOptions {
  // A unix socket with mode 0600. One that nobody listens on any more is
  // replaced.
  std::string socket_path;
  // Where the gate that this one has taken over from listens, if there was one:
  // if it is the same file, it is replaced too.
  std::string predecessor_path;

  // Further listening sockets that the successor may want, by names that it
  // knows: not owned, and open until the server stops.
  std::map<std::string, int> extra_sockets;

  // How long the other process may take for a step while this one serves, and
  // for everything together while all traffic stands still. 10 ms to 1 minute.
  absl::Duration step_timeout = absl::Seconds(10);
  absl::Duration pause_max = absl::Seconds(1);

  LogSink log_sink = StderrLogSink();

  // InvalidArgument names the field.
  absl::Status Validate() const;
};

// Threads: one of its own, which blocks all signals. `Create`, `Start`, `Stop`
// and `AwaitSuccessor` from one thread, which must not be that one.
//
// Ownership: the Proxy must outlive it.
class TakeoverServer {
 public:
  // `on_handed_over` is called once, from the server's thread, when another
  // process has everything and the Proxy has stopped; it must not block.
  static absl::StatusOr<std::unique_ptr<TakeoverServer>> Create(
      TakeoverServerOptions options, Proxy* proxy,
      std::function<void()> on_handed_over);
  // Stops.
  ~TakeoverServer();
  TakeoverServer(const TakeoverServer&) = delete;
  TakeoverServer& operator=(const TakeoverServer&) = delete;

  // Binds the path. AlreadyExists where another gate listens there; what
  // bind(2) and the like report, with the path in the text.
  absl::Status Start();

  // Ends a take-over that is not complete, and removes the path, unless it is
  // another one's by now. Harmless when called twice.
  void Stop();

  // After `on_handed_over`: sends `notes` to the successor's program (see
  // Predecessor::ReadNotes; 4 MiB at most, else they are left out), and waits
  // until it says that it needs this process no more, or is gone; `timeout` at
  // most.
  void AwaitSuccessor(absl::Duration timeout, std::string notes = "");

 private:
  class Impl;
  explicit TakeoverServer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace takeover
}  // namespace udpgate

#endif  // UDPGATE_TAKEOVER_TAKEOVER_SERVER_H_
