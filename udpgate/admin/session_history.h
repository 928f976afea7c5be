// Keeps the last ended sessions, and counts sessions by backend. It is an
// observer for `ProxyDependencies::session_observer`; an `AdminServer` shows
// it.
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
#include "udpgate/base/export.h"
#include "udpgate/base/mutex.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/session_observer.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace admin {

struct UDPGATE_EXPORT SessionHistoryOptions {
  // Number of ends that are kept; each takes less than 250 bytes, and 700 with
  // a tag.
  size_t ends_max = 1000;
  // Number of backends that are counted individually. A further backend
  // replaces one without an event for `backend_idle_min`; if there is none, it
  // is counted with all others.
  size_t backends_max = 100;
  absl::Duration backend_idle_min = absl::Hours(1);
  // The time of day; for tests.
  std::function<absl::Time()> now = absl::Now;
};

// Threads: any.
class UDPGATE_EXPORT SessionHistory final : public SessionObserver {
 public:
  struct End {
    SessionEvent event;  // its tag has a text and no key
    absl::Time time;
  };
  // Counts since the backend is counted individually.
  struct Backend {
    SocketAddress address;  // invalid: all others
    uint64_t opened = 0;
    std::array<uint64_t, kEndReasonCount> ended{};
  };

  struct RecordedBackend {
    Backend backend;
    absl::Time last_event;
  };
  // The complete content, for a takeover.
  struct Record {
    std::vector<End> ends;  // the oldest first
    std::vector<RecordedBackend> backends;
  };

  explicit SessionHistory(SessionHistoryOptions options);

  void Observe(const SessionEvent& event) override;

  Record Save() const;
  // Inserts the content of an older history before the content of this one. The
  // limits hold: backends of `record` have priority, and the last ends are
  // kept.
  void Restore(const Record& record);

  // Calls `visit` for each end, the newest first, until it returns false.
  // `Observe` is blocked meanwhile.
  void ForEachEnd(const std::function<bool(const End& end)>& visit) const;

  // Sorted by the text of the address; "all others" is last, if there are any.
  // Sessions that never had a backend are not counted.
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
  // Earliest time at which a search for an idle backend can succeed.
  absl::Time next_look_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  Backend others_ ABSL_GUARDED_BY(mutex_);
  bool has_others_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace admin
}  // namespace udpgate

#endif  // UDPGATE_ADMIN_SESSION_HISTORY_H_
