// Reads clients' datagrams from one listen socket and hands each to the shard
// that its client belongs to.
#ifndef UDPGATE_INTERNAL_READER_H_
#define UDPGATE_INTERNAL_READER_H_

#include <sys/socket.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "udpgate/internal/counters.h"
#include "udpgate/internal/datagram_batch.h"
#include "udpgate/internal/gate_context.h"
#include "udpgate/internal/worker.h"

namespace udpgate {
namespace internal {

// Threads: `ReadBatch` and `Run` by one thread at a time, the one that reads
// the socket; the rest from any.
class Reader {
 public:
  // Reads `context->listeners[listener]`. The context and the workers must
  // outlive the reader.
  static absl::StatusOr<std::unique_ptr<Reader>> Create(
      GateContext* context, uint16_t listener, std::vector<Worker*> workers);
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // Reads one batch, if there is one, and hands it over. Never waits. For a
  // worker that reads a listen socket itself; see Worker::AddReader.
  void ReadBatch() { ReadBatch(MSG_DONTWAIT); }

  // Waits for datagrams and reads them until Stop. Only where the gate has a
  // worker pool (`worker_count` above 0).
  void Run();
  // Makes Run return within a tenth of a second.
  void Stop() { is_stopping_.store(true, std::memory_order_relaxed); }

  int fd() const { return fd_; }
  const Counters& counters() const { return counters_; }

 private:
  Reader(GateContext* context, uint16_t listener, std::vector<Worker*> workers);

  void ReadBatch(int flags);
  // Entry i of the batch as a datagram for its shard. False where it was
  // dropped, and counted.
  bool Accept(int i, ClientDatagram* datagram);
  void CountKernelDrops(uint32_t total);

  GateContext* const context_;
  const uint16_t listener_;
  const int fd_;
  const bool is_wildcard_;
  const std::vector<Worker*> workers_;
  std::atomic<bool> is_stopping_{false};
  ReceiveBatch batch_;
  // For each worker, its part of the batch, in order of arrival.
  std::vector<std::vector<ClientDatagram>> parts_;
  uint32_t kernel_drops_;  // as last reported
  Counters counters_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_READER_H_
