#include "udpgate/forward/internal/envelope_opener.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/types/optional.h"

namespace udpgate {
namespace forward {
namespace internal {

EnvelopeOpener::Verdict EnvelopeOpener::Open(absl::Span<char> datagram,
                                             int64_t unix_seconds,
                                             Envelope* envelope) {
  const absl::optional<EnvelopeHeader> header = ReadHeader(datagram);
  if (!header.has_value()) return Verdict::kInvalid;
  if (std::abs(unix_seconds - int64_t{header->sent_seconds}) >
      kClockSecondsMax) {
    return Verdict::kWrongTime;
  }
  std::unique_ptr<Sender> stranger;
  const auto found = senders_.find(header->sender_id);
  Sender* sender = found == senders_.end() ? nullptr : found->second.get();
  if (sender == nullptr) {
    if (!MayTry(unix_seconds)) return Verdict::kInvalid;
    stranger = std::make_unique<Sender>();
    stranger->cipher = keys_->CipherOf(header->sender_id);
    if (stranger->cipher == nullptr) return Verdict::kInvalid;
    sender = stranger.get();
  }
  if (!sender->window.IsNew(header->counter)) return Verdict::kReplayed;
  const absl::optional<Envelope> opened =
      OpenEnvelope(*header, sender->cipher.get(), datagram);
  if (!opened.has_value()) return Verdict::kWrongSeal;
  sender->window.Note(header->counter);
  sender->last_seconds = unix_seconds;
  if (stranger != nullptr) Remember(header->sender_id, std::move(stranger));
  *envelope = *opened;
  return Verdict::kOpened;
}

bool EnvelopeOpener::MayTry(int64_t unix_seconds) {
  if (trial_second_ != unix_seconds) {
    trial_second_ = unix_seconds;
    trials_ = 0;
  }
  return ++trials_ <= kTrialsPerSecond;
}

void EnvelopeOpener::Remember(uint64_t sender_id,
                              std::unique_ptr<Sender> sender) {
  if (senders_.size() >= kSendersMax) {
    senders_.erase(std::min_element(
        senders_.begin(), senders_.end(), [](const auto& a, const auto& b) {
          return a.second->last_seconds < b.second->last_seconds;
        }));
  }
  senders_[sender_id] = std::move(sender);
}

}  // namespace internal
}  // namespace forward
}  // namespace udpgate
