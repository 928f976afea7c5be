// Checks what Redis sends before the parser of hiredis reads it. That parser
// trusts every length: the 13 bytes `*2000000000\r\n` make it allocate 15 GB.
#ifndef UDPGATE_REDIS_INTERNAL_FRAME_CHECKER_H_
#define UDPGATE_REDIS_INTERNAL_FRAME_CHECKER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace udpgate {
namespace redis {
namespace internal {

// What a reply may have at most.
struct FrameLimits {
  int64_t frame_bytes_max = 64 * 1024;  // headers included
  int64_t elements_max = 8;             // of an array
  size_t depth_max = 3;                 // nested arrays
};

// Follows the frames of RESP2 (https://redis.io/docs/reference/protocol-spec/)
// in a stream that may be split anywhere. Stores no payload. Threads: one.
class FrameChecker {
 public:
  // The defaults.
  static constexpr int64_t kFrameBytesMax = FrameLimits().frame_bytes_max;
  static constexpr int64_t kElementsMax = FrameLimits().elements_max;
  static constexpr size_t kDepthMax = FrameLimits().depth_max;

  explicit FrameChecker(const FrameLimits& limits = FrameLimits())
      : limits_(limits) {}

  // Checks the next bytes of the stream. Sets `safe_bytes` to the number of
  // bytes that the parser may read: all if the result is OK, else those up to
  // the end of the last whole frame. Errors, after which the stream must not be
  // used:
  //   ResourceExhausted  a string or line that makes the frame too long
  //   DataLoss           anything else that is not allowed
  absl::Status Check(absl::string_view bytes, size_t* safe_bytes);

 private:
  enum class Expect { kType, kHeader, kText, kPayload };

  // Consume one byte, or the available part of a payload.
  absl::Status CheckType(char type);
  absl::Status CheckHeader(char next);
  absl::Status CheckText(char next);
  absl::Status CheckPayload(absl::string_view bytes, size_t* used);
  // The number of `:`, `$` or `*` is complete.
  absl::Status EndHeader();
  absl::Status BeginPayload(int64_t size);
  absl::Status BeginArray(int64_t elements);
  // One element is complete, and maybe the arrays that contain it.
  void EndElement();

  absl::Status TooLong() const;

  const FrameLimits limits_;
  Expect expect_ = Expect::kType;
  char type_ = 0;
  bool after_carriage_return_ = false;
  std::string header_;              // digits of a number, without its type
  int64_t payload_bytes_left_ = 0;  // with the CRLF that ends it
  int64_t frame_bytes_ = 0;
  std::vector<int64_t> elements_left_;  // of the open arrays
};

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_FRAME_CHECKER_H_
