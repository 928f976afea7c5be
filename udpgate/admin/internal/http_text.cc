#include "udpgate/admin/internal/http_text.h"

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

namespace udpgate {
namespace admin {
namespace internal {
namespace {

constexpr absl::string_view kLineEnd = "\r\n";
constexpr absl::string_view kHeadEnd = "\r\n\r\n";
// More digits could overflow.
constexpr size_t kLengthDigitsMax = 18;

constexpr absl::string_view kContentLength = "content-length";
// Passed on to the handler; all others are dropped.
constexpr absl::string_view kHeaders[] = {
    "host", "authorization", "content-type", kContentLength, "accept-encoding"};

absl::string_view Reason(int status) {
  switch (status) {
    case 400:
      return "Bad Request";
    case 413:
      return "Payload Too Large";
    case 431:
      return "Request Header Fields Too Large";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    default:
      return "Error";
  }
}

// `token` of RFC 9110, section 5.6.2.
bool IsToken(absl::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) ||
                  absl::StrContains("!#$%&'*+-.^_`|~", static_cast<char>(c));
         });
}

bool IsPrintable(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return c == '\t' || (c >= 0x20 && c != 0x7f);
  });
}

bool IsRequestLine(absl::string_view line) {
  const std::vector<absl::string_view> parts = absl::StrSplit(line, ' ');
  return parts.size() == 3 && IsToken(parts[0]) &&
         absl::StartsWith(parts[1], "/") && IsPrintable(parts[1]) &&
         (parts[2] == "HTTP/1.1" || parts[2] == "HTTP/1.0");
}

}  // namespace

std::string ErrorResponse(int status, absl::string_view error) {
  const std::string body = absl::StrCat(
      "{\"error\":\"",
      absl::StrReplaceAll(error, {{"\\", "\\\\"}, {"\"", "\\\""}}), "\"}\n");
  return absl::StrCat("HTTP/1.1 ", status, " ", Reason(status),
                      "\r\nContent-Type: application/json\r\nContent-Length: ",
                      body.size(), "\r\nConnection: close\r\n\r\n", body);
}

HttpRequestReader::State HttpRequestReader::Append(absl::string_view bytes) {
  // The end of the head may be split.
  const size_t search_from =
      input_.size() - std::min(input_.size(), kHeadEnd.size() - 1);
  input_.append(bytes.data(), bytes.size());
  if (head_bytes_ == 0) {
    const size_t end =
        input_.find(kHeadEnd.data(), search_from, kHeadEnd.size());
    if (end == std::string::npos || end + kHeadEnd.size() > header_bytes_max_) {
      if (input_.size() < header_bytes_max_) return State::kIncomplete;
      Refuse(431,
             absl::StrCat("the header exceeds ", header_bytes_max_, " bytes"));
      return State::kRefused;
    }
    head_bytes_ = end + kHeadEnd.size();
    if (!ReadHead(absl::string_view(input_).substr(0, end))) {
      return State::kRefused;
    }
  }
  return input_.size() < head_bytes_ + body_bytes_ ? State::kIncomplete
                                                   : State::kComplete;
}

HttpRequestText HttpRequestReader::Take() {
  HttpRequestText request;
  request.head = std::move(head_);
  request.body = input_.substr(head_bytes_, body_bytes_);
  input_ = std::string();
  return request;
}

bool HttpRequestReader::ReadHead(absl::string_view text) {
  const std::vector<absl::string_view> lines = absl::StrSplit(text, kLineEnd);
  if (!IsRequestLine(lines[0])) {
    return Refuse(400, "not an HTTP/1.1 request");
  }
  head_ = absl::StrCat(lines[0], kLineEnd);
  for (size_t i = 1; i < lines.size(); ++i) {
    if (!ReadHeader(lines[i])) return false;
  }
  absl::StrAppend(&head_, kLineEnd);
  return true;
}

bool HttpRequestReader::ReadHeader(absl::string_view line) {
  const size_t colon = line.find(':');
  if (colon == absl::string_view::npos || !IsToken(line.substr(0, colon)) ||
      !IsPrintable(line)) {
    return Refuse(400, "malformed header");
  }
  const std::string name = absl::AsciiStrToLower(line.substr(0, colon));
  const absl::string_view value =
      absl::StripAsciiWhitespace(line.substr(colon + 1));
  if (name == "transfer-encoding" || name == "content-encoding") {
    return Refuse(501, "a body must have a Content-Length and no encoding");
  }
  const auto* const known =
      std::find(std::begin(kHeaders), std::end(kHeaders), name);
  if (known == std::end(kHeaders)) return true;
  const unsigned bit = 1u << (known - std::begin(kHeaders));
  if ((headers_seen_ & bit) != 0) {
    return Refuse(400, absl::StrCat("duplicate header: ", name));
  }
  headers_seen_ |= bit;
  if (name == kContentLength) {
    uint64_t length;
    if (value.empty() || value.size() > kLengthDigitsMax ||
        !std::all_of(value.begin(), value.end(), absl::ascii_isdigit) ||
        !absl::SimpleAtoi(value, &length)) {
      return Refuse(400, "the Content-Length is not a number");
    }
    if (length > body_bytes_max_) {
      return Refuse(
          413, absl::StrCat("the body exceeds ", body_bytes_max_, " bytes"));
    }
    body_bytes_ = static_cast<size_t>(length);
  }
  absl::StrAppend(&head_, name, ": ", value, kLineEnd);
  return true;
}

bool HttpRequestReader::Refuse(int status, std::string error) {
  error_status_ = status;
  error_ = std::move(error);
  return false;
}

}  // namespace internal
}  // namespace admin
}  // namespace udpgate
