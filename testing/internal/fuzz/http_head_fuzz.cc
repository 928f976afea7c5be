// The byte stream of a connection to the HTTP server through the request
// reader. The first byte of the input says how the rest is split: 0 for not at
// all, else into pieces of that size.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
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
constexpr RequestReader::Limits kLimits = {512, 8, 64};

struct Outcome {
  std::vector<Request> requests;
  int error_status = 0;
  std::string error;
};

bool IsSame(const Request& a, const Request& b) {
  return a.method == b.method && a.target == b.target && a.body == b.body &&
         std::equal(a.headers.begin(), a.headers.end(), b.headers.begin(),
                    b.headers.end(), [](const Header& x, const Header& y) {
                      return x.name == y.name && x.value == y.value;
                    });
}

bool IsSame(const Outcome& a, const Outcome& b) {
  return a.error_status == b.error_status && a.error == b.error &&
         std::equal(a.requests.begin(), a.requests.end(), b.requests.begin(),
                    b.requests.end(), [](const Request& x, const Request& y) {
                      return IsSame(x, y);
                    });
}

void TakeAll(RequestReader* reader, Outcome* outcome) {
  State state = reader->state();
  while (state == State::kComplete) {
    outcome->requests.push_back(reader->Take());
    state = reader->ReadNext();
  }
  if (state != State::kRefused) return;
  outcome->error_status = reader->error_status();
  outcome->error = std::string(reader->error());
}

// `piece_bytes` 0: in one piece.
Outcome Read(absl::string_view bytes, size_t piece_bytes) {
  if (piece_bytes == 0) piece_bytes = std::max<size_t>(bytes.size(), 1);
  RequestReader reader(kLimits);
  Outcome outcome;
  while (!bytes.empty() && outcome.error_status == 0) {
    const absl::string_view piece = bytes.substr(0, piece_bytes);
    bytes.remove_prefix(piece.size());
    reader.Append(piece);
    TakeAll(&reader, &outcome);
  }
  return outcome;
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

bool IsPrintable(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), absl::ascii_isgraph);
}

bool IsChunked(const Request& request) {
  return request.FindHeader("transfer-encoding") != nullptr;
}

// The request has one meaning only, whoever reads it.
void RequireIsSound(const Request& request) {
  Require(!request.method.empty() && IsPrintable(request.method),
          "a method is a token");
  Require((absl::StartsWith(request.target, "/") || request.target == "*") &&
              IsPrintable(request.target),
          "a target is a path");
  // An absolute target may add the Host.
  Require(request.headers.size() <=
              static_cast<size_t>(kLimits.header_count_max) + 1,
          "headers are bounded");
  Require(request.body.size() <= kLimits.body_bytes_max, "a body is bounded");
  size_t bytes = 0;
  std::multiset<std::string> names;
  for (const Header& header : request.headers) {
    bytes += header.name.size() + header.value.size();
    Require(!header.name.empty() && IsPrintable(header.name) &&
                !absl::StrContains(header.name, ':'),
            "a header name is a token");
    Require(std::all_of(header.value.begin(), header.value.end(),
                        [](unsigned char c) {
                          return c == '\t' || !absl::ascii_iscntrl(c);
                        }),
            "a header has no control characters");
    Require(absl::StripAsciiWhitespace(header.value) == header.value,
            "a header value has no white space around it");
    names.insert(absl::AsciiStrToLower(header.name));
  }
  Require(bytes <= 2 * kLimits.header_bytes_max, "a head is bounded");
  Require(names.count("host") <= 1, "there is one Host at most");
  Require(names.count("content-length") + names.count("transfer-encoding") <= 1,
          "there is one length at most");
  if (const std::string* length = request.FindHeader("content-length")) {
    Require(absl::string_view(*length).substr(
                std::min(length->find_first_not_of('0'), length->size())) ==
                (request.body.empty() ? "" : absl::StrCat(request.body.size())),
            "the body has the length of the header");
  } else if (!IsChunked(request)) {
    Require(request.body.empty(), "a request without length has no body");
  }
}

// What another reader would make of the request reads to the same.
void RequireSurvives(const Request& request) {
  std::string text =
      absl::StrCat(request.method, " ", request.target, " HTTP/1.1\r\n");
  if (request.FindHeader("host") == nullptr) return;  // by HTTP/1.0
  for (const Header& header : request.headers) {
    absl::StrAppend(&text, header.name, ": ", header.value, "\r\n");
  }
  if (text.size() + 2 > kLimits.header_bytes_max ||
      request.headers.size() > static_cast<size_t>(kLimits.header_count_max)) {
    return;
  }
  text += "\r\n";
  if (IsChunked(request)) {
    if (!request.body.empty()) {
      absl::StrAppend(&text, absl::Hex(request.body.size()), "\r\n",
                      request.body, "\r\n");
    }
    text += "0\r\n\r\n";
  } else {
    text += request.body;
  }
  const Outcome again = Read(text, 0);
  Require(again.error_status == 0 && again.requests.size() == 1 &&
              IsSame(again.requests[0], request),
          "a request that is written again reads to the same");
}

// How much of a chunk's framing is held before its end has come depends on the
// pieces.
bool IsOfFraming(const Outcome& outcome) {
  return absl::StrContains(outcome.error, "chunk header or trailer");
}

void Try(absl::string_view bytes, size_t piece_bytes) {
  const Outcome whole = Read(bytes, 0);
  const Outcome pieces = Read(bytes, piece_bytes);
  Require(IsSame(whole, pieces) || IsOfFraming(whole) || IsOfFraming(pieces),
          "the result does not depend on how the stream is split");
  if (whole.error_status != 0) RequireIsAnError(whole);
  for (const Request& request : whole.requests) {
    RequireIsSound(request);
    RequireSurvives(request);
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
