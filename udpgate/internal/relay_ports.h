// The gate's own source addresses and ports towards backends: which are free,
// and whose session each of the others is.
#ifndef UDPGATE_INTERNAL_RELAY_PORTS_H_
#define UDPGATE_INTERNAL_RELAY_PORTS_H_

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
#include "udpgate/internal/handover.h"
#include "udpgate/internal/mutex.h"
#include "udpgate/internal/session_ref.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// The ports that the system leaves to programs for outgoing traffic:
// net.ipv4.ip_local_port_range without net.ipv4.ip_local_reserved_ports
// (Linux Documentation/networking/ip-sysctl.rst), shuffled; the kernel's
// defaults where /proc does not say.
std::vector<uint16_t> LocalPortRange();

// Parses the text of ip_local_reserved_ports, such as "80,100-200"; what does
// not parse is skipped.
std::vector<bool> ParseReservedPorts(absl::string_view text);

// A session of the whole gate.
struct RelayOwner {
  uint32_t shard;
  SessionRef session;
};

struct RelayPortsOptions {
  // Source addresses to use in turn, each with all ports, towards backends of
  // their family; their own ports are ignored. Empty for a family: the address
  // that the system's routes choose. None may be a wildcard.
  std::vector<SocketAddress> bind_addresses;

  // How long a port on which a backend has answered is left alone while there
  // are others, since the backend may still take it for the old player. 0: it
  // rests like any other.
  int64_t quarantine_nanoseconds = 30'000'000'000;
};

// What became of a port that is given back.
enum class PortFate {
  // Nothing has come back on it: no backend knows it, as with a flood's.
  kUnanswered,
  // A backend has answered on it.
  kAnswered,
  // It could not be bound: another program has it.
  kBusy,
};

// Chosen here and not by the kernel for two reasons. A port that has been
// given up is used again as late as possible, since the backend may still take
// it for the old player. And a backend that knows only the port can name the
// session with it: no two sessions share one, whatever their source addresses,
// while any port is left that no session has and that does not rest at the
// address in question.
//
// A port rests at one address: there it is quarantined, or some other program
// has it. Elsewhere no backend has met it, and it can be taken.
//
// Memory: some 25 bytes a port, at most 100 more for each that an address has
// in use and 16 for each at rest there; no port has an allocation of its own.
//
// Threads: any. One lock for the whole gate, taken only when a session begins
// or ends or when a disconnect names a port. Times are a monotonic clock's; one
// that lags behind another thread's does no harm.
class RelayPorts {
 public:
  // `ports` in the order in which to take them first; each counts once.
  explicit RelayPorts(const std::vector<uint16_t>& ports,
                      const RelayPortsOptions& options = RelayPortsOptions());
  RelayPorts(const RelayPorts&) = delete;
  RelayPorts& operator=(const RelayPorts&) = delete;

  // Whether `bind_addresses` has one of this family.
  bool HasBindAddress(int family) const;
  // Source addresses that `Take` chooses from, of this family.
  size_t SourceCount(int family) const;

  // Sockets towards backends of one family at most, of the one that has more
  // `bind_addresses`; where there are none, as many as one address has ports.
  // Those in quarantine are among them; what other programs hold is not known.
  int64_t capacity() const;

  // A source address and a port for a new socket, noted as `owner`'s: the next
  // of `bind_addresses` that has the family of `route_source`, or
  // `route_source` itself where there is none, and but for those in `avoided`
  // (with port 0). Nothing where none is left.
  //
  // What is taken first: the port given up longest ago that no session has and
  // that rests nowhere; one that rests at other addresses; one that sessions at
  // other addresses have; the one longest in quarantine, and that is counted;
  // the one longest held by another program. With `is_ours_first` the one
  // longest in quarantine goes before all: it was ours, and probably still is
  // where other programs hold many. Without `takes_busy` none of those that
  // other programs were found to hold lately.
  absl::optional<SocketAddress> Take(
      const SocketAddress& route_source, const RelayOwner& owner,
      int64_t now_nanoseconds, absl::Span<const SocketAddress> avoided = {},
      bool is_ours_first = false, bool takes_busy = true);

  // Only after its socket is closed. A port that was taken out of quarantine
  // goes back there, unless its time is over. Ignored where it is not taken.
  void GiveBack(const SocketAddress& relay, PortFate fate,
                int64_t now_nanoseconds);

