// The bytes of a connection through the request reader of the HTTP server. The
// first byte of the input says how the rest is split: 0 for not at all, else
// into pieces of that size.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/http/internal/request_reader.h"
#include "udpgate/http/message.h"

namespace udpgate {
namespace test {
namespace {

using http::Header;
using http::Request;
using http::internal::RequestReader;
using State = RequestReader::State;

// Small, so that inputs reach them.
constexpr RequestReader::Limits kLimits = {/*header_bytes_max=*/512,
                                           /*header_count_max=*/8,
                                           /*body_bytes_max=*/64};

// All that comes of a stream.
struct Outcome {
  std::vector<Request> requests;
  std::vector<bool> is_http10;  // of each
  State state = State::kIncomplete;
  int error_status = 0;
  std::string error;
};

std::string Text(const Request& request) {
  std::string text = absl::StrCat(request.method, " ", request.target, "\n");
  for (const Header& header : request.headers) {
    absl::StrAppend(&text, header.name, ": ", header.value, "\n");
  }
  return absl::StrCat(text, "\n", request.body);
}

bool operator==(const Outcome& a, const Outcome& b) {
  return a.state == b.state && a.error_status == b.error_status &&
         a.error == b.error && a.is_http10 == b.is_http10 &&
         std::equal(a.requests.begin(), a.requests.end(), b.requests.begin(),
                    b.requests.end(), [](const Request& x, const Request& y) {
                      return Text(x) == Text(y);
                    });
}

void RequireIsAnError(const Outcome& outcome) {
  const std::set<int> statuses = {400, 413, 417, 431, 501};
  Require(statuses.count(outcome.error_status) == 1,
          "a refusal has one of five status codes");
  Require(!outcome.error.empty() && outcome.error.size() <= 100 &&
              std::all_of(outcome.error.begin(), outcome.error.end(),
                          absl::ascii_isprint),
          "an error text is one short printable line");
}

// `piece_bytes` 0: in one piece.
Outcome Read(absl::string_view bytes, size_t piece_bytes,
             const RequestReader::Limits& limits = kLimits) {
  if (piece_bytes == 0) piece_bytes = std::max<size_t>(bytes.size(), 1);
  RequestReader reader(limits);
  Outcome outcome;
  while (!bytes.empty() && outcome.state != State::kRefused) {
    const absl::string_view piece = bytes.substr(0, piece_bytes);
    bytes.remove_prefix(piece.size());
    outcome.state = reader.Append(piece);
    while (outcome.state == State::kComplete) {
      outcome.is_http10.push_back(reader.is_http10());
      outcome.requests.push_back(reader.Take());
      outcome.state = reader.ReadNext();
    }
  }
  if (outcome.state == State::kRefused) {
    outcome.error_status = reader.error_status();
    outcome.error = std::string(reader.error());
    RequireIsAnError(outcome);
    // Of an unterminated string in the extension of a chunk Beast asks for more
    // bytes, and counts the chunk each time: whether it then refuses depends on
    // the pieces. Neither makes a request.
    if (outcome.error_status == 413 || outcome.error == "malformed request" ||
        absl::StartsWith(outcome.error, "chunk ")) {
      outcome.state = State::kIncomplete;
      outcome.error_status = 0;
      outcome.error.clear();
    }
  }
  return outcome;
}

bool IsFraming(const Header& header) {
  return absl::EqualsIgnoreCase(header.name, "Content-Length") ||
         absl::EqualsIgnoreCase(header.name, "Transfer-Encoding");
}

// The request has one meaning only, whoever reads it.
void RequireIsSound(const Request& request, bool is_http10) {
  const auto is_graph = [](absl::string_view text) {
    return !text.empty() &&
           std::all_of(text.begin(), text.end(), absl::ascii_isgraph);
  };
  Require(is_graph(request.method) && is_graph(request.target),
          "method and target are printable words");
  Require(request.target[0] == '/' || request.target == "*",
          "a target is in origin-form");
  Require(request.body.size() <= kLimits.body_bytes_max, "a body is bounded");
  Require(request.headers.size() <=
              static_cast<size_t>(kLimits.header_count_max) + 1,
          "the headers are bounded");
  size_t head_bytes = 0;
  int hosts = 0;
  int framings = 0;
  for (const Header& header : request.headers) {
    Require(is_graph(header.name) && !absl::StrContains(header.name, ':'),
            "a name is a word");
    Require(std::all_of(header.value.begin(), header.value.end(),
                        [](unsigned char c) {
                          return c == '\t' || !absl::ascii_iscntrl(c);
                        }),
            "a value has no control characters");
    Require(header.value == absl::StripAsciiWhitespace(header.value),
            "a value has no white space around it");
    head_bytes += header.name.size() + header.value.size();
    if (absl::EqualsIgnoreCase(header.name, "Host")) ++hosts;
    if (IsFraming(header)) ++framings;
    size_t length;
    if (absl::EqualsIgnoreCase(header.name, "Content-Length")) {
      Require(absl::SimpleAtoi(header.value, &length) &&
                  length == request.body.size(),
              "the body has the length of the header");
    }
  }
  Require(head_bytes <= kLimits.header_bytes_max, "a head is bounded");
  Require(hosts == 1 || (hosts == 0 && is_http10), "there is one host");
  Require(framings <= 1, "the end of the body is said once");
  Require(framings == 1 || request.body.empty(), "the end of the body is said");
}

// The same request with a Content-Length.
std::string Write(const Request& request, bool is_http10) {
  std::string text =
      absl::StrCat(request.method, " ", request.target,
                   is_http10 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n",
                   "Content-Length: ", request.body.size(), "\r\n");
  for (const Header& header : request.headers) {
    if (IsFraming(header)) continue;
    absl::StrAppend(&text, header.name, ": ", header.value, "\r\n");
  }
  return absl::StrCat(text, "\r\n", request.body);
}

void Try(absl::string_view bytes, size_t piece_bytes) {
  const Outcome whole = Read(bytes, 0);
  Require(Read(bytes, piece_bytes) == whole,
          "the result does not depend on how the stream is split");
  std::string again;
  for (size_t i = 0; i < whole.requests.size(); ++i) {
    RequireIsSound(whole.requests[i], whole.is_http10[i]);
    again += Write(whole.requests[i], whole.is_http10[i]);
  }
  const Outcome second = Read(again, piece_bytes, {4096, 16, 64});
  Require(second.state == State::kIncomplete &&
              second.requests.size() == whole.requests.size(),
          "a stream reads to what reads to as many requests");
  for (size_t i = 0; i < whole.requests.size(); ++i) {
    Require(Write(second.requests[i], second.is_http10[i]) ==
                Write(whole.requests[i], whole.is_http10[i]),
            "a request reads to what reads to the same");
  }
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  udpgate::test::Try(udpgate::test::AsText(data + 1, size - 1), data[0]);
  return 0;
}
