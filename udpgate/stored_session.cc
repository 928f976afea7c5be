#include "udpgate/stored_session.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "udpgate/backend_resolver.h"
#include "udpgate/internal/util/invalid_text.h"
#include "udpgate/socket_address.h"

namespace udpgate {
namespace {

using internal::InvalidText;

constexpr absl::string_view kVersion = "1";
constexpr absl::string_view kEmpty = "-";
// 9999-12-31.
constexpr int64_t kSinceMillisecondsMax = int64_t{253'402'300'799'000};

enum Field : size_t {
  kVersionField,
  kTokenField,
  kGatewayField,
  kSinceField,
  kClientField,
  kLocalField,
  kBackendField,
  kRelayField,
  kLabelField,
  kTagKeyField,
  kTagTextField,
  kFieldCount,
};

bool IsPlain(char c) {
  return absl::ascii_isgraph(static_cast<unsigned char>(c)) && c != '%';
}

std::string Escape(absl::string_view text) {
  if (text.empty()) return std::string(kEmpty);
  if (text == kEmpty) return "%2d";
  std::string escaped;
  escaped.reserve(text.size());
  for (const char c : text) {
    if (IsPlain(c)) {
      escaped.push_back(c);
    } else {
      absl::StrAppendFormat(&escaped, "%%%02x", static_cast<unsigned char>(c));
    }
  }
  return escaped;
}

bool IsHex(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_isdigit(static_cast<unsigned char>(c)) ||
           (c >= 'a' && c <= 'f');
  });
}

// False if it is not what `Escape` writes.
bool Unescape(absl::string_view field, std::string* text) {
  text->clear();
  if (field == kEmpty) return true;
  for (size_t i = 0; i < field.size(); ++i) {
    if (field[i] != '%') {
      if (!IsPlain(field[i])) return false;
      text->push_back(field[i]);
      continue;
    }
    const absl::string_view digits = field.substr(i + 1, 2);
    if (digits.size() < 2 || !IsHex(digits)) return false;
    text->append(absl::HexStringToBytes(digits));
    i += 2;
  }
  return !text->empty();
}

std::string EscapeAddress(const SocketAddress& address) {
  return address.is_valid() ? Escape(address.ToString()) : std::string(kEmpty);
}

bool ParseToken(absl::string_view text, SessionToken* token) {
  return text.size() == kSessionTokenDigits && IsHex(text) &&
         absl::SimpleHexAtoi(text.substr(0, 16), &token->run) &&
         absl::SimpleHexAtoi(text.substr(16), &token->session);
}

bool HasControlBytes(absl::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_iscntrl(static_cast<unsigned char>(c));
  });
}

bool IsHost(const SocketAddress& address) {
  return address.is_unicast() && address.port() != 0;
}

bool IsGatewayId(absl::string_view id) {
  return !id.empty() && id.size() <= kGatewayIdBytesMax &&
         std::all_of(id.begin(), id.end(), absl::ascii_isgraph);
}

absl::Status Wrong(absl::string_view what, absl::string_view field) {
  return InvalidText(field, absl::StrCat("is no ", what, " of a session"));
}

absl::Status ParseAddress(absl::string_view what, absl::string_view field,
                          SocketAddress* address) {
  std::string text;
  if (!Unescape(field, &text)) return Wrong(what, field);
  if (text.empty()) return absl::OkStatus();
  const absl::StatusOr<SocketAddress> parsed = SocketAddress::Parse(text);
  if (!parsed.ok()) return Wrong(what, field);
  *address = *parsed;
  return absl::OkStatus();
}

}  // namespace

std::string SessionTokenText(const SessionToken& token) {
  return absl::StrFormat("%016x%016x", token.run, token.session);
}

std::string EncodeStoredSession(const StoredSession& session) {
  std::array<std::string, kFieldCount> fields;
  fields[kVersionField] = std::string(kVersion);
  fields[kTokenField] = SessionTokenText(session.token);
  fields[kGatewayField] = Escape(session.gateway_id);
  fields[kSinceField] = absl::StrCat(
      std::min(std::max<int64_t>(absl::ToUnixMillis(session.since), 0),
               kSinceMillisecondsMax));
  fields[kClientField] = EscapeAddress(session.client);
  fields[kLocalField] = EscapeAddress(session.local);
  fields[kBackendField] = EscapeAddress(session.backend);
  fields[kRelayField] = EscapeAddress(session.relay);
  fields[kLabelField] = Escape(session.label);
  fields[kTagKeyField] = Escape(session.tag_key);
  fields[kTagTextField] = Escape(session.tag_text);
  std::string text = absl::StrJoin(fields, " ");
  for (const Field field : {kTagKeyField, kTagTextField, kLabelField}) {
    if (text.size() <= kStoredSessionBytesMax) break;
    fields[field] = std::string(kEmpty);
    text = absl::StrJoin(fields, " ");
  }
  return text;
}

