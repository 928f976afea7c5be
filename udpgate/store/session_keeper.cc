#include "udpgate/store/session_keeper.h"

#include <utility>

namespace udpgate {

class SessionKeeper::Impl {
 public:
  Impl(SessionKeeperOptions given_options,
       std::shared_ptr<SessionStore> given_store)
      : options(std::move(given_options)), store(std::move(given_store)) {}

  const SessionKeeperOptions options;
  const std::shared_ptr<SessionStore> store;
};

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
  return inner;
}

std::shared_ptr<SessionObserver> SessionKeeper::WrapObserver(
    std::shared_ptr<SessionObserver> next) {
  return next;
}

SessionKeeper::Recovery SessionKeeper::Recover(Proxy* proxy) {
  proxy->SetStandby(impl_->options.is_standby);
  Recovery recovery;
  recovery.status = impl_->store->Start();
  return recovery;
}

absl::Status SessionKeeper::ContinueRun(absl::string_view state) {
  (void)state;
  return impl_->store->Start();
}

std::string SessionKeeper::ExportRun() const { return ""; }

absl::Status SessionKeeper::Start(Proxy* proxy) {
  (void)proxy;
  return absl::OkStatus();
}

void SessionKeeper::Stop(StopReason reason) {
  (void)reason;
  impl_->store->Stop();
}

void SessionKeeper::Promote() {}
void SessionKeeper::Demote() {}
bool SessionKeeper::is_standby() const { return impl_->options.is_standby; }
absl::Status SessionKeeper::Health() const { return impl_->store->Health(); }
SessionKeeperStats SessionKeeper::GetStats() const { return {}; }

}  // namespace udpgate
