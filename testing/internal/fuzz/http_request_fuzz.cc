// A byte stream to the admin endpoint through the request reader. The first
// byte of the input says how the rest is split: 0 for not at all, else into
// pieces of that size.
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
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "testing/internal/fuzz/rules.h"
#include "udpgate/admin/internal/http_text.h"

namespace udpgate {
namespace test {
namespace {

using admin::internal::HttpRequestReader;
using admin::internal::HttpRequestText;
using State = HttpRequestReader::State;

// Small, so that inputs reach them.
constexpr size_t kHeaderBytesMax = 512;
constexpr size_t kBodyBytesMax = 64;

struct Outcome {
  State state = State::kIncomplete;
  HttpRequestText request;
  int error_status = 0;
  std::string error;

  bool operator==(const Outcome& other) const {
    return state == other.state && request.head == other.request.head &&
           request.body == other.request.body &&
           error_status == other.error_status && error == other.error;
  }
};

// `piece_bytes` 0: in one piece.
Outcome Read(absl::string_view bytes, size_t piece_bytes) {
  if (piece_bytes == 0) piece_bytes = std::max<size_t>(bytes.size(), 1);
  HttpRequestReader reader(kHeaderBytesMax, kBodyBytesMax);
  Outcome outcome;
  while (!bytes.empty() && outcome.state == State::kIncomplete) {
    const absl::string_view piece = bytes.substr(0, piece_bytes);
    bytes.remove_prefix(piece.size());
    outcome.state = reader.Append(piece);
  }
  if (outcome.state == State::kComplete) outcome.request = reader.Take();
  if (outcome.state == State::kRefused) {
    outcome.error_status = reader.error_status();
    outcome.error = reader.error();
  }
  return outcome;
}

void RequireIsAnError(const Outcome& outcome) {
  const std::set<int> statuses = {400, 413, 431, 501};
  Require(statuses.count(outcome.error_status) == 1,
          "a refusal has one of four status codes");
  Require(!outcome.error.empty() && outcome.error.size() <= 100 &&
              std::all_of(outcome.error.begin(), outcome.error.end(),
                          absl::ascii_isprint),
          "an error text is one short printable line");
}

// The head has one meaning only, whoever reads it.
void RequireIsSound(absl::string_view bytes, const HttpRequestText& request) {
  Require(request.head.size() <= kHeaderBytesMax * 2, "a head is bounded");
  absl::string_view head = request.head;
  Require(absl::ConsumeSuffix(&head, "\r\n\r\n"), "a head ends");
  const std::vector<absl::string_view> lines = absl::StrSplit(head, "\r\n");
  Require(absl::StartsWith(bytes, absl::StrCat(lines[0], "\r\n")),
          "the request line is passed on as it came");
  Require(std::count(lines[0].begin(), lines[0].end(), ' ') == 2,
          "a request line has three parts");
  size_t body_bytes = 0;
  std::set<absl::string_view> names;
  for (size_t i = 0; i < lines.size(); ++i) {
    Require(std::all_of(lines[i].begin(), lines[i].end(),
                        [](unsigned char c) {
                          return c == '\t' || !absl::ascii_iscntrl(c);
                        }),
            "a line has no control characters");
    if (i == 0) continue;
    const size_t colon = lines[i].find(": ");
    Require(colon != absl::string_view::npos, "a header has a name");
    const absl::string_view name = lines[i].substr(0, colon);
    Require(names.insert(name).second, "a header is there once");
    if (name != "content-length") continue;
    Require(absl::SimpleAtoi(lines[i].substr(colon + 2), &body_bytes),
            "the length is a number");
  }
  for (const absl::string_view name : names) {
    const std::set<absl::string_view> known = {"host", "authorization",
                                               "content-type", "content-length",
                                               "accept-encoding"};
    Require(known.count(name) == 1, "no other header is passed on");
  }
  Require(request.body.size() == body_bytes && body_bytes <= kBodyBytesMax,
          "the body has the length of the header");
}

void Try(absl::string_view bytes, size_t piece_bytes) {
  const Outcome whole = Read(bytes, 0);
  Require(Read(bytes, piece_bytes) == whole,
          "the result does not depend on how the stream is split");
  if (whole.state == State::kRefused) return RequireIsAnError(whole);
  if (whole.state == State::kIncomplete) {
    Require(bytes.size() < kHeaderBytesMax + kBodyBytesMax,
            "what the reader collects is bounded");
    return;
  }
  RequireIsSound(bytes, whole.request);
  // A header may gain one space.
  const std::string again =
      absl::StrCat(whole.request.head, whole.request.body);
  if (whole.request.head.size() > kHeaderBytesMax) return;
  Require(Read(again, piece_bytes) == whole,
          "a request reads to what reads to the same");
}

}  // namespace
}  // namespace test
}  // namespace udpgate

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  udpgate::test::Try(udpgate::test::AsText(data + 1, size - 1), data[0]);
  return 0;
}
