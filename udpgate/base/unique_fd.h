// A file descriptor that closes itself.
#ifndef UDPGATE_BASE_UNIQUE_FD_H_
#define UDPGATE_BASE_UNIQUE_FD_H_

#include <unistd.h>

#include <utility>

#include "udpgate/base/export.h"

namespace udpgate {
namespace internal {

class UDPGATE_EXPORT UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) Reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~UniqueFd() { Reset(); }

  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Reset(int fd = -1) {
    // No error of close(2) on a socket or an eventfd can be handled, and on
    // Linux the descriptor is always closed.
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

}  // namespace internal
}  // namespace udpgate

#endif  // UDPGATE_BASE_UNIQUE_FD_H_
