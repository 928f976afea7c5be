// Reads clients' datagrams from one listen socket and hands each to the shard
// that its client belongs to.
#ifndef UDPGATE_INTERNAL_READER_H_
#define UDPGATE_INTERNAL_READER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "udpgate/internal/counters.h"
#include "udpgate/internal/datagram_batch.h"
#include "udpgate/internal/gate_context.h"
#include "udpgate/internal/unique_fd.h"
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
  ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // Reads one batch, if there is one, and hands it over. Never waits. For a
  // worker that reads a listen socket itself; see Worker::AddReader.
  void ReadBatch();

  // Waits for datagrams and reads them until Stop. Only where the gate has a
  // worker pool (`worker_count` above 0).
  void Run();
  // Makes Run return soon.
  void Stop();

  int fd() const { return fd_; }
  const Counters& counters() const { return counters_; }

 private:
  Reader(GateContext* context, uint16_t listener, std::vector<Worker*> workers,
         int stop_fd);

  // Entry i of the batch as a datagram for its shard. False where it was
  // dropped, and counted.
  bool Accept(int i, ClientDatagram* datagram);
  void CountKernelDrops(uint32_t total);

  GateContext* const context_;
  const uint16_t listener_;
  const int fd_;
  const bool is_wildcard_;
  const std::vector<Worker*> workers_;
  UniqueFd epoll_fd_;  // where it has a thread of its own
  const int stop_fd_;
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
