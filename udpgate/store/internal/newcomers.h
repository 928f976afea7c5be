// Clients without a session here, whose records other gateways may have
// written.
#ifndef UDPGATE_STORE_INTERNAL_NEWCOMERS_H_
#define UDPGATE_STORE_INTERNAL_NEWCOMERS_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "udpgate/internal/util/rate.h"
#include "udpgate/session_store.h"
#include "udpgate/socket_address.h"
#include "udpgate/store/internal/disconnect_memory.h"
#include "udpgate/store/internal/keeper_context.h"
#include "udpgate/store/internal/store_calls.h"

namespace udpgate {
namespace store {
namespace internal {

// What a record says of a new client.
struct Verdict {
  enum class Kind : uint8_t {
    kNothing,      // there is no record that can be used
    kSameBackend,  // its owner lives, or may live
    kAdopted,      // the session is this gateway's now
  };
  Kind kind = Kind::kNothing;
  StoredSession record;  // not of kNothing
  // Of kSameBackend: where the owner wants the client's datagrams; invalid if
  // they cannot be forwarded.
  SocketAddress forward_to;
  // Since the session began, or longer; see ResolveResult::age.
  absl::Duration age;
};

// Threads: one.
class Newcomers {
 public:
  using Answer = absl::AnyInvocable<void(Verdict)>;

  // Between two searches, so that each is for many clients. Their keys are read
  // at this pace as well (RedisOptions::gets_per_second_max).
  static constexpr absl::Duration kFindInterval = absl::Milliseconds(1);

  // All must outlive it.
  Newcomers(KeeperContext* context, StoreCalls* calls,
            DisconnectMemory* memory);
  Newcomers(const Newcomers&) = delete;
  Newcomers& operator=(const Newcomers&) = delete;

  // Looks for the record of a client. `answer` is called once, at the deadline
  // at the latest.
  void Ask(const SocketAddress& client, int64_t deadline_nanoseconds,
           Answer answer);
  // Until then, records that name an address of this gateway are adopted even
  // if their owner lives: the address has moved here.
  void AdoptMovedUntil(int64_t nanoseconds) { moved_until_ = nanoseconds; }
  // Answers all with kNothing.
  void Clear();

  void Tick();
  int64_t next_nanoseconds() const;
  // The store is not asked before, whoever comes.
  int64_t find_nanoseconds() const { return find_nanoseconds_; }
  size_t size() const { return questions_.size(); }

 private:
  struct Question {
    SocketAddress client;
    int64_t deadline_nanoseconds;
    Answer answer;
    // Found, and being adopted.
    absl::optional<StoredSession> record;
  };
  using Ids = std::vector<uint64_t>;

  void AnswerOne(uint64_t id, Verdict verdict);
  // Where the owner of a lease hears, if both gateways forward.
  SocketAddress ForwardAddress(const GatewayLease& lease);
  // Looks for the records of those who wait for that.
  void FindSome();
  void FinishFind(const Ids& ids,
                  absl::StatusOr<std::vector<SessionStore::Found>> found);
  // Answers, or returns how to adopt the record.
  absl::optional<SessionStore::Adoption> Judge(
      uint64_t id, const SocketAddress& client,
      const SessionStore::Found& found);
  void FinishAdopt(const Ids& ids,
                   const absl::StatusOr<StoreCalls::Outcomes>& outcomes);

  KeeperContext* const context_;
  StoreCalls* const calls_;
  DisconnectMemory* const memory_;
  const udpgate::internal::Rate rate_;
  int64_t rate_full_nanoseconds_ = 0;
  int64_t find_nanoseconds_ = INT64_MIN;
  std::map<uint64_t, Question> questions_;
  std::set<std::pair<int64_t, uint64_t>> deadlines_;
  std::deque<uint64_t> unasked_;
  uint64_t next_id_ = 1;
  int64_t moved_until_ = 0;
};

}  // namespace internal
}  // namespace store
}  // namespace udpgate

#endif  // UDPGATE_STORE_INTERNAL_NEWCOMERS_H_
