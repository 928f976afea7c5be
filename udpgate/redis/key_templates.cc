#include "udpgate/redis/key_templates.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"

namespace udpgate {
namespace {

// What an error quotes of a text.
constexpr size_t kQuotedBytesMax = 40;

// RFC 8489, sections 5 and 14.3.
constexpr size_t kStunHeaderBytes = 20;
constexpr absl::string_view kStunCookie("\x21\x12\xa4\x42", 4);
constexpr int kStunBindingRequest = 0x0001;
constexpr int kStunUsername = 0x0006;

// RFC 8839 section 5.4.
constexpr size_t kUfragBytesMin = 4;
constexpr size_t kUfragBytesMax = 256;

absl::Status Invalid(absl::string_view problem, absl::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat(
      problem, " \"", absl::CHexEscape(text.substr(0, kQuotedBytesMax)),
      text.size() > kQuotedBytesMax ? "..." : "", "\""));
}

int ReadTwoBytes(absl::string_view bytes, size_t offset) {
  return static_cast<unsigned char>(bytes[offset]) << 8 |
         static_cast<unsigned char>(bytes[offset + 1]);
}

bool IsUfrag(absl::string_view text) {
  return text.size() >= kUfragBytesMin && text.size() <= kUfragBytesMax &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                  c == '+' || c == '/';
         });
}

// //udpgate/stun would do, but links OpenSSL.
absl::optional<absl::string_view> FindUfrag(absl::Span<const char> datagram) {
  absl::string_view rest(datagram.data(), datagram.size());
  if (rest.size() < kStunHeaderBytes ||
      ReadTwoBytes(rest, 0) != kStunBindingRequest ||
      rest.substr(4, 4) != kStunCookie ||
      static_cast<size_t>(ReadTwoBytes(rest, 2)) !=
          rest.size() - kStunHeaderBytes) {
    return absl::nullopt;
  }
  rest.remove_prefix(kStunHeaderBytes);
  while (rest.size() >= 4) {
    const int type = ReadTwoBytes(rest, 0);
    const auto size = static_cast<size_t>(ReadTwoBytes(rest, 2));
    rest.remove_prefix(4);
    if (size > rest.size()) return absl::nullopt;
    if (type == kStunUsername) {
      const absl::string_view name = rest.substr(0, size);
      const size_t colon = name.find(':');
      if (colon == absl::string_view::npos) return absl::nullopt;
      const absl::string_view ufrag = name.substr(0, colon);
      if (!IsUfrag(ufrag)) return absl::nullopt;
      return ufrag;
    }
    rest.remove_prefix(std::min(rest.size(), (size + 3) / 4 * 4));
  }
  return absl::nullopt;
}

// `1.2.3.0/24` or `2001:db8::/64`.
std::string NetworkText(const SocketAddress& client) {
  if (client.is_ipv4()) {
    sockaddr_in network{};
    network.sin_family = AF_INET;
    std::memcpy(&network.sin_addr, client.ip_bytes().data(), 3);
    return absl::StrCat(
        SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&network),
                                    sizeof(network))
            .IpToString(),
        "/24");
  }
  sockaddr_in6 network{};
  network.sin6_family = AF_INET6;
  std::memcpy(&network.sin6_addr, client.ip_bytes().data(), 8);
  return absl::StrCat(
      SocketAddress::FromSockaddr(reinterpret_cast<sockaddr*>(&network),
                                  sizeof(network))
          .IpToString(),
      "/64");
}

}  // namespace

absl::StatusOr<KeyTemplates::Part> KeyTemplates::ParsePlaceholder(
    absl::string_view name) {
  const std::pair<absl::string_view, Kind> kinds[] = {
      {"client_ip", Kind::kClientIp},     {"client_net", Kind::kClientNet},
      {"client_port", Kind::kClientPort}, {"listen_port", Kind::kListenPort},
      {"stun_ufrag", Kind::kStunUfrag},
  };
  for (const auto& [known, kind] : kinds) {
    if (name == known) return Part{kind, ""};
  }
  absl::string_view number = name;
  if (absl::ConsumePrefix(&number, "prefix:")) {
    uint32_t bytes;
    const bool is_plain = std::all_of(number.begin(), number.end(), [](char c) {
      return absl::ascii_isdigit(static_cast<unsigned char>(c));
    });
    if (is_plain && absl::SimpleAtoi(number, &bytes) && bytes >= 1 &&
        bytes <= kPrefixBytesMax) {
      return Part{Kind::kPrefix, "", bytes};
    }
    return Invalid(
        absl::StrCat("{prefix:N} takes 1 to ", kPrefixBytesMax, " bytes, not"),
        number);
  }
  return Invalid(
      "the placeholders are {client_ip}, {client_net}, {client_port}, "
      "{listen_port}, {stun_ufrag} and {prefix:N}, a brace itself is {{ or "
      "}}; unknown is",
      name);
}

