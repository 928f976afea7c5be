#include "udpgate/internal/util/control_thread.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "udpgate/internal/util/thread.h"

namespace udpgate {
namespace internal {
namespace {

constexpr absl::Duration kLogInterval = absl::Seconds(5);
// If sockets run out it lasts, and a repeated line says nothing new.
constexpr absl::Duration kUpstreamLogInterval = absl::Minutes(1);
// It is over if no socket was missing for so long.
constexpr int64_t kUpstreamCalmNanoseconds = 10'000'000'000;

}  // namespace

ControlThread::ControlThread(LogSink sink, const Clock* clock, int queue_size)
    : sink_(std::move(sink)), clock_(clock), queue_size_(queue_size) {
  for (size_t i = 0; i < kDropReasonCount; ++i) {
    const bool is_upstream =
        static_cast<DropReason>(i) == DropReason::kNoUpstreamSocket;
    limiters_.push_back(std::make_unique<LogRateLimiter>(
        clock, is_upstream ? kUpstreamLogInterval : kLogInterval));
  }
  for (size_t i = 0; i < kEndReasonCount; ++i) {
    end_limiters_.push_back(
        std::make_unique<LogRateLimiter>(clock, kLogInterval));
  }
}

absl::Status ControlThread::Start() {
  absl::StatusOr<std::thread> started = StartThread(
      "udpgate-control", ThreadRole::kControlPlane, [this] { Run(); });
  if (!started.ok()) return started.status();
  thread_ = *std::move(started);
  return absl::OkStatus();
}

void ControlThread::Stop() {
  {
    MutexLock lock(&mutex_);
    is_stopping_ = true;
    changed_.SignalAll();
  }
  if (thread_.joinable()) thread_.join();
}

void ControlThread::ReportRefused(DropReason reason,
                                  const SocketAddress& client,
                                  absl::FunctionRef<std::string()> why) {
  if (reason == DropReason::kNoUpstreamSocket) {
    upstream_missing_nanoseconds_.store(clock_->NowNanoseconds(),
                                        std::memory_order_relaxed);
  }
  Add(Kind::kRefused, DropReasonName(reason),
      limiters_[static_cast<size_t>(reason)].get(), client, why);
}

void ControlThread::ReportUpstreamOpened() {
  int64_t missing_nanoseconds =
      upstream_missing_nanoseconds_.load(std::memory_order_relaxed);
  if (missing_nanoseconds == kNever ||
      clock_->NowNanoseconds() - missing_nanoseconds <
          kUpstreamCalmNanoseconds ||
      !upstream_missing_nanoseconds_.compare_exchange_strong(
          missing_nanoseconds, kNever, std::memory_order_relaxed)) {
    return;
  }
  constexpr DropReason kReason = DropReason::kNoUpstreamSocket;
  limiters_[static_cast<size_t>(kReason)]->Reset();
  Push({Kind::kUpstreamOpens, DropReasonName(kReason), SocketAddress(),
        std::string(), 0});
}

void ControlThread::ReportEnded(EndReason reason, const SocketAddress& client,
                                absl::FunctionRef<std::string()> why) {
  Add(Kind::kEnded, EndReasonName(reason),
      end_limiters_[static_cast<size_t>(reason)].get(), client, why);
}

void ControlThread::Add(Kind kind, absl::string_view reason,
                        LogRateLimiter* limiter, const SocketAddress& client,
                        absl::FunctionRef<std::string()> why) {
  int64_t more = 0;
  if (!limiter->Admit(&more)) return;
  Push({kind, reason, client, why(), more});
}

void ControlThread::Push(Report report) {
  MutexLock lock(&mutex_);
  if (reports_.size() >= queue_size_) {
    suppressed_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  reports_.push_back(std::move(report));
  changed_.SignalOne();
}

void ControlThread::Post(absl::AnyInvocable<void()> call) {
  MutexLock lock(&mutex_);
  if (is_stopping_) return;
  calls_.push_back(std::move(call));
  changed_.SignalOne();
}

void ControlThread::PostLog(LogSeverity severity, std::string line) {
  if (sink_ == nullptr) return;
  Post([this, severity, line = std::move(line)] { sink_(severity, line); });
}

void ControlThread::Run() {
  for (;;) {
    std::vector<Report> reports;
    std::vector<absl::AnyInvocable<void()>> calls;
    {
      MutexLock lock(&mutex_);
      while (!is_stopping_ && reports_.empty() && calls_.empty()) {
        changed_.Wait(&mutex_);
      }
      if (is_stopping_) return;
      reports.swap(reports_);
      calls.swap(calls_);
    }
    for (const Report& report : reports) {
      if (is_stopping_) return;
      Log(report);
    }
    for (absl::AnyInvocable<void()>& call : calls) {
      if (is_stopping_) return;
      call();
    }
  }
}

void ControlThread::Log(const Report& report) const {
  if (sink_ == nullptr) return;
  if (report.kind == Kind::kUpstreamOpens) {
    sink_(LogSeverity::kInfo, "sockets towards backends can be opened again");
    return;
  }
  const bool is_new_client = report.kind == Kind::kRefused;
  std::string line = absl::StrCat(is_new_client ? "new client " : "session of ",
                                  report.client.ToString(),
                                  is_new_client ? " dropped (" : " ended (",
                                  report.reason, "): ", report.why);
  if (report.more > 0) {
    absl::StrAppend(&line, " (and ", report.more,
                    " more since the last such line)");
  }
  sink_(LogSeverity::kWarning, line);
}

}  // namespace internal
}  // namespace udpgate