  // From another process, before the first Take. A port that a session has
  // there; false where it has one here already. One that `ports` has not is in
  // no one's way: it is not noted, and `Find` does not know it.
  bool AdoptUse(const SocketAddress& relay, const RelayOwner& owner);
  // Ports in quarantine there, the oldest first.
  void AdoptQuarantined(absl::Span<const HandedPort> ports);
  // Those in quarantine here, the oldest first.
  std::vector<HandedPort> Quarantined() const;

  // The sessions that relay from this port, normally one or none.
  std::vector<RelayOwner> Find(uint16_t port) const;

  // Ports that are taken, counted once for each source address. Takes no lock.
  int64_t in_use() const { return in_use_.load(std::memory_order_relaxed); }
  // Ports in quarantine, counted likewise.
  int64_t quarantined(int64_t now_nanoseconds) const;
  // How often one of them had to be taken. Takes no lock.
  uint64_t quarantined_ports_taken() const {
    return quarantined_ports_taken_.load(std::memory_order_relaxed);
  }

 private:
  // A port by its place in `ports_`.
  struct Rest {
    int64_t since_nanoseconds;
    uint16_t port_index;
  };
  using RestRow = std::deque<Rest>;  // the oldest first

  struct Use {
    RelayOwner owner;
    // Later than the time of giving up: it goes back to quarantine.
    int64_t quarantined_until_nanoseconds;
  };

  struct Source {
    SocketAddress ip;  // port 0
    bool is_bind_address;
    int64_t use_count = 0;
    // A bit a port: in use or at rest here.
    std::vector<uint64_t> is_unavailable;
    RestRow quarantined;
    RestRow busy;
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
  // Fills `candidates_`, the one whose turn it is first.
  void FindCandidates(const SocketAddress& route_source,
                      absl::Span<const SocketAddress> avoided)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the rest of what has rested long enough, a bounded number; of one row
  // of one source.
  void EndRests() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndRestsOf(Source* source, RestRow Source::*row)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void BeginRest(Source* source, RestRow Source::*row, uint16_t port_index)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t RestNanoseconds(RestRow Source::*row) const;
  bool IsFree(uint16_t port_index) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::optional<Choice> Choose(bool is_ours_first, bool takes_busy)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::optional<uint16_t> TakeFree() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteUse(size_t source, uint16_t port_index, const Use& use)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::optional<uint16_t> IndexOfAdopted(uint16_t port)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A port that rests at other addresses, or is in use there. The lowest bit of
  // a word first, so that few ports are shared by many and not many by few.
  absl::optional<Choice> FindUnique() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::optional<Choice> FindShared() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  size_t NextSearchWord() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::optional<Choice> TakeOldest(RestRow Source::*row)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  std::vector<uint16_t> ports_;  // fixed from the first Take on
  const int64_t quarantine_nanoseconds_;
  std::vector<uint16_t> index_by_port_;  // where `ports_` has it
  std::vector<size_t> ipv4_bind_sources_;
  std::vector<size_t> ipv6_bind_sources_;

  mutable Mutex mutex_;
  int64_t latest_nanoseconds_ ABSL_GUARDED_BY(mutex_) = INT64_MIN;
  std::vector<Source> sources_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<SocketAddress, size_t> source_by_ip_
      ABSL_GUARDED_BY(mutex_);
  // Whose turn it is, of each family.
  size_t ipv4_turn_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t ipv6_turn_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<uint32_t, Use> uses_ ABSL_GUARDED_BY(mutex_);

  // For each port, at how many addresses it is in use, and at rest.
  std::vector<uint16_t> use_counts_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint16_t> rest_counts_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint64_t> is_used_somewhere_ ABSL_GUARDED_BY(mutex_);
  // Ports with both counts 0: those from here on were never taken; those that
  // were given up without a rest, and those whose rest is over.
  size_t never_taken_ ABSL_GUARDED_BY(mutex_) = 0;
  RestRow given_up_ ABSL_GUARDED_BY(mutex_);
  RestRow rested_ ABSL_GUARDED_BY(mutex_);
  // No rest ends before this.
  int64_t next_end_nanoseconds_ ABSL_GUARDED_BY(mutex_) = INT64_MAX;
  // Where the search for a port that is free at one address was last, in the
  // bits: what is given up there rests until it comes round.
  size_t search_word_ ABSL_GUARDED_BY(mutex_) = 0;
  // Scratch space of Take.
  std::vector<size_t> candidates_ ABSL_GUARDED_BY(mutex_);

  std::atomic<int64_t> in_use_{0};
  std::atomic<uint64_t> quarantined_ports_taken_{0};
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_RELAY_PORTS_H_
