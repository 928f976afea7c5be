#include "udpgate/internal/net/send_share.h"

#include <algorithm>

#include "udpgate/internal/net/socket_options.h"

namespace udpgate {
namespace internal {
namespace {

constexpr int64_t kWindowNanoseconds = 5'000'000;
constexpr int64_t kProbeNanosecondsMin = 100'000'000;
constexpr int64_t kProbeNanosecondsMax = 30'000'000'000;
// Probes in a row that leave the buffer before a session may send freely.
constexpr int kCalmProbes = 2;

// If the kernel does not report the fill level, no session is ever held.
constexpr uint64_t kLookNever = ~uint64_t{0};

}  // namespace

// The numbers of two sessions may agree in their low bits.
size_t SendShare::PlaceOf(uint64_t session) {
  static_assert(kSendersMax == 256, "the number of bits below");
  return (session * 0x9E3779B97F4A7C15u) >> 56;
}

SendShare::Sender* SendShare::Find(uint64_t session) {
  Sender& sender = senders_[PlaceOf(session)];
  return sender.session == session ? &sender : nullptr;
}

bool SendShare::IsTrusted(const Sender& sender) const {
  return sender.calm_bytes >= buffer_bytes_ / 4;
}

bool SendShare::MaySendInCrowd(uint64_t session, int64_t now_nanoseconds) {
  if (now_nanoseconds >= window_end_nanoseconds_) {
    Measure(now_nanoseconds);
    if (!is_crowded_) return true;
  }
  Sender* const sender = Find(session);
  if (sender == nullptr) return true;
  const bool is_nearly_full = queued_bytes_ >= buffer_bytes_ / 4 * 3;
  const uint32_t share_bytes = buffer_bytes_ / (is_nearly_full ? 32 : 8);
  if (!sender->is_held) {
    if (sender->charged_bytes < share_bytes) {
      // It is not known yet whether its last datagram has left.
      return sender->previous_bytes + sender->window_bytes <
             buffer_bytes_ / (IsTrusted(*sender) ? 4 : 16);
    }
    sender->is_held = true;
    sender->calm_bytes = 0;
    sender->calm_probe_count = 0;
    sender->probe_interval_nanoseconds = kProbeNanosecondsMin;
    sender->next_probe_nanoseconds = now_nanoseconds;
  }
  // One at a time, since it is not known whose datagrams stay.
  if (probing_session_ != 0 ||
      now_nanoseconds < sender->next_probe_nanoseconds) {
    return false;
  }
  probing_session_ = session;
  probe_window_count_ = 0;
  return true;
}

bool SendShare::NoteSender(uint64_t session, uint32_t bytes) {
  Sender& sender = senders_[PlaceOf(session)];
  if (sender.session != session) {
    // A session that is charged or has sent lately keeps its place.
    if (sender.charged_bytes > 0 || sender.window_bytes > 0 ||
        sender.previous_bytes > 0) {
      return false;
    }
    sender = Sender();
    sender.session = session;
  }
  sender.window_bytes += bytes + kDatagramOverheadBytes;
  return true;
}

void SendShare::Measure(int64_t now_nanoseconds) {
  const SendBufferUse use = ReadSendBufferUse(sys_calls_, fd_);
  unseen_bytes_ = 0;
  if (use.buffer_bytes == 0) {
    Clear();
    look_bytes_ = kLookNever;
    return;
  }
  buffer_bytes_ = use.buffer_bytes;
  queued_bytes_ = use.queued_bytes;
  look_bytes_ = buffer_bytes_ / 8;
  if (!is_filling_) {
    if (queued_bytes_ < buffer_bytes_ / 8) {
      Clear();
      return;
    }
    is_filling_ = true;
    previous_least_bytes_ = 0;
    BeginWindow(now_nanoseconds);
  }
  is_crowded_ = queued_bytes_ >= buffer_bytes_ / 8 * 3;
  window_least_bytes_ = std::min(window_least_bytes_, queued_bytes_);
  if (now_nanoseconds >= window_end_nanoseconds_) EndWindow(now_nanoseconds);
}

void SendShare::BeginWindow(int64_t now_nanoseconds) {
  window_end_nanoseconds_ = now_nanoseconds + kWindowNanoseconds;
  window_least_bytes_ = queued_bytes_;
}

// The least that was queued is what stays: more than that was on its way. What
// was sent in one window shows in the least of the next one.
void SendShare::EndWindow(int64_t now_nanoseconds) {
  const uint32_t least = window_least_bytes_;
  if (least < buffer_bytes_ / 8) {
    Clear();
    return;
  }
  if (least > previous_least_bytes_) {
    Charge(least - previous_least_bytes_);
  } else {
    Discharge(previous_least_bytes_ - least);
  }
  if (probing_session_ != 0 && ++probe_window_count_ == 2) {
    EndProbe(least <= previous_least_bytes_ + kDatagramOverheadBytes / 2,
             now_nanoseconds);
  }
  for (Sender& sender : senders_) {
    sender.previous_bytes = sender.window_bytes;
    sender.window_bytes = 0;
  }
  previous_least_bytes_ = least;
  BeginWindow(now_nanoseconds);
}

// First to those that have not shown yet that their datagrams leave.
void SendShare::Charge(uint32_t risen_bytes) {
  for (const bool is_trusted : {false, true}) {
    uint64_t sent_bytes = 0;
    for (const Sender& sender : senders_) {
      if (IsTrusted(sender) == is_trusted) sent_bytes += sender.previous_bytes;
    }
    if (sent_bytes == 0) continue;
    const uint64_t charged_bytes = std::min<uint64_t>(risen_bytes, sent_bytes);
    for (Sender& sender : senders_) {
      if (IsTrusted(sender) != is_trusted) continue;
      sender.charged_bytes += static_cast<uint32_t>(
          charged_bytes * sender.previous_bytes / sent_bytes);
    }
    risen_bytes -= static_cast<uint32_t>(charged_bytes);
  }
}

// What was sent in the window before has left. It is not known whose datagrams
// the other `drained_bytes` were: each session gets its part.
void SendShare::Discharge(uint32_t drained_bytes) {
  uint64_t charged_bytes = 0;
  for (Sender& sender : senders_) {
    sender.charged_bytes -=
        std::min(sender.charged_bytes, sender.previous_bytes);
    if (!sender.is_held) {
      sender.calm_bytes =
          std::min(sender.calm_bytes + sender.previous_bytes, buffer_bytes_);
    }
    charged_bytes += sender.charged_bytes;
  }
  if (charged_bytes == 0) return;
  const uint64_t drained = std::min<uint64_t>(drained_bytes, charged_bytes);
  for (Sender& sender : senders_) {
    sender.charged_bytes -=
        static_cast<uint32_t>(drained * sender.charged_bytes / charged_bytes);
  }
}

void SendShare::EndProbe(bool has_left, int64_t now_nanoseconds) {
  Sender* const sender = Find(probing_session_);
  probing_session_ = 0;
  if (sender == nullptr) return;
  if (has_left && ++sender->calm_probe_count >= kCalmProbes) {
    sender->is_held = false;
    sender->charged_bytes = 0;
    return;
  }
  if (has_left) {
    sender->probe_interval_nanoseconds = kProbeNanosecondsMin;
  } else {
    sender->calm_probe_count = 0;
    sender->probe_interval_nanoseconds =
        std::min(4 * sender->probe_interval_nanoseconds, kProbeNanosecondsMax);
  }
  sender->next_probe_nanoseconds =
      now_nanoseconds + sender->probe_interval_nanoseconds;
}

void SendShare::Clear() {
  if (is_filling_) senders_.fill(Sender());
  is_filling_ = false;
  is_crowded_ = false;
  probing_session_ = 0;
}

}  // namespace internal
}  // namespace udpgate
