// The new process of a takeover: takes sockets and sessions from the gateway
// that runs.
//
//   auto predecessor = udpgate::takeover::Predecessor::Connect({path});
//   if (!predecessor.ok()) return predecessor.status();
//   (*predecessor)->FillIn(&options);          // its listen sockets
//   auto proxy = udpgate::Proxy::Create(options, dependencies);
//   if (!proxy.ok()) return proxy.status();    // the old process goes on
//   if (absl::Status status = (*predecessor)->TakeOver(proxy->get());
//       !status.ok()) {
//     return status;                           // likewise
//   }
//   // Serves, instead of Proxy::Start.
//   (*predecessor)->Release();                 // the old process may exit
//
// The old process uses takeover_server.h.
#ifndef UDPGATE_TAKEOVER_PREDECESSOR_H_
#define UDPGATE_TAKEOVER_PREDECESSOR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "udpgate/base/export.h"
#include "udpgate/proxy.h"
#include "udpgate/proxy_options.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace takeover {

struct UDPGATE_EXPORT PredecessorOptions {
  // Path of the old process's TakeoverServer.
  std::string socket_path;
  // Limit of each step. 10 ms to 1 minute.
  absl::Duration step_timeout = absl::Seconds(10);
  // How long to wait for the disconnect source to be ready. After that the
  // takeover goes on without it, and a disconnect event at that moment may be
  // lost. 0 to 1 minute.
  absl::Duration disconnects_timeout = absl::Seconds(2);
  // Called before the pause and before its end: true cancels the takeover, for
  // example because this process shuts down. May be null.
  std::function<bool()> is_cancelled = nullptr;

  // InvalidArgument names the field.
  absl::Status Validate() const;
};

// What was taken over.
struct UDPGATE_EXPORT TakenOver {
  int64_t session_count = 0;
  // Those of them that were created too late to be prepared before the pause.
  // Each lengthens the pause more than one that was prepared.
  int64_t late_count = 0;
  // From the stop of forwarding in the old process to its start in this one, by
  // the monotonic clock, which both share.
  absl::Duration pause;
};

// Threads: one at a time, not a thread of the Proxy.
class UDPGATE_EXPORT Predecessor {
 public:
  // Connects and receives the listen sockets; the old process continues to
  // serve. Errors: what connect(2) reports, with the path in the text;
  // PermissionDenied if the old process belongs to another user; Unimplemented
  // if it uses another version of the messages.
  static absl::StatusOr<std::unique_ptr<Predecessor>> Connect(
      PredecessorOptions options);
  // Closes the connection. If TakeOver has not succeeded, the old process
  // continues to serve unchanged.
  ~Predecessor();
  Predecessor(const Predecessor&) = delete;
  Predecessor& operator=(const Predecessor&) = delete;

  // The address of the listen sockets.
  const SocketAddress& listen_address() const;

  // Sets `listen_fds`, `listener_count`, `listen_address` and
  // `client_hash_seed`. Once.
  void FillIn(ProxyOptions* options);

  // One of the old process's `extra_sockets`, which the caller owns from now
  // on; -1 if there is none of that name.
  int TakeSocket(const std::string& name);

  // The descriptors of the old process's flow offload, with which another
  // offload can continue its flows; the caller owns them from now on. See
  // KernelFlowOffload::Options::adopted. Empty if there are none, or if they
  // were taken before.
  std::map<std::string, int> TakeFlowDescriptors();

  // What the old process's TakeoverServerOptions::host_state has given.
  using OnHostState = std::function<void(std::string state, bool is_late)>;

  // Takes the sessions and starts `proxy`, which was created with what FillIn
  // set. On failure stop or destroy `proxy`; the old process continues to
  // serve. Cancelled if `is_cancelled` returned true. `on_host_state`, which
  // may be null, is called before the sessions are prepared, and again in the
  // pause with what is late; not if the old process gives none.
  absl::StatusOr<TakenOver> TakeOver(Proxy* proxy,
                                     OnHostState on_host_state = nullptr);

  // The `notes` of the old process's TakeoverServer::AwaitSuccessor. After
  // TakeOver, before Release. Empty if it sends none. DeadlineExceeded if they
  // are not complete in time.
  absl::StatusOr<std::string> ReadNotes(absl::Duration timeout);

  // Lets the old process exit, and closes the sockets that were not taken.
  // After TakeOver.
  void Release();

 private:
  class Impl;
  explicit Predecessor(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace takeover
}  // namespace udpgate

#endif  // UDPGATE_TAKEOVER_PREDECESSOR_H_
