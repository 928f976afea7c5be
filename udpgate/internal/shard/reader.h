// Reads clients' datagrams from one listening socket and hands each to the
// shard that its client belongs to.
#ifndef UDPGATE_INTERNAL_SHARD_READER_H_
#define UDPGATE_INTERNAL_SHARD_READER_H_

#include <sys/socket.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "udpgate/internal/net/datagram_batch.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/internal/shard/worker.h"
#include "udpgate/internal/util/counters.h"

namespace udpgate {
namespace internal {

// Threads: `ReadBatch` and `WaitAndReadBatch` by one thread at a time, the one
// that reads the socket; the rest from any.
class Reader {
 public:
  // Reads `context->listeners[listener]`. The context and the workers must
  // outlive the reader.
  static absl::StatusOr<std::unique_ptr<Reader>> Create(
      GateContext* context, uint16_t listener, std::vector<Worker*> workers);
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // Reads one batch, if there is one, and delivers it. Returns the time after
  // the read. Never waits.
  int64_t ReadBatch() { return ReadBatch(MSG_DONTWAIT); }
  // The same, but waits for a batch, as long as set by `SetWaitMax`. It waits
  // in recvmmsg(2): with epoll_wait(2) each batch would need one more call.
  int64_t WaitAndReadBatch() { return ReadBatch(MSG_WAITFORONE); }

  // Takes ICMP errors of clients' hosts from the socket's error queue, and
  // posts them to the shards. Any thread. If it is not called, the queue fills
  // the receive buffer.
  //
  // Forged clients can cause more errors than can be read, and each queued one
  // also makes a send of a reply fail (sock_dequeue_err_skb in
  // net/core/skbuff.c of Linux). If more than kErrorsPerSecondMax come within
  // a second, the socket ignores them for the next one.
  static constexpr int kErrorsPerSecondMax = 1000;
  void TakeClientErrors();

  // For later calls of WaitAndReadBatch. It is an option of the socket, and so
  // shared with all processes that have it. Not set: no limit.
  absl::Status SetWaitMax(absl::Duration wait_max);

  int fd() const { return fd_; }
  // The kernel's count of drops at the socket (SO_RXQ_OVFL) as last read. Only
  // while no thread reads.
  uint32_t kernel_drops() const { return kernel_drops_; }
  void SetKernelDrops(uint32_t total) { kernel_drops_ = total; }
  const Counters& counters() const { return counters_; }

 private:
  static constexpr int64_t kNotPaused = INT64_MAX;

  Reader(GateContext* context, uint16_t listener, std::vector<Worker*> workers);

  int64_t ReadBatch(int flags);
  void CountErrors(int count);
  // Entry i of the batch as a datagram for its shard. False if it was dropped
  // and counted.
  bool Accept(int i, ClientDatagram* datagram);
  void CountKernelDrops(uint32_t total);

  GateContext* const context_;
  const uint16_t listener_;
  const int fd_;
  const bool is_wildcard_;
  const std::vector<Worker*> workers_;
  ReceiveBatch batch_;
  // For each worker, its part of the batch, in order of arrival.
  std::vector<std::vector<ClientDatagram>> parts_;
  uint32_t kernel_drops_;  // as last reported
  // Counts errors. Two threads may use it while the socket is passed on; the
  // number need not be exact.
  std::atomic<int64_t> errors_since_nanoseconds_{0};
  std::atomic<int> error_count_{0};
  std::atomic<int64_t> errors_paused_until_nanoseconds_{kNotPaused};
  Counters counters_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_READER_H_
