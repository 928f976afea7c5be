// What a standby knows of the records of other gateways.
#ifndef UDPGATE_STORE_INTERNAL_FOLLOWER_H_
#define UDPGATE_STORE_INTERNAL_FOLLOWER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "udpgate/session_store.h"
#include "udpgate/socket_address.h"
#include "udpgate/store/internal/keeper_context.h"
#include "udpgate/store/internal/store_calls.h"

namespace udpgate {
namespace store {
namespace internal {

// Asks once an interval which clients have records, and reads those of new
// clients. Also reads some known ones again, since a client may have a new
// session.
//
// Threads: one.
class Follower {
 public:
  // Known records that are read again in an interval.
  static constexpr size_t kRereadMax = 1024;

  // Both must outlive it.
  Follower(KeeperContext* context, StoreCalls* calls)
      : context_(context), calls_(calls) {}
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;

  // While in standby.
  void Tick();
  int64_t next_nanoseconds() const;

  // All records have been read once.
  bool is_warm() const { return is_warm_; }
  // The ids of all gateways, of the last interval.
  const std::vector<std::string>& gateway_ids() const { return gateway_ids_; }
  // Gives all records, and knows none any more.
  std::list<StoredSession> Take();

 private:
  struct Known {
    std::list<StoredSession>::iterator place;
    uint64_t round = 0;  // in which it was listed last
  };

  void BeginRound();
  void ListNextGateway(size_t index);
  void EndRound();
  void FindSome();
  void Learn(const SocketAddress& client, const SessionStore::Found& found);
  void Forget(const SocketAddress& client);

  KeeperContext* const context_;
  StoreCalls* const calls_;
  absl::flat_hash_map<SocketAddress, Known> known_;
  // Those first that were read longest ago.
  std::list<StoredSession> records_;
  std::vector<std::string> gateway_ids_;
  std::deque<SocketAddress> unread_;
  size_t reading_count_ = 0;
  int64_t round_nanoseconds_ = 0;  // when the next one begins
  uint64_t round_ = 0;
  bool is_in_round_ = false;
  bool has_failed_ = false;  // in this round
  bool has_listed_ = false;  // a round without failures
  bool is_warm_ = false;
  uint64_t epoch_ = 0;
};

}  // namespace internal
}  // namespace store
}  // namespace udpgate

#endif  // UDPGATE_STORE_INTERNAL_FOLLOWER_H_
