#include "udpgate/admin/internal/backend_loads.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "udpgate/session_info.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

using ::udpgate::internal::MutexLock;

}  // namespace

std::shared_ptr<const BackendLoads::List> BackendLoads::Get() {
  const auto age_max = absl::ToChronoNanoseconds(age_max_);
  MutexLock lock(&mutex_);
  const auto now = std::chrono::steady_clock::now();
  if (loads_ == nullptr || now - time_ >= age_max) {
    loads_ = std::make_shared<const List>(Count());
    time_ = now;
  }
  return loads_;
}

BackendLoads::List BackendLoads::Count() const {
  absl::flat_hash_map<SocketAddress, BackendLoad> loads;
  proxy_->ForEachSession([&loads](const SessionInfo& session) {
    if (!session.backend.is_valid()) return;
    BackendLoad& load = loads[session.backend];
    ++load.sessions;
    load.client_datagrams_forwarded += session.client_datagrams_forwarded;
    load.client_bytes_forwarded += session.client_bytes_forwarded;
    load.backend_datagrams_forwarded += session.backend_datagrams_forwarded;
    load.backend_bytes_forwarded += session.backend_bytes_forwarded;
  });
  List result;
  for (auto& entry : loads) {
    entry.second.backend = entry.first.ToString();
    result.push_back(std::move(entry.second));
  }
  std::sort(result.begin(), result.end(),
            [](const BackendLoad& a, const BackendLoad& b) {
              if (a.sessions != b.sessions) return a.sessions > b.sessions;
              return a.backend < b.backend;
            });
  return result;
}

}  // namespace internal
}  // namespace admin
}  // namespace udpgate
