// The source addresses and ports of upstream sockets: which are free, and which
// session has each of the others.
#ifndef UDPGATE_INTERNAL_SESSION_RELAY_PORTS_H_
#define UDPGATE_INTERNAL_SESSION_RELAY_PORTS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "udpgate/internal/session/handover.h"
#include "udpgate/internal/session/session_ref.h"
#include "udpgate/internal/util/mutex.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// The ports that the system uses for outgoing traffic:
// net.ipv4.ip_local_port_range without net.ipv4.ip_local_reserved_ports
// (Linux Documentation/networking/ip-sysctl.rst), shuffled; the kernel's
// defaults if /proc cannot be read.
std::vector<uint16_t> LocalPortRange();

// Parses the text of ip_local_reserved_ports, such as "80,100-200"; invalid
// parts are skipped.
std::vector<bool> ParseReservedPorts(absl::string_view text);

// A session, and the shard that has it.
struct RelayOwner {
  uint32_t shard;
  SessionRef session;
};

struct RelayPortsOptions {
  // Source addresses, used in rotation, each with all ports, for backends of
  // their family; the ports in them are ignored. Empty for a family: the
  // address that the system's routes choose. None may be a wildcard.
  std::vector<SocketAddress> bind_addresses;

  // Quarantine: how long a port on which a backend has replied is not reused
  // while there are others, since the backend may still take it for the old
  // client. 0: none.
  int64_t quarantine_nanoseconds = 30'000'000'000;
};

// What happened on a port that is released.
enum class PortFate {
  // No backend has replied on it, as in a flood.
  kUnanswered,
  // A backend has replied on it.
  kAnswered,
  // It could not be bound: another program has it.
  kBusy,
};

// The gateway chooses ports itself for two reasons. A released port is reused
// as late as possible, since the backend may still take it for the old client.
// And a backend that knows only the port can name the session by it: no two
// sessions share a port, even with different source addresses, while there is a
// port that no session has and that is not blocked at the source address.
//
// A port is blocked at one address: it is in quarantine there, or another
// program has it. At other addresses it can be used.
//
// Memory: some 25 bytes a port, and for each address at most 100 for a port in
// use and 16 for a blocked one; no port has an allocation of its own.
//
// Threads: any. One lock for the whole gateway, taken only if a session gets a
// socket or ends, or if a disconnect names a port. Times are from a monotonic
// clock; one thread's may be slightly behind another's.
class RelayPorts {
 public:
  // `ports` in the order of their first use; duplicates are ignored.
  explicit RelayPorts(const std::vector<uint16_t>& ports,
                      const RelayPortsOptions& options = RelayPortsOptions());
  RelayPorts(const RelayPorts&) = delete;
  RelayPorts& operator=(const RelayPorts&) = delete;

  // Whether `bind_addresses` has one of this family.
  bool HasBindAddress(int family) const;
  // Source addresses that `Take` chooses from, of this family.
  size_t SourceCount(int family) const;

  // The most upstream sockets of one family: the one with more
  // `bind_addresses`. Without `bind_addresses`, the ports of one address.
  // Includes ports in quarantine and those of other programs, which are not
  // known.
  int64_t capacity() const;

  // A source address and a port for a new socket, recorded as that of `owner`.
  // The address is the next of `bind_addresses` in the family of
  // `route_source`, or `route_source` if there is none, and never one of
  // `avoided` (with port 0). Nothing if no port is left.
  //
  // Order of preference: the port released longest ago that is neither in use
  // nor blocked at any address; one that is blocked at other addresses; one in
  // use at other addresses; the one longest in quarantine, which is counted;
  // the one longest known as another program's. `is_ours_first`: the one
  // longest in quarantine comes first, since it is probably available even if
  // other programs have many. Without `takes_busy`: none that another program
  // recently had.
  absl::optional<SocketAddress> Take(
      const SocketAddress& route_source, const RelayOwner& owner,
      int64_t now_nanoseconds, absl::Span<const SocketAddress> avoided = {},
      bool is_ours_first = false, bool takes_busy = true);

  // Takes exactly this address and port, out of quarantine too: it is the same
  // player's again. False if a session or another program has it, or if `Take`
  // would not choose the address. The port may be another session's at another
  // address.
  bool TakeExactly(const SocketAddress& relay,
                   const SocketAddress& route_source, const RelayOwner& owner,
                   int64_t now_nanoseconds);

  // Releases a port, after its socket was closed. A port that was taken out of
  // quarantine returns there, unless that time is over. Ignored if it is not
  // taken.
  void GiveBack(const SocketAddress& relay, PortFate fate,
                int64_t now_nanoseconds);

  // In a takeover, before the first Take. A session of the old process has this
  // port; false if another session here has it. A port that is not in `ports`
  // is not recorded, and `Find` does not find it.
  bool AdoptUse(const SocketAddress& relay, const RelayOwner& owner);
  // Ports in quarantine in the old process, the oldest first.
  void AdoptQuarantined(absl::Span<const HandedPort> ports);
  // Ports in quarantine, the oldest first.
  std::vector<HandedPort> Quarantined() const;

