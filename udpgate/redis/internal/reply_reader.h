// Parses the bytes of a connection into replies of Redis.
#ifndef UDPGATE_REDIS_INTERNAL_REPLY_READER_H_
#define UDPGATE_REDIS_INTERNAL_REPLY_READER_H_

#include <hiredis/hiredis.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "udpgate/redis/internal/frame_checker.h"

namespace udpgate {
namespace redis {
namespace internal {

struct ReplyDeleter {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using Reply = std::unique_ptr<redisReply, ReplyDeleter>;

// hiredis' parser behind a `FrameChecker`; it never holds more than one frame
// and the bytes of one `Feed`. One per connection. Threads: one.
class ReplyReader {
 public:
  explicit ReplyReader(const FrameLimits& limits = FrameLimits());

  // Takes the next bytes. An error (see `FrameChecker::Check`) ends the
  // stream; the replies before it can still be taken.
  absl::Status Feed(absl::string_view bytes);

  // The next reply, or null if it is not complete. Call until null after each
  // `Feed`.
  absl::StatusOr<Reply> Next();

 private:
  struct ReaderDeleter {
    void operator()(redisReader* reader) const { redisReaderFree(reader); }
  };

  FrameChecker checker_;
  std::unique_ptr<redisReader, ReaderDeleter> reader_;
};

// The bytes of a string, status or error reply; empty for others.
absl::string_view ReplyText(const redisReply& reply);

}  // namespace internal
}  // namespace redis
}  // namespace udpgate

#endif  // UDPGATE_REDIS_INTERNAL_REPLY_READER_H_
