// Replies of several sessions on their way to one listening socket.
#ifndef UDPGATE_INTERNAL_SHARD_REPLY_BATCH_H_
#define UDPGATE_INTERNAL_SHARD_REPLY_BATCH_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "udpgate/internal/net/datagram_batch.h"
#include "udpgate/internal/net/send_share.h"
#include "udpgate/internal/net/sys_calls.h"
#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/shard/hop_sender.h"
#include "udpgate/internal/shard/shard_context.h"

namespace udpgate {
namespace internal {

// Replies are read into the batch, added to what is to be sent, and sent with
// few system calls by `Flush`. It keeps pointers to the sessions of the replies
// that were added: `Flush` must be called before one of them ends.
//
// All memory is allocated by the constructor. Threads: the owner of the shard
// only.
class ReplyBatch {
 public:
  // Both must outlive it.
  ReplyBatch(ShardContext* shard, HopSender* hop_sender);
  ReplyBatch(const ReplyBatch&) = delete;
  ReplyBatch& operator=(const ReplyBatch&) = delete;

  // See ReceiveBatch.
  absl::Status CheckMemory() const { return received_.CheckMemory(); }

  // Before replies of a session are read: flushes if the batch is full or has
  // replies for another listener than `listener`.
  void Prepare(uint16_t listener);
  // How many more replies may be received.
  int room() const { return received_.capacity() - received_count_; }
  // Reads at most `count_max` replies from the upstream socket `fd`. See
  // ReceiveBatch::Receive.
  SysCallResult Receive(int fd, int count_max, bool reads_control);

  // Of the replies received since the last flush, by index. The last ones are
  // those of the last Receive.
  int received_count() const { return received_count_; }
  absl::Span<const char> payload(int i) const { return received_.payload(i); }
  bool is_truncated(int i) const { return received_.is_truncated(i); }
  ReceiveBatch::Control control(int i) const { return received_.control(i); }

  // Sends reply `i` to the client of `session` with the next flush, or to the
  // gateway that the client sends by, or drops and counts it.
  void Add(int i, const ReceiveBatch::Control& control, Session* session);

  // Sends what was added, and counts what cannot be sent as dropped.
  void Flush();

 private:
  void NoteSent(int begin, int count);

  ShardContext* const shard_;
  HopSender* const hop_sender_;
  ReceiveBatch received_;
  int received_count_ = 0;
  SendBatch sends_;
  // Of each datagram in `sends_`: its session, and, with a flow offload, when
  // the kernel received it.
  std::vector<Session*> sessions_;
  std::vector<int64_t> times_nanoseconds_;
  uint16_t listener_ = 0;
  std::vector<SendShare> send_shares_;  // by listener
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_REPLY_BATCH_H_
