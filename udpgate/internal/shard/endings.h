// Ends sessions: disconnect events, timeouts, errors of clients, shutdown.
#ifndef UDPGATE_INTERNAL_SHARD_ENDINGS_H_
#define UDPGATE_INTERNAL_SHARD_ENDINGS_H_

#include <cstdint>

#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "udpgate/internal/session/session_table.h"
#include "udpgate/internal/shard/address_validation.h"
#include "udpgate/internal/shard/inbox.h"
#include "udpgate/internal/shard/lifecycle.h"
#include "udpgate/internal/shard/shard_context.h"
#include "udpgate/proxy_stats.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace internal {

// Ends that can wait are paced: after an iteration with such ends there is a
// break of three times as long as they took. Closing thousands of sockets at
// once would keep a processor from the other sessions' datagrams for a good
// part of a second.
//
// Threads: the owner of the shard only.
class Endings {
 public:
  // Sessions that one iteration ends for disconnects, and for each timeout. An
  // end costs some ten times what a datagram costs.
  static constexpr int kEndsPerIteration = 3;

  // A break is so many times as long as the ends before it took. The upper
  // bound is for an end that the scheduler stretched.
  static constexpr int64_t kBreakFactor = 3;
  static constexpr int64_t kBreakNanosecondsMax = 1'000'000;

  // The idle sweep visits all sessions so often within a timeout: a session is
  // found idle at 1.0 to 1.125 times the timeout, which leaves as much again
  // for a busy machine.
  static constexpr int64_t kSweepsPerTimeout = 8;

  // ICMP errors of a client's host count if the client has been silent for so
  // long, and one in so much time: forged ones end no live session.
  static constexpr int64_t kClientQuietNanoseconds = 5'000'000'000;
  static constexpr int64_t kClientRefusalNanoseconds = 1'000'000'000;

  // All must outlive it.
  Endings(ShardContext* shard, Lifecycle* lifecycle,
          AddressValidation* validation)
      : shard_(shard), lifecycle_(lifecycle), validation_(validation) {}
  Endings(const Endings&) = delete;
  Endings& operator=(const Endings&) = delete;

  // After the limits have changed.
  void ApplyLimits();

  // Whether there is a break now. Disconnects and expiry wait meanwhile.
  bool is_pacing() const {
    return shard_->now_nanoseconds < break_end_nanoseconds_;
  }
  // At the end of an iteration: begins a break if sessions were ended.
  void UpdatePacing();
  // When the next session may expire, or the break ends.
  int64_t NextDeadline() const;

  // One that names many sessions is done in slices.
  void HandleDisconnect(ShardMessage* message);
  // Tells the sender that it is done.
  void ReportDone(int64_t ended_count, ShardMessage* message);
  // The host of `client` has refused a reply (ICMP).
  void HandleClientRefused(const SocketAddress& client);

  // Ends unconfirmed sessions that were silent for too long, and those whose
  // backend or client, or both, were.
  void ExpireUnconfirmed();
  void ExpireSilent();

  // Another gateway has the sessions. Ends all that live now, in slices: by
  // EndSuperseded in further iterations.
  void SupersedeAll();
  void EndSuperseded();
  // Whether the session waits for that.
  bool IsSuperseded(const Session& session) const {
    return session.id <= superseded_id_max_;
  }
  // Ends all that wait, or these, at once.
  void EndAllSuperseded();
  void Supersede(const absl::flat_hash_set<uint64_t>& ids);

  // Ends all sessions at once, at shutdown.
  void EndAll();

 private:
  void EndPaced(EndReason end, Session** session,
                DropReason held_drop = DropReason::kSessionEnded);
  void DisconnectOne(ShardMessage* message);
  void DisconnectMany(ShardMessage* message);
  bool EndOneOfMany(const ShardMessage& message, Session** session);
  bool DisconnectOneOfMany(const ShardMessage& message, Session** session);
  int64_t UnconfirmedDeadline(const Session& session) const;
  int64_t SweepPeriodNanoseconds() const;
  bool SweepSlots(uint32_t end_slot, int* ended_count);
  absl::optional<EndReason> SilenceOf(const Session& session) const;
  bool IsOver(int64_t since_nanoseconds, absl::Duration timeout) const;
  void ReportSilence(const Session& session);

  ShardContext* const shard_;
  Lifecycle* const lifecycle_;
  AddressValidation* const validation_;
  // What this iteration took for paced ends; and until when the break lasts.
  int64_t ends_nanoseconds_ = 0;
  int64_t break_end_nanoseconds_ = 0;
  // The idle sweep: the next slot to look at, and when.
  uint32_t sweep_slot_ = 0;
  int64_t next_sweep_nanoseconds_ = 0;
  // Sessions with ids up to this one are superseded, and those in the slots
  // before the other have ended. 0: none are.
  uint64_t superseded_id_max_ = 0;
  uint32_t superseded_slot_ = 0;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_SHARD_ENDINGS_H_
