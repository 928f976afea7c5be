#include "udpgate/nethernet/internal/sdp.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/types/optional.h"

namespace udpgate {
namespace nethernet {
namespace internal {
namespace {

// RFC 8839 section 5.4.
constexpr size_t kUfragCharactersMin = 4;
constexpr size_t kPasswordCharactersMin = 22;
constexpr size_t kCredentialCharactersMax = 256;

// The discard port, which stands for no port (RFC 8840 section 4.1.1).
constexpr uint16_t kDiscardPort = 9;

struct Line {
  absl::string_view text;  // without the line end
  absl::string_view end;   // CRLF, LF, or nothing at the end of the text
};

// Takes the first line off `rest`, which is not empty.
Line TakeLine(absl::string_view* rest) {
  const size_t feed = rest->find('\n');
  Line line;
  if (feed == absl::string_view::npos) {
    line.text = *rest;
    rest->remove_prefix(rest->size());
    return line;
  }
  const bool has_return = feed > 0 && (*rest)[feed - 1] == '\r';
  const size_t text_bytes = has_return ? feed - 1 : feed;
  line.text = rest->substr(0, text_bytes);
  line.end = rest->substr(text_bytes, feed + 1 - text_bytes);
  rest->remove_prefix(feed + 1);
  return line;
}

// The attribute's name and value. Lenient, so that no line means nothing here
// and something to the program that reads it next.
bool IsAttribute(absl::string_view line, absl::string_view name) {
  line = absl::StripLeadingAsciiWhitespace(line);
  if (line.empty() || (line[0] != 'a' && line[0] != 'A')) return false;
  line = absl::StripLeadingAsciiWhitespace(line.substr(1));
  if (!absl::ConsumePrefix(&line, "=")) return false;
  line = absl::StripLeadingAsciiWhitespace(line);
  if (!absl::StartsWithIgnoreCase(line, name)) return false;
  line.remove_prefix(name.size());
  return line.empty() || line[0] == ':' ||
         absl::ascii_isspace(static_cast<unsigned char>(line[0]));
}

bool IsCandidate(absl::string_view line) {
  return IsAttribute(line, "candidate");
}
bool IsEndOfCandidates(absl::string_view line) {
  return IsAttribute(line, "end-of-candidates");
}

std::vector<absl::string_view> Words(absl::string_view line) {
  return absl::StrSplit(line, absl::ByAnyChar(" \t\v\f"), absl::SkipEmpty());
}

// `a=rtcp:5001 IN IP4 192.0.2.1`, RFC 3605. Without an address, and with
// 0.0.0.0 or ::, it names none.
bool NamesRtcpAddress(absl::string_view line) {
  if (!IsAttribute(line, "rtcp")) return false;
  const std::vector<absl::string_view> words = Words(line);
  for (size_t i = 1; i < words.size(); ++i) {
    if ((absl::EqualsIgnoreCase(words[i - 1], "IP4") ||
         absl::EqualsIgnoreCase(words[i - 1], "IP6")) &&
        words[i] != "0.0.0.0" && words[i] != "::") {
      return true;
    }
  }
  return false;
}

// What is wrong with any description; `name` is what it is called.
absl::Status CheckSdp(absl::string_view name, absl::string_view sdp) {
  const auto error = [&](absl::string_view problem) {
    return absl::InvalidArgumentError(absl::StrCat("the ", name, problem));
  };
  if (sdp.size() > kSdpBytesMax) {
    return error(absl::StrCat(" is longer than ", kSdpBytesMax, " bytes"));
  }
  absl::string_view rest = sdp;
  if (rest.empty() || TakeLine(&rest).text != "v=0") {
    return error(" is not an SDP: it does not begin with v=0");
  }
  size_t candidate_count = 0;
  for (int number = 2; !rest.empty(); ++number) {
    const Line line = TakeLine(&rest);
    if (absl::StrContains(line.text, '\r')) {
      return error(
          absl::StrCat(" has a carriage return without line feed in "
                       "line ",
                       number));
    }
    if (absl::StrContains(line.text, '\0')) {
      return error(absl::StrCat(" has a zero byte in line ", number));
    }
    if (IsCandidate(line.text)) ++candidate_count;
  }
  if (candidate_count > kSdpCandidatesMax) {
    return error(absl::StrCat(" has ", candidate_count, " candidates; at most ",
                              kSdpCandidatesMax, " are allowed"));
  }
  return absl::OkStatus();
}

// ice-char of RFC 8839 section 5.1.
bool IsIceText(absl::string_view text, size_t characters_min) {
  return text.size() >= characters_min &&
         text.size() <= kCredentialCharactersMax &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '+' || c == '/';
         });
}

// The parts of `m=application 9 UDP/DTLS/SCTP webrtc-datachannel` before, in
// and after the port. Nullopt if it is another line.
struct MediaLine {
  absl::string_view before;
  absl::string_view port;
  absl::string_view after;
};
absl::optional<MediaLine> SplitMediaLine(absl::string_view line) {
  if (!absl::StartsWith(line, "m=")) return absl::nullopt;
  const size_t begin = line.find(' ');
  if (begin == absl::string_view::npos) {
    return MediaLine{line, absl::string_view(), absl::string_view()};
  }
  const size_t end = std::min(line.find_first_of(" /", begin + 1), line.size());
  return MediaLine{line.substr(0, begin + 1),
                   line.substr(begin + 1, end - begin - 1), line.substr(end)};
}

bool IsRejected(const MediaLine& media) {
  int port;
  return absl::SimpleAtoi(media.port, &port) && port == 0;
}

struct Candidate {
  SocketAddress address;
  uint32_t priority;
};

// `candidate:1 1 UDP 2130706431 192.0.2.1 19132 typ host`, RFC 8839 section
// 5.1. Nullopt if the gateway has no use for it.
absl::optional<Candidate> ParseCandidate(absl::string_view line) {
  if (!absl::ConsumePrefix(&line, "a=candidate:")) return absl::nullopt;
  const std::vector<absl::string_view> words = Words(line);
  if (words.size() < 8 || words[1] != "1" ||
      !absl::EqualsIgnoreCase(words[2], "udp") || words[6] != "typ" ||
      words[7] == "relay") {
    return absl::nullopt;
  }
  uint32_t priority;
  uint32_t port;
  if (!absl::SimpleAtoi(words[3], &priority) ||
      !absl::SimpleAtoi(words[5], &port) || port == 0 || port == kDiscardPort ||
      port > std::numeric_limits<uint16_t>::max()) {
    return absl::nullopt;
  }
  const absl::StatusOr<SocketAddress> address =
      SocketAddress::FromIpAndPort(words[4], static_cast<uint16_t>(port));
  if (!address.ok()) return absl::nullopt;
  return Candidate{*address, priority};
}

// The session level, or a media section.
struct Section {
  bool IsUsable() const {
    return is_media && !is_rejected && !candidates.empty();
  }

