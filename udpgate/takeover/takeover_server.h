// The old process of a takeover: hands its sockets and sessions to a new
// process, so that an upgrade does not interrupt clients.
//
//   udpgate::takeover::TakeoverServerOptions options;
//   options.socket_path = "/run/my-gate/takeover.sock";
//   auto server = udpgate::takeover::TakeoverServer::Create(
//       options, proxy.get(), [] { /* tell the main thread to exit */ });
//   if (!server.ok()) return server.status();
//   if (absl::Status status = (*server)->Start(); !status.ok()) return status;
//
// The new process uses predecessor.h; README.md describes the protocol.
#ifndef UDPGATE_TAKEOVER_TAKEOVER_SERVER_H_
#define UDPGATE_TAKEOVER_TAKEOVER_SERVER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/logging.h"
#include "udpgate/proxy.h"

namespace udpgate {
namespace takeover {

struct UDPGATE_EXPORT TakeoverServerOptions {
  // A Unix socket with mode 0600. One on which no process listens any more is
  // replaced.
  std::string socket_path;
  // The path of the process that this one has taken over from, or empty: if it
  // is the same file, it is replaced too.
  std::string predecessor_path;

  // Further listening sockets for the new process, by names that it knows. Not
  // owned; they must be open until the server stops.
  std::map<std::string, int> extra_sockets;

  // What the host program tells the new process before the sessions arrive,
  // at most 256 MiB; may be null. Called on the server's thread: once while
  // this process serves, and again in the pause (`is_late`), for what has
  // changed since then, which must be short and fast. A takeover that fails may
  // be followed by another one, which calls it anew.
  std::function<std::string(bool is_late)> host_state = nullptr;

  // Limits: of each step while this process serves, and of the whole pause. 10
  // ms to 1 minute.
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
class UDPGATE_EXPORT TakeoverServer {
 public:
  // `on_handed_over` is called once, from the server's thread, when the new
  // process has taken over and the Proxy has stopped; it must not block.
  static absl::StatusOr<std::unique_ptr<TakeoverServer>> Create(
      TakeoverServerOptions options, Proxy* proxy,
      std::function<void()> on_handed_over);
  // Stops.
  ~TakeoverServer();
  TakeoverServer(const TakeoverServer&) = delete;
  TakeoverServer& operator=(const TakeoverServer&) = delete;

  // Binds the path. AlreadyExists if another process listens there; else what
  // bind(2) and the like report, with the path in the text.
  absl::Status Start();

  // Cancels a takeover that is not complete, and removes the path unless it
  // belongs to another process by now. A second call is harmless.
  void Stop();

  // After `on_handed_over`: sends `notes` to the new process (see
  // Predecessor::ReadNotes; more than 4 MiB are left out), and waits until it
  // no longer needs this process or has exited, for `timeout` at most.
  void AwaitSuccessor(absl::Duration timeout, std::string notes = "");

 private:
  class Impl;
  explicit TakeoverServer(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace takeover
}  // namespace udpgate

#endif  // UDPGATE_TAKEOVER_TAKEOVER_SERVER_H_