absl::StatusOr<KeyTemplates::Template> KeyTemplates::ParseKey(
    absl::string_view text) {
  Template parts;
  std::string literal;
  for (absl::string_view rest = text; !rest.empty();) {
    if (absl::ConsumePrefix(&rest, "{{")) {
      literal += '{';
    } else if (absl::ConsumePrefix(&rest, "}}")) {
      literal += '}';
    } else if (rest.front() == '}') {
      return Invalid("a closing brace without an opening one in", text);
    } else if (absl::ConsumePrefix(&rest, "{")) {
      const size_t end = rest.find('}');
      if (end == absl::string_view::npos) {
        return Invalid("an opening brace without a closing one in", text);
      }
      absl::StatusOr<Part> part = ParsePlaceholder(rest.substr(0, end));
      if (!part.ok()) return part.status();
      rest.remove_prefix(end + 1);
      if (!literal.empty()) {
        parts.push_back({Kind::kText, std::exchange(literal, {})});
      }
      parts.push_back(*std::move(part));
    } else {
      literal += rest.front();
      rest.remove_prefix(1);
    }
  }
  if (!literal.empty()) parts.push_back({Kind::kText, std::move(literal)});
  return parts;
}

absl::StatusOr<KeyTemplates> KeyTemplates::Parse(absl::string_view text) {
  KeyTemplates templates;
  for (absl::string_view rest = absl::StripAsciiWhitespace(text); !rest.empty();
       rest = absl::StripLeadingAsciiWhitespace(rest)) {
    const auto end = std::find_if(rest.begin(), rest.end(), [](char c) {
      return absl::ascii_isspace(static_cast<unsigned char>(c));
    });
    const auto size = static_cast<size_t>(end - rest.begin());
    if (size > kKeyBytesMax) {
      return Invalid(
          absl::StrCat("a key has at most ", kKeyBytesMax, " bytes:"),
          rest.substr(0, size));
    }
    absl::StatusOr<Template> key = ParseKey(rest.substr(0, size));
    if (!key.ok()) return key.status();
    templates.keys_.push_back(*std::move(key));
    rest.remove_prefix(size);
    if (templates.keys_.size() > kKeysMax) {
      return Invalid(absl::StrCat("there are more than ", kKeysMax, " keys in"),
                     text);
    }
  }
  if (templates.keys_.empty()) return Invalid("there is no key in", text);
  return templates;
}

bool KeyTemplates::is_constant() const {
  return std::all_of(keys_.begin(), keys_.end(), [](const Template& key) {
    return std::all_of(key.begin(), key.end(), [](const Part& part) {
      return part.kind == Kind::kText;
    });
  });
}

std::vector<std::string> KeyTemplates::Fill(
    const ResolveRequest& request) const {
  std::vector<std::string> keys;
  keys.reserve(keys_.size());
  for (const Template& parts : keys_) {
    std::string key;
    const bool is_filled = std::all_of(
        parts.begin(), parts.end(),
        [&](const Part& part) { return AppendPart(part, request, &key); });
    if (is_filled && key.size() <= kKeyBytesMax) keys.push_back(std::move(key));
  }
  return keys;
}

bool KeyTemplates::AppendPart(const Part& part, const ResolveRequest& request,
                              std::string* key) {
  const SocketAddress& client = request.client;
  switch (part.kind) {
    case Kind::kText:
      key->append(part.text);
      return true;
    case Kind::kClientIp:
      if (!client.is_valid()) return false;
      key->append(client.IpToString());
      return true;
    case Kind::kClientNet:
      if (!client.is_valid()) return false;
      key->append(NetworkText(client));
      return true;
    case Kind::kClientPort:
      // Otherwise it is a port of TCP.
      if (!client.is_valid() ||
          request.reason != ResolveRequest::Reason::kDatagram) {
        return false;
      }
      absl::StrAppend(key, client.port());
      return true;
    case Kind::kListenPort:
      if (request.listen_port == 0) return false;
      absl::StrAppend(key, request.listen_port);
      return true;
    case Kind::kStunUfrag: {
      const auto ufrag = FindUfrag(request.first_datagram);
      if (!ufrag.has_value()) return false;
      absl::StrAppend(key, *ufrag);
      return true;
    }
    case Kind::kPrefix: {
      if (request.first_datagram.size() < part.prefix_bytes) return false;
      key->append(absl::BytesToHexString(
          absl::string_view(request.first_datagram.data(), part.prefix_bytes)));
      return true;
    }
  }
  return false;
}

std::string DescribeKeys(const std::vector<std::string>& keys) {
  return absl::StrCat(
      keys.size() == 1 ? "key " : "keys ",
      absl::StrJoin(keys, ", ", [](std::string* out, const std::string& key) {
        absl::StrAppend(out, "\"", absl::CHexEscape(key), "\"");
      }));
}

}  // namespace udpgate
