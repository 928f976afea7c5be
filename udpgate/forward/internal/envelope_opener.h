// Opens the envelopes that arrive, each at most once.
#ifndef UDPGATE_FORWARD_INTERNAL_ENVELOPE_OPENER_H_
#define UDPGATE_FORWARD_INTERNAL_ENVELOPE_OPENER_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "udpgate/forward/envelope_keys.h"
#include "udpgate/forward/internal/envelope.h"
#include "udpgate/forward/internal/replay_window.h"

namespace udpgate {
namespace forward {
namespace internal {

// A sender is known once an envelope of it was opened. Anybody can invent
// senders, and to try one takes microseconds: so many a second are tried, and
// none is remembered.
//
// Threads: one at a time.
class EnvelopeOpener {
 public:
  // The senders of a fleet: one for each worker of each gateway. If there are
  // more the one silent longest is forgotten.
  static constexpr size_t kSendersMax = 4096;
  static constexpr int kTrialsPerSecond = 2000;
  // How far the clocks of two gateways may differ. Within this time an envelope
  // can be repeated, once, at a gateway that has started since.
  static constexpr int64_t kClockSecondsMax = 30;

  enum class Verdict {
    kOpened,
    kInvalid,    // no envelope, or a sender that cannot be tried now
    kWrongSeal,  // it looks like one, and has another key or was changed
    kWrongTime,  // its sender's clock differs, if nobody repeats an old one
    kReplayed,   // it came before, or is too old to know
  };

  // `keys` must outlive it.
  explicit EnvelopeOpener(EnvelopeKeys* keys) : keys_(keys) {}
  EnvelopeOpener(const EnvelopeOpener&) = delete;
  EnvelopeOpener& operator=(const EnvelopeOpener&) = delete;

  // Opens `datagram` in place. `envelope` is set if it could be opened, and
  // points into it.
  Verdict Open(absl::Span<char> datagram, int64_t unix_seconds,
               Envelope* envelope);

  size_t sender_count() const { return senders_.size(); }

 private:
  struct Sender {
    std::unique_ptr<EnvelopeCipher> cipher;
    ReplayWindow window;
    int64_t last_seconds = 0;
  };

  bool MayTry(int64_t unix_seconds);
  void Remember(uint64_t sender_id, std::unique_ptr<Sender> sender);

  EnvelopeKeys* const keys_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Sender>> senders_;
  int64_t trial_second_ = 0;
  int trials_ = 0;
};

}  // namespace internal
}  // namespace forward
}  // namespace udpgate

#endif  // UDPGATE_FORWARD_INTERNAL_ENVELOPE_OPENER_H_
