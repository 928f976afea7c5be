#include "udpgate/internal/shard/reader.h"

#include <sys/time.h>

#include <utility>

#include "absl/status/status.h"
#include "udpgate/internal/net/error_queue.h"
#include "udpgate/internal/net/sys_calls.h"

namespace udpgate {
namespace internal {
absl::StatusOr<std::unique_ptr<Reader>> Reader::Create(
    GateContext* context, uint16_t listener, std::vector<Worker*> workers) {
  std::unique_ptr<Reader> reader(
      new Reader(context, listener, std::move(workers)));
  if (absl::Status status = reader->batch_.CheckMemory(); !status.ok()) {
    return status;
  }
  return reader;
}

absl::Status Reader::SetWaitMax(absl::Duration wait_max) {
  const timeval value = absl::ToTimeval(wait_max);
  const SysCallResult result = context_->sys_calls->SetSockOpt(
      fd_, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof(value));
  if (result.ok()) return absl::OkStatus();
  return ErrnoToStatus(result.error, "setsockopt SO_RCVTIMEO");
}

Reader::Reader(GateContext* context, uint16_t listener,
               std::vector<Worker*> workers)
    : context_(context),
      listener_(listener),
      fd_(context->listeners[listener].fd.get()),
      is_wildcard_(context->listeners[listener].address.is_any()),
      workers_(std::move(workers)),
      batch_(context->options.batch_size,
             ReceiveBatch::Extent::kControlAndSource),
      parts_(workers_.size()),
      kernel_drops_(context->listeners[listener].kernel_drops) {
  for (std::vector<ClientDatagram>& part : parts_) {
    part.reserve(context->options.batch_size);
  }
}

int64_t Reader::ReadBatch(int flags) {
  const SysCallResult received =
      batch_.Receive(context_->sys_calls, fd_, 0, batch_.capacity(), flags);
  const int64_t now_nanoseconds = context_->clock->NowNanoseconds();
  if (IsUnreachable(received.error) ||
      context_->has_listen_errors[listener_].load(std::memory_order_relaxed)) {
    TakeClientErrors();
  }
  if (now_nanoseconds >=
      errors_paused_until_nanoseconds_.load(std::memory_order_relaxed)) {
    errors_paused_until_nanoseconds_.store(kNotPaused,
                                           std::memory_order_relaxed);
    EnableErrorQueue(context_->sys_calls, fd_,
                     context_->listeners[listener_].family);
  }
  // EAGAIN, or a temporary error (ENOMEM, ENOBUFS): the datagrams stay in the
  // kernel, and the next iteration reads them.
  if (!received.ok()) return now_nanoseconds;
  for (int i = 0; i < received.value; ++i) {
    ClientDatagram datagram;
    if (!Accept(i, &datagram)) continue;
    parts_[datagram.hash % parts_.size()].push_back(datagram);
  }
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (parts_[i].empty()) continue;
    const size_t refused = workers_[i]->Deliver(parts_[i], now_nanoseconds);
    counters_.Drop(DropReason::kQueueFull, refused);
    parts_[i].clear();
  }
  return now_nanoseconds;
}

void Reader::TakeClientErrors() {
  // Few at a time: anyone can forge them, and they are queued before results.
  constexpr int kUnderWayMax = 4;
  context_->has_listen_errors[listener_].store(false,
                                               std::memory_order_relaxed);
  const auto visit = [&](int error, SocketAddress client) {
    if (!IsUnreachable(error) || !client.is_valid()) return;
    context_->client_refusals.fetch_add(1, std::memory_order_relaxed);
    if (context_->client_refusals_under_way.fetch_add(
            1, std::memory_order_relaxed) >= kUnderWayMax) {
      context_->client_refusals_under_way.fetch_sub(1,
                                                    std::memory_order_relaxed);
      return;
    }
    ShardMessage message;
    message.kind = ShardMessage::Kind::kClientRefused;
    message.client = client;
    const size_t shard = context_->hash(client) % context_->inboxes.size();
    context_->inboxes[shard]->Post(std::move(message));
  };
  const int count = TakeErrors(context_->sys_calls, fd_, visit);
  if (count > 0) CountErrors(count);
}

void Reader::CountErrors(int count) {
  constexpr int64_t kSecondNanoseconds = 1'000'000'000;
  const int64_t now_nanoseconds = context_->clock->NowNanoseconds();
  if (now_nanoseconds -
          errors_since_nanoseconds_.load(std::memory_order_relaxed) >=
      kSecondNanoseconds) {
    errors_since_nanoseconds_.store(now_nanoseconds, std::memory_order_relaxed);
    error_count_.store(0, std::memory_order_relaxed);
  }
  if (error_count_.fetch_add(count, std::memory_order_relaxed) + count <=
      kErrorsPerSecondMax) {
    return;
  }
  DisableErrorQueue(context_->sys_calls, fd_,
                    context_->listeners[listener_].family);
  error_count_.store(0, std::memory_order_relaxed);
  errors_paused_until_nanoseconds_.store(now_nanoseconds + kSecondNanoseconds,
                                         std::memory_order_relaxed);
  context_->client_error_pauses.fetch_add(1, std::memory_order_relaxed);
}

bool Reader::Accept(int i, ClientDatagram* datagram) {
  datagram->payload = batch_.payload(i);
  counters_.client_datagrams_received.Add();
  counters_.client_bytes_received.Add(datagram->payload.size());
  const ReceiveBatch::Control control = batch_.control(i);
  if (control.kernel_drops.has_value()) CountKernelDrops(*control.kernel_drops);
  if (batch_.is_truncated(i)) {
    counters_.Drop(DropReason::kTruncated);
    return false;
  }
  datagram->client = batch_.source(i);
  // A forged source can be anything. A reply to 0.0.0.0 would go to this host
  // itself (ip(7)), one to a multicast or broadcast address to other hosts.
  if (!datagram->client.is_unicast() || datagram->client.port() == 0) {
    counters_.Drop(DropReason::kInvalidSource);
    return false;
  }
  if (is_wildcard_) datagram->local = control.local;
  datagram->receive_time_nanoseconds = control.receive_time_nanoseconds;
  datagram->traffic_class = control.traffic_class;
  datagram->hash = context_->hash(datagram->client);
  datagram->listener = listener_;
  return true;
}

void Reader::CountKernelDrops(uint32_t total) {
  // The kernel's number is cumulative and wraps (socket(7), SO_RXQ_OVFL):
  // unsigned subtraction gives the difference either way.
  counters_.kernel_drops.Add(total - kernel_drops_);
  kernel_drops_ = total;
}

}  // namespace internal
}  // namespace udpgate
