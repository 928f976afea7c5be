#include "udpgate/internal/reader.h"

#include <utility>

namespace udpgate {
namespace internal {

absl::StatusOr<std::unique_ptr<Reader>> Reader::Create(
    GateContext* context, uint16_t listener, std::vector<Worker*> workers) {
  SysCalls* const sys_calls = context->sys_calls;
  const SysCallResult stop = sys_calls->EventFd();
  if (!stop.ok()) return ErrnoToStatus(stop.error, "eventfd");
  std::unique_ptr<Reader> reader(
      new Reader(context, listener, std::move(workers), stop.value));
  if (absl::Status status = reader->batch_.CheckMemory(); !status.ok()) {
    return status;
  }
  // A worker that reads the socket itself has it in its own epoll set; a
  // second one would cost each datagram a wake-up of nobody.
  if (context->options.worker_count == 0) return reader;
  const SysCallResult epoll = sys_calls->EpollCreate();
  if (!epoll.ok()) return ErrnoToStatus(epoll.error, "epoll_create1");
  reader->epoll_fd_.Reset(epoll.value);
  for (const int fd : {reader->fd_, reader->stop_fd_}) {
    epoll_event event{EPOLLIN, {}};
    const SysCallResult added =
        sys_calls->EpollControl(epoll.value, EPOLL_CTL_ADD, fd, &event);
    if (!added.ok()) return ErrnoToStatus(added.error, "epoll_ctl");
  }
  return reader;
}

Reader::Reader(GateContext* context, uint16_t listener,
               std::vector<Worker*> workers, int stop_fd)
    : context_(context),
      listener_(listener),
      fd_(context->listeners[listener].fd.get()),
      is_wildcard_(context->listeners[listener].address.is_any()),
      workers_(std::move(workers)),
      stop_fd_(stop_fd),
      batch_(context->options.batch_size, /*with_addresses=*/true),
      parts_(workers_.size()),
      kernel_drops_(context->listeners[listener].kernel_drops) {
  for (std::vector<ClientDatagram>& part : parts_) {
    part.reserve(context->options.batch_size);
  }
}

Reader::~Reader() { context_->sys_calls->Close(stop_fd_); }

void Reader::Run() {
  while (!is_stopping_.load(std::memory_order_acquire)) {
    epoll_event events[2];
    const SysCallResult waited = context_->sys_calls->EpollWait(
        epoll_fd_.get(), events, 2, /*timeout_nanoseconds=*/-1);
    if (waited.ok() && waited.value > 0) ReadBatch();
  }
}

void Reader::Stop() {
  is_stopping_.store(true, std::memory_order_release);
  context_->sys_calls->EventFdAdd(stop_fd_);
}

void Reader::ReadBatch() {
  const SysCallResult received =
      batch_.Receive(context_->sys_calls, fd_, 0, batch_.capacity());
  // EAGAIN, or an error that passes (ENOMEM, ENOBUFS): what is there stays in
  // the kernel, and the next turn reads it.
  if (!received.ok()) return;
  for (int i = 0; i < received.value; ++i) {
    ClientDatagram datagram;
    if (!Accept(i, &datagram)) continue;
    parts_[datagram.hash % parts_.size()].push_back(datagram);
  }
  const int64_t now_nanoseconds = context_->clock->NowNanoseconds();
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (parts_[i].empty()) continue;
    const size_t refused = workers_[i]->Deliver(parts_[i], now_nanoseconds);
    counters_.Drop(DropReason::kQueueFull, refused);
    parts_[i].clear();
  }
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
  if (!datagram->client.is_valid() || datagram->client.port() == 0) {
    counters_.Drop(DropReason::kInvalidSource);
    return false;
  }
  if (is_wildcard_) datagram->local = control.local;
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
