#include "udpgate/http/internal/request_reader.h"

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/optional.hpp>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "udpgate/http/internal/request_rules.h"

namespace udpgate {
namespace http {
namespace internal {
namespace {

namespace beast = ::boost::beast;
using ::boost::system::error_code;

std::string ToString(beast::string_view text) {
  return std::string(text.data(), text.size());
}

// "0" and two line ends; no chunk line is followed by fewer bytes.
constexpr size_t kLastChunkBytes = 5;
constexpr char kMalformed[] = "malformed request";
constexpr char kFramingTooLarge[] = "chunk header or trailer too large";
constexpr size_t kBodyReserveBytesMax = 16384;

}  // namespace

// Writes what Beast finds straight into a `Request`.
class RequestReader::Parser final : public beast::http::basic_parser<true> {
 public:
  explicit Parser(RequestReader* reader) : reader_(reader) {
    header_limit(static_cast<uint32_t>(reader->limits_.header_bytes_max) + 4);
    body_limit(reader->limits_.body_bytes_max);
  }

  // The next bytes are the line of a chunk, after the end of the one before.
  bool is_at_chunk_line() const { return is_at_chunk_line_; }

  Request request;
  bool expects_continue = false;

 private:
  void on_request_impl(beast::http::verb, beast::string_view method,
                       beast::string_view target, int version,
                       error_code&) override {
    request.method = ToString(method);
    request.target = ToString(target);
    reader_->is_http10_ = version == 10;
    request.headers.reserve(std::max(reader_->line_count_ - 2, 0));
  }
  void on_response_impl(int, beast::string_view, int, error_code&) override {}
  void on_field_impl(beast::http::field, beast::string_view name,
                     beast::string_view value, error_code& error) override {
    if (is_header_done()) {  // a trailer: discarded (RFC 9110 section 6.5.1)
      return CountFraming(name.size() + value.size(), &error);
    }
    request.headers.push_back({ToString(name), ToString(value)});
  }
  void on_header_impl(error_code& error) override {
    reader_->keep_alive_ = keep_alive();
    const Refusal refusal =
        CheckAndNormalize(reader_->is_http10_, &request, &expects_continue);
    is_at_chunk_line_ = chunked();
    if (refusal.status == 0) return;
    reader_->Refuse(refusal.status, refusal.error);
    error = beast::http::error::bad_value;
  }
  void on_body_init_impl(const boost::optional<uint64_t>& length,
                         error_code&) override {
    if (!length.has_value()) return;
    request.body.reserve(
        static_cast<size_t>(std::min<uint64_t>(*length, kBodyReserveBytesMax)));
  }
  size_t on_body_impl(beast::string_view bytes, error_code&) override {
    request.body.append(bytes.data(), bytes.size());
    return bytes.size();
  }
  void on_chunk_header_impl(uint64_t, beast::string_view extensions,
                            error_code& error) override {
    is_at_chunk_line_ = false;
    CountFraming(extensions.size(), &error);
  }
  size_t on_chunk_body_impl(uint64_t left, beast::string_view bytes,
                            error_code&) override {
    is_at_chunk_line_ = left == bytes.size();
    request.body.append(bytes.data(), bytes.size());
    return bytes.size();
  }
  void on_finish_impl(error_code&) override {}

  // Extensions of all chunks and the trailer together have the limit of a head.
  void CountFraming(size_t bytes, error_code* error) {
    framing_bytes_ += bytes;
    if (framing_bytes_ <= reader_->limits_.header_bytes_max) return;
    reader_->Refuse(431, kFramingTooLarge);
    *error = beast::http::error::header_limit;
  }

