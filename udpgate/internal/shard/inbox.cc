#include "udpgate/internal/shard/inbox.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace internal {
namespace {

// Games send small datagrams: room for so many bytes each is enough.
constexpr size_t kBytesPerDatagram = 2048;

}  // namespace

bool ConcernsPending(const ShardMessage& disconnect,
                     const SocketAddress& client) {
  switch (disconnect.kind) {
    case ShardMessage::Kind::kDisconnectClient:
      return disconnect.client == client;
    case ShardMessage::Kind::kEndClientIp:
      return disconnect.address == client.WithPort(0);
    case ShardMessage::Kind::kEndBackend:
    case ShardMessage::Kind::kEndBackendText:
      return true;
    default:
      return false;
  }
}

absl::StatusOr<std::shared_ptr<Inbox>> Inbox::Create(SysCalls* sys_calls,
                                                     const Options& options) {
  const SysCallResult doorbell = sys_calls->EventFd();
  if (!doorbell.ok()) return ErrnoToStatus(doorbell.error, "eventfd");
  std::shared_ptr<Inbox> inbox(new Inbox(sys_calls, doorbell.value, options));
  if (inbox->ring_ == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for a queue of ", options.datagrams_max,
                     " datagrams, ", inbox->ring_bytes_, " bytes"));
  }
  return inbox;
}

Inbox::Inbox(SysCalls* sys_calls, int doorbell_fd, const Options& options)
    : sys_calls_(sys_calls),
      doorbell_fd_(doorbell_fd),
      options_(options),
      ring_bytes_(std::max(options.datagrams_max * kBytesPerDatagram,
                           kDatagramBufferBytes) +
                  static_cast<size_t>(options.datagrams_max) * sizeof(Record) +
                  sizeof(Record)),
      // Without an initializer, so that the system maps pages only when used.
      ring_(new (std::nothrow) char[ring_bytes_]) {}

Inbox::~Inbox() { sys_calls_->Close(doorbell_fd_); }

int Inbox::Push(absl::Span<const ClientDatagram> datagrams) {
  int pushed = 0;
  {
    MutexLock lock(&mutex_);
    for (const ClientDatagram& datagram : datagrams) {
      if (!PushOne(datagram)) break;
      ++pushed;
    }
  }
  if (pushed > 0) Ring();
  return pushed;
}

bool Inbox::PushOne(const ClientDatagram& datagram) {
  if (datagrams_waiting_.load(std::memory_order_relaxed) >=
      options_.datagrams_max) {
    return false;
  }
  if (head_ == tail_) head_ = tail_ = 0;  // the largest always fits when empty
  constexpr size_t kAlignment = alignof(Record);
  const size_t stride_bytes =
      (sizeof(Record) + datagram.payload.size() + kAlignment - 1) / kAlignment *
      kAlignment;
  const size_t offset = tail_ % ring_bytes_;
  const size_t bytes_to_end = ring_bytes_ - offset;
  const bool wraps = stride_bytes > bytes_to_end;
  const size_t needed_bytes = stride_bytes + (wraps ? bytes_to_end : 0);
  if (tail_ - head_ + needed_bytes > ring_bytes_) return false;
  if (wraps) {
    // If not even a Record fits, the reader needs no mark.
    if (bytes_to_end >= sizeof(Record)) {
      new (ring_.get() + offset) Record{{}, bytes_to_end, /*is_wrap=*/true};
    }
    tail_ += bytes_to_end;
  }
  char* const place = ring_.get() + tail_ % ring_bytes_;
  auto* record = new (place) Record{datagram, stride_bytes, /*is_wrap=*/false};
  char* const payload = place + sizeof(Record);
  if (!datagram.payload.empty()) {
    std::memcpy(payload, datagram.payload.data(), datagram.payload.size());
  }
  record->datagram.payload =
      absl::MakeConstSpan(payload, datagram.payload.size());
  tail_ += stride_bytes;
  datagrams_waiting_.fetch_add(1, std::memory_order_seq_cst);
  return true;
}

void Inbox::Peek(int count_max, std::vector<ClientDatagram>* datagrams) {
  datagrams->clear();
  MutexLock lock(&mutex_);
  uint64_t position = head_;
  while (position != tail_ && static_cast<int>(datagrams->size()) < count_max) {
    const size_t offset = position % ring_bytes_;
    const size_t bytes_to_end = ring_bytes_ - offset;
    const auto* record = reinterpret_cast<const Record*>(ring_.get() + offset);
    if (bytes_to_end < sizeof(Record) || record->is_wrap) {
      position += bytes_to_end;
      continue;
    }
    datagrams->push_back(record->datagram);
    position += record->stride_bytes;
  }
}

void Inbox::Pop(int count) {
  MutexLock lock(&mutex_);
  for (int left = count; left > 0;) {
    const size_t offset = head_ % ring_bytes_;
    const size_t bytes_to_end = ring_bytes_ - offset;
    const auto* record = reinterpret_cast<const Record*>(ring_.get() + offset);
    if (bytes_to_end < sizeof(Record) || record->is_wrap) {
      head_ += bytes_to_end;
      continue;
    }
    head_ += record->stride_bytes;
    --left;
  }
  datagrams_waiting_.fetch_sub(count, std::memory_order_seq_cst);
}

