// Receives what other gateways send, and hands it to the shards.
#ifndef UDPGATE_INTERNAL_SHARD_HOP_READER_H_
#define UDPGATE_INTERNAL_SHARD_HOP_READER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "udpgate/forward/internal/envelope_opener.h"
#include "udpgate/internal/net/datagram_batch.h"
#include "udpgate/internal/shard/gate_context.h"
#include "udpgate/internal/shard/worker.h"
#include "udpgate/internal/util/counters.h"
#include "udpgate/internal/util/unique_fd.h"
#include "udpgate/logging.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// As a Reader, for the socket of `GateContext::hop`: what one gateway sends
// stays in order.
//
// Threads: ReadBatch and Run by one; Stop and the counters by anyone.
class HopReader {
 public:
  // The context and the workers must outlive it.
  static absl::StatusOr<std::unique_ptr<HopReader>> Create(
      GateContext* context, std::vector<Worker*> workers);
  HopReader(const HopReader&) = delete;
  HopReader& operator=(const HopReader&) = delete;

  // Reads what has arrived, a batch at most, without waiting. Returns how many
  // datagrams that were.
  int ReadBatch();

  // Reads until Stop. In a takeover it opens the socket first, as soon as the
  // old process has closed its own.
  void Run();
  // Makes Run return, now or later.
  void Stop();
  // Undoes Stop, before Run is called again.
  void ClearStop();

  const Counters& counters() const { return counters_; }

 private:
  HopReader(GateContext* context, std::vector<Worker*> workers);

  absl::Status Watch(int fd);
  bool AwaitSocket();
  void Accept(int i);
  bool Open(int i, ClientDatagram* datagram);
  void Reject(forward::internal::EnvelopeOpener::Verdict verdict,
              const SocketAddress& source);
  // The socket cannot be opened, or not yet.
  void ReportClosed(const absl::Status& status);
  void Report(LogRateLimiter* limiter, const SocketAddress& source,
              absl::string_view problem);

  GateContext* const context_;
  const std::vector<Worker*> workers_;
  forward::internal::EnvelopeOpener opener_;
  ReceiveBatch batch_;
  std::vector<std::vector<ClientDatagram>> parts_;  // by worker
  LogRateLimiter wrong_seal_log_;
  LogRateLimiter wrong_time_log_;
  LogRateLimiter closed_log_;
  int failed_attempts_ = 0;
  UniqueFd epoll_fd_;
  UniqueFd stop_fd_;
  bool is_watched_ = false;
  std::atomic<bool> is_stopping_{false};
  int64_t unix_seconds_ = 0;
  Counters counters_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_HOP_READER_H_
