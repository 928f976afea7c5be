// Which sessions ended lately, and how many on each backend: an observer for
// `ProxyDependencies::session_observer`, which an `AdminServer` shows.
//
//   auto history = std::make_shared<SessionHistory>(SessionHistoryOptions());
//   dependencies.session_observer = history;  // then Proxy::Create
//   hooks.history = history;                  // then AdminServer::Create
#ifndef UDPGATE_ADMIN_SESSION_HISTORY_H_
#define UDPGATE_ADMIN_SESSION_HISTORY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "udpgate/internal/mutex.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_observer.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {

struct SessionHistoryOptions {
  // Ends that are kept, the last ones; under 250 bytes each.
  size_t ends_max = 1000;
  // Backends that are counted by themselves. Beyond them one takes the place
  // of another that saw no event for so long, or is counted with all others.
  size_t backends_max = 100;
  absl::Duration backend_idle_min = absl::Hours(1);
  // The time of day; for tests.
  std::function<absl::Time()> now = absl::Now;
};

// Threads: any.
class SessionHistory final : public SessionObserver {
 public:
  struct End {
    SessionEvent event;
    absl::Time time;
  };
  // What was counted since the backend took its place here.
  struct Backend {
    SocketAddress address;  // invalid: all others
    uint64_t opened = 0;
    std::array<uint64_t, kEndReasonCount> ended{};
  };

  struct RecordedBackend {
    Backend backend;
    absl::Time last_event;
  };
  // All of it, for another process that goes on with it.
  struct Record {
    std::vector<End> ends;  // the oldest first
    std::vector<RecordedBackend> backends;
  };

  explicit SessionHistory(SessionHistoryOptions options);

  void Observe(const SessionEvent& event) override;

  Record Save() const;
  // Puts what another one has seen before what this one has. Limits hold: of
  // backends those of `record` stay, and of ends the last ones.
  void Restore(const Record& record);

  // Calls `visit` for the ends that are kept, the newest first, until it
  // returns false. Under a lock that Observe waits for.
  void ForEachEnd(const std::function<bool(const End& end)>& visit) const;

  // In the order of their addresses' texts, the others last, if there are any.
  // Sessions that got no backend are in none.
  std::vector<Backend> Backends() const;

 private:
  struct Place {
    Backend backend;
    absl::Time last_event;
  };

  static void AddTo(const Backend& counted, Backend* sum);
  Backend* Find(const SocketAddress& address, absl::Time now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const SessionHistoryOptions options_;
  mutable udpgate::internal::Mutex mutex_;
  std::deque<End> ends_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<SocketAddress, Place> places_ ABSL_GUARDED_BY(mutex_);
  // When a look for a place to take again may succeed at the earliest.
  absl::Time next_look_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  Backend others_ ABSL_GUARDED_BY(mutex_);
  bool has_others_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_SESSION_HISTORY_H_
