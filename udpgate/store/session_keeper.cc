#include "udpgate/store/session_keeper.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/internal/util/thread.h"
#include "udpgate/store/internal/keeper_core.h"
#include "udpgate/store/internal/keeper_inbox.h"
#include "udpgate/store/internal/proxy_gateway.h"
#include "udpgate/store/internal/store_resolver.h"

namespace udpgate {
namespace {

using internal::ConditionVariable;
using internal::Mutex;
using internal::MutexLock;
using store::internal::KeeperCore;
using store::internal::KeeperInbox;
using store::internal::ProxyGateway;
using store::internal::StoreResolver;

// The thread looks at its clock at least so often.
constexpr absl::Duration kWaitMax = absl::Seconds(1);
constexpr absl::Duration kExportInterval = absl::Seconds(1);

uint64_t RandomRun() {
  std::random_device random;
  return (uint64_t{random()} << 32) | random();
}

SessionKeeperOptions WithDefaults(SessionKeeperOptions options) {
  if (options.clock == nullptr) options.clock = Clock::Monotonic();
  if (options.wall_clock == nullptr) options.wall_clock = absl::Now;
  return options;
}

class KeeperObserver final : public SessionObserver {
 public:
  KeeperObserver(std::shared_ptr<KeeperInbox> inbox,
                 std::shared_ptr<SessionObserver> next)
      : inbox_(std::move(inbox)), next_(std::move(next)) {}

  void Observe(const SessionEvent& event) override {
    if (event.kind != SessionEvent::Kind::kOpened) inbox_->PostEvent(event);
    if (next_ != nullptr) next_->Observe(event);
  }

 private:
  const std::shared_ptr<KeeperInbox> inbox_;
  const std::shared_ptr<SessionObserver> next_;
};

}  // namespace

class SessionKeeper::Impl {
 public:
  Impl(SessionKeeperOptions options, std::shared_ptr<SessionStore> store)
      : options_(WithDefaults(std::move(options))),
        store_(std::move(store)),
        inbox_(std::make_shared<KeeperInbox>(options_.events_max,
                                             options_.newcomers_waiting_max)),
        core_(
            &options_, store_,
            [inbox = inbox_](absl::AnyInvocable<void()> call) {
              inbox->Post(
                  [call = std::move(call)](KeeperCore*) mutable { call(); });
            },
            RandomRun()) {
    Publish();
  }

  const std::shared_ptr<KeeperInbox>& inbox() const { return inbox_; }
  const SessionKeeperOptions& options() const { return options_; }

  absl::Status StartThread();
  Recovery Recover(Proxy* proxy);
  absl::Status ContinueRun(absl::string_view state);
  std::string ExportRun() const;
  absl::Status Start(Proxy* proxy);
  void Stop(StopReason reason);
  absl::Status Health() const;
  SessionKeeperStats GetStats() const;
  bool is_standby() const { return is_standby_; }

 private:
  // What other threads may know of the core.
  struct Published {
    SessionKeeperStats stats;
    std::string run;
    absl::Status recovery_status;
    bool has_lease = false;
    bool is_recovered = false;
  };

  void Run();
  void SetTime() {
    core_.SetTime(options_.clock->NowNanoseconds(), options_.wall_clock());
  }
  void Publish();
  void SetGateway(Proxy* proxy);
  // Waits until the condition holds for what is published.
  template <typename Condition>
  void Await(Condition condition, absl::Duration timeout);

  const SessionKeeperOptions options_;
  const std::shared_ptr<SessionStore> store_;
  const std::shared_ptr<KeeperInbox> inbox_;
  std::unique_ptr<ProxyGateway> gateway_;

  // Of the thread, once it runs.
  KeeperCore core_;
  uint64_t dropped_count_ = 0;
  int64_t export_nanoseconds_ = INT64_MIN;

  std::thread thread_;
  bool is_started_ = false;
  bool is_stopped_ = false;
  // When the thread ends at the latest; of the steady clock.
  std::atomic<int64_t> stop_nanoseconds_{INT64_MAX};
  std::atomic<bool> is_standby_{false};

