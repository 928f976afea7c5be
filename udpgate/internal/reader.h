// Reads clients' datagrams from one listen socket and hands each to the shard
// that its client belongs to.
#ifndef UDPGATE_INTERNAL_READER_H_
#define UDPGATE_INTERNAL_READER_H_

#include <sys/socket.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "udpgate/internal/counters.h"
#include "udpgate/internal/datagram_batch.h"
#include "udpgate/internal/gate_context.h"
#include "udpgate/internal/worker.h"

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

  // Reads one batch, if there is one, and hands it over. Returns the time at
  // which it had read. Never waits.
  int64_t ReadBatch() { return ReadBatch(MSG_DONTWAIT); }
  // The same, but waits for a batch, as long as `SetWaitMax` says. In
  // recvmmsg(2) and not in epoll_wait(2): a call fewer for each batch.
  int64_t WaitAndReadBatch() { return ReadBatch(MSG_WAITFORONE); }

  // Takes ICMP errors of clients' hosts from the socket's error queue, and
  // tells the shards. Any thread. If it is not called, the queue takes the
  // room of datagrams.
  //
  // Forged clients cause more errors than can be read, and each one that waits
  // also fails a call that sends a reply (sock_dequeue_err_skb in
  // net/core/skbuff.c of Linux). If more than kErrorsPerSecondMax come within
  // a second, the socket ignores them for the next one.
  static constexpr int kErrorsPerSecondMax = 1000;
  void TakeClientErrors();

  // For calls of WaitAndReadBatch that begin later. It is the socket's, and so
  // of all processes that have it. While it is not set they wait for ever.
  absl::Status SetWaitMax(absl::Duration wait_max);

  int fd() const { return fd_; }
  // What the kernel had dropped at the socket (SO_RXQ_OVFL) when this was last
  // looked at. While nobody reads.
  uint32_t kernel_drops() const { return kernel_drops_; }
  void SetKernelDrops(uint32_t total) { kernel_drops_ = total; }
  const Counters& counters() const { return counters_; }

 private:
  static constexpr int64_t kNotPaused = INT64_MAX;

  Reader(GateContext* context, uint16_t listener, std::vector<Worker*> workers);

  int64_t ReadBatch(int flags);
  void CountErrors(int count);
  // Entry i of the batch as a datagram for its shard. False where it was
  // dropped, and counted.
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
  // Of errors. Two threads at most, while the socket changes hands: a number
  // that is not exact does no harm.
  std::atomic<int64_t> errors_since_nanoseconds_{0};
  std::atomic<int> error_count_{0};
  std::atomic<int64_t> errors_paused_until_nanoseconds_{kNotPaused};
  Counters counters_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_READER_H_
