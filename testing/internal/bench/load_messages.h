#ifndef UDPGATE_TESTING_INTERNAL_BENCH_LOAD_MESSAGES_H_
#define UDPGATE_TESTING_INTERNAL_BENCH_LOAD_MESSAGES_H_

#include <sys/socket.h>
#include <time.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/types/span.h"
#include "testing/internal/bench/load_options.h"

namespace udpgate {
namespace bench {

inline int64_t ToNanoseconds(const timespec& time) {
  return time.tv_sec * int64_t{1'000'000'000} + time.tv_nsec;
}

// The arrays for one recvmmsg(2) or sendmmsg(2) on a connected socket.
class Messages {
 public:
  explicit Messages(size_t size_bytes)
      : size_bytes_(size_bytes),
        bytes_(kLoadBatchMax * size_bytes),
        vectors_(kLoadBatchMax),
        messages_(kLoadBatchMax) {
    for (size_t i = 0; i < kLoadBatchMax; ++i) {
      vectors_[i] = {&bytes_[i * size_bytes], size_bytes};
      messages_[i].msg_hdr.msg_iov = &vectors_[i];
      messages_[i].msg_hdr.msg_iovlen = 1;
    }
  }

  // The number that were sent, 0 or less where none was.
  int Send(int fd, int begin, int end) {
    if (end - begin == 1) {
      return send(fd, buffer(begin).data(), size_bytes_, MSG_DONTWAIT) < 0 ? -1
                                                                           : 1;
    }
    return sendmmsg(fd, &messages_[static_cast<size_t>(begin)],
                    static_cast<unsigned int>(end - begin), MSG_DONTWAIT);
  }
  absl::Span<char> buffer(int i) {
    return {&bytes_[static_cast<size_t>(i) * size_bytes_], size_bytes_};
  }

  // The number of those received, 0 or less where there were none.
  int Receive(int fd, int count_max) {
    for (size_t i = 0; i < static_cast<size_t>(count_max); ++i) {
      messages_[i].msg_hdr.msg_control = &stamps_[i];
      messages_[i].msg_hdr.msg_controllen = sizeof(stamps_[i]);
    }
    return recvmmsg(fd, messages_.data(), static_cast<unsigned int>(count_max),
                    MSG_DONTWAIT, nullptr);
  }
  absl::Span<const char> received(int i) {
    return buffer(i).first(messages_[static_cast<size_t>(i)].msg_len);
  }
  // When the kernel took it in; 0 where it did not say.
  int64_t stamp_nanoseconds(int i) {
    const cmsghdr* const control =
        CMSG_FIRSTHDR(&messages_[static_cast<size_t>(i)].msg_hdr);
    if (control == nullptr || control->cmsg_level != SOL_SOCKET ||
        control->cmsg_type != SCM_TIMESTAMPNS) {
      return 0;
    }
    timespec stamp;
    std::memcpy(&stamp, CMSG_DATA(control), sizeof(stamp));
    return ToNanoseconds(stamp);
  }

 private:
  struct Stamp {
    alignas(cmsghdr) char bytes[CMSG_SPACE(sizeof(timespec))];
  };

  const size_t size_bytes_;
  std::vector<char> bytes_;
  std::vector<iovec> vectors_;
  std::vector<mmsghdr> messages_;
  std::array<Stamp, kLoadBatchMax> stamps_;
};

}  // namespace bench
}  // namespace udpgate

#endif  // UDPGATE_TESTING_INTERNAL_BENCH_LOAD_MESSAGES_H_
