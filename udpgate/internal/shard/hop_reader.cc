#include "udpgate/internal/shard/hop_reader.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "udpgate/forward/internal/envelope.h"
#include "udpgate/internal/shard/hop.h"
#include "udpgate/proxy_stats.h"

namespace udpgate {
namespace internal {
namespace {

using forward::internal::Envelope;
using forward::internal::EnvelopeKind;
using forward::internal::EnvelopeOpener;

// How often the socket is tried while another process has the address.
constexpr int64_t kRetryNanoseconds = 10'000'000;
// A takeover takes less: after so many attempts something is wrong.
constexpr int kQuietAttempts = 300;

ClientDatagram::Origin OriginOf(EnvelopeKind kind) {
  switch (kind) {
    case EnvelopeKind::kToOwner:
      return ClientDatagram::Origin::kHop;
    case EnvelopeKind::kToClient:
      return ClientDatagram::Origin::kHopReply;
    case EnvelopeKind::kSession:
      return ClientDatagram::Origin::kHopSession;
    case EnvelopeKind::kNoSession:
      break;
  }
  return ClientDatagram::Origin::kHopNoSession;
}

}  // namespace

absl::StatusOr<std::unique_ptr<HopReader>> HopReader::Create(
    GateContext* context, std::vector<Worker*> workers) {
  std::unique_ptr<HopReader> reader(new HopReader(context, std::move(workers)));
  if (absl::Status status = reader->batch_.CheckMemory(); !status.ok()) {
    return status;
  }
  const SysCallResult epoll = context->sys_calls->EpollCreate();
  if (!epoll.ok()) return ErrnoToStatus(epoll.error, "epoll_create1");
  reader->epoll_fd_.Reset(epoll.value);
  const SysCallResult stop = context->sys_calls->EventFd();
  if (!stop.ok()) return ErrnoToStatus(stop.error, "eventfd");
  reader->stop_fd_.Reset(stop.value);
  if (absl::Status status = reader->Watch(stop.value); !status.ok()) {
    return status;
  }
  return reader;
}

HopReader::HopReader(GateContext* context, std::vector<Worker*> workers)
    : context_(context),
      workers_(std::move(workers)),
      opener_(context->hop->keys()),
      batch_(context->options.batch_size,
             ReceiveBatch::Extent::kControlAndSource),
      parts_(workers_.size()),
      wrong_seal_log_(context->clock, Hop::kLogInterval),
      wrong_time_log_(context->clock, Hop::kLogInterval),
      closed_log_(context->clock, Hop::kLogInterval) {
  for (std::vector<ClientDatagram>& part : parts_) {
    part.reserve(context->options.batch_size);
  }
}

absl::Status HopReader::Watch(int fd) {
  epoll_event event{EPOLLIN, {}};
  event.data.fd = fd;
  const SysCallResult added = context_->sys_calls->EpollControl(
      epoll_fd_.get(), EPOLL_CTL_ADD, fd, &event);
  if (added.ok()) return absl::OkStatus();
  return ErrnoToStatus(added.error, "epoll_ctl");
}

void HopReader::Run() {
  while (!is_stopping_.load(std::memory_order_acquire)) {
    const bool is_ready = AwaitSocket();
    epoll_event events[2];
    context_->sys_calls->EpollWait(epoll_fd_.get(), events, 2,
                                   is_ready ? -1 : kRetryNanoseconds);
    if (is_ready) ReadBatch();
  }
}

bool HopReader::AwaitSocket() {
  if (is_watched_) return true;
  if (!context_->hop->is_open()) {
    if (const absl::Status status = context_->hop->Open(); !status.ok()) {
      ReportClosed(status);
      return false;
    }
  }
  is_watched_ = Watch(context_->hop->fd()).ok();
  return is_watched_;
}

void HopReader::Stop() {
  is_stopping_.store(true, std::memory_order_release);
  context_->sys_calls->EventFdAdd(stop_fd_.get());
}

void HopReader::ClearStop() {
  is_stopping_.store(false, std::memory_order_relaxed);
  context_->sys_calls->EventFdReset(stop_fd_.get());
}

int HopReader::ReadBatch() {
  const SysCallResult received =
      batch_.Receive(context_->sys_calls, context_->hop->fd(), 0,
                     batch_.capacity(), MSG_DONTWAIT);
  if (!received.ok()) return 0;
  unix_seconds_ = context_->hop->unix_seconds();
  for (int i = 0; i < received.value; ++i) Accept(i);
  const int64_t now_nanoseconds = context_->clock->NowNanoseconds();
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (parts_[i].empty()) continue;
    const size_t refused = workers_[i]->Deliver(parts_[i], now_nanoseconds);
    for (size_t j = parts_[i].size() - refused; j < parts_[i].size(); ++j) {
      if (!parts_[i][j].is_answer()) counters_.Drop(DropReason::kQueueFull);
    }
    parts_[i].clear();
  }
  return received.value;
}

void HopReader::Accept(int i) {
  ClientDatagram datagram;
  if (!Open(i, &datagram)) {
    // Nobody knows what it was to be.
    counters_.client_datagrams_received.Add();
    counters_.client_bytes_received.Add(batch_.payload(i).size());
    return;
  }
  const size_t bytes = datagram.payload.size();
  if (datagram.origin == ClientDatagram::Origin::kHop) {
    counters_.client_datagrams_received.Add();
    counters_.client_bytes_received.Add(bytes);
    counters_.hop_client_datagrams_received.Add();
  } else if (datagram.origin == ClientDatagram::Origin::kHopReply) {
    counters_.backend_datagrams_received.Add();
    counters_.backend_bytes_received.Add(bytes);
    counters_.hop_replies_received.Add();
  }
  parts_[datagram.hash % parts_.size()].push_back(datagram);
}

// Otherwise it is counted as dropped.
bool HopReader::Open(int i, ClientDatagram* datagram) {
  const absl::Span<const char> bytes = batch_.payload(i);
  Envelope envelope;
  const EnvelopeOpener::Verdict verdict =
      batch_.is_truncated(i)
          ? EnvelopeOpener::Verdict::kInvalid
          // The batch's own buffer, which nothing else refers to.
          : opener_.Open(
                absl::MakeSpan(const_cast<char*>(bytes.data()), bytes.size()),
                unix_seconds_, &envelope);
  if (verdict != EnvelopeOpener::Verdict::kOpened) {
    Reject(verdict, batch_.source(i));
    return false;
  }
  datagram->peer = context_->hop->peers().NumberOf(batch_.source(i));
  if (datagram->peer == 0) {
    counters_.Drop(DropReason::kHopLimit);
    return false;
  }
  datagram->origin = OriginOf(envelope.kind);
  datagram->wants_answer = envelope.wants_answer;
  datagram->client = envelope.client;
  datagram->local = envelope.local;
  datagram->payload = envelope.payload;
  datagram->traffic_class = envelope.traffic_class;
  datagram->hash = context_->hash(datagram->client);
  datagram->listener =
      static_cast<uint16_t>(datagram->hash % context_->listeners.size());
  return true;
}

void HopReader::Reject(EnvelopeOpener::Verdict verdict,
                       const SocketAddress& source) {
  switch (verdict) {
    case EnvelopeOpener::Verdict::kWrongSeal:
      counters_.Drop(DropReason::kHopInvalid);
      return Report(&wrong_seal_log_, source,
                    " is sealed with another secret than this gateway's, or "
                    "was changed on the way");
    case EnvelopeOpener::Verdict::kWrongTime:
      counters_.Drop(DropReason::kHopReplayed);
      return Report(&wrong_time_log_, source,
                    " has a time that differs by more than 30 s: the clocks of "
                    "the gateways differ, or somebody repeats old datagrams");
    case EnvelopeOpener::Verdict::kReplayed:
      return counters_.Drop(DropReason::kHopReplayed);
    default:
      return counters_.Drop(DropReason::kHopInvalid);
  }
}

void HopReader::ReportClosed(const absl::Status& status) {
  if (++failed_attempts_ < kQuietAttempts) return;
  int64_t more = 0;
  if (!closed_log_.Admit(&more)) return;
  context_->control.PostLog(
      LogSeverity::kWarning,
      absl::StrCat("forwarding between gateways is off, and is tried again: ",
                   status.message()));
}

void HopReader::Report(LogRateLimiter* limiter, const SocketAddress& source,
                       absl::string_view problem) {
  int64_t more = 0;
  if (!limiter->Admit(&more)) return;
  std::string line =
      absl::StrCat("forwarding between gateways: what comes from ",
                   source.ToString(), problem);
  if (more > 0) {
    absl::StrAppend(&line, " (and ", more, " more since the last such line)");
  }
  context_->control.PostLog(LogSeverity::kWarning, std::move(line));
}

}  // namespace internal
}  // namespace udpgate