  mutable Mutex mutex_;
  ConditionVariable changed_;
  Published published_ ABSL_GUARDED_BY(mutex_);
};

absl::Status SessionKeeper::Impl::StartThread() {
  if (thread_.joinable()) return absl::OkStatus();
  if (is_stopped_) {
    return absl::FailedPreconditionError("the session keeper has stopped");
  }
  if (absl::Status status = store_->Start(); !status.ok()) return status;
  absl::StatusOr<std::thread> thread = internal::StartThread(
      "udpgate-keeper", internal::ThreadRole::kControlPlane, [this] { Run(); });
  if (!thread.ok()) return thread.status();
  thread_ = *std::move(thread);
  return absl::OkStatus();
}

void SessionKeeper::Impl::Run() {
  absl::Duration wait = absl::ZeroDuration();
  bool are_newcomers_urgent = true;
  while (true) {
    for (KeeperInbox::Call& call : inbox_->Take(wait, are_newcomers_urgent)) {
      SetTime();
      call(&core_);
    }
    SetTime();
    const uint64_t dropped_count = inbox_->dropped_count();
    for (; dropped_count_ < dropped_count; ++dropped_count_) {
      core_.OnEventDropped();
    }
    core_.Tick();
    Publish();
    const int64_t steady = Clock::Monotonic()->NowNanoseconds();
    if (stop_nanoseconds_ != INT64_MAX &&
        (core_.HasStopped() || steady >= stop_nanoseconds_)) {
      return;
    }
    const int64_t now = options_.clock->NowNanoseconds();
    are_newcomers_urgent = now >= core_.find_nanoseconds();
    const int64_t next =
        are_newcomers_urgent
            ? core_.next_nanoseconds()
            : std::min(core_.next_nanoseconds(), core_.find_nanoseconds());
    wait =
        std::min(kWaitMax, absl::Nanoseconds(std::max<int64_t>(next - now, 0)));
    if (stop_nanoseconds_ != INT64_MAX) {
      wait = std::min(wait, absl::Milliseconds(10));
    }
  }
}

void SessionKeeper::Impl::Publish() {
  const int64_t now = options_.clock->NowNanoseconds();
  std::string run;
  const bool must_export = now >= export_nanoseconds_;
  if (must_export) {
    run = core_.ExportRun();
    export_nanoseconds_ = now + absl::ToInt64Nanoseconds(kExportInterval);
  }
  is_standby_ = core_.is_standby();
  MutexLock lock(&mutex_);
  published_.stats = core_.stats();
  if (must_export) published_.run = std::move(run);
  published_.has_lease = core_.has_lease();
  published_.is_recovered = core_.is_recovered();
  published_.recovery_status = absl::Status(core_.recovery_status().code(),
                                            core_.recovery_status().message());
  changed_.SignalAll();
}

template <typename Condition>
void SessionKeeper::Impl::Await(Condition condition, absl::Duration timeout) {
  const auto deadline =
      std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  MutexLock lock(&mutex_);
  while (!condition(published_)) {
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left <= left.zero()) return;
    changed_.WaitFor(&mutex_, left);
  }
}

void SessionKeeper::Impl::SetGateway(Proxy* proxy) {
  if (gateway_ != nullptr) return;
  gateway_ = std::make_unique<ProxyGateway>(proxy, &options_);
  inbox_->Post([gateway = gateway_.get()](KeeperCore* core) {
    core->SetGateway(gateway);
  });
}

SessionKeeper::Recovery SessionKeeper::Impl::Recover(Proxy* proxy) {
  const absl::Time begin = absl::Now();
  Recovery recovery;
  // Before Proxy::Start, so that no client is served in between.
  proxy->SetStandby(options_.is_standby);
  recovery.status = StartThread();
  if (!recovery.status.ok()) return recovery;
  SetGateway(proxy);
  if (options_.is_standby) return recovery;
  inbox_->Post([](KeeperCore* core) { core->BeginRecovery(); });
  Await([](const Published& now) { return now.has_lease; },
        options_.recovery_connect_timeout);
  bool has_lease = false;
  {
    MutexLock lock(&mutex_);
    has_lease = published_.has_lease;
  }
  if (has_lease) {
    Await([](const Published& now) { return now.is_recovered; },
          options_.recovery_timeout);
  }
  MutexLock lock(&mutex_);
  recovery.status = published_.recovery_status;
  if (!published_.is_recovered && recovery.status.ok()) {
    recovery.status = absl::UnavailableError(
        has_lease ? "the session store is slow; sessions are continued in the "
                    "background"
                  : "the session store cannot be reached; sessions are "
                    "continued in the background");
  }
  recovery.session_count = static_cast<int64_t>(published_.stats.recovered);
  recovery.on_other_port_count =
      static_cast<int64_t>(published_.stats.recovered_on_other_port);
  recovery.failed_count =
      static_cast<int64_t>(published_.stats.recovery_failed);
  recovery.duration = absl::Now() - begin;
  return recovery;
}

absl::Status SessionKeeper::Impl::ContinueRun(absl::string_view state) {
  if (thread_.joinable()) {
    return absl::FailedPreconditionError("the session keeper has started");
  }
  SetTime();
  absl::Status status = core_.ContinueRun(state);
  export_nanoseconds_ = INT64_MIN;
  Publish();
  return status;
}

