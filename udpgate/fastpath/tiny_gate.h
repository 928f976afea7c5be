// A minimal gateway for tests of the fast path: one listen socket, a connected
// socket for each client, one backend.
#ifndef UDPGATE_FASTPATH_TINY_GATE_H_
#define UDPGATE_FASTPATH_TINY_GATE_H_

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "udpgate/fastpath/kernel_flow_offload.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace fastpath {

// Threads: one at a time, except the counters. Sockets and thread belong to the
// network namespace of the thread that creates it.
class TinyGate {
 public:
  // `offload` may be nullptr; else it must outlive the gate.
  TinyGate(const SocketAddress& listen, const SocketAddress& backend,
           KernelFlowOffload* offload);
  ~TinyGate();

  const SocketAddress& address() const { return listen_; }
  // Datagrams that passed through the sockets.
  int from_clients() const { return from_clients_; }
  int from_backend() const { return from_backend_; }

  // What the program relayed for the client's session.
  DirectionActivity Activity(const SocketAddress& client,
                             FlowDirection direction) const;
  // Of all sessions together.
  DirectionActivity Total(FlowDirection direction) const;
  // Of all sessions, including removed ones.
  SessionActivity RelayedInAll() const;
  bool IsWithdrawn(const SocketAddress& client) const;
  // Removes and installs the client's session, and waits for the result.
  absl::Status Reinstall(const SocketAddress& client);
  // Removes all flows and installs no more.
  void RemoveFlows();
  // Uses `offload` from now on. Call it between BeginHandOver of the old
  // offload and StartAdopted of the new one. The number of sessions that were
  // not adopted.
  int ContinueWith(KernelFlowOffload* offload);
  // While true, it reads nothing.
  void set_paused(bool paused) { paused_ = paused; }
  // The status of the last Install; waits for it.
  absl::Status install_status() const;

 private:
  struct Session {
    SocketAddress client;
    SocketAddress relay;
    udpgate::internal::UniqueFd upstream;
    bool installed = false;
    uint32_t slot = 0;
  };

  void Run();
  void FromClient();
  void FromBackend(Session* session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Session* FindOrOpen(const SocketAddress& client)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Install(Session* session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remove(Session* session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  SocketAddress listen_;
  const SocketAddress backend_;
  KernelFlowOffload* offload_;
  udpgate::internal::UniqueFd socket_;
  udpgate::internal::UniqueFd epoll_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> paused_{false};
  std::atomic<int> from_clients_{0};
  std::atomic<int> from_backend_{0};
  mutable udpgate::internal::Mutex mutex_;
  std::map<std::string, std::unique_ptr<Session>> sessions_
      ABSL_GUARDED_BY(mutex_);  // by the client's text
  static constexpr uint32_t kNone = UINT32_MAX;
  uint32_t installed_last_ ABSL_GUARDED_BY(mutex_) = kNone;
  SessionActivity removed_ ABSL_GUARDED_BY(mutex_);
  bool is_full_ ABSL_GUARDED_BY(mutex_) = false;
  bool may_install_ ABSL_GUARDED_BY(mutex_) = true;
  std::thread thread_;
};

}  // namespace fastpath
}  // namespace udpgate

#endif  // UDPGATE_FASTPATH_TINY_GATE_H_
