// Removes records that nobody else removes: of dead gateways that a disconnect
// event names, and of ended sessions of this gateway.
#ifndef UDPGATE_STORE_INTERNAL_PURGE_H_
#define UDPGATE_STORE_INTERNAL_PURGE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "udpgate/disconnect_source.h"
#include "udpgate/session_store.h"
#include "udpgate/store/internal/disconnect_memory.h"
#include "udpgate/store/internal/keeper_context.h"
#include "udpgate/store/internal/records.h"
#include "udpgate/store/internal/store_calls.h"

namespace udpgate {
namespace store {
namespace internal {

// Threads: one.
class Purge {
 public:
  // Clients that wait; further ones are left to the memory of events, which
  // keeps their records from being used.
  static constexpr size_t kClientsMax = 65'536;

  // All must outlive it.
  Purge(KeeperContext* context, StoreCalls* calls, DisconnectMemory* memory,
        Records* records);
  Purge(const Purge&) = delete;
  Purge& operator=(const Purge&) = delete;

  // Looks at the records that the event may name: now, and again when the lease
  // of an owner has run out that has died just before.
  void OnDisconnect(const DisconnectTarget& target);

  // Looks soon for records of this run without a session.
  void RemoveGhosts() { ghosts_nanoseconds_ = context_->now_nanoseconds; }

  void Tick();
  int64_t next_nanoseconds() const;
  bool IsIdle() const;

 private:
  void Look(const SocketAddress& client);
  void FindSome();
  void ScanGateways();
  void ScanNextGateway();
  void Judge(const SessionStore::Found& found);
  void RemoveSome();
  void ListOwn();

  KeeperContext* const context_;
  StoreCalls* const calls_;
  DisconnectMemory* const memory_;
  Records* const records_;
  std::deque<SocketAddress> clients_;
  std::deque<std::pair<int64_t, SocketAddress>> later_;
  std::deque<SessionStore::SessionKey> removals_;
  // When the records of dead gateways are looked at; kNever: not.
  int64_t scan_nanoseconds_ = kNever;
  int64_t second_scan_nanoseconds_ = kNever;
  int64_t last_scan_nanoseconds_ = 0;
  bool is_scanning_ = false;
  std::deque<std::string> gateways_;  // of this scan
  int64_t ghosts_nanoseconds_ = kNever;
};

}  // namespace internal
}  // namespace store
}  // namespace udpgate

#endif  // UDPGATE_STORE_INTERNAL_PURGE_H_