  RequestReader* const reader_;
  size_t framing_bytes_ = 0;
  bool is_at_chunk_line_ = false;
};

RequestReader::RequestReader(const Limits& limits) : limits_(limits) {}

RequestReader::~RequestReader() = default;

RequestReader::State RequestReader::Append(absl::string_view bytes) {
  if (state_ != State::kIncomplete) {
    pending_.append(bytes.data(), bytes.size());
    return state_;
  }
  size_t consumed = 0;
  if (pending_.empty()) {
    Read(bytes, &consumed);
    bytes.remove_prefix(consumed);
    pending_.assign(bytes.data(), bytes.size());
  } else {
    pending_.append(bytes.data(), bytes.size());
    Read(pending_, &consumed);
    pending_.erase(0, consumed);
  }
  return state_;
}

RequestReader::State RequestReader::ReadNext() {
  if (pending_.empty() || state_ != State::kIncomplete) return state_;
  size_t consumed = 0;
  Read(pending_, &consumed);
  pending_.erase(0, consumed);
  return state_;
}

bool RequestReader::expects_continue() const {
  return state_ == State::kIncomplete && parser_ != nullptr &&
         parser_->expects_continue && !has_rest() &&
         parser_->request.body.empty();
}

Request RequestReader::Take() {
  Request request = std::move(parser_->request);
  StartRequest();
  return request;
}

void RequestReader::StartRequest() {
  state_ = State::kIncomplete;
  parser_.reset();
  has_begun_ = false;
  skipped_empty_line_ = false;
  line_start_ = 0;
  scanned_ = 0;
  line_count_ = 0;
}

RequestReader::State RequestReader::Read(absl::string_view bytes,
                                         size_t* consumed) {
  if (parser_ == nullptr) {
    // A client of old may send an empty line behind a body (RFC 9112 2.2).
    if (!skipped_empty_line_ && bytes == "\r") return state_;
    if (!skipped_empty_line_ && absl::StartsWith(bytes, "\r\n")) {
      skipped_empty_line_ = true;
      *consumed = 2;
      bytes.remove_prefix(2);
    }
    if (!CheckHead(bytes)) return state_;
    parser_ = std::make_unique<Parser>(this);
    has_begun_ = true;
  }
  while (!parser_->is_done() && state_ == State::kIncomplete) {
    const bool is_framing = parser_->is_at_chunk_line();
    if (is_framing) {
      if (!IsChunkLine(bytes)) return Refuse(400, kMalformed);
      // Beast asserts that so much of a last chunk is there.
      if (bytes.size() < kLastChunkBytes) break;
    }
    error_code error;
    const size_t size =
        parser_->put(boost::asio::buffer(bytes.data(), bytes.size()), error);
    *consumed += size;
    bytes.remove_prefix(size);
    if (!error) {
      // As below, where it comes in pieces.
      if (is_framing && size > limits_.header_bytes_max) {
        return Refuse(431, kFramingTooLarge);
      }
      if (bytes.empty()) break;
      continue;
    }
    if (error == beast::http::error::need_more) {
      // All of a body is consumed; what is left is the framing of a chunk.
      if (bytes.size() > limits_.header_bytes_max) {
        return Refuse(431, kFramingTooLarge);
      }
      break;
    }
    if (state_ == State::kRefused) return state_;
    if (error == beast::http::error::body_limit) {
      return Refuse(413, "request body too large");
    }
    return Refuse(400, kMalformed);
  }
  if (parser_->is_done()) state_ = State::kComplete;
  return state_;
}

bool RequestReader::CheckHead(absl::string_view bytes) {
  if (!bytes.empty() && bytes[0] != '\r' && !IsTokenCharacter(bytes[0])) {
    Refuse(400, bytes[0] == '\x16' ? "TLS is not served on this port"
                                   : "no HTTP request");
    return false;
  }
  while (true) {
    const size_t line_end = bytes.find('\n', scanned_);
    const size_t seen = std::min(line_end, bytes.size());
    if (seen >= limits_.header_bytes_max) {
      Refuse(431, "request headers too large");
      return false;
    }
    if (line_end == absl::string_view::npos) {
      scanned_ = bytes.size();
      return false;
    }
    const absl::string_view line =
        bytes.substr(line_start_, line_end - line_start_);
    line_start_ = scanned_ = line_end + 1;
    ++line_count_;
    if (line.empty() || line.back() != '\r') {
      Refuse(400, "line does not end with CR LF");
      return false;
    }
    if (line.size() == 1 && line_count_ > 1) return true;
    if (!CheckLine(line.substr(0, line.size() - 1))) return false;
  }
}

bool RequestReader::CheckLine(absl::string_view line) {
  absl::string_view error;
  if (line_count_ == 1) {
    error = CheckRequestLine(line);
  } else if (line_count_ - 1 > limits_.header_count_max) {
    Refuse(431, "too many request headers");
    return false;
  } else {
    error = CheckHeaderLine(line);
  }
  if (error.empty()) return true;
  Refuse(400, error);
  return false;
}

RequestReader::State RequestReader::Refuse(int status,
                                           absl::string_view error) {
  state_ = State::kRefused;
  error_status_ = status;
  error_ = error;
  return state_;
}

}  // namespace internal
}  // namespace http
}  // namespace udpgate
