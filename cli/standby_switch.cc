#include "cli/standby_switch.h"

#include <pthread.h>

#include <chrono>
#include <csignal>
#include <utility>

#include "absl/strings/str_cat.h"
#include "udpgate/logging.h"

namespace udpgate {
namespace cli {
namespace {

// How often a promotion in progress is looked at.
constexpr std::chrono::milliseconds kLookInterval(1);

std::string Milliseconds(absl::Duration time) {
  return absl::FormatDuration(absl::Trunc(time, absl::Microseconds(100)));
}

}  // namespace

StandbySwitch::StandbySwitch(StandbySwitchOptions options, Logger* logger)
    : options_(std::move(options)), logger_(logger) {
  thread_ = std::thread([this] { Run(); });
  pthread_setname_np(thread_.native_handle(), "udpgate-standby");
}

StandbySwitch::~StandbySwitch() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void StandbySwitch::SetAddresses(bool are_here, int64_t noticed_nanoseconds) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    report_ = Report{are_here, noticed_nanoseconds};
  }
  changed_.notify_all();
}

StandbySwitch::Stats StandbySwitch::GetStats() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return stats_;
}

void StandbySwitch::Run() {
  sigset_t all_signals;
  sigfillset(&all_signals);
  pthread_sigmask(SIG_BLOCK, &all_signals, nullptr);
  std::unique_lock<std::mutex> lock(mutex_);
  while (!is_stopping_) {
    if (report_.has_value()) {
      const Report report = *std::exchange(report_, absl::nullopt);
      lock.unlock();
      Handle(report);
      lock.lock();
    } else if (promoted_from_nanoseconds_.has_value()) {
      lock.unlock();
      Look();
      lock.lock();
      if (promoted_from_nanoseconds_.has_value() && !is_stopping_ &&
          !report_.has_value()) {
        changed_.wait_for(lock, kLookInterval);
      }
    } else {
      changed_.wait(lock);
    }
  }
}

void StandbySwitch::Handle(const Report& report) {
  if (are_here_ == report.are_here) return;
  const bool is_first = !are_here_.has_value();
  are_here_ = report.are_here;
  if (report.are_here) {
    promoted_from_nanoseconds_ = report.noticed_nanoseconds;
    has_warned_ = false;
    options_.promote();
    Look();
    return;
  }
  promoted_from_nanoseconds_.reset();
  logger_->Log(LogSeverity::kInfo,
               is_first
                   ? absl::StrCat("standby: waiting for ", options_.addresses)
                   : absl::StrCat("standby: this machine has lost ",
                                  options_.addresses));
  options_.demote();
  if (options_.on_change != nullptr) options_.on_change();
  if (is_first) return;
  std::lock_guard<std::mutex> lock(mutex_);
  ++stats_.demotions;
}

void StandbySwitch::Look() {
  const absl::Duration time = absl::Nanoseconds(
      options_.clock->NowNanoseconds() - *promoted_from_nanoseconds_);
  if (options_.is_standby()) {
    if (time < options_.promotion_warning || has_warned_) return;
    has_warned_ = true;
    logger_->Log(LogSeverity::kWarning,
                 absl::StrCat("standby: ", options_.addresses, " came ",
                              Milliseconds(time),
                              " ago, and clients are not served yet"));
    return;
  }
  promoted_from_nanoseconds_.reset();
  logger_->Log(LogSeverity::kInfo,
               absl::StrCat("standby: serving ", options_.addresses, ", ",
                            Milliseconds(time), " after it came"));
  if (options_.on_change != nullptr) options_.on_change();
  std::lock_guard<std::mutex> lock(mutex_);
  ++stats_.promotions;
  stats_.promotion_time = time;
}

std::vector<HostMetric> StandbyMetrics(const StandbySwitch::Stats& stats) {
  using Kind = HostMetric::Kind;
  return {
      {Kind::kCounter, "udpgate_standby_promotions_total",
       "Times that the addresses came and the gateway began to serve.",
       static_cast<double>(stats.promotions)},
      {Kind::kCounter, "udpgate_standby_demotions_total",
       "Times that the addresses went away and the gateway entered standby.",
       static_cast<double>(stats.demotions)},
      {Kind::kGauge, "udpgate_standby_promotion_seconds",
       "Time from the arrival of the addresses until the gateway served, at "
       "the last promotion.",
       absl::ToDoubleSeconds(stats.promotion_time)},
  };
}

}  // namespace cli
}  // namespace udpgate
