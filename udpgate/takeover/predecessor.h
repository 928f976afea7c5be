// The running gate that this process takes over from.
//
//   auto predecessor = udpgate::takeover::Predecessor::Connect({path});
//   if (!predecessor.ok()) return predecessor.status();
//   (*predecessor)->FillIn(&options);          // its sockets
//   auto proxy = udpgate::Proxy::Create(options, dependencies);
//   if (!proxy.ok()) return proxy.status();    // the other one goes on
//   if (absl::Status status = (*predecessor)->TakeOver(proxy->get());
//       !status.ok()) {
//     return status;                           // likewise
//   }
//   // Serves, instead of Proxy::Start.
//   (*predecessor)->Release();                 // the other process ends
//
// The other side is takeover_server.h.
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
#include "udpgate/proxy.h"
#include "udpgate/proxy_options.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace takeover {

struct PredecessorOptions {
  // Where its TakeoverServer listens.
  std::string socket_path;
  // How long it may take for a step. 10 ms to 1 minute.
  absl::Duration step_timeout = absl::Seconds(10);
  // How long to wait until the disconnect source works; without it the
  // take-over goes on, and a disconnect that comes right then may be lost.
  // 0 to 1 minute.
  absl::Duration disconnects_timeout = absl::Seconds(2);
  // Asked before the other gate lets go: whether this one does not want to take
  // over any more, since it is to end itself. May be null.
  std::function<bool()> is_cancelled = nullptr;

  // InvalidArgument names the field.
  absl::Status Validate() const;
};

// What was taken over.
struct TakenOver {
  int64_t session_count = 0;
  // Of these, those that came only when all traffic stood still already: each
  // costs the others more time than one that could be made ready before.
  int64_t late_count = 0;
  // From the stop of all traffic there to its start here, where both processes
  // have the same clock.
  absl::Duration pause;
};

// Threads: one, which must be none of the Proxy's.
class Predecessor {
 public:
  // Gets its listen sockets; it goes on to serve. What connect(2) reports, with
  // the path in the text; PermissionDenied where it is another user's;
  // Unimplemented where it speaks another version of the messages.
  static absl::StatusOr<std::unique_ptr<Predecessor>> Connect(
      PredecessorOptions options);
  // Closes the connection: before TakeOver has succeeded, the other gate goes
  // on as if nothing had been.
  ~Predecessor();
  Predecessor(const Predecessor&) = delete;
  Predecessor& operator=(const Predecessor&) = delete;

  // Where it listens.
  const SocketAddress& listen_address() const;

  // Sets `listen_fds`, `listener_count`, `listen_address` and
  // `client_hash_seed`. Once.
  void FillIn(ProxyOptions* options);

  // A further socket of its TakeoverServer's `extra_sockets`, the caller's from
  // now on; -1 where there is none of that name.
  int TakeSocket(const std::string& name);

  // What its flow offload gives for another one to go on with the flows, the
  // caller's from now on; see KernelFlowOffload::Options::adopted. Empty where
  // there is nothing, or it was taken.
  std::map<std::string, int> TakeFlowDescriptors();

  // Takes the sessions and starts `proxy`, which was created with what FillIn
  // set. Where it fails, stop or destroy `proxy`; the other gate goes on.
  // Cancelled where `is_cancelled` says so.
  absl::StatusOr<TakenOver> TakeOver(Proxy* proxy);

  // What the other program says when it serves no more: the `notes` of its
  // TakeoverServer::AwaitSuccessor. After TakeOver, before Release. Empty where
  // it says nothing. DeadlineExceeded where it is not there in time.
  absl::StatusOr<std::string> ReadNotes(absl::Duration timeout);

  // The other process may end, and its sockets that nobody took are closed.
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