  bool is_media = false;
  bool is_rejected = false;
  absl::optional<absl::string_view> ufrag;
  absl::optional<absl::string_view> password;
  std::vector<Candidate> candidates;
};

std::vector<Section> ParseSections(absl::string_view sdp) {
  std::vector<Section> sections(1);
  for (absl::string_view rest = sdp; !rest.empty();) {
    const absl::string_view line = TakeLine(&rest).text;
    if (const auto media = SplitMediaLine(line)) {
      sections.emplace_back();
      sections.back().is_media = true;
      sections.back().is_rejected = IsRejected(*media);
      continue;
    }
    Section& section = sections.back();
    absl::string_view value = line;
    if (absl::ConsumePrefix(&value, "a=ice-ufrag:")) {
      if (!section.ufrag.has_value()) section.ufrag = value;
    } else if (absl::ConsumePrefix(&value, "a=ice-pwd:")) {
      if (!section.password.has_value()) section.password = value;
    } else if (const auto candidate = ParseCandidate(line)) {
      section.candidates.push_back(*candidate);
    }
  }
  return sections;
}

std::string CandidateLine(const SocketAddress& address, size_t index) {
  // Host candidates of component 1, RFC 8445 section 5.1.2.1.
  const uint32_t local_preference = static_cast<uint32_t>(65535 - index);
  const uint32_t priority = (126u << 24) | (local_preference << 8) | 255u;
  // RFC 8839 has no scope.
  const std::string ip = address.IpToString();
  return absl::StrCat("a=candidate:", index + 1, " 1 UDP ", priority, " ",
                      ip.substr(0, ip.find('%')), " ", address.port(),
                      " typ host");
}

// Copies an answer line by line, with the gateway's addresses.
class AnswerRewriter {
 public:
  AnswerRewriter(absl::string_view answer,
                 absl::Span<const SocketAddress> public_addresses)
      : sections_(ParseSections(answer)), public_addresses_(public_addresses) {}

  void Add(const Line& line) {
    if (const auto media = SplitMediaLine(line.text)) {
      ++section_;
      has_candidates_ = false;
      const std::string port = IsRejected(*media) || media->port.empty()
                                   ? std::string(media->port)
                                   : absl::StrCat(default_address().port());
      absl::StrAppend(&text_, media->before, port, media->after, line.end);
    } else if (absl::StartsWith(line.text, "c=")) {
      const std::string ip = default_address().IpToString();
      absl::StrAppend(&text_, "c=IN ",
                      default_address().is_ipv4() ? "IP4 " : "IP6 ",
                      ip.substr(0, ip.find('%')), line.end);
    } else if (IsCandidate(line.text)) {
      AddCandidates(line.end.empty() ? "\r\n" : line.end);
    } else if (!NamesRtcpAddress(line.text) &&
               !IsRemoteCandidateOfBackend(line.text)) {
      absl::StrAppend(&text_, line.text, line.end);
    }
  }