void Inbox::Post(ShardMessage message) {
  {
    MutexLock lock(&mutex_);
    if (is_closed_) return;
    messages_.push_back(std::move(message));
    message_count_.fetch_add(1, std::memory_order_seq_cst);
  }
  Ring();
}

bool Inbox::PostDisconnect(ShardMessage message) {
  {
    MutexLock lock(&mutex_);
    while (!is_closed_ && disconnect_count_ >= options_.disconnects_max) {
      disconnects_taken_.Wait(&mutex_);
    }
    if (is_closed_) return false;
    ++disconnect_count_;
    PostDisconnectLocked(std::move(message));
  }
  // Read after the message is counted: PrepareSleep resets the flag before it
  // reads the count.
  if (!disconnects_can_wait_.load(std::memory_order_seq_cst)) Ring();
  return true;
}

void Inbox::PostAgain(ShardMessage message) {
  MutexLock lock(&mutex_);
  if (!is_closed_) PostDisconnectLocked(std::move(message));
}

void Inbox::PostDisconnectLocked(ShardMessage message) {
  disconnects_.push_back(std::move(message));
  waiting_disconnect_count_.fetch_add(1, std::memory_order_seq_cst);
}

void Inbox::EndDisconnect() {
  MutexLock lock(&mutex_);
  --disconnect_count_;
  disconnects_taken_.SignalAll();
}

void Inbox::Close() {
  // Destroyed without the lock: the destructor of a message may do anything.
  std::deque<ShardMessage> dropped;
  std::deque<ShardMessage> dropped_disconnects;
  MutexLock lock(&mutex_);
  is_closed_ = true;
  dropped.swap(messages_);
  dropped_disconnects.swap(disconnects_);
  message_count_.store(0, std::memory_order_seq_cst);
  waiting_disconnect_count_.store(0, std::memory_order_seq_cst);
  disconnects_taken_.SignalAll();
}

void Inbox::TakeMessages(int count_max, std::vector<ShardMessage>* messages) {
  messages->clear();
  if (!HasMessages()) return;
  MutexLock lock(&mutex_);
  for (int i = 0; i < count_max && !messages_.empty(); ++i) {
    messages->push_back(std::move(messages_.front()));
    messages_.pop_front();
  }
  message_count_.store(static_cast<int64_t>(messages_.size()),
                       std::memory_order_seq_cst);
}

void Inbox::TakeDisconnects(int count_max,
                            std::vector<ShardMessage>* messages) {
  messages->clear();
  if (!HasDisconnects()) return;
  MutexLock lock(&mutex_);
  for (int i = 0; i < count_max && !disconnects_.empty(); ++i) {
    const ShardMessage::Kind kind = disconnects_.front().kind;
    if (kind == ShardMessage::Kind::kDisconnectClient ||
        kind == ShardMessage::Kind::kEndSession) {
      --disconnect_count_;
    }
    messages->push_back(std::move(disconnects_.front()));
    disconnects_.pop_front();
  }
  waiting_disconnect_count_.store(static_cast<int64_t>(disconnects_.size()),
                                  std::memory_order_seq_cst);
  disconnects_taken_.SignalAll();
}

bool Inbox::HasDisconnectSince(int64_t since_nanoseconds,
                               const SocketAddress& client) {
  if (!HasDisconnects()) return false;
  MutexLock lock(&mutex_);
  return std::any_of(disconnects_.begin(), disconnects_.end(),
                     [&](const ShardMessage& disconnect) {
                       return disconnect.came_nanoseconds >=
                                  since_nanoseconds &&
                              ConcernsPending(disconnect, client);
                     });
}

void Inbox::Ring() {
  // The exchange limits it to one ring for one sleep.
  if (is_owner_asleep_.exchange(false, std::memory_order_seq_cst)) {
    sys_calls_->EventFdAdd(doorbell_fd_);
  }
}

bool Inbox::PrepareSleep(int64_t until_nanoseconds, bool disconnects_can_wait) {
  disconnects_can_wait_.store(disconnects_can_wait, std::memory_order_seq_cst);
  asleep_until_nanoseconds_.store(until_nanoseconds, std::memory_order_seq_cst);
  is_owner_asleep_.store(true, std::memory_order_seq_cst);
  // Checked after the store: a post before it is seen here, and a post after it
  // sees the owner asleep and rings.
  if (datagrams_waiting() > 0 || HasMessages() ||
      (!disconnects_can_wait && HasDisconnects())) {
    EndSleep();
    return false;
  }
  return true;
}

void Inbox::NoteDeadline(int64_t deadline_nanoseconds) {
  if (deadline_nanoseconds <
      asleep_until_nanoseconds_.load(std::memory_order_seq_cst)) {
    Ring();
  }
}

}  // namespace internal
}  // namespace udpgate