  // The sessions with this source port, usually one or none.
  std::vector<RelayOwner> Find(uint16_t port) const;

  // Ports in use, counted for each source address. Takes no lock.
  int64_t in_use() const { return in_use_.load(std::memory_order_relaxed); }
  // Ports in quarantine, counted in the same way.
  int64_t quarantined(int64_t now_nanoseconds) const;
  // How often one was taken out of quarantine. Takes no lock.
  uint64_t quarantined_ports_taken() const {
    return quarantined_ports_taken_.load(std::memory_order_relaxed);
  }

 private:
  // A port that is not in use, by its index in `ports_`, and since when.
  struct BlockedPort {
    int64_t since_nanoseconds;
    uint16_t port_index;
  };
  using BlockedQueue = std::deque<BlockedPort>;  // the oldest first

  struct Use {
    RelayOwner owner;
    // If this is later than the release, the port returns to quarantine.
    int64_t quarantined_until_nanoseconds;
  };

  struct Source {
    SocketAddress ip;  // port 0
    bool is_bind_address;
    int64_t use_count = 0;
    // One bit a port: in use or blocked at this address.
    std::vector<uint64_t> is_unavailable;
    BlockedQueue quarantined;
    BlockedQueue busy;
  };

  struct Choice {
    size_t source;
    uint16_t port_index;
    int64_t quarantined_until_nanoseconds = 0;
  };

  // The key of `uses_`.
  static uint32_t Key(size_t source, uint16_t port_index) {
    return (static_cast<uint32_t>(source) << 16) | port_index;
  }

  void Advance(int64_t now_nanoseconds) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  size_t FindOrAddSource(const SocketAddress& ip)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AddSource(const SocketAddress& ip, bool is_bind_address)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Fills `candidates_`, in the order of the rotation.
  void FindCandidates(const SocketAddress& route_source,
                      absl::Span<const SocketAddress> avoided)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Unblocks ports whose time is over, a bounded number; the second one those
  // of one queue of one source.
  void UnblockDue() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void UnblockOf(Source* source, BlockedQueue Source::*row)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Block(Source* source, BlockedQueue Source::*row, uint16_t port_index)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t BlockNanoseconds(BlockedQueue Source::*row) const;
  bool IsFree(uint16_t port_index) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::optional<Choice> Choose(bool is_ours_first, bool takes_busy)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::optional<uint16_t> TakeFree() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteUse(size_t source, uint16_t port_index, const Use& use)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::optional<uint16_t> IndexOfKnown(uint16_t port)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsSource(const SocketAddress& ip,
                const SocketAddress& route_source) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A port that is blocked at other addresses, or in use there. The lowest bit
  // of a word first, so that few ports are shared, by many sessions.
  absl::optional<Choice> FindUnique() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::optional<Choice> FindShared() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  size_t NextSearchWord() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes a port out of a queue, wherever it is in it.
  static absl::optional<BlockedPort> TakeOut(uint16_t port_index,
                                             BlockedQueue* queue);
  absl::optional<Choice> TakeOldest(BlockedQueue Source::*row)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Elements change their places with the lock held, and only those that were
  // never taken.
  std::vector<uint16_t> ports_;
  const int64_t quarantine_nanoseconds_;
  std::vector<uint16_t> index_by_port_;  // index in `ports_` by port, likewise
  std::vector<size_t> ipv4_bind_sources_;
  std::vector<size_t> ipv6_bind_sources_;

  mutable Mutex mutex_;
  int64_t latest_nanoseconds_ ABSL_GUARDED_BY(mutex_) = INT64_MIN;
  std::vector<Source> sources_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<SocketAddress, size_t> source_by_ip_
      ABSL_GUARDED_BY(mutex_);
  // The next address of the rotation, by family.
  size_t ipv4_next_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t ipv6_next_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<uint32_t, Use> uses_ ABSL_GUARDED_BY(mutex_);

  // For each port, at how many addresses it is in use, and blocked.
  std::vector<uint16_t> use_counts_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint16_t> blocked_counts_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> is_used_somewhere_ ABSL_GUARDED_BY(mutex_);
  // Ports with both counts 0: those from index `never_taken_` on; those that
  // were released without being blocked; those that were unblocked.
  size_t never_taken_ ABSL_GUARDED_BY(mutex_) = 0;
  BlockedQueue released_ ABSL_GUARDED_BY(mutex_);
  BlockedQueue unblocked_ ABSL_GUARDED_BY(mutex_);
  // No port is unblocked before this.
  int64_t next_unblock_nanoseconds_ ABSL_GUARDED_BY(mutex_) = INT64_MAX;
  // Where the last search for a port that is free at one address ended, as an
  // index of a word: a port released there is reused last.
  size_t search_word_ ABSL_GUARDED_BY(mutex_) = 0;
  // Scratch space of Take.
  std::vector<size_t> candidates_ ABSL_GUARDED_BY(mutex_);

  std::atomic<int64_t> in_use_{0};
  std::atomic<uint64_t> quarantined_ports_taken_{0};
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SESSION_RELAY_PORTS_H_
