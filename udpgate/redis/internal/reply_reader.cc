#include "udpgate/redis/internal/reply_reader.h"

#include "absl/strings/str_cat.h"

namespace udpgate {
namespace redis {
namespace internal {

ReplyReader::ReplyReader(const FrameLimits& limits)
    : checker_(limits), reader_(redisReaderCreate()) {}

absl::Status ReplyReader::Feed(absl::string_view bytes) {
  if (reader_ == nullptr) return absl::ResourceExhaustedError("out of memory");
  size_t safe_bytes;
  absl::Status checked = checker_.Check(bytes, &safe_bytes);
  if (safe_bytes > 0 &&
      redisReaderFeed(reader_.get(), bytes.data(), safe_bytes) != REDIS_OK) {
    return absl::DataLossError(absl::StrCat("hiredis: ", reader_->errstr));
  }
  return checked;
}

absl::StatusOr<Reply> ReplyReader::Next() {
  void* reply = nullptr;
  if (redisReaderGetReply(reader_.get(), &reply) != REDIS_OK) {
    return absl::DataLossError(absl::StrCat("hiredis: ", reader_->errstr));
  }
  return Reply(static_cast<redisReply*>(reply));
}

absl::string_view ReplyText(const redisReply& reply) {
  switch (reply.type) {
    case REDIS_REPLY_STRING:
    case REDIS_REPLY_STATUS:
    case REDIS_REPLY_ERROR:
      return absl::string_view(reply.str, reply.len);
    default:
      return absl::string_view();
  }
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