absl::StatusOr<StoredSession> DecodeStoredSession(absl::string_view text) {
  const absl::string_view version = text.substr(0, text.find(' '));
  if (version != kVersion) {
    uint32_t other = 0;
    if (version.size() < text.size() && absl::SimpleAtoi(version, &other)) {
      return absl::UnimplementedError(
          absl::StrCat("the record of a session has version ", other,
                       "; this gateway reads version ", kVersion));
    }
    return InvalidText(text, "is no record of a session");
  }
  if (text.size() > kStoredSessionBytesMax) {
    return InvalidText(text, absl::StrCat("is a record of a session of more "
                                          "than ",
                                          kStoredSessionBytesMax, " bytes"));
  }
  const std::vector<absl::string_view> fields = absl::StrSplit(text, ' ');
  if (fields.size() != kFieldCount) {
    return InvalidText(
        text, absl::StrCat("is a record of a session with ", fields.size(),
                           " fields instead of ", size_t{kFieldCount}));
  }
  StoredSession session;
  if (!ParseToken(fields[kTokenField], &session.token)) {
    return Wrong("token", fields[kTokenField]);
  }
  if (!Unescape(fields[kGatewayField], &session.gateway_id)) {
    return Wrong("gateway id", fields[kGatewayField]);
  }
  int64_t since_milliseconds = 0;
  if (!absl::SimpleAtoi(fields[kSinceField], &since_milliseconds)) {
    return Wrong("begin", fields[kSinceField]);
  }
  session.since = absl::FromUnixMillis(since_milliseconds);
  struct Address {
    Field field;
    absl::string_view what;
    SocketAddress* address;
  };
  for (const Address& address :
       {Address{kClientField, "client", &session.client},
        Address{kLocalField, "local address", &session.local},
        Address{kBackendField, "backend", &session.backend},
        Address{kRelayField, "relay address", &session.relay}}) {
    if (absl::Status status =
            ParseAddress(address.what, fields[address.field], address.address);
        !status.ok()) {
      return status;
    }
  }
  if (!Unescape(fields[kLabelField], &session.label)) {
    return Wrong("label", fields[kLabelField]);
  }
  if (!Unescape(fields[kTagKeyField], &session.tag_key)) {
    return Wrong("tag key", fields[kTagKeyField]);
  }
  if (!Unescape(fields[kTagTextField], &session.tag_text)) {
    return Wrong("tag text", fields[kTagTextField]);
  }
  if (absl::Status status = ValidateStoredSession(session); !status.ok()) {
    return status;
  }
  return session;
}

absl::Status ValidateStoredSession(const StoredSession& session) {
  if (!IsGatewayId(session.gateway_id)) {
    return Wrong("gateway id", session.gateway_id);
  }
  if (session.since < absl::UnixEpoch() ||
      session.since > absl::FromUnixMillis(kSinceMillisecondsMax)) {
    return Wrong("begin", absl::FormatTime(session.since));
  }
  if (!IsHost(session.client)) {
    return Wrong("client", session.client.ToString());
  }
  if (!IsHost(session.local) ||
      session.local.family() != session.client.family()) {
    return Wrong("local address", session.local.ToString());
  }
  if (!IsHost(session.backend)) {
    return Wrong("backend", session.backend.ToString());
  }
  if (session.relay.is_valid() &&
      (!IsHost(session.relay) ||
       session.relay.family() != session.backend.family())) {
    return Wrong("relay address", session.relay.ToString());
  }
  if (HasControlBytes(session.label)) return Wrong("label", session.label);
  if (session.tag_key.size() > SessionTag::kBytesMax) {
    return Wrong("tag key", session.tag_key);
  }
  if (session.tag_text.size() > SessionTag::kBytesMax ||
      HasControlBytes(session.tag_text)) {
    return Wrong("tag text", session.tag_text);
  }
  return absl::OkStatus();
}

}  // namespace udpgate
