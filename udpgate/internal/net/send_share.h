// Shares the send buffer of a listening socket among a worker's sessions, so
// that one client with a congested link does not take all of it.
#ifndef UDPGATE_INTERNAL_NET_SEND_SHARE_H_
#define UDPGATE_INTERNAL_NET_SEND_SHARE_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "udpgate/internal/net/sys_calls.h"

namespace udpgate {
namespace internal {

// A datagram occupies its socket's send buffer until the link has taken it
// (sock_wfree in net/core/sock.c of the kernel). The kernel tells how full the
// buffer is (SO_MEMINFO, socket(7)), and not with whose datagrams. This class
// estimates that. Time is divided into windows of 5 ms. By how much the least
// that was queued in a window exceeds that of the window before is charged to
// the sessions that sent in between, in proportion to their bytes. A session
// that has sent a quarter of the buffer while nothing stayed is trusted: it is
// charged only for what the others cannot have sent.
//
// While the buffer is less than an eighth full, nothing is done for a datagram,
// and the buffer is looked at once for each eighth of its size that was sent.
// While it is three eighths full, a session that is charged with an eighth of
// it (a thirty-second above three quarters) is held: it may send one datagram
// after 100 ms, and less often if that stays in the buffer, too. Two in a row
// that leave it release the session.
//
// One object for each listening socket of a worker. Threads: the owner of the
// shard only.
class SendShare {
 public:
  // A small datagram and its headers take this much of a send buffer
  // (SKB_TRUESIZE in include/linux/skbuff.h).
  static constexpr uint32_t kDatagramOverheadBytes = 768;

  // For the socket `fd`. `sys_calls` is not owned and must outlive this.
  SendShare(SysCalls* sys_calls, int fd) : sys_calls_(sys_calls), fd_(fd) {}

  // Whether a session may send one datagram more. `session` is its number,
  // never 0.
  bool MaySend(uint64_t session, int64_t now_nanoseconds) {
    return !is_crowded_ || MaySendInCrowd(session, now_nanoseconds);
  }

  // After a call that sent `count` datagrams with payloads of `bytes` in all.
  // True if the caller must now report each of them to `NoteSender`, and then
  // call `Measure`.
  bool NoteSent(int count, uint64_t bytes) {
    unseen_bytes_ += bytes + uint64_t{kDatagramOverheadBytes} * count;
    return is_filling_ || unseen_bytes_ >= look_bytes_;
  }
  // `bytes` of payload were sent for `session`. False if there is no room to
  // watch it: its datagrams may take more than their share.
  bool NoteSender(uint64_t session, uint32_t bytes);
  // Reads how full the buffer is, and ends the window if its time is over. If
  // the kernel does not tell, no session is ever held.
  void Measure(int64_t now_nanoseconds);

  // A send failed since the buffer was full. `NoteSent` returns true after the
  // next one that succeeds.
  void NoteFull() { unseen_bytes_ = look_bytes_; }

  // Whether the buffer is three eighths full.
  bool is_crowded() const { return is_crowded_; }

 private:
  // A session that has sent while the buffer was filling.
  struct Sender {
    uint64_t session = 0;         // 0: none
    uint32_t window_bytes = 0;    // sent in this window
    uint32_t previous_bytes = 0;  // and in the one before
    uint32_t charged_bytes = 0;
    uint32_t calm_bytes = 0;  // sent while nothing stayed, since it was held
    bool is_held = false;
    int calm_probe_count = 0;
    int64_t next_probe_nanoseconds = 0;
    int64_t probe_interval_nanoseconds = 0;
  };
  static constexpr size_t kSendersMax = 256;

  static size_t PlaceOf(uint64_t session);
  bool IsTrusted(const Sender& sender) const;
  bool MaySendInCrowd(uint64_t session, int64_t now_nanoseconds);
  Sender* Find(uint64_t session);
  void BeginWindow(int64_t now_nanoseconds);
  void EndWindow(int64_t now_nanoseconds);
  void Charge(uint32_t risen_bytes);
  void Discharge(uint32_t drained_bytes);
  void EndProbe(bool has_left, int64_t now_nanoseconds);
  void Clear();

  SysCalls* sys_calls_;
  int fd_;
  // Bytes that may be sent before the buffer is looked at. 0: its size is not
  // known yet.
  uint64_t look_bytes_ = 0;
  uint64_t unseen_bytes_ = 0;  // sent since it was looked at
  bool is_filling_ = false;
  bool is_crowded_ = false;
  uint32_t buffer_bytes_ = 0;
  uint32_t queued_bytes_ = 0;
  uint32_t window_least_bytes_ = 0;
  uint32_t previous_least_bytes_ = 0;
  int64_t window_end_nanoseconds_ = 0;
  uint64_t probing_session_ = 0;  // 0: none
  int probe_window_count_ = 0;    // windows that ended since it was sent
  // By a hash of the session's number. If the place is taken by another session
  // that has sent lately or is charged, a session is not watched.
  std::array<Sender, kSendersMax> senders_;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_INTERNAL_NET_SEND_SHARE_H_
