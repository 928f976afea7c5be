// A link between two network namespaces that delays: what goes in at one end
// comes out at the other so many milliseconds later, in order.
//
//   delay --milliseconds 50 NAMESPACE_A INTERFACE_A NAMESPACE_B INTERFACE_B
//
// Makes a tap interface (tuntap(4), Documentation/networking/tuntap.rst) in
// each of the two namespaces of `ip netns`, writes `ready` to standard output,
// and carries Ethernet frames between them until SIGTERM or SIGINT. Then it
// writes how many frames it carried, and how many found its queue full or could
// not be written. The kernels that the tests run on have no netem(8).
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "udpgate/internal/util/unique_fd.h"

namespace udpgate {
namespace {

constexpr int64_t kNanosecondsPerMillisecond = 1000000;
constexpr int64_t kNanosecondsPerSecond = 1000000000;
// An MTU of 1500, and the Ethernet header, with a VLAN tag.
constexpr size_t kFrameBytesMax = 1518;
// Of each direction: 50 ms of 3 Gbit/s.
constexpr size_t kFramesMax = 16384;
// Frames of one direction that are read before the other has its turn.
constexpr int kReadsMax = 64;

int64_t NowNanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kNanosecondsPerSecond + now.tv_nsec;
}

[[noreturn]] void Fail(const std::string& what) {
  fprintf(stderr, "delay: %s: %s\n", what.c_str(), strerror(errno));
  exit(1);
}

// A tap interface of a namespace of `ip netns`. Moves this thread there.
internal::UniqueFd OpenTap(const std::string& network_namespace,
                           const std::string& interface_name) {
  const std::string path = "/run/netns/" + network_namespace;
  internal::UniqueFd space(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (space.get() < 0 || setns(space.get(), CLONE_NEWNET) != 0) Fail(path);
  internal::UniqueFd tap(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (tap.get() < 0) Fail("/dev/net/tun");
  ifreq request = {};
  if (interface_name.size() >= sizeof(request.ifr_name)) {
    errno = ENAMETOOLONG;
    Fail(interface_name);
  }
  memcpy(request.ifr_name, interface_name.data(), interface_name.size());
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (ioctl(tap.get(), TUNSETIFF, &request) != 0) Fail(interface_name);
  return tap;
}

// One direction: what is read from one end waits in a ring until it is due.
class Direction {
 public:
  Direction(int from, int to, int64_t delay_nanoseconds)
      : from_(from),
        to_(to),
        delay_nanoseconds_(delay_nanoseconds),
        ring_(kFramesMax) {}

  int from() const { return from_; }
  uint64_t carried() const { return carried_; }
  uint64_t dropped() const { return dropped_; }

  void ReadFrames() {
    for (int i = 0; i < kReadsMax; ++i) {
      const bool full = count_ == ring_.size();
      Frame* frame = full ? &spare_ : &ring_[(first_ + count_) % ring_.size()];
      const ssize_t size = read(from_, frame->bytes, sizeof(frame->bytes));
      if (size < 0) {
        // EIO and EBADFD: the interface is down.
        if (errno == EAGAIN || errno == EINTR || errno == EIO ||
            errno == EBADFD) {
          return;
        }
        Fail("read");
      }
      if (full) {
        ++dropped_;
        continue;
      }
      frame->size = static_cast<size_t>(size);
      frame->due_nanoseconds = NowNanoseconds() + delay_nanoseconds_;
      ++count_;
    }
  }

  void WriteDueFrames() {
    while (count_ > 0) {
      const Frame& frame = ring_[first_];
      if (frame.due_nanoseconds > NowNanoseconds()) return;
      const ssize_t size = write(to_, frame.bytes, frame.size);
      ++(size == static_cast<ssize_t>(frame.size) ? carried_ : dropped_);
      first_ = (first_ + 1) % ring_.size();
      --count_;
    }
  }

  // When the next frame is due; `otherwise` where none waits.
  int64_t NextDue(int64_t otherwise) const {
    return count_ > 0 ? ring_[first_].due_nanoseconds : otherwise;
  }

 private:
  struct Frame {
    int64_t due_nanoseconds;
    size_t size;
    char bytes[kFrameBytesMax];
  };

  const int from_;
  const int to_;
  const int64_t delay_nanoseconds_;
  std::vector<Frame> ring_;
  size_t first_ = 0;
  size_t count_ = 0;
  Frame spare_;
  uint64_t carried_ = 0;
  uint64_t dropped_ = 0;
};

volatile sig_atomic_t stopping = 0;

void Stop(int) { stopping = 1; }

void Relay(Direction* there, Direction* back) {
  // Signals come only while ppoll waits, so that none is missed.
  sigset_t blocked, waiting;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  sigaddset(&blocked, SIGINT);
  sigprocmask(SIG_BLOCK, &blocked, &waiting);
  struct sigaction action = {};
  action.sa_handler = Stop;
  sigaction(SIGTERM, &action, nullptr);
  sigaction(SIGINT, &action, nullptr);
  // The default slack of timers, 50 us, would be part of the delay.
  prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);

  printf("ready\n");
  fflush(stdout);
  while (stopping == 0) {
    const int64_t now = NowNanoseconds();
    const int64_t due =
        there->NextDue(back->NextDue(now + kNanosecondsPerSecond));
    const int64_t next = std::min(due, back->NextDue(due));
    const int64_t wait = std::max<int64_t>(next - now, 0);
    const timespec timeout = {wait / kNanosecondsPerSecond,
                              wait % kNanosecondsPerSecond};
    pollfd ends[] = {{there->from(), POLLIN, 0}, {back->from(), POLLIN, 0}};
    if (ppoll(ends, 2, &timeout, &waiting) < 0 && errno != EINTR) Fail("ppoll");
    for (Direction* direction : {there, back}) {
      direction->ReadFrames();
      direction->WriteDueFrames();
    }
  }
}

int Main(int argc, char** argv) {
  int milliseconds = 0;
  if (argc != 7 || absl::string_view(argv[1]) != "--milliseconds" ||
      !absl::SimpleAtoi(argv[2], &milliseconds) || milliseconds < 0 ||
      milliseconds > 10000) {
    fprintf(stderr,
            "usage: %s --milliseconds 0..10000 "
            "NAMESPACE_A INTERFACE_A NAMESPACE_B INTERFACE_B\n",
            argv[0]);
    return 2;
  }
  const internal::UniqueFd a = OpenTap(argv[3], argv[4]);
  const internal::UniqueFd b = OpenTap(argv[5], argv[6]);
  const int64_t delay = milliseconds * kNanosecondsPerMillisecond;
  Direction there(a.get(), b.get(), delay);
  Direction back(b.get(), a.get(), delay);
  Relay(&there, &back);
  printf("carried %llu dropped %llu\n",
         static_cast<unsigned long long>(there.carried() + back.carried()),
         static_cast<unsigned long long>(there.dropped() + back.dropped()));
  return 0;
}

}  // namespace
}  // namespace udpgate

int main(int argc, char** argv) { return udpgate::Main(argc, argv); }