std::string SessionKeeper::Impl::ExportRun() const {
  MutexLock lock(&mutex_);
  return published_.run;
}

absl::Status SessionKeeper::Impl::Start(Proxy* proxy) {
  if (is_started_) {
    return absl::FailedPreconditionError("the session keeper has started");
  }
  if (absl::Status status = StartThread(); !status.ok()) return status;
  is_started_ = true;
  SetGateway(proxy);
  inbox_->Post([](KeeperCore* core) { core->OnServing(); });
  return absl::OkStatus();
}

void SessionKeeper::Impl::Stop(StopReason reason) {
  if (std::exchange(is_stopped_, true)) return;
  if (thread_.joinable()) {
    inbox_->Post([reason](KeeperCore* core) {
      core->BeginStop(reason == StopReason::kShutdown);
    });
    stop_nanoseconds_ = Clock::Monotonic()->NowNanoseconds() +
                        absl::ToInt64Nanoseconds(options_.stop_timeout);
    // Wakes the thread, if it has not seen the time.
    inbox_->Post([](KeeperCore*) {});
    thread_.join();
  }
  store_->Stop();
  // Clients that still wait are left to the wrapped resolver.
  for (KeeperInbox::Call& call : inbox_->Close()) call(&core_);
  SetTime();
  core_.BeginStop(/*ends_run=*/false);
}

absl::Status SessionKeeper::Impl::Health() const {
  bool is_fenced = false;
  bool is_available = false;
  {
    MutexLock lock(&mutex_);
    is_fenced = published_.stats.is_fenced;
    is_available = published_.stats.is_store_available;
  }
  if (is_fenced) {
    return absl::FailedPreconditionError(
        absl::StrCat("another process uses the gateway id ",
                     options_.gateway_id, ", so that no session is stored"));
  }
  if (is_available) return absl::OkStatus();
  absl::Status status = store_->Health();
  if (!status.ok()) return status;
  return absl::UnavailableError("the session store does not reply");
}

SessionKeeperStats SessionKeeper::Impl::GetStats() const {
  SessionKeeperStats stats;
  {
    MutexLock lock(&mutex_);
    stats = published_.stats;
  }
  stats.newcomers_not_looked_up += inbox_->refused_count();
  return stats;
}

absl::StatusOr<std::unique_ptr<SessionKeeper>> SessionKeeper::Create(
    SessionKeeperOptions options, std::shared_ptr<SessionStore> store) {
  if (absl::Status status = options.Validate(); !status.ok()) return status;
  if (store == nullptr) return absl::InvalidArgumentError("the store is null");
  return std::unique_ptr<SessionKeeper>(new SessionKeeper(
      std::make_unique<Impl>(std::move(options), std::move(store))));
}

SessionKeeper::SessionKeeper(std::unique_ptr<Impl> impl)
    : impl_(std::move(impl)) {}

SessionKeeper::~SessionKeeper() { Stop(StopReason::kShutdown); }

std::shared_ptr<BackendResolver> SessionKeeper::WrapResolver(
    std::shared_ptr<BackendResolver> inner) {
  return std::make_shared<StoreResolver>(std::move(inner), impl_->inbox(),
                                         impl_->options().newcomer_timeout);
}

std::shared_ptr<SessionObserver> SessionKeeper::WrapObserver(
    std::shared_ptr<SessionObserver> next) {
  return std::make_shared<KeeperObserver>(impl_->inbox(), std::move(next));
}

SessionKeeper::Recovery SessionKeeper::Recover(Proxy* proxy) {
  return impl_->Recover(proxy);
}

absl::Status SessionKeeper::ContinueRun(absl::string_view state) {
  return impl_->ContinueRun(state);
}

std::string SessionKeeper::ExportRun() const { return impl_->ExportRun(); }

absl::Status SessionKeeper::Start(Proxy* proxy) { return impl_->Start(proxy); }

void SessionKeeper::Stop(StopReason reason) { impl_->Stop(reason); }

void SessionKeeper::Promote() {
  impl_->inbox()->Post([](KeeperCore* core) { core->Promote(); });
}

void SessionKeeper::Demote() {
  impl_->inbox()->Post([](KeeperCore* core) { core->Demote(); });
}

bool SessionKeeper::is_standby() const { return impl_->is_standby(); }

absl::Status SessionKeeper::Health() const { return impl_->Health(); }

SessionKeeperStats SessionKeeper::GetStats() const { return impl_->GetStats(); }

}  // namespace udpgate
