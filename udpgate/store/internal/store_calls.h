// The keeper's calls of the store: limits, time-outs, and results that come
// back to its thread.
#ifndef UDPGATE_STORE_INTERNAL_STORE_CALLS_H_
#define UDPGATE_STORE_INTERNAL_STORE_CALLS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "udpgate/internal/util/rate.h"
#include "udpgate/session_store.h"
#include "udpgate/store/internal/keeper_context.h"

namespace udpgate {
namespace store {
namespace internal {

// Threads: the keeper's. The store may give results on any.
class StoreCalls {
 public:
  // Runs a closure on the keeper's thread, later. Called on any thread; may
  // drop it if the keeper has stopped.
  using Post = std::function<void(absl::AnyInvocable<void()>)>;
  template <typename T>
  using Result = absl::AnyInvocable<void(absl::StatusOr<T>)>;
  using Outcomes = std::vector<SessionStore::Outcome>;

  // Each has a limit of its own.
  enum class Kind : uint8_t { kChange, kFind, kOther };

  // A call without a result by then has failed; a later result is ignored.
  static constexpr absl::Duration kTimeout = absl::Seconds(10);
  // Of `List`: there may be a million records. A call that is given up goes on
  // in the store, and slows down the one that follows.
  static constexpr absl::Duration kListTimeout = absl::Minutes(2);

  StoreCalls(KeeperContext* context, std::shared_ptr<SessionStore> store,
             Post post);
  StoreCalls(const StoreCalls&) = delete;
  StoreCalls& operator=(const StoreCalls&) = delete;

  // Whether a call of this kind may be made now. Takes a kChange from the rate;
  // always true for kOther.
  bool Admit(Kind kind);
  // When to ask again if `Admit` returned false; kNever: after a result.
  int64_t next_nanoseconds() const;

  void Write(std::vector<StoredSession> sessions, Result<Outcomes> result);
  void Refresh(std::vector<SessionStore::SessionKey> keys,
               Result<Outcomes> result);
  void Remove(std::vector<SessionStore::SessionKey> keys,
              Result<Outcomes> result);
  void Adopt(std::vector<SessionStore::Adoption> adoptions,
             Result<Outcomes> result, Kind kind = Kind::kChange);
  void Find(std::vector<SocketAddress> clients,
            Result<std::vector<SessionStore::Found>> result,
            Kind kind = Kind::kFind);
  void List(const std::string& gateway_id,
            Result<std::vector<StoredSession>> result);
  void ListClients(const std::string& gateway_id,
                   Result<std::vector<SocketAddress>> result);
  void ListGateways(Result<std::vector<SessionStore::Gateway>> result);
  void RenewLease(GatewayLease lease, absl::Duration lifetime,
                  Result<absl::optional<GatewayLease>> result);
  void EndLease(const GatewayLease& lease,
                Result<SessionStore::Outcome> result);

  // Calls whose time is over fail.
  void Tick();

  // The last result was none that says that the store is away.
  bool is_available() const { return is_available_; }
  size_t in_flight() const { return calls_.size(); }
  // When a change failed last, so that nothing is known of it; kNever: never.
  int64_t uncertain_nanoseconds() const { return uncertain_nanoseconds_; }

 private:
  static constexpr size_t kAnyCount = static_cast<size_t>(-1);
  struct Call {
    Kind kind;
    int64_t start_nanoseconds;
    int64_t end_nanoseconds;  // at the latest
    bool is_change;
    absl::AnyInvocable<void(absl::Status)> fail;
  };
  template <typename T>
  class Reply;

  template <typename T>
  SessionStore::Done<T> Begin(Kind kind, size_t count, bool is_change,
                              Result<T> result,
                              absl::Duration timeout = kTimeout);
  // False if the call has failed already.
  bool End(uint64_t id, const absl::Status& status);
  void Fail(const Call& call, const absl::Status& status);
  int LimitOf(Kind kind) const;

  KeeperContext* const context_;
  const std::shared_ptr<SessionStore> store_;
  const Post post_;
  const udpgate::internal::Rate change_rate_;
  int64_t changes_full_nanoseconds_ = 0;
  std::map<uint64_t, Call> calls_;  // by their numbers, in their order
  std::array<int, 3> in_flight_ = {};
  uint64_t next_id_ = 1;
  bool is_available_ = false;
  bool has_replied_ = false;  // ever
  int64_t first_call_nanoseconds_ = kNever;
  bool is_limited_by_rate_ = false;
  // Changes wait so long after an error.
  int64_t retry_nanoseconds_ = 0;
  absl::Duration backoff_;
  int64_t uncertain_nanoseconds_ = kNever;
};

}  // namespace internal
}  // namespace store
}  // namespace udpgate

#endif  // UDPGATE_STORE_INTERNAL_STORE_CALLS_H_
