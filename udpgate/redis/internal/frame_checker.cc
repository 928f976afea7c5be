#include "udpgate/redis/internal/frame_checker.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace udpgate {
namespace redis {
namespace internal {
namespace {

// Of a number: a sign and the digits of 2^63.
constexpr size_t kHeaderBytesMax = 20;

absl::Status NotAllowed(absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat("the reply is not valid Redis protocol: ", what));
}

}  // namespace

absl::Status FrameChecker::TooLong() const {
  return absl::ResourceExhaustedError(absl::StrCat(
      "the reply is longer than ", limits_.frame_bytes_max, " bytes"));
}

absl::Status FrameChecker::Check(absl::string_view bytes, size_t* safe_bytes) {
  *safe_bytes = 0;
  for (size_t position = 0; position < bytes.size();) {
    size_t used = 1;
    absl::Status status;
    switch (expect_) {
      case Expect::kType:
        status = CheckType(bytes[position]);
        break;
      case Expect::kHeader:
        status = CheckHeader(bytes[position]);
        break;
      case Expect::kText:
        status = CheckText(bytes[position]);
        break;
      case Expect::kPayload:
        status = CheckPayload(bytes.substr(position), &used);
        break;
    }
    if (!status.ok()) return status;
    position += used;
    frame_bytes_ += static_cast<int64_t>(used);
    if (frame_bytes_ > limits_.frame_bytes_max) return TooLong();
    if (expect_ == Expect::kType && elements_left_.empty()) {
      frame_bytes_ = 0;
      *safe_bytes = position;
    }
  }
  *safe_bytes = bytes.size();
  return absl::OkStatus();
}

absl::Status FrameChecker::CheckType(char type) {
  type_ = type;
  header_.clear();
  after_carriage_return_ = false;
  switch (type) {
    case '+':
    case '-':
      expect_ = Expect::kText;
      return absl::OkStatus();
    case ':':
    case '$':
    case '*':
      expect_ = Expect::kHeader;
      return absl::OkStatus();
    default:
      return NotAllowed(
          absl::StrCat("unexpected type '",
                       absl::CHexEscape(absl::string_view(&type, 1)), "'"));
  }
}

absl::Status FrameChecker::CheckHeader(char next) {
  if (after_carriage_return_) {
    if (next != '\n') return NotAllowed("carriage return without line feed");
    return EndHeader();
  }
  if (next == '\r') {
    after_carriage_return_ = true;
    return absl::OkStatus();
  }
  const bool is_digit = next >= '0' && next <= '9';
  if (!is_digit && !(next == '-' && header_.empty())) {
    return NotAllowed("invalid character in a number");
  }
  header_.push_back(next);
  if (header_.size() > kHeaderBytesMax)
    return NotAllowed("a number is too long");
  return absl::OkStatus();
}

absl::Status FrameChecker::EndHeader() {
  int64_t number;
  // hiredis, like Redis, accepts one form of each number: no leading zeros.
  if (!absl::SimpleAtoi(header_, &number) || absl::StrCat(number) != header_) {
    return NotAllowed(absl::StrCat("\"", header_, "\" is not a number"));
  }
  if (type_ == '$') return BeginPayload(number);
  if (type_ == '*') return BeginArray(number);
  EndElement();
  return absl::OkStatus();
}

absl::Status FrameChecker::BeginPayload(int64_t size) {
  if (size == -1) {  // nil
    EndElement();
    return absl::OkStatus();
  }
  if (size < 0) return NotAllowed(absl::StrCat("string length ", size));
  if (size > limits_.frame_bytes_max) return TooLong();
  payload_bytes_left_ = size + 2;
  // The line feed of the header is not counted yet.
  if (frame_bytes_ + 1 + payload_bytes_left_ > limits_.frame_bytes_max) {
    return TooLong();
  }
  expect_ = Expect::kPayload;
  return absl::OkStatus();
}

absl::Status FrameChecker::BeginArray(int64_t elements) {
  if (elements < -1 || elements > limits_.elements_max) {
    return NotAllowed(absl::StrCat("array of ", elements,
                                   " elements; the maximum is ",
                                   limits_.elements_max));
  }
  if (elements_left_.size() == limits_.depth_max) {
    return NotAllowed("arrays are nested too deeply");
  }
  if (elements <= 0) {  // nil, empty
    EndElement();
    return absl::OkStatus();
  }
  elements_left_.push_back(elements);
  expect_ = Expect::kType;
  return absl::OkStatus();
}

absl::Status FrameChecker::CheckText(char next) {
  // From 1.1 on hiredis rejects these, too.
  if (after_carriage_return_ != (next == '\n')) {
    return NotAllowed("a line that has CR or LF inside");
  }
  if (next == '\n') EndElement();
  after_carriage_return_ = next == '\r';
  return absl::OkStatus();
}

absl::Status FrameChecker::CheckPayload(absl::string_view bytes, size_t* used) {
  if (payload_bytes_left_ > 2) {
    *used = static_cast<size_t>(std::min<int64_t>(
        payload_bytes_left_ - 2, static_cast<int64_t>(bytes.size())));
  } else if (bytes[0] != (payload_bytes_left_ == 2 ? '\r' : '\n')) {
    return NotAllowed("a string does not end with CRLF");
  }
  payload_bytes_left_ -= static_cast<int64_t>(*used);
  if (payload_bytes_left_ == 0) EndElement();
  return absl::OkStatus();
}

void FrameChecker::EndElement() {
  expect_ = Expect::kType;
  while (!elements_left_.empty() && --elements_left_.back() == 0) {
    elements_left_.pop_back();
  }
}

}  // namespace internal
}  // namespace redis
}  // namespace udpgate
