// Bytes of a Redis connection through the frame checker and hiredis. The first
// byte of the input says how the rest is cut.
#include <hiredis/hiredis.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/redis/internal/frame_checker.h"
#include "udpgate/redis/internal/reply_reader.h"

namespace udpgate {
namespace test {
namespace {

using redis::internal::FrameChecker;
using redis::internal::Reply;
using redis::internal::ReplyReader;
using redis::internal::ReplyText;

// A reply as Redis would send it.
std::string Frame(const redisReply& reply, size_t depth = 0) {
  switch (reply.type) {
    case REDIS_REPLY_STATUS:
      return absl::StrCat("+", ReplyText(reply), "\r\n");
    case REDIS_REPLY_ERROR:
      return absl::StrCat("-", ReplyText(reply), "\r\n");
    case REDIS_REPLY_INTEGER:
      return absl::StrCat(":", reply.integer, "\r\n");
    case REDIS_REPLY_NIL:
      return "$-1\r\n";
    case REDIS_REPLY_STRING:
      return absl::StrCat("$", reply.len, "\r\n", ReplyText(reply), "\r\n");
    case REDIS_REPLY_ARRAY:
      break;
    default:
      Require(false, "a reply is of RESP2");
  }
  Require(depth < FrameChecker::kDepthMax &&
              reply.elements <= static_cast<size_t>(FrameChecker::kElementsMax),
          "arrays are bounded");
  std::string frame = absl::StrCat("*", reply.elements, "\r\n");
  for (size_t i = 0; i < reply.elements; ++i) {
    absl::StrAppend(&frame, Frame(*reply.element[i], depth + 1));
  }
  return frame;
}

// What came of a stream.
struct Outcome {
  std::vector<std::string> frames;
  absl::Status status;  // of the first `Feed` that failed
};

// Cuts a stream into pieces, the same for the same number. 0: one piece.
class Cutter {
 public:
  Cutter(absl::string_view bytes, uint8_t number)
      : rest_(bytes), number_(number), state_(number) {}

  bool is_done() const { return rest_.empty(); }
  absl::string_view Next() {
    state_ = state_ * 1664525 + 1013904223;  // a linear congruence
    const size_t size =
        number_ == 0 ? rest_.size() : 1 + (state_ >> 8) % number_;
    const absl::string_view piece = rest_.substr(0, size);
    rest_.remove_prefix(piece.size());
    return piece;
  }

 private:
  absl::string_view rest_;
  const uint8_t number_;
  uint32_t state_;
};

Outcome Read(absl::string_view bytes, uint8_t cut) {
  Outcome outcome;
  ReplyReader reader;
  for (Cutter cutter(bytes, cut); outcome.status.ok() && !cutter.is_done();) {
    outcome.status = reader.Feed(cutter.Next());
    for (;;) {
      const absl::StatusOr<Reply> reply = reader.Next();
      Require(reply.ok(), "hiredis takes what the frame checker lets through");
      if (*reply == nullptr) break;
      outcome.frames.push_back(Frame(**reply));
    }
  }
  return outcome;
}

// What hiredis alone makes of bytes that are known to be harmless.
std::vector<std::string> ReadByHiredisAlone(absl::string_view bytes) {
  const std::unique_ptr<redisReader, decltype(&redisReaderFree)> reader(
      redisReaderCreate(), redisReaderFree);
  std::vector<std::string> frames;
  if (bytes.empty()) return frames;
  Require(redisReaderFeed(reader.get(), bytes.data(), bytes.size()) == REDIS_OK,
          "hiredis has room for what the frame checker lets through");
  for (;;) {
    void* reply = nullptr;
    Require(redisReaderGetReply(reader.get(), &reply) == REDIS_OK,
            "hiredis reads what the frame checker lets through");
    if (reply == nullptr) return frames;
    frames.push_back(Frame(*Reply(static_cast<redisReply*>(reply))));
  }
}

void Try(absl::string_view bytes, uint8_t cut) {
  const Outcome whole = Read(bytes, 0);
  const Outcome pieces = Read(bytes, cut);
  Require(whole.frames == pieces.frames && whole.status == pieces.status,
          "replies do not depend on where the stream is cut");
  Require(whole.status.ok() || absl::IsDataLoss(whole.status) ||
              absl::IsResourceExhausted(whole.status),
          "a bad stream is DataLoss or ResourceExhausted");

  FrameChecker checker;
  size_t safe_bytes;
  Require(checker.Check(bytes, &safe_bytes) == whole.status,
          "the frame checker decides");
  Require(ReadByHiredisAlone(bytes.substr(0, safe_bytes)) == whole.frames,
          "the replies are those that hiredis alone would read");

  std::string again;
  for (const std::string& frame : whole.frames) {
    Require(frame.size() <= static_cast<size_t>(FrameChecker::kFrameBytesMax),
            "a frame is bounded");
    again += frame;
  }
  const Outcome read_again = Read(again, cut);
  Require(read_again.status.ok() && read_again.frames == whole.frames,
          "a reply prints to what parses to the same");
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  udpgate::test::Try(udpgate::test::AsText(data + 1, size - 1), data[0]);
  return 0;
}