  std::string Take() { return std::move(text_); }

 private:
  const SocketAddress& default_address() const { return public_addresses_[0]; }

  // In the place of the section's first candidate. Not where `ParseAnswer`
  // finds none: a client would take that section for the one to use.
  void AddCandidates(absl::string_view end) {
    if (has_candidates_ || !sections_[section_].IsUsable()) return;
    has_candidates_ = true;
    for (size_t i = 0; i < public_addresses_.size(); ++i) {
      absl::StrAppend(&text_, CandidateLine(public_addresses_[i], i), end);
    }
  }

  // `a=remote-candidates` names the player's side, so it stays unless it names
  // a candidate of the answer itself.
  bool IsRemoteCandidateOfBackend(absl::string_view line) const {
    if (!IsAttribute(line, "remote-candidates")) return false;
    const std::vector<absl::string_view> words = Words(line);
    return std::any_of(words.begin(), words.end(), [&](absl::string_view word) {
      const auto address = SocketAddress::FromIpAndPort(word, 1);
      return address.ok() && IsCandidateIp(*address);
    });
  }
  bool IsCandidateIp(const SocketAddress& address) const {
    for (const Section& section : sections_) {
      for (const Candidate& candidate : section.candidates) {
        if (candidate.address.WithPort(1) == address) return true;
      }
    }
    return false;
  }

  const std::vector<Section> sections_;
  const absl::Span<const SocketAddress> public_addresses_;
  std::string text_;
  size_t section_ = 0;
  bool has_candidates_ = false;
};

}  // namespace

absl::StatusOr<std::string> StripCandidates(absl::string_view offer) {
  if (absl::Status status = CheckSdp("offer", offer); !status.ok()) {
    return status;
  }
  std::string stripped;
  stripped.reserve(offer.size());
  for (absl::string_view rest = offer; !rest.empty();) {
    const Line line = TakeLine(&rest);
    if (IsCandidate(line.text) || IsEndOfCandidates(line.text)) continue;
    absl::StrAppend(&stripped, line.text, line.end);
  }
  return stripped;
}

absl::StatusOr<Answer> ParseAnswer(absl::string_view answer) {
  if (absl::Status status = CheckSdp("answer", answer); !status.ok()) {
    return status;
  }
  const std::vector<Section> sections = ParseSections(answer);
  const auto section =
      std::find_if(sections.begin(), sections.end(),
                   [](const Section& media) { return media.IsUsable(); });
  if (section == sections.end()) {
    return absl::InvalidArgumentError(
        "the answer has no UDP candidate with an IP address");
  }
  const auto ufrag =
      section->ufrag.has_value() ? section->ufrag : sections.front().ufrag;
  const auto password = section->password.has_value()
                            ? section->password
                            : sections.front().password;
  if (!ufrag.has_value() || !IsIceText(*ufrag, kUfragCharactersMin)) {
    return absl::InvalidArgumentError(
        "the answer's ice-ufrag is missing or malformed");
  }
  if (!password.has_value() || !IsIceText(*password, kPasswordCharactersMin)) {
    return absl::InvalidArgumentError(
        "the answer's ice-pwd is missing or malformed");
  }
  std::vector<Candidate> candidates = section->candidates;
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) {
                     return a.priority > b.priority;
                   });
  Answer parsed = {std::string(*ufrag), std::string(*password), {}};
  for (const Candidate& candidate : candidates) {
    parsed.candidates.push_back(candidate.address);
  }
  return parsed;
}

SocketAddress ChooseMedia(const Answer& answer, const SocketAddress& backend) {
  const auto find = [&](auto fits) {
    return std::find_if(answer.candidates.begin(), answer.candidates.end(),
                        fits);
  };
  auto chosen = find([&](const SocketAddress& candidate) {
    return candidate.WithPort(0) == backend.WithPort(0);
  });
  if (chosen == answer.candidates.end()) {
    chosen = find([&](const SocketAddress& candidate) {
      return candidate.family() == backend.family();
    });
  }
  if (chosen == answer.candidates.end()) chosen = answer.candidates.begin();
  return backend.WithPort(chosen->port());
}

std::string RewriteAnswer(absl::string_view answer,
                          absl::Span<const SocketAddress> public_addresses) {
  AnswerRewriter rewriter(answer, public_addresses);
  for (absl::string_view rest = answer; !rest.empty();) {
    rewriter.Add(TakeLine(&rest));
  }
  return rewriter.Take();
}

}  // namespace internal
}  // namespace nethernet
}  // namespace udpgate
